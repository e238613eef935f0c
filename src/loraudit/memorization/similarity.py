"""How alike a generated suffix and the true one are, by measures that each see something else.

All are of one pair, 1 (or the whole length) for equal suffixes, and undefined (NaN) where the true suffix is too short
for the measure to exist. Tokens are anything that can be compared: ids of the model's tokenizer, or words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

_LONGEST_NGRAM = 4

BLEU_MEMORISED = 0.75
"""Above this a suffix counts as memorised in spirit (Ippolito et al. 2022, arXiv:2210.17546)."""


@dataclass(frozen=True, slots=True)
class SuffixSimilarity:
    """A generated suffix against the true one.

    Attributes:
        edit: 1 − Levenshtein distance of tokens / the longer number of tokens.
        rouge_l: F1 of the longest common subsequence of tokens.
        bleu: Of the sentence, up to 4-grams.
        longest_run: Longest run of tokens that both share, wherever it stands.
    """

    edit: float
    rouge_l: float
    bleu: float
    longest_run: int

    @classmethod
    def of(cls, generated: Sequence[Hashable], true: Sequence[Hashable]) -> SuffixSimilarity:
        """Compare [n] generated tokens with [m] true ones."""
        return cls(
            edit=edit_similarity(generated, true),
            rouge_l=rouge_l(generated, true),
            bleu=bleu(generated, true),
            longest_run=longest_common_run(generated, true),
        )


def edit_similarity(generated: Sequence[Hashable], true: Sequence[Hashable]) -> float:
    """1 − Levenshtein distance / the longer length, in characters or tokens. NaN if `true` is empty.

    >>> edit_similarity("kitten", "sitting")  # three edits of seven characters
    0.5714285714285714
    """
    return Levenshtein.normalized_similarity(generated, true) if len(true) else math.nan


def rouge_l(generated: Sequence[Hashable], true: Sequence[Hashable]) -> float:
    """F1 of the longest common subsequence: 2 LCS / (n + m). NaN if `true` is empty.

    References:
        Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", with β = 1.

    >>> rouge_l("police kill the gunman".split(), "police killed the gunman".split())
    0.75
    """
    if not len(true):
        return math.nan
    return 2 * LCSseq.similarity(generated, true) / (len(generated) + len(true))


def bleu(generated: Sequence[Hashable], true: Sequence[Hashable]) -> float:
    """BLEU of one sentence with one reference: brevity penalty times the geometric mean of 1- to 4-gram precision.

    Not smoothed: 0 where no 4-gram is shared. NaN if `true` has fewer than four tokens.

    References:
        Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation".

    >>> round(bleu("the cat sat on the mat today".split(), "the cat sat on the mat".split()), 4)
    0.8091
    """
    if len(true) < _LONGEST_NGRAM:
        return math.nan
    log_precision = 0.0
    for n in range(1, _LONGEST_NGRAM + 1):
        made, wanted = _ngrams(generated, n), _ngrams(true, n)
        n_shared = (made & wanted).total()
        if n_shared == 0:
            return 0.0
        log_precision += math.log(n_shared / made.total()) / _LONGEST_NGRAM
    return math.exp(log_precision + min(0.0, 1 - len(true) / len(generated)))


def longest_common_run(generated: Sequence[Hashable], true: Sequence[Hashable]) -> int:
    """Length of the longest run of tokens that stands in both.

    >>> longest_common_run([7, 1, 2, 3, 9], [1, 2, 3, 1, 2])
    3
    """
    numbers: dict[Hashable, int] = {}
    here, there = (
        np.array([numbers.setdefault(token, len(numbers)) for token in some], dtype=np.int64)
        for some in (generated, true)
    )
    ending = np.zeros(len(there) + 1, dtype=np.int64)  # runs that end at each token of `true`
    longest = 0
    for token in here:
        ending[1:] = np.where(there == token, ending[:-1] + 1, 0)
        longest = max(longest, int(ending.max()))
    return longest


def _ngrams(tokens: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))
