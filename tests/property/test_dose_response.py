"""Dose-response curves: fast path against obvious loops, censoring, and what resamples are worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import dose_ratio, draw_records, effective_dose, fit_dose_response
from loraudit.statistics.dose_response import isotonic

NAN = math.nan


def constant(rates, n: int = 100, n_runs: int = 1) -> np.ndarray:
    """[D, S, N] outcomes with these rates exactly, up to 1 / n; the same in all runs."""
    hits = np.arange(n) < np.round(np.asarray(rates)[:, None] * n)
    return np.repeat(hits[:, None].astype(float), n_runs, axis=1)


def curve(exposures, hits, floor=None, *, draws=None, seed: int = 0, n_resamples: int = 200, **more):
    rng = np.random.default_rng(seed)
    hits = np.asarray(hits, dtype=float)
    floor = np.zeros(hits.shape[1:]) if floor is None else floor
    draws = draw_records(hits.shape[2], n_resamples, np.random.default_rng(99)) if draws is None else draws
    return fit_dose_response(np.asarray(exposures, dtype=float), hits, floor, record_draws=draws, rng=rng, **more)


# ---------------------------------------------------------------------------------------------
# The curve
# ---------------------------------------------------------------------------------------------


def pooled(values, weights) -> list[float]:
    """Pool adjacent violators, one by one."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, one, n), (second, two, m) = blocks[-2:]
            blocks[-2:] = [[(first * one + second * two) / (one + two), one + two, n + m]]
    return [value for value, _, n in blocks for _ in range(int(n))]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), min_size=1, max_size=8))
def test_isotonic_equals_pooling(pairs):
    values, weights = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    assert isotonic(values[None], weights)[0] == pytest.approx(pooled(values, weights))


def crossed(exposures, rates, floor, ceiling, share) -> float:
    """Exposures by an obvious walk; −inf below and inf above the doses tested."""
    level = floor + share * (ceiling - floor)
    if rates[0] >= level - 1e-9:
        return -math.inf
    for before, after in zip(range(len(rates)), range(1, len(rates)), strict=False):
        if rates[after] >= level - 1e-9:
            part = (level - rates[before]) / (rates[after] - rates[before])
            return exposures[before] * (exposures[after] / exposures[before]) ** min(1, part)
    return math.inf


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=7), st.integers(0, 8), st.sampled_from([0.2, 0.5, 0.9, 1.0]))
def test_effective_doses_equal_a_walk_along_the_curve(counts, n_floor, share):
    exposures = 4.0 * 3.0 ** np.arange(len(counts))
    floor = (np.arange(20) < n_floor).astype(float)[None]
    found = effective_dose(curve(exposures, constant(np.array(counts) / 20, 20), floor), share)
    place = crossed(exposures, pooled(np.array(counts) / 20, np.ones(len(counts))), n_floor / 20, 1.0, share)
    assert found.bound == {math.inf: "above", -math.inf: "below"}.get(place)
    if math.isfinite(place):
        assert found.finding.value == pytest.approx(place)
        assert found.finding.lower <= found.finding.value
        assert found.finding.upper is None or found.finding.value <= found.finding.upper
    else:
        assert found.finding.value is None


def test_half_the_effect_by_hand():
    # Half lies midway between .25 and .75, and midway between 2 and 4 exposures is √8.
    rates = constant([0, 0.25, 0.75, 1])
    assert effective_dose(curve([1, 2, 4, 8], rates), 0.5).finding.value == pytest.approx(math.sqrt(8))
    # From a floor of .2 it is at .6: .7 of the way from .25 to .75.
    floor = constant([0.2])[0]
    assert effective_dose(curve([1, 2, 4, 8], rates, floor), 0.5).finding.value == pytest.approx(2 * 2**0.7)
    # To a ceiling of .5 it is at .25, which the second dose has.
    assert effective_dose(curve([1, 2, 4, 8], rates, ceiling=0.5), 0.5).finding.value == pytest.approx(2)


def test_more_poison_does_not_do_less():
    found = curve([1, 2, 4], constant([0.2, 0.6, 0.4]))
    assert found.rates == pytest.approx([0.2, 0.5, 0.5])
    assert (np.diff(found.drawn_rates, axis=1) >= -1e-12).all()


# ---------------------------------------------------------------------------------------------
# Beyond the doses tested
# ---------------------------------------------------------------------------------------------


def test_no_dose_reaches_it():
    found = effective_dose(curve([1, 2, 4], constant([0, 0.1, 0.2])), 0.5)
    assert (found.finding.value, found.bound) == (None, "above")
    assert found.finding.upper is None
    assert found.finding.lower <= 4
    assert "No dose tested reaches it: more than 4 exposures" in found.finding.note
    assert "no upper end" in found.finding.note


def test_the_smallest_dose_exceeds_it():
    found = effective_dose(curve([3, 6], constant([0.9, 1])), 0.5)
    assert (found.finding.value, found.finding.lower, found.bound) == (None, 0, "below")
    assert found.finding.upper == pytest.approx(3)
    assert "fewer than 3 exposures" in found.finding.note


def test_a_floor_at_the_ceiling_leaves_nothing():
    found = effective_dose(curve([3, 6], constant([0.9, 1]), constant([1])[0]), 0.5)
    assert (found.finding.value, found.bound) == (None, None)
    assert "The floor of 1 leaves nothing to rise to 1" in found.finding.note


def test_an_interval_is_open_where_resamples_lie_beyond():
    found = effective_dose(curve([1, 2, 4], constant([0, 0.2, 0.52], n=40)), 0.5)
    assert found.bound is None
    assert found.finding.value < 4
    assert found.finding.upper is None
    assert "no upper end" in found.finding.note


def test_between_all_and_nothing_the_place_is_not_known():
    found = effective_dose(curve([1, 16], constant([0, 1]), n_resamples=4000), 0.5).finding
    assert found.value == pytest.approx(4)
    # Anywhere between 1 and 16: 2.5 % and 97.5 % of the way are 16^.025 = 1.07 and 16^.975 = 14.9.
    assert found.lower == pytest.approx(1.07, abs=0.02)
    assert found.upper == pytest.approx(14.93, abs=0.3)


BELOW, INSIDE, ABOVE = [0.9, 1, 1], [0, 0.5, 1], [0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("first", "second", "bound", "note"),
    [
        (ABOVE, INSIDE, "above", "More than 2: a dose lies beyond"),  # more than 16 over 8
        (INSIDE, ABOVE, "below", "Less than 0.5: a dose lies beyond"),
        (BELOW, INSIDE, "below", "Less than 0.5: a dose lies beyond"),  # less than 4 over 8
        (INSIDE, BELOW, "above", "More than 2: a dose lies beyond"),
        (ABOVE, BELOW, "above", "More than 4: a dose lies beyond"),  # more than 16 over less than 4
        (BELOW, ABOVE, "below", "Less than 0.25: a dose lies beyond"),
        (ABOVE, ABOVE, None, "the same side of those tested"),
        (BELOW, BELOW, None, "the same side of those tested"),
    ],
)
def test_ratios_with_a_dose_beyond_those_tested_have_bounds(first, second, bound, note):
    curves = (curve([4, 8, 16], constant(rates), seed=seed) for seed, rates in enumerate((first, second)))
    found = dose_ratio(*curves, 0.5)
    assert (found.finding.value, found.bound) == (None, bound)
    assert note in found.finding.note


def test_a_ratio_to_a_floor_at_the_ceiling_is_unknown():
    found = dose_ratio(curve([1, 2], constant(BELOW[:2])), curve([1, 2], constant([1, 1]), constant([1])[0]), 0.5)
    assert (found.finding.value, found.bound) == (None, None)
    assert "leaves nothing to rise: the ratio is unknown" in found.finding.note


# ---------------------------------------------------------------------------------------------
# Ratios and resamples
# ---------------------------------------------------------------------------------------------


def noisy(rng, centre: float, exposures, n_runs: int, n: int) -> np.ndarray:
    of_records = rng.normal(size=n)
    rates = 1 / (1 + np.exp(-2 * (np.log(np.asarray(exposures))[:, None, None] - centre - of_records)))
    return (rng.random((len(exposures), n_runs, n)) < rates).astype(float)


def test_twice_the_exposures_for_the_same_outcomes_is_a_ratio_of_two():
    exposures = np.array([4.0, 8, 16, 32, 64])
    hits = noisy(np.random.default_rng(3), math.log(16), exposures, 3, 200)
    found = dose_ratio(curve(2 * exposures, hits, seed=1), curve(exposures, hits, seed=2), 0.5).finding
    assert found.value == pytest.approx(2)
    assert 1 < found.lower < 2 < found.upper < 4


def test_pairing_records_narrows_a_ratio():
    exposures = np.array([4.0, 8, 16, 32, 64, 128])
    # Each record has a dose of its own, the same for both: only pairing sees that they differ by two throughout.
    own = np.random.default_rng(0).permutation(np.exp(np.linspace(0.5, 4.8, 60)))
    hits = (exposures[:, None, None] > own).astype(float)
    paired = [curve(scale * exposures, hits, seed=seed, n_resamples=1000) for seed, scale in ((1, 2.0), (2, 1.0))]
    other = draw_records(60, 1000, np.random.default_rng(5))
    apart = paired[0].drawn_rates, curve(exposures, hits, draws=other, seed=2).drawn_rates
    spread = np.std(paired[0].drawn_rates - paired[1].drawn_rates, axis=0)
    assert (spread < 1e-9).all()
    assert (np.std(apart[0] - apart[1], axis=0) > 0.03).any()


def test_runs_spread_as_students_t():
    # One dose, three runs of rates .4, .5, .6 on records that all agree in share: the mean moves by t₂ · .1/√3.
    n = 20_000
    hits = np.stack([constant([rate], 10)[0, 0] for rate in (0.4, 0.5, 0.6)])[None]
    draws = np.ones((n, 10), dtype=np.float32)
    found = curve([1], hits, draws=draws).drawn_rates[:, 0]
    for level in (0.8, 0.9):
        assert np.quantile(found, level) == pytest.approx(0.5 + 0.1 / math.sqrt(3) * stats.t.ppf(level, 2), abs=0.006)


def test_resampled_records_equal_repeating_them():
    rng = np.random.default_rng(0)
    hits = rng.random((3, 1, 12))
    hits[1, 0, 4] = NAN
    found = curve([1, 2, 3], hits, n_resamples=20)
    for draw, rates in zip(found.record_draws.astype(int), found.drawn_rates, strict=True):
        means = [np.nanmean(np.repeat(hits[dose, 0], draw)) for dose in range(3)]
        assert rates == pytest.approx(pooled(means, np.ones(3)), abs=1e-6)


def test_undefined_outcomes_are_counted():
    hits = constant([0, 0.5, 1], n_runs=2)
    hits[1, 0, 3] = NAN
    hits[2, 1] = NAN  # a run that was not made at this dose
    found = curve([1, 2, 4], hits)
    assert (found.n_undefined, found.n_runs) == (1, 1)
    half = effective_dose(found, 0.5).finding
    assert (half.n_nonmembers, half.n_undefined_nonmembers) == (99, 1)
    assert "one training run" in half.note


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exposures", [[0, 1, 2], [1, 1, 2], [2, 1, 4]])
def test_doses_that_do_not_rise_are_refused(exposures):
    with pytest.raises(ValueError, match="do not rise from above 0"):
        curve(exposures, constant([0, 0.5, 1]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"do not fit\. Expected \[D\], \[D, S, N\], \[S, N\] and \[B, N\]"):
        curve([1, 2], constant([0, 0.5, 1]))
    with pytest.raises(ValueError, match="do not fit"):
        curve([1, 2], constant([0, 1]), draws=np.ones((5, 99), dtype=np.float32))


def test_a_dose_without_a_value_is_refused():
    hits = constant([0, 0.5, 1])
    hits[1] = NAN
    with pytest.raises(ValueError, match="A dose or the floor has no defined value"):
        curve([1, 2, 4], hits)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_shares_out_of_range_are_refused(share):
    found = curve([1, 2], constant([0, 1]))
    with pytest.raises(ValueError, match=r"is out of range\. Expected a number in"):
        effective_dose(found, share)
    with pytest.raises(ValueError, match="is out of range"):
        dose_ratio(found, found, share)


def test_curves_of_other_resamples_are_not_compared():
    other = draw_records(100, 200, np.random.default_rng(1))
    with pytest.raises(ValueError, match="The curves have different resamples"):
        dose_ratio(curve([1, 2], constant([0, 1])), curve([1, 2], constant([0, 1]), draws=other), 0.5)


# ---------------------------------------------------------------------------------------------
# Coverage
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("n_runs", "tau", "steepness"), [(3, 0.3, 2.0), (3, 0.3, 10.0), (1, 0.0, 2.0), (3, 0.0, 10.0)])
def test_intervals_hold_the_dose_and_the_ratio(n_runs, tau, steepness):
    rng = np.random.default_rng(0)
    exposures = 8.0 * 2 ** np.arange(8)
    n_trials, held = 200, np.zeros(2)
    for _ in range(n_trials):
        centre = rng.uniform(math.log(20), math.log(300))
        draws = draw_records(200, 500, rng)
        curves = []
        for shift in (math.log(2), 0.0):
            # Symmetric about the centre on the log scale: half of the effect is reached there on average.
            own = centre + shift + tau * rng.normal(size=(8, n_runs, 1)) + 0.2 * rng.normal(size=200)
            rates = 1 / (1 + np.exp(-steepness * (np.log(exposures)[:, None, None] - own)))
            hits = (rng.random(rates.shape) < rates).astype(float)
            floor = np.zeros((n_runs, 200))
            curves.append(fit_dose_response(exposures, hits, floor, record_draws=draws, rng=rng))
        dose = effective_dose(curves[1], 0.5).finding
        ratio = dose_ratio(*curves, 0.5).finding
        for i, (found, truth) in enumerate(((dose, math.exp(centre)), (ratio, 2.0))):
            held[i] += found.lower <= truth and (found.upper is None or truth <= found.upper)
    assert (held >= stats.binom.ppf(0.001, n_trials, 0.95)).all()
