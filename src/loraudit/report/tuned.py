"""How the methods of a run were tuned: learning rates and recipes as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from loraudit.report.cells import Cell
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.report.templating import words_of
from loraudit.spec import TriedRate


class Tuned(Protocol):
    """What every result says of a tuning method."""

    @property
    def name(self) -> str:
        """As asked for."""
        ...

    @property
    def learning_rate(self) -> float:
        """That was taken."""
        ...

    @property
    def search(self) -> list[TriedRate]:
        """Rates tried; empty where it was given."""
        ...

    @property
    def recipe(self) -> dict[str, Any]:
        """Of its first run."""
        ...


def search_sheet(methods: Sequence[Tuned]) -> Sheet | None:
    """Learning rates that were tried; None where all were given."""
    if not any(arm.search for arm in methods):
        return None
    rates = sorted({tried.learning_rate for arm in methods for tried in arm.search})
    rows: list[SheetRow] = []
    for position, arm in enumerate(methods):
        tried = {one.learning_rate: one.validation_loss for one in arm.search}
        cells = [
            Cell("")
            if rate not in tried
            else Cell("diverged")
            if tried[rate] is None
            else Cell(f"{tried[rate]:.3f}", remark="chosen" if rate == arm.learning_rate else "")
            for rate in rates
        ]
        rows.append(SheetRow(arm.name, [Cell(_power(arm.learning_rate)), *cells], arm=position))
    return Sheet("Search for the learning rate", "method", ["chosen rate", *map(_power, rates)], rows)


def edge_words(methods: Sequence[Tuned]) -> str | None:
    """Which methods took a rate at an end of those tried, beyond which a better one may lie."""
    found: list[str] = []
    for arm in methods:
        rates = sorted(tried.learning_rate for tried in arm.search)
        if len(rates) > 1 and arm.learning_rate in {rates[0], rates[-1]}:
            found.append(f"{arm.name} took the {'lowest' if arm.learning_rate == rates[0] else 'highest'}")
    if not found:
        return None
    return f"{'; '.join(found)} of the rates tried: a better one may lie beyond, so its fit may be understated."


def recipe_sheet(methods: Sequence[Tuned]) -> tuple[Sheet | None, list[tuple[str, str]]]:
    """Settings in which the methods differ as a table, and those that all share with their value."""
    settings = list(dict.fromkeys(name for arm in methods for name in arm.recipe if name != "seed"))
    by_arm = [
        {name: words for name, value in arm.recipe.items() if value is not None and (words := words_of(value))}
        for arm in methods
    ]
    shared: list[tuple[str, str]] = []
    differing: list[str] = []
    for name in settings:
        values = {of_arm.get(name) for of_arm in by_arm}
        if len(values) > 1:
            differing.append(name)
        elif None not in values:
            shared.append((name.replace("_", " "), by_arm[0][name]))
    if not differing:
        return None, shared
    columns = ["kind of tuning" if name == "method" else name.replace("_", " ") for name in differing]
    rows = [
        SheetRow(arm.name, [Cell(values.get(name, "")) for name in differing], arm=position)
        for position, (arm, values) in enumerate(zip(methods, by_arm, strict=True))
    ]
    return Sheet("Settings in which the methods differ", "method", columns, rows), shared


def _power(value: float) -> str:
    """0.0003 as "3e-4", so that rates of all sizes read alike."""
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
