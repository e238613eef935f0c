"""Numbers worked by hand, and facts that METHODS.md section 1.4 publishes.

The arithmetic stands in the comments, so that a reader can judge the numbers without the program.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from loraudit.statistics import (
    auc,
    auc_interval,
    clopper_pearson,
    measure,
    paired_auc_difference,
    partial_auc,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
    unresolved_rate,
)
from loraudit.statistics.intervals import unknown_threshold

# Ten records. From the top:
#   9 M | 8 M | 7 N | 6 M, N | 5 M | 4 N | 3 N | 2 M | 1 N
MEMBERS = np.array([9.0, 8.0, 6.0, 5.0, 2.0])
NONMEMBERS = np.array([7.0, 6.0, 4.0, 3.0, 1.0])
# Non-members each member beats (a tie is a half): 9: 5, 8: 5, 6: 3.5, 5: 3, 2: 1; together 17.5 of 25.
AUC = 17.5 / 25


def test_auc_of_ten_records():
    assert auc(MEMBERS, NONMEMBERS) == pytest.approx(0.70)


def test_delong_of_ten_records():
    # V10 = (1, 1, .7, .6, .2), mean .7; deviations .3 .3 0 -.1 -.5; squares .09 .09 0 .01 .25 = .44; /4 = .11
    # V01: share of members above each non-member: 7: 2/5, 6: 2.5/5, 4: 4/5, 3: 4/5, 1: 5/5 = (.4 .5 .8 .8 1)
    #      mean .7; deviations -.3 -.2 .1 .1 .3; squares .09 .04 .01 .01 .09 = .24; /4 = .06
    # variance = .11/5 + .06/5 = .034; standard error .184391; of the log-odds .184391/(.7 · .3) = .878052
    # log-odds ln(.7/.3) = .847298; t with min(5, 5) - 1 = 4 degrees of freedom
    # 95 %: t = 2.776445; .847298 ± 2.776445 · .878052 = .847298 ± 2.437863 = -1.590565 … 3.285161
    #       1/(1 + e^1.590565) = 1/5.906520 = .169304; 1/(1 + e^-3.285161) = 1/1.037435 = .963916
    assert auc_interval(MEMBERS, NONMEMBERS) == pytest.approx((0.169304, 0.963916), abs=1e-6)
    # 80 %: t = 1.533206; ± 1.346235 = -.498937 … 2.193532
    #       1/(1 + e^.498937) = 1/2.646969 = .377791; 1/(1 + e^-2.193532) = 1/1.111522 = .899667
    assert auc_interval(MEMBERS, NONMEMBERS, confidence=0.8) == pytest.approx((0.377791, 0.899667), abs=1e-6)


def test_clustered_delong_of_ten_records():
    # Members in documents {9, 8}, {6, 5}, {2}: sums of deviations .6, -.1, -.5; squares .36 .01 .25 = .62
    #   3/2 · .62 / 25 = .0372
    # Non-members in {7, 6}, {4}, {3, 1}: -.5, .1, .4; squares .25 .01 .16 = .42; 3/2 · .42 / 25 = .0252
    # variance .0624, standard error .249800; of the log-odds .249800/.21 = 1.189523
    # 3 documents a side: 2 degrees of freedom; 80 %: t = 1.885618; .847298 ± 2.242987 = -1.395689 … 3.090285
    # 1/(1 + e^1.395689) = 1/5.037756 = .198501; 1/(1 + e^-3.090285) = 1/1.045489 = .956490
    found = auc_interval(
        MEMBERS,
        NONMEMBERS,
        confidence=0.8,
        member_groups=np.array([0, 0, 1, 1, 2]),
        nonmember_groups=np.array([5, 5, 6, 7, 7]),
    )
    assert found == pytest.approx((0.198501, 0.956490), abs=1e-6)


@pytest.mark.parametrize(
    ("fpr", "threshold", "tpr"),
    [
        (0.0, 7.0, 2 / 5),  # k = 0: the largest non-member; 9 and 8 are above it
        (0.19, 7.0, 2 / 5),  # k = floor(.95) = 0
        (0.2, 6.0, 2 / 5),  # k = 1: the second largest is 6; the member at 6 ties with it and is not credited
        (0.4, 4.0, 4 / 5),  # k = 2: 9 8 6 5 are above 4
        (0.6, 3.0, 4 / 5),  # k = 3
        (0.8, 1.0, 5 / 5),  # k = 4
        (1.0, -math.inf, 5 / 5),  # k = 5 = n0: every non-member may be a false positive
    ],
)
def test_rates_of_ten_records(fpr, threshold, tpr):
    assert threshold_at_fpr(NONMEMBERS, fpr=fpr) == threshold
    assert tpr_at_fpr(MEMBERS, NONMEMBERS, fpr=fpr) == tpr


def test_roc_curve_of_ten_records():
    # Cuts at 9 8 7 6 5 4 3 2 1; the tie at 6 is one step in both directions.
    curve = roc_curve(MEMBERS, NONMEMBERS)
    np.testing.assert_allclose(curve.fpr, [0, 0, 0, 0.2, 0.4, 0.4, 0.6, 0.8, 0.8, 1])
    np.testing.assert_allclose(curve.tpr, [0, 0.2, 0.4, 0.4, 0.6, 0.8, 0.8, 0.8, 1, 1])


def test_partial_auc_of_ten_records():
    # To FPR .3: rectangle .2 · .4 = .08; from .2 to .3 the line rises from .4 to .5: .1 · .45 = .045; area .125
    # Chance .3²/2 = .045, perfect .3: ½ (1 + (.125 - .045)/(.3 - .045)) = ½ (1 + .08/.255) = .656863
    assert partial_auc(MEMBERS, NONMEMBERS, max_fpr=0.3) == pytest.approx(0.656863, abs=1e-6)
    # To FPR 1 the scale leaves the AUC as it is.
    assert partial_auc(MEMBERS, NONMEMBERS, max_fpr=1.0) == pytest.approx(AUC)


def test_ties_alone():
    # Three of four members and one of four non-members say yes.
    members, nonmembers = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 0, 0])
    # Pairs of 16: yes-no 3·3 = 9 whole, yes-yes 3 and no-no 3 halves: 12; 12/16 = .75
    assert auc(members, nonmembers) == 0.75
    # No rate below 1/4 finds anyone; at 1/4 the yes is allowed: k = 1, threshold 0, three of four.
    assert tpr_at_fpr(members, nonmembers, fpr=0.24) == 0
    assert tpr_at_fpr(members, nonmembers, fpr=0.25) == 0.75
    # To FPR 1/8 the line from (0, 0) to (1/4, 3/4) reaches 3/8: area ½ · 1/8 · 3/8 = 3/128
    # Chance 1/128, perfect 16/128: ½ (1 + 2/15) = 17/30
    assert partial_auc(members, nonmembers, max_fpr=1 / 8) == pytest.approx(17 / 30)


def test_paired_delong_of_four_and_four():
    # First score: M 4 3 2 1, N 0 0 0 2.5. Members beat 4, 4, 3, 3 of 4: 14/16 = .875
    # Second score: M 1 0 1 1, N 0 0 0 0. Members beat 4, 2, 4, 4 of 4 (ties half): 14/16 = .875
    # V10: (1, 1, .75, .75) - (1, .5, 1, 1) = (0, .5, -.25, -.25); mean 0; squares 0 .25 .0625 .0625 = .375; /3 = .125
    # V01: first (1, 1, 1, .5), second (.875 four times): differences .125 .125 .125 -.375
    #      mean 0; squares 3 · .015625 + .140625 = .1875; /3 = .0625
    # variance = .125/4 + .0625/4 = .046875; standard error .216506; 95 %: ± 1.959964 · .216506 = .424344
    first = np.array([4.0, 3, 2, 1]), np.array([0.0, 0, 0, 2.5])
    second = np.array([1.0, 0, 1, 1]), np.zeros(4)
    found = paired_auc_difference(first, second)
    assert found.value == pytest.approx(0)
    assert found.interval == pytest.approx((-0.424344, 0.424344), abs=1e-6)
    assert found.p_value == pytest.approx(1)


def test_exact_bound_at_perfect_separation():
    # Ten a side: AUC^10 >= .025, so AUC >= .025^(1/10) = e^(-3.688879/10) = .691503
    assert auc_interval(np.ones(10), np.zeros(10)) == pytest.approx((0.691503, 1.0), abs=1e-6)


def test_partial_auc_interval_of_perfect_separation():
    # Ten a side to FPR 10 %: the area is at least .691503 of the largest, as the share of ten found of ten.
    # Chance .1²/2 = .005; area 0 is ½ (1 - .005/.095) = 9/19 = .473684; .473684 + .526316 · .691503 = .837633
    found = measure(
        {"a": np.repeat([1.0, 0.0], 10)},
        np.arange(20) < 10,
        fprs=(),
        n_resamples=50,
        confidence=0.95,
        rng=np.random.default_rng(0),
    )["a"]["partial_auc_fpr_10pct"]
    assert found.value == pytest.approx(1)
    assert (found.lower, found.upper) == pytest.approx((0.837633, 1.0), abs=1e-6)


def test_thirty_of_a_hundred_where_every_threshold_gives_the_same():
    # The non-members are equal, so the threshold is the same wherever it lies among them: Clopper-Pearson of 30 of 100
    # is (.212406, .399815), up to the draws. P(none of 200 above it at 10 %) = .9^200 = 7e-10.
    members, nonmembers = np.repeat([1.0, -1.0], [30, 70]), np.zeros(200)
    found = unknown_threshold(
        members, nonmembers, fpr=0.1, confidence=0.95, n_draws=100_000, rng=np.random.default_rng(0)
    )
    assert found == pytest.approx((0.212406, 0.399815), abs=2e-3)


def test_368_nonmembers_are_the_fewest_that_can_show_a_leak_at_one_percent():
    # With fewer, none of them lies above the population's threshold with probability .99^n > .025,
    # that is n < ln .025 / ln .99 = 367.04: whatever the members score, they may all be below it.
    assert 0.99**368 < 0.025 < 0.99**367
    for n_nonmembers, knows_something in ((300, False), (450, True)):  # .99^300 = .049, .99^450 = .011
        found = unknown_threshold(
            np.ones(1000),
            np.zeros(n_nonmembers),
            fpr=0.01,
            confidence=0.95,
            n_draws=20_000,
            rng=np.random.default_rng(0),
        )
        assert (found.lower > 0.9) == knows_something
        assert (found.lower == 0) != knows_something
        assert found.upper == 1


@pytest.mark.parametrize(
    ("n_successes", "n_trials", "lower", "upper"),
    [
        (0, 10, 0.0, 0.308497),  # 1 - .025^(1/10)
        (1, 10, 0.002529, 0.445016),  # lower end: 1 - .975^(1/10)
        (5, 10, 0.187086, 0.812914),
        (10, 10, 0.691503, 1.0),
        (4, 20, 0.057334, 0.436614),
        (0, 1, 0.0, 0.975),
    ],
)
def test_clopper_pearson_from_the_tables(n_successes, n_trials, lower, upper):
    assert clopper_pearson(n_successes, n_trials) == pytest.approx((lower, upper), abs=1e-6)


# ---------------------------------------------------------------------------------------------
# METHODS.md section 1.4
# ---------------------------------------------------------------------------------------------


def zero_note(n_nonmembers: int) -> str:
    scores = np.concatenate([np.ones(2), np.linspace(-1, 0, n_nonmembers)])
    found = measure(
        {"attack": scores},
        np.arange(len(scores)) < 2,
        fprs=(),
        n_resamples=2,
        confidence=0.95,
        rng=np.random.default_rng(0),
    )
    return found["attack"]["tpr_at_zero_false_positives"].note


def test_2995_nonmembers_without_a_false_positive_bound_the_rate_by_a_thousandth():
    # The smallest n with 1 - .05^(1/n) <= .001, that is n >= ln .05 / ln .999 = 2994.23
    assert 1 - 0.05 ** (1 / 2995) <= 0.001 < 1 - 0.05 ** (1 / 2994)
    words = "The share above the highest of these non-members; another sample would set another threshold. "
    assert zero_note(2995) == f"{words}No false positive among 2995 bounds the false-positive rate only by 0.1 %."
    # The rule of three: about 3/n. 3/200 = 1.5 %.
    assert zero_note(200) == f"{words}No false positive among 200 bounds the false-positive rate only by 1.5 %."


def test_refusal_below_one_expected_false_positive_and_warning_below_ten():
    assert unresolved_rate(999, 0.001) is not None
    assert unresolved_rate(1000, 0.001) is None
    notes = {}
    for n in (1000, 9999, 10_000):
        scores = np.concatenate([np.ones(5), np.linspace(-1, 0, n)])
        found = measure(
            {"a": scores},
            np.arange(len(scores)) < 5,
            fprs=(0.001,),
            n_resamples=2,
            confidence=0.95,
            rng=np.random.default_rng(0),
        )
        notes[n] = found["a"]["tpr_at_fpr_0_1pct"].note
    assert notes[1000] == (
        "The threshold rests on 1.0 non-members, and the rate tends to come out too high; "
        "give 10000 for a useful interval."
    )
    assert notes[9999] is not None
    assert notes[10_000] is None


def test_an_auc_of_553_from_ten_thousand_a_side_is_thirteen_standard_errors():
    # Under no difference the variance of the AUC is (n1 + n0 + 1)/(12 n1 n0) = 20001/1.2e9; its root is .0040826.
    # (.553 - .5)/.0040826 = 12.98. DeLong's error at so small an effect is the same within 1 %.
    n = 10_000
    shift = math.sqrt(2) * stats.norm.ppf(0.553)
    quantiles = stats.norm.ppf((np.arange(n) + 0.5) / n)
    members, nonmembers = quantiles + shift, quantiles
    value = auc(members, nonmembers)
    low, high = auc_interval(members, nonmembers)
    standard_error = (high - low) / 2 / 1.959964
    assert value == pytest.approx(0.553, abs=5e-4)
    assert (value - 0.5) / standard_error == pytest.approx(12.98, abs=0.2)
    # Small per record: at 1 % false alarms an attacker finds less than 2 % of the members.
    assert 0.01 < tpr_at_fpr(members, nonmembers, fpr=0.01) < 0.02


@pytest.mark.parametrize(("n_nonmembers", "allowed"), [(10_000, 10), (1000, 1), (500, 0)])
def test_a_thousandth_is_whole_false_positives_and_never_interpolated(n_nonmembers, allowed):
    nonmembers = np.arange(n_nonmembers, dtype=float)
    assert (nonmembers > threshold_at_fpr(nonmembers, fpr=0.001)).sum() == allowed
