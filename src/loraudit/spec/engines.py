"""Where units of work are carried out. The same fields in every command that has many of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loraudit.spec.form import Strict

EngineName = Literal["local", "ray"]


class EngineOptions(Strict):
    """How many workers, where, and which part of the work. Never changes what is found."""

    engine: EngineName = Field(
        default="local", description="local: processes of this machine. ray: a Ray cluster (loraudit[ray])."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Units carried out at once (default: 1 locally; as many as the cluster has room for).",
    )
    ray_address: str | None = Field(
        default=None,
        description="Ray cluster to join, such as auto or ray://head:10001 (default: one of its own on this machine).",
    )
    worker_cpus: float = Field(default=1, gt=0, description="CPU cores of a worker; its threads.")
    worker_gpus: float = Field(default=0, ge=0, description="GPUs of a worker; 0.5 puts two workers on one.")
    unit_retries: int = Field(default=2, ge=0, description="Times a unit is given to another worker when its own dies.")
    shard: str | None = Field(
        default=None,
        pattern=r"^\d+/\d+$",
        description="i/n: carry out only part i of n of the units, counted from 1, for array jobs; run again without "
        "it to put the parts together.",
    )


HOW_UNITS_ARE_CARRIED_OUT = frozenset(EngineOptions.model_fields)
"""For `how_not_what` of requests that have these fields."""
