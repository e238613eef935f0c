"""Manifests of planted canaries, and the results of looking for them, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from loraudit.errors import ConfigError, DataError
from loraudit.spec import CanaryManifest, CanaryResult, refuse_newer
from loraudit.spec.form import Strict
from loraudit.store.files import write_atomically
from loraudit.store.finished_runs import read_result

MANIFEST_NAME = "canaries.json"

AnyKind = TypeVar("AnyKind", bound=Strict)


def write_manifest(path: Path, manifest: CanaryManifest) -> None:
    """Save a manifest, readable by its owner alone.

    Raises:
        StoreError: It cannot be written.
    """
    write_atomically(path, (manifest.model_dump_json(indent=2) + "\n").encode())


def read_manifest(path: Path) -> CanaryManifest:
    """Read a manifest; whether it is as it was written is for others to ask.

    Raises:
        ConfigError: There is no such file.
        NewerVersion: It was written by a newer version.
        DataError: It is no manifest; every problem is listed.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"Manifest '{path}' cannot be read: {error.strerror}. Expected the canaries.json that "
            "`loraudit canaries insert` wrote; check the path."
        ) from None
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("kind") != "canaries" or "canaries" not in content:
        raise DataError(
            f"File '{path}' is no manifest of canaries. Expected the canaries.json that `loraudit canaries insert` "
            "wrote. Check the path."
        )
    refuse_newer(content.get("schema_version"), f"Manifest '{path}'")
    try:
        return CanaryManifest.model_validate_json(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise DataError(
            f"Manifest '{path}' cannot be used. Expected it as it was written; plant canaries anew if it is lost.",
            problems,
        ) from None


def read_canaries(path: Path) -> CanaryResult | None:
    """Read the result of a finished `loraudit canaries score`; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    return read_result(path, "canaries", CanaryResult)
