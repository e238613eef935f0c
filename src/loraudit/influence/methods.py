"""Which kernel describes a method of a contrast, or why none does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loraudit.spec import KAIMING_VARIANCE, ArmResult, Recipe
from loraudit.theory import (
    Family,
    KernelParts,
    Scaling,
    bitfit_kernel,
    full_kernel,
    head_kernel,
    lora_kernel,
    lora_kernel_error,
)
from loraudit.types import FloatArray

_FAMILIES: dict[str, Family] = {"kaiming": "uniform", "gaussian": "gaussian"}


@dataclass(frozen=True, slots=True)
class Kernelled:
    """A method of a contrast that has a kernel.

    Attributes:
        name: In the contrast.
        method: full, head, bitfit or lora.
        rank: Of LoRA, as all that follows.
        variance: c.
        alpha: Of LoRA.
        scaling: Of the update.
        family: Of A.
        targets: Names of the modules it is put on; "all-linear" for all outside the head.
    """

    name: str
    method: str
    rank: int = 1
    variance: float = 1.0
    alpha: float = 1.0
    scaling: Scaling = "alpha/r"
    family: Family = "uniform"
    targets: tuple[str, ...] = ("all-linear",)

    @property
    def trains_head(self) -> bool:
        """A language model's head is trained by full and head-only tuning alone."""
        return False

    def adapts(self, kind: str) -> bool:
        """Whether LoRA is put on linear maps of this kind, by the end of its name, as PEFT goes by it."""
        return self.targets == ("all-linear",) or any(
            kind == target or kind.endswith(f".{target}") for target in self.targets
        )

    def kernel(self, parts: KernelParts, draw: int | None = None) -> FloatArray:
        """[m, m]; of LoRA the mean over draws of A, or one of them."""
        if self.method == "full":
            return full_kernel(parts)
        if self.method == "head":
            return head_kernel(parts)
        if self.method == "bitfit":
            return bitfit_kernel(parts, with_head=False)
        return lora_kernel(
            parts,
            rank=self.rank,
            alpha=self.alpha,
            variance=self.variance,
            kinds=self.kinds(parts.lora),
            draw=draw,
            with_head=False,
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
            kinds=self.kinds(parts.lora),
            with_head=False,
            scaling=self.scaling,
        )

    def kinds(self, known: Iterable[str]) -> list[str]:
        """Those that it adapts, of these."""
        return sorted(kind for kind in known if self.adapts(kind))


def kernelled(arm: ArmResult, known: Iterable[str]) -> Kernelled | str:
    """What has the method's kernel, or why nothing has.

    Args:
        arm: Of the contrast.
        known: Kinds of linear maps outside the head.
    """
    recipe = Recipe.model_validate(arm.recipe)
    why = _unsupported(recipe)
    if why is not None:
        return why
    if recipe.method != "lora":
        return Kernelled(arm.name, recipe.method)
    found = Kernelled(
        arm.name,
        "lora",
        rank=recipe.rank,
        variance=recipe.init_variance or KAIMING_VARIANCE,
        alpha=recipe.scale,
        scaling="alpha/sqrt(r)" if recipe.rslora else "alpha/r",
        family=_FAMILIES[recipe.init],
        targets=recipe.targets,
    )
    names = list(known)
    unmatched = [
        target
        for target in recipe.targets
        if target != "all-linear" and not any(kind == target or kind.endswith(f".{target}") for kind in names)
    ]
    if unmatched:
        return f"its target {', '.join(unmatched)} is no kind of linear map outside the head"
    return found


def _unsupported(recipe: Recipe) -> str | None:
    if recipe.method not in {"full", "head", "bitfit", "lora"}:
        return f"no kernel of the method {recipe.method} is known here"
    if recipe.is_private:
        return "differential privacy clips every record and adds noise, which no kernel has"
    if recipe.label_smoothing or recipe.token_drop:
        return "it is not trained on the log-probability of every token (label smoothing, or dropped tokens)"
    if recipe.method == "lora":
        if recipe.dora:
            return "DoRA trains magnitudes apart from directions, which the kernel of LoRA has not"
        if recipe.init not in _FAMILIES:
            return f"LoRA that starts by {recipe.init} does not start at the base with B = 0"
        if recipe.spread:
            return "its penalty on strong directions is no part of the kernel"
    return None
