"""Macro F1 over training runs: an obvious loop, intervals that hold the truth, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from loraudit.statistics import f1_lost, f1_over_runs, macro_f1

ASKED = {"confidence": 0.95, "n_resamples": 400}


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=12))
def test_counted_records_are_repeated_records(rows):
    gold, predicted, counts = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if not counts.any():
        return
    many = np.repeat(np.arange(len(gold)), counts.astype(int))
    there = [c for c in np.unique(gold) if c in gold[many] or c in predicted[many]]
    wanted = f1_score(gold[many], predicted[many], labels=there, average="macro", zero_division=0.0)
    assert macro_f1(gold, predicted, counts[None])[0] == pytest.approx(wanted)


def test_the_mean_over_runs_has_its_interval_and_n():
    gold = np.repeat([0.0, 1.0, 2.0], [60, 30, 10])
    runs = []
    for seed in range(3):
        wrong = rng(seed).random(100) < 0.1 + 0.05 * seed
        runs.append(np.where(wrong, (gold + 1) % 3, gold))
    found = f1_over_runs([[(1.0, run)] for run in runs], gold, rng=rng(), **ASKED)
    each = [f1_score(gold, run, average="macro") for run in runs]
    assert found.per_run == pytest.approx(each)
    assert found.finding.value == pytest.approx(np.mean(each))
    assert found.finding.lower < min(each)
    assert found.finding.upper > found.finding.value
    assert found.finding.n_nonmembers == 100
    assert "spread of 3 runs" in found.finding.method
    one = f1_over_runs([[(1.0, runs[0])]], gold, rng=rng(), **ASKED).finding
    assert one.upper - one.lower < found.finding.upper - found.finding.lower


def test_a_place_between_two_checkpoints_lies_between_their_scores():
    gold, first = np.array([0.0, 1] * 20), np.zeros(40)
    found = f1_over_runs([[(0.25, first), (0.75, gold)]], gold, rng=rng(), **ASKED)
    assert found.finding.value == pytest.approx(0.25 * f1_score(gold, first, average="macro") + 0.75)


def test_a_score_of_one_still_has_an_interval():
    gold = np.array([0.0, 1] * 20)
    found = f1_over_runs([[(1.0, gold)]], gold, rng=rng(), **ASKED).finding
    assert found.upper == 1
    assert found.lower == pytest.approx(0.05 ** (1 / 20))


def test_arms_that_agree_on_records_lose_nothing_and_pairing_makes_it_narrow():
    gold = np.array([0.0, 1] * 200)
    clean = np.where(rng(1).random(400) < 0.2, 1 - gold, gold)
    same = f1_lost([[(1.0, clean)]], [[(1.0, clean)]], gold, rng=rng(), **ASKED)
    assert same.value == 0
    assert -0.02 < same.lower < 0 < same.upper < 0.02
    worse = clean.copy()
    worse[:40] = 1 - gold[:40]
    lost = f1_lost([[(1.0, worse)]], [[(1.0, clean)]], gold, rng=rng(), **ASKED)
    apart = f1_over_runs([[(1.0, worse)]], gold, rng=rng(), **ASKED).finding
    assert lost.value == pytest.approx(f1_score(gold, clean, average="macro") - f1_score(gold, worse, average="macro"))
    assert lost.lower > 0
    assert lost.upper - lost.lower < apart.upper - apart.lower
    assert lost.method.endswith("paired by seed and record")
    with pytest.raises(ValueError, match="shorter"):
        f1_lost([[(1.0, clean)]] * 2, [[(1.0, clean)]], gold, rng=rng(), **ASKED)


def test_what_is_not_defined_is_left_out_and_counted():
    gold = np.array([0.0, 1] * 10)
    holed, nothing = gold.copy(), np.full(20, np.nan)
    holed[3] = np.nan
    found = f1_over_runs([[(1.0, gold)], [(1.0, holed)], [(1.0, nothing)]], gold, rng=rng(), **ASKED)
    assert found.per_run == (1.0, 1.0, None)
    assert (found.finding.n_nonmembers, found.finding.n_undefined_nonmembers) == (19, 1)
    assert "1 of 3 runs define nothing" in found.finding.note
    nowhere = f1_over_runs([[(1.0, nothing)]], gold, rng=rng(), **ASKED)
    assert nowhere.finding.value is None
    assert nowhere.per_run == (None,)
    assert f1_lost([[(1.0, nothing)]], [[(1.0, gold)]], gold, rng=rng(), **ASKED).value is None


def test_intervals_hold_the_truth():
    """60 % against 40 %, right in 80 % and in 70 %: F1 of the population from its shares."""
    hits, said = np.array([0.48, 0.28]), np.array([0.48 + 0.12, 0.28 + 0.12])
    truth = float(np.mean(2 * hits / (np.array([0.6, 0.4]) + said)))
    n_held, draw = 0, rng(8)
    for _ in range(200):
        gold = (draw.random(150) < 0.4).astype(float)
        predicted = np.where(draw.random(150) < np.where(gold == 1, 0.7, 0.8), gold, 1 - gold)
        found = f1_over_runs([[(1.0, predicted)]], gold, rng=draw, **ASKED).finding
        n_held += found.lower <= truth <= found.upper
    assert n_held >= 180
