"""Grids of runs: cells named by what they ask, carried out by any engine, read together in one report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.study.cells import Cell as Cell
    from loraudit.study.cells import expand as expand
    from loraudit.study.planning import StudyCost as StudyCost
    from loraudit.study.planning import estimate_study as estimate_study
    from loraudit.study.request import parse_settings as parse_settings
    from loraudit.study.request import read_study as read_study
    from loraudit.study.request import study_path as study_path
    from loraudit.study.spine import StudyRun as StudyRun
    from loraudit.study.spine import exit_code as exit_code
    from loraudit.study.spine import run_study as run_study

_WHERE = {
    "Cell": "cells",
    "StudyCost": "planning",
    "StudyRun": "spine",
    "estimate_study": "planning",
    "exit_code": "spine",
    "expand": "cells",
    "parse_settings": "request",
    "read_study": "request",
    "run_study": "spine",
    "study_path": "request",
}

__all__ = [
    "Cell",
    "StudyCost",
    "StudyRun",
    "estimate_study",
    "exit_code",
    "expand",
    "parse_settings",
    "read_study",
    "run_study",
    "study_path",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"loraudit.study.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'loraudit.study' has no attribute {name!r}")
