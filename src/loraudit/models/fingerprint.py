"""Content hashes: the same weights have the same fingerprint wherever they lie."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

_WEIGHTS = ("*.safetensors", "*.bin")
_MODEL_CONFIGS = ("config.json", "adapter_config.json", "model.safetensors.index.json")
_NOT_WEIGHTS = {"training_args.bin"}
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


def fingerprint(folder: Path) -> str:
    """Hex sha256 over the names and bytes of a model's weights and configuration."""
    weights = {file for pattern in _WEIGHTS for file in folder.glob(pattern) if file.name not in _NOT_WEIGHTS}
    configs = {folder / name for name in _MODEL_CONFIGS if (folder / name).exists()}
    return _digest(weights | configs)


def tokenizer_fingerprint(folder: Path) -> str:
    """Hex sha256 over the names and bytes of the tokenizer's files, chat template included."""
    return _digest(folder / name for name in TOKENIZER_FILES if (folder / name).exists())


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder brings a tokenizer of its own."""
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"))


def count_parameters(folder: Path) -> int:
    """Numbers stored in the folder's safetensors files, read from their headers; 0 for damaged ones."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as content:
                header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        except (ValueError, OSError, MemoryError, OverflowError):
            continue  # whoever loads the file says what is wrong with it
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        with file.open("rb") as content:
            total.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
