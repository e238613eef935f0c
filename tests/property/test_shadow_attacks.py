"""Attacks calibrated by shadow models: against slow loops and closed forms."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from loraudit.membership import ATTACKS, FittedAttack, score_attacks
from loraudit.membership.shadow import (
    OWN_VARIANCE_FROM,
    Prior,
    bavaria,
    confidence,
    fit_prior,
    lira_offline,
    lira_online,
    lira_tokens,
    log_likelihood_ratio,
    mean_of_shadows,
    rmia,
)
from loraudit.types import RecordFacts, TokenScores, TokenTable, Views


def scores_of(log_prob) -> TokenScores:
    shape = log_prob.shape
    zeros = np.zeros(shape, np.float32)
    return TokenScores(log_prob, log_prob > -1.0, zeros, zeros - 2, zeros + 1, np.zeros(shape, np.uint8))


def views_of(target, *shadows) -> Views:
    """One array of [N, T] log-probabilities per model."""
    facts = RecordFacts(np.full(len(target), 500), np.full(len(target), 250))
    named = {"target": target, "reference": target * 0 - 3, **{f"shadow/{k}": s for k, s in enumerate(shadows)}}
    return Views({name: scores_of(log_prob) for name, log_prob in named.items()}, facts)


def some_views(seed=0, *, n=30, n_tokens=20, n_shadows=5) -> Views:
    rng = np.random.default_rng(seed)
    common = -3.5 + 0.8 * rng.standard_normal((n, n_tokens))
    noise = [0.3 * rng.standard_normal((n, n_tokens)) for _ in range(n_shadows + 1)]
    return views_of(*(np.minimum(common + each, -1e-3) for each in noise))


def of_signals(target, out) -> Views:
    """Records of one token whose φ are these: [N] and [N, K]."""
    return views_of(*(special.log_expit(each)[:, None] for each in (target, *out.T)))


# --- slow and obvious ---------------------------------------------------------------------------------


def slow_confidence(row) -> float:
    p = math.exp(sum(float(x) for x in row) / len(row))
    return math.log(p) - math.log(1 - p)


def slow_signals(views):
    n = len(views.target)
    target = [slow_confidence(views.target.log_prob[i]) for i in range(n)]
    out = [[slow_confidence(shadow.log_prob[i]) for shadow in views.shadows] for i in range(n)]
    return target, out


def test_confidence_is_the_log_odds_of_the_mean_probability():
    views = some_views()
    np.testing.assert_allclose(confidence(views.target), slow_signals(views)[0], rtol=1e-6)
    sure = scores_of(np.zeros((1, 4)))
    assert 20 < confidence(sure)[0] < math.inf
    tiny = scores_of(np.full((1, 4), -800.0))
    assert confidence(tiny)[0] == pytest.approx(-800)


def test_offline_lira_equals_the_loop():
    views = some_views()
    target, out = slow_signals(views)
    variance = np.mean([np.var(row, ddof=1) for row in out])
    expected = [(t - np.mean(row)) / math.sqrt(variance) for t, row in zip(target, out, strict=True)]
    np.testing.assert_allclose(lira_offline.score(views), expected, rtol=1e-5)


def test_with_many_shadows_each_record_has_its_own_variance():
    views = some_views(n=4, n_tokens=3, n_shadows=OWN_VARIANCE_FROM)
    target, out = slow_signals(views)
    expected = [(t - np.mean(row)) / np.std(row, ddof=1) for t, row in zip(target, out, strict=True)]
    np.testing.assert_allclose(lira_offline.score(views), expected, rtol=1e-5)


@pytest.mark.parametrize("attack", [lira_offline, bavaria])
def test_one_shadow_gives_the_order_of_the_difference(attack):
    views = some_views(n_shadows=1)
    target, out = slow_signals(views)
    difference = [t - row[0] for t, row in zip(target, out, strict=True)]
    assert stats.spearmanr(attack.score(views), difference).statistic == pytest.approx(1)


def of_both(target, out, seen) -> Views:
    """The same with shadows that saw the record: [N, K] each."""
    views = of_signals(target, out)
    within = {f"shadow_in/{k}": scores_of(special.log_expit(each)[:, None]) for k, each in enumerate(seen.T)}
    return Views({**views.scores, **within}, views.facts)


@pytest.mark.parametrize("n_shadows", [1, 4, OWN_VARIANCE_FROM])
def test_online_lira_equals_the_loop(n_shadows):
    rng = np.random.default_rng(6)
    target, out, seen = (
        rng.normal(-3, 1, 20),
        rng.normal(-3, 0.3, (20, n_shadows)),
        rng.normal(-2, 0.5, (20, n_shadows)),
    )
    own_out, own_in = (
        [1.0] * 20 if n_shadows == 1 else [np.var(row, ddof=1) for row in signals] for signals in (out, seen)
    )
    if n_shadows < OWN_VARIANCE_FROM:
        own_out, own_in = [np.mean(own_out)] * 20, [np.mean(own_in)] * 20
    expected = [
        stats.norm.logpdf(target[i], seen[i].mean(), math.sqrt(own_in[i]))
        - stats.norm.logpdf(target[i], out[i].mean(), math.sqrt(own_out[i]))
        for i in range(20)
    ]
    np.testing.assert_allclose(lira_online.score(of_both(target, out, seen)), expected, rtol=1e-5, atol=1e-7)


def test_online_lira_reaches_its_closed_form_power_where_offline_lira_is_blind_to_hard_records():
    """Members gain an amount of the record's own, which only shadows that saw it can know."""
    rng = np.random.default_rng(8)
    n, n_shadows, noise = 6000, 60, 0.5
    middle, gain = rng.normal(-4, 0.3, n), np.where(rng.random(n) < 0.5, 3.0, 0.1)
    is_member = np.arange(n) < n // 2
    target = middle + gain * is_member + noise * rng.standard_normal(n)
    out = middle[:, None] + noise * rng.standard_normal((n, n_shadows))
    seen = out + gain[:, None]
    views = of_both(target, out, seen)
    area = auc(lira_online.score(views)[is_member], lira_online.score(views)[~is_member])
    # With known means the statistic is N(±d²/2, d²) for d = gain / noise: Φ of half a normal mixture's distance.
    deviation = gain / noise
    draws = rng.standard_normal((2, 400_000))
    d = rng.choice(deviation, (2, 400_000))
    expected = float(np.mean(d[0] ** 2 / 2 + d[0] * draws[0] > -(d[1] ** 2) / 2 + d[1] * draws[1]))
    assert area == pytest.approx(expected, abs=0.015)
    assert area > auc(lira_offline.score(views)[is_member], lira_offline.score(views)[~is_member]) + 0.01


def test_bavaria_equals_the_loop():
    views = some_views(seed=3, n=50)
    target, out = slow_signals(views)
    variances = np.array([np.var(row, ddof=1) for row in out])
    prior = fit_prior([variances], 4)
    assert math.isfinite(prior.degrees) or prior.variance > 0
    expected = []
    for t, row, own in zip(target, out, variances, strict=True):
        drawn = own * 4 + (prior.degrees * prior.variance if math.isfinite(prior.degrees) else 0)
        variance = drawn / (4 + prior.degrees) if math.isfinite(prior.degrees) else prior.variance
        expected.append((t - np.mean(row)) / math.sqrt(variance * (1 + 1 / 5)))
    np.testing.assert_allclose(bavaria.score(views), expected, rtol=1e-5)


def test_token_lira_equals_the_loop():
    views = some_views(seed=4, n=12, n_tokens=9)
    out = [[[float(s.log_prob[i, t]) for s in views.shadows] for t in range(9)] for i in range(12)]
    variances = np.array([[np.var(row, ddof=1) for row in rows] for rows in out])
    prior = fit_prior([variances], 4)
    drawn = prior.posterior(variances, 4)
    expected = [
        np.mean([(views.target.log_prob[i, t] - np.mean(out[i][t])) / math.sqrt(drawn[i, t]) for t in range(9)])
        for i in range(12)
    ]
    np.testing.assert_allclose(lira_tokens.score(views), expected, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([0.3, 1.0]))
def test_rmia_equals_counting_all_pairs(seed, n_shadows, a):
    views = some_views(seed, n=25, n_shadows=n_shadows)

    def ratio(i):
        p = [math.exp(np.mean(s.log_prob[i])) for s in (views.target, *views.shadows)]
        return p[0] / (((1 + a) * np.mean(p[1:]) + (1 - a)) / 2)

    ratios = [ratio(i) for i in range(25)]
    np.testing.assert_allclose(np.exp(log_likelihood_ratio(views, a=a)), ratios, rtol=1e-5)
    if a == 1.0:
        expected = [np.mean([x / z >= 1 - 1e-9 for z in ratios]) for x in ratios]
        np.testing.assert_allclose(rmia.score(views), expected)


@pytest.mark.parametrize("name", ["error_zone", "window_vote", "paired_t", "reference_difference", "reference_ratio"])
def test_twins_take_the_shadows_mean_for_the_reference(name):
    views = some_views(seed=6)
    mean = np.mean([shadow.log_prob for shadow in views.shadows], axis=0)
    given = Views({"target": views.target, "reference": scores_of(mean)}, views.facts)
    np.testing.assert_allclose(ATTACKS[f"shadow_{name}"].score(views), ATTACKS[name].score(given), rtol=1e-9)
    np.testing.assert_allclose(mean_of_shadows(views).log_prob, mean)


# --- closed forms -------------------------------------------------------------------------------------


def auc(members, nonmembers):
    return stats.mannwhitneyu(members, nonmembers).statistic / (len(members) * len(nonmembers))


@pytest.mark.parametrize("n_shadows", [2, 4, 16])
def test_power_on_gaussian_models_is_the_closed_form(n_shadows):
    """φ of a record differs from record to record far more than from model to model; training adds d to it."""
    rng = np.random.default_rng(n_shadows)
    n, gain, spread = 4000, 0.5, 0.4
    own = 2.0 * rng.standard_normal(2 * n)
    target = own + spread * rng.standard_normal(2 * n) + gain * (np.arange(2 * n) < n)
    views = of_signals(target - 6, own[:, None] - 6 + spread * rng.standard_normal((2 * n, n_shadows)))
    expected = stats.norm.cdf(gain / (spread * math.sqrt(2 * (1 + 1 / n_shadows))))
    for attack in (lira_offline, bavaria):
        scores = attack.score(views)
        assert auc(scores[:n], scores[n:]) == pytest.approx(expected, abs=0.02 if attack is lira_offline else 0.05)
    alone = confidence(views.target)
    assert auc(alone[:n], alone[n:]) < expected - 0.05


def test_shrunken_variances_win_where_records_differ_in_theirs():
    """Records whose φ scatters widely among models are told apart from those whose does not."""
    rng = np.random.default_rng(8)
    n = 6000
    spread = 0.3 * np.sqrt(3 / rng.chisquare(3, 2 * n))[:, None]
    noise = spread * rng.standard_normal((2 * n, 9))
    target = noise[:, 0] + 0.6 * (np.arange(2 * n) < n)
    views = of_signals(target - 5, noise[:, 1:] - 5)

    def found(attack):
        scores = attack.score(views)
        return np.mean(scores[:n] > np.quantile(scores[n:], 0.99))

    assert found(bavaria) > 1.3 * found(lira_offline)


@pytest.mark.parametrize(("degrees", "prior_degrees", "variance"), [(3, 8.0, 0.3), (1, 4.0, 2.0), (7, 30.0, 0.01)])
def test_the_prior_is_recovered(degrees, prior_degrees, variance):
    rng = np.random.default_rng(9)
    true = variance * prior_degrees / rng.chisquare(prior_degrees, 100_000)
    seen = true * rng.chisquare(degrees, len(true)) / degrees
    found = fit_prior(np.array_split(seen, 7), degrees)
    assert found.variance == pytest.approx(variance, rel=0.05)
    assert found.degrees == pytest.approx(prior_degrees, rel=0.15)


def test_equal_variances_are_taken_for_one():
    seen = np.random.default_rng(1).chisquare(4, 5000) / 4
    found = fit_prior([seen], 4)
    assert found.degrees > 100
    assert found.posterior(np.array([0.1, 9.0]), 4) == pytest.approx([1, 1], abs=0.4)
    assert fit_prior([], 4) == Prior(1.0, math.inf)


# --- over stored evidence -----------------------------------------------------------------------------


def test_the_population_is_all_records_whatever_their_length():
    short, long = some_views(1, n=9, n_tokens=4), some_views(2, n=7, n_tokens=11)
    n_tokens = np.repeat([4, 11], [9, 7])
    tables = {}
    for name in short:
        fields = [field.name for field in dataclasses.fields(TokenScores) if field.name != "log_sum_exps"]
        columns = {f: np.concatenate([getattr(v[name], f).ravel() for v in (short, long)]) for f in fields}
        offsets = np.concatenate([[0], np.cumsum(n_tokens)])
        tables[name] = TokenTable(columns, offsets, np.ones(offsets[-1], bool), np.ones(16, int), ["ok"] * 16)
    facts = RecordFacts(np.full(16, 500), np.full(16, 250))
    for attack in (lira_offline, bavaria, lira_tokens, rmia):
        found = score_attacks([attack], tables, facts)[attack.name]
        assert found.error is None
        score = attack.fit([short, long])
        np.testing.assert_allclose(found.scores, np.concatenate([score(short), score(long)]), rtol=1e-6)
        assert not np.allclose(found.scores[:9], attack.score(short))


def test_an_attack_that_hangs_or_fails_while_it_learns_does_not_stop_the_others():
    views = some_views(n=4, n_tokens=3, n_shadows=2)
    fields = [field.name for field in dataclasses.fields(TokenScores) if field.name != "log_sum_exps"]
    ends = np.arange(5) * 3
    tables = {
        name: TokenTable(
            {f: getattr(scores, f).ravel() for f in fields}, ends, np.ones(12, bool), np.ones(4, int), ["ok"] * 4
        )
        for name, scores in views.items()
    }

    def fail(_):
        raise ZeroDivisionError("on purpose")

    stuck, broken = (
        FittedAttack(name, fit, ("target", "shadow/0"), "s", "s", "c")
        for name, fit in (("stuck", lambda _: time.sleep(5)), ("broken", fail))
    )
    found = score_attacks([stuck, broken, lira_offline], tables, views.facts, timeout=0.3)
    assert found["stuck"].error == "gave no result within 0.3 s"
    assert found["broken"].error == "ZeroDivisionError: on purpose"
    assert np.isnan([found["stuck"].scores, found["broken"].scores]).all()
    np.testing.assert_allclose(found["lira_offline"].scores, lira_offline.score(views))


def test_rmia_takes_memory_for_ranks_alone():
    import tracemalloc

    n = 20_000
    rng = np.random.default_rng(0)
    views = of_signals(rng.standard_normal(n) - 4, rng.standard_normal((n, 4)) - 4)
    tracemalloc.start()
    scores = rmia.score(views)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20
    assert scores.min() > 0
    assert scores.max() == 1
