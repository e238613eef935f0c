"""A study as a page, as Markdown and as tables."""

from loraudit.report.study.markdown import render_study_markdown
from loraudit.report.study.measures import Measure, Point, measures_of
from loraudit.report.study.page import render_study_html, split_regressions
from loraudit.report.study.tables import (
    cells_sheet,
    empty_sheet,
    ends_sheet,
    figure_sheets,
    flaw_sheet,
    published_sheet,
    regression_sheet,
)
from loraudit.report.study.words import (
    FLAWS_FOLLOW,
    brackets_words,
    cells_words,
    empty_words,
    flaw_heading,
    regressions_words,
)

__all__ = [
    "FLAWS_FOLLOW",
    "Measure",
    "Point",
    "brackets_words",
    "cells_sheet",
    "cells_words",
    "empty_sheet",
    "empty_words",
    "ends_sheet",
    "figure_sheets",
    "flaw_heading",
    "flaw_sheet",
    "measures_of",
    "published_sheet",
    "regression_sheet",
    "regressions_words",
    "render_study_html",
    "render_study_markdown",
    "split_regressions",
]
