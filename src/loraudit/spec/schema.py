"""JSON Schemas of what is on disk, for people who read it with other tools."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel

from loraudit.spec.comparison import ComparisonResult
from loraudit.spec.form import SCHEMA_VERSION
from loraudit.spec.requests import AuditSpec
from loraudit.spec.results import AuditResult

SCHEMAS: Mapping[str, type[BaseModel]] = {"spec": AuditSpec, "result": AuditResult, "comparison": ComparisonResult}


def json_schema(name: str) -> str:
    """The schema of `spec`, `result` or `comparison`, as JSON text (draft 2020-12).

    A spec file may hold `schema_version` beside its keys.

    Raises:
        KeyError: It is none of them.
    """
    made = SCHEMAS[name].model_json_schema(mode="validation" if name == "spec" else "serialization")
    if name == "spec":
        version = {"type": "integer", "maximum": SCHEMA_VERSION, "description": "Written by loraudit; may be left out."}
        made["properties"] = {"schema_version": version, **made["properties"]}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:loraudit:{name}:{SCHEMA_VERSION}",
    }
    return json.dumps({**head, **made}, indent=2, ensure_ascii=False) + "\n"
