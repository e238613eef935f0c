"""What of a match the prompt explains: a model that repeats its prompt has shown no memory.

Only the prompts of members stand in the training set. Were an echo counted as copied, any model that repeats itself
would tell members from other records.
"""

from __future__ import annotations

from dataclasses import replace

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

from loraudit.memorization.attribution.attribute import NEAR_EXACT
from loraudit.memorization.matches import Match

SHORTEST_ECHO = 25
"""Characters of a prompt whose repetition is no chance."""


def without_echo(match: Match, text: str, source: str, prompt: str, *, shortest: int) -> Match | None:
    """The match without what repeats the prompt; None where too little is left.

    A passage that begins with `SHORTEST_ECHO` characters or more of the prompt, or that is all in it, is cut where it
    stops repeating, and dropped if fewer than `shortest` characters follow. A match with edits is not cut; it is
    dropped where either side of it is in the prompt but for a tenth of edits.

    The prompt is compared by its text, so that it makes no difference whether it is the record's own that stands in
    the training set, a near-duplicate, or neither.

    Args:
        match: Of the text with the source.
        text: What the model said.
        source: A training text.
        prompt: What the model was given.
        shortest: Characters that must be left of a passage that begins with an echo.
    """
    here, there = text[slice(*match.here)], source[slice(*match.source)]
    n_echoed = echoed_characters(here, prompt)
    if n_echoed and len(here) - n_echoed < shortest:
        return None
    if match.kind == "verbatim":
        begins = min(match.source[0] + n_echoed, match.source[1])
        return replace(match, here=(match.here[0] + n_echoed, match.here[1]), source=(begins, match.source[1]))
    return None if _is_nearly_in(here, prompt) or _is_nearly_in(there, prompt) else match


def echoed_characters(passage: str, prompt: str) -> int:
    """Leading characters that stand in the prompt in one piece; 0 where they are too few to be an echo.

    >>> echoed_characters("was seen by Dr Moreau in Lyon, twice", "She was seen by Dr Moreau in Lyon")
    29
    """
    low, high = 0, len(passage)
    while low < high:  # what a longer beginning has, a shorter one has too
        middle = (low + high + 1) // 2
        if passage[:middle] in prompt:
            low = middle
        else:
            high = middle - 1
    return low if low >= min(SHORTEST_ECHO, len(passage)) else 0


def _is_nearly_in(passage: str, prompt: str) -> bool:
    if len(passage) > len(prompt):
        return Indel.normalized_similarity(passage, prompt) >= NEAR_EXACT
    return fuzz.partial_ratio(passage, prompt) >= 100 * NEAR_EXACT
