"""Lower bounds on ε, and exposure_bits, against published values, slow loops and mechanisms of known ε."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import epsilon_from_guesses, exposure_bits, guess_inclusion, rank_p_values


def slow_tail(m, r, v, epsilon, delta):
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    pmf = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    beta = sum(pmf[v:])
    alpha = max((sum(pmf[max(0, v - i) : v]) / i for i in range(1, m + 1)), default=0.0)
    return beta + 2 * m * delta * alpha


@pytest.mark.parametrize(("delta", "expected"), [(1e-5, 3.49), (0.0, -math.log(0.05 ** (-1 / 100) - 1))])
def test_the_ceiling_of_a_hundred_guesses(delta, expected):
    found = epsilon_from_guesses(100, 100, 100, delta=delta)
    assert found.epsilon == found.ceiling == pytest.approx(expected, abs=0.005)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.data(), st.sampled_from([0.0, 1e-5, 1e-3]), st.sampled_from([0.9, 0.95]))
def test_the_bound_is_where_the_slow_tail_meets_the_level(m, data, delta, confidence):
    r = data.draw(st.integers(1, m))
    v = data.draw(st.integers(0, r))
    found = epsilon_from_guesses(m, r, v, delta=delta, confidence=confidence)
    if found.epsilon == 0:
        assert slow_tail(m, r, v, 0.0, delta) >= 1 - confidence - 1e-9
    else:
        assert slow_tail(m, r, v, found.epsilon, delta) == pytest.approx(1 - confidence, rel=1e-4)
    assert found.epsilon <= found.ceiling


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_randomised_response_is_rarely_overstated_and_nearly_reached(epsilon):
    """Each answer is right with probability e^ε / (1 + e^ε): the mechanism that meets the bound."""
    rng = np.random.default_rng(0)
    right = rng.binomial(1000, 1 / (1 + math.exp(-epsilon)), size=300)
    by_count = {int(v): epsilon_from_guesses(1000, 1000, int(v), delta=0.0).epsilon for v in np.unique(right)}
    found = np.array([by_count[int(v)] for v in right])
    assert np.mean(found > epsilon) <= stats.binom(300, 0.05).ppf(0.999) / 300
    q = 1 / (1 + math.exp(-epsilon))
    assert np.median(found) > epsilon - 2.2 / math.sqrt(1000 * q * (1 - q))


def test_guessing_by_chance_proves_nothing():
    assert epsilon_from_guesses(200, 200, 100, delta=1e-5).epsilon == 0


def test_a_larger_delta_proves_less():
    bounds = [epsilon_from_guesses(500, 500, 400, delta=delta).epsilon for delta in (0, 1e-6, 1e-4, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("numbers", [(10, 11, 5), (10, 5, 6), (10, 5, -1)])
def test_impossible_counts_are_refused(numbers):
    with pytest.raises(ValueError, match="is impossible"):
        epsilon_from_guesses(*numbers, delta=0.0)
    with pytest.raises(ValueError, match="Expected δ in"):
        epsilon_from_guesses(10, 5, 5, delta=1.0)


def test_guesses_are_the_ends_of_the_order():
    scores = np.array([0.1, 0.9, np.nan, 0.5, 0.8])
    included = np.array([False, True, False, True, False])
    assert guess_inclusion(scores, included, 2) == 2  # 0.9 included, NaN left out
    assert guess_inclusion(scores, included, 3) == 2  # 0.8 was left out
    assert guess_inclusion(scores, included, 5) == 4
    assert guess_inclusion(scores, included, 0) == 0
    with pytest.raises(ValueError, match="6 guesses about 5 records are too many"):
        guess_inclusion(scores, included, 6)


def test_exposure_and_its_p_value_count_ranks():
    ranks = np.array([1, 2, 500, 1000])
    np.testing.assert_allclose(exposure_bits(ranks, 1000), [math.log2(1000 / r) for r in ranks])
    np.testing.assert_allclose(rank_p_values(ranks, 1000), [0.001, 0.002, 0.5, 1.0])
