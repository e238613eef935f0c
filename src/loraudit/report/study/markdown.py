"""A study as Markdown, without figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.report.study import tables, words
from loraudit.report.study.cells import link_of
from loraudit.report.study.measures import measures_of
from loraudit.report.study.page import settings_of, split_regressions
from loraudit.spec import StudyFinding, StudyResult


def render_study_markdown(result: StudyResult, findings: Sequence[StudyFinding]) -> str:
    """The whole report without figures; links lead to the cells' own reports.

    Args:
        result: The study.
        findings: All figures of its cells.
    """
    links = {cell.id: link for cell in result.cells if (link := link_of(cell)) is not None}
    measures = measures_of(result)
    headlines, others = split_regressions(result)
    lines = [f"# Study {as_code(result.spec.name)}", "", *_leading_lines(result, links)]
    for sheet in tables.figure_sheets(result, measures):
        lines += [f"## Grid {as_code(sheet.title.removesuffix(tables.EVERY_CELL))}", "", *_sheet_lines(sheet, links)]
    lines += _section(words.HOW_ENDS, tables.ends_sheet(measures), links)
    lines += _section(words.HOW_PUBLISHED, tables.published_sheet(result), links)
    said = words.regressions_words(result, headlines)
    if said is not None:
        lines += ["## Compared with an earlier run", "", as_words(f"{said} {words.HOW_REGRESSIONS}"), ""]
        for title, found in ((tables.MOVED, headlines), (tables.MOVED_TOO, others[: tables.MOST_MOVED])):
            sheet = tables.regression_sheet(result, found, title)
            lines += [] if sheet is None else [f"### {sheet.title}", "", *_sheet_lines(sheet, links)]
    lines += _section("", tables.cells_sheet(result, findings), links)
    lines += ["## How it was carried out", ""]
    lines += [f"- {as_words(name)}: {as_code(value)}" for name, value in settings_of(result)]
    lines += ["", "## What this does not say", "", *(f"- {as_words(limit)}" for limit in words.NOT_SAID)]
    return "\n".join(lines) + "\n"


def _leading_lines(result: StudyResult, links: Mapping[str, str]) -> list[str]:
    flaw = words.flaw_heading(result)
    lines = [f"> **{as_words(flaw)}.** {as_words(words.FLAWS_FOLLOW)}", ""] if flaw else []
    flaws = tables.flaw_sheet(result)
    lines += [] if flaws is None else _sheet_lines(flaws, links)
    lines += [f"**{as_words(result.heading)}.** {as_words(result.sentence)}", ""]
    lines += [as_words(result.spec.description), ""] if result.spec.description else []
    lines += [as_words(f"{words.cells_words(result)} {words.brackets_words(result)}".strip()), ""]
    missing = words.empty_words(result)
    if missing is not None:
        lines += [f"**{as_words(missing)}**", ""]
    empty = tables.empty_sheet(result)
    lines += [] if empty is None else [f"### {empty.title}", "", *_sheet_lines(empty, links)]
    return lines + [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]


def _section(how: str, sheet: Sheet | None, links: Mapping[str, str]) -> list[str]:
    if sheet is None:
        return []
    said = [as_words(how), ""] if how else []
    return [f"## {as_words(sheet.title)}", "", *said, *_sheet_lines(sheet, links)]


def _sheet_lines(sheet: Sheet, links: Mapping[str, str]) -> list[str]:
    """Rows; the first column leads to the cell's report."""
    titles = [_words(title) for title in (sheet.first, *sheet.columns)]
    rows: list[list[str]] = []
    for name, *cells in plain_rows(sheet):
        link = links.get(name) if sheet.first == "cell" else None
        first = as_code(name) if link is None else f"[{as_code(name)}]({link})"
        rows.append([first, *(_words(cell) if k in sheet.words else as_words(cell) for k, cell in enumerate(cells))])
    return [*markdown_table(titles, rows), ""]


def _words(words: str) -> str:
    """Words that a person chose: what a spreadsheet would take for a formula is code."""
    return as_code(words) if words.startswith(("=", "+", "-", "@")) else as_words(words)
