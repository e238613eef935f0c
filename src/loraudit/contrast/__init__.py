"""The spine of `loraudit contrast`: one base, the same records, several tuning methods, compared at matched fit.

records → split → learning rates → training runs → leakage of every checkpoint → comparison → one report
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.contrast.estimate import ContrastCost as ContrastCost
    from loraudit.contrast.estimate import estimate_contrast as estimate_contrast
    from loraudit.contrast.spine import ContrastRun as ContrastRun
    from loraudit.contrast.spine import run_contrast as run_contrast

_WHERE = {
    "ContrastCost": "estimate",
    "ContrastRun": "spine",
    "estimate_contrast": "estimate",
    "run_contrast": "spine",
}

__all__ = ["ContrastCost", "ContrastRun", "estimate_contrast", "run_contrast"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"loraudit.contrast.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'loraudit.contrast' has no attribute {name!r}")
