"""What the evidence alone says of extraction, as tables; and the few lines that stand for all."""

from __future__ import annotations

from loraudit.policy import ends
from loraudit.report.cells import Cell
from loraudit.report.memorization.columns import COLUMN_WORDS, at_prefix, column_of, columns_of, stated_prefix
from loraudit.report.memorization.looks import against_unseen
from loraudit.report.memorization.numbers import (
    STRENGTH_WORDS,
    drawn_words,
    number_cell,
    plain_cell,
    share_cell,
    worded,
)
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import GeneratedPoint, MemorizationResult, SampledPoint, WithControls
from loraudit.types import Finding


def three_cells(controls: WithControls, names: list[str], *, is_count: bool = True) -> list[Cell]:
    """A share, one cell per column."""
    return [share_cell(column_of(controls, name), is_count=is_count) for name in names]


def three_titles(names: list[str], before: str = "") -> list[str]:
    """Titles of the columns."""
    return [f"{before}{COLUMN_WORDS[name]}" for name in names]


def strengths_sheet(found: MemorizationResult) -> Sheet:
    """Means over records of what is memorized of each."""
    names = columns_of(found)
    rows = [
        SheetRow(
            worded(strength.name, STRENGTH_WORDS),
            [*three_cells(strength.mean, names, is_count=False), Cell(strength.summary)],
        )
        for strength in found.strengths
    ]
    titles = [*three_titles(names), "what it is"]
    return Sheet("How much of a record is memorized", "mean of", titles, rows, frozenset({len(names)}))


def greedy_sheet(found: MemorizationResult) -> Sheet:
    """Said word for word, by prefix length."""
    names = columns_of(found)
    rows = [
        SheetRow(f"{point.prefix:,} tokens", [*three_cells(point.extracted, names), Cell(f"{point.n_close:,}")])
        for point in found.greedy
    ]
    title = f"Next {found.suffix} tokens said word for word, greedily"
    return Sheet(title, "given", [*three_titles(names), "members with a close call"], rows)


def sampled_sheet(found: MemorizationResult) -> Sheet | None:
    """Said within n attempts with an even chance, at the stated prefix length and at temperature 1."""
    points = [
        point for point in at_prefix(found.sampled, stated_prefix(found)) if (point.temperature, point.p) == (1.0, 0.5)
    ]
    if not points:
        return None
    names = columns_of(found)
    drawn = list(dict.fromkeys(point.top_k for point in points))
    at = {(point.n, point.top_k): point.extracted for point in points}
    rows = [
        SheetRow(
            f"{n:,} attempt{'' if n == 1 else 's'}",
            [
                cell
                for k in drawn
                for cell in (three_cells(at[n, k], names) if (n, k) in at else [Cell("")] * len(names))
            ],
        )
        for n in sorted({point.n for point in points})
    ]
    titles = [title for k in drawn for title in three_titles(names, f"{f'{k} likeliest' if k else 'all tokens'}: ")]
    title = f"Said within n attempts with an even chance or better, {points[0].prefix} tokens given"
    return Sheet(title, "drawn at T = 1 from", titles, rows)


def sampled_sheets(found: MemorizationResult) -> list[Sheet]:
    """All attempts, chances and decodings, one table per prefix length."""
    names = columns_of(found)
    chances = sorted({point.p for point in found.sampled})
    sheets: list[Sheet] = []
    for prefix in dict.fromkeys(point.prefix for point in found.sampled):
        points = [point for point in found.sampled if point.prefix == prefix]
        by_row: dict[str, dict[float, SampledPoint]] = {}
        for point in points:
            by_row.setdefault(_drawn(point), {})[point.p] = point
        rows = [
            SheetRow(
                drawn,
                [
                    cell
                    for p in chances
                    for cell in (three_cells(of_p[p].extracted, names) if p in of_p else [Cell("")] * len(names))
                ],
            )
            for drawn, of_p in by_row.items()
        ]
        titles = [title for p in chances for title in three_titles(names, f"p ≥ {p:g}: ")]
        sheets.append(Sheet(f"Said within n attempts, {prefix} tokens given", "drawn from", titles, rows))
    return sheets


def _drawn(point: SampledPoint) -> str:
    return f"{drawn_words(point.top_k, point.temperature)}, n = {point.n:,}"


def copies_sheet(found: MemorizationResult) -> Sheet | None:
    """Members by how often they stand in the training set; None where all stand once."""
    if not found.copies:
        return None
    rows = [
        SheetRow(
            row.copies,
            [
                share_cell(row.greedy),
                share_cell(row.sampled, is_count=False),
                share_cell(row.strength, is_count=False),
                Cell(f"{row.n_members:,}"),
            ],
        )
        for row in found.copies
    ]
    prefix = found.copies[0].prefix
    columns = ["said greedily", "mean chance in one attempt", "mean extraction strength", "members"]
    return Sheet(f"Members by copies in the training set, {prefix} tokens given", "copies", columns, rows)


def capacity_sheet(found: MemorizationResult) -> Sheet | None:
    """Bits by which records are likelier than under the base; None where no base is known."""
    held = found.capacity
    if held is None:
        return None
    rows = [
        SheetRow(
            "members",
            [
                _sum(held.bits),
                _each(held.per_record.members),
                Cell("" if held.bits_per_parameter is None else f"{held.bits_per_parameter:.3g}"),
                Cell(f"{held.n_members:,}"),
            ],
        ),
        SheetRow(
            "held-out",
            [
                _sum(held.held_out_bits),
                _each(held.per_record.held_out),
                Cell(""),
                Cell(f"{held.n_held_out:,}"),
            ],
        ),
    ]
    return Sheet("Bits above the base", "records", ["bits", "bits per record", "bits per trained parameter", "n"], rows)


def _sum(bits: float | None) -> Cell:
    return Cell("undefined") if bits is None else plain_cell(bits, 0)


def _each(bits: Finding) -> Cell:
    return Cell("undefined" if bits.value is None else f"{bits.value:,.1f}", interval=ends(bits, 1))


def short_sheet_of(found: MemorizationResult) -> Sheet:
    """At most six rows, one per way of looking, all at the stated prefix length."""
    names = columns_of(found)
    greedy = at_prefix(found.greedy, stated_prefix(found))
    lengths = {point.prefix for point in greedy}
    rows = [
        SheetRow(f"word for word, greedily, {point.prefix} tokens given", three_cells(point.extracted, names))
        for point in greedy
    ]
    sampled = [
        point
        for point in found.sampled
        if point.prefix in lengths and (point.top_k, point.temperature, point.p) == (0, 1.0, 0.5)
    ]
    if sampled:
        most = max(sampled, key=lambda point: point.n)
        rows.append(SheetRow(f"the same in {most.n:,} attempts", three_cells(most.extracted, names)))
    rows += [
        SheetRow(f"one attempt, up to {near.budget} tokens off", three_cells(near.near, names, is_count=False))
        for near in [point for point in found.near if point.prefix in lengths][:1]
    ]
    rows += [
        SheetRow(f"traced to the training set, {point.decoding}{_beside(point)}", three_cells(traced, names))
        for point in [point for point in found.generated if point.prefix in lengths][:1]
        if (traced := against_unseen(point)) is not None
    ]
    rows += [
        SheetRow("mean extraction strength", three_cells(strength.mean, names, is_count=False))
        for strength in found.strengths
        if strength.name == "extraction_strength"
    ]
    losses = [number_cell(column_of(found.perplexity, name), 3) for name in names]
    rows.append(SheetRow("mean loss, nats per token", losses))
    return Sheet("What can be pulled out", "share of records", three_titles(names), rows)


def _beside(point: GeneratedPoint) -> str:
    """What stands in the column of held-out records where continuations of these are no control."""
    return " (held-out: to records never seen)" if "any" in point.unseen else ""
