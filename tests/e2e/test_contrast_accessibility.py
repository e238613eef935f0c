"""The report of a comparison in a real browser, checked as the report of an audit is."""

from __future__ import annotations

import pytest
from test_accessibility import WINDOWS, needs_browser, quickly, violations

from loraudit.report import render_contrast_html
from synthetic_contrast import WAYS, Contrast, validity

RESULTS = {
    "ordinary": lambda: Contrast().result(),
    "eight": lambda: Contrast(WAYS, 2, n_nonmembers=500).result(validity=validity(failed=True), warnings=["Lost one."]),
    "one": lambda: Contrast(WAYS[2:3], 1, repeats=()).result(validity=None),
}


@needs_browser
@pytest.mark.parametrize(("width", "theme"), WINDOWS)
@pytest.mark.parametrize("name", quickly("eight", RESULTS))
def test_axe_finds_nothing_to_mend(name, width, theme, tmp_path):
    page = render_contrast_html(RESULTS[name]())
    if theme == "dark":
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all")
    assert violations(page, width, tmp_path) == "[]"
