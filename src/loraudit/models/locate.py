"""From a name to a folder of files that are safe to read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from loraudit.errors import EnvironmentFault, ModelError, type_name
from loraudit.hub import Wanted, why_not_downloaded

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w-][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
_WHOLE_NUMBER = (int, "a whole number")
_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "base_model_name_or_path": (str, "a name"),
    "num_virtual_tokens": _WHOLE_NUMBER,
    "trainable_token_indices": ((list, dict), "a list of token ids"),
    "token_indices": ((list, dict), "a list of token ids"),
    "architectures": (list, "a list"),
    "text_config": (dict, "a table of settings"),
    "hidden_size": _WHOLE_NUMBER,
    "n_embd": _WHOLE_NUMBER,
    "max_position_embeddings": _WHOLE_NUMBER,
    "n_positions": _WHOLE_NUMBER,
    "vocab_size": _WHOLE_NUMBER,
}
"""What this room reads of a config, and the type it must have."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Source:
    """A model on disk that may be read.

    Attributes:
        name: As the user or the adapter named it.
        folder: Where its files are.
        kind: What the folder holds.
        config: Its `config.json`, or `adapter_config.json` for an adapter.
        is_from_hub: Whether `name` is a hub name.
    """

    name: str
    folder: Path
    kind: Literal["checkpoint", "adapter"]
    config: dict[str, Any]
    is_from_hub: bool


def packaged_base() -> Path:
    """Folder of the base model that ships with loraudit."""
    return Path(str(files("loraudit") / "assets" / "base"))


def is_hub_name(name: str) -> bool:
    """Whether `name` is formed like a hub name and no such folder exists."""
    try:
        is_path = name.startswith((".", "/", "~")) or Path(name).exists()
    except (OSError, ValueError):  # longer than any file name, or with a NUL
        return False
    return not is_path and _HUB_NAME.fullmatch(name) is not None


def locate(name: str, *, offline: bool = False, allow_pickle: bool = False, allow_remote_code: bool = False) -> Source:
    """Find a checkpoint or adapter and refuse what is unsafe to load.

    Args:
        name: A folder, or a hub name, which is downloaded unless `offline`.
        offline: Use only what is already in the hub cache.
        allow_pickle: Accept weights that can run code when loaded.
        allow_remote_code: Accept a repository that brings its own model code.

    Raises:
        ModelError: Nothing usable there, or it is unsafe.
        EnvironmentFault: The hub cannot be asked.
    """
    is_remote = is_hub_name(name)
    folder = (
        _download(name, offline=offline, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
        if is_remote
        else Path(name)
    )
    if not _is_folder(folder):
        if _is_file(folder):
            raise ModelError(
                f"Model '{name}' is a file. Expected a folder with config.json or {ADAPTER_CONFIG}, or a hub name such "
                "as org/model."
            )
        raise ModelError(
            f"Model folder '{name}' does not exist. Expected a folder with config.json or {ADAPTER_CONFIG}, "
            "or a hub name such as org/model."
        )
    for file, kind in ((ADAPTER_CONFIG, "adapter"), ("config.json", "checkpoint")):
        if (folder / file).exists():
            source = Source(name, folder, kind, _read_config(folder / file), is_remote)  # type: ignore[arg-type]
            _refuse_unsafe(source, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
            return source
    raise ModelError(
        f"Folder '{name}' holds neither config.json nor {ADAPTER_CONFIG}. Expected a checkpoint or adapter "
        "saved with save_pretrained()."
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}. Save or download the model again.") from None
    if not isinstance(config, dict):
        raise ModelError(f"'{path}' holds no JSON object. Save or download the model again.")
    wrong = [
        f"'{name}' is {type_name(config[name])}, not {words}"
        for name, (kinds, words) in _TYPES.items()
        if config.get(name) is not None and not isinstance(config[name], kinds)
    ]
    if wrong:
        raise ModelError(f"'{path}' cannot be used: {'; '.join(wrong)}. Save or download the model again.")
    return config


def _refuse_unsafe(source: Source, *, allow_pickle: bool, allow_remote_code: bool) -> None:
    own = ADAPTER_WEIGHTS if source.kind == "adapter" else "*.safetensors"
    has_safetensors = any(source.folder.glob(own))
    pickles = sorted(file.name for pattern in _PICKLES for file in source.folder.glob(pattern))
    pickles = [name for name in pickles if name not in {"training_args.bin", "optimizer.pt", "scheduler.pt"}]
    if not has_safetensors and pickles and not allow_pickle:
        raise ModelError(
            f"Model '{source.name}' has only pickled weights ({pickles[0]}), which can run code when loaded. "
            "Convert them to safetensors, or accept the risk with --allow-pickle."
        )
    if not has_safetensors and not pickles:
        raise ModelError(f"Model '{source.name}' has no weights. Expected a .safetensors file in '{source.folder}'.")
    if source.config.get("auto_map") and not allow_remote_code:
        raise ModelError(
            f"Model '{source.name}' needs code that comes with it, which would run on this machine. "
            "Read that code first, then accept it with --allow-remote-code."
        )


def _download(name: str, *, offline: bool, allow_pickle: bool, allow_remote_code: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    patterns = [*_HUB_FILES, *(["*.bin"] if allow_pickle else []), *(["*.py"] if allow_remote_code else [])]
    refusal: Exception | None = None
    try:
        if not offline:
            refusal = _refusal(name)
        return Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=patterns, local_files_only=offline or refusal is not None
            )
        )
    except errors.HFValidationError:
        raise ModelError(
            f"Model '{name}' is no folder here, and no name the hub can have. Expected a folder or org/model."
        ) from None
    except Exception as error:  # the client and its transport fail in many ways; all mean no download
        raise EnvironmentFault(why_not_downloaded(_wanted(name), error, refusal, offline=offline)) from None


def _refusal(name: str) -> Exception | None:
    """Why the hub does not speak of this model, or None where it does.

    Asked before the download, which sets no limit of its own to the wait for a first answer and would
    stand still for minutes behind a firewall that swallows requests.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    try:
        huggingface_hub.HfApi().model_info(name, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (errors.HFValidationError, errors.OfflineModeIsEnabled):
        return None  # the download says so itself, without asking anybody
    except Exception as error:  # any: a copy in the cache may still do
        return error
    return None


def _wanted(name: str) -> Wanted:
    thing = f"Model '{name}'"
    return Wanted(thing, f"{thing} is no local folder and", f"hf download {name}")
