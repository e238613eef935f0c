"""Finished runs, read back from their folders."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from loraudit.errors import ConfigError, StoreError
from loraudit.spec import (
    AuditResult,
    ContrastResult,
    ForecastResult,
    InfluenceResult,
    RobustnessResult,
    ScanResult,
    StudyResult,
    refuse_newer,
)
from loraudit.types import FloatArray

_KINDS = {
    "audit": "an audit",
    "canaries": "a search for canaries",
    "contrast": "a contrast",
    "forecast": "a forecast",
    "influence": "an influence run",
    "robustness": "a robustness run",
    "scan": "a scan",
    "score": "scores of records",
    "study": "a study",
}
_RUNS_WITHIN = {"contrast": "audits", "study": "cells"}
_LEFT_BY_RUNS = ("spec.json", "log.jsonl", "scores.parquet")


class Run(NamedTuple):
    """A finished run, read back.

    Attributes:
        path: Its folder.
        result: `result.json`.
        scores: `scores.parquet`.
        text: `text.parquet`, where text was asked for.
    """

    path: Path
    result: AuditResult
    scores: pa.Table
    text: pa.Table | None = None

    def column(self, name: str) -> FloatArray:
        """One attack's scores, [N] float64."""
        return np.asarray(self.scores.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def refused_folder(path: Path, expected: str) -> ConfigError:
    """Why a folder cannot be taken for a finished run of the kind that is needed, and what it holds instead.

    Args:
        path: As it was given.
        expected: What is needed, with its article.
    """
    if not os.path.exists(path):  # noqa: PTH110 - a name that no file can have does not exist either
        return ConfigError(f"Folder '{path}' does not exist. Expected {expected}. Check the path.")
    if not path.is_dir():
        return ConfigError(f"'{path}' is a file. Expected the run folder of {expected}. Check the path.")
    if (path / "result.json").exists():
        content = _content(path)
        if content is None:
            return ConfigError(
                f"Folder '{path}' holds a result.json that cannot be read. Expected {expected}. Run it again; it "
                "resumes."
            )
        kind = str(content.get("kind", "audit"))
        held = _KINDS.get(kind, f"a run of the kind '{kind}'")
        within = path / _RUNS_WITHIN[kind] if kind in _RUNS_WITHIN else None
        remedy = "Name another folder." if within is None else f"Name one of the runs in '{within}', or another folder."
        return ConfigError(f"Folder '{path}' holds {held}, which this does not take. Expected {expected}. {remedy}")
    if any((path / name).exists() for name in _LEFT_BY_RUNS):
        return ConfigError(
            f"Folder '{path}' holds a run that has not finished. Expected {expected}, to its end. Give the command "
            "that began it once more; it goes on."
        )
    return ConfigError(f"Folder '{path}' holds no run. Expected {expected}. Check the path.")


def read_run(path: Path, *, expected: str = "an audit") -> Run:
    """Read a finished audit.

    Args:
        path: Its folder.
        expected: What the command takes, with its article, for its message.

    Raises:
        ConfigError: The folder holds no finished audit, or one written by a newer version.
        StoreError: A file of it is damaged.
    """
    try:
        raw = (path / "result.json").read_bytes()
    except OSError:
        raise refused_folder(path, expected) from None
    try:
        content = json.loads(raw)
        of_audit = not isinstance(content, dict) or content.get("kind") is None
        refuse_newer(content.get("schema_version") if isinstance(content, dict) else None, f"Run '{path}'")
        if not of_audit:
            raise refused_folder(path, expected)
        result = AuditResult.model_validate_json(raw)
        if not (path / "scores.parquet").exists():
            raise ConfigError(
                f"Folder '{path}' holds an audit without its scores.parquet. Expected both files of a finished one. "
                "Put it back, or run the audit again; it resumes."
            )
        scores = _read_table(path / "scores.parquet")
        text = _read_table(path / "text.parquet") if (path / "text.parquet").exists() else None
    except (ValueError, OSError, RecursionError, pa.ArrowException) as error:
        raise StoreError(f"Run '{path}' is damaged: {_in_short(error)}. Run the audit again; it resumes.") from None
    return Run(path, result, scores, text)


def _content(path: Path) -> dict[str, Any] | None:
    """`result.json` of a folder as it stands; None where there is none, or no table of keys."""
    try:
        content = json.loads((path / "result.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _read_table(path: Path) -> pa.Table:
    return pq.read_table(io.BytesIO(path.read_bytes()), page_checksum_verification=True)


def read_measures(path: Path) -> pa.Table:
    """Read `memorization.parquet` of a finished audit.

    Raises:
        StoreError: It is missing or damaged.
    """
    try:
        return _read_table(path / "memorization.parquet")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"Run '{path}' is damaged: {_in_short(error)}. Run the audit again; it resumes.") from None


def read_contrast(path: Path) -> ContrastResult | None:
    """Read the result of a finished contrast; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    return read_result(path, "contrast", ContrastResult)


def read_robustness(path: Path) -> RobustnessResult | None:
    """Read the result of a finished robustness run; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    return read_result(path, "robustness", RobustnessResult)


def read_forecast(path: Path) -> ForecastResult | None:
    """Read the result of a finished forecast; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    return read_result(path, "forecast", ForecastResult)


class InfluenceRun(NamedTuple):
    """A finished prediction of single records.

    Attributes:
        path: Its folder.
        result: `result.json`.
        records: `influence.parquet`, one row per record and method.
    """

    path: Path
    result: InfluenceResult
    records: pa.Table


def read_influence(path: Path) -> InfluenceRun | None:
    """Read a finished prediction of single records; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    result = read_result(path, "influence", InfluenceResult)
    if result is None:
        return None
    try:
        table = _read_table(path / "influence.parquet")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"Run '{path}' is damaged: {_in_short(error)}. Run it again.") from None
    return InfluenceRun(path, result, table)


def read_scan(path: Path) -> ScanResult | None:
    """Read the result of a finished scan; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    return read_result(path, "scan", ScanResult)


def read_study(path: Path) -> StudyResult | None:
    """Read the result of a study; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    return read_result(path, "study", StudyResult)


AnyResult = TypeVar("AnyResult", bound=BaseModel)


def read_result(path: Path, kind: str, model: type[AnyResult]) -> AnyResult | None:
    """Read `result.json` of a finished run of this kind; None where the folder holds none.

    Raises:
        NewerVersion: It was written by a newer version.
        StoreError: It is damaged.
    """
    try:
        raw = (path / "result.json").read_bytes()
        content = json.loads(raw)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("kind") != kind:
        return None
    refuse_newer(content.get("schema_version"), f"Run '{path}'")
    try:
        return model.model_validate_json(raw)
    except ValueError as error:
        raise StoreError(f"Run '{path}' is damaged: {_in_short(error)}. Run it again; it resumes.") from None


def _in_short(error: Exception) -> str:
    """What is wrong with a file; of a result only the first field that does not fit."""
    if not isinstance(error, ValidationError):
        return str(error).rstrip(".")
    first, n_further = error.errors()[0], error.error_count() - 1
    place = ".".join(map(str, first["loc"])) or "result.json"
    further = f", and {n_further} more fields do not fit this version of loraudit" if n_further else ""
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}{further}"
