"""Finished runs, read back from their folders."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple, TypeVar

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

_OTHER_KINDS = {
    "canaries": "a search for canaries",
    "robustness": "a robustness run",
    "forecast": "a forecast",
    "influence": "an influence run",
    "study": "a study",
}


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


def read_run(path: Path) -> Run:
    """Read a finished audit.

    Raises:
        ConfigError: The folder holds no finished audit, or one written by a newer version.
        StoreError: A file of it is damaged.
    """
    try:
        raw = (path / "result.json").read_bytes()
        table_bytes = (path / "scores.parquet").read_bytes()
        text_bytes = (path / "text.parquet").read_bytes() if (path / "text.parquet").exists() else None
    except OSError:
        if read_scan(path) is not None:
            raise ConfigError(
                f"Folder '{path}' holds a scan, which this does not take. Expected an audit. See: loraudit scan --help"
            ) from None
        raise ConfigError(
            f"Folder '{path}' holds no finished run. Expected result.json and scores.parquet. "
            "Run the audit to its end first; the same command resumes."
        ) from None
    try:
        content = json.loads(raw)
        if isinstance(content, dict) and content.get("kind") == "contrast":
            raise ConfigError(
                f"Folder '{path}' holds a contrast, which this does not take. Name one of the audits in its folder "
                "'audits', or see: loraudit report --help"
            )
        held = _OTHER_KINDS.get(str(content.get("kind"))) if isinstance(content, dict) else None
        if held is not None:
            raise ConfigError(
                f"Folder '{path}' holds {held}, which this does not take. Expected an audit. See: "
                "loraudit report --help"
            )
        version = content.get("schema_version") if isinstance(content, dict) else None
        refuse_newer(version, f"Run '{path}'")
        result = AuditResult.model_validate_json(raw)
        scores = pq.read_table(io.BytesIO(table_bytes), page_checksum_verification=True)
        text = None if text_bytes is None else pq.read_table(io.BytesIO(text_bytes), page_checksum_verification=True)
    except (ValueError, OSError, RecursionError, pa.ArrowException) as error:
        raise StoreError(f"Run '{path}' is damaged: {_in_short(error)}. Run the audit again; it resumes.") from None
    return Run(path, result, scores, text)


def read_measures(path: Path) -> pa.Table:
    """Read `memorization.parquet` of a finished audit.

    Raises:
        StoreError: It is missing or damaged.
    """
    try:
        content = (path / "memorization.parquet").read_bytes()
        return pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"Run '{path}' is damaged: {error}. Run the audit again; it resumes.") from None


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
        content = (path / "influence.parquet").read_bytes()
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"Run '{path}' is damaged: {error}. Run it again.") from None
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
        return str(error)
    first, n_further = error.errors()[0], error.error_count() - 1
    place = ".".join(map(str, first["loc"])) or "result.json"
    further = f", and {n_further} more fields do not fit this version of loraudit" if n_further else ""
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}{further}"
