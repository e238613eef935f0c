"""`measure`: every finding with its interval, its counts and its words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from loraudit.statistics import (
    auc,
    auc_interval,
    clopper_pearson,
    measure,
    partial_auc,
    rate_metric,
    resample_rates,
    threshold_at_fpr,
    tpr_at_fpr,
)
from loraudit.statistics.intervals import unknown_threshold

NAN = math.nan
FPRS = (0.1, 0.01, 0.001)
METRICS = [
    "auc",
    "partial_auc_fpr_10pct",
    "tpr_at_fpr_10pct",
    "tpr_at_fpr_1pct",
    "tpr_at_fpr_0_1pct",
    "tpr_at_zero_false_positives",
]


def measured(scores, is_member, *, fprs=FPRS, n_resamples=200, confidence=0.95, seed=0, groups=None):
    return measure(
        scores if isinstance(scores, dict) else {"attack": scores},
        is_member,
        fprs=fprs,
        n_resamples=n_resamples,
        confidence=confidence,
        rng=np.random.default_rng(seed),
        groups=groups,
    )


def two_sides(n_members: int, n_nonmembers: int, *, shift: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(shift, 1, n_members), rng.normal(0, 1, n_nonmembers)])
    return scores, np.arange(len(scores)) < n_members


def timeless(findings):
    return {
        name: {metric: replace(finding, seconds=0.0) for metric, finding in by_metric.items()}
        for name, by_metric in findings.items()
    }


def test_every_metric_is_there_in_reading_order():
    found = measured(*two_sides(1200, 1100))["attack"]
    assert list(found) == METRICS
    for finding in found.values():
        assert finding.value is not None
        assert finding.lower <= finding.value <= finding.upper
        assert finding.confidence == 0.95
        assert (finding.n_members, finding.n_nonmembers) == (1200, 1100)
        assert (finding.n_undefined_members, finding.n_undefined_nonmembers) == (0, 0)
        assert finding.seconds >= 0


def test_values_are_those_of_the_functions_it_is_made_of():
    scores, is_member = two_sides(1200, 1100)
    members, nonmembers = scores[is_member], scores[~is_member]
    found = measured(scores, is_member)["attack"]
    assert found["auc"].value == auc(members, nonmembers)
    assert (found["auc"].lower, found["auc"].upper) == auc_interval(members, nonmembers)
    assert found["partial_auc_fpr_10pct"].value == partial_auc(members, nonmembers, max_fpr=0.1)
    for fpr in FPRS:
        finding = found[rate_metric(fpr)]
        assert finding.value == tpr_at_fpr(members, nonmembers, fpr=fpr)
        assert finding.n_false_positives == math.floor(fpr * 1100 + 1e-9)
    zero = found["tpr_at_zero_false_positives"]
    assert zero.value == np.mean(members > nonmembers.max())
    assert zero.n_false_positives == 0


def percentiles(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The smallest values that so many per cent of the resamples do not exceed; nothing in between is invented."""
    ranked, tail = sorted(values), (1 - confidence) / 2
    return tuple(ranked[math.ceil(round(share * len(ranked), 9)) - 1] for share in (tail, 1 - tail))


def drawn_again(scores, is_member, *, seed, n_resamples, groups=None):
    """The resamples that `measured` saw."""
    return resample_rates(
        {"attack": scores},
        is_member,
        fprs=FPRS,
        max_fpr=0.1,
        n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
        groups=groups,
    )["attack"]


@pytest.mark.parametrize(("n", "seed"), [(1200, 3), (150, 4)])
def test_rate_intervals_are_the_union_of_exact_resampled_and_unknown_threshold_intervals(n, seed):
    scores, is_member = two_sides(n, n, seed=seed)
    members, nonmembers = scores[is_member], scores[~is_member]
    found = measured(scores, is_member, seed=seed, n_resamples=2000)["attack"]
    drawn = drawn_again(scores, is_member, seed=seed, n_resamples=2000)
    n_stated = 0
    for i, fpr in enumerate(FPRS):
        finding = found[rate_metric(fpr)]
        if finding.method == "refused":
            continue
        n_stated += 1
        resampled = percentiles(drawn.tpr[i])
        exact = clopper_pearson(int((members > threshold_at_fpr(nonmembers, fpr=fpr)).sum()), n)
        assert finding.lower <= min(exact.lower, resampled[0])
        assert finding.upper >= max(exact.upper, resampled[1])
        free = unknown_threshold(
            members, nonmembers, fpr=fpr, confidence=0.95, n_draws=50_000, rng=np.random.default_rng(99)
        )
        # Two thousand draws of a few steps of the ranking: the end moves by one step or so.
        assert finding.lower == pytest.approx(min(exact.lower, resampled[0], free.lower), abs=0.03)
        assert finding.upper == pytest.approx(max(exact.upper, resampled[1], free.upper), abs=0.03)
    assert n_stated == (3 if n > 1000 else 2)


def test_the_rate_at_zero_false_positives_has_the_exact_interval_of_this_threshold():
    scores, is_member = two_sides(1200, 1100)
    finding = measured(scores, is_member)["attack"]["tpr_at_zero_false_positives"]
    n_found = int((scores[is_member] > scores[~is_member].max()).sum())
    assert 0 < n_found < 1200
    # The end of Clopper and Pearson: the rate at which so many, or more, are found with probability 2.5 %.
    assert stats.binom.sf(n_found - 1, 1200, finding.lower) == pytest.approx(0.025, abs=1e-6)
    assert stats.binom.cdf(n_found, 1200, finding.upper) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("size", [1, 5], ids=["alone", "grouped"])
@pytest.mark.parametrize("shift", [0.2, 1.0, 3.0])
def test_partial_auc_interval_is_the_union_of_percentiles_and_logit_t(shift, size):
    """On the share of the largest area that lies under the curve: .1 is perfect, 0 is nobody found."""
    n = 60
    scores, is_member = two_sides(n, n, shift=shift, seed=1)
    groups = None if size == 1 else np.arange(2 * n) // size
    finding = measured(scores, is_member, seed=5, groups=groups)["attack"]["partial_auc_fpr_10pct"]
    drawn = drawn_again(scores, is_member, seed=5, n_resamples=200, groups=groups).partial_auc

    def share(standardised):  # McClish: 1/2 (1 + (area - .005)/(.1 - .005)), so that area 0 is 9/19
        return (standardised - 9 / 19) / (10 / 19)

    value = share(finding.value)
    error = math.sqrt(np.mean((share(drawn) - share(drawn).mean()) ** 2))
    # Only the tenth of the non-members that the area rests on are degrees of freedom.
    quantile = stats.t.isf(0.025, max(1, round(0.1 * n / size) - 1))
    factor = math.exp(quantile * error / (value * (1 - value)))
    odds = value / (1 - value)
    low, high = odds / factor / (1 + odds / factor), odds * factor / (1 + odds * factor)
    resampled = percentiles(drawn)
    assert finding.lower == pytest.approx(min(resampled[0], 9 / 19 + low * 10 / 19))
    assert finding.upper == pytest.approx(max(resampled[1], 9 / 19 + high * 10 / 19))


def test_the_same_seed_gives_the_same_findings_whoever_else_is_measured():
    scores, is_member = two_sides(100, 120)
    alone = timeless(measured({"a": scores}, is_member))["a"]
    together = timeless(measured({"other": np.full(220, NAN), "a": scores, "b": -scores}, is_member))
    assert together["a"] == alone
    assert timeless(measured({"a": scores}, is_member))["a"] == alone


def test_order_of_the_attacks_is_kept():
    scores, is_member = two_sides(20, 20)
    assert list(measured({"z": scores, "a": scores, "m": scores}, is_member)) == ["z", "a", "m"]


def test_no_attack_gives_no_findings():
    assert measured({}, np.array([True, False])) == {}


def test_confidence_is_carried_and_widens():
    scores, is_member = two_sides(300, 300)
    narrow = measured(scores, is_member, confidence=0.8)["attack"]
    wide = measured(scores, is_member, confidence=0.99)["attack"]
    for metric in ("auc", "partial_auc_fpr_10pct", "tpr_at_fpr_10pct"):
        assert narrow[metric].confidence == 0.8
        assert wide[metric].upper - wide[metric].lower > narrow[metric].upper - narrow[metric].lower


# ---------------------------------------------------------------------------------------------
# Undefined scores
# ---------------------------------------------------------------------------------------------


def test_undefined_records_are_counted_by_side_and_take_no_part():
    scores, is_member = two_sides(150, 140)
    with_holes = scores.copy()
    with_holes[[0, 5, 7]] = NAN
    with_holes[[160, 289]] = NAN
    found = measured(with_holes, is_member)["attack"]
    is_defined = ~np.isnan(with_holes)
    for finding in found.values():
        assert (finding.n_members, finding.n_nonmembers) == (147, 138)
        assert (finding.n_undefined_members, finding.n_undefined_nonmembers) == (3, 2)
    assert found["auc"].value == auc(scores[is_defined & is_member], scores[is_defined & ~is_member])


def test_whether_a_rate_can_be_stated_depends_on_the_defined_nonmembers():
    scores, is_member = two_sides(100, 100)
    assert measured(scores, is_member)["attack"]["tpr_at_fpr_1pct"].value is not None
    scores[150] = NAN
    refused = measured(scores, is_member)["attack"]["tpr_at_fpr_1pct"]
    assert (refused.value, refused.method) == (None, "refused")


@pytest.mark.parametrize(
    ("undefined", "words"),
    [
        ("members", "No score is defined on members."),
        ("nonmembers", "No score is defined on non-members."),
        ("both", "No score is defined on members."),
    ],
)
def test_a_side_without_any_score_has_no_numbers_and_says_so(undefined, words):
    scores, is_member = two_sides(30, 40)
    scores[{"members": is_member, "nonmembers": ~is_member, "both": slice(None)}[undefined]] = NAN
    found = measured(scores, is_member)["attack"]
    assert list(found) == METRICS
    for finding in found.values():
        assert (finding.value, finding.lower, finding.upper) == (None, None, None)
        assert (finding.method, finding.note) == ("none", words)
        assert finding.n_members == (0 if undefined in {"members", "both"} else 30)
        assert finding.n_undefined_nonmembers == (40 if undefined in {"nonmembers", "both"} else 0)


@pytest.mark.parametrize(("label", "words"), [(True, "non-members"), (False, "members")])
def test_a_side_without_records_has_no_numbers_and_says_so(label, words):
    found = measured(np.arange(10.0), np.full(10, label))["attack"]
    assert {finding.note for finding in found.values()} == {f"No score is defined on {words}."}
    assert {finding.value for finding in found.values()} == {None}


def test_one_hopeless_attack_does_not_touch_the_others():
    scores, is_member = two_sides(120, 120)
    found = measured({"bad": np.full(240, NAN), "good": scores}, is_member)
    assert found["bad"]["auc"].value is None
    assert found["good"]["auc"].value == auc(scores[is_member], scores[~is_member])


# ---------------------------------------------------------------------------------------------
# Refusals and notes
# ---------------------------------------------------------------------------------------------


def test_rates_the_sample_cannot_resolve_are_refused_in_words():
    found = measured(*two_sides(500, 400))["attack"]
    refused = found["tpr_at_fpr_0_1pct"]
    assert (refused.value, refused.lower, refused.upper, refused.n_false_positives) == (None, None, None, None)
    assert refused.method == "refused"
    assert refused.note == (
        "Cannot state TPR at 0.1 % FPR from 400 non-members: the smallest rate they resolve is 0.25 %. "
        "Give at least 1000 (10000 for a useful interval) or ask for a larger --fpr."
    )


def test_rates_that_rest_on_few_nonmembers_are_stated_with_a_warning():
    found = measured(*two_sides(500, 400))["attack"]
    assert found["tpr_at_fpr_1pct"].note == (
        "The threshold rests on 4.0 non-members, and the rate tends to come out too high; "
        "give 1000 for a useful interval."
    )
    assert found["tpr_at_fpr_10pct"].note is None


@pytest.mark.parametrize(("n_nonmembers", "has_note"), [(99, True), (100, False), (101, False)])
def test_ten_expected_false_positives_need_no_warning(n_nonmembers, has_note):
    found = measured(*two_sides(50, n_nonmembers), fprs=(0.1,))["attack"]["tpr_at_fpr_10pct"]
    assert (found.note is not None) == has_note


@pytest.mark.parametrize(
    ("n_nonmembers", "confidence", "bound"), [(100, 0.95, "3"), (59, 0.95, "5"), (2995, 0.95, "0.1"), (200, 0.9, "1.1")]
)
def test_zero_false_positives_come_with_the_bound_they_give(n_nonmembers, confidence, bound):
    """1 - (1 - confidence)^(1/n), one-sided."""
    scores, is_member = two_sides(20, n_nonmembers)
    found = measured(scores, is_member, confidence=confidence, n_resamples=20)["attack"]
    assert found["tpr_at_zero_false_positives"].note == (
        "The share above the highest of these non-members; another sample would set another threshold. "
        f"No false positive among {n_nonmembers} bounds the false-positive rate only by {bound} %."
    )


def test_methods_are_named():
    found = measured(*two_sides(500, 400))["attack"]
    assert found["auc"].method == "DeLong on the logit scale"
    assert found["partial_auc_fpr_10pct"].method == "stratified bootstrap, at least as wide as its logit-t interval"
    assert found["tpr_at_fpr_1pct"].method == (
        "stratified bootstrap, at least as wide as exact and unknown-threshold intervals"
    )
    assert found["tpr_at_fpr_0_1pct"].method == "refused"
    assert found["tpr_at_zero_false_positives"].method == "Clopper-Pearson at this sample's threshold"


def test_methods_without_resamples_are_named():
    found = measured(*two_sides(500, 400), n_resamples=0)["attack"]
    assert found["auc"].method == "DeLong on the logit scale"
    assert found["partial_auc_fpr_10pct"].method == "none"
    assert found["tpr_at_fpr_1pct"].method == "Clopper-Pearson at this sample's threshold"
    assert found["tpr_at_zero_false_positives"].method == "Clopper-Pearson at this sample's threshold"


def test_grouped_findings_say_so_and_are_wider():
    rng = np.random.default_rng(4)
    n_groups, size = 30, 10
    of_group = np.repeat(rng.normal(0, 1, 2 * n_groups), size)
    is_member = np.arange(len(of_group)) < n_groups * size
    scores = of_group + 0.3 * rng.normal(0, 1, len(of_group)) + is_member
    groups = np.repeat(np.arange(2 * n_groups), size)
    plain, grouped = measured(scores, is_member)["attack"], measured(scores, is_member, groups=groups)["attack"]
    assert grouped["auc"].method == "DeLong on the logit scale, clustered by group"
    assert grouped["partial_auc_fpr_10pct"].method == (
        "stratified bootstrap, clustered by group, at least as wide as its logit-t interval"
    )
    assert grouped["tpr_at_fpr_10pct"].method == (
        "stratified bootstrap, clustered by group, at least as wide as exact and unknown-threshold intervals"
    )
    for metric in ("auc", "partial_auc_fpr_10pct", "tpr_at_fpr_10pct"):
        assert grouped[metric].value == plain[metric].value
        width, plain_width = (found[metric].upper - found[metric].lower for found in (grouped, plain))
        assert width > 1.4 * plain_width


def test_groups_of_undefined_records_leave_with_them():
    scores, is_member = two_sides(60, 60)
    groups = np.repeat(np.arange(60), 2)
    scores[[0, 1, 3]] = NAN
    found = measured(scores, is_member, groups=groups)["attack"]["auc"]
    is_defined = ~np.isnan(scores)
    expected = auc_interval(
        scores[is_defined & is_member],
        scores[is_defined & ~is_member],
        member_groups=groups[is_defined & is_member],
        nonmember_groups=groups[is_defined & ~is_member],
    )
    assert (found.lower, found.upper) == expected


# ---------------------------------------------------------------------------------------------
# Extremes
# ---------------------------------------------------------------------------------------------


def test_perfect_separation_keeps_a_width():
    found = measured(np.repeat([1.0, 0.0], 200), np.arange(400) < 200, fprs=(0.1,))["attack"]
    bound = 0.025 ** (1 / 200)
    assert (found["auc"].value, found["auc"].upper) == (1.0, 1.0)
    assert found["auc"].lower == pytest.approx(bound)
    for metric in ("tpr_at_fpr_10pct", "tpr_at_zero_false_positives"):
        assert (found[metric].value, found[metric].upper) == (1.0, 1.0)
    assert found["tpr_at_zero_false_positives"].lower == pytest.approx(bound)
    assert bound - 0.01 <= found["tpr_at_fpr_10pct"].lower <= bound + 1e-12  # or the same, drawn 200 times


def test_perfect_separation_keeps_a_width_for_the_partial_auc_too():
    """200 of 200 found: at least .025^(1/200) of the largest area, which the scale puts between 9/19 and 1."""
    found = measured(np.repeat([1.0, 0.0], 200), np.arange(400) < 200, fprs=(0.1,))["attack"]["partial_auc_fpr_10pct"]
    assert (found.value, found.upper) == (pytest.approx(1), pytest.approx(1))
    assert found.lower == pytest.approx(9 / 19 + 10 / 19 * 0.025 ** (1 / 200))


# ---------------------------------------------------------------------------------------------
# Documents
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["auc", "partial_auc_fpr_10pct", "tpr_at_fpr_10pct", "tpr_at_zero_false_positives"])
def test_copies_of_perfectly_separated_records_are_worth_one_record(metric):
    """Eight documents a side of fifty equal records: nothing but (alpha/2)^(1/8) is known, for any rate."""
    scores, is_member = np.repeat([1.0, 0.0], 400), np.arange(800) < 400
    found = measured(scores, is_member, groups=np.arange(800) // 50, fprs=(0.1,))["attack"][metric]
    smallest = 9 / 19 if metric == "partial_auc_fpr_10pct" else 0.0
    assert found.lower <= smallest + (1 - smallest) * 0.025 ** (1 / 8) + 1e-9


@pytest.mark.parametrize("metric", ["auc", "partial_auc_fpr_10pct", "tpr_at_fpr_10pct", "tpr_at_zero_false_positives"])
def test_grouped_copies_do_not_narrow_the_interval(metric):
    scores, is_member = two_sides(50, 50)
    plain = measured(scores, is_member, fprs=(0.1,), n_resamples=1000)["attack"][metric]
    copied = measured(
        np.repeat(scores, 20),
        np.repeat(is_member, 20),
        groups=np.repeat(np.arange(100), 20),
        fprs=(0.1,),
        n_resamples=1000,
    )["attack"][metric]
    assert copied.value == pytest.approx(plain.value, abs=0.02)
    # Where the threshold is unknown the ranks of copies are counted as ranks of records; hence no more than .7.
    assert copied.upper - copied.lower > 0.7 * (plain.upper - plain.lower)


@pytest.mark.parametrize("side", ["members", "nonmembers", "both"])
def test_a_single_document_gives_no_interval_between_the_extremes(side):
    """As for the AUC: one document says nothing of how documents differ."""
    members, nonmembers = np.linspace(0, 1, 100), np.linspace(-0.2, 0.8, 100)
    groups = np.arange(200)
    if side in {"members", "both"}:
        groups[:100] = 0
    if side in {"nonmembers", "both"}:
        groups[100:] = 100
    found = measured(np.concatenate([members, nonmembers]), np.arange(200) < 100, fprs=(0.1,), groups=groups)["attack"]
    assert (found["auc"].lower, found["auc"].upper) == (None, None)
    area = found["partial_auc_fpr_10pct"]
    assert 9 / 19 + 0.01 < area.value < 0.99
    assert (area.lower, area.upper) == (None, None)


def test_nobody_found_keeps_a_width():
    found = measured(np.repeat([0.0, 1.0], 200), np.arange(400) < 200, fprs=(0.1,))["attack"]
    assert (found["auc"].value, found["auc"].lower) == (0.0, 0.0)
    assert found["auc"].upper == pytest.approx(1 - 0.025 ** (1 / 200))
    assert found["tpr_at_fpr_10pct"].lower == 0
    exact = 1 - 0.025 ** (1 / 200)
    assert exact - 1e-12 <= found["tpr_at_fpr_10pct"].upper <= exact + 0.01  # or the same, drawn 200 times
    area = found["partial_auc_fpr_10pct"]
    assert (area.value, area.lower) == (pytest.approx(9 / 19), pytest.approx(9 / 19))
    assert area.upper == pytest.approx(9 / 19 + 10 / 19 * (1 - 0.025 ** (1 / 200)))


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("member_rate", [0.5, 0.8])
def test_intervals_of_a_yes_or_no_score_hold_their_value(n, member_rate):
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.random(n) < member_rate, rng.random(n) < 0.5]).astype(float)
    for finding in measured(scores, np.arange(2 * n) < n, fprs=(0.1,))["attack"].values():
        assert finding.lower <= finding.value <= finding.upper


def test_one_record_a_side():
    found = measured(np.array([1.0, 0.0]), np.array([True, False]), fprs=(0.5,), n_resamples=20)["attack"]
    assert (found["auc"].value, found["auc"].upper) == (1.0, 1.0)
    assert found["auc"].lower == pytest.approx(0.025)
    assert found["tpr_at_fpr_50pct"].method == "refused"
    zero = found["tpr_at_zero_false_positives"]
    assert (zero.value, zero.upper) == (1.0, 1.0)
    assert zero.lower == pytest.approx(0.025)
    assert zero.note.endswith(" No false positive among 1 bounds the false-positive rate only by 95 %.")


def test_a_single_resample_is_enough_for_words_if_not_for_intervals():
    """One member of ten has a score, and the one resample may well miss it."""
    scores = np.concatenate([[5.0], np.full(9, NAN), np.arange(10.0)])
    for seed in range(10):
        found = measured(scores, np.arange(20) < 10, n_resamples=1, seed=seed, fprs=(0.1,))["attack"]
        assert found["tpr_at_fpr_10pct"].value == 0
        assert found["auc"].value == pytest.approx(0.55)


def test_infinite_scores_are_scores():
    """reference_ratio gives +inf to a record that the target predicts with certainty."""
    scores, is_member = two_sides(100, 100)
    scores[:10] = math.inf
    found = measured(scores, is_member, fprs=(0.1,))["attack"]
    assert found["auc"].n_members == 100
    assert found["tpr_at_zero_false_positives"].value >= 0.1


def test_infinite_scores_on_both_sides_are_ties():
    scores, is_member = two_sides(50, 50)
    huge = scores.copy()
    for where in (slice(0, 10), slice(50, 60)):
        scores[where], huge[where] = math.inf, 1e9
    first, second = (timeless(measured(values, is_member, fprs=(0.1,)))["attack"] for values in (scores, huge))
    assert first == second


def test_without_resamples_the_exact_intervals_remain():
    scores, is_member = two_sides(100, 100)
    found = measured(scores, is_member, fprs=(0.1,), n_resamples=0)["attack"]
    n_found = round(found["tpr_at_fpr_10pct"].value * 100)
    assert (found["tpr_at_fpr_10pct"].lower, found["tpr_at_fpr_10pct"].upper) == clopper_pearson(n_found, 100)
    assert found["partial_auc_fpr_10pct"].value is not None
    assert found["partial_auc_fpr_10pct"].lower is None


@pytest.mark.parametrize(
    ("fpr", "name"),
    [
        (1.0, "tpr_at_fpr_100pct"),
        (0.1, "tpr_at_fpr_10pct"),
        (0.05, "tpr_at_fpr_5pct"),
        (0.025, "tpr_at_fpr_2_5pct"),
        (0.001, "tpr_at_fpr_0_1pct"),
        (0.0001, "tpr_at_fpr_0_01pct"),
    ],
)
def test_names_of_rates(fpr, name):
    assert rate_metric(fpr) == name
