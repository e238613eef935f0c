"""What a prediction of single records would take, before the base runs."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.capture import KernelPlan
from loraudit.influence.measuring import families_of, kernel_plan
from loraudit.influence.preparation import prepare
from loraudit.influence.request import influence_path
from loraudit.spec import InfluenceSpec


@dataclass(frozen=True, slots=True)
class InfluenceCost:
    """What a prediction of single records would take.

    Attributes:
        path: Its run folder.
        n_trained: Members of the contrast.
        n_members: Of them, to be probed.
        n_nonmembers: To be probed.
        n_rows: Windows that go through the base, those of suffixes among them.
        n_tokens: Of them.
        methods: Names of those that are predicted.
        left_out: Names of the others, each with the reason.
        n_families: Families of LoRA's A, each with passes of its own.
        kernels: Passes and memory for one family.
    """

    path: str
    n_trained: int
    n_members: int
    n_nonmembers: int
    n_rows: int
    n_tokens: int
    methods: list[str]
    left_out: dict[str, str]
    n_families: int
    kernels: KernelPlan


def estimate_influence(spec: InfluenceSpec) -> InfluenceCost:
    """Check everything that shows before the base runs, and count.

    Raises:
        LorauditError: As `run_influence`.
    """
    prepared = prepare(spec)
    lengths = [len(ids) for ids in prepared.probe.rows]
    return InfluenceCost(
        path=str(influence_path(spec)),
        n_trained=prepared.contrast.n_members,
        n_members=len(prepared.probe.members),
        n_nonmembers=len(prepared.probe.nonmembers),
        n_rows=len(lengths),
        n_tokens=sum(lengths),
        methods=[one.name for one in prepared.methods],
        left_out={one.name: one.why for one in prepared.left_out},
        n_families=len(families_of(prepared.methods)),
        kernels=kernel_plan(spec, prepared),
    )
