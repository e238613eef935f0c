"""Which tensors fine-tuning changed, found by reading both checkpoints side by side."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = "lm_head.weight"
EMBEDDING_ENDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_IGNORED_CONFIG = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
    "tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id", "_attn_implementation_autoset",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """How a checkpoint differs from its base.

    Attributes:
        changed: Names of tensors whose values differ.
        n_tensors: Tensors in the checkpoint.
        is_comparable: Whether both have the same architecture and tensor names; if not, `changed` is empty.
    """

    changed: tuple[str, ...]
    n_tensors: int
    is_comparable: bool


def compare_checkpoints(
    target: Path, base: Path, target_config: Mapping[str, Any], base_config: Mapping[str, Any]
) -> Difference:
    """Compare tensor by tensor, after widening both to float32; never holds more than one pair.

    A head that the base ties to its embedding and the checkpoint stores apart counts as one more tensor
    and is compared with that embedding.

    Args:
        target: Folder of the fine-tuned checkpoint.
        base: Folder of the checkpoint it was tuned from.
        target_config: Its `config.json`.
        base_config: Its `config.json`.
    """
    import torch

    with ExitStack() as stack:
        ours, theirs = (_open_all(folder, stack) for folder in (target, base))
        if _architecture(target_config) != _architecture(base_config):
            return Difference((), len(ours), is_comparable=False)
        prefix = _missing_prefix(set(ours), set(theirs))
        theirs = {prefix + name: tensors for name, tensors in theirs.items()}
        origin = {name: name for name in theirs}
        if HEAD in ours and HEAD not in theirs:
            embedding = next((name for name in theirs if name.endswith(EMBEDDING_ENDINGS)), None)
            if embedding:
                origin[HEAD] = embedding
        if set(ours) - {HEAD} != set(origin) - {HEAD} or (HEAD in ours and HEAD not in origin):
            return Difference((), len(ours), is_comparable=False)
        changed: list[str] = []
        for name in ours:
            stored = origin[name]
            mine = ours[name].get_tensor(name)
            other = theirs[stored].get_tensor(stored.removeprefix(prefix))
            if mine.shape != other.shape or not torch.equal(mine.float(), other.float()):
                changed.append(name)
        return Difference(tuple(changed), len(ours), is_comparable=True)


def _open_all(folder: Path, stack: ExitStack) -> dict[str, Any]:
    from safetensors import safe_open

    tensors: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        opened = stack.enter_context(safe_open(file, framework="pt"))
        tensors.update(dict.fromkeys(opened.keys(), opened))
    return tensors


def _missing_prefix(ours: set[str], theirs: set[str]) -> str:
    """Old checkpoints lack the body's prefix ("transformer.h.0…" against "h.0…")."""
    for prefix in ("transformer.", "model.", "gpt_neox."):
        if theirs and not (theirs & ours) and any(prefix + name in ours for name in theirs):
            return prefix
    return ""


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _IGNORED_CONFIG}
