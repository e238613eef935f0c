"""AUC and its intervals equal slow formulas that compare every member with every non-member."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import auc, auc_interval, clopper_pearson, paired_auc_difference

INF = math.inf

tied = st.integers(-3, 3).map(float)
kinds = (tied, st.sampled_from([-INF, -1.0, 0.0, 1.0, INF]), st.floats(allow_nan=False))
scores = st.one_of(*(st.lists(kind, min_size=1, max_size=30) for kind in kinds))
several = st.one_of(st.lists(tied, min_size=2, max_size=25), st.lists(st.floats(-5, 5), min_size=2, max_size=25))


def array(values) -> np.ndarray:
    return np.array(values, dtype=np.float64)


# ---------------------------------------------------------------------------------------------
# The definitions: kernel psi = 1, 1/2 or 0, and its means over rows and columns
# ---------------------------------------------------------------------------------------------


def psi(member: float, nonmember: float) -> float:
    if member > nonmember:
        return 1.0
    return 0.5 if member == nonmember else 0.0


def slow_auc(members, nonmembers) -> float:
    total = 0.0
    for member in members:
        for nonmember in nonmembers:
            total += psi(member, nonmember)
    return total / (len(members) * len(nonmembers))


def structural_components(members, nonmembers) -> tuple[list[float], list[float]]:
    """V10 of every member and V01 of every non-member (DeLong 1988, equations 4 and 5)."""
    v10 = [sum(psi(x, y) for y in nonmembers) / len(nonmembers) for x in members]
    v01 = [sum(psi(x, y) for x in members) / len(members) for y in nonmembers]
    return v10, v01


def covariance(first: list[float], second: list[float]) -> float:
    """Sample covariance with n - 1."""
    n = len(first)
    mean_first, mean_second = sum(first) / n, sum(second) / n
    return sum((a - mean_first) * (b - mean_second) for a, b in zip(first, second, strict=True)) / (n - 1)


def slow_variance(members, nonmembers) -> float:
    v10, v01 = structural_components(members, nonmembers)
    return covariance(v10, v10) / len(v10) + covariance(v01, v01) / len(v01)


def slow_clustered_side(components: list[float], groups: list[int]) -> float:
    """Obuchowski 1997: I/(I-1) times the sum over clusters of (sum over the cluster of V - A) squared, over n²."""
    mean = sum(components) / len(components)
    by_group: dict[int, float] = {}
    for value, group in zip(components, groups, strict=True):
        by_group[group] = by_group.get(group, 0.0) + value - mean
    n_groups = len(by_group)
    return n_groups / (n_groups - 1) * sum(total**2 for total in by_group.values()) / len(components) ** 2


def logit_t(value: float, variance: float, degrees_of_freedom: int, confidence: float) -> tuple[float, float]:
    """The odds over and times e^(t · error of the log-odds), which is the error of the value over p (1 - p)."""
    quantile = stats.t(degrees_of_freedom).isf((1 - confidence) / 2)
    factor = math.exp(quantile * math.sqrt(variance) / (value * (1 - value)))
    low, high = value / (1 - value) / factor, value / (1 - value) * factor
    return low / (1 + low), high / (1 + high)


def is_extreme(members, nonmembers) -> bool:
    return slow_auc(members, nonmembers) in {0.0, 1.0}


# ---------------------------------------------------------------------------------------------
# The value
# ---------------------------------------------------------------------------------------------


@given(scores, scores)
def test_auc_counts_pairs(members, nonmembers):
    assert auc(array(members), array(nonmembers)) == pytest.approx(slow_auc(members, nonmembers))


@given(several, several)
def test_auc_equals_scikit_learn(members, nonmembers):
    labels = [1] * len(members) + [0] * len(nonmembers)
    expected = sklearn.metrics.roc_auc_score(labels, members + nonmembers)
    assert auc(array(members), array(nonmembers)) == pytest.approx(expected)


@given(scores, scores)
def test_swapping_labels_or_sign_gives_the_complement_and_both_give_the_same(members, nonmembers):
    one, zero = array(members), array(nonmembers)
    value = auc(one, zero)
    assert auc(zero, one) == pytest.approx(1 - value)
    assert auc(-one, -zero) == pytest.approx(1 - value)
    assert auc(-zero, -one) == pytest.approx(value)


@given(several, several)
def test_the_interval_follows_when_labels_and_sign_are_swapped(members, nonmembers):
    one, zero = array(members), array(nonmembers)
    straight, mirrored = auc_interval(one, zero), auc_interval(zero, one)
    assert mirrored == pytest.approx((1 - straight.upper, 1 - straight.lower), nan_ok=True)
    assert auc_interval(-zero, -one) == pytest.approx(straight, nan_ok=True)


@given(scores, scores)
def test_auc_knows_only_the_order_of_the_scores(members, nonmembers):
    _, dense = np.unique(array(members + nonmembers), return_inverse=True)
    ranked = dense[: len(members)].astype(float), dense[len(members) :].astype(float)
    assert auc(*ranked) == auc(array(members), array(nonmembers))


def test_auc_of_an_empty_side_is_nan():
    assert math.isnan(auc(np.array([]), np.array([1.0])))
    assert math.isnan(auc(np.array([1.0]), np.array([])))


# ---------------------------------------------------------------------------------------------
# DeLong's interval
# ---------------------------------------------------------------------------------------------


@given(several, several, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_interval_equals_delong_by_pairs(members, nonmembers, confidence):
    assume(not is_extreme(members, nonmembers))
    degrees_of_freedom = min(len(members), len(nonmembers)) - 1
    found = auc_interval(array(members), array(nonmembers), confidence=confidence)
    variance = slow_variance(members, nonmembers)
    if variance < 1e-15:  # nothing in the sample tells of a spread
        assert math.isnan(found.lower)
        assert math.isnan(found.upper)
        return
    assert found == pytest.approx(
        logit_t(slow_auc(members, nonmembers), variance, degrees_of_freedom, confidence), abs=1e-9
    )


@st.composite
def grouped(draw):
    values = draw(several)
    groups = draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    return values, groups


@given(grouped(), grouped(), st.sampled_from([0.8, 0.95]))
def test_clustered_interval_equals_the_sum_over_clusters(member_side, nonmember_side, confidence):
    (members, member_groups), (nonmembers, nonmember_groups) = member_side, nonmember_side
    assume(len(set(member_groups)) > 1)
    assume(len(set(nonmember_groups)) > 1)
    assume(not is_extreme(members, nonmembers))
    v10, v01 = structural_components(members, nonmembers)
    variance = slow_clustered_side(v10, member_groups) + slow_clustered_side(v01, nonmember_groups)
    degrees_of_freedom = min(len(set(member_groups)), len(set(nonmember_groups))) - 1
    found = auc_interval(
        array(members),
        array(nonmembers),
        confidence=confidence,
        member_groups=np.array(member_groups),
        nonmember_groups=np.array(nonmember_groups),
    )
    if variance < 1e-15:
        assert math.isnan(found.lower)
        assert math.isnan(found.upper)
        return
    assert found == pytest.approx(
        logit_t(slow_auc(members, nonmembers), variance, degrees_of_freedom, confidence), abs=1e-9
    )


@given(scores, st.lists(st.integers(0, 5), min_size=30, max_size=30), st.booleans())
def test_one_group_on_a_side_says_nothing_of_the_spread(one_side, other, is_member_side):
    """One document, or one record; only full separation still has its exact bound, AUC >= alpha/2 from one pair."""
    single = {"member_groups" if is_member_side else "nonmember_groups": np.zeros(len(one_side), dtype=int)}
    members, nonmembers = (one_side, array(other)) if is_member_side else (array(other), one_side)
    found = auc_interval(array(members), array(nonmembers), **single)
    value = slow_auc(members, nonmembers)
    if value in {0.0, 1.0}:
        assert found == pytest.approx((0.025, 1.0) if value else (0.0, 0.975))
    else:
        assert math.isnan(found.lower)
        assert math.isnan(found.upper)


def test_two_documents_that_agree_are_no_certainty():
    """Both documents of each side hold the same scores: the variance between them is 0, what they tell is little."""
    groups = np.array([0, 0, 1, 1])
    found = auc_interval(
        np.array([3.0, 1.0, 3.0, 1.0]),
        np.array([2.0, 0.0, 2.0, 0.0]),
        member_groups=groups,
        nonmember_groups=groups,
    )
    assert math.isnan(found.lower) or found.upper - found.lower > 0.1


def test_large_samples_have_the_textbook_interval():
    """From a thousand records a side the normal interval on the AUC scale is the same to the third decimal."""
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(0.5, 1, 1500), rng.normal(0, 1, 1200)
    above = (members[:, None] > nonmembers[None, :]).astype(float)  # no ties
    variance = above.mean(axis=1).var(ddof=1) / 1500 + above.mean(axis=0).var(ddof=1) / 1200
    half = 1.959964 * math.sqrt(variance)
    assert auc_interval(members, nonmembers) == pytest.approx((above.mean() - half, above.mean() + half), abs=1e-3)


@given(several, several)
def test_records_that_stand_alone_are_no_clusters(members, nonmembers):
    plain = auc_interval(array(members), array(nonmembers))
    alone = auc_interval(
        array(members),
        array(nonmembers),
        member_groups=np.arange(len(members)) + 100,
        nonmember_groups=np.arange(len(nonmembers))[::-1],
    )
    assert alone == pytest.approx(plain, nan_ok=True)


@given(grouped(), several)
def test_names_of_groups_do_not_matter(member_side, nonmembers):
    members, groups = member_side
    first = auc_interval(array(members), array(nonmembers), member_groups=np.array(groups))
    second = auc_interval(array(members), array(nonmembers), member_groups=1000 - 7 * np.array(groups))
    assert second == pytest.approx(first, nan_ok=True)


def test_copies_of_a_record_in_one_group_are_worth_one_record():
    """Ten copies of every record, grouped, leave the variance of the plain sample (up to rounding)."""
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(1, 1, 40), rng.normal(0, 1, 30)
    plain = auc_interval(members, nonmembers)
    copied = auc_interval(
        np.repeat(members, 10),
        np.repeat(nonmembers, 10),
        member_groups=np.repeat(np.arange(40), 10),
        nonmember_groups=np.repeat(np.arange(30), 10),
    )
    assert copied == pytest.approx(plain)


@pytest.mark.parametrize(("n_members", "n_nonmembers"), [(1, 1), (1, 50), (5, 3), (200, 300)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_perfect_separation_has_the_exact_bound(n_members, n_nonmembers, confidence):
    """AUC^m >= alpha/2 with m = min(n1, n0) disjoint pairs."""
    bound = ((1 - confidence) / 2) ** (1 / min(n_members, n_nonmembers))
    high, low = np.ones(n_members), np.zeros(n_nonmembers)
    assert auc_interval(high, low, confidence=confidence) == pytest.approx((bound, 1.0))
    assert auc_interval(-high, low, confidence=confidence) == pytest.approx((0.0, 1 - bound))


def test_exact_bound_counts_groups_not_records():
    groups = np.repeat(np.arange(4), 5)
    found = auc_interval(np.ones(20), np.zeros(20), member_groups=groups, nonmember_groups=groups)
    assert found == pytest.approx((0.025 ** (1 / 4), 1.0))


@given(scores, scores)
def test_interval_lies_in_the_unit_interval_and_holds_the_value(members, nonmembers):
    found = auc_interval(array(members), array(nonmembers))
    if not math.isnan(found.lower):
        assert 0 <= found.lower <= auc(array(members), array(nonmembers)) + 1e-12
        assert auc(array(members), array(nonmembers)) <= found.upper + 1e-12
        assert found.upper <= 1


@given(several, several)
def test_more_confidence_is_never_narrower(members, nonmembers):
    narrow = auc_interval(array(members), array(nonmembers), confidence=0.8)
    wide = auc_interval(array(members), array(nonmembers), confidence=0.99)
    assume(not math.isnan(narrow.lower))
    assert wide.lower <= narrow.lower + 1e-12
    assert wide.upper >= narrow.upper - 1e-12


# ---------------------------------------------------------------------------------------------
# Two scores on the same records
# ---------------------------------------------------------------------------------------------


@st.composite
def two_scores(draw):
    pairs = st.lists(st.tuples(tied, st.integers(-2, 2).map(float)), min_size=2, max_size=20)
    members, nonmembers = draw(pairs), draw(pairs)
    first = [a for a, _ in members], [a for a, _ in nonmembers]
    second = [b for _, b in members], [b for _, b in nonmembers]
    return first, second


@given(two_scores(), st.sampled_from([0.9, 0.95]))
def test_paired_difference_equals_delong_with_covariances(both, confidence):
    first, second = both
    ones, twos = structural_components(*first), structural_components(*second)
    variance = 0.0
    for side_one, side_two in zip(ones, twos, strict=True):
        spread = covariance(side_one, side_one) + covariance(side_two, side_two) - 2 * covariance(side_one, side_two)
        variance += spread / len(side_one)
    assume(variance > 1e-9)
    found = paired_auc_difference(tuple(map(array, first)), tuple(map(array, second)), confidence=confidence)
    value = slow_auc(*first) - slow_auc(*second)
    half = stats.norm.ppf(0.5 + confidence / 2) * math.sqrt(variance)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.interval == pytest.approx((value - half, value + half), abs=1e-9)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(value) / math.sqrt(variance)), abs=1e-9)


@given(several, several)
def test_a_score_does_not_differ_from_itself(members, nonmembers):
    same = array(members), array(nonmembers)
    found = paired_auc_difference(same, same)
    assert found == (0.0, (0.0, 0.0), 1.0)


@given(several, several)
def test_a_score_does_not_differ_from_an_increasing_transform_of_it(members, nonmembers):
    _, dense = np.unique(array(members + nonmembers), return_inverse=True)
    ranked = dense[: len(members)].astype(float), dense[len(members) :].astype(float)
    found = paired_auc_difference((array(members), array(nonmembers)), ranked)
    assert found == (0.0, (0.0, 0.0), 1.0)


@given(two_scores())
def test_swapping_the_two_scores_turns_the_sign(both):
    first, second = (tuple(map(array, sides)) for sides in both)
    there, back = paired_auc_difference(first, second), paired_auc_difference(second, first)
    assert back.value == pytest.approx(-there.value)
    assert back.interval == pytest.approx((-there.interval.upper, -there.interval.lower), nan_ok=True)
    assert back.p_value == pytest.approx(there.p_value, nan_ok=True)


@given(two_scores())
def test_a_difference_without_spread_has_no_ends_unless_it_is_none(both):
    first, second = both
    ones, twos = structural_components(*first), structural_components(*second)
    spread = sum(
        max(a - b for a, b in zip(*sides, strict=True)) - min(a - b for a, b in zip(*sides, strict=True))
        for sides in zip(ones, twos, strict=True)
    )
    found = paired_auc_difference(tuple(map(array, first)), tuple(map(array, second)))
    knows_nothing = spread < 1e-9 and abs(slow_auc(*first) - slow_auc(*second)) > 1e-9
    assert [math.isnan(number) for number in (*found.interval, found.p_value)] == [knows_nothing] * 3


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (([1.0, 1.0], [0.0, 0.0]), ([0.0, 0.0], [1.0, 1.0]), 1.0),  # both separate, in opposite directions
        (([1.0, 2.0], [0.0, 0.5]), ([0.0, 0.0], [0.0, 0.0]), 0.5),  # one separates, the other is constant
        (([1.0], [0.0, 2.0, 0.5]), ([3.0], [0.0, 2.0, 0.5]), -1 / 3),  # a single member
        (([1.0, 3.0, 1.5], [2.0]), ([1.0, 3.0, 2.5], [2.0]), -1 / 3),  # a single non-member
        (([1.0], [0.0]), ([1.0], [0.0]), 0.0),  # no spread can be seen even of the same score
    ],
)
def test_a_difference_that_tells_nothing_of_its_spread_has_no_ends(first, second, value):
    found = paired_auc_difference(tuple(map(array, first)), tuple(map(array, second)))
    assert found.value == pytest.approx(value)
    assert np.isnan([*found.interval, found.p_value]).all()


# ---------------------------------------------------------------------------------------------
# Clopper-Pearson
# ---------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.data())
def test_clopper_pearson_inverts_the_binomial_tails(n, data):
    k = data.draw(st.integers(0, n))
    lower, upper = clopper_pearson(k, n)
    if k > 0:
        assert stats.binom.sf(k - 1, n, lower) == pytest.approx(0.025, abs=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, upper) == pytest.approx(0.025, abs=1e-6)
    assert 0 <= lower <= k / n <= upper <= 1


@pytest.mark.parametrize("n", [1, 5, 20, 60])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_clopper_pearson_covers_at_least_what_it_says(n, confidence):
    """Summed over every outcome, exactly."""
    intervals = [clopper_pearson(k, n, confidence=confidence) for k in range(n + 1)]
    for p in np.linspace(0, 1, 201):
        covered = sum(stats.binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high)
        assert covered >= confidence - 1e-9


def test_nothing_tried_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)
