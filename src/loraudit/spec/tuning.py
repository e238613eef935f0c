"""What is asked of `loraudit tune`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, PositiveInt

from loraudit.spec.form import Names, Paths, as_tuple
from loraudit.spec.making import Request
from loraudit.spec.recipe import Recipe
from loraudit.spec.requests import RecordFormat

Repeats = Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple)]


class TuneSpec(Request, Recipe, RecordFormat):
    """What to tune, on what and how. Every field is also a flag of `loraudit tune` and a key of a spec file."""

    command: ClassVar[str] = "tune"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"device", "offline", "out"})

    base: str = Field(description="Checkpoint to start from: a folder or a hub name.")
    data: Paths = Field(description="Records to tune on (.jsonl, .csv, .tsv, .parquet, .txt; also packed).")
    validation: Names = Field(default=(), description="Records to take the validation loss on.")
    validation_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the data held out for that where none are given; 0 for none."
    )
    label_field: str | None = Field(default=None, description="Column of the label, with --task classification.")
    repeats: Repeats = Field(
        default=(),
        description="Plant duplicates: each number of repeats goes to an equal share of the records, at random.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
    out: str | None = Field(default=None, description="Folder of the tuned model (default: runs/tune-<hash>).")

    @property
    def recipe(self) -> Recipe:
        """How to tune."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})
