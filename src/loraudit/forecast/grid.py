"""The grid of tuning methods that a forecast predicts, and the kernel of each from one set of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from loraudit.spec import ForecastSpec, TargetSet, Task
from loraudit.theory import TuningMethod

_ATTENTION = re.compile(r"attn|attention")


@dataclass(frozen=True, slots=True)
class Candidate(TuningMethod):
    """One tuning method of the grid.

    Attributes:
        task: What would be trained; a classifier's head is trained with every method.
        targets: Linear maps that are adapted.
    """

    task: Task = field(kw_only=True)
    targets: TargetSet = "all"

    @property
    def trains_head(self) -> bool:
        """Whether bias tuning and LoRA train the head besides."""
        return self.task == "classification"

    def kinds(self, known: Iterable[str]) -> list[str]:
        """Kinds of linear maps that LoRA is put on, of these, sorted."""
        return kinds_of(self.targets, known)


def candidates(spec: ForecastSpec, task: Task) -> list[Candidate]:
    """Every method asked for, LoRA at every point of its grid; names say what differs within the grid."""
    found: list[Candidate] = []
    for method in dict.fromkeys(spec.methods):
        found += _loras(spec, task) if method == "lora" else [Candidate(method, method, task=task)]
    return found


def _loras(spec: ForecastSpec, task: Task) -> list[Candidate]:
    alphas: tuple[float | None, ...] = spec.alphas or (None,)
    return [
        _lora(spec, task, rank, variance, alpha, targets)
        for rank in dict.fromkeys(spec.ranks)
        for variance in dict.fromkeys(spec.variances)
        for alpha in dict.fromkeys(alphas)
        for targets in dict.fromkeys(spec.targets)
    ]


def _lora(
    spec: ForecastSpec, task: Task, rank: int, variance: float, alpha: float | None, targets: TargetSet
) -> Candidate:
    told = [f"c={variance:.3g}"] if len(spec.variances) > 1 else []
    told += [f"alpha={alpha:g}"] if alpha is not None and len(spec.alphas) > 1 else []
    told += [f"targets={targets}"] if len(spec.targets) > 1 else []
    name = ",".join([f"lora:{rank}", *told])
    of_rank = 2.0 * rank if alpha is None else alpha
    return Candidate(name, "lora", rank, variance, of_rank, spec.scaling, targets, task=task)


def kinds_of(targets: TargetSet, kinds: Iterable[str]) -> list[str]:
    """Kinds of modules that carry an adapter: those of attention go by their name, all others are the MLP's."""
    return sorted(
        kind for kind in kinds if targets == "all" or (targets == "attention") == bool(_ATTENTION.search(kind))
    )
