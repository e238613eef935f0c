"""What each shadow model is trained on, and which of them speaks for which record.

With a pool, every shadow is trained on a random half of it and has seen no audited record. Without one, shadows come in
pairs that share the non-members between them: a non-member is scored by the one of each pair that never saw it, a
member by either, drawn at random. Both sides are then scored by equally many shadows, trained on equally many
records, and scores of a target without leakage stay alike on both sides. On request pairs share all audited records
between them, as a target's own training would draw them: one of each pair has seen a record, the other has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from loraudit.auditing.references.wanted import disjoint_data
from loraudit.auditing.request import Sides
from loraudit.data import RecordSet, split_records
from loraudit.errors import DataError
from loraudit.spec import AuditSpec
from loraudit.types import BoolArray, IntArray, TokenTable

TrainedOn = Literal["pool", "nonmembers", "audited"]
_SEED_STEP = 10_007
"""Between the seeds of shadows, so that none begins from the random numbers of a target with an ordinary seed."""
_HALVES, _EITHER = 30, 31


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """Records of K shadow models.

    Attributes:
        parts: What each is trained on.
        seeds: Of each training run.
        seen: [K, N] which audited records each is trained on.
        pool: What the parts are drawn from.
        trained_on: "pool", "nonmembers" or "audited", both sides.
    """

    parts: Sequence[RecordSet]
    seeds: Sequence[int]
    seen: BoolArray
    pool: RecordSet
    trained_on: TrainedOn

    @property
    def n_per_record(self) -> int:
        """Shadows that score each record without having seen it."""
        return len(self.parts) if self.trained_on == "pool" else len(self.parts) // 2

    def views(self, tables: Sequence[TokenTable], *, seed: int) -> dict[str, TokenTable]:
        """Evidence by view: `shadow/0` and so on of shadows that never saw the record, `shadow_in/0` of those that did.

        Args:
            tables: What each shadow said of all audited records.
            seed: Of who speaks for a record that neither of a pair has seen.
        """
        if self.trained_on == "pool":
            return {f"shadow/{number}": table for number, table in enumerate(tables)}
        rng = np.random.default_rng([seed, _EITHER])
        found: dict[str, TokenTable] = {}
        for pair in range(len(tables) // 2):
            first, second = 2 * pair, 2 * pair + 1
            either = rng.integers(0, 2, self.seen.shape[1])
            which = np.where(self.seen[first], 1, np.where(self.seen[second], 0, either))
            both = (tables[first], tables[second])
            found[f"shadow/{pair}"] = chosen_rows(both, which)
            if self.trained_on == "audited":  # one of each pair has seen a record, whichever side it is on
                found[f"shadow_in/{pair}"] = chosen_rows(both, 1 - which)
        return found


def requested_halves(spec: AuditSpec, sides: Sides) -> Halves:
    """The records of the shadow models asked for.

    Raises:
        DataError: Records of the pool cannot be read, are audited or in too few documents.
    """
    trained_on, pool = _pool(spec, sides)
    parts = _halves(pool, spec)
    audited = [record.id for record in sides.records]
    seen = np.zeros((spec.shadow, len(audited)), dtype=bool)
    for number, part in enumerate(parts):
        own = {record.id for record in part.records}
        seen[number] = [name in own for name in audited]
    seeds = [spec.seed + _SEED_STEP * (number + 1) for number in range(spec.shadow)]
    return Halves(parts, seeds, seen, pool, trained_on)


def _pool(spec: AuditSpec, sides: Sides) -> tuple[TrainedOn, RecordSet]:
    if spec.shadow_on == "audited":
        return "audited", replace(
            sides.members,
            records=tuple(sides.records),
            files=(*sides.members.files, *sides.nonmembers.files),
            n_read=sides.members.n_read + sides.nonmembers.n_read,
            n_bad=sides.members.n_bad + sides.nonmembers.n_bad,
            n_duplicates=sides.members.n_duplicates + sides.nonmembers.n_duplicates,
        )
    if spec.pool:
        return "pool", disjoint_data(spec, spec.pool, sides, flag="--pool")
    return "nonmembers", sides.nonmembers


def _halves(pool: RecordSet, spec: AuditSpec) -> list[RecordSet]:
    """What each shadow is trained on; two neighbours share the pool between them, document by document."""
    n_first = len(pool.records) // 2
    halves: list[RecordSet] = []
    for pair in range(-(-spec.shadow // 2)):
        seed = int(np.random.SeedSequence([spec.seed, _HALVES, pair]).generate_state(1)[0])
        sides = split_records(pool.records, [n_first, len(pool.records) - n_first], seed=seed)
        if min(map(len, sides)) == 0:
            raise DataError(
                f"{len(pool.records)} {'records of --pool' if spec.pool else 'audited records'} in too few documents "
                "cannot be shared between two shadows. Give more documents with --pool."
            )
        halves += [replace(pool, records=tuple(side)) for side in sides]
    return halves[: spec.shadow]


def chosen_rows(tables: tuple[TokenTable, TokenTable], which: IntArray) -> TokenTable:
    """Each record's row from the first table (0) or the second (1); both hold the same tokens."""
    first, second = tables
    of_token = np.repeat(which, first.n_tokens).astype(bool)
    return replace(
        first,
        columns={name: np.where(of_token, second.columns[name], column) for name, column in first.columns.items()},
        log_sum_exps={
            decoding: np.where(of_token, second.log_sum_exps[decoding], column)
            for decoding, column in first.log_sum_exps.items()
        },
        status=[tables[i].status[row] for row, i in enumerate(which)],
    )
