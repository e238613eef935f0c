"""A forecast as Markdown, without figures."""

from __future__ import annotations

from loraudit.report.forecast import predictions, tables, words
from loraudit.report.forecast.beside import beside_sheet
from loraudit.report.forecast.measured import Beside
from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.robustness.further import attacks_sheet
from loraudit.report.robustness.tables import limits_sheet
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.spec import ForecastResult


def render_forecast_markdown(result: ForecastResult, beside: Beside | None = None) -> str:
    """The whole report without figures; tables hold every method.

    Args:
        result: The forecast.
        beside: A robustness run to set it against, in place of what the result holds.
    """
    result = result if beside is None else beside.result
    lines = [f"# What poisoned data would do to {as_code(result.base.name)}", "", *_leading_lines(result)]
    if not result.curves:
        lines += [words.NOTHING, ""]
    for attack in result.attacks:
        sheets = predictions.prediction_sheets(result, attack)
        for sheet in sheets:
            ends = predictions.ends_of(result, attack, sheet)
            lines += _titled(ends) + _titled(sheet)
    lines += ["## Predicted and measured", "", as_words(words.HOW_COMPARED), ""] if result.comparisons else []
    if beside is not None:
        lines += [as_words(f"Measured: {beside.match}."), "", *(f"- {as_words(one)}" for one in beside.left_out), ""]
    for comparison in result.comparisons:
        lines += [f"Measured in {as_code(comparison.run)}.", "", *_titled(tables.correlation_sheet(comparison))]
        shown = None if beside is None else beside_sheet(beside, comparison.measure)
        lines += _titled(shown or tables.compared_cells_sheet(result, comparison))
    lines += ["## Speed and shape", "", as_words(words.HOW_TO_READ), ""]
    lines += _titled(tables.speed_sheet(result)) + _titled(tables.shape_sheet(result))
    for how, sheet in ((words.HOW_TWINS, tables.twins_sheet(result)), (words.HOW_THEORY, tables.theory_sheet(result))):
        lines += [] if sheet is None else [as_words(how), "", *_titled(sheet)]
    lines += ["## How far it can be believed", "", as_words(words.HOW_LINEAR), ""]
    lines += _titled(tables.linearity_sheet(result))
    lines += ["## What was asked", "", *_titled(attacks_sheet(result.attacks)), *_fact_lines(result), ""]
    lines += ["## What this does not say", "", *(f"- {as_words(limit)}" for limit in words.NOT_SAID)]
    return "\n".join(lines) + "\n"


def _leading_lines(result: ForecastResult) -> list[str]:
    refused = words.refused_words(result)
    lines = [f"> **{words.refused_heading(result)}.** {as_words(refused)}", ""] if refused else []
    lines += [f"**{as_words(result.heading)}.** {as_words(result.sentence)}", ""]
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    lines += [as_words(" ".join((words.records_words(result), words.fit_words(result), brackets))), ""]
    lines += _sheet_lines(limits_sheet(result.limits)) if result.limits else []
    lines += [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]
    return lines + _titled(predictions.refused_sheet(result))


def _titled(sheet: Sheet | None) -> list[str]:
    return [] if sheet is None else [f"### {as_words(sheet.title)}", "", *_sheet_lines(sheet)]


def _sheet_lines(sheet: Sheet) -> list[str]:
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    rows = [[as_code(name), *map(as_words, cells)] for name, *cells in plain_rows(sheet)]
    return [*markdown_table(titles, rows), ""]


def _fact_lines(result: ForecastResult) -> list[str]:
    base = f"{as_code(result.base.name)}, {as_words(result.base.kind)}, sha256 {as_code(result.base.fingerprint)}"
    classes = ", ".join(f"{name} {n:,}" for name, n in result.classes.items())
    how = f"loraudit {as_words(result.loraudit)} on {as_words(result.started)}, in {result.seconds:,.0f} s"
    return [
        f"- Base: {base}",
        *([f"- Training records of each label: {as_words(classes)}"] if classes else []),
        *(f"- File {as_code(file.get('path', ''))}: sha256 {as_code(file.get('sha256', ''))}" for file in result.data),
        f"- Versions: {as_words(', '.join(map(' '.join, result.versions.items())))}",
        f"- Predicted with {how}: {as_code(result.command)}",
    ]
