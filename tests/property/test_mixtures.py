"""Weighted sums of AUCs and their errors equal slow formulas over all pairs, and leave-one-out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import (
    AucRows,
    auc,
    auc_error,
    auc_interval,
    mixed_auc,
    paired_auc_difference,
    resample_rates,
)

NAN = math.nan


def at_least(n_trials: int, rate: float) -> float:
    """So few successes fall short by chance once in a thousand simulations at this rate."""
    return float(stats.binom.ppf(0.001, n_trials, rate))


@st.composite
def rows_of_scores(draw, *, n_rows: int | None = None, undefined: bool = False):
    """[M, N] scores, membership, groups or None, and weights."""
    n_rows = n_rows or draw(st.integers(1, 4))
    n_members, n_nonmembers = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    n = n_members + n_nonmembers
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.normal(size=(n_rows, n)) + rng.normal(size=n)
    is_member = rng.permutation(np.arange(n) < n_members)
    scores += draw(st.sampled_from([0.0, 1.0, 3.0])) * is_member
    if draw(st.booleans()):
        scores = np.round(scores)
    if undefined:
        scores[rng.random(scores.shape) < 0.15] = NAN
    groups = draw(st.sampled_from([None, 2, 4]))
    groups = None if groups is None else rng.integers(0, max(2, n // groups), n)
    weights = np.array(draw(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=n_rows, max_size=n_rows)))
    return scores, is_member, groups, weights


def sides_of(values, is_member):
    return values[is_member], values[~is_member]


def groups_of(groups, is_member) -> dict:
    return {} if groups is None else {"member_groups": groups[is_member], "nonmember_groups": groups[~is_member]}


# ---------------------------------------------------------------------------------------------
# One row, and two
# ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(rows_of_scores(), st.data(), st.sampled_from([0.8, 0.95]))
def test_one_row_is_the_auc_with_its_own_interval(rows, data, confidence):
    scores, is_member, groups, _ = rows
    row = data.draw(st.integers(0, len(scores) - 1))
    found = mixed_auc(scores, np.eye(len(scores))[row], is_member, groups, confidence=confidence)
    sides, options = sides_of(scores[row], is_member), groups_of(groups, is_member)
    expected = auc_error(*sides, **options)
    assert found.value == expected.value
    assert found.standard_error == pytest.approx(expected.standard_error, abs=1e-12, nan_ok=True)
    assert found.n_groups == expected.n_groups
    assert found.interval == pytest.approx(
        auc_interval(*sides, confidence=confidence, **options), abs=1e-12, nan_ok=True
    )
    assert math.isnan(found.p_value)
    assert found.is_share
    assert not found.is_difference


@settings(deadline=None)
@given(rows_of_scores(n_rows=2))
def test_one_row_less_another_is_delongs_paired_difference(rows):
    scores, is_member, groups, _ = rows
    assume(not {auc(*sides_of(row, is_member)) for row in scores} & {0.0, 1.0})
    found = mixed_auc(scores, np.array([1.0, -1.0]), is_member, groups)
    first, second = (sides_of(row, is_member) for row in scores)
    expected = paired_auc_difference(first, second, **groups_of(groups, is_member))
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    half = (expected.interval.upper - expected.interval.lower) / 2
    assume(half == 0 or half > 1e-9)
    if not math.isnan(half) and found.n_groups > 1:
        assert found.standard_error == pytest.approx(half / stats.norm.ppf(0.975), abs=1e-12)
        assert found.p_value >= expected.p_value - 1e-12  # t has longer tails than the normal


def test_the_paired_interval_is_the_normal_one_where_records_are_many():
    rng = np.random.default_rng(0)
    is_member = np.arange(8000) < 4000
    scores = rng.normal(size=(2, 8000)) + rng.normal(size=8000) + np.array([[1.0], [0.9]]) * is_member
    found = mixed_auc(scores, np.array([1.0, -1.0]), is_member)
    expected = paired_auc_difference(*(sides_of(row, is_member) for row in scores))
    assert found.interval == pytest.approx(expected.interval, rel=1e-3)
    assert found.p_value == pytest.approx(expected.p_value, rel=0.02)


# ---------------------------------------------------------------------------------------------
# Any weights
# ---------------------------------------------------------------------------------------------


def slow_error(scores, weights, is_member, groups) -> float:
    """From the kernel Σ_m w_m ψ_m over all pairs: its means over rows and columns, summed within documents."""
    members, nonmembers = scores[:, is_member], scores[:, ~is_member]
    kernel = np.zeros((members.shape[1], nonmembers.shape[1]))
    for weight, xs, ys in zip(weights, members, nonmembers, strict=True):
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                kernel[i, j] += weight * (1.0 if x > y else 0.5 if x == y else 0.0)
    variance = 0.0
    for means, side in ((kernel.mean(axis=1), is_member), (kernel.mean(axis=0), ~is_member)):
        names = np.arange(side.sum()) if groups is None else groups[side]
        totals = [sum(means[names == name] - means.mean()) for name in np.unique(names)]
        if len(totals) < 2:
            return NAN
        variance += len(totals) / (len(totals) - 1) * sum(total**2 for total in totals) / len(means) ** 2
    return math.sqrt(variance)


@settings(deadline=None)
@given(rows_of_scores())
def test_the_error_is_that_of_the_weighted_kernel(rows):
    scores, is_member, groups, weights = rows
    found = mixed_auc(scores, weights, is_member, groups)
    areas = [auc(*sides_of(row, is_member)) for row in scores]
    expected = weights @ areas if weights.any() else NAN
    assert found.value == pytest.approx(expected, abs=1e-12, nan_ok=True)
    if not math.isnan(found.standard_error):
        assert found.standard_error == pytest.approx(slow_error(scores, weights, is_member, groups), abs=1e-12)


def leave_one_out(scores, weights, is_member, groups) -> float:
    """Jackknife over records or documents, sides apart; every row on the records that it defines."""
    names = np.arange(len(is_member)) if groups is None else groups
    variance = 0.0
    for side in (is_member, ~is_member):
        values = []
        for name in np.unique(names[side]):
            kept = ~(side & (names == name))
            rows = [[v[~np.isnan(v)] for v in sides_of(row[kept], is_member[kept])] for row in scores]
            values.append(sum(w * auc(*row) for w, row in zip(weights, rows, strict=True)))
        variance += (len(values) - 1) / len(values) * np.sum((np.array(values) - np.mean(values)) ** 2)
    return math.sqrt(variance)


@pytest.mark.parametrize("undefined", [0.0, 0.2], ids=["all defined", "a fifth undefined"])
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
@pytest.mark.parametrize("weights", [(0.5, 0.5, 0.0), (0.5, 0.5, -1.0)], ids=["mean", "difference"])
def test_the_error_is_close_to_the_jackknife(undefined, grouped, weights):
    rng = np.random.default_rng(1)
    n = 80
    is_member = np.arange(2 * n) < n
    groups = np.arange(2 * n) // 4 if grouped else None
    shared = rng.normal(size=2 * n) if groups is None else rng.normal(size=n // 2)[groups]
    scores = rng.normal(size=(3, 2 * n)) + shared + np.array([[1.2], [0.8], [0.4]]) * is_member
    scores[rng.random(scores.shape) < undefined] = NAN
    found = mixed_auc(scores, np.array(weights), is_member, groups)
    assert found.standard_error == pytest.approx(leave_one_out(scores, weights, is_member, groups), rel=0.03)


def test_the_error_is_that_of_the_bootstrap():
    rng = np.random.default_rng(2)
    is_member = np.arange(300) < 150
    scores = rng.normal(size=(2, 300)) + rng.normal(size=300) + np.array([[1.0], [0.5]]) * is_member
    scores[rng.random(scores.shape) < 0.1] = NAN
    named = {"first": scores[0], "second": scores[1]}
    drawn = resample_rates(named, is_member, fprs=(0.1,), max_fpr=0.1, n_resamples=2000, rng=rng)
    spread = (drawn["first"].auc - drawn["second"].auc).std()
    assert mixed_auc(scores, np.array([1.0, -1.0]), is_member).standard_error == pytest.approx(spread, rel=0.07)


@settings(deadline=None)
@given(rows_of_scores(undefined=True), st.sampled_from([0.8, 0.95]))
def test_exchanging_what_is_compared_turns_everything_round(rows, confidence):
    scores, is_member, groups, weights = rows
    kept = AucRows.of(scores, is_member, groups)
    one, two = (kept.mixed(sign * weights, confidence=confidence) for sign in (1, -1))
    assume(not one.is_share and not two.is_share)  # a mean has its interval on the logit scale
    assert two.value == pytest.approx(-one.value, nan_ok=True)
    assert two.standard_error == pytest.approx(one.standard_error, nan_ok=True)
    assert two.interval == pytest.approx((-one.interval.upper, -one.interval.lower), nan_ok=True)
    assert two.p_value == pytest.approx(one.p_value, nan_ok=True)
    assert two[6:] == one[6:]


@settings(deadline=None)
@given(rows_of_scores(undefined=True), st.integers(0, 1000))
def test_neither_the_order_of_records_nor_rows_without_weight_matter(rows, seed):
    scores, is_member, groups, weights = rows
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(is_member))
    more = np.vstack([np.full((1, len(order)), NAN), rng.normal(size=(1, len(order))), scores])[:, order]
    straight = mixed_auc(scores, weights, is_member, groups)
    other = mixed_auc(
        more, np.concatenate([[0, 0], weights]), is_member[order], None if groups is None else groups[order]
    )
    for one, two in zip(straight[:2] + tuple(straight.interval), other[:2] + tuple(other.interval), strict=True):
        assert one == pytest.approx(two, nan_ok=True, abs=1e-12)
    assert straight[6:] == other[6:]


@settings(deadline=None)
@given(rows_of_scores(n_rows=3), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_p_value_is_at_most_alpha_exactly_where_the_interval_leaves_out_nothing(rows, alpha):
    scores, is_member, groups, _ = rows
    found = mixed_auc(scores, np.array([0.5, 0.5, -1.0]), is_member, groups, confidence=1 - alpha)
    assume(not math.isnan(found.p_value))
    assume(abs(found.p_value - alpha) > 1e-9)
    assert (found.p_value < alpha) == (not found.interval.lower <= 0 <= found.interval.upper)


@settings(deadline=None)
@given(rows_of_scores(), st.sampled_from([0.5, 0.99]))
def test_the_interval_holds_the_value_and_nothing_unattainable(rows, confidence):
    scores, is_member, groups, weights = rows
    found = mixed_auc(scores, weights, is_member, groups, confidence=confidence)
    assume(not math.isnan(found.interval.lower))
    assert found.attainable.lower - 1e-12 <= found.interval.lower <= found.value + 1e-12
    assert found.value - 1e-12 <= found.interval.upper <= found.attainable.upper + 1e-12


# ---------------------------------------------------------------------------------------------
# Where the sample tells little
# ---------------------------------------------------------------------------------------------


def separated(n: int = 40, seed: int = 0):
    """Two rows that separate members fully, in different orders, and one that does not."""
    rng = np.random.default_rng(seed)
    is_member = np.arange(2 * n) < n
    return np.vstack([rng.random((2, 2 * n)) + 5 * is_member, rng.normal(size=2 * n) + is_member]), is_member


def test_rows_at_one_have_the_exact_bound_together():
    scores, is_member = separated()
    alone = auc_interval(*sides_of(scores[0], is_member))
    assert alone.lower == pytest.approx(0.025 ** (1 / 40))
    for weights in ((1, 0, 0), (0.5, 0.5, 0)):
        found = mixed_auc(scores, np.array(weights), is_member)
        assert found.value == 1
        assert math.isnan(found.standard_error)
        assert found.interval == pytest.approx(alone)


def test_two_rows_at_one_may_differ_by_what_the_bound_hides():
    scores, is_member = separated()
    found = mixed_auc(scores, np.array([1.0, -1.0, 0.0]), is_member)
    slack = 1 - 0.025 ** (1 / 40)
    assert found.value == 0
    assert found.interval == pytest.approx((-slack, slack))
    assert found.p_value == pytest.approx(1)


def test_a_row_at_one_widens_a_difference_on_the_side_that_it_hides():
    scores, is_member = separated()
    found = mixed_auc(scores, np.array([1.0, 0.0, -1.0]), is_member)
    alone = auc_error(*sides_of(scores[2], is_member))
    assert found.standard_error == pytest.approx(alone.standard_error)
    half = stats.t.ppf(0.9875, 39) * alone.standard_error
    assert found.interval.upper == pytest.approx(1 - alone.value + half)
    assert found.interval.lower == pytest.approx(1 - alone.value - half - (1 - 0.0125 ** (1 / 40)))
    touching = mixed_auc(scores, np.array([1.0, 0.0, -1.0]), is_member, confidence=1 - found.p_value)
    assert touching.interval.lower == pytest.approx(0, abs=1e-6)


def test_a_row_less_itself_is_exactly_nothing():
    scores, is_member = separated()
    found = mixed_auc(scores[[2, 2]], np.array([1.0, -1.0]), is_member)
    assert (found.value, found.standard_error, found.interval, found.p_value) == (0, 0, (0, 0), 1)


def test_all_scores_tied_say_nothing():
    found = mixed_auc(np.zeros((1, 20)), np.ones(1), np.arange(20) < 10)
    assert found.value == 0.5
    assert np.isnan([found.standard_error, *found.interval]).all()


def test_one_record_or_document_on_a_side_has_no_error():
    scores = np.array([[1.0, 3.0, 2.0, 0.0, 0.0]])
    found = mixed_auc(scores, np.ones(1), np.array([True, False, False, False, False]))
    assert found.value == 0.5
    assert found.n_groups == 1
    assert np.isnan([found.standard_error, *found.interval]).all()
    scores = np.array([[1.0, 3.0, 2.0, 0.0]])
    found = mixed_auc(scores, np.ones(1), np.array([True, True, False, False]), np.array([0, 0, 1, 2]))
    assert found.value == 0.75
    assert found.n_groups == 1
    assert math.isnan(found.standard_error)


def test_no_weight_asks_nothing():
    found = mixed_auc(np.zeros((1, 4)), np.zeros(1), np.array([True, True, False, False]))
    assert np.isnan([found.value, found.standard_error, *found.interval, found.p_value]).all()


def test_undefined_scores_are_counted_in_the_rows_that_take_part():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(3, 20))
    is_member = np.arange(20) < 10
    scores[0, :2] = NAN
    scores[1, [1, 2, 15]] = NAN
    scores[2] = NAN
    kept = AucRows.of(scores, is_member)
    found = kept.mixed(np.array([1.0, -1.0, 0.0]))
    assert (found.n_undefined_members, found.n_undefined_nonmembers) == (3, 1)
    assert found.n_groups == 9  # record 1 is in neither row
    one, two = (auc(*(s[~np.isnan(s)] for s in sides_of(row, is_member))) for row in scores[:2])
    assert found.value == pytest.approx(one - two)
    assert kept.value(np.array([1.0, -1.0, 0.0])) == pytest.approx(one - two)
    assert np.isnan([kept.mixed(np.ones(3)).value, *kept.mixed(np.ones(3)).interval]).all()
    assert kept.mixed(np.ones(3)).n_undefined_members == 10


# ---------------------------------------------------------------------------------------------
# Coverage
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clustered", [False, True], ids=["alone", "clustered"])
def test_the_intervals_hold_the_true_numbers_of_these_runs(clustered):
    """Two methods of three runs, two checkpoints each; 95 % intervals of 300 samples."""
    rng = np.random.default_rng(7)
    n, n_trials = 60, 300
    is_member = np.arange(2 * n) < n
    groups = np.arange(2 * n) // 4 if clustered else None

    def noise(*shape: int):
        own = rng.normal(size=(*shape, 2 * n))
        return own if groups is None else 0.7 * own + 0.7 * rng.normal(size=(*shape, n // 2))[..., groups]

    shifts = np.concatenate([rng.normal(1.2, 0.2, (3, 2)), rng.normal(0.7, 0.2, (3, 2))]).ravel()
    scale = math.sqrt(0.98 * 2) if clustered else math.sqrt(2)
    truth = stats.norm.cdf(shifts / scale)
    place = np.array([0.3, 0.7])
    mean = np.concatenate([np.tile(place, 3), np.zeros(6)]) / 3
    difference = mean - np.concatenate([np.zeros(6), np.tile(place, 3)]) / 3
    n_held = np.zeros(2)
    for _ in range(n_trials):
        rows = np.repeat(math.sqrt(0.4) * noise() + math.sqrt(0.3) * noise(6), 2, axis=0) + math.sqrt(0.3) * noise(12)
        kept = AucRows.of(rows + shifts[:, None] * is_member, is_member, groups)
        for i, weights in enumerate((mean, difference)):
            ends = kept.mixed(weights).interval
            n_held[i] += ends.lower <= weights @ truth <= ends.upper
    assert (n_held >= at_least(n_trials, 0.95)).all()
    assert (n_held < n_trials).all()
