"""A robustness run as JUnit XML, for the test view of a CI system."""

from __future__ import annotations

from loraudit.policy import robustness_exit_code
from loraudit.policy.robustness import broken_parts, invalid_words
from loraudit.report.junit import Suite
from loraudit.report.robustness.words import invalid_heading
from loraudit.spec import RobustnessResult


def render_robustness_junit(result: RobustnessResult) -> str:
    """One test case per limit, one per attack and method, and one for completeness.

    Failures and errors are there exactly if the exit code is not 0. A pair that was not tested is a skipped case with
    its reason; a limit such as `n_invalid > 0` makes the run fail.
    """
    suite = Suite(result.base.name, result.seconds)
    suite.limits(result.limits)
    for control in result.controls:
        reason = f"invalid: {' '.join(control.reasons)}" if control.verdict == "invalid" else None
        suite.skipped("control", f"{control.attack} on {control.method}", reason)
    suite.complete("robustness", broken_parts(result) or None)
    invalid = invalid_words(result.controls)
    leading = f"{invalid_heading(result)}. {invalid}\n" if invalid else ""
    return suite.text(f"{leading}{result.heading}. {result.sentence}\nExit code: {robustness_exit_code(result)}")
