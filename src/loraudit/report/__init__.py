"""From a finished run to a page a person can act on; reads `result.json` and `scores.parquet` alone."""

from loraudit.report.page import render_html, write_report
from loraudit.report.table import Cell, TableRow, attack_table
from loraudit.report.verdict import Verdict, verdict

__all__ = ["Cell", "TableRow", "Verdict", "attack_table", "render_html", "verdict", "write_report"]
