"""How alike a generated suffix and the true one are, by measures that each see something else.

All are of one pair, 1 (or the whole length) for equal suffixes, and undefined (NaN) where the true suffix is too short
for the measure to exist. Tokens are anything that can be compared: ids of the model's tokenizer, or words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from rapidfuzz.distance import LCSseq, Levenshtein

_LONGEST_NGRAM = 4

BLEU_MEMORISED = 0.75
"""Above this a suffix counts as memorised in spirit (Ippolito et al. 2022, arXiv:2210.17546)."""


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


def _ngrams(tokens: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))
