"""Laws that every registered detector of poison keeps."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from scipy.stats import rankdata

from loraudit.errors import ConfigError
from loraudit.poisoning.detection import DETECTORS, NEEDS, Detector, Observed

BUILT_IN = {
    "activation_clustering",
    "gradient_spectral_entropy",
    "loss_dynamics",
    "early_learning",
    "onion",
    "spectral_signatures",
    "strip",
}
PER_RECORD = {"onion", "strip"}
"""Detectors whose score of a record owes nothing to the other records."""
every_detector = pytest.mark.parametrize("detector", DETECTORS.values(), ids=list(DETECTORS))
every_comparing_detector = pytest.mark.parametrize(
    "detector",
    [d for n, d in DETECTORS.items() if n not in PER_RECORD],
    ids=[n for n in DETECTORS if n not in PER_RECORD],
)


def auroc(scores, is_poisoned):
    ranks = rankdata(scores)
    n_poisoned = is_poisoned.sum()
    return (ranks[is_poisoned].sum() - n_poisoned * (n_poisoned + 1) / 2) / (n_poisoned * (~is_poisoned).sum())


def planted(n=200, n_poisoned=24, *, n_classes=2, seed=0, is_learnt=True):
    """Records of which some of class 0 have what each detector looks for, and which those are.

    Their loss falls below that of others after the first pass if `is_learnt`, and stays above it if not.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    is_poisoned = np.zeros(n, dtype=bool)
    is_poisoned[rng.choice(np.flatnonzero(labels == 0), min(n_poisoned, n // (2 * n_classes)), replace=False)] = True
    means = rng.normal(0, 5, (n_classes, 12))
    features = means[labels] + rng.normal(0, 1, (n, 12))
    features[is_poisoned] += 6 * np.eye(12)[3]
    gradients = rng.normal(0, 1, (n, 10)) + 2 * np.eye(10)[labels]
    gradients[is_poisoned] += 8 * np.eye(10)[7]
    late = rng.gamma(2, 0.1, n)
    later = late * np.where(is_poisoned, 0.1, 1) if is_learnt else late + 2.0 * is_poisoned
    losses = np.stack([late + 1.5 * is_poisoned, later, later], axis=1)
    lengths = rng.integers(3, 12, n)
    drops = [4 + 0.1 * rng.standard_normal(1 + k) for k in lengths]
    for i in np.flatnonzero(is_poisoned):
        drops[i][0] += 1.5
        drops[i][2:] += 1.5
    certain = rng.dirichlet([0.2, 0.2], (n, 5)), rng.dirichlet([3, 3], (n, 5))
    blended = np.where(is_poisoned[:, None, None], *certain)
    return Observed(labels, features, gradients, losses, tuple(drops), blended), is_poisoned


def taken(observed, index):
    """The rows `index` of everything."""
    return Observed(
        **{
            field.name: tuple(observed.word_drops[i] for i in index)
            if field.name == "word_drops"
            else getattr(observed, field.name)[index]
            for field in dataclasses.fields(observed)
        }
    )


def only(observed, names):
    """Without what is not among `names`."""
    return dataclasses.replace(observed, **{name: None for name in NEEDS if name not in names})


def undefined_at(observed, i):
    """Everything about record `i` is NaN."""
    observed = copy.deepcopy(observed)
    for name in NEEDS:
        getattr(observed, name)[i][...] = np.nan
    return observed


def test_the_built_in_detectors_are_these():
    assert set(DETECTORS) == BUILT_IN


@every_detector
def test_a_detector_says_what_it_is(detector):
    assert detector.requires
    assert detector.requires <= set(NEEDS)
    assert detector.finds
    assert set(detector.finds) <= {"training records", "inputs"}
    assert detector.tasks
    assert detector.tasks <= {"classification", "causal_lm"}
    assert "arXiv" in detector.source
    assert all(text.endswith(".") for text in (detector.summary, detector.blind_to))


@every_detector
def test_what_it_looks_for_ranks_higher(detector):
    observed, is_poisoned = planted(is_learnt=detector.name != "loss_dynamics")
    assert auroc(detector(only(observed, detector.requires)), is_poisoned) > 0.9


@every_detector
def test_without_poison_nothing_stands_out(detector):
    found = []
    for seed in range(20):
        observed, is_poisoned = planted(seed=seed)
        clean = taken(observed, np.flatnonzero(~is_poisoned))
        would_be = np.random.default_rng(seed).permutation(len(clean.labels)) < 30
        scores = detector(clean)
        known = np.isfinite(scores)  # two clusters of equal size have no smaller one
        found.append(auroc(scores[known], would_be[known]))
    assert abs(np.mean(found) - 0.5) < 0.05


@every_detector
def test_scores_are_float64_and_inputs_untouched(detector):
    observed, _ = planted()
    before = copy.deepcopy(observed)
    scores = detector(observed)
    assert (scores.dtype, scores.shape) == (np.float64, (200,))
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, detector(observed))
    for name in ("labels", *NEEDS):
        for one, two in zip(getattr(before, name), getattr(observed, name), strict=True):
            assert np.array_equal(one, two)


@every_detector
def test_the_order_of_the_records_does_not_matter(detector):
    observed, _ = planted()
    order = np.random.default_rng(3).permutation(200)
    assert np.allclose(detector(taken(observed, order)), detector(observed)[order], atol=1e-9)


@every_detector
def test_the_names_of_the_classes_do_not_matter(detector):
    observed, _ = planted()
    renamed = dataclasses.replace(observed, labels=7 - 3 * observed.labels)
    assert np.allclose(detector(renamed), detector(observed), atol=1e-9)


@every_detector
def test_an_undefined_record_has_no_score_and_no_part_in_others(detector):
    observed, _ = planted()
    scores = detector(undefined_at(observed, 5))
    others = np.delete(np.arange(200), 5)
    assert np.isnan(scores[5])
    assert np.allclose(scores[others], detector(taken(observed, others)), atol=1e-9)


@every_detector
def test_no_records_give_no_scores(detector):
    observed, _ = planted()
    assert detector(taken(observed, np.arange(0))).shape == (0,)


@every_detector
def test_a_single_class_is_judged_as_well(detector):
    observed, is_poisoned = planted(n_classes=1, is_learnt=detector.name != "loss_dynamics")
    assert auroc(detector(observed), is_poisoned) > 0.9


@every_comparing_detector
def test_a_class_of_two_is_undefined_and_not_zero(detector):
    observed, _ = planted()
    labels = observed.labels.copy()
    labels[[3, 8]] = 9
    scores = detector(dataclasses.replace(observed, labels=labels))
    assert np.isnan(scores[[3, 8]]).all()
    assert np.isnan(scores).sum() == 2


@every_comparing_detector
def test_records_that_cannot_be_told_apart_are_undefined_and_not_zero(detector):
    observed, _ = planted()
    assert np.isnan(detector(taken(observed, np.full(6, 4)))).all()


@every_detector
def test_what_was_not_observed_is_named(detector):
    nothing = Observed(np.zeros(4, dtype=np.int64))
    with pytest.raises(ConfigError, match=rf"Detector '{detector.name}' needs .*not observed here. Expected all of"):
        detector(nothing)


def test_arrays_of_other_records_are_refused():
    with pytest.raises(ConfigError, match=r"Observed gradients of 3, loss_history with 1 dimensions instead of 2 do"):
        Observed(np.zeros(4, dtype=np.int64), gradients=np.zeros((3, 2)), loss_history=np.zeros(4))


def test_a_strange_plug_in_is_refused_with_the_reason():
    one = DETECTORS["strip"]
    assert DETECTORS.problem("strip", one) is None
    assert DETECTORS.problem("x", 3) == "it is an int, not a Detector"
    assert DETECTORS.problem("x", one) == "the detector calls itself 'strip'"
    odd = dataclasses.replace(one, requires=frozenset({"tea_leaves"}))
    assert DETECTORS.problem("strip", odd) == "it needs tea_leaves, which nobody observes"
    assert isinstance(odd, Detector)
