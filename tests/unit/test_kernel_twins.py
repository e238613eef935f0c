"""Twins and alignments: by hand, against slow loops, whatever the size of the kernel; and how often intervals hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.errors import DataError
from loraudit.theory import (
    centred_alignment,
    jackknife,
    kernel_cosine,
    label_alignments,
    over_draws,
    row_cosines,
    training_time_robustness,
)


def random_kernel(n, width, seed=0):
    features = np.random.default_rng(seed).standard_normal((n, width))
    return features @ features.T


def slow_cosine(first, second):
    dot = sum(a * b for a, b in zip(first.ravel(), second.ravel(), strict=True))
    return dot / math.sqrt(sum(a * a for a in first.ravel()) * sum(b * b for b in second.ravel()))


def test_the_proxy_worked_by_hand():
    kernel = np.array([[9.0, 0, 1, 0], [0, 9, 0, -4], [1, 0, 9, 0], [0, -4, 0, 9]])
    found = training_time_robustness(kernel, np.array([0, 1]), np.array([2, 3]))
    half = stats.t.ppf(0.975, 1) * 2.5  # the mean of 1 and −4 is −1.5, its error 2.5
    assert (found.value, found.n) == (1.5, 2)
    assert found.interval == pytest.approx((0.0, 1.5 + half))
    narrow = training_time_robustness(kernel, np.array([0, 1]), np.array([2, 3]), confidence=0.1)
    half = stats.t.ppf(0.55, 1) * 2.5
    assert narrow.interval == pytest.approx((1.5 - half, 1.5 + half))


def test_the_proxy_without_twins_and_with_one():
    nothing, one = (training_time_robustness(np.eye(3) * 2, np.arange(n), np.arange(n)) for n in (0, 1))
    assert math.isnan(nothing.value)
    assert nothing.n == 0
    assert (one.value, one.n) == (2.0, 1)
    assert math.isnan(one.interval.lower)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 7), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 50))
def test_cosines_are_those_of_slow_loops_and_know_no_size(n, scale, seed):
    first, second = random_kernel(n, 3, seed), random_kernel(n, 4, seed + 1)
    found = kernel_cosine(scale * first, second)
    assert found.value == pytest.approx(slow_cosine(first, second), rel=1e-9)
    assert found.n == n
    h = np.eye(n) - np.ones((n, n)) / n
    centred = centred_alignment(first, scale * second)
    assert centred.value == pytest.approx(slow_cosine(h @ first @ h, h @ second @ h), rel=1e-7, abs=1e-9)
    assert training_time_robustness(scale * first, np.array([0]), np.array([1])).value == pytest.approx(
        scale * abs(first[0, 1])
    )


def test_a_kernel_is_aligned_with_itself():
    kernel = random_kernel(6, 3)
    for found in (kernel_cosine(kernel, 5 * kernel), centred_alignment(kernel, 5 * kernel)):
        assert found.value == pytest.approx(1.0)
        assert found.interval == pytest.approx((1.0, 1.0))


def test_rows_of_twins():
    """Rows (4, 0, 3, 0) and (3, 0, 4, 0): cosine 24/25; over the records 0 and 1 alone 1."""
    kernel = np.array([[4.0, 0, 3, 0], [0, 1, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    found = row_cosines(kernel, np.array([0, 1]), np.array([2, 3]))
    assert found[0] == pytest.approx(24 / 25)
    assert np.isnan(found[1])
    some = row_cosines(kernel, np.array([0]), np.array([2]), columns=np.array([0, 1]))
    assert some == pytest.approx([1.0])


def test_labels_by_hand():
    """K = yyᵀ of the clean labels y; the poison flips one of four: ⟨y, ỹ⟩²/(‖y‖²‖ỹ‖²) once centred is 4/(4·3)."""
    clean, poisoned = np.array([1.0, 1, -1, -1]), np.array([1.0, 1, 1, -1])
    found = label_alignments(7 * np.outer(clean, clean), clean, poisoned)
    assert found.clean.value == pytest.approx(1.0)
    assert found.poisoned.value == pytest.approx(1 / 3)
    assert found.poisoned.n == 4


def test_alignment_with_labels_is_centred():
    constant = label_alignments(np.ones((4, 4)) + np.eye(4), np.ones(4), np.array([1.0, 1, 1, -1]))
    assert math.isnan(constant.clean.value)
    assert not math.isnan(constant.poisoned.value)
    assert math.isnan(kernel_cosine(np.zeros((2, 2)), np.eye(2)).value)
    assert math.isnan(centred_alignment(np.full((3, 3), 0.1), np.eye(3)).value)


def test_the_jackknife_of_a_mean_is_students_t():
    values = np.random.default_rng(0).normal(size=30)
    found = jackknife(lambda kept: float(values[kept].mean()), 30, confidence=0.9)
    assert found.interval == pytest.approx(stats.t.interval(0.9, 29, values.mean(), stats.sem(values)))
    assert found.n == 30


@pytest.mark.parametrize("order", ["sorted", "alternating", "mixed"])
def test_groups_of_the_jackknife_are_of_all_kinds(order):
    """The mean of two kinds with fixed shares varies within kinds alone, whatever order they stand in."""
    rng = np.random.default_rng(3)
    n = 2000
    kind = {"sorted": np.arange(n) < n // 2, "alternating": np.arange(n) % 2 == 0, "mixed": rng.random(n) < 0.5}[order]
    values = 10.0 * kind + rng.normal(size=n)
    kept_once = np.zeros(n, dtype=int)

    def figure(kept):
        kept_once[kept] += 1
        return float(values[kept].mean() - 10 * kind[kept].mean())

    found = jackknife(figure, n)
    assert (kept_once == 50).all()  # the whole, and all groups but its own
    half = (found.interval.upper - found.interval.lower) / 2
    assert half == pytest.approx(2.01 / math.sqrt(n), rel=0.3)
    if order != "mixed":
        with_kinds = jackknife(lambda kept: float(values[kept].mean()), n)
        half = (with_kinds.interval.upper - with_kinds.interval.lower) / 2
        assert half < 2 * 2.01 / math.sqrt(n)  # groups of one kind would make it thirty times as wide


def test_intervals_of_an_alignment_hold_it():
    """The alignment in the limit of many records: ⟨Σ_1, Σ_2⟩ of features with covariances that are known."""
    rng = np.random.default_rng(1)
    width = 4
    mix = rng.standard_normal((width, width))
    cross, own = np.sum(mix**2), np.linalg.norm(mix @ mix.T)
    truth = cross / (math.sqrt(width) * own)
    held = 0
    for _ in range(100):
        features = rng.standard_normal((60, width))
        other = features @ mix
        found = centred_alignment(features @ features.T, other @ other.T)
        held += found.interval.lower <= truth <= found.interval.upper
    assert held / 100 >= 0.88


def test_a_jackknife_without_spread():
    assert jackknife(lambda kept: 1.0, 0).n == 0
    assert math.isnan(jackknife(lambda kept: 1.0, 1).interval.lower)
    undefined = jackknife(lambda kept: 1.0 if len(kept) == 3 else math.nan, 3)
    assert undefined.value == 1.0
    assert math.isnan(undefined.interval.lower)


def test_means_over_draws_are_students_t():
    values = np.random.default_rng(2).normal(size=(5, 3))
    found = over_draws(values, confidence=0.9)
    lower, upper = stats.t.interval(0.9, 4, values.mean(axis=0), stats.sem(values))
    np.testing.assert_allclose([found.values, found.lower, found.upper], [values.mean(axis=0), lower, upper])
    assert found.n == 5
    one = over_draws(values[:1])
    assert np.isnan(one.lower).all()
    np.testing.assert_allclose(one.values, values[0])
    with pytest.raises(DataError, match="No draw has a figure"):
        over_draws(np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: kernel_cosine(k, np.eye(2)), "Kernels over 3 and 2 records cannot be compared"),
        (lambda k: kernel_cosine(k, np.zeros((2, 3))), "Second kernel has the shape"),
        (lambda k: row_cosines(k, np.array([0]), np.array([1, 2])), "1 clean and 2 poisoned records are no pairs"),
        (lambda k: row_cosines(k, np.array([0]), np.array([3])), "Positions of records do not fit a kernel over 3"),
        (lambda k: row_cosines(k, np.array([-1]), np.array([0])), "Expected a list of numbers from 0 to 2"),
        (lambda k: label_alignments(k, np.ones(3), np.ones(2)), r"Labels of shape \[2\] do not go with"),
        (lambda k: label_alignments(k, np.array([1, np.nan, 1]), np.ones(3)), "one finite number per record"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call(np.eye(3))
