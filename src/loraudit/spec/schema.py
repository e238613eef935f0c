"""JSON Schemas of what is on disk, for people who read it with other tools."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel

from loraudit.spec.bulk import ScoreResult, ScoreSpec
from loraudit.spec.canaries import CanaryInsertSpec, CanaryManifest, CanaryResult, CanaryScoreSpec
from loraudit.spec.comparison import ComparisonResult
from loraudit.spec.contrasts import ContrastResult, ContrastSpec
from loraudit.spec.epochs import EpochAudit
from loraudit.spec.forecast import ForecastResult, ForecastSpec
from loraudit.spec.form import SCHEMA_VERSION
from loraudit.spec.influence import InfluenceResult, InfluenceSpec
from loraudit.spec.making import Request
from loraudit.spec.poisoning import PoisonManifest, PoisonSpec
from loraudit.spec.requests import AuditSpec
from loraudit.spec.results import AuditResult
from loraudit.spec.robustness import RobustnessResult, RobustnessSpec
from loraudit.spec.scans import ScanResult, ScanSpec
from loraudit.spec.studies import StudyResult, StudySpec
from loraudit.spec.tuning import TuneSpec

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "spec": AuditSpec,
    "result": AuditResult,
    "comparison": ComparisonResult,
    "tune-spec": TuneSpec,
    "contrast-spec": ContrastSpec,
    "contrast-result": ContrastResult,
    "epoch-audit": EpochAudit,
    "canary-insert-spec": CanaryInsertSpec,
    "canary-score-spec": CanaryScoreSpec,
    "canary-manifest": CanaryManifest,
    "canary-result": CanaryResult,
    "poison-spec": PoisonSpec,
    "poison-manifest": PoisonManifest,
    "robustness-spec": RobustnessSpec,
    "robustness-result": RobustnessResult,
    "forecast-spec": ForecastSpec,
    "forecast-result": ForecastResult,
    "influence-spec": InfluenceSpec,
    "influence-result": InfluenceResult,
    "scan-spec": ScanSpec,
    "scan-result": ScanResult,
    "score-spec": ScoreSpec,
    "score-result": ScoreResult,
    "study-spec": StudySpec,
    "study-result": StudyResult,
}


def json_schema(name: str) -> str:
    """The schema of one of `SCHEMAS`, as JSON text (draft 2020-12).

    A spec file may hold `schema_version` beside its keys.

    Raises:
        KeyError: It is none of them.
    """
    is_request = issubclass(SCHEMAS[name], Request)
    made = SCHEMAS[name].model_json_schema(mode="validation" if is_request else "serialization")
    if is_request:
        version = {"type": "integer", "maximum": SCHEMA_VERSION, "description": "Written by loraudit; may be left out."}
        made["properties"] = {"schema_version": version, **made["properties"]}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:loraudit:{name}:{SCHEMA_VERSION}",
    }
    return json.dumps({**head, **made}, indent=2, ensure_ascii=False) + "\n"
