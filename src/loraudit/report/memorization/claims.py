"""What three columns allow to be said, and no more."""

from __future__ import annotations

from collections.abc import Mapping

from loraudit.report.memorization.columns import column_of, count_of, n_of, standing
from loraudit.report.memorization.numbers import interval_words, share_words
from loraudit.spec import WithControls
from loraudit.types import Finding

_LEAST_SHARE = 5e-5

Nouns = Mapping[str, str]
"""By column, what its number is of, with {} in the place of the number."""


def shares_said(controls: WithControls, nouns: Nouns, *, is_count: bool = True) -> str:
    """The members' share, and beside it those of the other columns.

    Args:
        controls: The number.
        nouns: Columns without a finding are passed over.
        is_count: It is a share of records; otherwise a mean.
    """
    say = _count_said if is_count else _mean_said
    known = {name: found for name in nouns if (found := column_of(controls, name)) is not None}
    first, *others = (say(found, nouns[name]) for name, found in known.items())
    return f"{first}. Beside that: {'; '.join(others)}." if others else f"{first}."


def _count_said(found: Finding, noun: str) -> str:
    if found.value is None:
        return noun.format("an unknown number of")
    n = n_of(found)
    if not count_of(found):
        bound = f" ({interval_words(found)})" if found.upper is not None else ""
        return f"{noun.format(f'none of {n:,}')}{bound}"
    return f"{noun.format(f'{count_of(found):,} of {n:,}')} ({share_words(found.value)}, {interval_words(found)})"


def _mean_said(found: Finding, noun: str) -> str:
    if found.value is None:
        return noun.format("undefined")
    return f"{noun.format(share_words(found.value))} ({interval_words(found)}, n = {n_of(found):,})"


def claim(controls: WithControls) -> str:
    """What the members' number means beside the other two; empty where none was pulled out."""
    members, held_out = controls.members, controls.held_out
    if members.value is None or held_out.value is None:
        return "Without numbers of both sides, nothing can be said of the records."
    if members.value < _LEAST_SHARE:
        return ""
    if standing(members, held_out) != "above":
        if _is_as_much(members, held_out):
            return "What is said of members is said of held-out records too: the domain, not the records."
        return "The intervals of members and held-out records meet: this many records do not tell the two apart."
    seen = "That is clearly more than of held-out records: the intervals do not meet"
    if controls.base is None:
        return f"{seen}. No base is known, so what the model could say before tuning is not told apart."
    if standing(members, controls.base) == "above":
        return f"{seen}. It is clearly more than before tuning too: tuning put these records there."
    return f"{seen}. But the base is not clearly below: it is not shown that tuning put these records there."


def short_claim(controls: WithControls) -> str:
    """The same in a few words, for looks that do not lead."""
    members, held_out = controls.members, controls.held_out
    if members.value is None or held_out.value is None or members.value < _LEAST_SHARE:
        return ""
    if standing(members, held_out) != "above":
        if _is_as_much(members, held_out):
            return "Of held-out records it is as much: the domain, not the records."
        return "Not told apart from held-out records: the intervals meet."
    if controls.base is None:
        return "Clearly above held-out records; no base is known."
    if standing(members, controls.base) == "above":
        return "Clearly above held-out records and base."
    return "Clearly above held-out records, but not above the base."


def _is_as_much(members: Finding, held_out: Finding) -> bool:
    """Whether held-out records are said about as often, and not only too few to tell.

    Each share lies in the other's interval, and the held-out one is at least half as large.
    """
    if members.value is None or members.lower is None or held_out.value is None or held_out.upper is None:
        return False
    is_inside = members.value <= held_out.upper and held_out.value >= members.lower
    return is_inside and 2 * held_out.value >= members.value


def is_shown(controls: WithControls) -> bool:
    """Whether members are clearly above held-out records and, where one is known, above the base."""
    if standing(controls.members, controls.held_out) != "above":
        return False
    return controls.base is None or standing(controls.members, controls.base) == "above"
