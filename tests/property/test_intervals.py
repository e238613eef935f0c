"""The intervals without resampling equal what they stand for, summed exactly instead of drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import clopper_pearson
from loraudit.statistics.intervals import logit_interval, unknown_threshold

INF = math.inf
N_DRAWS = 4000
# The share of draws below the true quantile misses 2.5 % by at most five of its standard errors.
SLACK = 5 * math.sqrt(0.025 * 0.975 / N_DRAWS)

tied = st.sampled_from([-INF, -1.0, 0.0, 1.0, 2.0, INF])
scores = st.one_of(*(st.lists(kind, min_size=1, max_size=40) for kind in (tied, st.floats(-5, 5))))
rates = st.one_of(st.sampled_from([0.01, 0.1, 0.5, 1.0]), st.floats(0.001, 1))


def array(values) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def drawn(members, nonmembers, fpr, *, confidence=0.95, seed=0, n_draws=N_DRAWS):
    return unknown_threshold(
        array(members),
        array(nonmembers),
        fpr=fpr,
        confidence=confidence,
        n_draws=n_draws,
        rng=np.random.default_rng(seed),
    )


# ---------------------------------------------------------------------------------------------
# The definition: K of the non-members lie above the population's threshold, K ~ Binomial(n0, fpr)
# ---------------------------------------------------------------------------------------------


def shares_beyond(members, nonmembers, fpr, lower, upper) -> tuple[tuple[float, float], tuple[float, float]]:
    """P(draw < lower), P(draw <= lower); P(draw > upper), P(draw >= upper), summed over every K."""
    ranked = sorted(nonmembers, reverse=True)
    n1, n0 = len(members), len(nonmembers)
    below, at_most, above, at_least = 0.0, 0.0, 0.0, 0.0
    for k in range(n0 + 1):
        probability = stats.binom.pmf(k, n0, fpr)
        # The threshold is at most the k-th largest (above all of them if k is 0) and at least the next.
        fewest = sum(score > ranked[k - 1] for score in members) if k > 0 else 0
        most = sum(score > ranked[k] for score in members) if k < n0 else n1
        if fewest == 0:  # Clopper and Pearson's lower end of nobody is 0
            below += probability * (lower > 0)
            at_most += probability * (lower >= 0)
        else:
            below += probability * stats.beta.cdf(lower, fewest, n1 - fewest + 1)
            at_most += probability * stats.beta.cdf(lower, fewest, n1 - fewest + 1)
        if most == n1:
            above += probability * (upper < 1)
            at_least += probability * (upper <= 1)
        else:
            above += probability * stats.beta.sf(upper, most + 1, n1 - most)
            at_least += probability * stats.beta.sf(upper, most + 1, n1 - most)
    return (below, at_most), (above, at_least)


@settings(deadline=None)
@given(scores, scores, rates)
def test_unknown_threshold_cuts_off_a_tail_on_each_side(members, nonmembers, fpr):
    lower, upper = drawn(members, nonmembers, fpr)
    (below, at_most), (above, at_least) = shares_beyond(members, nonmembers, fpr, lower, upper)
    assert below - SLACK <= 0.025 <= at_most + SLACK
    assert above - SLACK <= 0.025 <= at_least + SLACK
    assert 0 <= lower <= upper <= 1


@settings(deadline=None)
@given(scores, scores, rates)
def test_it_knows_only_the_order_of_the_scores(members, nonmembers, fpr):
    _, dense = np.unique(array(members + nonmembers), return_inverse=True)
    ranked = dense[: len(members)], dense[len(members) :]
    assert drawn(*ranked, fpr) == drawn(members, nonmembers, fpr)
    assert drawn(members[::-1], nonmembers[::-1], fpr) == drawn(members, nonmembers, fpr)


@settings(deadline=None)
@given(scores, scores, rates)
def test_more_confidence_is_never_narrower(members, nonmembers, fpr):
    narrow = drawn(members, nonmembers, fpr, confidence=0.8)
    wide = drawn(members, nonmembers, fpr, confidence=0.99)
    assert wide.lower <= narrow.lower
    assert wide.upper >= narrow.upper


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 60))
def test_where_the_threshold_cannot_move_it_is_clopper_pearson(n_members, n_found):
    n_found = min(n_found, n_members)
    members = np.where(np.arange(n_members) < n_found, 1.0, -1.0)
    found = drawn(members, np.zeros(100), 0.5)
    exact = clopper_pearson(n_found, n_members)
    assert stats.beta.cdf(found.lower, max(n_found, 1), n_members - n_found + 1) == pytest.approx(
        0.025 if n_found else 0, abs=SLACK
    )
    assert found == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("n_nonmembers", [1, 10, 100, 350])
def test_few_nonmembers_leave_room_for_nobody_at_one_percent(n_nonmembers):
    """With probability .99^n, more than 2.5 %, every non-member lies below the threshold: it may be anywhere above."""
    assert drawn(np.ones(500), np.zeros(n_nonmembers), 0.01, n_draws=100_000).lower == 0


def test_everyone_is_found_where_every_nonmember_may_be_a_false_positive():
    assert drawn(np.zeros(30), np.ones(20), 1.0).upper == 1


@pytest.mark.parametrize(
    ("n", "fpr", "shift"), [(100, 0.01, 1.0), (100, 0.01, 3.0), (300, 0.01, 2.0), (100, 0.1, 1.0), (1000, 0.01, 0.5)]
)
def test_it_covers_the_rate_at_the_threshold_of_the_population(n, fpr, shift):
    """The bootstrap alone holds it 70 % of the time where one non-member sets the threshold."""
    truth = stats.norm.sf(stats.norm.isf(fpr) - shift)
    rng = np.random.default_rng(1)
    n_held = 0
    for _ in range(400):
        found = unknown_threshold(
            rng.normal(shift, 1, n), rng.normal(0, 1, n), fpr=fpr, confidence=0.95, n_draws=400, rng=rng
        )
        n_held += found.lower <= truth <= found.upper
    assert n_held >= 400 * 0.95 - 3 * math.sqrt(400 * 0.95 * 0.05)


# ---------------------------------------------------------------------------------------------
# The logit scale
# ---------------------------------------------------------------------------------------------


@given(
    st.floats(1e-6, 1 - 1e-6),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_logit_ends_are_t_errors_away_on_the_scale_of_log_odds(value, standard_error, degrees_of_freedom, confidence):
    lower, upper = logit_interval(value, standard_error, degrees_of_freedom, confidence=confidence)
    assert 0 <= lower <= value + 1e-12
    assert value - 1e-12 <= upper <= 1
    distance = stats.t(degrees_of_freedom).isf((1 - confidence) / 2) * standard_error / (value * (1 - value))
    for end, sign in ((lower, -1), (upper, 1)):
        if 1e-9 < end < 1 - 1e-9:  # beyond, 1 - end has no digits left
            assert math.log(end) - math.log1p(-end) == pytest.approx(
                math.log(value) - math.log1p(-value) + sign * distance, rel=1e-5, abs=1e-6
            )


@given(st.floats(1e-3, 1 - 1e-3), st.floats(0, 0.5), st.integers(1, 100))
def test_logit_interval_of_the_complement_is_the_complement(value, standard_error, degrees_of_freedom):
    lower, upper = logit_interval(value, standard_error, degrees_of_freedom, confidence=0.95)
    mirrored = logit_interval(1 - value, standard_error, degrees_of_freedom, confidence=0.95)
    assert mirrored == pytest.approx((1 - upper, 1 - lower), abs=1e-9)


@pytest.mark.parametrize("value", [1e-9, 0.5, 1 - 1e-9])
def test_errors_beyond_all_measure_give_the_whole_interval(value):
    assert logit_interval(value, 1e6, 1, confidence=0.99) == pytest.approx((0, 1))
