"""The spine of `loraudit canaries insert`: a training file becomes one with canaries in it, and a manifest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loraudit.canaries import (
    N_SECRETS,
    columns_of,
    draw_canaries,
    n_lines_of,
    planted_lines,
    seal_of,
    sealed,
)
from loraudit.data import load_records, read_rows
from loraudit.errors import ConfigError, DataError
from loraudit.hub import hub_file, is_hub_file
from loraudit.planting.rows import refuse_joined
from loraudit.spec import Canary, CanaryForm, CanaryInsertSpec, CanaryManifest, CanaryScoreSpec, differing_fields
from loraudit.statistics import epsilon_from_guesses
from loraudit.store import MANIFEST_NAME, open_private_folder, read_manifest, write_atomically, write_manifest
from loraudit.types import Record

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_LARGE_SHARE = 0.05
_SEED_BITS = 52


class Planted(NamedTuple):
    """What was planted.

    Attributes:
        file: The training file with canaries in it.
        manifest_path: What was planted where.
        manifest: The same, read.
        is_new: Whether this run planted it; otherwise it was there.
        warnings: What the canaries may do to the training.
    """

    file: Path
    manifest_path: Path
    manifest: CanaryManifest
    is_new: bool
    warnings: list[str]


class PlantingCost(NamedTuple):
    """What planting would add.

    Attributes:
        n_records: Of the training file.
        n_coins: Canaries left to a coin.
        n_chosen: Canaries put in a chosen number of times.
        n_controls: Canaries never put in.
        n_added: Records added, in the mean over the coins.
        ceiling: The largest ε that the coins could show, with the guesses that are usual.
    """

    n_records: int
    n_coins: int
    n_chosen: int
    n_controls: int
    n_added: float
    ceiling: float | None

    @property
    def share(self) -> float:
        """Canaries among all records of the planted file."""
        return self.n_added / (self.n_added + self.n_records)


class _Source(NamedTuple):
    """The training file.

    Attributes:
        content: Its bytes.
        form: How its records are written.
        columns: Of its first row.
        n_records: Rows that are no repeats.
    """

    content: bytes
    form: CanaryForm
    columns: list[str]
    n_records: int


def run_insert(spec: CanaryInsertSpec, *, flip: Callable[[], bool] | None = None) -> Planted:
    """Plant canaries; the same request again finds them there, or finishes what was cut short.

    The manifest is written first and says where every copy goes, so that the planted file follows from it.

    Args:
        spec: The request.
        flip: A fair coin; by default the system's randomness, which no seed gives away.

    Raises:
        ConfigError: The folder holds something else; the difference is named.
        DataError: The file cannot be read, or is of a kind that lines cannot be put into.
        StoreError: Nothing can be written there.
    """
    source = _read(spec)
    folder = Path(spec.out)
    path, file = folder / MANIFEST_NAME, folder / Path(spec.data).name
    is_new = not path.exists()
    if is_new and file.exists():
        raise ConfigError(
            f"File '{file}' exists, and no {MANIFEST_NAME} beside it says what it is. Expected a folder without it. "
            "Choose another --out."
        )
    manifest = _drawn(spec, source, flip or _system_coin) if is_new else _kept(spec, source, path)
    content = planted_lines(source.content, manifest.canaries, source.form, manifest.spec, source.columns)
    if file.exists() and file.read_bytes() != content:
        raise ConfigError(
            f"File '{file}' was changed since canaries were planted in it. Expected it as it was written. Delete it to "
            "have it written again, or choose another --out."
        )
    open_private_folder(folder)
    if is_new:
        write_manifest(path, manifest)
    if not file.exists():
        write_atomically(file, content)
    return Planted(file, path, manifest, is_new, _warnings(manifest.canaries, source.n_records))


def estimate_insert(spec: CanaryInsertSpec) -> PlantingCost:
    """What the request would add, without a coin being flipped or anything written.

    Raises:
        LorauditError: As `run_insert`, for what is wrong with the file.
    """
    source = _read(spec)
    canaries = draw_canaries(spec, 0, rng=np.random.default_rng(0), flip=lambda: True)
    uses = [canary.use for canary in canaries]
    added = [len(canary.places) / (2 if canary.coin else 1) for canary in canaries]
    n_coins = uses.count("coin") if spec.inclusion == "drawn" else 0
    return PlantingCost(
        n_records=source.n_records,
        n_coins=n_coins,
        n_chosen=len(uses) - n_coins - uses.count("control"),
        n_controls=uses.count("control"),
        n_added=sum(added),
        ceiling=usual_ceiling(n_coins),
    )


def usual_ceiling(n_coins: int) -> float | None:
    """The largest ε that so many coins could show with the guesses, δ and confidence that are usual; None for none."""
    if not n_coins:
        return None
    usual = {name: CanaryScoreSpec.model_fields[name].default for name in ("guesses", "delta", "confidence")}
    confidence = 1 - (1 - usual["confidence"]) / len(usual["guesses"])
    most = round(max(usual["guesses"]) * n_coins)
    return epsilon_from_guesses(n_coins, most, most, delta=usual["delta"], confidence=confidence).ceiling


def _read(spec: CanaryInsertSpec) -> _Source:
    """The training file, every row of it checked."""
    if is_hub_file(spec.data):
        raise DataError(
            f"File '{spec.data}' is one of the hub, and canaries are put into a file that you train on. Expected one "
            f"here. Run: {hub_file(spec.data).wanted.command}"
        )
    path = Path(spec.data)
    kind = path.suffix.lower()
    if kind not in (*_JSON_LINES, ".txt") or (kind == ".txt" and spec.text_unit != "line"):
        what = "text that is not cut into lines" if kind == ".txt" else f"'{kind or 'no ending'}'"
        raise DataError(
            f"File '{spec.data}' is of a kind ({what}) that records cannot be put into without touching others. "
            "Expected .jsonl, or .txt with a record a line. Save it as .jsonl."
        )
    if path.name == MANIFEST_NAME:
        raise ConfigError(f"File '{spec.data}' has the manifest's own name. Rename it.")
    records = load_records([spec.data], spec)
    refuse_joined(records, [spec.data], spec)
    rows = read_rows(spec.data, text_unit=spec.text_unit).rows
    forms: set[CanaryForm] = {_form(record) for record in records.records}
    if len(forms) > 1:
        raise DataError(
            f"File '{spec.data}' holds records of several forms ({', '.join(sorted(forms))}). Expected one, so that "
            "canaries look like the others. Split it."
        )
    form: CanaryForm = "line" if kind == ".txt" else forms.pop()
    first = next(row for _, row in rows if not isinstance(row, Record))
    return _Source(path.read_bytes(), form, columns_of(first), sum(records.copies.values()))


def _form(record: Record) -> CanaryForm:
    if record.text is not None:
        return "text"
    return "prompt" if record.messages is None else "messages"


def _system_coin() -> bool:
    return bool(secrets.randbits(1))


def _drawn(spec: CanaryInsertSpec, source: _Source, flip: Callable[[], bool]) -> CanaryManifest:
    seed = secrets.randbits(_SEED_BITS) if spec.seed is None else spec.seed
    canaries = draw_canaries(spec, n_lines_of(source.content), rng=np.random.default_rng(seed), flip=flip)
    planted = planted_lines(source.content, canaries, source.form, spec, source.columns)
    return sealed(
        CanaryManifest(
            loraudit=importlib.metadata.version("loraudit"),
            spec=spec,
            seed=seed,
            form=source.form,
            n_secrets=N_SECRETS,
            reference_key=secrets.token_hex(16),
            source_sha256=hashlib.sha256(source.content).hexdigest(),
            planted_sha256=hashlib.sha256(planted).hexdigest(),
            canaries=canaries,
            digest="",
        )
    )


def _kept(spec: CanaryInsertSpec, source: _Source, path: Path) -> CanaryManifest:
    """What was planted before, if it is what is asked for now."""
    manifest = read_manifest(path)
    differing = differing_fields(manifest.spec, spec)
    if Path(manifest.spec.data).name != Path(spec.data).name:
        differing.append(f"data: {manifest.spec.data!r} → {spec.data!r}")
    if differing:
        raise ConfigError(
            f"Folder '{path.parent}' holds canaries of another request. Choose another --out or repeat the same one. "
            "It differs in:\n" + "\n".join(f"  {line}" for line in differing)
        )
    if manifest.digest != seal_of(manifest):
        raise ConfigError(
            f"Manifest '{path}' was changed after it was written: its digest does not match. Choose another --out."
        )
    if manifest.source_sha256 != hashlib.sha256(source.content).hexdigest():
        raise ConfigError(
            f"File '{spec.data}' has changed since canaries were planted in it for '{path.parent}'. Choose another "
            "--out."
        )
    return manifest


def _warnings(canaries: list[Canary], n_records: int) -> list[str]:
    n_added = sum(len(canary.places) for canary in canaries)
    share = n_added / (n_added + n_records)
    if share <= _LARGE_SHARE:
        return []
    words = (
        f"Canaries are {100 * share:.0f} % of the planted file's records, which may change what the model learns of "
        "the others. Plant fewer (--coins, --per-repeats, --repeats), or among more records."
    )
    return [words]
