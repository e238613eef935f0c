"""From a result to one verdict: what leaks, whether the numbers can mean that, and which limits hold.

Every format of the report and the exit code repeat this one object.
"""

from loraudit.policy.limits import Limit, Measured, parse_limit, read_policy
from loraudit.policy.robustness import judge_robustness, robustness_exit_code
from loraudit.policy.verdict import PREFERRED_FPR, exit_code_of, judge, validity_words, verdict_of
from loraudit.policy.words import ends, percent, percent_interval, point_words, rate_words

__all__ = [
    "PREFERRED_FPR",
    "Limit",
    "Measured",
    "ends",
    "exit_code_of",
    "judge",
    "judge_robustness",
    "parse_limit",
    "percent",
    "percent_interval",
    "point_words",
    "rate_words",
    "read_policy",
    "robustness_exit_code",
    "validity_words",
    "verdict_of",
]
