"""The detector that users get: exact copies, copies with edits, and what is left as paraphrase or idea."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from loraudit.memorization.matches import Match, ParaphraseScorer, Span
from loraudit.memorization.plagiarism.copies import CopyParameters, Usual, copies
from loraudit.memorization.plagiarism.folding import fold
from loraudit.memorization.plagiarism.lee2023 import (
    accepted_paraphrases,
    case_spans,
    long_enough,
    paraphrase_notes,
)
from loraudit.memorization.plagiarism.wording import WordingParameters, reworded

_MOSTLY = 0.5


@dataclass(frozen=True)
class LayeredDetector:
    """Finds copies from 35 characters on wherever they stand, copies with a few edits, and paraphrases; a `Detector`.

    `verbatim`: the same characters, white space, quotes, dashes and accents written in one way; score 1.
    `near_verbatim`: a few edits or other capitals; score 1 − edits / (both lengths).
    `paraphrase`: sentences (or windows of words) that share enough content words; score as in `Lee2023Detector`.
    `idea`: the same where one side is at least three times as long as the other; score is the cosine.
    A passage of which more than half is a copy is reported as the copy alone.

    Attributes:
        usual: Texts known to be usual, such as templates or held-out texts: a passage that stands in one of them, all
            but 12 characters, is not reported.
        paraphrase_scorer: Accepts a paraphrase at more than 0.5; None accepts all candidates.
        copying: What counts as a copy.
        wording: What counts as a paraphrase candidate.
    """

    usual: Sequence[str] = ()
    paraphrase_scorer: ParaphraseScorer | None = None
    copying: CopyParameters = field(default_factory=CopyParameters)
    wording: WordingParameters = field(default_factory=WordingParameters)

    @cached_property
    def _usual(self) -> Usual:
        return Usual(self.usual)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its matches has to know."""
        return paraphrase_notes(self.paraphrase_scorer)

    def __call__(self, here: str, source: str) -> list[Match]:
        """The matches, in the order of `here`."""
        copied = copies(fold(here), fold(source), self.copying, self._usual)
        return sorted([*copied, *self._reworded(here, source, copied)], key=lambda match: (match.here, match.source))

    def _reworded(self, here: str, source: str, copied: Sequence[Match]) -> list[Match]:
        compared, cases = reworded(here, source, self.wording)
        if not len(cases):
            return []
        cases = long_enough(compared, cases, self.wording.shortest)
        is_open = [self._is_open(here, span, copied) for span, _ in case_spans(compared, cases)]
        cases = cases[np.array(is_open, dtype=bool)]
        spans = case_spans(compared, cases)
        is_idea = np.array([_is_lopsided(*both, self.wording.idea_ratio) for both in spans], dtype=bool)
        ideas = cases[is_idea]
        scores = compared.fragment_cosines(ideas).tolist()
        return [
            *(Match("idea", *both, score) for both, score in zip(case_spans(compared, ideas), scores, strict=True)),
            *accepted_paraphrases(compared, cases[~is_idea], here, source, self.paraphrase_scorer),
        ]

    def _is_open(self, here: str, span: Span, copied: Sequence[Match]) -> bool:
        """Whether the passage is not yet reported as a copy, and is not usual."""
        start, end = span
        n_copied = sum(max(0, min(end, match.here[1]) - max(start, match.here[0])) for match in copied)
        if n_copied > _MOSTLY * (end - start):
            return False
        if not self.usual:
            return True
        folded = fold(here[start:end])
        return not self._usual.covers(folded, 0, len(folded.text))


def _is_lopsided(here: Span, source: Span, ratio: float) -> bool:
    lengths = sorted((here[1] - here[0], source[1] - source[0]))
    return lengths[1] >= ratio * lengths[0]
