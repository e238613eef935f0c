"""The content of `scores.parquet` as arrays: all that the figures of a result rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from loraudit.types import BoolArray, FloatArray, IntArray

BLIND = "blind."
CONTROL = "control."
OVERLAP = "overlap."
USUAL_SHARE = b"usual_share"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What the figures rest on: the content of `scores.parquet`, as arrays.

    Attributes:
        ids: [N] shown ids.
        is_member: [N].
        groups: [N] document of each record as a number, or None.
        subgroups: [N] value of the user's column, or None.
        n_tokens: [N].
        n_copies: [N].
        scores: [N] per attack, NaN = undefined.
        blind: [N] per blind classifier.
        controls: [N] per control.
        has_near_duplicate: [N].
        ngram_share: [N].
        usual_share: See `validity.Overlap`.
    """

    ids: list[str]
    is_member: BoolArray
    groups: IntArray | None
    subgroups: Sequence[str] | None
    n_tokens: IntArray
    n_copies: IntArray
    scores: Mapping[str, FloatArray]
    blind: Mapping[str, FloatArray]
    controls: Mapping[str, FloatArray]
    has_near_duplicate: BoolArray
    ngram_share: FloatArray
    usual_share: float

    @classmethod
    def of(cls, table: pa.Table, attacks: Sequence[str]) -> Columns:
        """The columns of a run whose attacks have these names."""

        def numbers(name: str) -> FloatArray:
            return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)

        def with_prefix(prefix: str) -> dict[str, FloatArray]:
            names = [name for name in table.column_names if name.startswith(prefix)]
            return {name.removeprefix(prefix): numbers(name) for name in names}

        groups = table.column("group").to_pylist()
        subgroups = table.column("subgroup").to_pylist()
        metadata = table.schema.metadata or {}
        return cls(
            table.column("id").to_pylist(),
            table.column("is_member").to_numpy(zero_copy_only=False).astype(bool),
            group_numbers(groups),
            None if all(value is None for value in subgroups) else subgroups,
            table.column("n_tokens").to_numpy(zero_copy_only=False),
            table.column("n_copies").to_numpy(zero_copy_only=False),
            {name: numbers(name) for name in attacks},
            with_prefix(BLIND),
            with_prefix(CONTROL),
            numbers(f"{OVERLAP}has_near_duplicate").astype(bool),
            numbers(f"{OVERLAP}ngram_share"),
            float(metadata.get(USUAL_SHARE, b"nan")),
        )

    def sides(self, values: FloatArray) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
        """Defined scores of members and of non-members, and their documents as arguments of the statistics."""
        is_defined = ~np.isnan(values)
        members, nonmembers = is_defined & self.is_member, is_defined & ~self.is_member
        of_sides = (None, None) if self.groups is None else (self.groups[members], self.groups[nonmembers])
        return values[members], values[nonmembers], {"member_groups": of_sides[0], "nonmember_groups": of_sides[1]}


def group_numbers(names: Sequence[str | None]) -> IntArray | None:
    """Document of each record as a number; a record without a name stands alone; None where none has one."""
    if all(name is None for name in names):
        return None
    keys = [("alone", str(i)) if name is None else ("group", name) for i, name in enumerate(names)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])
