"""Text that both sides share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loraudit.types import BoolArray, FloatArray
from loraudit.validity.words import Sequences, Words

SHINGLE_WORDS = 3
NEAR_DUPLICATE = 0.8
NGRAM_WORDS = 7
MOSTLY_SHARED = 0.8
_CANDIDATE = 0.7
_N_PERMUTATIONS = 64
_LOW_BITS = np.uint64(2**32 - 1)
_CANDIDATES_TRIED = 200


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """What the sides share.

    Attributes:
        has_near_duplicate: [N] records whose word triples are shared to at least 80 % (Jaccard) with a record of
            the other side.
        ngram_share: [N] for non-members, the share of their 7-word sequences that stand in some member; NaN for
            members and for texts of fewer words.
        usual_share: The same share between two random halves of the non-members: what this kind of text has
            in common anyway. NaN where it cannot be measured.
    """

    has_near_duplicate: BoolArray
    ngram_share: FloatArray
    usual_share: float


def measure_overlap(words: Words, is_member: BoolArray, *, rng: np.random.Generator) -> Overlap:
    """Near-duplicates and shared word sequences between members and non-members.

    Near-duplicates are found with MinHash and confirmed on the sets themselves.

    Args:
        words: Of N texts.
        is_member: [N].
        rng: Source of the halves for the usual share.

    References:
        Broder 1997 (MinHash); Duan et al. 2024, arXiv:2402.07841 (n-gram overlap of the two sides).
    """
    ngrams = words.ngrams(NGRAM_WORDS)
    shares = np.full(len(words), np.nan)
    nonmembers = np.flatnonzero(~is_member)
    shares[nonmembers] = _shares(ngrams.take(nonmembers), ngrams.take(np.flatnonzero(is_member)))
    shuffled = rng.permutation(nonmembers)
    halves = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
    usual = _shares(ngrams.take(halves[0]), ngrams.take(halves[1]))
    return Overlap(
        _near_duplicates(words.ngrams(SHINGLE_WORDS), is_member),
        shares,
        float(np.nanmean(usual)) if len(usual) and not np.isnan(usual).all() else float("nan"),
    )


def _shares(ngrams: Sequences, others: Sequences) -> FloatArray:
    """[n] share of each text's sequences that stand in some text of `others`."""
    is_shared = np.isin(ngrams.hashes, others.hashes)
    n_shared_before = np.concatenate([[0], np.cumsum(is_shared)])
    with np.errstate(invalid="ignore"):
        return np.diff(n_shared_before[ngrams.offsets]) / np.diff(ngrams.offsets)


def _near_duplicates(shingles: Sequences, is_member: BoolArray) -> BoolArray:
    from datasketch import MinHash, MinHashLSH

    sets = [np.unique(shingles.of(row)) for row in range(len(is_member))]
    sketches: dict[int, Any] = {}
    for row, values in enumerate(sets):
        if len(values):
            sketches[row] = MinHash(num_perm=_N_PERMUTATIONS, hashfunc=int)
            sketches[row].update_batch(values & _LOW_BITS)
    found = np.zeros(len(sets), dtype=bool)
    index = MinHashLSH(threshold=_CANDIDATE, num_perm=_N_PERMUTATIONS)
    for row in (r for r in sketches if is_member[r]):
        index.insert(row, sketches[row])
    for row in (r for r in sketches if not is_member[r]):
        candidates = [int(str(other)) for other in index.query(sketches[row])]
        candidates.sort(key=lambda other: -sketches[row].jaccard(sketches[other]))
        for other in _confirmed(sets, row, candidates):
            found[[row, other]] = True
    return found


def _confirmed(sets: Sequence[NDArray[np.uint64]], row: int, candidates: Sequence[int]) -> Iterator[int]:
    for other in candidates[:_CANDIDATES_TRIED]:  # the likeliest; records made from one template have thousands
        n_shared = len(np.intersect1d(sets[row], sets[other], assume_unique=True))
        if n_shared >= NEAR_DUPLICATE * (len(sets[row]) + len(sets[other]) - n_shared):
            yield other
