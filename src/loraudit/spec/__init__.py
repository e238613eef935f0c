"""Every request and result on disk, as pydantic models that refuse what they do not know.

`AuditSpec` is the one place where an option, its default and its description are written: the
command line, the Python API and spec files are made from it. A spec checks form only; whether a
file exists or a name is known is checked when the audit starts, together with everything else.
"""

from loraudit.spec.comparison import ComparedAttack, ComparedNumber, ComparedRate, ComparedRun, ComparisonResult
from loraudit.spec.contrasts import (
    ArmResult,
    ArmRun,
    ContrastResult,
    ContrastSpec,
    ExposureRow,
    Match,
    MatchedArm,
    MatchedDifference,
    MatchKind,
    MeasuredPoint,
    SeededFinding,
    TriedRate,
)
from loraudit.spec.epochs import EpochAudit
from loraudit.spec.form import SCHEMA_VERSION
from loraudit.spec.making import (
    Request,
    differing_fields,
    explain,
    make_request,
    read_spec_file,
    refuse_newer,
    spec_content,
    spec_hash,
)
from loraudit.spec.recipe import Recipe
from loraudit.spec.requests import DEFAULT_FPRS, AuditSpec, RecordFormat, make_audit_spec
from loraudit.spec.results import (
    AttackResult,
    AuditResult,
    BestAttack,
    DatasetTest,
    ExposedRecord,
    Gate,
    LimitResult,
    MembershipResult,
    ModelSummary,
    Provenance,
    RecordsResult,
    ShadowComparison,
    ShadowSummary,
    SideSummary,
    SlowSummary,
    Subgroup,
    ValidityResult,
    VerdictLevel,
    VerdictResult,
)
from loraudit.spec.schema import SCHEMAS, json_schema
from loraudit.spec.tuning import TuneSpec

__all__ = [
    "DEFAULT_FPRS",
    "SCHEMAS",
    "SCHEMA_VERSION",
    "ArmResult",
    "ArmRun",
    "AttackResult",
    "AuditResult",
    "AuditSpec",
    "BestAttack",
    "ComparedAttack",
    "ComparedNumber",
    "ComparedRate",
    "ComparedRun",
    "ComparisonResult",
    "ContrastResult",
    "ContrastSpec",
    "DatasetTest",
    "EpochAudit",
    "ExposedRecord",
    "ExposureRow",
    "Gate",
    "LimitResult",
    "Match",
    "MatchKind",
    "MatchedArm",
    "MatchedDifference",
    "MeasuredPoint",
    "MembershipResult",
    "ModelSummary",
    "Provenance",
    "Recipe",
    "RecordFormat",
    "RecordsResult",
    "Request",
    "SeededFinding",
    "ShadowComparison",
    "ShadowSummary",
    "SideSummary",
    "SlowSummary",
    "Subgroup",
    "TriedRate",
    "TuneSpec",
    "ValidityResult",
    "VerdictLevel",
    "VerdictResult",
    "differing_fields",
    "explain",
    "json_schema",
    "make_audit_spec",
    "make_request",
    "read_spec_file",
    "refuse_newer",
    "spec_content",
    "spec_hash",
]
