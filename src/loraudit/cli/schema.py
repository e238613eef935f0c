"""`loraudit schema`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Document(StrEnum):
    """What has a schema; the same names as `loraudit.spec.SCHEMAS`."""

    spec = "spec"
    result = "result"
    comparison = "comparison"
    tune_spec = "tune-spec"
    contrast_spec = "contrast-spec"
    contrast_result = "contrast-result"
    epoch_audit = "epoch-audit"
    canary_insert_spec = "canary-insert-spec"
    canary_score_spec = "canary-score-spec"
    canary_manifest = "canary-manifest"
    canary_result = "canary-result"
    poison_spec = "poison-spec"
    poison_manifest = "poison-manifest"
    robustness_spec = "robustness-spec"
    robustness_result = "robustness-result"
    forecast_spec = "forecast-spec"
    forecast_result = "forecast-result"
    influence_spec = "influence-spec"
    influence_result = "influence-result"
    scan_spec = "scan-spec"
    scan_result = "scan-result"
    score_spec = "score-spec"
    score_result = "score-result"
    study_spec = "study-spec"
    study_result = "study-result"


def schema(document: Annotated[Document, typer.Argument(help="Which document.")]) -> None:
    """Print the JSON Schema of a spec file, of a result.json or of `loraudit compare --json`."""
    from loraudit.spec import json_schema

    typer.echo(json_schema(document.value), nl=False)
