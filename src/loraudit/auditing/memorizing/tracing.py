"""From continuations to the training records they go back to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from loraudit.auditing.memorizing.measures import ANY, LONGEST, OWN_SUFFIX, PERSONAL, SAID, UNSEEN, column
from loraudit.auditing.memorizing.sources import SHORTEST_COPY, TrainingSet
from loraudit.auditing.memorizing.speaking import Continuations
from loraudit.execution import StopRequest
from loraudit.memorization import without_echo
from loraudit.memorization.attribution import Attribution, Hit, TrainingIndex, attribute
from loraudit.memorization.matches import SEVERITY
from loraudit.memorization.similarity import BLEU_MEMORISED, bleu, edit_similarity, rouge_l
from loraudit.models.plan import TARGET
from loraudit.types import BoolArray, FloatArray

_Unit = TypeVar("_Unit")
_Outcome = TypeVar("_Outcome")
Decode = Callable[[Sequence[Sequence[int]]], list[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """What became of M continuations of one view, decoding and prefix.

    Attributes:
        of: The continuations.
        texts: [M] as text.
        is_suffix: [M] whether it is the record's own suffix, token by token.
        worst: [M] the most severe match that the prompt does not explain; None for none.
        unseen: [M] the same among records that were not trained on; None where that was not asked.
        longest: [M] characters of the longest copied passage that the prompt does not explain; 0 for none.
        similarity: [M] by measure, NaN where undefined.
        personal: [M] kinds of personal information in it that stand in the training set, and not in the prompt.
        personal_kinds: All kinds of which the training set holds any.
        unseen_personal: [M] kinds of personal information in it that stand in records that were not trained on, and
            not in the prompt; None where that was not asked.
        n_unaligned: Pairs of a continuation and a training text that share a copied passage, and were too many for
            the detector.
    """

    of: Continuations
    texts: Sequence[str]
    is_suffix: BoolArray
    worst: Sequence[Hit | None]
    unseen: Sequence[Hit | None] | None
    longest: FloatArray
    similarity: dict[str, FloatArray]
    personal: Sequence[frozenset[str]]
    personal_kinds: Sequence[str]
    unseen_personal: Sequence[frozenset[str]] | None
    n_unaligned: int


class Tracer:
    """Traces continuations back to one training set.

    Args:
        sources: The training set.
        decode: From token ids to texts.
        stop: Asked every few texts.
    """

    def __init__(self, sources: TrainingSet, decode: Decode, stop: StopRequest | None = None) -> None:
        self.sources, self.decode, self.stop = sources, decode, stop
        self.values, self.unseen_values = (
            {value for text in texts for value in self._values(text)} for texts in (sources.texts, sources.unseen_texts)
        )

    def trace(self, of: Continuations) -> Traced:
        """Where these continuations come from."""
        texts = self.decode([said.tolist() for said in of.said])
        prompts = self.decode([item.given.tolist() for item in of.beginnings])
        pairs = [(said.tolist(), item.suffix.tolist()) for said, item in zip(of.said, of.beginnings, strict=True)]
        bleus = [bleu(*pair) for pair in pairs]
        said = [self._values(text) - self._values(prompt) for text, prompt in zip(texts, prompts, strict=True)]
        found, kept = self._matches(texts, prompts, self.sources.index, self.sources.texts)
        unseen = unseen_personal = None
        if of.view == TARGET:
            unseen_personal = [frozenset(kind for kind, _ in values & self.unseen_values) for values in said]
            _, others = self._matches(texts, prompts, self.sources.unseen, self.sources.unseen_texts)
            unseen = [min(hits, key=severity, default=None) for hits in others]
        copies = [[hit.match.n_characters for hit in hits if hit.match.kind == "verbatim"] for hits in kept]
        return Traced(
            of=of,
            texts=texts,
            is_suffix=np.array([generated == true for generated, true in pairs]),
            worst=[min(hits, key=severity, default=None) for hits in kept],
            unseen=unseen,
            longest=np.array([max(lengths, default=0) for lengths in copies], dtype=np.float64),
            similarity={
                "nearest_by_edits": np.array([one.edits.score for one in found]),
                "nearest_by_meaning": np.array([one.meaning.score for one in found]),
                "edits_to_suffix": np.array([edit_similarity(*pair) for pair in pairs]),
                "rouge_l_to_suffix": np.array([rouge_l(*pair) for pair in pairs]),
                "bleu_above_75": np.array([_or_undefined(value > BLEU_MEMORISED, value) for value in bleus]),
            },
            personal=[frozenset(kind for kind, _ in values & self.values) for values in said],
            personal_kinds=sorted({kind for kind, _ in self.values}),
            unseen_personal=unseen_personal,
            n_unaligned=sum(one.n_unaligned for one in found),
        )

    def _matches(
        self, texts: Sequence[str], prompts: Sequence[str], index: TrainingIndex, sources: Sequence[str]
    ) -> tuple[list[Attribution], list[list[Hit]]]:
        """Where each text comes from, and its matches that the prompt does not explain."""
        found = attribute(texts, index, detector=self.sources.tools.detector, map_units=self._map_units)
        return found, [
            [left for hit in one.hits if (left := _without_echo(hit, text, prompt, sources))]
            for one, text, prompt in zip(found, texts, prompts, strict=True)
        ]

    def _map_units(self, work: Callable[[_Unit], _Outcome], units: Iterable[_Unit], /) -> Iterator[_Outcome]:
        for unit in units:
            if self.stop:
                self.stop.check()
            yield work(unit)

    def _values(self, text: str) -> set[tuple[str, str]]:
        """Kind and key of each piece of personal information."""
        return {(field.kind, field.key) for field in self.sources.tools.find_personal(text)}


def _without_echo(hit: Hit, text: str, prompt: str, sources: Sequence[str]) -> Hit | None:
    left = without_echo(hit.match, text, sources[hit.sources.rows[0]], prompt, shortest=SHORTEST_COPY)
    if left is None:
        return None
    n_cut = left.source[0] - hit.match.source[0]
    return replace(hit, match=left, starts=tuple(start + n_cut for start in hit.starts))


def severity(hit: Hit) -> tuple[int, int]:
    """Sorts the worst match first: by kind, then by length."""
    return SEVERITY.index(hit.match.kind), -hit.match.n_characters


def _or_undefined(is_above: bool, value: float) -> float:
    return math.nan if math.isnan(value) else float(is_above)


def decoder(tokenizer: Any) -> Decode:
    """Texts of token ids by a Hugging Face tokenizer, without its special tokens."""

    def decode(ids: Sequence[Sequence[int]]) -> list[str]:
        return list(
            tokenizer.batch_decode(
                [list(map(int, row)) for row in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    return decode


def _kinds(worst: Sequence[Hit | None]) -> dict[str, FloatArray]:
    """[M] by kind of match, 1 where it is the worst; `any` for any."""
    kinds = np.array(["" if hit is None else hit.match.kind for hit in worst])
    return {kind: (kinds == kind).astype(np.float64) for kind in SEVERITY} | {ANY: (kinds != "").astype(np.float64)}


def _holding(measure: str, personal: Sequence[frozenset[str]] | None, kinds: Sequence[str]) -> dict[str, FloatArray]:
    """[M] by kind, 1 where a continuation holds some; nothing where that was not asked."""
    if personal is None:
        return {}
    return {f"{measure}.{kind}": np.array([kind in some for some in personal], dtype=np.float64) for kind in kinds}


def said_measures(traced: Traced, n_records: int) -> dict[str, FloatArray]:
    """[N] columns of one view, decoding and prefix; NaN for records whose beginning was not continued."""
    unseen = {} if traced.unseen is None else _kinds(traced.unseen)
    of = {
        **_kinds(traced.worst),
        **{f"{UNSEEN}.{kind}": is_so for kind, is_so in unseen.items()},
        OWN_SUFFIX: traced.is_suffix.astype(np.float64),
        LONGEST: traced.longest,
        **traced.similarity,
        **_holding(PERSONAL, traced.personal, traced.personal_kinds),
        **_holding(f"{UNSEEN}.{PERSONAL}", traced.unseen_personal, traced.personal_kinds),
    }
    rows = [item.row for item in traced.of.beginnings]
    found: dict[str, FloatArray] = {}
    for measure, values in of.items():
        filled = np.full(n_records, math.nan)
        filled[rows] = values
        found[column(SAID, measure, traced.of.view, traced.of.prefix, traced.of.decoding.name)] = filled
    return found
