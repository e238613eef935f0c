"""A comparison as Markdown, without figures."""

from __future__ import annotations

from loraudit.report.contrast import making, tables
from loraudit.report.contrast.extraction import FIRST_MODELS, extraction_sheets
from loraudit.report.contrast.words import (
    NO_COMMON_LOSS,
    NO_GATES,
    match_title,
    not_said,
    runs_words,
    spread_words,
    validity_statement,
)
from loraudit.report.markdown import validity_lines
from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.report.tuned import edge_words, recipe_sheet, search_sheet
from loraudit.report.words import NOT_VALID
from loraudit.spec import ContrastResult, Match


def render_contrast_markdown(result: ContrastResult) -> str:
    """The whole report without figures."""
    validity = validity_statement(result)
    main = result.match("validation_loss")
    lines = [f"# Tuning methods compared on {as_code(result.base.name)}", ""]
    if validity:
        lines += [f"> **{NOT_VALID}.** {as_words(validity)}", ""]
    lines += [f"**{as_words(result.heading)}.** {as_words(result.sentence)}", ""]
    sides = f"{result.n_members:,} members, {result.n_nonmembers:,} non-members"
    records = f"{sides} and {result.n_validation:,} validation records, drawn at random."
    headline = f"Headline attack, declared before the run: {as_code(result.spec.headline)}."
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    lines += [" ".join([records, headline, runs_words(result), brackets, spread_words(result)]).strip(), ""]
    lines += [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]
    if main is None:
        lines += [NO_COMMON_LOSS, ""]
    for match in [*([main] if main else []), *(match for match in result.matches if match is not main)]:
        lines += _match_lines(result, match)
        if match is main:
            for sheet in tables.attack_sheets(result, match):
                lines += [f"### {as_words(sheet.title)}", "", *_sheet_lines(sheet)]
    if result.exposure:
        lines += ["## Leakage by how often a record was seen", "", *_sheet_lines(tables.exposure_sheet(result))]
    extraction = extraction_sheets(result)
    if extraction:
        lines += ["## What can be pulled out", "", FIRST_MODELS, ""]
        lines += [line for sheet in extraction for line in (f"### {sheet.title}", "", *_sheet_lines(sheet))]
    if result.validity is None:
        lines += ["## Validity", "", NO_GATES, ""]
    else:
        lines += validity_lines(result.validity)[1:]
    lines += ["## How the models were made", ""]
    search, (recipes, shared) = search_sheet(result.arms), recipe_sheet(result.arms)
    edge = edge_words(result.arms)
    for sheet in (search, recipes, making.runs_sheet(result)):
        if sheet is not None:
            lines += [f"### {sheet.title}", "", *_sheet_lines(sheet)]
            lines += [as_words(edge), ""] if sheet is search and edge else []
    lines += ["## What was compared", "", *_fact_lines(result, shared), ""]
    lines += ["## What this does not say", "", *(f"- {as_words(limit)}" for limit in not_said(result))]
    lines += [f"- {as_words(note)}" for note in tables.notes_of(result)]
    return "\n".join(lines) + "\n"


def _match_lines(result: ContrastResult, match: Match) -> list[str]:
    lines = [f"## {as_words(match_title(match))}", "", as_words(match.description), ""]
    lines += _sheet_lines(tables.match_sheet(result, match))
    return lines + (_sheet_lines(tables.differences_sheet(result, match)) if match.differences else [])


def _sheet_lines(sheet: Sheet) -> list[str]:
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    rows = [[as_code(name), *map(as_words, cells)] for name, *cells in plain_rows(sheet)]
    return [*markdown_table(titles, rows), ""]


def _fact_lines(result: ContrastResult, shared: list[tuple[str, str]]) -> list[str]:
    base = f"{as_code(result.base.name)}, {as_words(result.base.kind)}, sha256 {as_code(result.base.fingerprint)}"
    how = f"loraudit {as_words(result.loraudit)} on {as_words(result.started)}, in {result.seconds:,.0f} s"
    return [
        f"- Base: {base}, validation loss {result.base_validation_loss:.3f} nats per token",
        *(f"- File {as_code(file.get('path', ''))}: sha256 {as_code(file.get('sha256', ''))}" for file in result.data),
        *([f"- Recipe of every method: {as_words(', '.join(map(' '.join, shared)))}"] if shared else []),
        f"- scores.parquet: sha256 {as_code(result.scores)}",
        f"- Versions: {as_words(', '.join(map(' '.join, result.versions.items())))}",
        f"- Measured with {how}: {as_code(result.command)}",
    ]
