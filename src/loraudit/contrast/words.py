"""What a contrast says, in words."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.contrast.stating import AUC
from loraudit.spec import ContrastSpec, Match, MatchedArm, MatchedDifference
from loraudit.types import Finding


def verdict_words(spec: ContrastSpec, matches: Sequence[Match]) -> tuple[str, str]:
    """Heading and sentence: the methods at equal validation loss, most and least leaking, with their difference."""
    match = next((found for found in matches if found.kind == "validation_loss"), None)
    if match is None:
        return _incomparable(matches)
    known = [(area, arm) for arm in match.arms if (area := _area(arm, spec.headline)) is not None]
    if len(known) < 2:
        return "Nothing to compare", f"'{spec.headline}' gave no AUC for two methods."
    (_, most), (_, least) = max(known, key=lambda k: k[0]), min(known, key=lambda k: k[0])
    numbers = "; ".join(
        f"{arm.name} {_with_interval(arm.attacks[spec.headline][AUC].finding)} after {arm.epoch or 0:.2g} epochs"
        for _, arm in sorted(known, key=lambda k: -k[0])
    )
    where = f"At a validation loss of {match.level or 0:.3f} nats the AUC of {spec.headline} is: {numbers}."
    difference = next((d for d in match.differences if {d.first, d.second} == {most.name, least.name}), None)
    if difference is None:
        return "No difference could be measured", where
    found = difference.metrics[AUC]
    is_clear = difference.p_holm is not None and difference.p_holm < 1 - spec.confidence
    fewest = min(len(arm.attacks[spec.headline][AUC].per_seed) for arm in (most, least))
    where_from = "At equal fit" if fewest > 1 else "At equal fit, going by single runs,"
    heading = (
        f"{where_from} {most.name} leaks most and {least.name} least"
        if is_clear
        else f"{where_from} no method is seen to leak more than another"
    )
    return heading, f"{where} {_words(difference, found)}"


def _incomparable(matches: Sequence[Match]) -> tuple[str, str]:
    if len({arm.name for found in matches for arm in found.arms}) < 2:
        heading = "One method, nothing to compare"
        return heading, "Name several methods to see which of them leaks less at equal fit."
    sentence = (
        "No validation loss is reached by two methods, so their leakage cannot be compared at equal fit. Train the "
        "weaker ones longer, or with another learning rate."
    )
    return "The methods never fit equally well", sentence


def _words(difference: MatchedDifference, found: Finding) -> str:
    p = "" if difference.p_holm is None else f", p {_p(difference.p_holm)} (Holm)"
    interval = "" if found.lower is None else f" [{found.lower:.3f}, {found.upper:.3f}]"
    return f"{difference.first} minus {difference.second}: {found.value or 0:+.3f}{interval}{p}."


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 1e-4 else "< 0.0001"


def _area(arm: MatchedArm, headline: str) -> float | None:
    found = arm.attacks.get(headline, {}).get(AUC)
    return None if found is None else found.finding.value


def _with_interval(found: Finding) -> str:
    interval = "" if found.lower is None else f" [{found.lower:.3f}, {found.upper:.3f}]"
    return f"{found.value:.3f}{interval}"
