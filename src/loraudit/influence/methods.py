"""Which kernel describes a method of a contrast, or why none does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loraudit.spec import FORECAST_METHODS, KAIMING_VARIANCE, ArmResult, Recipe
from loraudit.theory import FAMILY_OF, Family, TuningMethod, no_kernel_of


@dataclass(frozen=True, slots=True)
class Kernelled(TuningMethod):
    """A method of a contrast that has a kernel.

    Attributes:
        family: Of A.
        targets: Names of the modules LoRA is put on; "all-linear" for all outside the head.
    """

    family: Family = "uniform"
    targets: tuple[str, ...] = ("all-linear",)

    @property
    def trains_head(self) -> bool:
        """A language model's head is trained by full and head-only tuning alone."""
        return False

    def kinds(self, known: Iterable[str]) -> list[str]:
        """Kinds of linear maps that LoRA is put on, of these: by the end of their names, as PEFT goes by it."""
        if self.targets == ("all-linear",):
            return sorted(known)
        return sorted(kind for kind in known if any(_is_named(kind, target) for target in self.targets))


def kernelled(arm: ArmResult, known: Iterable[str]) -> Kernelled | str:
    """What has the method's kernel, or why nothing has.

    Args:
        arm: Of the contrast.
        known: Kinds of linear maps outside the head.
    """
    recipe = Recipe.model_validate(arm.recipe)
    why = no_kernel_of(recipe)
    if why is not None:
        return why
    if recipe.method != "lora":
        return Kernelled(arm.name, next(method for method in FORECAST_METHODS if method == recipe.method))
    found = Kernelled(
        arm.name,
        "lora",
        rank=recipe.rank,
        variance=recipe.init_variance or KAIMING_VARIANCE,
        alpha=recipe.scale,
        scaling="alpha/sqrt(r)" if recipe.rslora else "alpha/r",
        family=FAMILY_OF[recipe.init],
        targets=recipe.targets,
    )
    names = list(known)
    unmatched = [
        target
        for target in recipe.targets
        if target != "all-linear" and not any(_is_named(kind, target) for kind in names)
    ]
    if unmatched:
        return f"its target {', '.join(unmatched)} is no kind of linear map outside the head"
    return found


def _is_named(kind: str, target: str) -> bool:
    return kind == target or kind.endswith(f".{target}")
