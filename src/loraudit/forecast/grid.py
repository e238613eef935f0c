"""The grid of tuning methods that a forecast predicts, and the kernel of each from one set of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from loraudit.spec import ForecastMethodName, ForecastSpec, LoraScaling, TargetSet, Task
from loraudit.theory import KernelParts, bitfit_kernel, full_kernel, head_kernel, lora_kernel, lora_kernel_error
from loraudit.types import FloatArray

_ATTENTION = re.compile(r"attn|attention")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One tuning method of the grid.

    Attributes:
        name: Of it alone in the grid.
        method: Its kind.
        task: What would be trained; a classifier's head is trained with every method.
        rank: Of LoRA, as all that follows.
        variance: c.
        alpha: Of LoRA.
        targets: Linear maps that are adapted.
        scaling: Of the update.
    """

    name: str
    method: ForecastMethodName
    task: Task
    rank: int = 1
    variance: float = 1.0
    alpha: float = 1.0
    targets: TargetSet = "all"
    scaling: LoraScaling = "alpha/r"

    @property
    def trains_head(self) -> bool:
        """Whether the head has updates of its own."""
        return self.task == "classification"

    def adapts(self, kind: str) -> bool:
        """Whether LoRA is put on linear maps of this kind."""
        return bool(kinds_of(self.targets, [kind]))

    def kernel(self, parts: KernelParts, draw: int | None = None) -> FloatArray:
        """[m, m]; of LoRA the mean over draws of A, or one of them."""
        if self.method == "full":
            return full_kernel(parts)
        if self.method == "head":
            return head_kernel(parts)
        if self.method == "bitfit":
            return bitfit_kernel(parts, with_head=self.trains_head)
        return lora_kernel(
            parts,
            rank=self.rank,
            alpha=self.alpha,
            variance=self.variance,
            kinds=kinds_of(self.targets, parts.lora),
            draw=draw,
            with_head=self.trains_head,
            scaling=self.scaling,
        )

    def kernel_error(self, parts: KernelParts) -> float | None:
        """Of the mean over draws, relative; None for a method without draws."""
        if self.method != "lora":
            return None
        return lora_kernel_error(
            parts,
            rank=self.rank,
            alpha=self.alpha,
            variance=self.variance,
            kinds=kinds_of(self.targets, parts.lora),
            with_head=self.trains_head,
            scaling=self.scaling,
        )


def candidates(spec: ForecastSpec, task: Task) -> list[Candidate]:
    """Every method asked for, LoRA at every point of its grid; names say what differs within the grid."""
    found: list[Candidate] = []
    for method in dict.fromkeys(spec.methods):
        found += _loras(spec, task) if method == "lora" else [Candidate(method, method, task)]
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
    return Candidate(name, "lora", task, rank, variance, of_rank, targets, spec.scaling)


def kinds_of(targets: TargetSet, kinds: Iterable[str]) -> list[str]:
    """Kinds of modules that carry an adapter: those of attention go by their name, all others are the MLP's."""
    return sorted(
        kind for kind in kinds if targets == "all" or (targets == "attention") == bool(_ATTENTION.search(kind))
    )
