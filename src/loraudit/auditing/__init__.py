"""The spine of `loraudit audit`: a request becomes a run folder with a result.

records → models → evidence → attacks → findings → result.json, scores.parquet, report.html

Names are loaded when they are asked for: recomputing a finished run needs none of the libraries that scoring does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.auditing.estimate import Estimate as Estimate
    from loraudit.auditing.estimate import estimate_audit as estimate_audit
    from loraudit.auditing.request import run_path as run_path
    from loraudit.auditing.request import store_path as store_path
    from loraudit.auditing.spine import AuditRun as AuditRun
    from loraudit.auditing.spine import exit_code as exit_code
    from loraudit.auditing.spine import run_audit as run_audit

_WHERE = {
    "AuditRun": "spine",
    "Estimate": "estimate",
    "estimate_audit": "estimate",
    "exit_code": "spine",
    "run_audit": "spine",
    "run_path": "request",
    "store_path": "request",
}

__all__ = ["AuditRun", "Estimate", "estimate_audit", "exit_code", "run_audit", "run_path", "store_path"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"loraudit.auditing.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'loraudit.auditing' has no attribute {name!r}")
