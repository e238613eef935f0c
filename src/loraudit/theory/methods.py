"""What a tuning method trains, and the kernel that describes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loraudit.spec import ForecastMethodName
from loraudit.theory.parts import (
    KernelParts,
    Scaling,
    bitfit_kernel,
    full_kernel,
    head_kernel,
    lora_kernel,
    lora_kernel_error,
)
from loraudit.types import FloatArray


@dataclass(frozen=True, slots=True)
class TuningMethod(ABC):
    """A tuning method that has a kernel.

    Attributes:
        name: Of it alone among those it stands beside.
        method: Its kind.
        rank: Of LoRA, as all that follows.
        variance: c: the entries of A have variance c / n, n the width of their map.
        alpha: Of s = α / r or α / √r.
        scaling: Which of the two.
    """

    name: str
    method: ForecastMethodName
    rank: int = 1
    variance: float = 1.0
    alpha: float = 1.0
    scaling: Scaling = "alpha/r"

    @property
    @abstractmethod
    def trains_head(self) -> bool:
        """Whether bias tuning and LoRA train the head besides."""

    @abstractmethod
    def kinds(self, known: Iterable[str]) -> list[str]:
        """Kinds of linear maps that LoRA is put on, of these, sorted."""

    def adapts(self, kind: str) -> bool:
        """Whether LoRA is put on linear maps of this kind."""
        return bool(self.kinds([kind]))

    def kernel(self, parts: KernelParts, draw: int | None = None) -> FloatArray:
        """[m, m]; of LoRA the mean over draws of A, or one of them.

        Raises:
            ConfigError: Its rank, a kind or the draw was not measured.
        """
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
            kinds=self.kinds(parts.lora),
            draw=draw,
            with_head=self.trains_head,
            scaling=self.scaling,
        )

    def kernels(self, parts: KernelParts, draws: Iterable[int] | None = None) -> Iterator[FloatArray]:
        """[m, m] of every draw of A, one after the other: what a run may have; a single one without draws.

        Args:
            parts: Of one base.
            draws: Of those that were measured; None for all.

        Raises:
            ConfigError: As `kernel`.
        """
        known = range(parts.n_draws) if draws is None else draws
        for draw in known if self.method == "lora" else (None,):
            yield self.kernel(parts, draw)

    def kernel_error(self, parts: KernelParts) -> float | None:
        """Of the mean over draws, relative; None for a method without draws.

        Raises:
            ConfigError: As `kernel`.
        """
        if self.method != "lora":
            return None
        return lora_kernel_error(
            parts,
            rank=self.rank,
            alpha=self.alpha,
            variance=self.variance,
            kinds=self.kinds(parts.lora),
            with_head=self.trains_head,
            scaling=self.scaling,
        )
