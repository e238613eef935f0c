"""What can be pulled out of the models of a comparison, side by side."""

from __future__ import annotations

from collections.abc import Callable

from loraudit.report.cells import Cell
from loraudit.report.memorization.columns import at_prefix, stated_prefix
from loraudit.report.memorization.numbers import KIND_WORDS, number_cell, share_cell, worded
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import Capacity, ContrastResult, MemorizationResult

FIRST_MODELS = (
    "Of the first model of each method, at the end of its training: not at equal loss. The models' losses stand beside."
)
Cells = Callable[[MemorizationResult], list[Cell]]


def extraction_sheets(result: ContrastResult) -> list[Sheet]:
    """Extraction from the evidence, continuations, and by copies; none where it was not measured."""
    measured = [arm.memorization for arm in result.arms if arm.memorization is not None]
    if not measured:
        return []
    first = measured[0]
    prefix = stated_prefix(first)
    given = ", ".join(f"{point.prefix} tokens given" for point in at_prefix(first.greedy, prefix))
    sheets = [
        _sheet(
            result,
            f"Extraction, {given}",
            ["word for word: members", "held-out", "base", "in 1,000 attempts", "mean extraction strength",
             "bits per trained parameter", "loss of members", "of held-out"],
            _extraction,
        )
    ]  # fmt: skip
    for position, point in enumerate(at_prefix(first.generated, prefix)):
        kinds = [kind for kind in KIND_WORDS if kind in point.kinds]
        titles = [*(f"members: {worded(kind, KIND_WORDS)}" for kind in kinds), "from held-out records", "base: any"]
        title = f"Continuations of members traced to the training set, {point.decoding}"
        sheets.append(_sheet(result, title, titles, lambda found, at=position: _traced(found, at)))
    if first.copies:
        titles = [f"{row.copies} copies" for row in first.copies]
        sheets.append(_sheet(result, "Said word for word, by copies in the training set", titles, _by_copies))
    return sheets


def _sheet(result: ContrastResult, title: str, columns: list[str], cells: Cells) -> Sheet:
    rows = [
        SheetRow(arm.name, cells(arm.memorization), arm=position)
        for position, arm in enumerate(result.arms)
        if arm.memorization is not None
    ]
    return Sheet(title, "method", columns, rows)


def _extraction(found: MemorizationResult) -> list[Cell]:
    prefix = stated_prefix(found)
    greedy = at_prefix(found.greedy, prefix)
    often = [
        point
        for point in at_prefix(found.sampled, prefix)
        if (point.top_k, point.temperature, point.p, point.n) == (0, 1.0, 0.5, 1000)
    ]
    said = greedy[0].extracted if greedy else None
    strength = next((one.mean.members for one in found.strengths if one.name == "extraction_strength"), None)
    return [
        *(share_cell(getattr(said, side, None)) for side in ("members", "held_out", "base")),
        share_cell(often[0].extracted.members if often else None),
        number_cell(strength, 3),
        Cell(_per_parameter(found.capacity)),
        number_cell(found.perplexity.members, 3),
        number_cell(found.perplexity.held_out, 3),
    ]


def _per_parameter(held: Capacity | None) -> str:
    if held is not None and held.bits is None:
        return "undefined"
    return "" if held is None or held.bits_per_parameter is None else f"{held.bits_per_parameter:.3g}"


def _traced(found: MemorizationResult, position: int) -> list[Cell]:
    point = at_prefix(found.generated, stated_prefix(found))[position]
    whole = point.kinds["any"]
    return [
        *(share_cell(point.kinds[kind].members) for kind in KIND_WORDS if kind in point.kinds),
        share_cell(point.unseen.get("any")),
        share_cell(whole.base),
    ]


def _by_copies(found: MemorizationResult) -> list[Cell]:
    return [share_cell(row.greedy) for row in found.copies]
