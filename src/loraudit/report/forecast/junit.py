"""A forecast as JUnit XML, for the test view of a CI system."""

from __future__ import annotations

from loraudit.policy import forecast_exit_code
from loraudit.report.forecast.cells import rank_words
from loraudit.report.forecast.words import refused_heading, refused_words
from loraudit.report.junit import Suite
from loraudit.report.robustness.words import MEASURE_WORDS
from loraudit.spec import ForecastResult


def render_forecast_junit(result: ForecastResult) -> str:
    """One test case per limit, one per method, and one for completeness.

    Failures are there exactly if the exit code is not 0. A method that is refused is a skipped case with its reason; a
    limit such as `refused > 0` makes the run fail.
    """
    suite = Suite(result.base.name, result.seconds)
    suite.limits(result.limits)
    for method in result.methods:
        suite.skipped("forecast", method.name, None if method.refused is None else f"refused: {method.refused}")
    suite.complete("forecast", None)
    refused = refused_words(result)
    said = [f"{refused_heading(result)}. {refused}"] if refused else []
    said += [f"{result.heading}. {result.sentence}"]
    said += [
        f"Spearman with {MEASURE_WORDS[one.measure]} measured in {one.run}: {rank_words(one.spearman)}."
        for one in result.comparisons
    ]
    return suite.text("\n".join([*said, f"Exit code: {forecast_exit_code(result)}"]))
