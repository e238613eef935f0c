"""The report of a robustness run in a real browser, checked as the report of an audit is."""

from __future__ import annotations

import pytest
from test_accessibility import WINDOWS, needs_browser, quickly, violations

from loraudit.report import render_robustness_html
from synthetic_robustness import WAYS, Robustness

RESULTS = {
    "ordinary": lambda: Robustness().result(fail_on=["asr > 0.5", "n_invalid > 5"]),
    "eight": lambda: Robustness(WAYS, 2).result(),
    "language": lambda: Robustness(WAYS[:1], 1, is_language_model=True).result(warnings=[]),
}


@needs_browser
@pytest.mark.parametrize(("width", "theme"), WINDOWS)
@pytest.mark.parametrize("name", quickly("ordinary", RESULTS))
def test_axe_finds_nothing_to_mend(name, width, theme, tmp_path):
    page = render_robustness_html(RESULTS[name]())
    if theme == "dark":
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all")
    assert violations(page, width, tmp_path) == "[]"
