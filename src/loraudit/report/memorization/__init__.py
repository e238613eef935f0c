"""What can be pulled out of a model, in words, figures and tables, as every format of the report shows it."""

from loraudit.report.memorization.markdown import memorization_card_lines, memorization_lines
from loraudit.report.memorization.page import has_passage_text, memorization_part
from loraudit.report.memorization.tables import short_sheet_of
from loraudit.report.memorization.words import Statement, extraction_verdict, memorization_limits, statements

__all__ = [
    "Statement",
    "extraction_verdict",
    "has_passage_text",
    "memorization_card_lines",
    "memorization_limits",
    "memorization_lines",
    "memorization_part",
    "short_sheet_of",
    "statements",
]
