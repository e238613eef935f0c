"""Having looked many times: adjusted p-values against their definitions, the best of many against its null."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import auc, benjamini_hochberg, best_of_many, holm, resample_rates
from loraudit.statistics.bootstrap import _Influence

NAN = math.nan
BH_1995 = np.array(
    [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1]
)
"""The fifteen p-values of Benjamini and Hochberg 1995, section 3.2 (thrombolysis in myocardial infarction)."""

p_value = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 0.5, 1.0]))
some = st.lists(p_value, min_size=1, max_size=6)
with_gaps = st.lists(st.one_of(p_value, st.just(NAN)), max_size=8)


def at_most(n_trials: int, rate: float) -> float:
    """So many successes are exceeded by chance once in a thousand simulations at the stated rate."""
    return float(stats.binom.ppf(0.999, n_trials, rate))


# ---------------------------------------------------------------------------------------------
# Holm, Benjamini-Hochberg
# ---------------------------------------------------------------------------------------------


def test_holm_adjusts_four_p_values_worked_by_hand():
    """0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1 raised to the one before it."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_published_example_has_three_discoveries_by_holm_and_four_at_a_false_discovery_rate_of_five_percent():
    assert (holm(BH_1995) <= 0.05).sum() == 3
    q_values = benjamini_hochberg(BH_1995)
    assert (q_values <= 0.05).sum() == 4
    assert q_values[3] == pytest.approx(0.0095 * 15 / 4)
    assert q_values[5] == pytest.approx(0.0298 * 15 / 7)  # lower than its own 0.0278 · 15 / 6


@given(some)
def test_holm_is_the_closure_of_bonferroni(p_values):
    """A hypothesis falls at the level at which every intersection that holds it falls (Marcus et al. 1976)."""
    expected = []
    for index in range(len(p_values)):
        others = [i for i in range(len(p_values)) if i != index]
        worst = 0.0
        for size in range(len(others) + 1):
            for rest in itertools.combinations(others, size):
                members = (index, *rest)
                worst = max(worst, min(1.0, len(members) * min(p_values[i] for i in members)))
        expected.append(worst)
    assert holm(np.array(p_values)).tolist() == pytest.approx(expected)


@given(some, st.floats(0.001, 0.999))
def test_q_values_call_what_stepping_up_calls(p_values, level):
    m = len(p_values)
    ranked = sorted(p_values)
    q_values = benjamini_hochberg(np.array(p_values))
    scaled = [p * m / (k + 1) for k, p in enumerate(ranked)]
    if any(abs(value - level) < 1e-9 for value in scaled):
        return  # rounding decides
    largest = max((k + 1 for k in range(m) if ranked[k] <= level * (k + 1) / m), default=0)
    called = [p <= ranked[largest - 1] if largest else False for p in p_values]
    assert (q_values <= level).tolist() == called


@given(some)
def test_q_values_equal_scipy(p_values):
    expected = stats.false_discovery_control(np.array(p_values), method="bh")
    np.testing.assert_allclose(benjamini_hochberg(np.array(p_values)), expected, atol=1e-12)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@given(with_gaps)
def test_what_has_no_p_value_takes_no_part(adjust, p_values):
    values = np.array(p_values, dtype=np.float64)
    known = ~np.isnan(values)
    found = adjust(values)
    assert np.isnan(found).tolist() == (~known).tolist()
    np.testing.assert_array_equal(found[known], adjust(values[known]))


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@given(some, st.randoms(use_true_random=False))
def test_the_order_of_the_hypotheses_does_not_matter(adjust, p_values, random):
    order = list(range(len(p_values)))
    random.shuffle(order)
    values = np.array(p_values)
    np.testing.assert_array_equal(adjust(values[order]), adjust(values)[order])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@given(some)
def test_adjusting_keeps_the_ranking_and_never_lowers(adjust, p_values):
    values = np.array(p_values)
    found = adjust(values)
    order = np.argsort(values)
    assert (np.diff(found[order]) >= 0).all()
    assert (found >= values - 1e-15).all()
    assert (found <= 1).all()


@given(some)
def test_holm_is_never_below_the_q_value(p_values):
    values = np.array(p_values)
    assert (holm(values) >= benjamini_hochberg(values) - 1e-12).all()


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_nothing_in_gives_nothing_out(adjust):
    assert adjust(np.array([])).tolist() == []


def test_a_single_p_value_needs_no_correction():
    assert holm(np.array([0.04, NAN])).tolist() == pytest.approx([0.04, NAN], nan_ok=True)


def test_holm_errs_anywhere_at_most_as_often_as_it_says():
    """Eight one-sided z tests that share noise; five are null. Uncorrected, they err far more often."""
    rng = np.random.default_rng(0)
    n_trials, n_null = 2000, 5
    wrong = raw = found = 0
    for _ in range(n_trials):
        z = 0.5 * rng.normal() + math.sqrt(0.75) * rng.normal(size=8) + np.array([0.0] * n_null + [3.5] * 3)
        p_values = stats.norm.sf(z)
        rejected = holm(p_values) <= 0.05
        wrong += bool(rejected[:n_null].any())
        raw += bool((p_values[:n_null] <= 0.05).any())
        found += bool(rejected[n_null:].any())
    assert wrong <= at_most(n_trials, 0.05)
    assert raw > 2 * at_most(n_trials, 0.05)
    assert found > 0.8 * n_trials


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_the_share_of_false_calls_is_at_most_q(shared):
    """Twenty nulls and ten effects: the mean share of nulls among the calls stays under q = 0.1 (20/30 of it)."""
    rng = np.random.default_rng(1)
    n_trials, n_null = 1500, 20
    shares = np.zeros(n_trials)
    n_found = 0
    for trial in range(n_trials):
        effects = np.array([0.0] * n_null + [3.0] * 10)
        z = math.sqrt(shared) * rng.normal() + math.sqrt(1 - shared) * rng.normal(size=30) + effects
        called = benjamini_hochberg(stats.norm.sf(z)) <= 0.1
        shares[trial] = called[:n_null].sum() / max(1, called.sum())
        n_found += int(called[n_null:].sum())
    assert shares.mean() <= 0.1
    assert n_found > 0.4 * 10 * n_trials
    if not shared:  # and it is not needlessly strict: independent tests err at q · m0 / m
        assert shares.mean() == pytest.approx(0.1 * n_null / 30, abs=0.012)


# ---------------------------------------------------------------------------------------------
# The resampled AUC
# ---------------------------------------------------------------------------------------------


def slow_auc(members, nonmembers) -> float:
    above = (members[:, None] > nonmembers[None, :]).mean()
    return float(above + 0.5 * (members[:, None] == nonmembers[None, :]).mean())


def slow_bootstrap(scores, is_member, groups, n_resamples, rng) -> np.ndarray:
    """Draw documents of each side with replacement, write down their records, recompute the AUC."""
    drawn = []
    units = np.arange(len(scores)) if groups is None else groups
    by_side = [
        [np.flatnonzero((units == unit) & side) for unit in np.unique(units[side])] for side in (is_member, ~is_member)
    ]
    for _ in range(n_resamples):
        sides = []
        for documents in by_side:
            rows = np.concatenate([documents[i] for i in rng.integers(0, len(documents), len(documents))])
            sides.append(scores[rows][~np.isnan(scores[rows])])
        drawn.append(slow_auc(*sides))
    return np.array(drawn)


@pytest.mark.parametrize("grouped", [False, True])
def test_resampled_areas_spread_as_those_of_recomputed_resamples(grouped):
    rng = np.random.default_rng(2)
    n_members, n_nonmembers = 120, 160
    is_member = np.arange(n_members + n_nonmembers) < n_members
    groups = np.concatenate([np.arange(n_members) // 4, 1000 + np.arange(n_nonmembers) // 4]) if grouped else None
    shared = rng.normal(size=2000)[groups] if groups is not None else 0
    plain = np.round(rng.normal(size=280) + shared + is_member, 1)  # rounding makes ties
    gaps = np.where(rng.random(280) < 0.2, NAN, rng.normal(size=280) + shared + 0.3 * is_member)
    fast = resample_rates(
        {"plain": plain, "gaps": gaps},
        is_member,
        fprs=(0.1,),
        max_fpr=0.1,
        n_resamples=3000,
        rng=np.random.default_rng(3),
        groups=groups,
    )
    for name, scores in (("plain", plain), ("gaps", gaps)):
        slow = slow_bootstrap(scores, is_member, groups, 1500, np.random.default_rng(4))
        found = fast[name].auc
        assert found.shape == (3000,)
        # four standard errors of the slow side, and of the fast one: 1/√1500 and 1/√3000 of the spread
        assert found.mean() == pytest.approx(slow.mean(), abs=4 * slow.std() * math.sqrt(1 / 1500 + 1 / 3000))
        assert found.std() == pytest.approx(slow.std(), rel=4 * math.sqrt(1 / 3000 + 1 / 6000))


def test_whole_documents_spread_more_than_records():
    rng = np.random.default_rng(5)
    is_member = np.arange(400) < 200
    groups = np.arange(400) // 10
    scores = 2 * rng.normal(size=40)[groups] + rng.normal(size=400)
    options = {"fprs": (0.1,), "max_fpr": 0.1, "n_resamples": 500}
    alone = resample_rates({"a": scores}, is_member, rng=np.random.default_rng(0), **options)["a"].auc.std()
    whole = resample_rates({"a": scores}, is_member, rng=np.random.default_rng(0), groups=groups, **options)["a"]
    # intraclass correlation 0.8, ten records a document: the design effect is about 1 + 9 · 0.8
    assert 1.8 < whole.auc.std() / alone < 3.8


ties = st.integers(-2, 2).map(float)


@st.composite
def weighted(draw):
    sides = []
    for _ in range(2):
        values = draw(st.lists(ties, min_size=1, max_size=12))
        weights = draw(st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values)))
        sides.append((np.array(values), np.array(weights) if any(weights) else np.ones(len(values), int)))
    return sides


@given(weighted(), st.booleans())
def test_weights_on_one_side_alone_give_exactly_the_area_of_the_repeated_records(sides, on_members):
    """The linearisation leaves out only the product of both sides' deviations."""
    (members, member_weights), (nonmembers, nonmember_weights) = sides
    ones = np.ones(len(nonmembers if on_members else members), int)
    weights = (member_weights, ones) if on_members else (ones, nonmember_weights)
    values = np.concatenate([members, nonmembers])
    influence = _Influence.of({"a": values}, np.arange(len(values)) < len(members))
    found = influence.areas(weights[0][None], weights[1][None])
    expected = slow_auc(np.repeat(members, weights[0]), np.repeat(nonmembers, weights[1]))
    assert found[0, 0] == pytest.approx(expected, abs=1e-5)


# ---------------------------------------------------------------------------------------------
# The best of many
# ---------------------------------------------------------------------------------------------


def expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_one_attack_worked_by_hand():
    """Spread s = √0.005; the largest deviation, 0.1, is 0.1 / 0.1875 in logits; none is as far as ln 3 · 0.1875 / s."""
    found = best_of_many({"a": 0.75}, {"a": np.array([0.65, 0.70, 0.75, 0.80, 0.85])})
    assert (found.name, found.value) == ("a", 0.75)
    assert found.interval == pytest.approx((expit(math.log(3) - 8 / 15), expit(math.log(3) + 8 / 15)))
    assert found.p_value == pytest.approx(1 / 6)


def test_a_best_attack_at_chance_has_a_p_value_counted_from_the_resamples():
    """The statistic is 0; three of the five largest deviations are at or above it."""
    found = best_of_many({"a": 0.5}, {"a": np.array([0.4, 0.45, 0.5, 0.55, 0.6])})
    assert found.p_value == pytest.approx((1 + 3) / (1 + 5))


@pytest.mark.parametrize("areas", [{}, {"a": NAN}, {"a": NAN, "b": NAN}])
def test_no_area_no_best(areas):
    assert best_of_many(areas, {name: np.full(5, NAN) for name in areas}) is None


def test_an_attack_without_area_takes_no_part():
    drawn = np.random.default_rng(0).normal(0.6, 0.05, 200)
    alone = best_of_many({"a": 0.6}, {"a": drawn})
    assert best_of_many({"a": 0.6, "b": NAN}, {"a": drawn, "b": np.full(200, NAN)}) == alone


def test_a_perfect_best_has_no_simultaneous_interval():
    """At AUC 1 the bootstrap has no spread."""
    rng = np.random.default_rng(0)
    found = best_of_many({"a": 1.0, "b": 0.7}, {"a": np.ones(50), "b": rng.normal(0.7, 0.05, 50)})
    assert (found.name, found.value) == ("a", 1.0)
    assert all(math.isnan(x) for x in (*found.interval, found.p_value))


def drawn_sample(rng, shifts, *, n: int = 60, shared: float = 0.6):
    """Scores of several attacks that see much the same, their areas and their resamples."""
    is_member = np.arange(2 * n) < n
    common = rng.normal(size=2 * n)
    scores = {
        f"attack_{i}": math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=2 * n) + shift * is_member
        for i, shift in enumerate(shifts)
    }
    areas = {name: auc(values[is_member], values[~is_member]) for name, values in scores.items()}
    resampled = resample_rates(scores, is_member, fprs=(0.1,), max_fpr=0.1, n_resamples=200, rng=rng)
    return areas, {name: found.auc for name, found in resampled.items()}


@given(st.integers(0, 1000), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_simultaneous_interval_is_at_least_as_wide_as_that_of_the_winner_alone(seed, confidence):
    rng = np.random.default_rng(seed)
    names = [f"a{i}" for i in range(4)]
    areas = {name: float(rng.uniform(0.4, 0.9)) for name in names}
    resampled = {name: rng.normal(areas[name], rng.uniform(0.01, 0.1), 60) for name in names}
    found = best_of_many(areas, resampled, confidence=confidence)
    assert found.value == max(areas.values())
    assert areas[found.name] == found.value
    alone = best_of_many({found.name: found.value}, {found.name: resampled[found.name]}, confidence=confidence)
    assert found.interval.lower <= alone.interval.lower + 1e-12 <= found.value + 1e-9
    assert found.interval.upper >= alone.interval.upper - 1e-12


@given(st.integers(0, 1000), st.permutations(range(4)))
def test_the_order_of_the_attacks_does_not_matter(seed, order):
    rng = np.random.default_rng(seed)
    areas = {f"a{i}": float(rng.uniform(0.4, 0.9)) for i in range(4)}
    resampled = {name: rng.normal(area, 0.05, 40) for name, area in areas.items()}
    names = list(areas)
    shuffled = best_of_many({names[i]: areas[names[i]] for i in order}, {names[i]: resampled[names[i]] for i in order})
    plain = best_of_many(areas, resampled)
    assert shuffled.name == plain.name
    assert shuffled.interval == pytest.approx(plain.interval)
    assert shuffled.p_value == plain.p_value


def test_several_names_for_one_attack_cost_nothing():
    """The maximum over copies is the maximum: what Bonferroni would lose, shared resamples keep."""
    drawn = np.random.default_rng(0).normal(0.6, 0.04, 300)
    alone = best_of_many({"a": 0.6}, {"a": drawn})
    copies = {f"a{i}": 0.6 for i in range(10)}
    found = best_of_many(copies, dict.fromkeys(copies, drawn))
    assert found[1:] == alone[1:]


def test_the_best_of_several_blind_attacks_is_significant_as_rarely_as_stated():
    rng = np.random.default_rng(6)
    n_trials = 250
    n_wrong = n_naive = n_missed = 0
    for _ in range(n_trials):
        areas, resampled = drawn_sample(rng, [0.0] * 6, shared=0.3)
        found = best_of_many(areas, resampled)
        alone = best_of_many({found.name: found.value}, {found.name: resampled[found.name]})
        n_wrong += found.p_value <= 0.05
        n_naive += alone.p_value <= 0.05
        n_missed += not found.interval.lower <= 0.5 <= found.interval.upper
    assert n_wrong <= at_most(n_trials, 0.05)
    assert n_missed <= at_most(n_trials, 0.05)
    assert n_naive > at_most(n_trials, 0.05)


def test_the_best_of_several_is_found_where_one_attack_sees():
    rng = np.random.default_rng(7)
    found = [best_of_many(*drawn_sample(rng, [0.0, 0.0, 0.0, 0.9])) for _ in range(40)]
    assert sum(best.name == "attack_3" for best in found) >= 38
    assert sum(best.p_value <= 0.05 for best in found) >= 36


def test_the_interval_of_the_winner_holds_its_true_area():
    """Picking the largest of five equal attacks overstates it; the simultaneous interval makes up for that."""
    rng = np.random.default_rng(8)
    truth = float(stats.norm.cdf(0.5 / math.sqrt(2)))
    n_trials = 200
    found = [best_of_many(*drawn_sample(rng, [0.5] * 5, shared=0.3)) for _ in range(n_trials)]
    n_missed = sum(not best.interval.lower <= truth <= best.interval.upper for best in found)
    assert np.mean([best.value for best in found]) > truth + 0.02
    assert n_missed <= at_most(n_trials, 0.05)


def test_without_a_resample_that_has_every_area_there_is_no_simultaneous_interval():
    """As where each attack has scores on few documents: every resample leaves one of them without a side."""
    resampled = {"a": np.array([NAN, NAN, 0.5, 0.6]), "b": np.array([0.5, 0.6, NAN, NAN])}
    found = best_of_many({"a": 0.6, "b": 0.55}, resampled)
    assert (found.name, found.value) == ("a", 0.6)
    assert all(math.isnan(x) for x in (*found.interval, found.p_value))
