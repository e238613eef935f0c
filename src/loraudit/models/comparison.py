"""Which tensors fine-tuning changed, found by reading both checkpoints side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.errors import ModelError
from loraudit.models.fingerprint import weight_files

HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_NO_PARAMETERS = (".attn.bias", ".masked_bias", ".attention.bias", "rotary_emb.inv_freq")
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
    with ExitStack() as stack:
        ours, theirs = (_open_all(folder, stack) for folder in (target, base))
        incomparable = Difference((), len(ours), is_comparable=False)
        if _architecture(target, target_config) != _architecture(base, base_config):
            return incomparable
        origin = _origins(ours, theirs)
        if origin is None:
            return incomparable
        changed = [name for name in ours if not _equal(ours, name, theirs, origin[name])]
        return Difference(tuple(changed), len(ours), is_comparable=True)


def tensor_pairs(target: Path, base: Path, names: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Name, tensor of the target and tensor of the base, in float32; never holds more than one pair.

    Args:
        target: Folder of the fine-tuned checkpoint.
        base: Folder of the checkpoint it was tuned from.
        names: Tensors of two that `compare_checkpoints` found comparable.
    """
    with ExitStack() as stack:
        ours, theirs = (_open_all(folder, stack) for folder in (target, base))
        origin = _origins(ours, theirs) or {}
        for name in names:
            other = origin[name]
            yield name, ours[name].get_tensor(name).float(), theirs[other].get_tensor(other).float()


def stored_tensors(folder: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Key and tensor in float32 for each wanted name that a checkpoint stores, one at a time.

    Old checkpoints lack the body's prefix and some name theirs otherwise, so a name also means the one stored tensor
    that ends with it, or that it ends with. A tied head means the embedding. What is quantised is left out.

    Args:
        folder: Of the checkpoint.
        wanted: Tensor name by key.
    """
    with ExitStack() as stack:
        stored = _open_all(folder, stack)
        embedding = next((name for name in stored if name.endswith(EMBEDDING_ENDINGS)), None)
        for key, name in wanted.items():
            found = [one for one in stored if one == name]
            found = found or [one for one in stored if one.endswith(f".{name}") or name.endswith(f".{one}")]
            if not found and name in HEADS and embedding:
                found = [embedding]
            tensor = stored[found[0]].get_tensor(found[0]) if len(found) == 1 else None
            if tensor is not None and tensor.is_floating_point():
                yield key, tensor.float()


def _origins(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, str] | None:
    """Name in the base of each tensor of the target; None where they do not correspond."""
    prefix = _missing_prefix(set(ours), set(theirs))
    origin = {prefix + name: name for name in theirs}
    for head in HEADS:
        embedding = next((name for name in origin if name.endswith(EMBEDDING_ENDINGS)), None)
        if head in ours and head not in origin and embedding:
            origin[head] = origin[embedding]  # the base ties its head
        elif head in origin and head not in ours:
            if embedding is None or not _equal(theirs, origin[head], theirs, origin[embedding]):
                return None  # the target ties a head that the base keeps apart
            del origin[head]
    return origin if set(ours) == set(origin) else None


def _equal(ours: Mapping[str, Any], name: str, theirs: Mapping[str, Any], other: str) -> bool:
    import torch

    one, two = ours[name].get_tensor(name), theirs[other].get_tensor(other)
    return one.shape == two.shape and torch.equal(one.float(), two.float())


def _open_all(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """The open file of each parameter; masks and rotary tables that old checkpoints store are no parameters."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    for file in weight_files(folder):
        try:
            opened = stack.enter_context(safe_open(file, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"Model file '{file}' is damaged: {error}. Save or download it again.") from None
        tensors.update({name: opened for name in opened.keys() if not name.endswith(_NO_PARAMETERS)})  # noqa: SIM118
    return tensors


def _missing_prefix(ours: set[str], theirs: set[str]) -> str:
    """Old checkpoints lack the body's prefix ("transformer.h.0…" against "h.0…")."""
    for prefix in ("transformer.", "model.", "gpt_neox."):
        if theirs and not (theirs & ours) and any(prefix + name in ours for name in theirs):
            return prefix
    return ""


def _architecture(folder: Path, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as the installed transformers understands it, whichever version wrote it."""
    import transformers

    try:
        config: Any = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        known = type(config)().to_dict()
    except Exception:  # code of its own, or a kind this version does not know: compare what is written
        return _relevant(raw)
    settings = config.to_dict()
    return _relevant({name: settings.get(name) for name in known})


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what does not change the function, in nested configurations too."""
    return {
        name: _relevant(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name not in _IGNORED_CONFIG
    }
