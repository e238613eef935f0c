"""A robustness run as Markdown, without figures."""

from __future__ import annotations

from loraudit.policy.robustness import invalid_words
from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.robustness import further, tables
from loraudit.report.robustness.words import (
    HOW_JUDGED,
    NO_MATCH,
    collapse_words,
    invalid_heading,
    match_title,
    not_said,
    records_words,
    runs_words,
    sentence_beside,
)
from loraudit.report.sheets import Sheet, noted, plain_rows
from loraudit.report.tuned import edge_words, recipe_sheet, search_sheet
from loraudit.spec import RobustnessMatch, RobustnessResult


def render_robustness_markdown(result: RobustnessResult) -> str:
    """The whole report without figures."""
    lines = [f"# What poisoned data does to {as_code(result.base.name)}", "", *_leading_lines(result)]
    main = result.matches[0] if result.matches else None
    lines += ["## Controls and verdicts", "", as_words(HOW_JUDGED), "", *_sheet_lines(tables.controls_sheet(result))]
    lines += [NO_MATCH, ""] if main is None else []
    for match in result.matches:
        lines += _match_lines(result, match)
        worst = tables.worst_sheet(result, match) if match is main else None
        lines += _titled(worst)
    lines += _titled(further.persistence_sheet(result), "##") + _titled(further.detection_sheet(result), "##")
    lines += ["## How the models were made", ""]
    recipes, shared = recipe_sheet(result.methods)
    edge = edge_words(result.methods)
    lines += _titled(further.attacks_sheet(result.attacks)) + _titled(search_sheet(result.methods))
    lines += [as_words(edge), ""] if edge else []
    lines += _titled(recipes) + _titled(further.runs_sheet(result))
    lines += ["## What was compared", "", *_fact_lines(result, shared), ""]
    lines += ["## What this does not say", "", *(f"- {as_words(limit)}" for limit in not_said(result))]
    return "\n".join(lines) + "\n"


def _leading_lines(result: RobustnessResult) -> list[str]:
    invalid = invalid_words(result.controls)
    lines = [f"> **{invalid_heading(result)}.** {as_words(invalid)}", ""] if invalid else []
    lines += [f"**{as_words(result.heading)}.** {as_words(sentence_beside(result))}".rstrip(), ""]
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    said = (records_words(result), runs_words(result), brackets, collapse_words(result))
    lines += [" ".join(words for words in said if words), ""]
    lines += _sheet_lines(tables.limits_sheet(result.limits)) if result.limits else []
    return lines + [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]


def _match_lines(result: RobustnessResult, match: RobustnessMatch) -> list[str]:
    lines = [f"## {as_words(match_title(match))}", "", f"{as_words(match.description.rstrip('.'))}.", ""]
    lines += _titled(tables.clean_sheet(result, match))
    for attack in result.attacks:
        for sheet in tables.dose_sheets(result, match, attack):
            lines += _titled(sheet)
    lines += _titled(tables.effective_sheet(result, match)) + _titled(tables.ratios_sheet(match))
    return lines + _titled(tables.differences_sheet(result, match))


def _titled(sheet: Sheet | None, level: str = "###") -> list[str]:
    return [] if sheet is None else [f"{level} {as_words(sheet.title)}", "", *_sheet_lines(sheet)]


def _sheet_lines(sheet: Sheet) -> list[str]:
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    shown = noted(sheet)
    rows = [[as_code(name), *map(as_words, cells)] for name, *cells in plain_rows(shown)]
    notes = [f"- {as_words(note)}" for note in shown.notes]
    return [*markdown_table(titles, rows), "", *([*notes, ""] if notes else [])]


def _fact_lines(result: RobustnessResult, shared: list[tuple[str, str]]) -> list[str]:
    base = f"{as_code(result.base.name)}, {as_words(result.base.kind)}, sha256 {as_code(result.base.fingerprint)}"
    how = f"loraudit {as_words(result.loraudit)} on {as_words(result.started)}, in {result.seconds:,.0f} s"
    classes = ", ".join(f"{name} {n:,}" for name, n in result.classes.items())
    return [
        f"- Base: {base}",
        *([f"- Training records of each label: {as_words(classes)}"] if classes else []),
        *(f"- File {as_code(file.get('path', ''))}: sha256 {as_code(file.get('sha256', ''))}" for file in result.data),
        *([f"- Recipe of every method: {as_words(', '.join(map(' '.join, shared)))}"] if shared else []),
        f"- outcomes.parquet: sha256 {as_code(result.outcomes)}",
        f"- Versions: {as_words(', '.join(map(' '.join, result.versions.items())))}",
        f"- Measured with {how}: {as_code(result.command)}",
    ]
