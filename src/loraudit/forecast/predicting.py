"""What every method would make of clean and of poisoned records, compared where all fit the clean ones equally well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from loraudit.errors import ConfigError
from loraudit.forecast.grid import Candidate
from loraudit.forecast.measuring import STEP_SHARES, Measured
from loraudit.forecast.probes import Fold, Probe
from loraudit.forecast.shapes import Start, n_trained, shape_of, theory_of, twins_of
from loraudit.spec import ForecastMethod, ForecastSpec, PredictedCurve, PredictedPoint
from loraudit.statistics import Interval, mean_finding
from loraudit.theory import clean_loss, decompose, logistic_flow, squared_flow, targets_of, time_at_loss
from loraudit.types import Finding, FloatArray

TIMES = np.concatenate([[0.0], np.geomspace(1e-2, 1e4, 61)])
"""In units of 1 / (mean diagonal of the kernel), for a loss that is a mean over records."""
SHARE_OF_GAIN = 0.9
"""Methods are compared where the weakest that counts has had this share of all that it can take off the clean loss: the
last of it takes for ever."""
SMALLEST_GAIN = 0.05
"""A method whose clean loss falls by less than this share of the best method's fall does not set the common level."""
_RATE = Interval(0.0, 1.0)


class Predicted(NamedTuple):
    """Everything that is predicted.

    Attributes:
        methods: Of the grid.
        curves: Of methods that are not refused.
        clean_loss: Level at which they are compared.
        base_loss: At the base, on the same records.
        warnings: What the report must say.
    """

    methods: list[ForecastMethod]
    curves: list[PredictedCurve]
    clean_loss: float | None
    base_loss: float
    warnings: list[str]


def predict(spec: ForecastSpec, grid: Sequence[Candidate], probe: Probe, measured: Measured) -> Predicted:
    """Shapes, refusals, the common clean loss, and the curves of every method.

    Args:
        spec: The request.
        grid: Methods.
        probe: Rows.
        measured: Kernels.

    Raises:
        ConfigError: The clean loss asked for is not below that of the base.
    """
    methods = [_method(spec, one, probe, measured) for one in grid]
    followed = [one for one, method in zip(grid, methods, strict=True) if method.refused is None]
    arms = {one.name: _Arm(spec, probe, measured.starts(one.name)) for one in followed}
    losses = {name: arm.validation_losses() for name, arm in arms.items()}
    base_loss = float(_losses(measured.values[:, probe.validation.rows][:, None], probe.validation, spec).mean())
    if spec.clean_loss is not None and spec.clean_loss >= base_loss:
        raise ConfigError(
            f"--clean-loss {spec.clean_loss:g} is not below the clean loss of the base, {base_loss:.4g}. Expected one "
            "that tuning gets to. Give a lower one, or leave it out."
        )
    level, left_out = level_of(losses, base_loss) if spec.clean_loss is None else (spec.clean_loss, [])
    times = {name: None if level is None else time_of(own, level) for name, own in losses.items()}
    curves = [
        _curve(spec, probe, attack, name, arm, times[name])
        for attack in dict.fromkeys(name for name, _ in probe.poisoned)
        for name, arm in arms.items()
    ]
    warnings = [
        f"{name} learns next to nothing (clean loss {losses[name].min():.4g}, {base_loss:.4g} at the base) and does "
        "not set the loss at which methods are compared."
        for name in left_out
    ]
    return Predicted(methods, curves, level, base_loss, [*warnings, *no_better_than_one_label(probe, curves)])


def no_better_than_one_label(probe: Probe, curves: Sequence[PredictedCurve]) -> list[str]:
    """Methods whose clean arm is predicted to know no more than which answer is the more frequent."""
    share = max(float((probe.test.signs > 0).mean()), float((probe.test.signs < 0).mean()))
    clean = {curve.method: curve.points[0].accuracy for curve in curves}
    weak = [name for name, one in clean.items() if one is not None and one.value is not None and one.value <= share]
    if not weak:
        return []
    words = (
        f"At that clean loss {len(weak)} of {len(clean)} methods are predicted to be no more accurate on clean test "
        f"records than one answer for all ({100 * share:.0f} % of {len(probe.test.rows)}): {', '.join(weak)}. What "
        "poison would do to them is not to be read: the records are too few, or the base is too weak for them."
    )
    return [words]


def time_of(losses: FloatArray, level: float) -> float | None:
    """The first time at which the loss falls to the level, linear between `TIMES`; None where it never does."""
    return time_at_loss(lambda times: np.interp(times, TIMES, losses), level, times=TIMES)


def level_of(losses: Mapping[str, FloatArray], base_loss: float) -> tuple[float | None, list[str]]:
    """A loss that every method reaches, and those too weak to have a say."""
    gains = {name: base_loss - float(own.min()) for name, own in losses.items()}
    best = max(gains.values(), default=0.0)
    if best <= 0:
        return None, []
    strong = [name for name, gain in gains.items() if gain >= SMALLEST_GAIN * best]
    left_out = [name for name in gains if name not in strong]
    return base_loss - SHARE_OF_GAIN * min(gains[name] for name in strong), left_out


class _Arm:
    """One method over clean and poisoned training sets, from each of its starts.

    Args:
        spec: The request.
        probe: Rows.
        starts: Of the method.
    """

    def __init__(self, spec: ForecastSpec, probe: Probe, starts: Sequence[Start]) -> None:
        self.spec, self.probe, self.starts = spec, probe, starts
        self.speed = float(np.mean([np.diagonal(one.kernel)[probe.clean.rows].mean() for one in starts])) or 1.0

    def outputs(self, trained: Fold, asked: Fold, times: FloatArray) -> FloatArray:
        """[starts, T, p] f of the records asked for, after training on others."""
        return np.stack([self._flow(one.kernel / self.speed, one.values, trained, asked, times) for one in self.starts])

    def _flow(
        self, kernel: FloatArray, values: FloatArray, trained: Fold, asked: Fold, times: FloatArray
    ) -> FloatArray:
        gram, cross = kernel[np.ix_(trained.rows, trained.rows)], kernel[np.ix_(asked.rows, trained.rows)]
        initial_train, initial = values[trained.rows], values[asked.rows]
        if self.spec.loss == "squared":
            return squared_flow(
                decompose(gram),
                cross,
                targets=targets_of(trained.signs),
                initial_train=initial_train,
                initial=initial,
                times=times,
                learning_rate=1.0,
            )
        return logistic_flow(
            gram,
            cross,
            labels=trained.signs,
            initial_train=initial_train,
            initial=initial,
            times=times,
            learning_rate=1.0,
        )

    def validation_losses(self) -> FloatArray:
        """[T] clean loss of the clean arm at `TIMES`, mean over starts."""
        outputs = self.outputs(self.probe.clean, self.probe.validation, TIMES)
        return _losses(outputs, self.probe.validation, self.spec).mean(axis=0)


def _losses(outputs: FloatArray, fold: Fold, spec: ForecastSpec) -> FloatArray:
    """[starts, T]."""
    return np.stack([clean_loss(one, fold.signs, loss=spec.loss).values for one in outputs])


def _curve(spec: ForecastSpec, probe: Probe, attack: str, name: str, arm: _Arm, time: float | None) -> PredictedCurve:
    clean = _point(spec, probe, attack, arm, probe.clean, 0.0, time)
    doses = [(dose, fold) for (other, dose), fold in probe.poisoned.items() if other == attack]
    points = [clean, *(_point(spec, probe, attack, arm, fold, dose, time) for dose, fold in doses)]
    return PredictedCurve(attack=attack, method=name, points=points)


def _point(
    spec: ForecastSpec, probe: Probe, attack: str, arm: _Arm, trained: Fold, dose: float, time: float | None
) -> PredictedPoint:
    n_poisoned = 0 if dose == 0 else probe.n_poisoned[attack, dose]
    if time is None:
        return PredictedPoint(
            dose=dose, n_poisoned=n_poisoned, time=None, accuracy=None, attack_success=None, per_start=[]
        )
    triggered = probe.triggered.get(attack)
    accuracy, per_start = _share(spec, arm, trained, probe.test, time)
    success: Finding | None = None
    if triggered is not None:
        success, per_start = _share(spec, arm, trained, triggered, time)
    return PredictedPoint(
        dose=dose, n_poisoned=n_poisoned, time=time, accuracy=accuracy, attack_success=success, per_start=per_start
    )


def _share(
    spec: ForecastSpec, arm: _Arm, trained: Fold, asked: Fold, time: float
) -> tuple[Finding, list[float | None]]:
    """Share of records on the side that their signs say; the interval knows the chance of records, not of starts."""
    outputs = arm.outputs(trained, asked, np.array([time]))[:, 0]
    hits = outputs * asked.signs > 0
    found = mean_finding(
        hits.mean(axis=0), confidence=spec.confidence, groups=asked.groups, attainable=_RATE, are_members=False
    )
    return found, [float(own.mean()) for own in hits]


def _method(spec: ForecastSpec, one: Candidate, probe: Probe, measured: Measured) -> ForecastMethod:
    starts = measured.starts(one.name)
    full = [start.kernel for start in measured.starts("full")] if "full" in measured.kernels else None
    widths = measured.widths[one.targets] if one.method == "lora" else None
    of_lora = {
        "rank": one.rank,
        "variance": one.variance,
        "alpha": one.alpha,
        "alpha_follows_rank": not spec.alphas,
        "targets": one.targets,
    }
    return ForecastMethod(
        name=one.name,
        method=one.method,
        **(of_lora if widths else {}),
        n_trained_parameters=n_trained(one, measured.counts, widths),
        shape=shape_of(starts, full, probe.clean, measured.errors[one.name], confidence=spec.confidence),
        theory=theory_of(one, widths, spec.family) if widths else None,
        twins=twins_of(starts, probe, spec.confidence),
        linearity=measured.linearity[one.name],
        refused=_refusal(spec, one, measured),
    )


def _refusal(spec: ForecastSpec, one: Candidate, measured: Measured) -> str | None:
    if not any(kernels.any() for kernels in measured.kernels[one.name]):
        return "Its kernel is 0: nothing it trains moves f."
    if one.method != "head" and not measured.linearity[one.name]:
        return "No step of it could be checked: its kernel is 0 over the records that are."
    for check in measured.linearity[one.name]:
        error = check.relative_error
        if check.step == STEP_SHARES[-1] and error is not None and error > spec.max_linear_error:
            return (
                "One step that moves the strongest direction all the way differs from the linear prediction by "
                f"{100 * error:.0f} % (n = {check.n}; limit {100 * spec.max_linear_error:g} %)."
            )
    return None
