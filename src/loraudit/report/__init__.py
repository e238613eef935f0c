"""From a finished run to what a person or a CI system reads; from the files of the run folder alone."""

from loraudit.report.canaries import render_canaries_html, render_canaries_markdown
from loraudit.report.contrast import render_contrast_html, render_contrast_markdown
from loraudit.report.forecast import render_forecast_html, render_forecast_markdown
from loraudit.report.formats import (
    CANARY_FORMATS,
    CONTRAST_FORMATS,
    FORECAST_FORMATS,
    FORMATS,
    INFLUENCE_FORMATS,
    ROBUSTNESS_FORMATS,
    SCAN_FORMATS,
    STUDY_FORMATS,
)
from loraudit.report.fusion import fusion_statement
from loraudit.report.influence import render_influence_html, render_influence_markdown
from loraudit.report.junit import render_junit
from loraudit.report.markdown import render_markdown, render_model_card
from loraudit.report.page import render_html, write_page, write_report
from loraudit.report.robustness import render_robustness_html, render_robustness_markdown
from loraudit.report.scan import render_sarif, render_scan_html, render_scan_markdown
from loraudit.report.study import render_study_html, render_study_markdown
from loraudit.report.table import Cell, TableRow, attack_table
from loraudit.report.words import LIMIT_WORDS, NOT_VALID, STATUS_WORDS, incomplete, shadow_statement, slow_statement

__all__ = [
    "CANARY_FORMATS",
    "CONTRAST_FORMATS",
    "FORECAST_FORMATS",
    "FORMATS",
    "INFLUENCE_FORMATS",
    "LIMIT_WORDS",
    "NOT_VALID",
    "ROBUSTNESS_FORMATS",
    "SCAN_FORMATS",
    "STATUS_WORDS",
    "STUDY_FORMATS",
    "Cell",
    "TableRow",
    "attack_table",
    "fusion_statement",
    "incomplete",
    "render_canaries_html",
    "render_canaries_markdown",
    "render_contrast_html",
    "render_contrast_markdown",
    "render_forecast_html",
    "render_forecast_markdown",
    "render_html",
    "render_influence_html",
    "render_influence_markdown",
    "render_junit",
    "render_markdown",
    "render_model_card",
    "render_robustness_html",
    "render_robustness_markdown",
    "render_sarif",
    "render_scan_html",
    "render_scan_markdown",
    "render_study_html",
    "render_study_markdown",
    "shadow_statement",
    "slow_statement",
    "write_page",
    "write_report",
]
