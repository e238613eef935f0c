"""Numbers about extraction as they stand in cells and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from loraudit.memorization import SEVERITY
from loraudit.policy import ends, percent, percent_interval
from loraudit.report.cells import Cell
from loraudit.report.memorization.columns import count_of, n_of, n_undefined_of
from loraudit.types import Finding

_SMALLEST_SHARE = 5e-5
_MOST_IN_FULL = 1e6

KIND_WORDS = {
    "verbatim": "word for word",
    "near_verbatim": "with few edits",
    "paraphrase": "in other words",
    "idea": "only the idea",
    "any": "any of these",
    "suffix": "the record's own suffix, token by token",
}
SIMILARITY_WORDS = {
    "nearest_by_edits": "nearest training text, by edits",
    "nearest_by_meaning": "nearest training text, by meaning",
    "edits_to_suffix": "own suffix, by edits",
    "rouge_l_to_suffix": "own suffix, ROUGE-L",
    "bleu_above_75": "share with BLEU above .75 to own suffix",
}
STRENGTH_WORDS = {"exact_memorization": "exact memorization", "extraction_strength": "extraction strength"}


def kind_order(kinds: Iterable[str]) -> list[str]:
    """Kinds of match, the worst first, then their sum and what else there is."""
    order = [*SEVERITY, "any", "suffix"]
    return sorted(kinds, key=lambda kind: (order.index(kind) if kind in order else len(order), kind))


def worded(name: str, words: Mapping[str, str]) -> str:
    """A name of the result in words; as it is where it is not known."""
    return words.get(name, name.replace("_", " "))


def share_words(value: float) -> str:
    """A share in percent; one that would be rounded to nothing is not shown as nothing.

    >>> share_words(0.0), share_words(1e-9), share_words(0.123)
    ('0 %', '< 0.01 %', '12.3 %')
    """
    if value == 0:
        return "0 %"
    return percent(value) if value >= _SMALLEST_SHARE else "< 0.01 %"


def interval_words(finding: Finding) -> str:
    """The interval of a share; where no record counts, its upper end alone."""
    if finding.value == 0 and finding.upper is not None:
        return f"at most {percent(finding.upper)}"
    return percent_interval(finding)


def share_cell(finding: Finding | None, *, is_count: bool = True) -> Cell:
    """A share of records, or the mean of values in [0, 1].

    Args:
        finding: None makes an empty cell.
        is_count: It is a share of records, which are counted below it; otherwise only n is.
    """
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("undefined", note=finding.note, remark=_n_words(finding, is_count=False))
    return Cell(
        share_words(finding.value), interval_words(finding), finding.note, remark=_n_words(finding, is_count=is_count)
    )


def number_cell(finding: Finding | None, digits: int = 2) -> Cell:
    """A mean of any values."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("undefined", note=finding.note, remark=_n_words(finding, is_count=False))
    interval = ends(finding, digits) or "no interval"
    return Cell(f"{finding.value:.{digits}f}", interval, finding.note, remark=_n_words(finding, is_count=False))


def _n_words(finding: Finding, *, is_count: bool) -> str:
    n, n_undefined = n_of(finding), n_undefined_of(finding)
    words = f"{count_of(finding):,} of {n:,}" if is_count else f"n = {n:,}"
    return f"{words}, {n_undefined:,} undefined" if n_undefined else words


def plain_cell(value: float | None, digits: int = 2) -> Cell:
    """A number that has no interval."""
    return Cell("" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}")


def attempts_words(attempts: float | None) -> str:
    """How often one has to ask.

    >>> attempts_words(12.0), attempts_words(3.2e14), attempts_words(None)
    ('12', '3e+14', 'no number suffices')
    """
    if attempts is None or not math.isfinite(attempts):
        return "no number suffices"
    return f"{attempts:,.0f}" if attempts < _MOST_IN_FULL else f"{attempts:.0e}"


def drawn_words(top_k: int, temperature: float) -> str:
    """What tokens are drawn from.

    >>> drawn_words(0, 1.0), drawn_words(40, 0.7)
    ('all tokens, T = 1', '40 likeliest, T = 0.7')
    """
    return f"{f'{top_k} likeliest' if top_k else 'all tokens'}, T = {temperature:g}"
