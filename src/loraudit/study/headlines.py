"""Which figures of a cell the study's report shows: those that the cell's own report leads with."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.policy import PREFERRED_FPR
from loraudit.policy.forecast import largest_dose, predicted_curve
from loraudit.policy.robustness import curve_of, judged_measure, poisoned_points
from loraudit.report.memorization.columns import stated_prefix
from loraudit.spec import AuditResult, CellKind, ContrastResult, ForecastResult, RobustnessResult
from loraudit.statistics import rate_metric
from loraudit.study.naming import match_name, number, part


def headline_names(
    kind: CellKind, result: AuditResult | ContrastResult | RobustnessResult | ForecastResult
) -> list[str]:
    """Names of the few figures that stand for a cell.

    audit: AUC and TPR at 1 % FPR of the headline attack; where extraction was measured, the share of members that is
    said word for word, and the same of held-out records. contrast: the same two numbers of every method at the fit
    that its report leads with. robustness: at that fit and the largest dose what each attack adds to each method, and
    how many exposures half of the effect takes. forecast: what is predicted at the largest dose.

    Args:
        kind: The command that made the result.
        result: Of that command.

    Raises:
        TypeError: The result is of another command.
    """
    match kind, result:
        case "audit", AuditResult():
            return _of_audit(result)
        case "contrast", ContrastResult():
            return _of_contrast(result)
        case "robustness", RobustnessResult():
            return _of_robustness(result)
        case "forecast", ForecastResult():
            return _of_forecast(result)
        case _:
            raise TypeError(f"A result of '{kind}' was expected, not {type(result).__name__}.")


def _metrics(fprs: Sequence[float]) -> list[str]:
    """AUC, and the true-positive rate that a verdict would state: at 1 %, or at the smallest rate asked for."""
    if not fprs:
        return ["auc"]
    return ["auc", rate_metric(PREFERRED_FPR if PREFERRED_FPR in fprs else min(fprs))]


def _of_audit(result: AuditResult) -> list[str]:
    attack = part(result.membership.headline)
    names = [f"membership/{attack}/{metric}" for metric in _metrics(result.spec.fpr)]
    prefix = None if result.memorization is None else stated_prefix(result.memorization)
    if prefix is not None:
        names += [f"memorization/greedy/prefix={prefix}/{side}" for side in ("members", "held_out")]
    return names


def _of_contrast(result: ContrastResult) -> list[str]:
    match = result.match("validation_loss") or next(iter(result.matches), None)
    if match is None:
        return []
    fit = match_name(match, result.matches[: result.matches.index(match)])
    attack = part(result.spec.headline)
    return [f"{fit}/{part(arm.name)}/{attack}/{metric}" for arm in match.arms for metric in _metrics(result.spec.fpr)]


def _of_robustness(result: RobustnessResult) -> list[str]:
    if not result.matches:
        return []
    match = result.matches[0]
    fit = match_name(match, [])
    names: list[str] = []
    for attack in result.attacks:
        measure = judged_measure(attack, match)
        for method in result.methods:
            where = f"{fit}/{part(method.name)}"
            points = poisoned_points(curve_of(match, attack.name, method.name, measure))
            names += [f"{where}/{measure}/{part(attack.name)}/dose={number(p.dose)}/excess" for p in points[-1:]]
            asked = any((d.attack, d.method, d.share) == (attack.name, method.name, 0.5) for d in match.effective_doses)
            names += [f"{where}/ED50/{part(attack.name)}"] if asked else []
    return names


def _of_forecast(result: ForecastResult) -> list[str]:
    names: list[str] = []
    for attack in result.attacks:
        measures = ["attack_success", "accuracy"] if attack.goal == "backdoor" else ["accuracy"]
        for method in result.methods:
            point = largest_dose(predicted_curve(result.curves, attack.name, method.name))
            if point is not None:
                where = f"predicted/{part(method.name)}/{part(attack.name)}/dose={number(point.dose)}"
                names += [f"{where}/{measure}" for measure in measures]
    return names
