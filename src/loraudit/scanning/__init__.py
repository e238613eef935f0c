"""The spine of `loraudit scan`: an adapter's weights and behaviour are searched for signs of a planted backdoor.

file → spectra → modules that stand out; base and adapter → probes → triggers that stand out; both → result.json, report
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.scanning.request import run_path as run_path
    from loraudit.scanning.spine import ScanRun as ScanRun
    from loraudit.scanning.spine import run_scan as run_scan

_WHERE = {"ScanRun": "spine", "run_path": "request", "run_scan": "spine"}

__all__ = ["ScanRun", "run_path", "run_scan"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"loraudit.scanning.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'loraudit.scanning' has no attribute {name!r}")
