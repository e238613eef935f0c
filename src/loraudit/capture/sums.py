"""Inner products of single records' gradients, added up meeting by meeting: what every kernel is made of."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch

from loraudit.capture.directions import draw_directions
from loraudit.capture.factors import Outer
from loraudit.capture.grams import Gram, held_gram, outer_grams, signed_gram
from loraudit.capture.parameters import Counted, counted_parameters
from loraudit.capture.passes import Meeting, Passes, plan_chunks
from loraudit.errors import ConfigError, unknown_name
from loraudit.theory import Family

MEMORY_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured of every meeting."""

    ranks: tuple[int, ...]
    draws: int
    family: Family
    seed: int
    kinds: frozenset[str]
    workspace: int
    is_signed: bool = False


class Sums:
    """The matrices, filled meeting by meeting."""

    def __init__(self, n_records: int, asked: Asked) -> None:
        self.n_records = n_records
        self.asked = asked
        self.parts: dict[str, dict[str, Gram]] = {"weights": {}, "biases": {}, "others": {}, "lora": {}}
        self.head = np.zeros((n_records, n_records))

    def add(self, meeting: Meeting) -> None:
        """Add the products of the records of one meeting."""
        self._add(meeting)
        if self.asked.is_signed and meeting.held is not meeting.others:
            swapped = meeting._replace(rows=meeting.columns, columns=meeting.rows)
            self._add(swapped._replace(held=meeting.others, others=meeting.held))

    def _add(self, meeting: Meeting) -> None:
        asked, square = self.asked, (self.n_records, self.n_records)
        gram = signed_gram if asked.is_signed else held_gram
        for one, held, other in zip(meeting.parameters, meeting.held, meeting.others, strict=True):
            found = gram(held, other, workspace=asked.workspace)
            self._put(self.parts[one.part].setdefault(one.kind, np.zeros(square)), found, meeting)
            if one.is_head:
                is_shared = held.lookup is not None or other.lookup is not None
                own = [replace(side, lookup=None) for side in (held, other)] if is_shared else None
                self._put(self.head, gram(*own, workspace=asked.workspace) if own else found, meeting)
            if one.is_map and one.kind in asked.kinds:
                shape = (asked.draws, len(asked.ranks), *square)
                total = self.parts["lora"].setdefault(one.kind, np.zeros(shape))
                if held.outer and other.outer:
                    self._put(total, self._lora(one, held.outer, other.outer), meeting)

    def _put(self, total: Gram, found: Gram, meeting: Meeting) -> None:
        total[..., meeting.rows, meeting.columns] += found
        if meeting.held is not meeting.others and not self.asked.is_signed:
            total[..., meeting.columns, meeting.rows] += np.swapaxes(found, -1, -2)

    def _lora(self, one: Counted, x: Outer, y: Outer) -> Gram:
        """[draws, len(ranks), b, c] sums over the first rows of A."""
        asked = self.asked
        found: list[Gram] = []
        for draw in range(asked.draws):
            drawn = draw_directions(
                asked.family,
                rank=asked.ranks[-1],
                width=x.right.shape[1],
                name=one.name,
                draw=draw,
                seed=asked.seed,
            )
            rows = torch.from_numpy(drawn).to(x.right.device).T
            ours = replace(x, right=x.right @ rows)
            theirs = ours if y is x else replace(y, right=y.right @ rows)
            grams = outer_grams(ours, theirs, workspace=asked.workspace, bounds=asked.ranks, is_signed=asked.is_signed)
            found.append(np.cumsum(grams, axis=0))
        return np.stack(found)


def measured_sums(
    passes: Passes,
    ranks: Seq[int],
    draws: int,
    family: Family,
    seed: int,
    kinds: Collection[str] | None,
    *,
    memory_bytes: int,
    head: Seq[str] | None,
    is_signed: bool,
    is_read_everywhere: bool = False,
) -> tuple[list[Counted], Sums]:
    """The parameters that count and the matrices over them, from passes over every record.

    Args:
        passes: Over the records.
        ranks: Of LoRA, in any order.
        draws: Of A.
        family: Of A's rows.
        seed: Of the draws.
        kinds: That LoRA adapts; None takes all linear maps outside the head.
        memory_bytes: For captured gradients and their products.
        head: Names of the head's modules.
        is_signed: Whether the second gradient of each product is its sign.
        is_read_everywhere: Whether f depends on the head's output at every position.

    Raises:
        LorauditError: As `kernel_parts`.
    """
    if family not in get_args(Family):
        raise unknown_name("family of initialisation", family, get_args(Family))
    counted = counted_parameters(passes.module, head)
    adapted = adapted_kinds(counted, kinds)
    ordered = tuple(sorted(set(ranks)))
    if adapted and (draws < 1 or not ordered or ordered[0] < 1):
        raise ConfigError(
            f"LoRA of ranks {list(ordered)} in {draws} draws cannot be measured. Expected at least one rank and one "
            "draw, each 1 or more. Give others, or no kinds at all."
        )
    _refuse_high_ranks(counted, adapted, family, ordered)
    lengths = [len(row) for row in passes.rows]
    chunks = plan_chunks(counted, lengths, memory_bytes=memory_bytes, is_read_everywhere=is_read_everywhere)
    asked = Asked(ordered, draws, family, seed, adapted, memory_bytes // 2, is_signed)
    sums = Sums(len(passes.rows), asked)
    with passes.meetings(chunks) as meetings:
        for meeting in meetings:
            sums.add(meeting)
    return counted, sums


def adapted_kinds(counted: Seq[Counted], kinds: Collection[str] | None) -> frozenset[str]:
    """Kinds of maps that LoRA adapts; None takes all.

    Raises:
        ConfigError: There is none of that name.
    """
    known = {one.kind for one in counted if one.is_map}
    for kind in kinds or ():
        if kind not in known:
            raise unknown_name("kind of linear map", kind, known)
    return frozenset(known if kinds is None else kinds)


def _refuse_high_ranks(counted: Seq[Counted], kinds: Collection[str], family: Family, ranks: Seq[int]) -> None:
    """Before the pass that would be in vain."""
    if family == "orthogonal" and ranks:
        for one in counted:
            if one.is_map and one.kind in kinds and ranks[-1] > one.uses[0].widths[1]:
                draw_directions(family, rank=ranks[-1], width=one.uses[0].widths[1], name=one.name, draw=0, seed=0)
