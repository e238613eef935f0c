"""Audits inside other people's runs.

Names are loaded when they are asked for: importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.integrations.callback import AuditCallback as AuditCallback
    from loraudit.spec import EpochAudit as EpochAudit

_WHERE = {
    "AuditCallback": "loraudit.integrations.callback",
    "EpochAudit": "loraudit.spec",
}

__all__ = ["AuditCallback", "EpochAudit"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'loraudit.integrations' has no attribute {name!r}")
