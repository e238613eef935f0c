"""A prediction of single records as a page, as Markdown and as tables."""

from loraudit.report.influence.markdown import render_influence_markdown
from loraudit.report.influence.page import render_influence_html
from loraudit.report.influence.tables import (
    BASELINE_WORDS,
    across_sheet,
    agreement_sheets,
    extraction_sheet,
    left_out_sheet,
    linearity_sheet,
)
from loraudit.report.influence.words import agreement_of, beats_baselines, is_above_zero, outcome, records_words

__all__ = [
    "BASELINE_WORDS",
    "across_sheet",
    "agreement_of",
    "agreement_sheets",
    "beats_baselines",
    "extraction_sheet",
    "is_above_zero",
    "left_out_sheet",
    "linearity_sheet",
    "outcome",
    "records_words",
    "render_influence_html",
    "render_influence_markdown",
]
