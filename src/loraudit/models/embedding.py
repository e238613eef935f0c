"""Sentence embeddings by a model of the user's choice."""

from __future__ import annotations

import importlib
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.errors import ConfigError, MissingExtra, ModelError
from loraudit.models.loading import AGAIN, check_encoder, quiet_libraries
from loraudit.models.locate import Source, locate
from loraudit.models.numerics import BALANCED, Numerics, resolve_devices
from loraudit.types import FloatArray

Embedder = Callable[[Sequence[str]], FloatArray]
"""From N texts to [N, D] vectors of length 1; a row of NaN where a text has no embedding."""

_OWN_MODULES = "sentence_transformers."
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_embedder(
    name_or_path: str,
    *,
    offline: bool,
    device: str = "cpu",
    allow_remote_code: bool = False,
    allow_pickle: bool = False,
    batch_size: int = 32,
) -> Embedder:
    """A sentence-transformers model as a function from texts to vectors of length 1, float32.

    Nothing is truncated: a text longer than the model reads is cut into windows of about equal length, between words
    where there are any, and its vector is the mean of theirs, weighted by tokens and brought to length 1. A text
    without a token has no embedding: a row of NaN. Texts are batched by length. The same texts give the same bits;
    other company in a batch may move the last digits.

    Args:
        name_or_path: A folder, or a hub name, which is downloaded unless `offline`.
        offline: Use only what is on this machine.
        device: One device, such as cpu or cuda:1.
        allow_remote_code: Accept a model that brings its own code.
        allow_pickle: Accept weights that can run code when loaded.
        batch_size: Windows in one forward pass.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        ConfigError: `device` names several devices.
        ModelError: Nothing usable there, or it is unsafe.
        EnvironmentFault: The hub cannot be asked, or the device or memory is not there.
    """
    library = _library()
    place = single_device(device)
    source = locate(name_or_path, offline=offline, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    _refuse_unusable(source, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    numerics = Numerics(place.split(":", maxsplit=1)[0], "fp32")
    check_encoder(source, numerics, place, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    try:
        with quiet_libraries():
            model = library.SentenceTransformer(
                str(source.folder),
                device=place,
                local_files_only=True,
                trust_remote_code=allow_remote_code,
                model_kwargs={"dtype": numerics.dtype, **({} if allow_pickle else {"use_safetensors": True})},
            ).eval()
            width = _encode(model, ["a"], 1).shape[1]
    except Exception as error:  # the library raises many kinds; all mean that this model cannot be used
        reason = (str(error).strip() or type(error).__name__).split("\n", 1)[0].rstrip(".")
        raise ModelError(f"Embedding model '{source.name}' cannot be loaded: {reason}. {AGAIN}") from error

    def embed(texts: Sequence[str]) -> FloatArray:
        with quiet_libraries():
            return _embed(model, texts, width, batch_size)

    return embed


def single_device(device: str) -> str:
    """The one device that `device` names; the first GPU for auto and cuda.

    Raises:
        ConfigError: It names several.
        EnvironmentFault: The machine has no such device.
    """
    devices = resolve_devices(device)
    if len(devices) != 1 or devices == [BALANCED]:
        raise ConfigError(f"Device '{device}' is more than one. Expected one, such as cpu or cuda:0.")
    return devices[0]


def _library() -> Any:
    try:
        return importlib.import_module("sentence_transformers")
    except ImportError:
        raise MissingExtra("Comparing texts by sentence embeddings", "embeddings") from None


def _refuse_unusable(source: Source, *, allow_pickle: bool, allow_remote_code: bool) -> None:
    """Raise unless the folder lists modules of the library itself, none of them with pickled weights alone."""
    path = source.folder / "modules.json"
    if source.kind != "checkpoint" or not path.exists():
        raise ModelError(
            f"Model '{source.name}' is no sentence-embedding model: it has no modules.json. Expected a folder or hub "
            "name of a model saved by sentence-transformers."
        )
    for kind, folder in _modules(path):
        if not kind.startswith(_OWN_MODULES) and not allow_remote_code:
            raise ModelError(
                f"Model '{source.name}' needs code that comes with it ('{kind}'), which would run on this machine. "
                "Read that code first, then accept it with --allow-remote-code."
            )
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        if pickles and not allow_pickle and not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"Model '{source.name}' has only pickled weights ('{folder.name}/{pickles[0]}'), which can run code "
                "when loaded. Convert them to safetensors, or accept the risk with --allow-pickle."
            )


def _modules(path: Path) -> list[tuple[str, Path]]:
    """Class and folder of each module that `modules.json` lists."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        modules = [(str(module["type"]), path.parent / str(module["path"])) for module in listed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"'{path}' cannot be read: {type(error).__name__}: {error}. {AGAIN}") from None
    if not modules:
        raise ModelError(f"'{path}' lists no modules. {AGAIN}")
    return modules


def _embed(model: Any, texts: Sequence[str], width: int, batch_size: int) -> FloatArray:
    cut = [_windows(model, text) for text in texts]
    windows = [window for one in cut for window, _ in one]
    vectors = _encode(model, windows, batch_size) if windows else np.zeros((0, width), dtype=np.float32)
    embedded = np.full((len(texts), width), np.nan, dtype=np.float32)
    first = 0
    for row, one in enumerate(cut):
        weights = np.asarray([n_tokens for _, n_tokens in one], dtype=np.float64)
        mean = weights @ vectors[first : first + len(one)] if one else np.zeros(width)
        length = np.linalg.norm(mean)
        if length > 0:
            embedded[row] = mean / length
        first += len(one)
    return embedded


def _encode(model: Any, windows: list[str], batch_size: int) -> FloatArray:
    """[N, D] vectors of length 1; the library sorts by length itself."""
    return model.encode(
        windows, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
    )


def _windows(model: Any, text: str) -> list[tuple[str, int]]:
    """Pieces of the text that the model reads whole, with their numbers of tokens; none where there are none."""
    offsets = _offsets(model, text)
    limit = _room(model)
    if not offsets:
        return []
    if limit is None or len(offsets) <= limit:
        return [(text, len(offsets))]
    n_windows = -(-len(offsets) // limit)
    while n_windows <= len(offsets):
        pieces = _cut(text, offsets, n_windows)
        lengths = [len(_offsets(model, piece)) for piece in pieces]
        if max(lengths) <= limit:
            return list(zip(pieces, lengths, strict=True))
        n_windows += 1 + n_windows // 4
    return []


def _cut(text: str, offsets: list[tuple[int, int]], n_windows: int) -> list[str]:
    """About equally long pieces that begin where a word does, or a token where no word begins for a whole piece."""
    starts = [start for start, _ in offsets if start == 0 or text[start - 1].isspace() or text[start].isspace()]
    cuts = [0]
    for number in range(1, n_windows):
        wanted = offsets[len(offsets) * number // n_windows][0]
        word = starts[bisect_right(starts, wanted) - 1] if starts else 0
        cut = word if word > cuts[-1] else wanted
        cuts += [cut] if cut > cuts[-1] else []
    return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _offsets(model: Any, text: str) -> list[tuple[int, int]]:
    """Characters of each token of the bare text."""
    encoded = model.tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True)
    return [(int(start), int(end)) for start, end in encoded["offset_mapping"] if end > start]


def _room(model: Any) -> int | None:
    """Tokens of bare text that fit beside special tokens and the model's own prompt; None for no limit."""
    limit = model.max_seq_length
    if limit is None:
        return None
    prompt = (model.prompts or {}).get(model.default_prompt_name) or ""
    return max(1, int(limit) - model.tokenizer.num_special_tokens_to_add() - len(_offsets(model, prompt)))
