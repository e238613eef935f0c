"""Looking at runs and requests from outside: recompute, compare, check before and after."""

from loraudit.review.checks import Check, first_exit_code
from loraudit.review.compare import compare_runs
from loraudit.review.doctor import examine_environment, examine_request
from loraudit.review.validate import validate_spec
from loraudit.review.verify import verify_run

__all__ = [
    "Check",
    "compare_runs",
    "examine_environment",
    "examine_request",
    "first_exit_code",
    "validate_spec",
    "verify_run",
]
