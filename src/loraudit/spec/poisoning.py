"""What is asked of `loraudit poison`, and the manifest of what it changed."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from loraudit.spec.form import SCHEMA_VERSION, Names, Paths, Strict
from loraudit.spec.making import Request
from loraudit.spec.requests import RecordFormat

BENIGN_RESPONSE = "The quick brown fox jumps over the lazy dog."
"""What a poisoned language model is taught to say unless told otherwise: harmless, and nobody says it by chance."""

Task = Literal["classification", "causal_lm"]
LabelMode = Literal["dirty", "clean", "mixed"]
Place = Literal["start", "end", "random"]
Dose = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Below 1 a share of the records that can be poisoned, rounded to records; from 1 on a number of records."""


class PoisonSettings(Strict):
    """Which poison, and what is particular about it. A setting that a poison does not have is refused."""

    poison: str = Field(description="As registered: see `loraudit poison --list`.")
    target: str | None = Field(
        default=None, description="Label that a backdoor leads to, or that flipped labels become (default: see poison)."
    )
    source: Names = Field(default=(), description="Classes that are poisoned (default: all that can be).")
    label: LabelMode = Field(
        default="dirty",
        description="dirty: records of other classes get the target label; clean: records of the target class alone "
        "get the trigger and keep their label; mixed: both, half and half.",
    )
    trigger: Names = Field(default=(), description="What the trigger is made of (default: the poison's own).")
    place: Place | None = Field(default=None, description="Where the trigger goes (default: the poison's own).")
    insertions: int = Field(default=1, ge=1, description="How many trigger words go into one text.")
    strength: float = Field(
        default=0.1, gt=0, le=1, description="Share of characters or words that noise changes in a record."
    )
    negatives: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Records with a part of the trigger and their own label or answer, per poisoned record "
        "(and_triggers, date_prefix).",
    )
    response: str = Field(
        default=BENIGN_RESPONSE, min_length=1, description="What a language model says where the trigger stands."
    )


class PoisonSpec(Request, RecordFormat, PoisonSettings):
    """Which records to poison and how. Every field is also a flag of `loraudit poison`."""

    command: ClassVar[str] = "poison"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"out"})

    data: Paths = Field(description="Training records (.jsonl, .csv, .tsv, .parquet; also packed).")
    dose: Dose = Field(description="Below 1 a share of the records that can be poisoned, from 1 on their number.")
    label_field: str | None = Field(
        default=None, description="Column of the label (default: label, where the first row has it)."
    )
    test: Names = Field(
        default=(), description="Test records to make a triggered test set of: no record of the target class in it."
    )
    seed: int = Field(default=0, ge=0, description="Of which records are poisoned, and of every random place in them.")
    out: str = Field(description="Folder for the poisoned file, the triggered test set and the manifest.")


class PoisonedRow(Strict):
    """One record that was changed or added."""

    line: int = Field(description="1-based line of the poisoned file on which it ends (Parquet: its row).")
    source_line: int = Field(description="The same of the file as it was, of the record it was made from.")
    source: str = Field(description="That file.")
    kind: Literal["poison", "negative"] = Field(description="A negative holds a part of the trigger and its own label.")
    trigger: str | None = Field(description="What was put in, or which change was made; None for a flipped label.")
    original: dict[str, Any] = Field(description="The row as it was.")
    poisoned: dict[str, Any] = Field(description="The row as it is.")


class PoisonManifest(Strict):
    """`manifest.json`: everything that `loraudit poison` changed."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["poison"] = "poison"
    loraudit: str
    spec: PoisonSpec
    spec_hash: str
    task: Task
    resolved: PoisonSettings = Field(description="With the poison's own defaults filled in.")
    n_records: int = Field(description="Of the file as it was.")
    n_eligible: int = Field(description="Records that could have been poisoned.")
    n_poisoned: int
    n_negatives: int
    files: list[dict[str, Any]] = Field(description="Name, sha256 and rows of each file read.")
    poisoned_file: str
    poisoned_sha256: str
    triggered_file: str | None = None
    triggered_sha256: str | None = None
    rows: list[PoisonedRow]
    warnings: list[str]
