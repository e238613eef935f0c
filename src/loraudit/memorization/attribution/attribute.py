"""From generated texts to the training texts they go back to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from loraudit.errors import ConfigError
from loraudit.memorization.attribution.index import Sources, TrainingIndex
from loraudit.memorization.attribution.nearness import aligned
from loraudit.memorization.attribution.spans import SharedSpan
from loraudit.memorization.attribution.words import Ranked
from loraudit.memorization.matches import SEVERITY, Detector, Match, worst

NEAR_EXACT = 0.9
"""At most 10 % edits make a near copy, as in the Gemma reports (arXiv:2403.08295, section 5)."""

_TEXTS_AT_ONCE = 64

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")


class MapUnits(Protocol):
    """Apply a function to units of work, in any order, anywhere, as `map` does one after another."""

    def __call__(self, work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        """The outcomes, in the order of the units."""
        ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage of a generated text, and all training texts it goes back to.

    Attributes:
        match: What the two have to do with each other; `match.source` is a place in the first of the sources.
        sources: The training texts.
        starts: Where the passage begins in each source that is named, in characters.
        found_by: `copy`: exact spans over the whole training set; `edits`: the whole text, aligned by edit distance;
            `detector`: the detector.
    """

    match: Match
    sources: Sources
    starts: tuple[int, ...]
    found_by: Literal["copy", "edits", "detector"]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The training text that is nearest by one measure.

    Attributes:
        score: NaN where undefined.
        sources: The text and its copies; None where the score is NaN.
    """

    score: float
    sources: Sources | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where one generated text comes from.

    Attributes:
        n_characters: Its length.
        is_too_short: It is shorter than any copied passage that was looked for.
        hits: Every match, in the order of the text.
        worst: The most severe of them, of these the longest, of these the first; None for none.
        longest_copy: The longest passage copied character by character; None where none reaches the shortest length
            looked for.
        edits: Nearest by edit similarity of its best alignment, among the training texts that share a copied passage or
            are nearest by words; NaN if there are none.
        words: Nearest by BM25; NaN if no training text has a word of it. Comparable within one text only.
        meaning: Nearest by cosine of embeddings over the whole training set; NaN without embedder or for a
            vector of zeros.
        n_unaligned: Different training texts that share a copied passage but were too many for the detector.
    """

    n_characters: int
    is_too_short: bool
    hits: tuple[Hit, ...]
    worst: Hit | None
    longest_copy: Hit | None
    edits: Nearest
    words: Nearest
    meaning: Nearest
    n_unaligned: int


@dataclass(frozen=True, slots=True)
class _Search:
    """What to search in, how far to go, how much to name."""

    index: TrainingIndex
    detector: Detector
    n_candidates: int
    n_sources: int
    near_exact: float


def attribute(
    generated: Sequence[str],
    index: TrainingIndex,
    *,
    detector: Detector,
    n_candidates: int = 10,
    n_sources: int = 64,
    near_exact: float = NEAR_EXACT,
    map_units: MapUnits = map,
) -> list[Attribution]:
    """Find what each generated text copies, nearly copies or paraphrases, and from where.

    First every passage that stands in any training text character by character; then the training texts with the same
    words (BM25); these and those that share the longest copied passages are compared by edit distance, whole text
    against its best alignment, and by the detector; last the nearest embedding of the whole training set. Equal texts
    are looked up once. An answer does not depend on the other texts.

    Args:
        generated: [n].
        index: The training set.
        detector: Aligns a text with one source.
        n_candidates: How many training texts to align with because of their words, and as many again because of copied
            passages.
        n_sources: How many training texts to name per hit; all are counted.
        near_exact: Least edit similarity of a whole text with its best alignment that makes a near copy.
        map_units: Carries out units of 64 texts; one that reports progress, stops or uses threads can be passed.

    Raises:
        ConfigError: `n_candidates` or `n_sources` is below 1, `near_exact` is outside (0, 1], or the embedder does not
            return vectors like those of the training texts.
    """
    for name, value in (("n_candidates", n_candidates), ("n_sources", n_sources)):
        if value < 1:
            raise ConfigError(f"{name} {value} leaves nothing to report. Expected at least 1. Use {name}=10.")
    if not 0 < near_exact <= 1:
        raise ConfigError(
            f"near_exact {near_exact} is no share of unedited characters. Expected a number in (0, 1]. Use 0.9."
        )
    search = _Search(index, detector, n_candidates, n_sources, near_exact)
    different = list(dict.fromkeys(generated))
    units = [different[start : start + _TEXTS_AT_ONCE] for start in range(0, len(different), _TEXTS_AT_ONCE)]
    found: dict[str, Attribution] = {}

    def work(texts: list[str]) -> list[Attribution]:
        return _attribute_some(texts, search)

    for texts, attributions in zip(units, map_units(work, units), strict=True):
        found.update(zip(texts, attributions, strict=True))
    return [found[text] for text in generated]


def _attribute_some(texts: list[str], search: _Search) -> list[Attribution]:
    index = search.index
    if index.meaning is None:
        meanings = [Nearest(math.nan, None)] * len(texts)
    else:
        documents, cosines = index.meaning.nearest(texts)
        meanings = [
            _nearest(search, int(document), float(cosine)) for document, cosine in zip(documents, cosines, strict=True)
        ]
    spans = index.spans.find(texts)
    return [_attribute_one(*given, search) for given in zip(texts, spans, meanings, strict=True)]


def _attribute_one(text: str, spans: list[SharedSpan], meaning: Nearest, search: _Search) -> Attribution:
    index = search.index
    copies = [_copy_hit(span, search) for span in spans]
    sharing = _by_longest_copy(spans)
    ranked = index.words.nearest(text, search.n_candidates)
    candidates = list(dict.fromkeys([*sharing[: search.n_candidates], *(near.document for near in ranked)]))
    edits, near_copies = _edits(text, candidates, search)
    is_known = {(span.here, document) for span in spans for document in span.documents.tolist()}
    detected = [
        hit
        for document in candidates
        for hit in _detected(text, document, search)
        if hit.match.kind != "verbatim" or (hit.match.here, document) not in is_known
    ]
    hits = [*copies, *near_copies, *detected]
    hits.sort(key=lambda hit: (hit.match.here, SEVERITY.index(hit.match.kind), -hit.match.score))
    return Attribution(
        n_characters=len(text),
        is_too_short=len(text) < index.spans.min_characters,
        hits=tuple(hits),
        worst=_worst(hits),
        longest_copy=_worst(copies),
        edits=edits,
        words=_best_by_words(ranked, search),
        meaning=meaning,
        n_unaligned=len(set(sharing) - set(candidates)),
    )


def _worst(hits: list[Hit]) -> Hit | None:
    match = worst([hit.match for hit in hits])
    return next((hit for hit in hits if hit.match is match), None)


def _nearest(search: _Search, document: int, score: float) -> Nearest:
    return Nearest(score, None if math.isnan(score) else search.index.sources_of(document, search.n_sources))


def _best_by_words(ranked: list[Ranked], search: _Search) -> Nearest:
    return _nearest(search, ranked[0].document, ranked[0].score) if ranked else Nearest(math.nan, None)


def _copy_hit(span: SharedSpan, search: _Search) -> Hit:
    sources, starts = search.index.sources(span.documents, span.starts, search.n_sources)
    n_characters = span.here[1] - span.here[0]
    match = Match("verbatim", span.here, (starts[0], starts[0] + n_characters), 1.0)
    return Hit(match, sources, starts, "copy")


def _by_longest_copy(spans: list[SharedSpan]) -> list[int]:
    """Documents that share a passage, those with the longest first, of equals those with the smaller number."""
    longest: dict[int, int] = {}
    for span in sorted(spans, key=lambda span: span.here[0] - span.here[1]):
        for document in span.documents.tolist():
            longest.setdefault(document, span.here[1] - span.here[0])
    return sorted(longest, key=lambda document: (-longest[document], document))


def _edits(text: str, candidates: list[int], search: _Search) -> tuple[Nearest, list[Hit]]:
    """The best alignment of the whole text, and it as a hit where it is a near copy."""
    index = search.index
    best, best_document = None, -1
    for document in candidates:
        if best is not None and best.score >= 1:
            break
        found = aligned(
            text,
            index.documents[document],
            min_characters=index.spans.min_characters,
            better_than=-1.0 if best is None else best.score,
        )
        if found is not None:
            best, best_document = found, document
    if best is None:
        return Nearest(math.nan, None), []
    nearest = _nearest(search, best_document, best.score)
    is_passage = min(len(text), len(index.documents[best_document])) >= index.spans.min_characters
    is_copy = text[slice(*best.here)] == index.documents[best_document][slice(*best.source)]
    if best.score < search.near_exact or nearest.sources is None or is_copy or not is_passage:
        return nearest, []  # what is copied is among the spans already
    match = Match("near_verbatim", best.here, best.source, best.score)
    return nearest, [Hit(match, nearest.sources, (best.source[0],) * len(nearest.sources.rows), "edits")]


def _detected(text: str, document: int, search: _Search) -> list[Hit]:
    matches = search.detector(text, search.index.documents[document])
    if not matches:
        return []
    sources = search.index.sources_of(document, search.n_sources)
    return [Hit(match, sources, (match.source[0],) * len(sources.rows), "detector") for match in matches]
