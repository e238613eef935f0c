"""Plagiarism as Lee et al. (2023) counted it in what language models write: the winning text alignment of PAN 2014.

References:
    Lee, Le, Chen and Lee 2023, Do language models plagiarize? WWW '23.
    Sanchez-Perez, Sidorov and Gelbukh 2014, The winning approach to text alignment for text reuse detection at
        PAN 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.errors import ConfigError
from loraudit.memorization.matches import Match, ParaphraseScorer, Span
from loraudit.memorization.plagiarism.extension import extend, without_overlaps
from loraudit.memorization.plagiarism.similarity import Compared, compare, plain_idf
from loraudit.memorization.plagiarism.substrings import common_substrings
from loraudit.memorization.plagiarism.units import sentences
from loraudit.types import IntArray

MOST_LIKELY_PARAPHRASE = 0.5
"""A paraphrase model must say more than this."""


@dataclass(frozen=True, slots=True)
class AlignmentParameters:
    """Thresholds of the alignment.

    Attributes:
        shortest_case: Characters on either side; shorter cases are dropped.
        longest_chance: Characters; a longer common substring is a verbatim copy.
        cosine: Two sentences alike have a cosine over it,
        dice: and a Dice coefficient over it.
        gap: Sentences between neighbouring seeds of a case, at most, in the first pass.
        summary_gap: The same in the second pass.
        validation: The cosine of the two passages of a case is over it.
        summary_ratio: In a summary the source passages are at least so many times as long as the others.

    Raises:
        ConfigError: `longest_chance` or a gap is negative.
    """

    shortest_case: int
    longest_chance: int
    cosine: float = 0.30
    dice: float = 0.33
    gap: int = 4
    summary_gap: int = 24
    validation: float = 0.34
    summary_ratio: float = 3.0

    def __post_init__(self) -> None:
        for name in ("longest_chance", "gap", "summary_gap"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"The alignment's {name} {getattr(self, name)} is negative. Expected 0 or more. Set {name}=0."
                )


PAN2014 = AlignmentParameters(shortest_case=150, longest_chance=256)
"""As published for PAN 2014."""

LEE2023 = AlignmentParameters(shortest_case=50, longest_chance=50)
"""As Lee et al. set them for texts of a few hundred words."""


@dataclass(frozen=True, slots=True)
class Lee2023Detector:
    """The published detector: sentences alike by tf-idf, joined to passages; a `Detector`.

    A pair of texts with a verbatim copy keeps only its verbatim copies. Otherwise all its cases are ideas if the source
    side is much longer than the other (summed over the cases of the second pass), or all are paraphrases, those that
    `paraphrase_scorer` accepts. Score: 1 for verbatim; the cosine of the two passages for ideas; for paraphrases what
    the scorer says, or the cosine without one.

    Two known gaps: words that two texts of one sentence share weigh nothing, so that such a pair never matches; and
    of copies shorter than a sentence it finds few. `LayeredDetector` has neither.

    Attributes:
        parameters: `LEE2023` or `PAN2014`.
        paraphrase_scorer: Accepts a candidate at more than 0.5; None accepts all.
    """

    parameters: AlignmentParameters = LEE2023
    paraphrase_scorer: ParaphraseScorer | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its matches has to know."""
        return paraphrase_notes(self.paraphrase_scorer)

    def __call__(self, here: str, source: str) -> list[Match]:
        """The matches, in the order of `here`."""
        parameters = self.parameters
        compared = compare(
            sentences(here), sentences(source), plain_idf, cosine=parameters.cosine, dice=parameters.dice
        )
        if not len(compared.seeds):
            return []
        cases = self._cases(compared, parameters.gap)
        if verbatim := self._verbatim(compared, cases, here, source):
            return verbatim
        summaries = self._cases(compared, parameters.summary_gap)
        n_here, n_source = _n_characters(compared, summaries)
        if n_here and n_source >= parameters.summary_ratio * n_here:
            cosines = compared.fragment_cosines(summaries).tolist()
            spans = case_spans(compared, summaries)
            return [Match("idea", *both, score) for both, score in zip(spans, cosines, strict=True)]
        return accepted_paraphrases(compared, cases, here, source, self.paraphrase_scorer)

    def _cases(self, compared: Compared, gap: int) -> IntArray:
        cases = without_overlaps(compared, extend(compared, gap=gap, validation=self.parameters.validation))
        return long_enough(compared, cases, self.parameters.shortest_case)

    def _verbatim(self, compared: Compared, cases: IntArray, here: str, source: str) -> list[Match]:
        matches: list[Match] = []
        for (i, i_end), (j, j_end) in case_spans(compared, cases):
            for a, b, n in common_substrings(
                here[i:i_end], source[j:j_end], shortest=self.parameters.longest_chance + 1
            ):
                matches.append(Match("verbatim", (i + a, i + a + n), (j + b, j + b + n), 1.0))
        return matches


def case_spans(compared: Compared, cases: IntArray) -> list[tuple[Span, Span]]:
    """Characters of each case, here and in the source."""
    return [
        (compared.here.span(first, last), compared.source.span(source_first, source_last))
        for first, last, source_first, source_last in cases.tolist()
    ]


def long_enough(compared: Compared, cases: IntArray, shortest: int) -> IntArray:
    """The cases of at least `shortest` characters on both sides."""
    n_here = compared.here.ends[cases[:, 1]] - compared.here.starts[cases[:, 0]]
    n_source = compared.source.ends[cases[:, 3]] - compared.source.starts[cases[:, 2]]
    return cases[(n_here >= shortest) & (n_source >= shortest)]


def _n_characters(compared: Compared, cases: IntArray) -> tuple[int, int]:
    here, source = compared.here, compared.source
    return (
        int((here.ends[cases[:, 1]] - here.starts[cases[:, 0]]).sum()),
        int((source.ends[cases[:, 3]] - source.starts[cases[:, 2]]).sum()),
    )


def accepted_paraphrases(
    compared: Compared, cases: IntArray, here: str, source: str, scorer: ParaphraseScorer | None
) -> list[Match]:
    """The cases as paraphrases; with a scorer those it gives more than 0.5."""
    spans = case_spans(compared, cases)
    if scorer is None:
        scores: Sequence[float] = compared.fragment_cosines(cases).tolist()
        return [Match("paraphrase", *both, score) for both, score in zip(spans, scores, strict=True)]
    scores = scorer([(here[slice(*a)], source[slice(*b)]) for a, b in spans]) if spans else []
    return [
        Match("paraphrase", *both, score)
        for both, score in zip(spans, scores, strict=True)
        if score > MOST_LIKELY_PARAPHRASE
    ]


def paraphrase_notes(scorer: ParaphraseScorer | None) -> tuple[str, ...]:
    """What a reader has to know about paraphrases found without a paraphrase model."""
    if scorer is not None:
        return ()
    return ("Paraphrases were not checked by a paraphrase model: every candidate counts.",)
