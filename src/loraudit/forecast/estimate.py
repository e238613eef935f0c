"""What a forecast would take, before the base runs."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.capture import KernelPlan, plan_kernels
from loraudit.forecast.bases import bases
from loraudit.forecast.measuring import kinds_adapted, memory_bytes
from loraudit.forecast.preparation import prepare
from loraudit.forecast.request import forecast_path
from loraudit.spec import ForecastSpec


@dataclass(frozen=True, slots=True)
class ForecastCost:
    """What a forecast would take.

    Attributes:
        path: Its run folder.
        trained_as: classification or causal_lm.
        n_train: Records that tuning is predicted on.
        n_test: Records it is tested on.
        n_rows: Different texts that go through the base.
        n_tokens: Of them.
        n_methods: Points of the grid.
        n_heads: Draws of the head, each with passes of its own.
        attacks: Name, and dose with the records it poisons.
        kernels: Passes and memory for one head.
        warnings: What was left out.
    """

    path: str
    trained_as: str
    n_train: int
    n_test: int
    n_rows: int
    n_tokens: int
    n_methods: int
    n_heads: int
    attacks: list[tuple[str, list[tuple[float, int]]]]
    kernels: KernelPlan
    warnings: list[str]


def estimate_forecast(spec: ForecastSpec) -> ForecastCost:
    """Check everything that shows before the base runs, and count.

    Raises:
        LorauditError: As `run_forecast`.
    """
    prepared = prepare(spec)
    lengths = [len(ids) for ids in prepared.probe.rows]
    base = next(bases(prepared.source, prepared.data, "cpu", n_heads=1, seed=spec.seed))
    plan = plan_kernels(
        base.module,
        lengths,
        ranks=spec.ranks,
        draws=spec.draws,
        kinds=kinds_adapted(spec, base),
        memory_bytes=memory_bytes(spec),
        head=base.head,
    )
    return ForecastCost(
        path=str(forecast_path(spec)),
        trained_as=prepared.data.task,
        n_train=len(prepared.data.train),
        n_test=len(prepared.data.test),
        n_rows=len(lengths),
        n_tokens=sum(lengths),
        n_methods=len(prepared.grid),
        n_heads=spec.heads if base.is_random else 1,
        attacks=[(plan.name, list(zip(plan.doses, plan.n_poisoned, strict=True))) for plan in prepared.plans],
        kernels=plan,
        warnings=[*prepared.data.warnings, *prepared.probe.warnings],
    )
