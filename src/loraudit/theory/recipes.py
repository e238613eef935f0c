"""Which recipes a kernel at the start describes, and how PEFT's names of A's start are called here."""

from __future__ import annotations

from collections.abc import Mapping

from loraudit.spec import FORECAST_METHODS, Recipe
from loraudit.theory.parts import Family

FAMILY_OF: Mapping[str, Family] = {"kaiming": "uniform", "gaussian": "gaussian"}
"""By the recipe's `init`. PEFT's orthogonal start is another than the family of that name: its B is not 0."""


def no_kernel_of(recipe: Recipe) -> str | None:
    """Why no kernel of the start describes training by this recipe; None where one does."""
    if recipe.method not in FORECAST_METHODS:
        return f"no kernel of the method {recipe.method} is known here"
    if recipe.is_private:
        return "differential privacy clips every record and adds noise, which no kernel has"
    if recipe.label_smoothing or recipe.token_drop:
        return "it is not trained on the log-probability of every token (label smoothing, or dropped tokens)"
    if recipe.method == "lora":
        if recipe.dora:
            return "DoRA trains magnitudes apart from directions, which the kernel of LoRA has not"
        if recipe.init not in FAMILY_OF:
            return f"LoRA that starts by {recipe.init} does not start at the base with B = 0"
        if recipe.spread:
            return "its penalty on strong directions is no part of the kernel"
    return None
