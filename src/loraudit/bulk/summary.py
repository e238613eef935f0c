"""What all parts hold together, and the result of a run."""

from __future__ import annotations

import hashlib
import importlib.metadata
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from loraudit.bulk.blocks import Index
from loraudit.bulk.columns import statistic_names
from loraudit.bulk.parts import Mark, part_name
from loraudit.errors import EXIT_OK, EXIT_PARTIAL, scrubbed
from loraudit.membership import ATTACKS, AnyAttack
from loraudit.models import ModelPlan
from loraudit.policy.verdict import TOLERATED_UNSCORED
from loraudit.scoring import ScoringOptions
from loraudit.spec import ScoredColumn, ScoreResult, ScoreSpec
from loraudit.store import RunFolder, library_versions

PARTS_NAME = "parts.parquet"
_NO_FAULT = ("ok", "no_tokens")
"""Statuses that say something of the record; the others say that something went wrong."""


@dataclass
class Totals:
    """Sums over parts; of each part no more than its checksum is kept.

    Args:
        n_units: Parts that there are to be.
    """

    n_units: int
    n_parts: int = 0
    n_made: int = 0
    n_damaged: int = 0
    n_repeated: int = 0
    n_records_made: int = 0
    n_model_tokens_made: int = 0
    n_backoffs: int = 0
    n_tokens: int = 0
    n_windowed: int = 0
    status: Counter[str] = field(default_factory=Counter[str])
    undefined: Counter[str] = field(default_factory=Counter[str])
    errors: dict[str, str] = field(default_factory=dict[str, str])
    devices: Counter[str] = field(default_factory=Counter[str])
    modes: set[str] = field(default_factory=set[str])
    sha256: bytearray = field(init=False)
    sizes: array[int] = field(init=False)
    records: array[int] = field(init=False)
    tokens: array[int] = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = bytearray(32 * self.n_units)
        self.sizes, self.records, self.tokens = (array("q", bytes(8 * self.n_units)) for _ in range(3))

    def add(self, number: int, mark: Mark, *, is_new: bool) -> None:
        """One more part."""
        self.n_parts += 1
        self.sha256[32 * number : 32 * number + 32] = bytes.fromhex(mark.sha256)
        self.sizes[number], self.records[number], self.tokens[number] = mark.n_bytes, mark.n_records, mark.n_tokens
        self.status.update(mark.status)
        self.undefined.update(mark.undefined)
        self.errors |= mark.errors
        self.devices[mark.device] += 1
        self.modes |= set(mark.modes)
        self.n_tokens += mark.n_tokens
        self.n_windowed += mark.n_windowed
        self.n_backoffs += mark.n_backoffs
        if is_new:
            self.n_made += 1
            self.n_records_made += mark.n_records
            self.n_model_tokens_made += mark.n_model_tokens

    @property
    def n_scored(self) -> int:
        """Records with scores."""
        return self.status["ok"]

    @property
    def status_words(self) -> str:
        """Records without scores, such as `3 no_tokens, 1 nonfinite`."""
        return ", ".join(f"{n:,} {status}" for status, n in self.status.most_common() if status != "ok")

    def table(self) -> pa.Table:
        """One row per part."""
        return pa.table(
            {
                "part": [part_name(number) for number in range(self.n_units)],
                "n_records": pa.array(self.records, pa.int64()),
                "n_tokens": pa.array(self.tokens, pa.int64()),
                "n_bytes": pa.array(self.sizes, pa.int64()),
                "sha256": [bytes(self.sha256[32 * i : 32 * i + 32]).hex() for i in range(self.n_units)],
            }
        )


def score_result(
    spec: ScoreSpec,
    folder: RunFolder,
    plan: ModelPlan,
    options: ScoringOptions,
    attacks: Sequence[AnyAttack],
    index: Index,
    totals: Totals,
    *,
    carried_out: dict[str, Any],
    command: str,
    started: str,
    seconds: float,
) -> ScoreResult:
    """The result, and `parts.parquet` before it.

    Raises:
        StoreError: It cannot be written.
    """
    folder.write_table(PARTS_NAME, totals.table())
    n_records = sum(totals.records)
    made = totals.n_made > 0
    result = ScoreResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        spec_hash=folder.hash,
        command=command,
        started=started,
        seconds=round(seconds, 2),
        heading=f"{n_records:,} records scored",
        sentence=_sentence(plan, totals, index),
        target=plan.target,
        reference=plan.reference,
        n_records=n_records,
        n_read=index.n_read,
        n_bad=index.n_bad,
        status=dict(totals.status),
        n_tokens=totals.n_tokens,
        n_windowed=totals.n_windowed,
        columns=_columns(plan, attacks, totals),
        files=list(index.files),
        n_parts=totals.n_parts,
        part_bytes=sum(totals.sizes),
        parts=hashlib.sha256((folder.path / PARTS_NAME).read_bytes()).hexdigest(),
        weights=plan.hashes,
        tokenizer=plan.tokenizer_fingerprint,
        numerics={
            "devices": dict(totals.devices),
            "precision": spec.precision,
            "batching_noise_nats": options.numerics.batching_noise,
            "max_length": options.max_length,
            "stride": options.stride,
            "modes": sorted(totals.modes),
        },
        carried_out=carried_out,
        n_units_done=totals.n_made,
        n_units_damaged=totals.n_damaged,
        n_units_repeated=totals.n_repeated,
        n_backoffs=totals.n_backoffs,
        records_per_second=round(totals.n_records_made / seconds, 2) if made else None,
        tokens_per_second=round(totals.n_model_tokens_made / seconds, 1) if made else None,
        versions=library_versions(),
        warnings=_warnings(plan, totals, index, spec),
    )
    return ScoreResult.model_validate_json(scrubbed(result.model_dump_json()))


def exit_code(result: ScoreResult) -> int:
    """0; 7 where an attack failed, or more than 1 % of the records could not be scored for a reason not their own."""
    n_lost = sum(n for status, n in result.status.items() if status not in _NO_FAULT)
    is_partial = n_lost > TOLERATED_UNSCORED * result.n_records or any(column.error for column in result.columns)
    return EXIT_PARTIAL if is_partial else EXIT_OK


def _columns(plan: ModelPlan, attacks: Sequence[AnyAttack], totals: Totals) -> list[ScoredColumn]:
    known = statistic_names(list(plan.fingerprints)) | {a.name: ATTACKS[a.name].summary for a in attacks}
    return [
        ScoredColumn(name=name, description=words, n_undefined=totals.undefined[name], error=totals.errors.get(name))
        for name, words in known.items()
    ]


def _sentence(plan: ModelPlan, totals: Totals, index: Index) -> str:
    under = "under target and reference" if plan.reference else "under the target alone"
    lost = f"; {totals.status_words}" if totals.status_words else ""
    skipped = f"; {index.n_bad:,} unreadable rows were skipped" if index.n_bad else ""
    return f"{totals.n_scored:,} of {sum(totals.records):,} records have scores {under}{lost}{skipped}."


def _warnings(plan: ModelPlan, totals: Totals, index: Index, spec: ScoreSpec) -> list[str]:
    warnings = list(plan.warnings)
    if plan.reference is None:
        warnings.append(
            f"No base of '{spec.model}' is known, so nothing is compared with one. Give it with --base if there is one."
        )
    if index.n_bad:
        warnings.append(f"{index.n_bad:,} unreadable rows were skipped.")
    if totals.n_damaged:
        warnings.append(f"{totals.n_damaged:,} damaged parts did not match their checksum and were made again.")
    if totals.status_words:
        warnings.append(f"Records without scores: {totals.status_words}.")
    if len(totals.devices) > 1:
        warnings.append(
            "Parts were made on several kinds of device: " + ", ".join(sorted(totals.devices)) + ". Their numbers "
            "differ by more than the noise of batching."
        )
    warnings += [f"Attack '{name}' failed on some records: {reason}" for name, reason in totals.errors.items()]
    return warnings
