"""What a robustness run says as a whole, in words."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.policy.robustness.reading import curve_of, judged_measure, point_at, tested_points
from loraudit.policy.verdict import exit_code_of
from loraudit.policy.words import ends, plain, point_words, rate_words
from loraudit.spec import (
    ControlResult,
    DosePoint,
    DoseRatio,
    PoisonResult,
    RobustnessMatch,
    RobustnessResult,
    Verdict,
)

_MOST_NAMED = 3
FAILED = "error"
"""Method of a finding whose part of the run broke down; its note says how."""


def state(
    controls: Sequence[ControlResult], matches: Sequence[RobustnessMatch], attacks: Sequence[PoisonResult]
) -> tuple[str, str]:
    """Heading and sentence: what works on which method, from how many records on, and what was not tested.

    Args:
        controls: With the verdict of every attack on every method.
        matches: Numbers are those of the first.
        attacks: As carried out.
    """
    match = matches[0] if matches else None
    said = [words for attack in attacks if (words := _attack_words(attack, match, controls))]
    said += _ratio_words(match, controls)
    if match is not None and said:
        said[0] = f"{match.description.rstrip('.')}: {said[0]}"
    for verdict, words in (("undecided", "Undecided"), ("resisted", "Resisted at every dose tested")):
        pairs = _pairs(controls, verdict)
        said += [f"{words}: {pairs}."] if pairs else []
    n_invalid = sum(control.verdict == "invalid" for control in controls)
    if n_invalid:
        said.append(f"Not tested, because a control fails: {_pairs(controls, 'invalid')}.")
    return _heading(controls, attacks), " ".join(said) or "No attack was tried on any method."


def invalid_words(controls: Sequence[ControlResult]) -> str | None:
    """Which attacks were not tested on which methods, and why; None where all were."""
    invalid = [control for control in controls if control.verdict == "invalid"]
    if not invalid:
        return None
    named = " ".join(f"{control.attack} on {control.method}: {' '.join(control.reasons)}" for control in invalid)
    n = len(invalid)
    return (
        f"{n} of {len(controls)} pairs of attack and method {'was' if n == 1 else 'were'} not tested, so that nothing "
        f"seen there is resistance. {named}"
    )


def robustness_exit_code(result: RobustnessResult) -> int:
    """1 where a limit does not hold, 7 where a part of the run broke down, else 0; a failing control alone is 0."""
    findings = [found.auroc for found in result.detection]
    findings += [found.success_after for found in result.persistence]
    is_partial = any(finding.method == FAILED for finding in findings)
    return exit_code_of(result.limits, is_partial=is_partial)


def _heading(controls: Sequence[ControlResult], attacks: Sequence[PoisonResult]) -> str:
    harmed = [attack for attack in attacks if _methods(controls, attack.name, "harmed")]
    if len(harmed) > _MOST_NAMED:
        return f"{len(harmed)} of {len(attacks)} attacks do harm"
    if harmed:
        return "; ".join(_harm_words(attack, controls) for attack in harmed)
    verdicts = {control.verdict for control in controls}
    if "invalid" in verdicts:
        n_invalid = sum(control.verdict == "invalid" for control in controls)
        return f"No harm seen, but {n_invalid} of {len(controls)} pairs of attack and method were not tested"
    if "undecided" in verdicts:
        return "Neither harm nor resistance could be shown"
    return "Every method resisted every attack at the doses tested" if controls else "Nothing was tested"


def _harm_words(attack: PoisonResult, controls: Sequence[ControlResult]) -> str:
    hurt = _methods(controls, attack.name, "harmed")
    tried = [control.method for control in controls if control.attack == attack.name]
    whom = "every method" if len(hurt) == len(tried) > 1 else _listed(hurt)
    return f"{attack.name} {'opens a backdoor in' if attack.goal == 'backdoor' else 'hurts'} {whom}"


def _attack_words(attack: PoisonResult, match: RobustnessMatch | None, controls: Sequence[ControlResult]) -> str | None:
    """What the attack does at the smallest dose at which it is seen to harm a method; None where it harms none."""
    measure = judged_measure(attack, match)
    hurt = _methods(controls, attack.name, "harmed")
    dose = _first_harmful(attack, match, hurt)
    if dose is None:
        return None
    parts: list[str] = []
    for method in hurt:
        found = point_at(curve_of(match, attack.name, method, measure), dose.dose)
        if found is not None and found.finding.value is not None:
            parts.append(f"{method} {_effect(measure, found)}")
    what = {
        "attack_success": "succeeds on triggered inputs of",
        "accuracy": "lowers the accuracy of",
        "clean_loss": "raises the loss of",
    }[measure]
    return f"{attack.name} with {dose.n_poisoned:,} poisoned records {what} {'; '.join(parts)}."


def _effect(measure: str, point: DosePoint) -> str:
    excess = point.excess
    if measure == "attack_success" or excess is None or excess.value is None:
        return f"by {rate_words(point.finding)}" if measure != "attack_success" else f"({rate_words(point.finding)})"
    if measure == "clean_loss":
        return f"by {excess.value:.3f} {ends(excess)} nats"
    return f"by {point_words(excess)}"


def _first_harmful(attack: PoisonResult, match: RobustnessMatch | None, hurt: Sequence[str]) -> DosePoint | None:
    """The smallest dose at which the interval of the change lies above 0 for some method that was harmed."""
    measure = judged_measure(attack, match)
    points = [point for method in hurt for point in tested_points(curve_of(match, attack.name, method, measure))]
    above = [point for point in points if point.excess is not None and (point.excess.lower or 0) > 0]
    return min(above, key=lambda point: point.n_poisoned, default=None)


def _ratio_words(match: RobustnessMatch | None, controls: Sequence[ControlResult]) -> list[str]:
    """How many times the exposures one method takes of another's for half the effect, where both were harmed."""
    harmed = {(control.attack, control.method) for control in controls if control.verdict == "harmed"}
    ratios = [
        ratio
        for ratio in (match.dose_ratios if match is not None else ())
        if ratio.share == 0.5 and {(ratio.attack, ratio.first), (ratio.attack, ratio.second)} <= harmed
    ]
    clear = [ratio for ratio in ratios if ratio.finding.value is not None and _excludes_one(ratio)]
    clear.sort(key=lambda ratio: -max(ratio.finding.value or 1, 1 / (ratio.finding.value or 1)))
    return [
        f"For half the effect of {ratio.attack}, {ratio.first} takes {plain(ratio.finding.value or 0)} "
        f"{ends(ratio.finding, 2)} times the exposures of {ratio.second}."
        for ratio in clear[:1]
    ]


def _excludes_one(ratio: DoseRatio) -> bool:
    lower, upper = ratio.finding.lower, ratio.finding.upper
    return lower is not None and upper is not None and (lower > 1 or 0 < upper < 1)


def _methods(controls: Sequence[ControlResult], attack: str, verdict: Verdict) -> list[str]:
    return [control.method for control in controls if control.attack == attack and control.verdict == verdict]


def _pairs(controls: Sequence[ControlResult], verdict: str) -> str:
    """Attacks with the methods on which they have this verdict."""
    by_attack: dict[str, list[str]] = {}
    for control in controls:
        if control.verdict == verdict:
            by_attack.setdefault(control.attack, []).append(control.method)
    return "; ".join(f"{attack} on {_listed(methods)}" for attack, methods in by_attack.items())


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
