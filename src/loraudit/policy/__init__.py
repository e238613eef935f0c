"""From a result to one verdict: what leaks, whether the numbers can mean that, and which limits hold.

Every format of the report and the exit code repeat this one object.
"""

from loraudit.policy.forecast import FORECAST_EXAMPLE, forecast_exit_code, judge_forecast, parse_forecast_limit
from loraudit.policy.limits import Limit, Measured, parse_limit, read_policy
from loraudit.policy.robustness import judge_robustness, robustness_exit_code
from loraudit.policy.scan_limits import SCAN_LIMITS, check_scan_limits, read_scan_limits
from loraudit.policy.verdict import PREFERRED_FPR, exit_code_of, judge, validity_words, verdict_of
from loraudit.policy.words import ends, percent, percent_interval, point_words, rate_words

__all__ = [
    "FORECAST_EXAMPLE",
    "PREFERRED_FPR",
    "SCAN_LIMITS",
    "Limit",
    "Measured",
    "check_scan_limits",
    "ends",
    "exit_code_of",
    "forecast_exit_code",
    "judge",
    "judge_forecast",
    "judge_robustness",
    "parse_forecast_limit",
    "parse_limit",
    "percent",
    "percent_interval",
    "point_words",
    "rate_words",
    "read_policy",
    "read_scan_limits",
    "robustness_exit_code",
    "validity_words",
    "verdict_of",
]
