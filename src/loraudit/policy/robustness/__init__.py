"""What may be said of a robustness run: a verdict for every attack on every method, one for all, and limits."""

from loraudit.policy.robustness.limits import (
    ROBUSTNESS_EXAMPLE,
    RobustnessLimit,
    judge_robustness,
    parse_robustness_limit,
)
from loraudit.policy.robustness.reading import curve_of, decided_match, judged_measure, point_at, poisoned_points
from loraudit.policy.robustness.stating import (
    FAILED,
    broken_parts,
    invalid_words,
    robustness_exit_code,
    state,
    untested_words,
)
from loraudit.policy.robustness.verdicts import (
    BOUNDS,
    HIGHEST_FLOOR,
    LOWEST_CONTROL,
    Bounds,
    first_harm,
    majority_flaw,
    trigger_flaw,
    verdict_of_control,
)

__all__ = [
    "BOUNDS",
    "FAILED",
    "HIGHEST_FLOOR",
    "LOWEST_CONTROL",
    "ROBUSTNESS_EXAMPLE",
    "Bounds",
    "RobustnessLimit",
    "broken_parts",
    "curve_of",
    "decided_match",
    "first_harm",
    "invalid_words",
    "judge_robustness",
    "judged_measure",
    "majority_flaw",
    "parse_robustness_limit",
    "point_at",
    "poisoned_points",
    "robustness_exit_code",
    "state",
    "trigger_flaw",
    "untested_words",
    "verdict_of_control",
]
