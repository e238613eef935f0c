"""A forecast beside a robustness run, from their two results: the same methods, attacks and doses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from loraudit.errors import ConfigError
from loraudit.policy.forecast import predicted_curve, predicted_poisoned
from loraudit.policy.robustness import curve_of, point_at
from loraudit.report.forecast.predictions import finding_of
from loraudit.report.robustness.words import match_title
from loraudit.spec import (
    KAIMING_VARIANCE,
    ForecastMethod,
    ForecastResult,
    LoraTheory,
    MeasuredComparison,
    PoisonedMethod,
    PoisonResult,
    Recipe,
    RobustnessMatch,
    RobustnessResult,
)
from loraudit.statistics import rank_correlation
from loraudit.theory import FAMILY_OF, no_kernel_of
from loraudit.types import Finding

Side = Literal["accuracy", "attack_success"]
_MEASURES: tuple[Side, ...] = ("attack_success", "accuracy")
_HOW = "Spearman's ρ, Fisher's scale, cells of one method together"
_DOSE = "dose"
_ALONE = "on LoRA alone"
_BASELINES: Mapping[str, Callable[[ForecastMethod, LoraTheory], float | None]] = {
    "H1′": lambda _, theory: theory.h1_published,
    "H2′": lambda _, theory: theory.h2_published,
    "rσ²": lambda method, _: (method.rank or 0) * (method.variance or 0.0),  # up to the width, which is the same
    "ασ": lambda _, theory: theory.speed_adam,
}


class Pair(NamedTuple):
    """One method as predicted and as measured.

    Attributes:
        predicted: In the forecast.
        measured: In the robustness run.
        differing: Settings of one name that are not the same; empty where the recipes agree.
    """

    predicted: ForecastMethod
    measured: PoisonedMethod
    differing: list[str]


@dataclass(frozen=True, slots=True)
class BesideCell:
    """One method at one dose of one attack, predicted and measured.

    Attributes:
        measure: What is compared.
        method: Name in the forecast.
        attack: Its name.
        dose: As asked for in both.
        n_poisoned: Records that it poisons.
        predicted: With its interval.
        measured: With its interval.
    """

    measure: Side
    method: ForecastMethod
    attack: str
    dose: float
    n_poisoned: int
    predicted: Finding
    measured: Finding


@dataclass(frozen=True, slots=True)
class Beside:
    """A forecast and a robustness run on the same ground.

    Attributes:
        result: The forecast, its comparisons replaced by those with this run; its warnings say where the run cannot
            tell.
        run: What the run is called.
        match: Where its methods are read, as a heading.
        pairs: Methods in both.
        cells: Clean arms (dose 0) and poisoned doses that have both numbers.
        left_out: What is in one of them alone, or differs, in sentences.
    """

    result: ForecastResult
    run: str
    match: str
    pairs: list[Pair]
    cells: list[BesideCell]
    left_out: list[str]


def set_beside(forecast: ForecastResult, run: RobustnessResult, *, name: str) -> Beside:
    """What was predicted beside what was measured, with the rank correlation of each measure.

    Methods go together by recipe, or by name, which then says what differs; attacks by name where their settings agree;
    doses as they were asked for. Measured numbers are those of the run's first comparison. Clean arms are shown and
    take no part in a correlation: they are the same for every attack.

    Args:
        forecast: The prediction.
        run: The measurement.
        name: What the run is called.

    Raises:
        ConfigError: The two are of different bases or tasks, or have nothing in common.
    """
    _refuse_other(forecast, run, name)
    pairs = pairs_of(forecast, run)
    match = run.matches[0] if run.matches else None
    attacks, left_out = _attacks(forecast, run)
    measures, not_one = _comparable(forecast)
    left_out += not_one
    cells: list[BesideCell] = []
    n_undefined = 0
    for measure in measures:
        for attack in attacks:
            for pair in pairs:
                found, missing = _cells(forecast, match, measure, attack, pair)
                cells += found
                n_undefined += missing
    if not any(cell.dose for cell in cells):
        raise ConfigError(
            f"Robustness run '{name}' measured nothing that this forecast predicts: no method, attack and dose is in "
            "both, with a number at the run's first comparison. Forecast the methods, attacks and doses of that run."
        )
    left_out += [
        f"{pair.predicted.name} is compared by name: {'; '.join(pair.differing)}." for pair in pairs if pair.differing
    ]
    left_out += _alone(forecast, run, pairs)
    left_out += [f"{n_undefined} doses have no number on one of the sides."] if n_undefined else []
    if {file.get("sha256") for file in forecast.data} != {file.get("sha256") for file in run.data}:
        left_out.append("The two read other files, or other versions of them.")
    comparisons = compared(cells, run=name, confidence=forecast.spec.confidence)
    title = match_title(match) if match else ""
    warnings = [*forecast.warnings, *_unsound(forecast, run, match, pairs, attacks, name)]
    result = forecast.model_copy(update={"comparisons": comparisons, "warnings": warnings})
    return Beside(result, name, title, pairs, cells, left_out)


def compared(cells: Sequence[BesideCell], *, run: str, confidence: float) -> list[MeasuredComparison]:
    """The rank correlation of every measure, and those of the baselines, over the poisoned doses.

    Args:
        cells: Predicted and measured.
        run: What the run is called.
        confidence: Of the intervals.
    """
    found: list[MeasuredComparison] = []
    for measure in _MEASURES:
        chosen = [cell for cell in cells if cell.measure == measure and cell.dose > 0]
        if not chosen:
            continue
        of_lora = [(cell, cell.method.theory) for cell in chosen if cell.method.theory is not None]
        harm = 1 if measure == "attack_success" else -1
        baselines = {_DOSE: _spearman(chosen, [harm * cell.n_poisoned for cell in chosen], confidence)}
        if of_lora:
            loras = [cell for cell, _ in of_lora]
            baselines[_ALONE] = _spearman(loras, [cell.predicted.value for cell in loras], confidence)
            for name, value in _BASELINES.items():
                baselines[name] = _spearman(loras, [value(cell.method, theory) for cell, theory in of_lora], confidence)
        found.append(
            MeasuredComparison(
                run=run,
                measure=measure,
                spearman=_spearman(chosen, [cell.predicted.value for cell in chosen], confidence),
                cells=[_as_listed(cell) for cell in chosen],
                baselines=baselines,
            )
        )
    return found


def pairs_of(forecast: ForecastResult, run: RobustnessResult) -> list[Pair]:
    """Methods that were predicted and measured, in the order of the run; one that is refused is in no pair."""
    known = [method for method in forecast.methods if method.refused is None]
    pairs: list[Pair] = []
    taken: set[str] = set()
    for measured in run.methods:
        options = [
            Pair(one, measured, differing_settings(one, measured.recipe, forecast))
            for one in known
            if one.method == measured.method and one.name not in taken
        ]
        options = [pair for pair in options if not pair.differing or pair.predicted.name == measured.name]
        if options:
            best = min(options, key=lambda pair: (len(pair.differing), pair.predicted.name != measured.name))
            pairs.append(best)
            taken.add(best.predicted.name)
    return pairs


def differing_settings(method: ForecastMethod, recipe: Mapping[str, Any], forecast: ForecastResult) -> list[str]:
    """What a prediction and a recipe do not share, as `alpha 16 predicted, 128 measured`, or why no kernel has it."""
    made = {name: recipe.get(name, field.default) for name, field in Recipe.model_fields.items()}
    why = no_kernel_of(Recipe.model_validate(made))
    if why is not None:
        return [why]
    if method.method != "lora":
        return []
    rank = int(made["rank"])
    variance = KAIMING_VARIANCE if made["init_variance"] is None else float(made["init_variance"])
    targets = "all" if tuple(made["targets"]) == ("all-linear",) else ", ".join(made["targets"])
    scaling = "alpha/sqrt(r)" if made["rslora"] else "alpha/r"
    sides: dict[str, tuple[Any, Any]] = {
        "rank": (method.rank, rank),
        "alpha": (method.alpha, 2.0 * rank if made["alpha"] is None else float(made["alpha"])),
        "c": (method.variance, variance),
        "targets": (method.targets, targets),
        "factor": (forecast.spec.scaling, scaling),
        "A": (forecast.spec.family, FAMILY_OF[made["init"]]),
    }
    return [f"{name} {_plain(a)} predicted, {_plain(b)} measured" for name, (a, b) in sides.items() if not _same(a, b)]


def _unsound(
    forecast: ForecastResult,
    run: RobustnessResult,
    match: RobustnessMatch | None,
    pairs: Sequence[Pair],
    attacks: Sequence[PoisonResult],
    name: str,
) -> list[str]:
    """Why what was measured is nothing to hold a prediction against."""
    said: list[str] = []
    compared_pairs = {(attack.name, pair.measured.name) for attack in attacks for pair in pairs}
    invalid = [one for one in run.controls if one.verdict == "invalid" and (one.attack, one.method) in compared_pairs]
    if invalid:
        named = ", ".join(f"{one.attack} on {one.method}" for one in invalid)
        said.append(
            f"{len(invalid)} of the {len(compared_pairs)} pairs of attack and method that are compared are invalid in "
            f"'{name}': its own controls say that they were not tested ({named}). They stand in every correlation."
        )
    if match is not None and match.kind != "validation_loss" and forecast.clean_loss is not None:
        title = match_title(match)
        said.append(
            f"The methods of '{name}' share no clean loss. They are read {title[:1].lower()}{title[1:]}, and the "
            f"forecast at a clean loss of {forecast.clean_loss:.3f}: the fits differ."
        )
    return said


def _comparable(forecast: ForecastResult) -> tuple[Sequence[Side], list[str]]:
    """Measures that are one and the same on both sides, and what is said of the other."""
    if forecast.trained_as == "classification" and len(forecast.classes) == 2:
        return _MEASURES, []
    what = (
        "the record's own answer against the taught one"
        if forecast.trained_as == "causal_lm"
        else f"one of {len(forecast.classes)} labels against the rest"
    )
    return ["attack_success"], [f"Accuracy is left out: predicted is that of {what}, measured is another."]


def _refuse_other(forecast: ForecastResult, run: RobustnessResult, name: str) -> None:
    if run.base.fingerprint != forecast.base.fingerprint:
        raise ConfigError(
            f"Robustness run '{name}' tuned another base ('{run.base.name}'). Expected a run of "
            f"'{forecast.base.name}' with the fingerprint {forecast.base.fingerprint[:12]}…, as this forecast."
        )
    if run.trained_as != forecast.trained_as:
        raise ConfigError(
            f"Robustness run '{name}' is of another task ({run.trained_as}). Expected {forecast.trained_as}, as "
            "this forecast."
        )


def _attacks(forecast: ForecastResult, run: RobustnessResult) -> tuple[list[PoisonResult], list[str]]:
    """Attacks that both carry out alike, and why others are left out."""
    measured = {attack.name: attack for attack in run.attacks}
    kept: list[PoisonResult] = []
    left_out: list[str] = []
    for attack in forecast.attacks:
        other = measured.get(attack.name)
        if other is None:
            left_out.append(f"{attack.name} was not measured.")
        elif other.settings != attack.settings:
            ours, theirs = attack.settings.model_dump(), other.settings.model_dump()
            differing = ", ".join(name.replace("_", " ") for name in ours if ours[name] != theirs[name])
            left_out.append(f"{attack.name} is left out: it was measured with other settings ({differing}).")
        else:
            kept.append(attack)
    return kept, left_out


def _cells(
    forecast: ForecastResult, match: RobustnessMatch | None, measure: Side, attack: PoisonResult, pair: Pair
) -> tuple[list[BesideCell], int]:
    """Doses with both numbers, and how many are asked on both sides but lack one."""
    predicted = predicted_curve(forecast.curves, attack.name, pair.predicted.name)
    measured = curve_of(match, attack.name, pair.measured.name, measure)
    if predicted is None or measured is None:
        return [], 0
    points = [point for point in predicted.points if point.dose == 0] + predicted_poisoned(predicted)
    found: list[BesideCell] = []
    n_undefined = 0
    for point in points:
        other, finding = point_at(measured, point.dose), finding_of(point, measure)
        if other is None:
            continue
        if finding is None or finding.value is None or other.finding.value is None:
            n_undefined += 1
            continue
        found.append(
            BesideCell(measure, pair.predicted, attack.name, point.dose, point.n_poisoned, finding, other.finding)
        )
    return found, n_undefined


def _alone(forecast: ForecastResult, run: RobustnessResult, pairs: Sequence[Pair]) -> list[str]:
    paired = {pair.measured.name for pair in pairs}
    alone = [method.name for method in run.methods if method.name not in paired]
    said = [f"Measured, but not predicted: {', '.join(alone)}."] if alone else []
    n, n_left = len(forecast.methods), len(forecast.methods) - len(pairs)
    return said + ([f"{n_left} of the {n} methods of the forecast are not compared."] if n_left else [])


def _spearman(cells: Sequence[BesideCell], values: Sequence[float | None], confidence: float) -> Finding:
    first = np.array([math.nan if value is None else value for value in values], dtype=float)
    second = np.array([cell.measured.value for cell in cells], dtype=float)
    names = list(dict.fromkeys(cell.method.name for cell in cells))
    groups = np.array([names.index(cell.method.name) for cell in cells])
    found = rank_correlation(first, second, groups, confidence=confidence)
    value, lower, upper = (None if math.isnan(one) else one for one in (found.value, *found.interval))
    note = "It is the same in every cell." if value is None else None
    if value is not None and lower is None:
        note = "No interval: too few methods, or a correlation of ±1."
    return Finding(value, lower, upper, confidence, _HOW, found.n_records, 0, note=note)


def _as_listed(cell: BesideCell) -> dict[str, Any]:
    sides = {"predicted": cell.predicted.value, "measured": cell.measured.value}
    return {"method": cell.method.name, "attack": cell.attack, "dose": cell.dose, **sides}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
