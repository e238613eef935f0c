"""What a model knows of planted canaries, as a page, as Markdown and as tables."""

from loraudit.report.canaries.markdown import render_canaries_markdown
from loraudit.report.canaries.page import render_canaries_html
from loraudit.report.canaries.tables import exposure_sheet, guesses_sheet
from loraudit.report.canaries.words import headline_words, not_said

__all__ = [
    "exposure_sheet",
    "guesses_sheet",
    "headline_words",
    "not_said",
    "render_canaries_html",
    "render_canaries_markdown",
]
