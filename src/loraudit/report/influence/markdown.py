"""A prediction of single records as Markdown, without figures."""

from __future__ import annotations

from loraudit.report.influence import tables, words
from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.store import InfluenceRun


def render_influence_markdown(run: InfluenceRun) -> str:
    """The whole report without figures and single records."""
    result = run.result
    lines = [f"# Which records of {as_code(result.base.name)} would be memorised", ""]
    lines += [f"**{as_words(result.heading)}.** {as_words(result.sentence)}", ""]
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    lines += [as_words(f"{words.records_words(result)} {brackets}"), ""]
    lines += [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]
    lines += ["## Across methods", "", as_words(words.HOW_PREDICTED), "", as_words(words.HOW_OWN), ""]
    lines += _titled(tables.across_sheet(result)) + _titled(tables.left_out_sheet(result))
    extraction = tables.extraction_sheet(result)
    if extraction is not None:
        lines += ["## What can be extracted", "", as_words(words.extraction_words(result) or ""), ""]
        lines += _titled(extraction)
    lines += ["## Record by record", "", as_words(words.HOW_EXCESS), ""]
    for flow in ("squared", "log"):
        for sheet in tables.agreement_sheets(result, flow):
            lines += _titled(sheet)
    lines += ["## How far it can be believed", "", as_words(words.HOW_LINEAR), ""]
    lines += _titled(tables.linearity_sheet(result))
    base = f"{as_code(result.base.name)}, {as_words(result.base.kind)}, sha256 {as_code(result.base.fingerprint)}"
    how = f"loraudit {as_words(result.loraudit)} on {as_words(result.started)}, in {result.seconds:,.0f} s"
    lines += [
        "## What was asked",
        "",
        f"- Base: {base}",
        f"- Contrast: {as_code(result.contrast)}",
        f"- influence.parquet: sha256 {as_code(result.records)}",
        f"- Versions: {as_words(', '.join(map(' '.join, result.versions.items())))}",
        f"- Predicted with {how}: {as_code(result.command)}",
        "",
    ]
    lines += ["## What this does not say", "", *(f"- {as_words(limit)}" for limit in words.NOT_SAID)]
    return "\n".join(lines) + "\n"


def _titled(sheet: Sheet | None) -> list[str]:
    if sheet is None:
        return []
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    rows = [[as_code(name), *map(as_words, cells)] for name, *cells in plain_rows(sheet)]
    return [f"### {as_words(sheet.title)}", "", *markdown_table(titles, rows), ""]
