"""A search for canaries as Markdown."""

from __future__ import annotations

from loraudit.canaries.words import epsilon_words
from loraudit.report.canaries.tables import exposure_sheet, guesses_sheet
from loraudit.report.canaries.words import headline_words, not_said, trend_words
from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.spec import CanaryResult


def render_canaries_markdown(result: CanaryResult) -> str:
    """The whole report without its figure."""
    lines = [f"# Canaries in {as_code(result.target.name)}", ""]
    lines += [f"**{as_words(result.heading)}.** {as_words(result.sentence)}", ""]
    lines += [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]
    lines += ["## Exposure by number of copies", "", *_sheet_lines(exposure_sheet(result))]
    confidence = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    lines += [as_words(f"{headline_words(result)} {trend_words(result)} {confidence}"), ""]
    lines += ["## ε from this one run", "", as_words(epsilon_words(result.epsilon)), ""]
    guesses = guesses_sheet(result)
    lines += _sheet_lines(guesses) if guesses else []
    how = f"loraudit {as_words(result.loraudit)} on {as_words(result.started)}"
    base = "none" if result.reference is None else as_code(result.reference.name)
    lines += [
        "## What was looked for",
        "",
        f"- Target: {as_code(result.target.name)}, sha256 {as_code(result.target.fingerprint)}; base: {base}",
        f"- Manifest: digest {as_code(result.manifest)}",
        f"- Measured with {how}: {as_code(result.command)}",
        "",
        "## What this does not say",
        "",
        *(f"- {as_words(limit)}" for limit in not_said(result)),
    ]
    return "\n".join(lines) + "\n"


def _sheet_lines(sheet: Sheet) -> list[str]:
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    return [*markdown_table(titles, [[as_words(cell) for cell in row] for row in plain_rows(sheet)]), ""]
