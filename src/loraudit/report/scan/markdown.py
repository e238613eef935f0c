"""A scan as Markdown."""

from __future__ import annotations

from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.scan.tables import families_sheet, modules_sheet, probes_sheet
from loraudit.report.sheets import Sheet, plain_rows
from loraudit.spec import ScanResult


def render_scan_markdown(result: ScanResult) -> str:
    """The whole report; modules as of the page."""
    lines = [f"# Scan of {as_code(result.target.name)}", ""]
    lines += [f"**{as_words(result.heading)}.** {as_words(result.sentence)}", ""]
    lines += [line for warning in result.warnings for line in (f"**Warning:** {as_words(warning)}", "")]
    probes = probes_sheet(result)
    lines += ["## Triggers", ""]
    lines += _sheet_lines(probes) if probes else [as_words(f"Not tried: {result.probes_reason}"), ""]
    lines += ["## Modules", "", *_sheet_lines(modules_sheet(result))]
    lines += ["## Families", "", *_sheet_lines(families_sheet(result))]
    if result.limits:
        lines += ["## Limits", ""]
        lines += [
            f"- {as_code(one.limit)}: {one.status.replace('_', ' ')}, {as_words(one.reason)}" for one in result.limits
        ]
        lines += [""]
    base = "none" if result.reference is None else as_code(result.reference.name)
    lines += [
        "## What was scanned",
        "",
        f"- Target: {as_code(result.target.name)}, sha256 {as_code(result.target.fingerprint)}; base: {base}",
        f"- Scanned with loraudit {as_words(result.loraudit)} on {as_words(result.started)}: {as_code(result.command)}",
        "",
        "## What this does not show",
        "",
        *(f"- {as_words(limit)}" for limit in result.does_not_show),
    ]
    return "\n".join(lines) + "\n"


def _sheet_lines(sheet: Sheet) -> list[str]:
    titles = [as_words(title) for title in (sheet.first, *sheet.columns)]
    return [*markdown_table(titles, [[as_words(cell) for cell in row] for row in plain_rows(sheet)]), ""]
