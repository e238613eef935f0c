"""Records into sides that differ by chance alone, and duplicates planted among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from loraudit.types import Record

_REPEATS = 1


def split_records(records: Sequence[Record], sizes: Sequence[int], *, seed: int) -> list[list[Record]]:
    """Sides of about these sizes, drawn at random; the records of one document stay together.

    Whole documents go, in random order, to the side that is furthest from its size. Records beyond the sum of
    the sizes are left out.

    Args:
        records: To be split.
        sizes: Records wanted on each side.
        seed: Of the order.

    >>> [len(side) for side in split_records([Record(str(i), "f", i) for i in range(10)], [2, 4], seed=0)]
    [2, 4]
    """
    documents: dict[str, list[Record]] = {}
    for position, record in enumerate(records):
        documents.setdefault(f"alone {position}" if record.group is None else f"group {record.group}", []).append(
            record
        )
    names = list(documents)
    sides: list[list[Record]] = [[] for _ in sizes]
    for index in np.random.default_rng(seed).permutation(len(names)):
        missing = [(size - len(side)) / max(size, 1) for side, size in zip(sides, sizes, strict=True)]
        neediest = int(np.argmax(missing))
        if missing[neediest] <= 0:
            break
        sides[neediest].extend(documents[names[index]])
    return [sorted(side, key=lambda record: (record.source, record.line)) for side in sides]


def planted_copies(
    records: Sequence[Record], repeats: Sequence[int], found: Mapping[str, int], *, seed: int
) -> dict[str, int]:
    """How often each record is trained on in an epoch.

    Args:
        records: The training records.
        repeats: Each of these numbers goes to an equal share of them, at random; empty plants nothing.
        found: Copies that stand in the files already, by record id; multiplied with the planted ones.
        seed: Of the shares.
    """
    planted = np.ones(len(records), dtype=np.int64)
    if repeats:
        order = np.random.default_rng([seed, _REPEATS]).permutation(len(records))
        planted[order] = np.resize(np.asarray(repeats), len(records))
    return {record.id: int(n) * found.get(record.id, 1) for record, n in zip(records, planted, strict=True)}
