"""Content hashes: the same weights have the same fingerprint wherever they lie."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable
from pathlib import Path

from loraudit.errors import ModelError

_MODEL_CONFIGS = ("config.json", "adapter_config.json", "model.safetensors.index.json")
_NOT_WEIGHTS = {"training_args.bin"}
_TOKENIZER_CONFIG = "tokenizer_config.json"
_ABOUT_LOADING = {"is_local", "local_files_only", "name_or_path", "processor_class", "tokenizer_file"}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def chat_template_fingerprint(folder: Path) -> str | None:
    """Hex sha256 of the chat template a tokenizer folder holds; None where it holds none."""
    own = folder / "chat_template.jinja"
    try:
        if own.exists():
            return hashlib.sha256(own.read_bytes()).hexdigest()
        template = json.loads((folder / _TOKENIZER_CONFIG).read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return None if template is None else hashlib.sha256(json.dumps(template).encode()).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files a loader would read: the adapter's, the single one, or those the index names.

    Some repositories hold a second copy of the weights in another layout, which is none of the model.
    """
    is_adapter = (folder / "adapter_config.json").exists()
    whole = folder / ("adapter_model.safetensors" if is_adapter else "model.safetensors")
    if whole.exists():
        return [whole]
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return [folder / name for name in sorted(set(index["weight_map"].values())) if (folder / name).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return sorted(folder.glob("*.safetensors"))


def check_headers(folder: Path) -> None:
    """Read the header of each weight file, which a file that was cut off contradicts.

    Raises:
        ModelError: A file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    for file in weight_files(folder):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"Model file '{file}' is damaged: {error}. Save or download it again.") from None


def fingerprint(folder: Path) -> str:
    """Hex sha256 over the names and bytes of a model's weights, configuration and own code."""
    pickled = [file for file in folder.glob("*.bin") if file.name not in _NOT_WEIGHTS]
    configs = [folder / name for name in _MODEL_CONFIGS if (folder / name).exists()]
    return _digest({*weight_files(folder), *pickled, *configs, *folder.glob("*.py")})


def tokenizer_fingerprint(folder: Path) -> str:
    """Hex sha256 over the names and bytes of the tokenizer's files, chat template included.

    Of `tokenizer_config.json` what only says where it was loaded from does not count, so that a tokenizer
    saved again beside a fine-tuned model is the same one.
    """
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
    total = hashlib.sha256(_digest(file for file in files if file.name != _TOKENIZER_CONFIG).encode())
    config = folder / _TOKENIZER_CONFIG
    if config in files:
        content = config.read_bytes()
        try:
            settings = json.loads(content)
            kept = {name: value for name, value in settings.items() if name not in _ABOUT_LOADING}
            content = json.dumps(kept, sort_keys=True).encode()
        except (ValueError, AttributeError):
            pass  # whoever loads the file says what is wrong with it
        total.update(content)
    return total.hexdigest()


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder brings a tokenizer of its own."""
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"))


def count_parameters(folder: Path, names: Collection[str] | None = None) -> int:
    """Numbers stored in the folder's safetensors files, read from their headers; 0 for damaged ones.

    Args:
        folder: Of a checkpoint or adapter.
        names: Tensors that count; all by default.
    """
    total = 0
    for file in weight_files(folder):
        try:
            with file.open("rb") as content:
                header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        except (ValueError, OSError, MemoryError, OverflowError):
            continue  # whoever loads the file says what is wrong with it
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if _counts(name, names))
    return total


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        with file.open("rb") as content:
            total.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _counts(name: str, names: Collection[str] | None) -> bool:
    return name != "__metadata__" if names is None else name in names
