"""Scores of records that no target has seen.

If any of them tells members from non-members, the two sides differ in kind, and an attack may be
reading that difference instead of membership (Das et al. 2024, arXiv:2406.16201; Duan et al. 2024,
arXiv:2402.07841).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loraudit.types import BoolArray, FloatArray, IntArray, RecordFacts
from loraudit.validity.words import Words, count_matrix

BAG_OF_WORDS = "bag_of_words"
LENGTH = "length"
ZLIB = "zlib_ratio"
N_FOLDS = 5
_N_FEATURES = 1 << 20


def count_folds(is_member: BoolArray, groups: IntArray | None, n_folds: int = N_FOLDS) -> int:
    """Folds that can be made: fewer than `n_folds` where a side has not so many documents."""
    units = np.arange(len(is_member)) if groups is None else groups
    return min(n_folds, *(len(np.unique(units[side])) for side in (is_member, ~is_member)))


def blind_scores(
    words: Words,
    facts: RecordFacts,
    is_member: BoolArray,
    *,
    groups: IntArray | None = None,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """Each blind classifier's score of every record.

    Args:
        words: Of the audited text of each record.
        facts: Of those records.
        is_member: [N].
        groups: [N] document of each record; one document is never in training and test fold at once.
        rng: Source of the folds.

    Returns:
        `bag_of_words` (see `bag_of_words_scores`), `length` in bytes, and `zlib_ratio`, the share of its
        bytes that a record keeps under zlib. NaN where undefined.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = facts.n_zlib_bytes / facts.n_bytes
    return {
        BAG_OF_WORDS: bag_of_words_scores(words, is_member, groups=groups, rng=rng),
        LENGTH: facts.n_bytes.astype(np.float64),
        ZLIB: np.where(facts.n_bytes > 0, ratio, np.nan),
    }


def bag_of_words_scores(
    words: Words,
    is_member: BoolArray,
    *,
    groups: IntArray | None = None,
    rng: np.random.Generator,
    n_folds: int = N_FOLDS,
) -> FloatArray:
    """[N] how much a logistic model of the words, trained on the other folds, takes each record for a member.

    Features are words, numbers and punctuation marks, pairs of neighbours, and the shapes of what holds a
    digit (so that another style of dates is seen whatever the dates). A score is the rank of the record
    within its fold, in (0, 1): folds have models of their own, whose raw scores do not compare.

    Args:
        words: Of N texts.
        is_member: [N].
        groups: [N] document of each record, or None.
        rng: Source of the folds.
        n_folds: Fewer where a side has not so many documents.

    Returns:
        All NaN where a side has fewer than two documents.
    """
    from scipy.stats import rankdata
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    scores = np.full(len(words), np.nan)
    units = np.arange(len(words)) if groups is None else groups
    n_folds = count_folds(is_member, groups, n_folds)
    if n_folds < 2:
        return scores
    counts = count_matrix([words.ngrams(1), words.ngrams(2), words.shapes], _N_FEATURES)
    n_texts_with = np.bincount(counts.indices, minlength=_N_FEATURES)
    counts = counts[:, np.flatnonzero(n_texts_with > 1)]
    if not counts.nnz:  # no feature stands in two records: nothing to learn from
        return np.full(len(words), 0.5)
    weighted: Any = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=int(rng.integers(2**31)))
    for train, test in folds.split(weighted, is_member, units):
        if len(np.unique(is_member[train])) < 2:
            continue
        model = LogisticRegression(solver="liblinear", class_weight="balanced", tol=1e-2, random_state=0)
        model.fit(weighted[train], is_member[train])
        ranks = rankdata(model.decision_function(weighted[test]))
        scores[test] = (ranks - 0.5) / len(test)
    return scores
