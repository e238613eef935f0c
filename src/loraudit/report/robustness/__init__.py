"""A robustness run as a page, as Markdown and as tables."""

from loraudit.report.robustness.further import detection_sheet, persistence_sheet
from loraudit.report.robustness.junit import render_robustness_junit
from loraudit.report.robustness.markdown import render_robustness_markdown
from loraudit.report.robustness.page import render_robustness_html
from loraudit.report.robustness.tables import (
    clean_sheet,
    controls_sheet,
    differences_sheet,
    dose_sheets,
    effective_sheet,
    ratios_sheet,
    worst_sheet,
)
from loraudit.report.robustness.words import (
    NO_MATCH,
    collapse_words,
    invalid_heading,
    match_title,
    records_words,
    runs_words,
)

__all__ = [
    "NO_MATCH",
    "clean_sheet",
    "collapse_words",
    "controls_sheet",
    "detection_sheet",
    "differences_sheet",
    "dose_sheets",
    "effective_sheet",
    "invalid_heading",
    "match_title",
    "persistence_sheet",
    "ratios_sheet",
    "records_words",
    "render_robustness_html",
    "render_robustness_junit",
    "render_robustness_markdown",
    "runs_words",
    "worst_sheet",
]
