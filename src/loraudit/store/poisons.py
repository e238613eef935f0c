"""Manifests of poisoned files, written and read back."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from loraudit.errors import ConfigError, DataError
from loraudit.spec import PoisonManifest, refuse_newer
from loraudit.store.files import write_atomically

POISON_MANIFEST_NAME = "manifest.json"


def write_poison_manifest(path: Path, manifest: PoisonManifest) -> None:
    """Save a manifest, readable by its owner alone: it holds texts.

    Raises:
        StoreError: It cannot be written.
    """
    write_atomically(path, (manifest.model_dump_json(indent=2) + "\n").encode())


def read_poison_manifest(path: Path) -> PoisonManifest:
    """Read a manifest.

    Raises:
        ConfigError: It cannot be read.
        NewerVersion: It was written by a newer version.
        DataError: It is no manifest of a poisoned file; every problem is listed.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"Manifest '{path}' cannot be read: {error.strerror}. Expected the manifest.json that `loraudit poison` "
            "wrote; check the path."
        ) from None
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("kind") != "poison":
        raise DataError(
            f"File '{path}' is no manifest of a poisoned file. Expected the manifest.json that `loraudit poison` "
            "wrote. Choose another --out, or check the path."
        )
    refuse_newer(content.get("schema_version"), f"Manifest '{path}'")
    try:
        return PoisonManifest.model_validate_json(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise DataError(
            f"Manifest '{path}' cannot be used. Expected it as it was written; choose another --out if it is lost.",
            problems,
        ) from None
