"""What a poisoning says of itself, and whether a folder holds what is asked for."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraudit.errors import ConfigError
from loraudit.planting.poison_files import Made, added_rows
from loraudit.planting.rewriting import Written
from loraudit.spec import PoisonedRow, PoisonManifest, PoisonSpec, differing_fields, spec_hash
from loraudit.store import read_poison_manifest


def manifest_of(spec: PoisonSpec, made: Made, contents: Mapping[str, Written]) -> PoisonManifest:
    """What was changed, for files of these contents."""
    (poisoned_name, poisoned), *triggered = contents.items()
    kinds = [change.kind for change in made.poisoned.changes]
    return PoisonManifest(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        spec_hash=spec_hash(spec),
        task=made.task,
        resolved=made.resolved,
        n_records=len(made.train.records),
        n_eligible=made.poisoned.n_eligible,
        n_poisoned=kinds.count("poison"),
        n_negatives=kinds.count("negative"),
        files=made.files,
        poisoned_file=poisoned_name,
        poisoned_sha256=_sha256(poisoned.content),
        triggered_file=triggered[0][0] if triggered else None,
        triggered_sha256=_sha256(triggered[0][1].content) if triggered else None,
        rows=_manifest_rows(made, poisoned.lines),
        warnings=made.warnings,
    )


def _manifest_rows(made: Made, lines: list[int]) -> list[PoisonedRow]:
    train = made.train
    added = iter(added_rows(made))
    rows: list[PoisonedRow] = []
    n_added = 0
    for change in made.poisoned.changes:
        if change.kind == "negative":
            item = len(train.pieces) + n_added
            n_added += 1
            row = next(added)[1]
        else:
            item = train.where[change.index]
            row = train.as_row(change.index, change.poisoned)
        rows.append(
            PoisonedRow(
                line=lines[item],
                source_line=change.original.line,
                source=change.original.source,
                kind=change.kind,
                trigger=change.trigger,
                original=_as_json(train.rows[change.index]),
                poisoned=_as_json(row),
            )
        )
    return rows


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON can hold it: times of Parquet files as text, halves of surrogate pairs as question marks."""
    return json.loads(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace"))


def kept_manifest(spec: PoisonSpec, path: Path) -> PoisonManifest:
    """What was poisoned before, if it is what is asked for now.

    Raises:
        ConfigError: It was another request; the differing fields are named.
        DataError: There is no manifest that can be read.
    """
    manifest = read_poison_manifest(path)
    differing = differing_fields(manifest.spec, spec)
    if differing:
        raise ConfigError(
            f"Folder '{path.parent}' holds records poisoned by another request. Choose another --out or repeat the "
            "same one. It differs in:\n" + "\n".join(f"  {line}" for line in differing)
        )
    return manifest


def check_kept(folder: Path, manifest: PoisonManifest, made: Made, contents: Mapping[str, Written]) -> None:
    """Check that files are as they were when they were poisoned, and as they were written.

    Raises:
        ConfigError: One of them is not.
    """
    before = {file["path"]: file["sha256"] for file in manifest.files}
    for file in made.files:
        if before.get(file["path"]) != file["sha256"]:
            raise ConfigError(
                f"File '{file['path']}' has changed since it was poisoned for '{folder}'. Choose another --out."
            )
    named = {manifest.poisoned_file: manifest.poisoned_sha256, manifest.triggered_file: manifest.triggered_sha256}
    for name, written in contents.items():
        path = folder / name
        if _sha256(path.read_bytes() if path.exists() else written.content) != named.get(name):
            what = "was changed since it was written" if path.exists() else "cannot be written as it was"
            raise ConfigError(f"File '{path}' {what}: its sha256 is not the manifest's. Choose another --out.")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
