"""What is scored together and what is given to a worker: records by their places, never by their content.

Records are cut into blocks, which are what goes through the model together, and whole blocks into units, which are
what a worker is given and what one part holds. Blocks do not depend on how large units are, so neither do numbers.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loraudit.types import IntArray

BLOCK_RECORDS = 1024
BLOCK_BYTES = 4 * 2**20
MOST_UNITS = 10_000
DIGEST_BYTES = 16


class Segment(NamedTuple):
    """Rows of one file that stand one after another.

    Attributes:
        file: Its number among the input files.
        offset: Where the first row begins, as of `Place`.
        line: Of that row.
        n_rows: How many, unreadable ones included.
    """

    file: int
    offset: int
    line: int
    n_rows: int


class Block(NamedTuple):
    """Records that go through the model together.

    Attributes:
        segments: Where they stand, in order.
        n_records: Readable ones.
        digest: Of their contents.
    """

    segments: tuple[Segment, ...]
    n_records: int
    digest: bytes


class Unit(NamedTuple):
    """What a worker is given: the records of one part.

    Attributes:
        number: From 0.
        blocks: In order.
    """

    number: int
    blocks: tuple[Block, ...]

    @property
    def n_records(self) -> int:
        """Rows of its part."""
        return sum(block.n_records for block in self.blocks)

    @property
    def digest(self) -> str:
        """Of the contents of its records, in order."""
        return hashlib.sha256(b"".join(block.digest for block in self.blocks)).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Where everything is; 64 bytes for every thousand records.

    Attributes:
        files: Path, sha256 and rows of each file.
        segments: [S, 4] as of `Segment`, in order.
        starts: [B + 1] first segment of each block.
        n_records: [B] of each block.
        digests: [B, 16] of each block.
        n_read: Rows seen, bad ones included.
        n_bad: Rows that cannot be used.
    """

    files: tuple[dict[str, Any], ...]
    segments: IntArray
    starts: IntArray
    n_records: IntArray
    digests: NDArray[np.uint8]
    n_read: int
    n_bad: int

    @property
    def n_blocks(self) -> int:
        """How many."""
        return len(self.n_records)

    def blocks_per_unit(self, records_per_unit: int | None) -> list[slice]:
        """The blocks of each unit.

        Args:
            records_per_unit: At least so many in every unit but the last; by default a unit is one block, or as many
                as keep the units at ten thousand.
        """
        if records_per_unit is None:
            step = max(1, -(-self.n_blocks // MOST_UNITS))
            return [slice(first, min(first + step, self.n_blocks)) for first in range(0, self.n_blocks, step)]
        cuts, held = [0], 0
        for block, count in enumerate(self.n_records.tolist()):
            held += count
            if held >= records_per_unit:
                cuts.append(block + 1)
                held = 0
        if cuts[-1] != self.n_blocks:
            cuts.append(self.n_blocks)
        return [slice(first, end) for first, end in itertools.pairwise(cuts)]

    def unit(self, number: int, blocks: slice) -> Unit:
        """One unit, made when it is needed."""
        made: list[Block] = []
        for block in range(blocks.start, blocks.stop):
            rows = self.segments[self.starts[block] : self.starts[block + 1]].tolist()
            segments = tuple(Segment(*row) for row in rows)
            made.append(Block(segments, int(self.n_records[block]), self.digests[block].tobytes()))
        return Unit(number, tuple(made))
