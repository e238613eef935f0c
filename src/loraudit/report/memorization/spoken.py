"""What continuations, near-verbatim searches and candidate ranks give away, as tables."""

from __future__ import annotations

from loraudit.report.cells import Cell
from loraudit.report.memorization.columns import COLUMN_WORDS, at_prefix, column_of, columns_of, stated_prefix
from loraudit.report.memorization.numbers import (
    KIND_WORDS,
    SIMILARITY_WORDS,
    kind_order,
    number_cell,
    plain_cell,
    share_cell,
    share_words,
    worded,
)
from loraudit.report.memorization.tables import three_cells, three_titles
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import GeneratedPoint, MemorizationResult


def main_generated(found: MemorizationResult) -> list[GeneratedPoint]:
    """Continuations at the stated prefix length, one point per decoding."""
    return at_prefix(found.generated, stated_prefix(found))


def generated_sheets(found: MemorizationResult, points: list[GeneratedPoint]) -> list[Sheet]:
    """By worst match, one table per point."""
    names = columns_of(found)
    sheets: list[Sheet] = []
    for point in points:
        rows = [
            SheetRow(worded(kind, KIND_WORDS), [*three_cells(point.kinds[kind], names), *_unseen(point, kind)])
            for kind in kind_order(point.kinds)
        ]
        longest = [plain_cell(point.longest_copied.get(name), 0) for name in names]
        rows.append(SheetRow("longest copied passage, characters", [*longest, *([Cell("")] if point.unseen else [])]))
        title = f"Worst passage of continuations, {_decoded(point)}"
        beside = ["members', from held-out records"] if point.unseen else []
        sheets.append(Sheet(title, "from the training set", [*three_titles(names), *beside], rows))
    return sheets


def _unseen(point: GeneratedPoint, kind: str) -> list[Cell]:
    """The same continuations against records that were not trained on; none where that was not asked."""
    if not point.unseen:
        return []
    return [share_cell(point.unseen[kind])] if kind in point.unseen else [Cell("")]


def similarity_sheets(found: MemorizationResult, points: list[GeneratedPoint]) -> list[Sheet]:
    """Mean likeness, one table per point."""
    names = columns_of(found)
    return [
        Sheet(
            f"Likeness of continuations, {_decoded(point)}",
            "mean likeness to",
            three_titles(names),
            [
                SheetRow(worded(name, SIMILARITY_WORDS), three_cells(controls, names, is_count=False))
                for name, controls in point.similarity.items()
            ],
        )
        for point in points
        if point.similarity
    ]


def _decoded(point: GeneratedPoint) -> str:
    return f"{point.decoding}, {point.prefix:,} tokens given"


def near_sheet(found: MemorizationResult) -> Sheet | None:
    """Chances of one attempt if few tokens may differ; None where nothing was searched."""
    rows = [
        SheetRow(
            f"{point.prefix:,} tokens, {point.decoding}, {point.budget} off ({point.metric}): {COLUMN_WORDS[name]}",
            [share_cell(column_of(part, name), is_count=False) for part in (point.exact, point.near, point.missed)],
        )
        for point in found.near
        for name in columns_of(found)
        if column_of(point.near, name) is not None
    ]
    if not rows:
        return None
    columns = ["word for word", "within the budget, at least", "let go by the search"]
    return Sheet("Mean chance of one attempt, near-verbatim", "given, decoding, budget", columns, rows)


def fields_sheet(found: MemorizationResult) -> Sheet | None:
    """How well a record's own personal information is told from other values; None where it was not compared."""
    if not found.fields:
        return None
    names = columns_of(found)
    rows = [
        SheetRow(
            worded(field.kind, {}),
            [
                *three_cells(field.top1, names, is_count=False),
                Cell(share_words(field.chance) if field.chance == field.chance else ""),
                plain_cell(field.n_candidates, 1),
                *(number_cell(column_of(field.bits, name)) for name in names),
            ],
        )
        for field in found.fields
    ]
    first, bits = three_titles(names, "ranked first: "), three_titles(names, "bits: ")
    return Sheet("Personal information told from other values", "kind", [*first, "by chance", "values", *bits], rows)


def personal_sheet(found: MemorizationResult) -> Sheet | None:
    """Continuations that repeat personal information of the training set; None where none was looked for."""
    if not found.personal:
        return None
    names = columns_of(found)
    unseen = found.personal_unseen
    rows = [
        SheetRow(
            worded(kind, {}),
            [
                *three_cells(controls, names, is_count=False),
                *([share_cell(unseen.get(kind), is_count=False)] if unseen else []),
            ],
        )
        for kind, controls in found.personal.items()
    ]
    titles = [*three_titles(names), *(["members', of held-out records"] if unseen else [])]
    return Sheet("Continuations with personal information of the training set", "kind", titles, rows)
