"""What an audit during training found, as one line of `audits.jsonl` holds it."""

from __future__ import annotations

from pydantic import Field

from loraudit.spec.form import SCHEMA_VERSION, Strict
from loraudit.spec.results import LimitResult
from loraudit.types import Finding


class EpochAudit(Strict):
    """The model as it was at the end of an epoch."""

    schema_version: int = SCHEMA_VERSION
    epoch: float = Field(description="Epochs trained; not a whole number where training stopped within one.")
    step: int = Field(description="Optimizer steps taken.")
    n_members: int
    n_nonmembers: int
    headline: str
    reference: str = Field(description="What the model was compared with.")
    training_loss: float | None = Field(default=None, description="Last one logged since the audit before.")
    validation_loss: float | None = Field(default=None, description="Evaluated at this step; None where it was not.")
    findings: dict[str, dict[str, Finding]] = Field(default_factory=dict, description="By attack, then by metric.")
    failed_attacks: dict[str, str] = Field(default_factory=dict, description="Why each of them has no findings.")
    failed_gates: dict[str, str] = Field(
        default_factory=dict, description="Why members and non-members differ by more than training, by gate."
    )
    n_exposed: int | None = Field(default=None, description="Members that stand out, by the headline attack.")
    limits: list[LimitResult] = Field(default_factory=list, description="What became of each limit.")
    seconds: float = 0.0
    error: str | None = Field(default=None, description="Why the audit as a whole failed; training went on.")

    @property
    def exceeded(self) -> list[LimitResult]:
        """The limits that came true."""
        return [limit for limit in self.limits if limit.status == "exceeded"]
