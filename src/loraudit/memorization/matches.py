"""What a piece of a generated text and a piece of a training text have to do with each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MatchKind = Literal["verbatim", "near_verbatim", "paraphrase", "idea"]

SEVERITY: tuple[MatchKind, ...] = ("verbatim", "near_verbatim", "paraphrase", "idea")
"""Kinds of match, the worst first."""

Span = tuple[int, int]
"""Characters [start, end) of a text, as Python counts them."""


@dataclass(frozen=True, slots=True)
class Match:
    """A passage of one text that goes back to a passage of another.

    Attributes:
        kind: `verbatim`: the same characters; `near_verbatim`: few edits; `paraphrase`: the same in other words;
            `idea`: one is much shorter than the other and says the same.
        here: Where it stands in the text under suspicion.
        source: Where it stands in the source.
        score: How alike the two are, in [0, 1]; 1 for verbatim.
    """

    kind: MatchKind
    here: Span
    source: Span
    score: float

    @property
    def n_characters(self) -> int:
        """Length of the passage in the text under suspicion."""
        return self.here[1] - self.here[0]


Detector = Callable[[str, str], list[Match]]
"""From a text under suspicion and a source to their matches, in the order of the text under suspicion."""

ParaphraseScorer = Callable[[list[tuple[str, str]]], list[float]]
"""From pairs of passages to the probability that one paraphrases the other."""


def worst(matches: list[Match]) -> Match | None:
    """The most severe match, of these the longest; None for none."""
    return min(matches, key=lambda match: (SEVERITY.index(match.kind), -match.n_characters), default=None)
