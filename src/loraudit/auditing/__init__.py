"""The spine of `loraudit audit`: a request becomes a run folder with a result.

records → models → evidence → attacks → findings → result.json, scores.parquet, report.html
"""

from loraudit.auditing.estimate import Estimate, estimate_audit
from loraudit.auditing.preparation import run_path, store_path
from loraudit.auditing.spine import AuditRun, exit_code, run_audit

__all__ = ["AuditRun", "Estimate", "estimate_audit", "exit_code", "run_audit", "run_path", "store_path"]
