"""The passes over the base: kernels between all outputs, for every method, and how linear its tuning is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loraudit.capture import Functional, KernelPlan, Stepper, kernel_parts, mean_log_prob, plan_kernels
from loraudit.execution import Progress, StopRequest
from loraudit.influence.methods import Kernelled
from loraudit.influence.preparation import Prepared
from loraudit.influence.probes import Probe
from loraudit.spec import InfluenceSpec, LinearityCheck
from loraudit.theory import Family, KernelParts, full_kernel, linearisation_error
from loraudit.types import FloatArray, IntArray

BATCH_SIZE = 16
CHECKED_RECORDS = 64
STEP_SHARES = (0.1, 1.0)
"""Lengths of the steps that are checked: at 1 the kernel says that the step gives non-members the whole of the measured
gain of validation records."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the base says.

    Attributes:
        values: [outputs] f, nats per token.
        kernels: By method, [draws, outputs, outputs]: of each draw of A; a single one of methods without draws.
        errors: By method, standard error of the mean kernel over draws of A, relative to it; None without draws.
        full_self: [outputs] K_ii of full tuning.
        linearity: By method.
        kinds: Of linear maps outside the head.
        n_parameters: Of the base.
        n_passes: Over the rows.
    """

    values: FloatArray
    kernels: Mapping[str, FloatArray]
    errors: Mapping[str, float | None]
    full_self: FloatArray
    linearity: Mapping[str, list[LinearityCheck]]
    kinds: frozenset[str]
    n_parameters: int
    n_passes: int


def measure(spec: InfluenceSpec, prepared: Prepared, progress: Progress, stop: StopRequest | None) -> Measured:
    """Kernels of every method, and the one-step check of each.

    Args:
        spec: The request.
        prepared: Rows, methods, base.
        progress: Told how far it is.
        stop: Asked between batches.

    Raises:
        LorauditError: The base cannot be measured.
        Interrupted: A stop was asked for.
    """
    shares = prepared.probe.shares
    n_parameters = sum(one.numel() for one in prepared.module.parameters())
    kernels: dict[str, FloatArray] = {}
    errors: dict[str, float | None] = {}
    values, full_self, kinds = np.empty(0), np.empty(0), frozenset[str]()
    for place, family in enumerate(families_of(prepared.methods)):
        parts = _parts(spec, prepared, family, progress, stop)
        if place == 0:
            kinds = frozenset(parts.lora)
            values, full_self = shares @ parts.values, np.diag(shares @ full_kernel(parts) @ shares.T).copy()
        for one in prepared.methods:
            if (one.method == "lora" and one.family != family) or one.name in kernels:
                continue
            kernels[one.name] = np.stack([shares @ kernel @ shares.T for kernel in one.kernels(parts)])
            errors[one.name] = one.kernel_error(parts)
    n_passes = math.ceil(kernel_plan(spec, prepared).n_passes) * len(families_of(prepared.methods))
    progress.say("Checking one step of every method")
    linearity = _linearity(spec, prepared, values, kernels, stop)
    return Measured(
        values,
        {one.name: kernels[one.name] for one in prepared.methods},
        errors,
        full_self,
        linearity,
        kinds,
        n_parameters,
        n_passes,
    )


def families_of(methods: list[Kernelled]) -> list[Family]:
    """Families of A that LoRAs start with; each takes passes of its own, and one is needed in any case."""
    return list(dict.fromkeys(one.family for one in methods if one.method == "lora")) or ["uniform"]


def kernel_plan(spec: InfluenceSpec, prepared: Prepared) -> KernelPlan:
    """Passes and memory for one family of A."""
    ranks, kinds = _asked(prepared)
    return plan_kernels(
        prepared.module,
        [len(ids) for ids in prepared.probe.rows],
        ranks=ranks,
        draws=spec.draws,
        kinds=kinds,
        memory_bytes=_memory_bytes(spec),
        is_read_everywhere=True,
    )


def _asked(prepared: Prepared) -> tuple[list[int], list[str] | None]:
    """Ranks, and kinds of maps: all of them where any LoRA is there, since their sums are cheap."""
    ranks = sorted({one.rank for one in prepared.methods if one.method == "lora"})
    return ranks or [1], None if ranks else []


def _memory_bytes(spec: InfluenceSpec) -> int:
    return int(spec.memory * 2**30)


def _parts(
    spec: InfluenceSpec, prepared: Prepared, family: Family, progress: Progress, stop: StopRequest | None
) -> KernelParts:
    ranks, kinds = _asked(prepared)
    return kernel_parts(
        prepared.module,
        prepared.probe.rows,
        mean_log_prob(prepared.probe.rows, prepared.probe.masks),
        device=prepared.device,
        ranks=ranks,
        family=family,
        draws=spec.draws,
        seed=spec.seed,
        kinds=kinds,
        batch_size=BATCH_SIZE,
        memory_bytes=_memory_bytes(spec),
        is_read_everywhere=True,
        progress=progress,
        stop=stop,
    )


def training_weights(prepared: Prepared) -> FloatArray:
    """[members] what each probed member counts in the training loss: its tokens times its copies, 1 on average."""
    places = prepared.probe.chosen[prepared.probe.members]
    weights = (prepared.n_tokens * prepared.sides.n_copies)[places].astype(np.float64)
    return weights / weights.mean()


# --- one real step ---------------------------------------------------------------------------------------


def _linearity(
    spec: InfluenceSpec,
    prepared: Prepared,
    values: FloatArray,
    kernels: Mapping[str, FloatArray],
    stop: StopRequest | None,
) -> dict[str, list[LinearityCheck]]:
    """Real steps on members beside predicted ones, seen on members and on non-members."""
    probe = prepared.probe
    members, others = probe.members[:CHECKED_RECORDS], probe.nonmembers[:CHECKED_RECORDS]
    outputs = np.concatenate([members, others])
    windows = probe.windows_of(outputs)
    shares = probe.shares[np.ix_(outputs, windows)]
    pushed = np.concatenate([-values[members] * training_weights(prepared)[:CHECKED_RECORDS], np.zeros(len(others))])
    before, tokens = values[outputs], probe.n_tokens[others]
    gain = prepared.contrast.base_validation_loss - prepared.level
    functional = _functional(probe, windows)
    stepper = Stepper(
        prepared.module,
        [probe.rows[i] for i in windows],
        functional,
        pushed @ shares,
        head=None,
        device=prepared.device,
        batch_size=BATCH_SIZE,
    )
    found: dict[str, list[LinearityCheck]] = {one.name: [] for one in prepared.methods}
    for one in prepared.methods:
        first_draw = kernels[one.name][0]  # the one that the step is taken with
        change = first_draw[np.ix_(outputs, members)] @ pushed[: len(members)]
        reached = float(np.average(change[len(members) :], weights=tokens))
        for share in STEP_SHARES if reached > 0 else ():
            if stop:
                stop.check()
            step = share * gain / reached
            after = shares @ stepper.values_after(one, step, family=one.family, seed=spec.seed)
            error = linearisation_error(before, after, step * change, confidence=spec.confidence)
            value, lower, upper = (None if math.isnan(number) else number for number in (error.value, *error.interval))
            found[one.name].append(
                LinearityCheck(step=share, relative_error=value, lower=lower, upper=upper, n=error.n)
            )
    return found


def _functional(probe: Probe, windows: IntArray) -> Functional:
    return mean_log_prob([probe.rows[i] for i in windows], [probe.masks[i] for i in windows])


def refusal(spec: InfluenceSpec, one: Kernelled, measured: Measured) -> str | None:
    """Why nothing is predicted of a method; None where it is."""
    if not measured.kernels[one.name].any():
        return "Its kernel is 0: nothing it trains moves f."
    checks = measured.linearity[one.name]
    if not checks:
        return "A step on members does not raise the fit of non-members, so no step stands for the matched fit."
    for check in checks:
        error = check.relative_error
        if check.step == STEP_SHARES[-1] and error is not None and error > spec.max_linear_error:
            return (
                f"One step that would give non-members the whole measured gain differs from the linear prediction by "
                f"{100 * error:.0f} % (n = {check.n}; limit {100 * spec.max_linear_error:g} %)."
            )
    return None
