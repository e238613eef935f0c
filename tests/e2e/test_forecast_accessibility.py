"""The report of a forecast in a real browser, checked as the report of an audit is."""

from __future__ import annotations

import pytest
from test_accessibility import WINDOWS, needs_browser, quickly, violations

from loraudit.report import render_forecast_html
from loraudit.report.forecast import set_beside
from synthetic_forecast import Forecast
from synthetic_robustness import Robustness

RESULTS = {
    "ordinary": lambda: (Forecast(is_compared=True).result(fail_on=["asr > 0.5", "refused > 5"]), None),
    "grid": lambda: (
        Forecast(ranks=(1, 4, 8, 64), variances=(0.01, 1 / 3, 2.0), targets=("all", "mlp")).result(),
        None,
    ),
    "beside": lambda: (
        Forecast().result(),
        set_beside(Forecast().result(), Robustness().result(), name="runs/measured"),
    ),
}


@needs_browser
@pytest.mark.parametrize(("width", "theme"), WINDOWS)
@pytest.mark.parametrize("name", quickly("beside", RESULTS))
def test_axe_finds_nothing_to_mend(name, width, theme, tmp_path):
    page = render_forecast_html(*RESULTS[name]())
    if theme == "dark":
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all")
    assert violations(page, width, tmp_path) == "[]"
