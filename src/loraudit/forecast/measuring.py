"""The one pass over the base, for every draw of its head: kernels of the whole grid, and how linear it is."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.capture import Stepper, kernel_parts, plan_kernels
from loraudit.capture.parameters import Counted, counted_parameters
from loraudit.execution import Progress, StopRequest
from loraudit.forecast.bases import Base, bases
from loraudit.forecast.grid import kinds_of
from loraudit.forecast.keeping import Facts, KeptHeads, MeasuredHead
from loraudit.forecast.preparation import Prepared
from loraudit.forecast.shapes import Start, Widths
from loraudit.spec import ForecastSpec, LinearityCheck, TargetSet
from loraudit.theory import KernelParts, linearisation_error, predicted_change
from loraudit.types import FloatArray, IntArray

BATCH_SIZE = 16
CHECKED_RECORDS = 64
STEP_SHARES = (0.1, 1.0)
"""Lengths of the steps that are checked, in units of 1 / the largest eigenvalue: at 1 training moves the strongest
direction as far as it ever has to."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the base says.

    Attributes:
        values: [heads, m] f.
        kernels: By method and head, [starts, m, m]: one for each draw of A that goes with the head.
        errors: By method, Monte-Carlo error over draws of A, mean over heads; None without draws.
        linearity: By method.
        widths: Of the maps that LoRA adapts, by set of targets.
        counts: Parameters: all, head, biases, head_biases.
        n_passes: Over the records, over all heads.
    """

    values: FloatArray
    kernels: Mapping[str, Sequence[FloatArray]]
    errors: Mapping[str, float | None]
    linearity: Mapping[str, list[LinearityCheck]]
    widths: Mapping[TargetSet, Widths]
    counts: Mapping[str, int]
    n_passes: int

    @property
    def n_heads(self) -> int:
        """Draws of the head."""
        return len(self.values)

    def starts(self, name: str) -> list[Start]:
        """From where the method would train: each draw of A with the head it goes with."""
        return [
            Start(head, self.values[head], kernel)
            for head, kernels in enumerate(self.kernels[name])
            for kernel in kernels
        ]


def measure(
    spec: ForecastSpec, prepared: Prepared, kept: KeptHeads, progress: Progress, stop: StopRequest | None
) -> Measured:
    """Kernels of every method, and the one-step check of each with the first head.

    Args:
        spec: The request.
        prepared: Rows, grid, base.
        kept: Heads that an earlier call of the same forecast has measured, and where this one keeps its own.
        progress: Told how far it is.
        stop: Asked between batches.

    Raises:
        LorauditError: The base cannot be loaded or measured, or a head cannot be kept.
        Interrupted: A stop was asked for.
    """
    heads: list[MeasuredHead] = []
    for k, base in enumerate(
        bases(prepared.source, prepared.data, prepared.device, n_heads=spec.heads, seed=spec.seed)
    ):
        head = kept.read(k)
        if head is None:
            draws = draws_beside(k, spec.heads if base.is_random else 1, spec.draws)
            head = _measured_head(spec, base, prepared, draws, heads[0].facts if heads else None, progress, stop)
            kept.write(k, head)
            gc.collect()
        heads.append(head)
    facts = heads[0].facts
    errors = {one.name: [e for head in heads if (e := head.errors[one.name]) is not None] for one in prepared.grid}
    return Measured(
        np.stack([head.values for head in heads]),
        {one.name: [head.kernels[one.name] for head in heads] for one in prepared.grid},
        {name: float(np.mean(own)) if own else None for name, own in errors.items()},
        facts.linearity,
        facts.widths,
        facts.counts,
        facts.n_passes * len(heads),
    )


def _measured_head(
    spec: ForecastSpec,
    base: Base,
    prepared: Prepared,
    draws: Sequence[int],
    facts: Facts | None,
    progress: Progress,
    stop: StopRequest | None,
) -> MeasuredHead:
    """What the base says with this head; the first one measures `facts` too."""
    parts = _parts(spec, base, prepared, progress, stop)
    if facts is None:
        counted = counted_parameters(base.module, base.head)
        progress.say("Checking one step of every method")
        facts = Facts(
            linearity=_linearity(spec, base, parts, prepared, stop),
            widths={targets: _widths(counted, targets) for targets in spec.targets},
            counts=_counts(counted),
            n_passes=_n_passes(spec, base, prepared.probe.rows),
        )
    return MeasuredHead(
        parts.values,
        {one.name: np.stack(list(one.kernels(parts, draws))) for one in prepared.grid},
        {one.name: one.kernel_error(parts) for one in prepared.grid},
        facts,
    )


def draws_beside(head: int, n_heads: int, n_draws: int) -> list[int]:
    """Draws of A that go with one draw of the head, so that each of either is in at least one start.

    >>> [draws_beside(k, 3, 4) for k in range(3)]
    [[0, 3], [1], [2]]
    >>> [draws_beside(k, 3, 2) for k in range(3)]
    [[0], [1], [0]]
    """
    return [start % n_draws for start in range(max(n_heads, n_draws)) if start % n_heads == head]


def memory_bytes(spec: ForecastSpec) -> int:
    """What the kernels of one head may take besides what comes out."""
    return int(spec.memory * 2**30)


def _parts(
    spec: ForecastSpec, base: Base, prepared: Prepared, progress: Progress, stop: StopRequest | None
) -> KernelParts:
    return kernel_parts(
        base.module,
        prepared.probe.rows,
        prepared.functional(),
        device=prepared.device,
        ranks=spec.ranks if "lora" in spec.methods else (1,),
        family=spec.family,
        draws=spec.draws,
        seed=spec.seed,
        kinds=kinds_adapted(spec, base),
        batch_size=BATCH_SIZE,
        memory_bytes=memory_bytes(spec),
        head=base.head,
        progress=progress,
        stop=stop,
    )


def _n_passes(spec: ForecastSpec, base: Base, rows: Sequence[IntArray]) -> int:
    plan = plan_kernels(
        base.module,
        [len(ids) for ids in rows],
        ranks=spec.ranks,
        draws=spec.draws,
        kinds=kinds_adapted(spec, base),
        memory_bytes=memory_bytes(spec),
        head=base.head,
    )
    return math.ceil(plan.n_passes)


def kinds_adapted(spec: ForecastSpec, base: Base) -> list[str]:
    """Kinds that any method of the grid adapts."""
    if "lora" not in spec.methods:
        return []
    maps = {one.kind for one in counted_parameters(base.module, base.head) if one.is_map}
    return sorted({kind for targets in spec.targets for kind in kinds_of(targets, maps)})


def _widths(counted: Sequence[Counted], targets: TargetSet) -> Widths:
    maps = [one for one in counted if one.is_map and kinds_of(targets, [one.kind])]
    shapes = [one.uses[0].widths for one in maps]
    return Widths([n for _, n in shapes], [k for k, _ in shapes])


def _counts(counted: Sequence[Counted]) -> dict[str, int]:
    def total(chosen: Sequence[Counted]) -> int:
        return sum(one.parameter.numel() for one in chosen)

    biases = [one for one in counted if one.part == "biases"]
    return {
        "all": total(counted),
        "head": total([one for one in counted if one.is_head]),
        "biases": total(biases),
        "head_biases": total([one for one in biases if one.is_head]),
    }


def _linearity(
    spec: ForecastSpec, base: Base, parts: KernelParts, prepared: Prepared, stop: StopRequest | None
) -> dict[str, list[LinearityCheck]]:
    """Real steps beside predicted ones, on training records."""
    fold = prepared.probe.clean
    chosen = np.unique(fold.rows, return_index=True)[1][:CHECKED_RECORDS]
    places, signs = fold.rows[chosen], fold.signs[chosen]
    before = parts.values[places]
    residuals = signs - before
    rows = [prepared.probe.rows[i] for i in places]
    stepper = Stepper(
        base.module,
        rows,
        prepared.functional(places),
        residuals,
        head=base.head,
        device=prepared.device,
        batch_size=BATCH_SIZE,
    )
    found: dict[str, list[LinearityCheck]] = {}
    for one in prepared.grid:
        found[one.name] = []
        if stepper.is_exact(one):
            continue
        kernel = one.kernel(parts, draw=0)[np.ix_(places, places)]
        largest = float(np.linalg.eigvalsh(kernel)[-1])
        for share in STEP_SHARES if largest > 0 else ():
            if stop:
                stop.check()
            step = share / largest
            after = stepper.values_after(one, step, family=spec.family, seed=spec.seed)
            predicted = predicted_change(kernel, residuals, learning_rate=step, is_mean=False)
            found[one.name].append(_check(spec, share, before, after, predicted, fold.groups[chosen]))
    return found


def _check(
    spec: ForecastSpec, share: float, before: FloatArray, after: FloatArray, predicted: FloatArray, groups: IntArray
) -> LinearityCheck:
    found = linearisation_error(before, after, predicted, confidence=spec.confidence, groups=groups)
    value, lower, upper = (None if math.isnan(one) else one for one in (found.value, *found.interval))
    return LinearityCheck(step=share, relative_error=value, lower=lower, upper=upper, n=found.n)
