"""A comparison of tuning methods as a page, as Markdown and as tables."""

from loraudit.report.contrast.extraction import extraction_sheets
from loraudit.report.contrast.markdown import render_contrast_markdown
from loraudit.report.contrast.page import render_contrast_html
from loraudit.report.contrast.tables import differences_sheet, exposure_sheet, match_sheet, overview_sheet
from loraudit.report.contrast.words import NO_COMMON_LOSS, NO_GATES, match_title, runs_words, validity_statement
from loraudit.report.sheets import Sheet, SheetRow, cell_words, short_sheet

__all__ = [
    "NO_COMMON_LOSS",
    "NO_GATES",
    "Sheet",
    "SheetRow",
    "cell_words",
    "differences_sheet",
    "exposure_sheet",
    "extraction_sheets",
    "match_sheet",
    "match_title",
    "overview_sheet",
    "render_contrast_html",
    "render_contrast_markdown",
    "runs_words",
    "short_sheet",
    "validity_statement",
]
