"""What is asked of `loraudit score`, and what it did."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

from pydantic import Field

from loraudit.spec.engines import HOW_UNITS_ARE_CARRIED_OUT, EngineOptions
from loraudit.spec.form import SCHEMA_VERSION, Names, Paths, Strict
from loraudit.spec.making import Request
from loraudit.spec.requests import AuditSpec, RecordFormat
from loraudit.spec.results import ModelSummary


def _as_in_an_audit(name: str) -> Any:
    """The default, limits and words that a field has in an audit."""
    return copy.copy(AuditSpec.model_fields[name])


class ScoreSpec(Request, RecordFormat, EngineOptions):
    """Which records to score with which model. Every field is also a flag of `loraudit score`."""

    command: ClassVar[str] = "score"
    # Unreadable rows stop a run before any part is made, so leaving them out changes no part that is there.
    how_not_what: ClassVar[frozenset[str]] = frozenset(
        {"device", "batch_tokens", "offline", "on_bad_record", "out", "store", *HOW_UNITS_ARE_CARRIED_OUT}
    )

    model: str = _as_in_an_audit("model")
    records: Paths = Field(
        description="Records to score (.jsonl, .csv, .tsv, .parquet, .txt; also packed). Repeated ones are scored as "
        "often as they stand there."
    )
    base: str | None = _as_in_an_audit("base")

    span: Literal["trained", "all"] = _as_in_an_audit("span")
    append_eos: bool = _as_in_an_audit("append_eos")
    max_length: int | None = _as_in_an_audit("max_length")
    stride: int | None = _as_in_an_audit("stride")

    attacks: Names = Field(
        default=(),
        description="Attacks whose scores to write beside the statistics of each record; only those that look at one "
        "record under target and base (default: all of these; see `loraudit attacks`).",
    )
    records_per_unit: int | None = Field(
        default=None,
        ge=1,
        description="Records of one part, which a killed run loses at most per worker; rounded up to whole blocks of "
        "1024 records or 4 MiB (default: one block, or as many as it takes to stay below 10 000 parts).",
    )
    keep_evidence: bool = Field(
        default=False,
        description="Keep what the models said of every token too, in --store, where an audit of the same models "
        "finds it.",
    )

    device: str = Field(
        default="auto", description="Of every worker: auto, cpu, cuda, mps, cuda:1, or balanced (over its GPUs)."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Of weights and activations; the same for all workers, so none is chosen by a probe.",
    )
    batch_tokens: int | None = _as_in_an_audit("batch_tokens")
    allow_pickle: bool = _as_in_an_audit("allow_pickle")
    allow_remote_code: bool = _as_in_an_audit("allow_remote_code")
    allow_other_base: bool = _as_in_an_audit("allow_other_base")
    offline: bool = _as_in_an_audit("offline")

    out: str | None = Field(default=None, description="Run folder (default: runs/score-<hash of the spec>).")
    store: str | None = Field(
        default=None, description="Store of evidence and of what was learned about models (default: within the folder)."
    )


class ScoredColumn(Strict):
    """One column of numbers in the parts.

    Attributes:
        name: Of the column; of an attack, its own.
        description: What it is, with its unit.
        n_undefined: Records that have none, those without scores included.
        error: Of an attack that failed on some part, why; its column is empty there.
    """

    name: str
    description: str
    n_undefined: int
    error: str | None = None


class ScoreResult(Strict):
    """`result.json` of scored records; the numbers are in the folder `scores`.

    Attributes:
        target: The model as it was loaded.
        reference: What it is compared with; None where no base is known.
        heading: In a few words.
        sentence: What was done.
        n_records: Rows of all parts.
        n_read: Rows seen, bad ones included.
        n_bad: Bad rows that were skipped because the request asks for it.
        status: Records by status; only 'ok' ones have scores.
        n_tokens: Audited tokens.
        n_windowed: Records longer than one window.
        columns: Of the parts.
        files: Path, sha256 and rows of each file read.
        n_parts: Files in `scores`.
        part_bytes: Of all of them together.
        parts: sha256 of `parts.parquet`, which holds the checksum of every part.
        weights: sha256 of each set of weights, by what it is.
        tokenizer: sha256 of its files.
        numerics: Devices and precision, batches and windows.
        carried_out: Engine, workers and so on, of the last call.
        n_units_done: Parts made by the last call; the others were there.
        n_units_damaged: Parts that did not match their checksum and were made again.
        n_units_repeated: Units given to a worker more than once because one died.
        n_backoffs: Batches halved because memory ran out.
        records_per_second: Of the last call, from its start to its end; None where it made no part.
        tokens_per_second: Tokens through a model, likewise; every view counts.
        seconds: Of the last call.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["score"] = "score"
    loraudit: str
    spec: ScoreSpec
    spec_hash: str
    command: str
    started: str
    seconds: float
    heading: str
    sentence: str
    target: ModelSummary
    reference: ModelSummary | None
    n_records: int
    n_read: int
    n_bad: int
    status: dict[str, int]
    n_tokens: int
    n_windowed: int
    columns: list[ScoredColumn]
    files: list[dict[str, Any]]
    n_parts: int
    part_bytes: int
    parts: str
    weights: dict[str, str]
    tokenizer: str
    numerics: dict[str, Any]
    carried_out: dict[str, Any] = Field(default_factory=dict)
    n_units_done: int
    n_units_damaged: int = 0
    n_units_repeated: int = 0
    n_backoffs: int = 0
    records_per_second: float | None = None
    tokens_per_second: float | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
