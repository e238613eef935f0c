"""The best alignment of one text with another by edit distance."""

from __future__ import annotations

from typing import NamedTuple

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

from loraudit.memorization.matches import Span


class Alignment(NamedTuple):
    """Two passages that go together.

    Attributes:
        here: In the text under suspicion.
        source: In the source.
        score: Edit similarity in [0, 1]: 1 − (insertions and deletions) / (characters of both passages).
    """

    here: Span
    source: Span
    score: float


def aligned(text: str, source: str, *, min_characters: int, better_than: float = -1.0) -> Alignment | None:
    """The shorter of two texts, whole, against the passage of the longer one that is most like it.

    A text shorter than `min_characters` could be found in parts nearly anywhere, so then both are compared whole.

    Args:
        text: Under suspicion.
        source: To compare it with.
        min_characters: Shortest text that counts as a passage of another.
        better_than: In [0, 1], to save time: only an alignment that scores higher is of interest.

    Returns:
        None where no alignment scores higher, and where either text is empty.
    """
    if not text or not source:
        return None
    if min(len(text), len(source)) < min_characters:
        whole = Alignment((0, len(text)), (0, len(source)), Indel.normalized_similarity(text, source))
        return whole if whole.score > better_than else None
    found = fuzz.partial_ratio_alignment(text, source, score_cutoff=max(0.0, 100 * better_than))
    if found is None or found.score / 100 <= better_than:
        return None
    here, there = (found.src_start, found.src_end), (found.dest_start, found.dest_end)
    return Alignment(here, there, found.score / 100)
