"""The part of the Markdown report, and of the model card, about extraction; never with text of passages."""

from __future__ import annotations

from loraudit.report.marking import as_words, markdown_table
from loraudit.report.memorization import spoken, tables
from loraudit.report.memorization.page import how_facts
from loraudit.report.memorization.records import records_sheet
from loraudit.report.memorization.words import extraction_verdict, statements
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.spec import AuditResult


def memorization_lines(result: AuditResult) -> list[str]:
    """The whole part without figures; nothing where a result holds no measures of memorization."""
    found = result.memorization
    if found is None:
        return []
    lines = _lead_lines(result, "## What can be pulled out")
    for said in statements(result):
        lines += [f"- **{as_words(said.title)}.** {as_words(said.words)}"]
    sheets = [
        tables.greedy_sheet(found),
        tables.strengths_sheet(found),
        *tables.sampled_sheets(found),
        tables.copies_sheet(found),
        *spoken.generated_sheets(found, found.generated),
        *spoken.similarity_sheets(found, found.generated),
        spoken.near_sheet(found),
        spoken.personal_sheet(found),
        spoken.fields_sheet(found),
        tables.capacity_sheet(found),
        records_sheet(found),
    ]
    for sheet in sheets:
        if sheet is not None and sheet.rows:
            lines += ["", f"### {as_words(sheet.title)}", "", *_sheet_lines(sheet)]
    facts = [f"- {as_words(name)}: {as_words(value)}" for name, value in how_facts(found)]
    return [*lines, "", "### How it was measured", "", *facts, ""]


def memorization_card_lines(result: AuditResult) -> list[str]:
    """The same in a few lines."""
    if result.memorization is None:
        return []
    lines = _lead_lines(result, "### What can be pulled out")
    return [*lines, *_sheet_lines(tables.short_sheet_of(result.memorization)), ""]


def _lead_lines(result: AuditResult, title: str) -> list[str]:
    verdict = extraction_verdict(result)
    if verdict is None:
        return []
    act = f" {verdict.act}" if verdict.act else ""
    return [title, "", f"**{verdict.heading}.** {as_words(verdict.statement.words + act)}", ""]


def _sheet_lines(sheet: Sheet) -> list[str]:
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    return markdown_table(titles, [[as_words(cell) for cell in row] for row in plain_rows(sheet)])
