"""What every request and result on disk has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA_VERSION = 2
"""Of requests and results. One version back can still be read."""


class Strict(BaseModel):
    """Refuses what it does not know; writes NaN and infinities as strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings", defer_build=True)


def as_tuple(value: object) -> object:
    """One value as a tuple of one, so that a spec file may leave the brackets out."""
    values = (value,) if isinstance(value, str | Path | float | int) else value
    return [str(v) if isinstance(v, Path) else v for v in values] if isinstance(values, list | tuple) else values


Rate = Annotated[float, Field(gt=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Paths = Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)]
