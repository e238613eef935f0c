"""What is put into training files: canaries, which are looked for in the tuned model, and poisons.

file → canaries → planted file and manifest; manifest and model → evidence → exposures and ε → result.json, report.html
files and a dose → poisoned file, triggered test file and manifest
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.planting.estimate import ScoringCost as ScoringCost
    from loraudit.planting.estimate import estimate_score as estimate_score
    from loraudit.planting.insert import Planted as Planted
    from loraudit.planting.insert import PlantingCost as PlantingCost
    from loraudit.planting.insert import estimate_insert as estimate_insert
    from loraudit.planting.insert import run_insert as run_insert
    from loraudit.planting.poison import PoisonCost as PoisonCost
    from loraudit.planting.poison import PoisonedFiles as PoisonedFiles
    from loraudit.planting.poison import estimate_poison as estimate_poison
    from loraudit.planting.poison import run_poison as run_poison
    from loraudit.planting.score import CanaryRun as CanaryRun
    from loraudit.planting.score import exit_code as exit_code
    from loraudit.planting.score import run_path as run_path
    from loraudit.planting.score import run_score as run_score

_WHERE = {
    "CanaryRun": "score",
    "Planted": "insert",
    "PlantingCost": "insert",
    "PoisonCost": "poison",
    "PoisonedFiles": "poison",
    "ScoringCost": "estimate",
    "estimate_insert": "insert",
    "estimate_poison": "poison",
    "estimate_score": "estimate",
    "exit_code": "score",
    "run_insert": "insert",
    "run_path": "score",
    "run_poison": "poison",
    "run_score": "score",
}

__all__ = [
    "CanaryRun",
    "Planted",
    "PlantingCost",
    "PoisonCost",
    "PoisonedFiles",
    "ScoringCost",
    "estimate_insert",
    "estimate_poison",
    "estimate_score",
    "exit_code",
    "run_insert",
    "run_path",
    "run_poison",
    "run_score",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"loraudit.planting.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'loraudit.planting' has no attribute {name!r}")
