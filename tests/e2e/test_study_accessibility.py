"""The report of a study in a real browser, checked as the report of an audit is."""

from __future__ import annotations

import pytest
from test_accessibility import WINDOWS, needs_browser, quickly, violations

from loraudit.report import render_study_html
from synthetic_study import Study

STUDIES = {
    "ordinary": Study(),
    "many": Study(methods=tuple(f"lora:{2**k}" for k in range(8)), epochs=tuple(range(1, 12))),
    "alone": Study(methods=("full",), epochs=(3,), seeds=(0,), against=None),
}


@needs_browser
@pytest.mark.parametrize(("width", "theme"), WINDOWS)
@pytest.mark.parametrize("name", quickly("ordinary", STUDIES))
def test_axe_finds_nothing_to_mend(name, width, theme, tmp_path):
    page = render_study_html(STUDIES[name].result(), STUDIES[name].findings())
    if theme == "dark":
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all")
    assert violations(page, width, tmp_path) == "[]"
