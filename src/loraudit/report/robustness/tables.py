"""What the attacks did to each method, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.policy.robustness import curve_of, decided_match, judged_measure, point_at, poisoned_points
from loraudit.report.cells import Cell, p_number
from loraudit.report.robustness.cells import (
    change_cell,
    count_words,
    n_cell,
    open_interval,
    plain_words,
    ratio_words,
    value_cell,
)
from loraudit.report.robustness.words import CHANGE_WORDS, MEASURE_WORDS, VERDICT_WORDS, dose_words, match_title
from loraudit.report.sheets import Sheet, SheetRow, number_cell
from loraudit.report.words import LIMIT_WORDS
from loraudit.spec import (
    ControlResult,
    Curve,
    DosePoint,
    EffectiveDose,
    LimitResult,
    MethodDifference,
    PoisonResult,
    RobustnessMatch,
    RobustnessResult,
)
from loraudit.types import Finding


def places_of(result: RobustnessResult) -> dict[str, int]:
    """Positions of the methods, which their marks show."""
    return {method.name: position for position, method in enumerate(result.methods)}


def limits_sheet(limits: Sequence[LimitResult]) -> Sheet:
    """What became of the limits."""
    rows = [SheetRow(limit.limit, [Cell(LIMIT_WORDS[limit.status]), Cell(limit.reason)]) for limit in limits]
    return Sheet("Limits", "fails if", ["outcome", "because"], rows, frozenset({0, 1}))


def controls_sheet(result: RobustnessResult) -> Sheet:
    """The verdict of every attack on every method, with its controls; what is invalid stands first."""
    places = places_of(result)
    order = list(VERDICT_WORDS)
    invalid_first = sorted(result.controls, key=lambda one: (one.verdict != "invalid", order.index(one.verdict)))
    rows = [
        SheetRow(
            control.method,
            [
                Cell(control.attack),
                Cell(VERDICT_WORDS[control.verdict]),
                *(
                    value_cell("attack_success", found) if found is not None else Cell("none")
                    for found in (control.positive, control.floor, control.natural)
                ),
                Cell(" ".join(control.reasons)),
                n_cell(control.positive or control.floor or _judged_n(result, control)),
            ],
            arm=places.get(control.method),
        )
        for control in invalid_first
    ]
    columns = ["attack", "verdict", "positive control", "clean arm", "without the trigger", "why", "n"]
    return Sheet("Controls and verdicts", "method", columns, rows, frozenset({0, 1, 5}))


def clean_sheet(result: RobustnessResult, match: RobustnessMatch) -> Sheet:
    """How useful the clean arms are where they are compared."""
    first = result.attacks[0].name if result.attacks else ""
    measures = [m for m in ("accuracy", "f1", "clean_loss") if any(c.measure == m for c in match.curves)]
    rows: list[SheetRow] = []
    for position, method in enumerate(result.methods):
        share = method.n_trained_parameters / max(1, method.n_parameters)
        size = Cell(f"{method.n_trained_parameters:,}", f"({100 * share:.3g} %)")
        epoch = match.epochs.get(method.name)
        found = {m: point_at(curve_of(match, first, method.name, m), 0) for m in measures}
        if epoch is None or not any(found.values()):
            rows.append(SheetRow(method.name, [size], "not reached", position))
            continue
        cells = [value_cell(m, None if point is None else point.finding) for m, point in found.items()]
        runs = [run for run in result.runs if run.method == method.name and run.attack is None]
        counts = Cell(f"{sum(run.collapsed for run in runs)} of {len(runs)}")
        n = next((point.finding for point in found.values() if point is not None), None)
        rows.append(SheetRow(method.name, [size, number_cell(epoch, 2), *cells, counts, n_cell(n)], arm=position))
    columns = ["trained parameters", "epoch", *(MEASURE_WORDS[m] for m in measures), "runs collapsed", "n"]
    return Sheet(f"Clean utility: {_lowered(match_title(match))}", "method", columns, rows)


def dose_sheets(result: RobustnessResult, match: RobustnessMatch, attack: PoisonResult) -> list[Sheet]:
    """Every measure at every dose of one attack; first the one that is judged."""
    judged = judged_measure(attack, match)
    measures = list(dict.fromkeys(curve.measure for curve in match.curves if curve.attack == attack.name))
    measures.sort(key=lambda measure: measure != judged)
    return [_dose_sheet(result, match, attack, measure) for measure in measures]


def _dose_sheet(result: RobustnessResult, match: RobustnessMatch, attack: PoisonResult, measure: str) -> Sheet:
    rows: list[SheetRow] = []
    for position, method in enumerate(result.methods):
        curve = curve_of(match, attack.name, method.name, measure)
        if curve is None:
            rows.append(SheetRow(method.name, [], "not reached", position))
            continue
        rows += [SheetRow(method.name, _dose_cells(curve, point), arm=position) for point in _ordered(curve)]
    columns = ["poisoned", "dose", "exposures", MEASURE_WORDS[measure], CHANGE_WORDS[measure], "median, quartiles"]
    columns += ["single runs", "collapsed", "without those", "n"]
    title = f"{attack.name}, {_lowered(match_title(match))}: {MEASURE_WORDS[measure]} by dose"
    return Sheet(title, "method", columns, rows)


def _dose_cells(curve: Curve, point: DosePoint) -> list[Cell]:
    measure = curve.measure
    quartiles = "" if point.quartiles is None else "–".join(plain_words(measure, end) for end in point.quartiles)
    return [
        Cell(f"{point.n_poisoned:,}"),
        Cell(dose_words(point.dose) if point.dose else "clean"),
        Cell(count_words(point.exposures)),
        value_cell(measure, point.finding),
        change_cell(measure, point.excess),
        Cell(plain_words(measure, point.median), f"({quartiles})" if quartiles else ""),
        Cell(", ".join(plain_words(measure, value) for value in point.per_seed)),
        Cell(f"{point.n_collapsed} of {len(point.per_seed)}"),
        Cell(plain_words(measure, point.without_collapsed) if point.n_collapsed else ""),
        n_cell(point.finding),
    ]


def effective_sheet(result: RobustnessResult, match: RobustnessMatch) -> Sheet | None:
    """Exposures at which half, and nine tenths, of the effect is there; None where none were asked for."""
    if not match.effective_doses:
        return None
    places = places_of(result)
    shares = sorted({dose.share for dose in match.effective_doses})
    by_pair: dict[tuple[str, str], dict[float, EffectiveDose]] = {}
    for dose in match.effective_doses:
        by_pair.setdefault((dose.attack, dose.method), {})[dose.share] = dose
    rows = [
        SheetRow(
            method,
            [
                Cell(attack),
                *(effective_cell(match, found.get(share)) for share in shares),
                n_cell(next(iter(found.values())).finding),
            ],
            arm=places.get(method),
        )
        for (attack, method), found in by_pair.items()
    ]
    columns = ["attack", *(f"ED{100 * share:g}, exposures" for share in shares), "n"]
    return Sheet(f"Effective doses: {_lowered(match_title(match))}", "method", columns, rows, frozenset({0}))


def effective_cell(match: RobustnessMatch, dose: EffectiveDose | None) -> Cell:
    """Exposures with their interval, which may be open; beyond the doses tested the last of them with a sign."""
    if dose is None:
        return Cell("")
    interval = open_interval(dose.finding.lower, dose.finding.upper, count_words)
    if dose.bound is not None:
        return Cell(censored_words(match, dose), interval, dose.finding.note)
    if dose.finding.value is None:
        return Cell("undefined", note=dose.finding.note)
    return Cell(count_words(dose.finding.value), interval or "no interval", dose.finding.note)


def censored_words(match: RobustnessMatch, dose: EffectiveDose) -> str:
    """Beyond which exposures an effective dose lies that no dose brackets."""
    curve = curve_of(match, dose.attack, dose.method, "attack_success")
    curve = curve or next((c for c in match.curves if (c.attack, c.method) == (dose.attack, dose.method)), None)
    exposures = [point.exposures for point in poisoned_points(curve)]
    if not exposures:
        return f"{dose.bound} the doses tested"
    return f"> {count_words(max(exposures))}" if dose.bound == "above" else f"< {count_words(min(exposures))}"


def ratios_sheet(match: RobustnessMatch) -> Sheet | None:
    """How many times the exposures one method takes of another's."""
    if not match.dose_ratios:
        return None
    shares = sorted({ratio.share for ratio in match.dose_ratios})
    by_pair: dict[tuple[str, str, str], dict[float, Cell]] = {}
    n_of: dict[tuple[str, str, str], Cell] = {}
    for ratio in match.dose_ratios:
        pair = ratio.attack, ratio.first, ratio.second
        found = ratio.finding
        words = "not bracketed" if found.value is None else ratio_words(found.value)
        cell = Cell(words, open_interval(found.lower, found.upper, ratio_words), found.note)
        by_pair.setdefault(pair, {})[ratio.share] = cell
        n_of[pair] = n_cell(found)
    rows = [
        SheetRow(f"{first} ÷ {second}", [Cell(attack), *(cells.get(s, Cell("")) for s in shares), n_of[pair]])
        for pair, cells in by_pair.items()
        for attack, first, second in (pair,)
    ]
    columns = ["attack", *(f"ratio of ED{100 * share:g}" for share in shares), "n"]
    return Sheet(f"Dose ratios: {_lowered(match_title(match))}", "first ÷ second", columns, rows, frozenset({0}))


def differences_sheet(result: RobustnessResult, match: RobustnessMatch) -> Sheet | None:
    """What the same dose does to one method beyond what it does to another, over their own clean arms."""
    if not match.differences:
        return None
    rows = [
        SheetRow(
            f"{pair.first} − {pair.second}",
            [
                Cell(pair.attack),
                Cell(CHANGE_WORDS.get(pair.measure, pair.measure)),
                Cell(dose_words(pair.dose)),
                change_cell(pair.measure, pair.finding, pair.p_value),
                Cell("not stated" if pair.p_holm is None else p_number(pair.p_holm)),
                Cell(_reading(result, pair)),
                n_cell(pair.finding),
            ],
        )
        for pair in match.differences
    ]
    columns = ["attack", "what", "dose", "difference", "p, Holm", "which is hurt more", "n"]
    title = f"Differences beyond the clean arms: {_lowered(match_title(match))}"
    return Sheet(title, "first − second", columns, rows, frozenset({0, 1, 5}))


def _reading(result: RobustnessResult, pair: MethodDifference) -> str:
    if pair.finding.value is None:
        return "unknown"
    if pair.p_holm is None:
        return "not tested"
    if pair.p_holm >= 1 - result.spec.confidence:
        return "not told apart"
    return pair.first if pair.finding.value > 0 else pair.second


def worst_sheet(result: RobustnessResult, match: RobustnessMatch) -> Sheet | None:
    """Backdoors by their success at their own lowest dose, the worst first; None where there are none."""
    places = places_of(result)
    verdicts = {(control.attack, control.method): control.verdict for control in result.controls}
    found: list[tuple[float, SheetRow]] = []
    for curve in match.curves:
        points = poisoned_points(curve)
        if curve.measure != "attack_success" or not points:
            continue
        point = points[0]
        verdict = verdicts.get((curve.attack, curve.method))
        cells = [
            Cell(curve.method),
            Cell(f"{point.n_poisoned:,}"),
            value_cell("attack_success", point.finding),
            change_cell("attack_success", point.excess),
            Cell("" if verdict is None else VERDICT_WORDS[verdict]),
            n_cell(point.finding),
        ]
        value = -1.0 if point.finding.value is None else point.finding.value
        found.append((value, SheetRow(curve.attack, cells, arm=places.get(curve.method))))
    if not found:
        return None
    rows = [row for _, row in sorted(found, key=lambda one: -one[0])]
    columns = ["method", "poisoned", "attack success", "above the clean arm", "verdict", "n"]
    return Sheet("Worst triggers at the lowest dose", "attack", columns, rows, frozenset({0, 4}))


def _ordered(curve: Curve) -> list[DosePoint]:
    return sorted(curve.points, key=lambda point: point.n_poisoned)


def _judged_n(result: RobustnessResult, control: ControlResult) -> Finding | None:
    """What the verdict on an attack without controls rests on."""
    match = decided_match(result.matches, control)
    attack = next((one for one in result.attacks if one.name == control.attack), None)
    measure = "accuracy" if attack is None else judged_measure(attack, match)
    points = poisoned_points(curve_of(match, control.attack, control.method, measure))
    return points[-1].excess if points else None


def _lowered(title: str) -> str:
    return f"{title[:1].lower()}{title[1:]}"
