"""What a scan found, as a page, as Markdown, as tables and as SARIF."""

from loraudit.report.scan.markdown import render_scan_markdown
from loraudit.report.scan.page import render_scan_html
from loraudit.report.scan.sarif import render_sarif
from loraudit.report.scan.tables import families_sheet, modules_sheet, probes_sheet

__all__ = [
    "families_sheet",
    "modules_sheet",
    "probes_sheet",
    "render_sarif",
    "render_scan_html",
    "render_scan_markdown",
]
