"""Copied passages, found character by character: exact ones, and ones with a few edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel

from loraudit.errors import ConfigError
from loraudit.memorization.matches import Match
from loraudit.memorization.plagiarism.folding import Folded, fold
from loraudit.memorization.plagiarism.substrings import Common, common_substrings, gram_hashes, stands_in

USUAL_GRAM = 20
"""Characters that a passage must share with a usual text to be usual there (ours)."""
_LONGEST_UNUSUAL = 12


@dataclass(frozen=True, slots=True)
class CopyParameters:
    """What counts as a copy. Chosen on one half of public texts, reported on the other (benchmarks/alignment.py).

    Attributes:
        shortest_verbatim: Characters of a verbatim copy, at least, half as many of them letters or digits.
        seed: Characters of a common substring that can begin or join a copy with edits.
        gap: Characters between two seeds of a copy, on either side, at most.
        shortest_edited: Characters of a copy with edits on both sides, at least.
        similarity: 1 − edits / (both lengths), insertions and deletions counted, of a copy with edits, at least.

    Raises:
        ConfigError: A copy would be shorter than its seed, or a seed empty.
    """

    shortest_verbatim: int = 35
    seed: int = 12
    gap: int = 24
    shortest_edited: int = 50
    similarity: float = 0.85

    def __post_init__(self) -> None:
        longest = min(self.shortest_verbatim, self.shortest_edited)
        if not 1 <= self.seed <= longest:
            raise ConfigError(
                f"The seed {self.seed} of a copy is out of range. Expected 1 to {longest}, the length of the shortest "
                f"copy. Set seed, shortest_verbatim or shortest_edited."
            )


class Usual:
    """Texts that are known to be usual: what stands in them too is no sign of a copy.

    Args:
        texts: Such as held-out texts of the same kind, templates, or what the base model writes.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        grams = [gram_hashes(fold(text).lower, USUAL_GRAM) for text in texts]
        self.grams: NDArray[np.uint64] = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *grams]))

    def covers(self, folded: Folded, start: int, end: int) -> bool:
        """Whether all but 12 characters of [start, end) stand in 20 characters of a usual text."""
        if not len(self.grams):
            return False
        is_usual = stands_in(gram_hashes(folded.lower[start:end], USUAL_GRAM), self.grams)
        edges = np.zeros(end - start + 1, dtype=np.int64)
        places = np.flatnonzero(is_usual)
        edges[places] += 1
        edges[places + USUAL_GRAM] -= 1
        return int((np.cumsum(edges[:-1]) == 0).sum()) <= _LONGEST_UNUSUAL


def copies(here: Folded, source: Folded, parameters: CopyParameters, usual: Usual) -> list[Match]:
    """Verbatim copies, and between them copies with a few edits, in order; no character of `here` stands in two.

    What `fold` takes away is no difference. Capitals are: a copy in other capitals is one with edits.

    Args:
        here: The text under suspicion.
        source: The source.
        parameters: What counts.
        usual: What does not.
    """
    reach = min(parameters.shortest_verbatim, parameters.shortest_edited)
    found = common_substrings(here.lower, source.lower, shortest=parameters.seed, gap=parameters.gap, reach=reach)
    pieces = [piece for common in found for piece in _by_capitals(here, source, common, parameters.shortest_verbatim)]
    matches: list[Match] = []
    for is_verbatim, group in groupby(pieces, key=itemgetter(1)):
        some = [piece for piece, _ in group]
        chains = [[piece] for piece in some] if is_verbatim else _chains(source, here, some, parameters)
        for chain in chains:
            matches += _counted(here, source, chain, is_verbatim, parameters, usual)
    return matches


def _by_capitals(here: Folded, source: Folded, common: Common, shortest: int) -> list[tuple[Common, bool]]:
    """The substring cut around runs of `shortest` characters with the same capitals, and which parts are such runs."""
    i, j, n = common
    if here.text[i : i + n] == source.text[j : j + n]:
        return [(common, n >= shortest)]
    is_same = np.array([a == b for a, b in zip(here.text[i : i + n], source.text[j : j + n], strict=True)])
    edges = np.flatnonzero(np.diff(is_same, prepend=not is_same[0], append=not is_same[-1]))
    runs = [(a, b) for a, b in pairwise(edges.tolist()) if is_same[a] and b - a >= shortest]
    cuts = sorted({0, n, *(end for run in runs for end in run)})
    return [(Common(i + a, j + a, b - a), (a, b) in runs) for a, b in pairwise(cuts)]


def _chains(source: Folded, here: Folded, pieces: Sequence[Common], parameters: CopyParameters) -> list[list[Common]]:
    """Pieces that follow each other on both sides with at most `gap` characters between them.

    A piece that stands in several places of the source is taken where it goes on from the one before.
    """
    chains: list[list[Common]] = []
    for piece in pieces:
        if chains and piece.here - _end(chains[-1][-1])[0] <= parameters.gap:
            after = _end(chains[-1][-1])[1]
            words = here.lower[piece.here : piece.here + piece.length]
            place = source.lower.find(words, after, after + parameters.gap + piece.length)
            if place >= 0:
                chains[-1].append(piece._replace(source=place))
                continue
        chains.append([piece])
    return chains


def _counted(
    here: Folded, source: Folded, chain: list[Common], is_verbatim: bool, parameters: CopyParameters, usual: Usual
) -> list[Match]:
    """The chain as a match if it is long, alike and unusual enough; if not alike, its parts around its widest gap."""
    start, source_start, _ = chain[0]
    end, source_end = _end(chain[-1])
    shortest = parameters.shortest_verbatim if is_verbatim else parameters.shortest_edited
    start, end = _stripped(here.text, start, end)
    source_start, source_end = _stripped(source.text, source_start, source_end)
    if min(end - start, source_end - source_start) < shortest:
        return []
    passage = here.lower[start:end]
    score = Indel.normalized_similarity(passage, source.lower[source_start:source_end])
    if score < parameters.similarity:
        widest = max(range(1, len(chain)), key=lambda k: chain[k].here - _end(chain[k - 1])[0])
        return [
            match
            for part in (chain[:widest], chain[widest:])
            for match in _counted(here, source, part, is_verbatim, parameters, usual)
        ]
    n_letters = sum(character.isalnum() for character in passage)
    if 2 * n_letters < shortest or usual.covers(here, start, end):
        return []
    kind = "verbatim" if is_verbatim else "near_verbatim"
    return [Match(kind, here.original(start, end), source.original(source_start, source_end), score)]


def _end(piece: Common) -> tuple[int, int]:
    return piece.here + piece.length, piece.source + piece.length


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """[start, end) without blanks at its ends."""
    passage = text[start:end]
    return start + len(passage) - len(passage.lstrip()), start + len(passage.rstrip())
