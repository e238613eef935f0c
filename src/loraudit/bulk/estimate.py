"""What a bulk run would take, for `--dry-run`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loraudit.auditing.preparation import requested_tokenizer
from loraudit.bulk.blocks import BLOCK_BYTES
from loraudit.bulk.columns import STATISTICS
from loraudit.bulk.request import audit_request, check_request, chosen_attacks, models_and_options, score_path, views_of
from loraudit.bulk.spine import found_records
from loraudit.data import encode
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.scoring import estimate_cost
from loraudit.spec import ScoreSpec
from loraudit.store import RunFolder
from loraudit.types import Record

SAMPLE_RECORDS = 1000
_BYTES_OF_FACTS = 28
_BYTES_OF_NUMBER = 7
"""Of a row of a part of a thousand, compressed; docs/scale.md holds them against parts that were written."""
_BYTES_OF_TOKEN = 18
"""Of evidence, per token and view."""
_COPIES_OF_BLOCK = 12
"""A block in memory, in multiples of the evidence of its tokens under all views: joined, sorted, as float64."""
_INTERVAL_NORMAL = 1.96


@dataclass(frozen=True, slots=True)
class ScoreCost:
    """What a bulk run would take.

    Attributes:
        path: Its run folder.
        n_records: Records.
        n_bad: Rows that would be skipped.
        n_sampled: Records that the number of tokens is estimated from, drawn at random.
        n_tokens: Tokens of all records under one view, estimated.
        n_tokens_lower: Lower end of its 95 % interval.
        n_tokens_upper: Upper end.
        views: Models that see every token.
        n_units: Parts.
        records_per_unit: Of the largest.
        seconds_per_unit: Of the largest, from one matrix product on this machine, roughly.
        seconds: Of all units, shared by the workers, roughly.
        n_workers: At once; None where the cluster decides.
        bytes_per_part: Of the largest, roughly.
        part_bytes: Of all parts, roughly.
        evidence_bytes: Of token evidence, where it is to be kept.
        memory_bytes: Of one worker, roughly.
        attacks: Names.
    """

    path: str
    n_records: int
    n_bad: int
    n_sampled: int
    n_tokens: int
    n_tokens_lower: int
    n_tokens_upper: int
    views: list[str]
    n_units: int
    records_per_unit: int
    seconds_per_unit: float
    seconds: float
    n_workers: int | None
    bytes_per_part: int
    part_bytes: int
    evidence_bytes: int
    memory_bytes: int
    attacks: list[str]


class _Sample:
    """Records drawn with equal chance from a stream of unknown length (algorithm R)."""

    def __init__(self, size: int) -> None:
        self.records: list[Record] = []
        self._size, self._n_seen = size, 0
        self._rng = np.random.default_rng(0)

    def __call__(self, record: Record) -> None:
        self._n_seen += 1
        if len(self.records) < self._size:
            self.records.append(record)
        elif (place := int(self._rng.integers(self._n_seen))) < self._size:
            self.records[place] = record


def estimate_score(spec: ScoreSpec, *, progress: Progress | None = None, stop: StopRequest | None = None) -> ScoreCost:
    """Check everything that shows before a model is loaded, and count.

    Raises:
        LorauditError: As `run_score`, for everything that can be found out beforehand.
        Interrupted: A stop was asked for.
    """
    check_request(spec)
    path = score_path(spec)
    if path.is_dir():
        RunFolder(path, spec)
    plan, options = models_and_options(spec, None, is_worker=False)
    attacks = chosen_attacks(spec, plan)
    sample = _Sample(SAMPLE_RECORDS)
    index = found_records(spec, progress or Silent(), stop, sample)
    tokenizer = requested_tokenizer(audit_request(spec), plan)
    encoded = encode(sample.records, tokenizer, span=spec.span, append_eos=spec.append_eos)
    lengths = np.array([len(item.ids) for item in encoded], dtype=np.float64)
    n_records = int(index.n_records.sum())
    mean = float(lengths.mean())
    spread = _INTERVAL_NORMAL * float(lengths.std(ddof=1)) / np.sqrt(len(lengths)) if len(lengths) > 1 else 0.0
    if len(lengths) == n_records:  # then it is a count
        spread = 0.0
    views = views_of(plan)
    slices = index.blocks_per_unit(spec.records_per_unit)
    largest = max(int(index.n_records[blocks].sum()) for blocks in slices)
    cost = estimate_cost(plan, options, round(mean * n_records * len(views)))
    workers = spec.workers or (1 if spec.engine == "local" else None)
    row = _BYTES_OF_FACTS + _BYTES_OF_NUMBER * (len(STATISTICS) * len(views) + len(attacks))
    block_tokens = min(mean * float(index.n_records.max()), float(BLOCK_BYTES))
    weights = len(plan.stages) * cost.memory_bytes  # models that share no copy stay in memory side by side
    return ScoreCost(
        path=str(path),
        n_records=n_records,
        n_bad=index.n_bad,
        n_sampled=len(lengths),
        n_tokens=round(mean * n_records),
        n_tokens_lower=round((mean - spread) * n_records),
        n_tokens_upper=round((mean + spread) * n_records),
        views=views,
        n_units=len(slices),
        records_per_unit=largest,
        seconds_per_unit=cost.seconds * largest / n_records,
        seconds=cost.seconds / (workers or 1),
        n_workers=workers,
        bytes_per_part=row * largest,
        part_bytes=row * n_records,
        evidence_bytes=round(mean * n_records * len(views) * _BYTES_OF_TOKEN) if spec.keep_evidence else 0,
        memory_bytes=weights + round(block_tokens * len(views) * _BYTES_OF_TOKEN * _COPIES_OF_BLOCK),
        attacks=[attack.name for attack in attacks],
    )
