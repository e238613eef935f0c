"""AUROC and true-positive rate of detectors of poison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loraudit.statistics import auc, detection_findings


def judged(scores, is_poisoned, **more):
    settings = {"confidence": 0.95, "n_resamples": 200, "rng": np.random.default_rng(0)} | more
    return detection_findings(np.asarray(scores), np.asarray(is_poisoned), **settings)


def test_numbers_are_those_of_the_scores():
    rng = np.random.default_rng(1)
    is_poisoned = np.arange(1050) < 50
    scores = rng.normal(size=1050) + 2 * is_poisoned
    found = judged(scores, is_poisoned)
    assert found.auroc.value == pytest.approx(auc(scores[:50], scores[50:]))
    # 1 % of 1000 clean records: strictly above the eleventh highest.
    assert found.tpr.value == pytest.approx(np.mean(scores[:50] > np.sort(scores[50:])[-11]))
    assert found.tpr.lower < found.tpr.value < found.tpr.upper
    assert (found.tpr.n_members, found.tpr.n_nonmembers) == (50, 1000)


def test_what_few_clean_records_cannot_resolve_is_refused_in_words():
    found = judged(np.arange(60.0), np.arange(60) < 10)
    assert found.tpr.value is None
    assert found.tpr.note == (
        "Cannot state TPR at 1 % FPR from 50 clean records: the smallest rate they resolve is 2 %. Give at least 100 "
        "(1000 for a useful interval)."
    )
    assert found.auroc.value == 0.0
    assert judged(np.arange(60.0), np.arange(60) < 10, fpr=0.1).tpr.value == 0.0


def test_few_clean_records_above_the_threshold_are_named():
    note = judged(np.arange(250.0), np.arange(250) < 50).tpr.note
    assert "clean records" in note
    assert "members" not in note


def test_undefined_scores_are_counted():
    found = judged([math.nan, 2.0, 1.0, math.nan, 0.0], [True, True, False, False, False])
    assert (found.auroc.n_undefined_members, found.auroc.n_undefined_nonmembers) == (1, 1)


def test_a_side_without_scores_has_no_number():
    found = judged([math.nan, 1.0, 0.0], [True, False, False])
    assert found.auroc.value is None
    assert found.auroc.note == "No score is defined on poisoned records."
    assert found.tpr.value is None
