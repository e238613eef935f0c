"""Kernels of every tuning method from one pass over a base: the driver.

Layer inputs a and gradients g of layer outputs are captured once per record; the gradient in a weight is Σ_t g_t a_tᵀ,
and LoRA's at B = 0 is that times A, so that no method, rank or draw needs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from loraudit.capture.directions import draw_directions
from loraudit.capture.factors import Outer
from loraudit.capture.functionals import Functional
from loraudit.capture.grams import Gram, held_gram, outer_grams, signed_gram
from loraudit.capture.parameters import Counted, counted_parameters
from loraudit.capture.passes import Meeting, Passes, plan_chunks
from loraudit.errors import ConfigError, unknown_name
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.theory import Family, KernelParts
from loraudit.types import FloatArray, IntArray

MEMORY_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """What measuring takes, known before it begins.

    Attributes:
        n_records: m.
        n_parameters: That count.
        chunks: First and last layer of each chunk, and the number of blocks its records are cut into.
        n_passes: How often every record goes forward and backward through the base.
        held_bytes: Most that is held of captured gradients at a time; half of the memory allowed, at most.
        kernel_bytes: Of the matrices that come out, which the memory allowed does not count.
    """

    n_records: int
    n_parameters: int
    chunks: tuple[tuple[str, str, int], ...]
    n_passes: float
    held_bytes: int
    kernel_bytes: int


def plan_kernels(
    module: Any,
    lengths: Seq[int],
    *,
    ranks: Seq[int],
    draws: int = 4,
    kinds: Collection[str] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    head: Seq[str] | None = None,
) -> KernelPlan:
    """Memory and passes of `kernel_parts`, without a pass; the module may be on the meta device.

    Args:
        module: As for `kernel_parts`, like all the rest.
        lengths: [m] tokens of each record.
        ranks: Of LoRA.
        draws: Of A.
        kinds: That LoRA adapts.
        memory_bytes: Allowed.
        head: Names of the head's modules.

    Raises:
        ConfigError: As `kernel_parts`.
        ModelError: As `kernel_parts`, where the structure alone tells.
    """
    counted = counted_parameters(module, head)
    chunks = plan_chunks(counted, lengths, memory_bytes=memory_bytes)
    adapted = _adapted_kinds(counted, kinds)
    n_plain = len({(one.part, one.kind) for one in counted}) + 1
    n_matrices = n_plain + len(adapted) * draws * len(ranks)
    return KernelPlan(
        len(lengths),
        sum(one.parameter.numel() for one in counted),
        tuple((one.parameters[0].name, one.parameters[-1].name, len(one.bounds) - 1) for one in chunks),
        sum(one.n_passes for one in chunks),
        max(one.held_bytes for one in chunks),
        8 * len(lengths) ** 2 * n_matrices,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be measured of every meeting."""

    ranks: tuple[int, ...]
    draws: int
    family: Family
    seed: int
    kinds: frozenset[str]
    workspace: int
    is_signed: bool = False


class _Sums:
    """The matrices, filled meeting by meeting."""

    def __init__(self, n_records: int, asked: _Asked) -> None:
        self.n_records = n_records
        self.asked = asked
        self.parts: dict[str, dict[str, Gram]] = {"weights": {}, "biases": {}, "others": {}, "lora": {}}
        self.head = np.zeros((n_records, n_records))

    def add(self, meeting: Meeting) -> None:
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


def kernel_parts(
    module: Any,
    rows: Seq[IntArray],
    functional: Functional,
    *,
    device: str,
    ranks: Seq[int],
    family: Family = "gaussian",
    draws: int = 4,
    seed: int = 0,
    kinds: Collection[str] | None = None,
    batch_size: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    head: Seq[str] | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> KernelParts:
    """Gram matrices of single records' gradients in every parameter of a base, and of LoRA's at B = 0.

    Of a model inside PEFT the parameters are the base's, and f is what the model with its adapter says. A weight that
    several layers share is one parameter: its gradients add up before the inner product.

    Args:
        module: Any causal language model or sequence classifier of Hugging Face; left as it was.
        rows: [m] of [L] token ids, none empty.
        functional: f, such as `class_margin()`.
        device: Where the module is.
        ranks: Of LoRA, in any order; every rank comes from the draw of the largest.
        family: Of A's rows.
        draws: Of A.
        seed: Of the draws.
        kinds: That LoRA adapts; None takes all linear maps outside the head. None of them measures no LoRA.
        batch_size: Records in one pass; halved where they do not fit into memory.
        memory_bytes: For captured gradients and their products, besides the model, its pass over one batch and the
            matrices that come out; `plan_kernels` says what that makes.
        head: Names of the head's modules; None takes the output head of a language model, and of a classifier all that
            follows its body.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.

    Raises:
        ConfigError: Ranks, draws, family or kinds cannot be, or the memory allowed does not hold two records.
        DataError: A record is empty.
        ModelError: Gradients of some layers cannot be captured, f is not finite, or records are mixed.
        EnvironmentFault: A single record does not fit into memory.
        Interrupted: A stop was asked for.

    References:
        Jacot et al. 2018, arXiv:1806.07572 (the kernel); Malladi et al. 2023, arXiv:2210.05643 (of fine-tuning).
    """
    passes = Passes(module, rows, functional, device, batch_size, progress or Silent(), stop)
    counted, sums = _measured(
        passes, ranks, draws, family, seed, kinds, memory_bytes=memory_bytes, head=head, is_signed=False
    )
    return KernelParts(
        values=passes.values,
        weights=_symmetric(sums.parts["weights"]),
        biases=_symmetric(sums.parts["biases"]),
        others=_symmetric(sums.parts["others"]),
        head=(sums.head + sums.head.T) / 2,
        lora=_symmetric(sums.parts["lora"]),
        ranks=sums.asked.ranks,
        family=family,
        head_kinds=frozenset(one.kind for one in counted if one.is_head and one.part != "others"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class SignKernels:
    """Kernels of signed gradients: how f_i moves when record j is learnt by the sign of its gradient, as Adam begins.

    No matrix is symmetric.

    Attributes:
        values: [m] f at the base, in logits.
        full: [m, m] ⟨∇f_i, sign ∇f_j⟩ over all parameters.
        head: [m, m] over the head's own.
        lora: By kind, [draws, len(ranks), m, m] over B of adapters with B = 0, A of variance 1 / n and s = 1. For other
            s and c it is to be multiplied by s √c, not by s² c: a sign has no size.
        ranks: Of `lora`, ascending.
    """

    values: FloatArray
    full: FloatArray
    head: FloatArray
    lora: dict[str, Gram]
    ranks: tuple[int, ...]


def sign_kernels(
    module: Any,
    rows: Seq[IntArray],
    functional: Functional,
    *,
    device: str,
    ranks: Seq[int] = (),
    family: Family = "gaussian",
    draws: int = 4,
    seed: int = 0,
    kinds: Collection[str] | None = None,
    batch_size: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    head: Seq[str] | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> SignKernels:
    """⟨∇f_i, sign ∇f_j⟩ of full tuning, head-only tuning and LoRA at B = 0.

    Args:
        module: As for `kernel_parts`, like all the rest.
        rows: Probe records.
        functional: f.
        device: Where the module is.
        ranks: Of LoRA; none measures no LoRA.
        family: Of A's rows.
        draws: Of A.
        seed: Of the draws.
        kinds: That LoRA adapts.
        batch_size: Records in one pass.
        memory_bytes: For captured gradients and their products.
        head: Names of the head's modules.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.

    Raises:
        LorauditError: As `kernel_parts`.

    References:
        Malladi et al. 2023, arXiv:2210.05643.
    """
    passes = Passes(module, rows, functional, device, batch_size, progress or Silent(), stop)
    _, sums = _measured(
        passes,
        ranks,
        draws,
        family,
        seed,
        kinds if ranks else (),
        memory_bytes=memory_bytes,
        head=head,
        is_signed=True,
    )
    full = sum((gram for part in ("weights", "biases", "others") for gram in sums.parts[part].values()), 0 * sums.head)
    return SignKernels(passes.values, full, sums.head, sums.parts["lora"], sums.asked.ranks)


def _measured(
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
) -> tuple[list[Counted], _Sums]:
    if family not in get_args(Family):
        raise unknown_name("family of initialisation", family, get_args(Family))
    counted = counted_parameters(passes.module, head)
    adapted = _adapted_kinds(counted, kinds)
    ordered = tuple(sorted(set(ranks)))
    if adapted and (draws < 1 or not ordered or ordered[0] < 1):
        raise ConfigError(
            f"LoRA of ranks {list(ordered)} in {draws} draws cannot be measured. Expected at least one rank and one "
            "draw, each 1 or more. Give others, or no kinds at all."
        )
    _refuse_high_ranks(counted, adapted, family, ordered)
    chunks = plan_chunks(counted, [len(row) for row in passes.rows], memory_bytes=memory_bytes)
    asked = _Asked(ordered, draws, family, seed, adapted, memory_bytes // 2, is_signed)
    sums = _Sums(len(passes.rows), asked)
    with passes.meetings(chunks) as meetings:
        for meeting in meetings:
            sums.add(meeting)
    return counted, sums


def _adapted_kinds(counted: Seq[Counted], kinds: Collection[str] | None) -> frozenset[str]:
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


def _symmetric(grams: dict[str, Gram]) -> dict[str, Gram]:
    """Without the differences that rounding leaves between two sides."""
    return {kind: np.ascontiguousarray((gram + np.swapaxes(gram, -1, -2)) / 2) for kind, gram in grams.items()}
