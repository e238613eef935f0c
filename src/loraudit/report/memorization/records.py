"""The members that are the easiest to pull out: redacted, unless their text was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.report.cells import Cell
from loraudit.report.memorization.numbers import KIND_WORDS, attempts_words, worded
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import LeakedRecord, MemorizationResult, Passage


@dataclass(frozen=True, slots=True)
class Pair:
    """A passage of a continuation beside its source.

    Attributes:
        title: Record, kind of match and source.
        here: What the model said.
        there: What the source says.
    """

    title: str
    here: str
    there: str


def records_sheet(found: MemorizationResult) -> Sheet | None:
    """One row per record, without its text; None where no member can be shown."""
    if not found.records:
        return None
    columns = [
        "copies",
        "tokens",
        "extraction strength",
        "said greedily, tokens given",
        "attempts for an even chance",
        "bits above the base",
        "worst passage of its continuations",
        "masked beginning",
    ]
    rows = [SheetRow(record.id, _cells(record)) for record in found.records]
    return Sheet("Members that are the easiest to pull out", "record", columns, rows, frozenset({6, 7}))


def _cells(record: LeakedRecord) -> list[Cell]:
    return [
        Cell(f"{record.n_copies:,}"),
        Cell(f"{record.n_tokens:,}"),
        Cell("undefined" if record.strength is None else f"{record.strength:.2f}"),
        Cell(", ".join(str(prefix) for prefix in record.greedy) or "never"),
        Cell(attempts_words(record.attempts) if record.attempts_defined else "undefined"),
        Cell("" if record.bits is None else f"{record.bits:,.0f}"),
        _passage_cell(record.passage),
        Cell(record.snippet),
    ]


def _passage_cell(passage: Passage | None) -> Cell:
    if passage is None:
        return Cell("none")
    size = f"{passage.n_characters:,} characters, likeness {passage.score:.2f}"
    return Cell(
        f"{worded(passage.kind, KIND_WORDS)}: {size}",
        interval=_source_words(passage),
        remark=f"holds {', '.join(passage.personal)}" if passage.personal else "",
    )


def _source_words(passage: Passage) -> str:
    others = passage.n_sources - 1
    more = f" and {others:,} other{'' if others == 1 else 's'}" if others > 0 else ""
    return f"from {passage.source}{more}; {passage.decoding}, {passage.prefix} tokens given"


def passage_pairs(found: MemorizationResult) -> list[Pair]:
    """Passages whose text was asked for, beside their sources."""
    return [
        Pair(
            f"{record.id} · {worded(record.passage.kind, KIND_WORDS)}, {_source_words(record.passage)}",
            record.passage.here or "",
            record.passage.there or "",
        )
        for record in found.records
        if record.passage is not None and (record.passage.here is not None or record.passage.there is not None)
    ]
