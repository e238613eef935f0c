"""What a robustness run says as a whole, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loraudit.policy.robustness.reading import curve_of, decided_match, judged_measure, poisoned_points
from loraudit.policy.robustness.verdicts import first_harm
from loraudit.policy.verdict import exit_code_of
from loraudit.policy.words import ends, point_words, rate_words
from loraudit.spec import (
    ControlResult,
    DosePoint,
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
        matches: Numbers are those of the one that decided a verdict, which is the first unless words say another.
        attacks: As carried out.
    """
    match = matches[0] if matches else None
    said = [words for attack in attacks if (words := _attack_words(attack, matches, controls))]
    said += _ratio_words(match, controls)
    harmed = [control for control in controls if control.verdict == "harmed"]
    if match is not None and said and any(decided_match(matches, control) is match for control in harmed):
        said[0] = f"{match.description.rstrip('.')}: {said[0]}"
    for verdict, words in (("undecided", "Undecided"), ("resisted", "Resisted at every dose tested")):
        pairs = _pairs(controls, verdict)
        said += [f"{words}: {pairs}."] if pairs else []
    untested = untested_words(controls)
    said += [untested] if untested else []
    return _heading(controls, attacks), " ".join(said) or "No attack was tried on any method."


def untested_words(controls: Sequence[ControlResult]) -> str:
    """With which the sentence ends where a control fails; empty where none does."""
    pairs = _pairs(controls, "invalid")
    return f"Not tested, for the reasons given: {pairs}." if pairs else ""


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
    return exit_code_of(result.limits, is_partial=bool(broken_parts(result)))


def broken_parts(result: RobustnessResult) -> list[str]:
    """Parts of the run that broke down while the rest went on, each with its reason; usually none."""
    broken = [
        f"the detector {found.detector} on {found.attack} with {found.n_poisoned:,} poisons failed: {found.auroc.note}"
        for found in result.detection
        if found.auroc.method == FAILED
    ]
    return broken + [
        f"{found.after} of {found.attack} on {found.method} failed: {found.success_after.note}"
        for found in result.persistence
        if found.success_after.method == FAILED
    ]


def _heading(controls: Sequence[ControlResult], attacks: Sequence[PoisonResult]) -> str:
    harmed = [attack for attack in attacks if _methods(controls, attack.name, "harmed")]
    if len(harmed) > _MOST_NAMED:
        return f"{len(harmed)} of {len(attacks)} attacks do harm"
    if harmed:
        return "; ".join(_harm_words(attack, controls) for attack in harmed)
    verdicts = {control.verdict for control in controls}
    if verdicts == {"invalid"}:
        return "No verdict on any attack"
    if "invalid" in verdicts:
        return "No harm seen where it was tested"
    if "undecided" in verdicts:
        return "Neither harm nor resistance could be shown"
    return "Every method resisted every attack at the doses tested" if controls else "Nothing was tested"


def _harm_words(attack: PoisonResult, controls: Sequence[ControlResult]) -> str:
    hurt = _methods(controls, attack.name, "harmed")
    tried = [control.method for control in controls if control.attack == attack.name]
    some = _listed(hurt) if len(hurt) <= _MOST_NAMED else f"{len(hurt)} of {len(tried)} methods"
    whom = "every method" if len(hurt) == len(tried) > 1 else some
    return f"{attack.name} {'opens a backdoor in' if attack.goal == 'backdoor' else 'hurts'} {whom}"


def _attack_words(
    attack: PoisonResult, matches: Sequence[RobustnessMatch], controls: Sequence[ControlResult]
) -> str | None:
    """From how many records on the attack harms which method, and what its worst is; None where it harms none."""
    measure = judged_measure(attack, matches[0] if matches else None)
    parts: list[tuple[int, str]] = []
    largest: list[tuple[str, DosePoint]] = []
    for control in controls:
        if (control.attack, control.verdict) != (attack.name, "harmed"):
            continue
        match = decided_match(matches, control)
        points = poisoned_points(curve_of(match, attack.name, control.method, measure))
        first = first_harm(measure, points)
        if first is not None:
            named = f"{control.method}{_place_words(matches, match)}"
            largest += [(named, point) for point in points if not point.n_collapsed]
            words = f"{named} from {first.n_poisoned:,} poisoned records on ({_effect(measure, first)})"
            parts.append((first.n_poisoned, words))
    if not parts:
        return None
    what = {
        "attack_success": "succeeds on triggered inputs of",
        "accuracy": "lowers the accuracy of",
        "clean_loss": "raises the loss of",
    }[measure]
    method, worst = max(largest, key=lambda one: _size(measure, one[1]))
    most = f"at most, with {worst.n_poisoned:,}, {_effect(measure, worst)} on {method}"
    listed = [words for _, words in sorted(parts, key=lambda part: part[0])]
    return f"{attack.name} {what} {_listed(_first_few(listed))}; {most}."


def _place_words(matches: Sequence[RobustnessMatch], match: RobustnessMatch | None) -> str:
    """Where along its training a method was read, if that is not where the first comparison reads it."""
    if match is None or match is matches[0]:
        return ""
    if match.kind == "best":
        return " (where its own validation loss is lowest)"
    return f" ({match.description.rstrip('.')})"


def _effect(measure: str, point: DosePoint) -> str:
    if measure == "attack_success" or point.excess is None:
        return rate_words(point.finding)
    if measure == "clean_loss":
        return f"{point.excess.value:.3f} {ends(point.excess)} nats"
    return point_words(point.excess)


def _size(measure: str, point: DosePoint) -> float:
    found = point.finding if measure == "attack_success" or point.excess is None else point.excess
    return -math.inf if found.value is None else found.value


def _ratio_words(match: RobustnessMatch | None, controls: Sequence[ControlResult]) -> list[str]:
    """The largest ratio of exposures for half the effect that is not 1, between methods that were both harmed."""
    harmed = {(control.attack, control.method) for control in controls if control.verdict == "harmed"}
    found: list[tuple[float, str]] = []
    for ratio in match.dose_ratios if match is not None else ():
        value, lower = ratio.finding.value, ratio.finding.lower
        upper = math.inf if ratio.finding.upper is None else ratio.finding.upper
        pairs = {(ratio.attack, ratio.first), (ratio.attack, ratio.second)}
        if ratio.share != 0.5 or not pairs <= harmed or not value or lower is None:
            continue
        more, less = ratio.first, ratio.second
        if value < 1:
            more, less, value, lower, upper = less, more, 1 / value, 1 / upper, 1 / lower if lower else math.inf
        if lower > 1:
            end = "∞)" if math.isinf(upper) else f"{upper:.1f}]"
            words = f"{more} takes {value:.1f} [{lower:.1f}, {end} times the exposures of {less}"
            found.append((value, f"For half the effect of {ratio.attack}, {words}."))
    return [words for _, words in sorted(found, reverse=True)[:1]]


def _methods(controls: Sequence[ControlResult], attack: str, verdict: Verdict) -> list[str]:
    return [control.method for control in controls if control.attack == attack and control.verdict == verdict]


def _pairs(controls: Sequence[ControlResult], verdict: str) -> str:
    """Attacks with the methods on which they have this verdict."""
    by_attack: dict[str, list[str]] = {}
    for control in controls:
        if control.verdict == verdict:
            by_attack.setdefault(control.attack, []).append(control.method)
    return "; ".join(f"{attack} on {_listed(methods)}" for attack, methods in by_attack.items())


def _first_few(names: Sequence[str]) -> Sequence[str]:
    """At most three, and how many more there are."""
    return names if len(names) <= _MOST_NAMED else [*names[:_MOST_NAMED], f"{len(names) - _MOST_NAMED} more methods"]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
