"""Rates, the ROC curve and its left end equal the slow, obvious definitions of METHODS.md section 1.4.

The definitions are loops written from that page; scikit-learn judges where it defines the same number.
"""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loraudit.errors import ConfigError
from loraudit.statistics import partial_auc, roc_curve, threshold_at_fpr, tpr_at_fpr, unresolved_rate

INF = math.inf

tied = st.integers(-3, 3).map(float)
tied_or_infinite = st.sampled_from([-INF, -1.0, 0.0, 1.0, 2.0, INF])
any_score = st.floats(allow_nan=False)
scores = st.one_of(*(st.lists(kind, min_size=1, max_size=40) for kind in (tied, tied_or_infinite, any_score)))
tied_scores = st.lists(tied, min_size=1, max_size=40)
finite_scores = st.one_of(tied_scores, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
rates = st.one_of(st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0]), st.floats(0, 1))


def array(values) -> np.ndarray:
    return np.array(values, dtype=np.float64)


# ---------------------------------------------------------------------------------------------
# The definitions
# ---------------------------------------------------------------------------------------------


def slow_threshold(nonmembers: list[float], fpr: float) -> float:
    """The (k+1)-th largest non-member, k = floor(a n0 + 1e-9); k >= n0 lets everyone in."""
    k = math.floor(fpr * len(nonmembers) + 1e-9)
    if k >= len(nonmembers):
        return -INF
    return sorted(nonmembers, reverse=True)[k]


def slow_tpr(members: list[float], nonmembers: list[float], fpr: float) -> float:
    threshold = slow_threshold(nonmembers, fpr)
    n_found = 0
    for score in members:
        if score > threshold:
            n_found += 1
    return n_found / len(members)


def slow_roc(members: list[float], nonmembers: list[float]) -> list[tuple[float, float]]:
    """One point per distinct score: shares of both sides at or above it."""
    points = [(0.0, 0.0)]
    for cut in sorted({*members, *nonmembers}, reverse=True):
        false_positives = sum(score >= cut for score in nonmembers)
        true_positives = sum(score >= cut for score in members)
        points.append((false_positives / len(nonmembers), true_positives / len(members)))
    return points


def slow_partial_auc(members: list[float], nonmembers: list[float], max_fpr: float) -> float:
    """Area under straight lines between the points, cut at max_fpr, on McClish's scale."""
    area = 0.0
    points = slow_roc(members, nonmembers)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 == x0 or x0 >= max_fpr:
            continue
        stop = min(x1, max_fpr)
        y_stop = y0 + (y1 - y0) * (stop - x0) / (x1 - x0)
        area += (stop - x0) * (y0 + y_stop) / 2
    chance, perfect = max_fpr * max_fpr / 2, max_fpr
    return 0.5 * (1 + (area - chance) / (perfect - chance))


# ---------------------------------------------------------------------------------------------
# TPR at FPR
# ---------------------------------------------------------------------------------------------


@given(scores, scores, rates)
def test_tpr_at_fpr_equals_its_definition(members, nonmembers, fpr):
    assert threshold_at_fpr(array(nonmembers), fpr=fpr) == slow_threshold(nonmembers, fpr)
    assert tpr_at_fpr(array(members), array(nonmembers), fpr=fpr) == pytest.approx(slow_tpr(members, nonmembers, fpr))


@given(scores, rates)
def test_realised_false_positive_rate_is_never_above_the_asked(nonmembers, fpr):
    threshold = threshold_at_fpr(array(nonmembers), fpr=fpr)
    realised = sum(score > threshold for score in nonmembers) / len(nonmembers)
    assert realised <= fpr + 1e-9


@given(st.lists(tied, min_size=1, max_size=40), rates)
def test_threshold_is_the_lowest_score_that_keeps_the_rate(nonmembers, fpr):
    threshold = threshold_at_fpr(array(nonmembers), fpr=fpr)
    for lower in {score for score in nonmembers if score < threshold}:
        assert sum(score > lower for score in nonmembers) / len(nonmembers) > fpr


@given(scores, scores, rates, rates)
def test_tpr_grows_with_the_allowed_rate(members, nonmembers, first, second):
    low, high = sorted([first, second])
    tpr = [tpr_at_fpr(array(members), array(nonmembers), fpr=fpr) for fpr in (low, high)]
    assert tpr[0] <= tpr[1]


@given(scores, scores, rates)
def test_tpr_knows_only_the_order_of_the_scores(members, nonmembers, fpr):
    """Dense ranks keep order and ties and nothing else."""
    assume(-INF not in members)  # a member of score -inf is below even the lowest threshold, -inf
    _, dense = np.unique(array(members + nonmembers), return_inverse=True)
    ranked = dense[: len(members)].astype(float), dense[len(members) :].astype(float)
    assert tpr_at_fpr(*ranked, fpr=fpr) == tpr_at_fpr(array(members), array(nonmembers), fpr=fpr)


@given(tied_scores, tied_scores, rates)
@pytest.mark.parametrize(
    "increasing", [np.exp, np.arctan, lambda x: 3 * x - 7, lambda x: x**3], ids=["exp", "arctan", "linear", "cubic"]
)
def test_increasing_transforms_change_nothing(increasing, members, nonmembers, fpr):
    before, after = (array(members), array(nonmembers)), (increasing(array(members)), increasing(array(nonmembers)))
    assert tpr_at_fpr(*after, fpr=fpr) == tpr_at_fpr(*before, fpr=fpr)
    assert partial_auc(*after, max_fpr=0.1) == partial_auc(*before, max_fpr=0.1)


@given(scores, scores, rates, st.randoms())
def test_order_of_the_records_changes_nothing(members, nonmembers, fpr, random):
    before = tpr_at_fpr(array(members), array(nonmembers), fpr=fpr)
    random.shuffle(members)
    random.shuffle(nonmembers)
    assert tpr_at_fpr(array(members), array(nonmembers), fpr=fpr) == before


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 0.99))
def test_ties_are_never_credited(n_members, n_nonmembers, fpr):
    """A constant score finds nobody unless every non-member may be a false positive."""
    assume(math.floor(fpr * n_nonmembers + 1e-9) < n_nonmembers)
    assert tpr_at_fpr(np.zeros(n_members), np.zeros(n_nonmembers), fpr=fpr) == 0


@pytest.mark.parametrize("n", [10, 20, 30, 70, 1000, 2990, 10_000])
@pytest.mark.parametrize("k", [1, 3, 7, 9])
def test_rates_written_in_decimals_allow_the_false_positives_they_say(n, k):
    """0.1 * 30 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996; both mean a whole number."""
    nonmembers = np.arange(n, dtype=float)
    assert (nonmembers > threshold_at_fpr(nonmembers, fpr=k / n)).sum() == k


def test_a_rate_a_hair_below_a_whole_number_is_that_number():
    assert 0.29 * 100 < 29
    nonmembers = np.arange(100, dtype=float)
    assert threshold_at_fpr(nonmembers, fpr=0.29) == 70  # 29 false positives: 71 … 99


def test_empty_sides_give_nan():
    some, none = np.array([1.0, 2.0]), np.array([])
    assert math.isnan(tpr_at_fpr(none, some, fpr=0.1))
    assert math.isnan(tpr_at_fpr(some, none, fpr=0.1))
    assert math.isnan(partial_auc(none, some, max_fpr=0.1))
    assert math.isnan(partial_auc(some, none, max_fpr=0.1))


def test_the_inputs_are_left_as_they_were():
    members, nonmembers = np.array([3.0, 1.0, 2.0]), np.array([0.0, 5.0, 1.0])
    kept = members.copy(), nonmembers.copy()
    tpr_at_fpr(members, nonmembers, fpr=0.4)
    partial_auc(members, nonmembers, max_fpr=0.4)
    np.testing.assert_array_equal(members, kept[0])
    np.testing.assert_array_equal(nonmembers, kept[1])


@pytest.mark.parametrize("fpr", [-0.1, 1.5, math.nan, INF])
def test_rates_outside_zero_to_one_are_refused(fpr):
    words = rf"^False-positive rate {fpr} is out of range\. Expected a number in \[0, 1\]\.$"
    some = np.array([1.0, 2.0])
    with pytest.raises(ConfigError, match=words):
        threshold_at_fpr(some, fpr=fpr)
    with pytest.raises(ConfigError, match=words):
        tpr_at_fpr(some, some, fpr=fpr)


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_nonmembers", "asked", "fpr", "smallest", "enough", "useful"),
    [
        (400, "0.1 %", 0.001, "0.25 %", 1000, 10_000),
        (0, "10 %", 0.1, "none", 10, 100),
        (99, "1 %", 0.01, "1.01 %", 100, 1000),
    ],
)
def test_refusals_say_how_many_are_needed(n_nonmembers, asked, fpr, smallest, enough, useful):
    assert unresolved_rate(n_nonmembers, fpr) == (
        f"Cannot state TPR at {asked} FPR from {n_nonmembers} non-members: the smallest rate they resolve is "
        f"{smallest}. Give at least {enough} ({useful} for a useful interval) or ask for a larger --fpr."
    )


@given(st.floats(1e-6, 1))
def test_the_number_asked_for_is_the_smallest_that_will_do(fpr):
    enough = math.ceil(1 / fpr)
    assert unresolved_rate(enough, fpr) is None
    fewer = enough - 1
    assert unresolved_rate(fewer, fpr) is not None or fpr * fewer >= 1 - 2e-9


@pytest.mark.parametrize(("n_nonmembers", "fpr"), [(10, 0.1), (1000, 0.001), (30, 1 / 30), (49, 1 / 49), (1, 1.0)])
def test_one_expected_false_positive_is_enough(n_nonmembers, fpr):
    assert unresolved_rate(n_nonmembers, fpr) is None
    assert unresolved_rate(n_nonmembers - 1, fpr) is not None


# ---------------------------------------------------------------------------------------------
# ROC curve and partial AUC
# ---------------------------------------------------------------------------------------------


@given(finite_scores, finite_scores)
def test_roc_curve_equals_its_definition(members, nonmembers):
    curve = roc_curve(array(members), array(nonmembers))
    np.testing.assert_allclose(np.stack([curve.fpr, curve.tpr], axis=1), slow_roc(members, nonmembers))


@given(finite_scores, finite_scores)
def test_roc_curve_equals_scikit_learn(members, nonmembers):
    labels = [1] * len(members) + [0] * len(nonmembers)
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, members + nonmembers, drop_intermediate=False)
    curve = roc_curve(array(members), array(nonmembers))
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)


@given(finite_scores, finite_scores)
def test_roc_curve_rises_from_corner_to_corner(members, nonmembers):
    curve = roc_curve(array(members), array(nonmembers))
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.tpr) >= 0).all()


@given(finite_scores, finite_scores, rates)
def test_no_point_of_the_roc_curve_within_the_rate_is_above_tpr_at_fpr(members, nonmembers, fpr):
    """tpr_at_fpr is a point of the curve, the highest one that keeps the rate."""
    curve = roc_curve(array(members), array(nonmembers))
    highest = curve.tpr[curve.fpr <= fpr + 1e-9 / len(nonmembers)].max()
    assert tpr_at_fpr(array(members), array(nonmembers), fpr=fpr) == pytest.approx(highest)


@given(finite_scores, finite_scores, st.one_of(st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 1.0]), st.floats(0.01, 1)))
def test_partial_auc_equals_its_definition(members, nonmembers, max_fpr):
    found = partial_auc(array(members), array(nonmembers), max_fpr=max_fpr)
    assert found == pytest.approx(slow_partial_auc(members, nonmembers, max_fpr), abs=1e-9)


@given(finite_scores, finite_scores, st.one_of(st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 1.0]), st.floats(0.01, 1)))
def test_partial_auc_equals_scikit_learn(members, nonmembers, max_fpr):
    labels = [1] * len(members) + [0] * len(nonmembers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sklearn.metrics.roc_auc_score(labels, members + nonmembers, max_fpr=max_fpr)
    assert partial_auc(array(members), array(nonmembers), max_fpr=max_fpr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("max_fpr", [0.01, 0.1, 0.5, 1.0])
def test_partial_auc_of_guessing_is_a_half_and_of_perfection_one(max_fpr):
    assert partial_auc(np.zeros(50), np.zeros(70), max_fpr=max_fpr) == pytest.approx(0.5)
    assert partial_auc(np.ones(50), np.zeros(70), max_fpr=max_fpr) == pytest.approx(1.0)


@given(st.lists(tied_or_infinite, min_size=1, max_size=12), st.lists(tied_or_infinite, min_size=1, max_size=12))
@example([INF, INF], [INF, 0.0])
def test_equal_infinities_are_ties(members, nonmembers):
    """reference_ratio gives +inf to a record of zero loss; several such records are no order among themselves."""
    curve = roc_curve(array(members), array(nonmembers))
    np.testing.assert_allclose(np.stack([curve.fpr, curve.tpr], axis=1), slow_roc(members, nonmembers))
    found = partial_auc(array(members), array(nonmembers), max_fpr=0.3)
    assert found == pytest.approx(slow_partial_auc(members, nonmembers, 0.3), abs=1e-9)


def test_scores_as_far_apart_as_floats_go():
    curve = roc_curve(np.array([1e308]), np.array([-1e308]))
    np.testing.assert_array_equal(curve.tpr, [0, 1, 1])
