"""Passes over probe records that fit into a stated memory: what is measured together, and how often records go through.

Parameters are cut into chunks that are measured in one pass each. Where one chunk is too large for all records, these
are cut into blocks as well, and every pair of blocks is brought together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from loraudit.capture.factors import Held, Recording, Store, recording
from loraudit.capture.functionals import Functional
from loraudit.capture.grams import held_gram
from loraudit.capture.parameters import Counted, Use, bundles
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.models.live import undisturbed
from loraudit.scoring.classifying import PaddedBatch, in_batches
from loraudit.types import FloatArray, IntArray

_TOLERANCE = {True: 1e-3, False: 0.1}
"""How far a captured gradient's squared length may lie from autograd's; in full precision, and in half."""


class Chunk(NamedTuple):
    """What is measured together.

    Attributes:
        parameters: Of these layers.
        bounds: Where blocks of records begin, and where the last ends.
        held_bytes: Most that is held of two blocks at a time, or of the one.
    """

    parameters: tuple[Counted, ...]
    bounds: tuple[int, ...]
    held_bytes: int

    @property
    def n_passes(self) -> float:
        """How often every record goes through the model, as a mean."""
        n_blocks = len(self.bounds) - 1
        return (n_blocks + 1) / 2


class Meeting(NamedTuple):
    """Two blocks of records, to be brought together.

    Attributes:
        parameters: The chunk's.
        rows: Records of the first block.
        columns: Records of the second; the same where the block meets itself.
        held: Of each parameter, the first block's gradients.
        others: The second's; the same object where the block meets itself.
    """

    parameters: tuple[Counted, ...]
    rows: slice
    columns: slice
    held: Seq[Held]
    others: Seq[Held]


def plan_chunks(
    parameters: Seq[Counted], lengths: Seq[int], *, memory_bytes: int, is_read_everywhere: bool = False
) -> list[Chunk]:
    """Chunks of which half the memory holds each; the other half is for products.

    Every layer is taken to see every token, and a head one position of each record unless f reads it everywhere; less
    is held where f does not depend on some.

    Args:
        parameters: To be measured.
        lengths: [m] tokens of each record.
        memory_bytes: For what is captured and multiplied, besides the model and its pass over one batch.
        is_read_everywhere: Whether f depends on the head's output at every position, as a mean over tokens does.

    Raises:
        ConfigError: Not even two records of a layer fit.
    """
    budget, n_tokens = memory_bytes // 2, sum(lengths)
    n_read = n_tokens if is_read_everywhere else len(lengths)
    chunks: list[Chunk] = []
    waiting: list[Counted] = []
    size = 0
    for bundle in bundles(parameters):
        own = sum(_held_bytes(one, n_tokens, len(lengths), n_read) for one in bundle)
        if waiting and size + own > budget:
            chunks.append(_chunk(waiting, size, lengths, budget))
            waiting, size = [], 0
        waiting, size = [*waiting, *bundle], size + own
    return [*chunks, _chunk(waiting, size, lengths, budget)] if waiting else chunks


def _held_bytes(one: Counted, n_tokens: int, n_records: int, n_read: int) -> int:
    total = 0
    for use in one.uses:
        if use.role == "outer":
            total += (4 * sum(use.widths) + 8) * (n_read if use.is_head else n_tokens)
        elif use.role == "lookup":
            total += (4 * use.widths[0] + 16) * n_tokens
        else:
            total += 4 * use.widths[0] * n_records
    return total


def _chunk(parameters: Seq[Counted], size: int, lengths: Seq[int], budget: int) -> Chunk:
    if size <= budget:
        return Chunk(tuple(parameters), (0, len(lengths)), size)
    # Of two blocks at a time each may take half; blocks of equal tokens keep to that but for a record's length.
    longest = max(lengths) / sum(lengths)
    share = budget / (2 * size) - longest
    if share <= 0:
        raise ConfigError(
            f"Memory of {2 * budget:,} bytes does not hold layer '{parameters[0].name}' of two records: it takes up to "
            f"{int(8 * size * longest):,}. Expected at least that much. Give more memory or shorter records."
        )
    ends = np.cumsum(lengths) / sum(lengths)
    n_blocks = int(np.ceil(1 / share))
    cuts = np.searchsorted(ends, np.arange(1, n_blocks) / n_blocks) + 1
    bounds = tuple(sorted({0, *(int(cut) for cut in cuts if cut < len(lengths)), len(lengths)}))
    return Chunk(tuple(parameters), bounds, budget)


@dataclass
class Passes:
    """Runs a model over probe records, chunk by chunk.

    Attributes:
        module: Left as it was.
        rows: [m] of [L] token ids.
        functional: f.
        device: Where the module is.
        batch_size: Records in one pass.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.
        values: [m] f of each record, once a chunk is through.
    """

    module: Any
    rows: Seq[IntArray]
    functional: Functional
    device: str
    batch_size: int = 8
    progress: Progress = field(default_factory=Silent)
    stop: StopRequest | None = None
    values: FloatArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        empty = [i for i, row in enumerate(self.rows) if not len(row)]
        if empty or not len(self.rows):
            which = f"Records without a token: {', '.join(map(str, empty))}" if empty else "There are no probe records"
            raise DataError(f"{which}. Expected at least one token in each, and one record. Leave out what is empty.")
        self.values = np.full(len(self.rows), np.nan)

    @contextlib.contextmanager
    def meetings(self, chunks: Seq[Chunk]) -> Iterator[Iterator[Meeting]]:
        """Within the context: every pair of blocks of every chunk, each block with itself and with those after it.

        Raises (when iterated):
            ModelError: Captured gradients are not those that autograd gives, f is not one finite number per record,
                or a record depends on those beside it.
            EnvironmentFault: A single record does not fit into memory.
            Interrupted: A stop was asked for.
        """
        total = sum(len(row) for row in self.rows)
        self.progress.stage("Gradients of base", int(total * sum(chunk.n_passes for chunk in chunks)), "tokens")
        with undisturbed(self.module):
            self.module.requires_grad_(False)
            with contextlib.closing(self._meetings(chunks)) as meetings:
                yield meetings

    def _meetings(self, chunks: Seq[Chunk]) -> Generator[Meeting, None, None]:
        for chunk in chunks:
            with recording(self.module, chunk.parameters) as recorded:
                self._prove(chunk, recorded)
                blocks = [slice(low, high) for low, high in pairwise(chunk.bounds)]
                for place, block in enumerate(blocks):
                    held = self._gathered(chunk, block, recorded)
                    yield Meeting(chunk.parameters, block, block, held, held)
                    for other in blocks[place + 1 :]:
                        beside = self._gathered(chunk, other, recorded)
                        yield Meeting(chunk.parameters, block, other, held, beside)

    def _gathered(self, chunk: Chunk, block: slice, recorded: Recording) -> list[Held]:
        rows = self.rows[block]
        store = Store(chunk.parameters, len(rows))

        def read(batch: PaddedBatch) -> torch.Tensor:
            if self.stop:
                self.stop.check()
            whole = batch._replace(members=[block.start + place for place in batch.members])
            values = self._values_of(whole)
            outputs = [call.output for call in recorded.calls]
            gradients = torch.autograd.grad(values.sum(), outputs, allow_unused=True)
            store.add(recorded.calls, gradients, batch.members, batch.lengths)
            self.progress.advance(int(batch.lengths.sum()))
            return values

        with torch.enable_grad():
            found = in_batches(self.module, rows, read, device=self.device, batch_size=self.batch_size)
        wrong = np.flatnonzero(~np.isfinite(found))
        if len(wrong):
            raise ModelError(
                f"What the model says of record {wrong[0] + block.start} is not a finite number. Expected one for each "
                "probe record. Use --precision fp32, or leave that record out."
            )
        self.values[block] = found
        return store.finish()

    def _values_of(self, batch: PaddedBatch) -> torch.Tensor:
        values = self.functional(batch)
        if values.shape != (len(batch.members),):
            raise ModelError(
                f"The functional gives the shape {list(values.shape)} for {len(batch.members)} records. Expected one "
                "number for each. Give another functional."
            )
        return values

    def _prove(self, chunk: Chunk, recorded: Recording) -> None:
        """Compare what is captured of the shortest record with what autograd says of the parameters themselves."""
        place = min(range(len(self.rows)), key=lambda i: len(self.rows[i]))
        counted = [one.exact or one for one in chunk.parameters]
        parameters = [one.parameter for one in counted]
        squares: list[float] = []
        store = Store(counted, 1)

        def read(batch: PaddedBatch) -> torch.Tensor:
            batch = batch._replace(members=[place])
            value = self._values_of(batch).sum()
            outputs = [call.output for call in recorded.calls]
            found = torch.autograd.grad(value, [*outputs, *parameters], allow_unused=True)
            store.add(recorded.calls, found[: len(outputs)], [0], batch.lengths)
            squares.extend(
                0.0 if one is None else float(one.float().square().sum(dtype=torch.float64))
                for one in found[len(outputs) :]
            )
            return value[None]

        for parameter in parameters:
            parameter.requires_grad_(True)
        try:
            with torch.enable_grad():
                in_batches(self.module, [self.rows[place]], read, device=self.device, batch_size=1)
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
        captured = [float(held_gram(one, one, workspace=1 << 24)[0, 0]) for one in store.finish()]
        _refuse_gap(counted, captured, squares, is_exact=_is_exact(self.module))


def _refuse_gap(parameters: Seq[Counted], captured: Seq[float], squares: Seq[float], *, is_exact: bool) -> None:
    tolerance, least = _TOLERANCE[is_exact], 1e-9 * sum(squares)
    wrong = [
        f"'{one.name}' ({_role(one.uses[0])}: {ours:.6g} instead of {theirs:.6g})"
        for one, ours, theirs in zip(parameters, captured, squares, strict=True)
        if not abs(ours - theirs) <= tolerance * theirs + least
    ]
    if wrong:
        raise ModelError(
            "The squared length of the gradient that was captured is not what autograd gives, so these layers do more "
            f"than their kind: {'; '.join(wrong)}. Expected plain linear maps, embeddings and norms. Use another base."
        )


def _role(use: Use) -> str:
    return "bias" if use.role == "shift" else "weight"


def _is_exact(module: Any) -> bool:
    return {one.dtype for one in module.parameters() if one.is_floating_point()} == {torch.float32}
