"""Places along training equal what walking from checkpoint to checkpoint finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.statistics import at_epoch, common_level, crossing, mean_over_runs, reach

INF, NAN = math.inf, math.nan

losses = st.one_of(st.integers(0, 6).map(float), st.floats(0.5, 8))
unknown = st.sampled_from([NAN, INF, -INF])
fits = st.lists(st.one_of(losses, losses, losses, unknown), min_size=0, max_size=8).map(lambda x: np.array(x, float))
known_fits = st.lists(losses, min_size=1, max_size=8).map(np.array)


@st.composite
def reached(draw, fit=fits):
    """A run and a level that it reaches."""
    run = draw(fit.filter(lambda fit: reach(fit) is not None))
    lowest, highest = reach(run)
    share = draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
    return run, min(highest, max(lowest, lowest + share * (highest - lowest)))


def slow_crossing(fit, level: float) -> dict[int, float] | None:
    """Walk along the checkpoints that have a fit; the weights that are not 0."""
    before: int | None = None
    for k, value in enumerate(fit):
        if not math.isfinite(value):
            continue
        if value == level:
            return {k: 1.0}
        if value < level:
            if before is None:
                return None
            share = (fit[before] - level) / (fit[before] - value)  # of the way from `before` to k
            return {before: 1 - share, k: share}
        before = k
    return None


def position(weights) -> float:
    return float(weights @ np.arange(len(weights)))


# ---------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------


@given(fits, st.one_of(losses, st.just(NAN)))
def test_crossing_equals_a_walk_along_the_checkpoints(fit, level):
    found, expected = crossing(fit, level), slow_crossing(fit, level)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        slow = np.zeros(len(fit))
        for k, weight in expected.items():
            slow[k] = weight
        np.testing.assert_allclose(found, slow, atol=1e-12)


@given(reached())
def test_weights_are_a_place_between_neighbours_whose_fit_is_the_level(run):
    fit, level = run
    weights = crossing(fit, level)
    used = np.flatnonzero(weights)
    assert 1 <= len(used) <= 2
    assert (weights[used] > 0).all()
    assert weights.sum() == pytest.approx(1)
    assert weights[used] @ fit[used] == pytest.approx(level)
    assert not np.isfinite(fit[used[0] + 1 : used[-1]]).any()
    earlier = fit[: used[-1]]
    assert (earlier[np.isfinite(earlier)] > level).all()


@given(fits, losses)
def test_a_run_has_a_place_at_every_level_it_reaches_and_at_no_other(fit, level):
    passed = reach(fit)
    assert (crossing(fit, level) is not None) == (passed is not None and passed.lowest <= level <= passed.highest)


@given(reached(), fits)
def test_what_comes_after_does_not_matter(run, later):
    fit, level = run
    longer = crossing(np.concatenate([fit, later]), level)
    np.testing.assert_array_equal(longer, np.concatenate([crossing(fit, level), np.zeros(len(later))]))


@given(known_fits, losses, st.data())
def test_a_checkpoint_without_a_fit_is_one_that_was_not_saved(fit, level, data):
    at = data.draw(st.integers(0, len(fit)))
    longer = np.insert(fit, at, data.draw(unknown))
    weights, padded = crossing(fit, level), crossing(longer, level)
    assert (weights is None) == (padded is None)
    if weights is not None:
        assert padded[at] == 0
        np.testing.assert_array_equal(np.delete(padded, at), weights)


@given(reached(known_fits), st.floats(0, 1))
def test_a_better_fit_is_never_reached_earlier(run, share):
    fit, level = run
    lower = min(level, max(fit.min(), level - share * (level - fit.min())))
    assert position(crossing(fit, level)) <= position(crossing(fit, lower)) + 1e-9


@pytest.mark.parametrize(
    ("fit", "level", "expected"),
    [
        ([4.0, 3.0, 2.0], 3.0, [0, 1, 0]),  # an exact hit
        ([4.0, 3.0, 2.0], 2.5, [0, 0.5, 0.5]),
        ([4.0, 2.0, 2.0, 1.0], 2.0, [0, 1, 0, 0]),  # the beginning of a plateau
        ([4.0, 3.0, 3.0, 2.0], 2.5, [0, 0, 0.5, 0.5]),  # the end of one
        ([4.0, 2.0, 3.0, 1.0], 2.5, [0.25, 0.75, 0, 0]),  # the first descent
        ([4.0, 5.0, 3.0], 4.5, None),  # begins below the level, and rises first
        ([4.0, 5.0, 3.0], 4.0, [1, 0, 0]),
        ([4.0, 3.0], 4.0, [1, 0]),
        ([4.0, 3.0], 4.1, None),  # before the first checkpoint nothing is known
        ([4.0, 3.0], 2.9, None),  # never so low
        ([4.0, NAN, 2.0], 3.0, [0.5, 0, 0.5]),
        ([NAN, 4.0, 2.0], 3.0, [0, 0.5, 0.5]),
        ([INF, 2.0], 3.0, None),
        ([4.0, 2.0, INF], 3.0, [0.5, 0.5, 0]),
        ([NAN, NAN], 3.0, None),
        ([], 3.0, None),
        ([4.0, 3.0], NAN, None),
    ],
)
def test_crossing_worked_by_hand(fit, level, expected):
    found = crossing(np.array(fit), level)
    assert (None if found is None else found.tolist()) == expected


def test_a_place_reads_off_epochs_as_well():
    weights = crossing(np.array([5.0, 4.0, 3.0]), 3.25)
    assert weights @ np.array([0.0, 2.0, 6.0]) == pytest.approx(5.0)


# ---------------------------------------------------------------------------------------------
# Several runs
# ---------------------------------------------------------------------------------------------


@given(st.lists(known_fits, min_size=1, max_size=4))
def test_the_common_level_is_the_lowest_that_every_run_reaches(runs):
    level = common_level(runs)
    if level is None:
        levels = {value for fit in runs for value in fit}
        assert not any(all(crossing(fit, value) is not None for fit in runs) for value in levels)
    else:
        assert all(crossing(fit, level) is not None for fit in runs)
        assert any(crossing(fit, level - 1e-6) is None for fit in runs)


def test_common_level_worked_by_hand():
    assert common_level([np.array([4.0, 2.0, 3.0]), np.array([4.0, 2.5, NAN])]) == 2.5
    assert common_level([np.array([4.0, 3.0]), np.array([2.5, 2.0])]) is None  # the second begins below
    assert common_level([np.array([4.0, 3.0]), np.array([NAN])]) is None
    assert common_level([]) is None


def test_an_epoch_at_which_nothing_was_saved_has_no_place():
    epochs = np.array([0.0, 0.1 + 0.2, 1.0, 1.0])
    assert at_epoch(epochs, 0.3).tolist() == [0, 1, 0, 0]
    assert at_epoch(epochs, 1).tolist() == [0, 0, 1, 0]
    assert at_epoch(epochs, 0.5) is None


@given(st.lists(reached(), min_size=1, max_size=4), st.integers(0, 3))
def test_averaging_over_runs_averages_what_is_read_off_each(runs, n_more):
    places = [crossing(fit, level) for fit, level in runs]
    first_rows = np.cumsum([0, *(len(place) for place in places)])
    n_rows = int(first_rows[-1]) + n_more
    values = np.random.default_rng(0).normal(size=n_rows)
    weights = mean_over_runs(places, first_rows[:-1].tolist(), n_rows)
    each = [place @ values[first : first + len(place)] for place, first in zip(places, first_rows, strict=False)]
    assert weights.sum() == pytest.approx(1)
    assert weights @ values == pytest.approx(np.mean(each))
