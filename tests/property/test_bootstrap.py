"""The bootstrap by weights equals the bootstrap it stands for: write each record down as often as it was drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loraudit.statistics import bootstrap, partial_auc, resample_rates, tpr_at_fpr
from loraudit.statistics.bootstrap import _Ranking

INF, NAN = math.inf, math.nan
FPRS = (0.0, 0.01, 0.1, 0.25, 0.5, 1.0)

tied = st.integers(-2, 2).map(float)
distinct = st.floats(-100, 100)
undefined = st.just(NAN)


def by_repetition(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sample that the weights stand for, records without a score left out."""
    repeated = np.repeat(scores, weights)
    return repeated[~np.isnan(repeated)]


def slow_rates(members, nonmembers, fprs, max_fpr) -> tuple[list[float], float]:
    tpr = [tpr_at_fpr(members, nonmembers, fpr=fpr) for fpr in fprs]
    return tpr, partial_auc(members, nonmembers, max_fpr=max_fpr)


def fast_rates(scores, is_member, member_weights, nonmember_weights, fprs, max_fpr):
    """`_Ranking` on one resample of given weights, as `resample_rates` uses it."""
    ranking = _Ranking.of(scores, is_member, max_share=max([*fprs, max_fpr]))
    tpr, area = ranking.rates(
        member_weights.astype(np.uint16)[None], nonmember_weights.astype(np.uint16)[None], fprs, max_fpr
    )
    return tpr[:, 0], area[0]


@st.composite
def weighted_sides(draw, score, *, max_size: int = 30):
    sides = []
    for _ in range(2):
        scores = draw(st.lists(score, min_size=1, max_size=max_size))
        weights = draw(st.lists(st.integers(0, 4), min_size=len(scores), max_size=len(scores)))
        sides.append((np.array(scores), np.array(weights)))
    return sides


def check_against_repetition(sides, fprs, max_fpr):
    (members, member_weights), (nonmembers, nonmember_weights) = sides
    scores = np.concatenate([members, nonmembers])
    is_member = np.arange(len(scores)) < len(members)
    tpr, area = fast_rates(scores, is_member, member_weights, nonmember_weights, fprs, max_fpr)
    expected_tpr, expected_area = slow_rates(
        by_repetition(members, member_weights), by_repetition(nonmembers, nonmember_weights), fprs, max_fpr
    )
    np.testing.assert_allclose(tpr, expected_tpr, atol=1e-12)
    np.testing.assert_allclose(area, expected_area, atol=1e-9)


# ---------------------------------------------------------------------------------------------
# One resample of given weights
# ---------------------------------------------------------------------------------------------


@given(weighted_sides(st.one_of(tied, undefined)), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_rates_of_tied_scores_equal_repetition(sides, max_fpr):
    check_against_repetition(sides, FPRS, max_fpr)


@given(weighted_sides(st.one_of(distinct, undefined)), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_rates_of_distinct_scores_equal_repetition(sides, max_fpr):
    check_against_repetition(sides, FPRS, max_fpr)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(40, 400), st.sampled_from([0.01, 0.1, 0.3]))
def test_the_leading_part_of_the_ranking_decides_as_the_whole_does(seed, n_nonmembers, max_fpr):
    """Above some forty non-members only those that can matter are looked at."""
    rng = np.random.default_rng(seed)
    members, nonmembers = rng.normal(0.5, 1, 60), rng.normal(0, 1, n_nonmembers)
    weights = [np.bincount(rng.integers(0, n, n), minlength=n) for n in (60, n_nonmembers)]
    check_against_repetition([(members, weights[0]), (nonmembers, weights[1])], (0.0, max_fpr / 2, max_fpr), max_fpr)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(40, 400))
def test_lopsided_weights_reach_beyond_the_leading_part(seed, n_nonmembers):
    """All draws may fall on the lowest scores, as when a whole document is drawn again and again."""
    rng = np.random.default_rng(seed)
    members, nonmembers = rng.normal(0.5, 1, 60), np.sort(rng.normal(0, 1, n_nonmembers))
    weights = np.where(np.arange(n_nonmembers) < n_nonmembers // 4, 4, 0)
    check_against_repetition([(members, np.ones(60, int)), (nonmembers, weights)], (0.01, 0.1), 0.1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(60, 400), st.integers(1, 4))
@example(0, 200, 2)
def test_long_runs_of_ties_are_not_cut_at_the_leading_part(seed, n_nonmembers, n_levels):
    rng = np.random.default_rng(seed)
    members = rng.integers(0, n_levels, 60).astype(float)
    nonmembers = rng.integers(0, n_levels, n_nonmembers).astype(float)
    weights = [np.bincount(rng.integers(0, n, n), minlength=n) for n in (60, n_nonmembers)]
    check_against_repetition([(members, weights[0]), (nonmembers, weights[1])], (0.0, 0.05, 0.1), 0.1)


@given(weighted_sides(st.sampled_from([0.0, 1.0, INF]), max_size=12))
@example([(np.array([0.0, INF]), np.array([1, 1])), (np.array([INF, INF, 0.0]), np.array([1, 1, 1]))])
def test_equal_infinities_are_ties(sides):
    check_against_repetition(sides, (0.0, 0.1, 0.5), 0.5)


def test_members_of_score_minus_infinity_where_everyone_is_let_in():
    ones = np.ones(2, int)
    check_against_repetition([(np.array([-INF, 1.0]), ones), (np.array([0.0, -INF]), ones)], (1.0,), 0.5)


def test_a_resample_that_leaves_a_side_empty_is_nan():
    scores, is_member = np.array([2.0, 1.0, 1.5, 0.5]), np.array([True, True, False, False])
    some, none = np.array([1, 1]), np.array([0, 0])
    for member_weights, nonmember_weights in ((none, some), (some, none)):
        tpr, area = fast_rates(scores, is_member, member_weights, nonmember_weights, FPRS, 0.5)
        assert np.isnan(tpr).all()
        assert np.isnan(area)


# ---------------------------------------------------------------------------------------------
# The whole bootstrap, drawn a second time by hand from the same generator
# ---------------------------------------------------------------------------------------------


def draw_by_hand(rng, groups_of_side: np.ndarray, n_resamples: int) -> list[np.ndarray]:
    """Positions within one side, per resample: whole groups, drawn with replacement."""
    names = np.unique(groups_of_side)
    drawn = []
    for _ in range(n_resamples):
        chosen = rng.integers(0, len(names), len(names))
        drawn.append(np.concatenate([np.flatnonzero(groups_of_side == names[unit]) for unit in chosen]))
    return drawn


@st.composite
def audits(draw):
    n = draw(st.integers(2, 24))
    scores = draw(st.lists(st.one_of(tied, distinct, undefined), min_size=n, max_size=n))
    n_members = draw(st.integers(1, n - 1))
    is_member = np.array(draw(st.permutations([True] * n_members + [False] * (n - n_members))))
    groups = draw(st.one_of(st.none(), st.lists(st.integers(0, 5), min_size=n, max_size=n).map(np.array)))
    return np.array(scores), is_member, groups


@settings(deadline=None, max_examples=60)
@given(audits(), st.integers(0, 1000))
def test_resampling_equals_drawing_records_and_writing_them_down(audit, seed):
    scores, is_member, groups = audit
    n_resamples, fprs, max_fpr = 12, (0.0, 0.1, 0.5), 0.3
    found = resample_rates(
        {"attack": scores},
        is_member,
        fprs=fprs,
        max_fpr=max_fpr,
        n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
        groups=groups,
    )["attack"]
    assert found.tpr.shape == (len(fprs), n_resamples)
    assert found.partial_auc.shape == (n_resamples,)

    rng = np.random.default_rng(seed)
    labels = np.arange(len(scores)) if groups is None else groups
    drawn_members = draw_by_hand(rng, labels[is_member], n_resamples)
    drawn_nonmembers = draw_by_hand(rng, labels[~is_member], n_resamples)
    for b, (of_members, of_nonmembers) in enumerate(zip(drawn_members, drawn_nonmembers, strict=True)):
        members, nonmembers = scores[is_member][of_members], scores[~is_member][of_nonmembers]
        expected_tpr, expected_area = slow_rates(
            members[~np.isnan(members)], nonmembers[~np.isnan(nonmembers)], fprs, max_fpr
        )
        np.testing.assert_allclose(found.tpr[:, b], expected_tpr, atol=1e-12)
        np.testing.assert_allclose(found.partial_auc[b], expected_area, atol=1e-9)


def resampled(scores, is_member, *, n_resamples=200, seed=0, groups=None, fprs=(0.1,), max_fpr=0.1):
    return resample_rates(
        scores if isinstance(scores, dict) else {"attack": scores},
        is_member,
        fprs=fprs,
        max_fpr=max_fpr,
        n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
        groups=groups,
    )


def two_sides(n_members: int, n_nonmembers: int, *, shift: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(shift, 1, n_members), rng.normal(0, 1, n_nonmembers)])
    return scores, np.arange(len(scores)) < n_members


def test_the_same_generator_gives_the_same_distribution():
    scores, is_member = two_sides(50, 60)
    first, second = (resampled(scores, is_member)["attack"] for _ in range(2))
    np.testing.assert_array_equal(first.tpr, second.tpr)
    np.testing.assert_array_equal(first.partial_auc, second.partial_auc)


def test_every_attack_sees_the_same_resamples_whoever_else_is_there():
    scores, is_member = two_sides(50, 60)
    alone = resampled({"a": scores}, is_member)["a"]
    both = resampled({"b": -scores, "a": scores}, is_member)
    np.testing.assert_array_equal(both["a"].tpr, alone.tpr)
    np.testing.assert_array_equal(both["a"].partial_auc, alone.partial_auc)


def test_records_of_a_group_are_drawn_together():
    """Two documents of members, one all found and one not: every resample finds none, half or all."""
    scores = np.array([1.0] * 5 + [-1.0] * 5 + [0.0] * 8)
    is_member = np.arange(18) < 10
    groups = np.array([0] * 5 + [1] * 5 + list(range(2, 10)))
    tpr = resampled(scores, is_member, groups=groups)["attack"].tpr[0]
    assert set(tpr) == {0.0, 0.5, 1.0}
    # 1/4, 1/2, 1/4 of 200.
    assert 70 <= (tpr == 0.5).sum() <= 130
    apart = resampled(scores, is_member)["attack"].tpr[0]
    assert len(set(apart)) > 3


def test_groups_of_one_record_each_change_nothing():
    scores, is_member = two_sides(40, 50)
    plain = resampled(scores, is_member)["attack"]
    alone = resampled(scores, is_member, groups=np.arange(90))["attack"]
    np.testing.assert_array_equal(plain.tpr, alone.tpr)
    np.testing.assert_array_equal(plain.partial_auc, alone.partial_auc)


def test_copies_grouped_spread_as_the_originals_do_and_ungrouped_copies_spread_less():
    scores, is_member = two_sides(60, 60)
    copied, labels, groups = np.repeat(scores, 4), np.repeat(is_member, 4), np.repeat(np.arange(120), 4)
    n_resamples = 2000
    plain = resampled(scores, is_member, n_resamples=n_resamples)["attack"].partial_auc.std()
    clustered = resampled(copied, labels, groups=groups, n_resamples=n_resamples)["attack"].partial_auc.std()
    naive = resampled(copied, labels, n_resamples=n_resamples)["attack"].partial_auc.std()
    assert clustered == pytest.approx(plain, rel=0.15)
    assert naive < 0.7 * plain


def test_records_without_a_score_take_no_part():
    """Undefined members leave the denominator: all others are found in every resample."""
    scores = np.array([1.0, NAN, 1.0, NAN, 1.0, 1.0, 0.0, NAN, 0.0, 0.0])
    found = resampled(scores, np.arange(10) < 6, n_resamples=500)["attack"]
    tpr = found.tpr[0]
    assert set(tpr[~np.isnan(tpr)]) == {1.0}
    n_empty = np.isnan(tpr).sum()  # P(only undefined members) = (1/3)^6, P(only undefined non-members) = (1/4)^4
    assert n_empty <= 15


def test_undefined_records_are_drawn_so_the_number_of_defined_ones_varies():
    """n1' of a resample is random: a rate of k/n1' must show several denominators."""
    scores = np.array([1.0, 1.0, -1.0, -1.0, NAN, NAN, NAN, 0.0, 0.0, 0.0])
    tpr = resampled(scores, np.arange(10) < 7, n_resamples=500)["attack"].tpr[0]
    seen = {round(rate, 9) for rate in tpr}
    assert {round(rate, 9) for rate in (1 / 2, 1 / 3, 2 / 5, 3 / 7, 4 / 6)} <= seen


@pytest.mark.parametrize("cells", [1, 100, 1000, 4_000_000])
@pytest.mark.parametrize("n_resamples", [1, 7, 100])
def test_block_size_never_changes_how_many_resamples_there_are(monkeypatch, cells, n_resamples):
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", cells)
    scores, is_member = two_sides(30, 35)
    found = resampled(scores, is_member, n_resamples=n_resamples)["attack"]
    assert found.tpr.shape == (1, n_resamples)
    assert found.partial_auc.shape == (n_resamples,)
    assert not np.isnan(found.partial_auc).any()


def test_block_size_never_changes_the_distribution(monkeypatch):
    scores, is_member = two_sides(80, 80)
    whole = resampled(scores, is_member, n_resamples=3000)["attack"]
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 800)
    blocks = resampled(scores, is_member, n_resamples=3000)["attack"]
    for quantile in (0.025, 0.25, 0.5, 0.75, 0.975):
        one, two = np.quantile(whole.partial_auc, quantile), np.quantile(blocks.partial_auc, quantile)
        assert one == pytest.approx(two, abs=0.01)
    assert whole.tpr.mean() == pytest.approx(blocks.tpr.mean(), abs=0.01)


def test_the_spread_is_that_of_a_proportion_when_the_threshold_cannot_move():
    """All non-members tied: TPR is Bin(n1, p)/n1, of standard deviation sqrt(p (1 - p)/n1)."""
    scores = np.concatenate([np.ones(30), -np.ones(70), np.zeros(50)])
    tpr = resampled(scores, np.arange(150) < 100, n_resamples=4000)["attack"].tpr[0]
    assert tpr.mean() == pytest.approx(0.3, abs=0.005)
    assert tpr.std() == pytest.approx(math.sqrt(0.3 * 0.7 / 100), rel=0.05)


def test_the_distribution_is_centred_on_the_estimate_and_narrows_with_n():
    widths = []
    for n in (100, 1600):
        scores, is_member = two_sides(n, n)
        found = resampled(scores, is_member, n_resamples=1000)["attack"]
        members, nonmembers = scores[is_member], scores[~is_member]
        assert np.median(found.tpr[0]) == pytest.approx(tpr_at_fpr(members, nonmembers, fpr=0.1), abs=0.1)
        assert np.median(found.partial_auc) == pytest.approx(partial_auc(members, nonmembers, max_fpr=0.1), abs=0.03)
        widths.append(found.partial_auc.std())
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


# ---------------------------------------------------------------------------------------------
# As small as it gets
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("member", "nonmember", "expected"), [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)])
def test_one_record_a_side_gives_the_same_rate_every_time(member, nonmember, expected):
    found = resampled(np.array([member, nonmember]), np.array([True, False]), n_resamples=10)["attack"]
    np.testing.assert_array_equal(found.tpr, np.full((1, 10), expected))
    assert len(set(found.partial_auc)) == 1


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 1, 2, 2])], ids=["alone", "grouped"])
def test_all_undefined_is_nan_everywhere(groups):
    is_member = np.array([True, True, True, False, False, False])
    found = resampled({"none": np.full(6, NAN), "some": np.arange(6.0)}, is_member, groups=groups, n_resamples=9)
    assert np.isnan(found["none"].tpr).all()
    assert found["none"].tpr.shape == (1, 9)
    assert np.isnan(found["none"].partial_auc).all()
    assert not np.isnan(found["some"].tpr).all()


def test_one_side_undefined_is_nan_everywhere():
    found = resampled(np.array([NAN, NAN, 1.0, 2.0]), np.array([True, True, False, False]), n_resamples=9)["attack"]
    assert np.isnan(found.tpr).all()
    assert np.isnan(found.partial_auc).all()


def test_all_ties_find_nobody_and_guess():
    found = resampled(np.zeros(60), np.arange(60) < 30, fprs=(0.0, 0.1, 0.9))["attack"]
    np.testing.assert_array_equal(found.tpr, 0)
    np.testing.assert_allclose(found.partial_auc, 0.5)


def test_all_ties_guess_in_large_samples_too():
    found = resampled(np.zeros(400), np.arange(400) < 200)["attack"]
    np.testing.assert_allclose(found.partial_auc, 0.5)


def test_everyone_is_found_where_every_nonmember_may_be_a_false_positive():
    scores, is_member = two_sides(20, 20, shift=-2.0)
    assert (resampled(scores, is_member, fprs=(1.0,))["attack"].tpr == 1).all()
