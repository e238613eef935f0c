"""Weighted sums of true-positive rates: the bootstrap done by hand, and what an audit of each row alone would say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import (
    RateRows,
    compare_scores,
    measure,
    mixed_rates,
    rate_metric,
    resample_rates,
    tpr_at_fpr,
)

NAN = math.nan
FPRS = (0.02, 0.1, 0.25)


def at_least(n_trials: int, rate: float) -> float:
    """So few successes fall short by chance once in a thousand simulations at this rate."""
    return float(stats.binom.ppf(0.001, n_trials, rate))


def sample(n: int = 120, *, shifts=(1.0, 0.6, 0.3), seed: int = 0, undefined: float = 0.0):
    rng = np.random.default_rng(seed)
    is_member = np.arange(2 * n) < n
    scores = 0.7 * rng.normal(size=(len(shifts), 2 * n)) + 0.7 * rng.normal(size=2 * n)
    scores += np.array(shifts)[:, None] * is_member
    scores[rng.random(scores.shape) < undefined] = NAN
    return scores, is_member


def kept(scores, is_member, *, fprs=FPRS, n_resamples=199, seed=0, groups=None) -> RateRows:
    rng = np.random.default_rng(seed)
    return RateRows.of(scores, is_member, fprs=fprs, n_resamples=n_resamples, rng=rng, groups=groups)


def sides_of(values, is_member):
    defined = ~np.isnan(values)
    return values[is_member & defined], values[~is_member & defined]


# ---------------------------------------------------------------------------------------------
# One row, and two
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("undefined", [0.0, 0.1])
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_one_row_has_the_interval_that_an_audit_of_it_has(grouped, undefined):
    scores, is_member = sample(undefined=undefined)
    groups = np.arange(240) // 3 if grouped else None
    rows = kept(scores, is_member, groups=groups)
    for row in range(3):
        found = rows.mixed(np.eye(3)[row])
        expected = measure(
            {str(row): scores[row]},
            is_member,
            fprs=FPRS,
            n_resamples=199,
            confidence=0.95,
            rng=np.random.default_rng(rows.seed),
            groups=groups,
            resampled={str(row): rows.resampled[row]},
        )[str(row)]
        for fpr in FPRS:
            finding = expected[rate_metric(fpr)]
            assert found[fpr].value == finding.value
            assert found[fpr].interval == pytest.approx((finding.lower, finding.upper))
            assert found[fpr].n_undefined_members == finding.n_undefined_members
            assert math.isnan(found[fpr].p_value)


def test_one_row_less_another_is_the_paired_bootstrap_of_a_comparison():
    scores, is_member = sample()
    groups = np.arange(240) // 2
    rows = kept(scores[:2], is_member, fprs=(0.1, 0.25), groups=groups, seed=5)
    expected = compare_scores(
        *scores[:2],
        is_member,
        fprs=(0.1, 0.25),
        n_resamples=199,
        confidence=0.95,
        rng=np.random.default_rng(5),
        groups=groups,
    )
    found = rows.mixed(np.array([1.0, -1.0]))
    for fpr in (0.1, 0.25):
        difference = expected.rates[fpr].difference
        assert found[fpr].value == pytest.approx(difference.value)
        assert found[fpr].interval == pytest.approx(difference.interval)
        assert found[fpr].p_value == pytest.approx(difference.p_value)
        assert found[fpr].note is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.2]), st.sampled_from([0.8, 0.95]))
def test_a_weighted_sum_resamples_all_rows_together(seed, undefined, confidence):
    scores, is_member = sample(80, seed=seed, undefined=undefined)
    weights = np.random.default_rng(seed).choice([-1.0, -0.5, 0.5, 0.75], 3)  # never those of a mean
    found = kept(scores, is_member, fprs=(0.25,), seed=seed).mixed(weights, confidence=confidence)[0.25]
    drawn = resample_rates(
        {str(row): values for row, values in enumerate(scores)},
        is_member,
        fprs=(0.25,),
        max_fpr=0.25,
        n_resamples=199,
        rng=np.random.default_rng(seed),
    )
    total = sum(weight * drawn[str(row)].tpr[0] for row, weight in enumerate(weights))
    rates = [tpr_at_fpr(*sides_of(values, is_member), fpr=0.25) for values in scores]
    assert found.value == pytest.approx(weights @ rates)
    assert found.standard_error == pytest.approx(np.std(total, ddof=1))
    assert found.note is None
    n_beyond = round(200 * (1 - confidence) / 2)
    assert found.interval == pytest.approx((np.sort(total)[n_beyond - 1], np.sort(total)[-n_beyond]))


def test_one_sum_alone_is_the_same_as_one_of_many():
    scores, is_member = sample()
    weights = np.array([0.5, 0.5, -1.0])
    rng = np.random.default_rng(0)
    alone = mixed_rates(scores, weights, is_member, fprs=FPRS, n_resamples=199, rng=rng)
    rows = kept(scores, is_member)
    assert rows.mixed(np.ones(3) / 3) != alone
    assert rows.mixed(weights) == alone
    assert rows.value(weights, 0.1) == alone[0.1].value


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_exchanging_what_is_compared_turns_everything_round(seed):
    rows = kept(*sample(seed=seed), seed=seed)
    weights = np.array([0.5, 0.5, -1.0])
    for one, two in zip(rows.mixed(weights).values(), rows.mixed(-weights).values(), strict=True):
        assert two.value == pytest.approx(-one.value)
        assert two.interval == pytest.approx((-one.interval.upper, -one.interval.lower))
        assert two.p_value == pytest.approx(one.p_value)


# ---------------------------------------------------------------------------------------------
# A mean of several rows
# ---------------------------------------------------------------------------------------------


def test_the_mean_of_a_row_with_itself_is_that_row():
    scores, is_member = sample()
    rows = kept(scores[[0, 0, 1]], is_member)
    alone, twice = rows.mixed(np.array([1.0, 0, 0])), rows.mixed(np.array([0.5, 0.5, 0]))
    for fpr in FPRS:
        assert twice[fpr].value == pytest.approx(alone[fpr].value)
        # Each row has draws of its own behind its unknown-threshold interval.
        assert twice[fpr].interval == pytest.approx(alone[fpr].interval, abs=0.03)


def test_averaging_rows_narrows_the_interval_as_it_narrows_the_error():
    scores, is_member = sample(200, shifts=(1.0,) * 4, seed=1)
    rows = kept(scores, is_member, n_resamples=499)
    alone = [rows.mixed(np.eye(4)[row])[0.1] for row in range(4)]
    mean = rows.mixed(np.full(4, 0.25))[0.1]
    gain = mean.standard_error / np.mean([row.standard_error for row in alone])
    assert 0.5 < gain < 0.95
    for end in ("lower", "upper"):
        distances = [getattr(row.interval, end) - row.value for row in alone]
        assert getattr(mean.interval, end) - mean.value == pytest.approx(gain * np.mean(distances), abs=0.02)


# ---------------------------------------------------------------------------------------------
# Few non-members above a threshold, and too few
# ---------------------------------------------------------------------------------------------


def test_few_nonmembers_above_the_threshold_widen_a_difference():
    scores, is_member = sample(120, shifts=(2.0, 0.0))
    rows = kept(scores, is_member)
    found = rows.mixed(np.array([1.0, -1.0]))[0.02]
    drawn = np.sort(rows.resampled[0].tpr[0] - rows.resampled[1].tpr[0])
    alone = [rows.mixed(np.eye(2)[row])[0.02] for row in range(2)]
    assert found.interval.lower < drawn[4]
    assert found.interval.upper >= drawn[-5]
    down = math.hypot(alone[0].value - alone[0].interval.lower, alone[1].interval.upper - alone[1].value)
    assert found.interval.lower == pytest.approx(found.value - down)
    assert found.note == "Thresholds rest on 2.4 non-members; give 500 for a useful interval."
    assert (found.p_value <= 0.05) == (found.interval.lower > 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, 4), st.sampled_from([20, 60, 120]), st.sampled_from([0.8, 0.95]))
def test_the_p_value_is_at_most_alpha_exactly_where_the_interval_leaves_out_nothing(seed, shift, n, confidence):
    scores, is_member = sample(n, shifts=(shift, 0.0), seed=seed)
    rows = kept(scores, is_member, fprs=(0.06, 0.25), n_resamples=199, seed=seed)
    for found in rows.mixed(np.array([1.0, -1.0]), confidence=confidence).values():
        leaves_out = found.interval.lower > 0 or found.interval.upper < 0
        assert leaves_out == (found.p_value <= 1 - confidence + 1e-12)


def test_rates_that_some_row_cannot_resolve_are_refused():
    scores, is_member = sample()
    scores[1, 150:] = NAN  # 30 non-members left
    rows = kept(scores, is_member)
    found = rows.mixed(np.array([0.5, -0.5, 0]))
    assert np.isnan([found[0.02].value, *found[0.02].interval, found[0.02].p_value]).all()
    assert found[0.02].note.startswith("Cannot state TPR at 2 % FPR from 30 non-members")
    assert found[0.02].n_undefined_nonmembers == 90
    assert not math.isnan(found[0.1].value)
    assert not math.isnan(rows.mixed(np.array([1.0, 0, 0]))[0.02].value)


def test_a_side_without_scores_has_no_rate():
    scores, is_member = sample(30)
    scores[0, is_member] = NAN
    found = kept(scores, is_member, fprs=(0.25,)).mixed(np.array([1.0, -1.0, 0]))[0.25]
    assert np.isnan([found.value, found.standard_error, *found.interval, found.p_value]).all()
    for side in (np.ones(60, dtype=bool), np.zeros(60, dtype=bool)):
        nobody = kept(scores, side, fprs=(0.25,)).mixed(np.array([0, 1.0, 0]))[0.25]
        assert np.isnan([nobody.value, *nobody.interval]).all()


def test_no_weight_asks_nothing():
    found = kept(*sample(30), fprs=(0.25,)).mixed(np.zeros(3))[0.25]
    assert np.isnan([found.value, *found.interval, found.p_value]).all()


@pytest.mark.parametrize("n_resamples", [1, 5])
def test_too_few_resamples_give_no_ends(n_resamples):
    found = kept(*sample(60), fprs=(0.25,), n_resamples=n_resamples).mixed(np.array([1.0, -1.0, 0]))[0.25]
    assert not math.isnan(found.value)
    assert np.isnan(found.interval).all()


def test_nobody_found_anywhere_keeps_the_exact_interval():
    is_member = np.arange(80) < 40
    scores = np.random.default_rng(0).random((2, 80)) - 5 * is_member
    found = kept(scores, is_member, fprs=(0.25,)).mixed(np.array([0.5, 0.5]))[0.25]
    assert found.value == 0
    assert found.standard_error == 0
    assert found.interval.lower == 0
    assert found.interval.upper > 0.08


# ---------------------------------------------------------------------------------------------
# Coverage
# ---------------------------------------------------------------------------------------------


def test_the_intervals_hold_the_true_rates():
    """Two runs of one method less one of another, at 10 and at 2 % FPR; 95 % intervals of 100 samples."""
    shifts = np.array([1.6, 1.2, 0.4])
    weights = (np.array([0.5, 0.5, 0]), np.array([0.5, 0.5, -1.0]))
    n_trials, fprs = 100, (0.02, 0.1)
    n_held = np.zeros((2, 2))
    for trial in range(n_trials):
        rows = kept(*sample(150, shifts=shifts, seed=trial), fprs=fprs, seed=trial)
        for i, weight in enumerate(weights):
            found = rows.mixed(weight)
            for j, fpr in enumerate(fprs):
                truth = weight @ stats.norm.sf(stats.norm.isf(fpr) - shifts / math.sqrt(0.98))
                n_held[i, j] += found[fpr].interval.lower <= truth <= found[fpr].interval.upper
    assert (n_held >= at_least(n_trials, 0.95)).all()
    assert n_held[:, 1].sum() < 2 * n_trials  # no interval of everything
