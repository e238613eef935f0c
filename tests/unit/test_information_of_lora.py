"""Formulas of LoRA's information geometry against simulation, and against numbers worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.errors import ConfigError, DataError
from loraudit.theory import (
    corrected_second_entropy,
    expected_lora_kernel,
    expected_participation,
    function_space_speed,
    published_first_entropy,
    published_second_entropy,
    relative_noise,
    relative_noise_of_sequences,
    second_moment,
)


def draws_of(family, n_draws, rank, width, sigma, seed=0):
    """[n_draws, rank, width] matrices A."""
    rng = np.random.default_rng(seed)
    if family == "gaussian":
        return sigma * rng.standard_normal((n_draws, rank, width))
    if family == "uniform":
        return sigma * rng.uniform(-math.sqrt(3), math.sqrt(3), (n_draws, rank, width))
    bases = np.linalg.qr(rng.standard_normal((n_draws, width, rank)))[0]
    return sigma * math.sqrt(width) * bases.transpose(0, 2, 1)


SHAPES = [(family, rank, 6) for family in ("gaussian", "uniform", "orthogonal") for rank in (1, 3)]


@pytest.mark.parametrize(("family", "rank", "width"), [*SHAPES, ("gaussian", 6, 4), ("uniform", 6, 4)])
def test_the_second_moment_is_that_of_simulation(family, rank, width):
    a = draws_of(family, 40_000, rank, width, 0.7)
    grams = a @ a.transpose(0, 2, 1)
    found = (grams**2).sum(axis=(1, 2))  # tr((AAᵀ)²) = tr((AᵀA)²)
    expected = second_moment(rank=rank, width=width, entry_variance=0.49, family=family)
    assert abs(found.mean() - expected) < 4.5 * found.std() / math.sqrt(len(found)) + 1e-9
    traces = np.trace(grams, axis1=1, axis2=2)
    first = math.exp(published_first_entropy(rank=rank, width=width, entry_variance=0.49).value)
    assert abs(traces.mean() - first) < 4.5 * traces.std() / math.sqrt(len(found)) + 1e-9


@pytest.mark.parametrize("family", ["gaussian", "uniform"])
def test_the_published_second_entropy_is_of_the_diagonal_alone(family):
    a = draws_of(family, 40_000, 3, 6, 0.7)
    diagonal = ((a**2).sum(axis=1) ** 2).sum(axis=1)
    found = published_second_entropy(rank=3, width=6, entry_variance=0.49, family=family)
    error = 4.5 * diagonal.std() / math.sqrt(len(diagonal))
    assert abs(diagonal.mean() - math.exp(found.value)) < error
    assert abs(diagonal.mean() - second_moment(rank=3, width=6, entry_variance=0.49, family=family)) > 10 * error


def test_published_numbers_by_hand():
    """r = 8, n = 768, σ² = 1/2304: H1' = log(8/3); r(r + 2) = 80, (4·8 + 5·64)/5 = 70.4, σ⁴ n = 1/6912."""
    asked = {"rank": 8, "width": 768, "entry_variance": 1 / 2304}
    assert published_first_entropy(**asked).value == pytest.approx(math.log(8 / 3))
    gaussian, uniform = (published_second_entropy(**asked, family=name) for name in ("gaussian", "uniform"))
    assert gaussian.value == pytest.approx(math.log(80 / 6912))
    assert uniform.value == pytest.approx(math.log(70.4 / 6912))
    assert (gaussian.status, uniform.status) == ("published", "published")
    assert gaussian.formula == "H2' = log(r (r + 2) σ⁴ n)"
    assert uniform.formula == "H2' = log((4r + 5r²)/5 · σ⁴ n)"


def test_corrected_numbers_by_hand():
    """n + r − 2 + κ = 777 (Gaussian), 775.8 (uniform): E tr((AᵀA)²) = 8 · 777 / 6912."""
    asked = {"rank": 8, "width": 768, "entry_variance": 1 / 2304}
    found = corrected_second_entropy(**asked)
    assert (found.value, found.status) == (pytest.approx(math.log(8 * 777 / 6912)), "corrected")
    uniform = corrected_second_entropy(**asked, family="uniform")
    assert uniform.value == pytest.approx(math.log(8 * 775.8 / 6912))
    assert corrected_second_entropy(**asked, family="orthogonal").value == pytest.approx(math.log(8 * 768 / 6912))
    assert expected_participation(rank=8, width=768).value == pytest.approx(8 * 768 / 777)
    assert expected_participation(rank=8, width=768, family="orthogonal").value == pytest.approx(8)


@given(rank=st.integers(1, 64), width=st.integers(64, 4096), variance=st.floats(1e-6, 10), factor=st.floats(0.01, 100))
def test_variance_moves_both_entropies_and_no_participation(rank, width, variance, factor):
    one, other = ({"rank": rank, "width": width, "entry_variance": v} for v in (variance, factor * variance))
    assert published_first_entropy(**other).value - published_first_entropy(**one).value == pytest.approx(
        math.log(factor), abs=1e-9
    )
    for entropy in (published_second_entropy, corrected_second_entropy):
        assert entropy(**other).value - entropy(**one).value == pytest.approx(2 * math.log(factor), abs=1e-9)
    # The logarithm of (tr)² over the second moment, both unnormalised, is that of the participation ratio.
    shape = 2 * published_first_entropy(**other).value - corrected_second_entropy(**other).value
    assert shape == pytest.approx(math.log(expected_participation(rank=rank, width=width).value), abs=1e-9)


@pytest.mark.parametrize("family", ["gaussian", "uniform", "orthogonal"])
def test_mean_and_noise_of_the_kernel_of_sequences_are_those_of_simulation(family):
    rng = np.random.default_rng(5)
    gradients = rng.standard_normal((2, 3, 5)) + 0.4
    rank, alpha, sigma = 4, 6.0, 0.3
    a = draws_of(family, 60_000, rank, 5, sigma, seed=1)
    moved = np.einsum("mkn,drn->dmkr", gradients, a)
    drawn = (alpha / rank) ** 2 * np.einsum("dikr,djkr->dij", moved, moved)
    full = np.einsum("ikn,jkn->ij", gradients, gradients)
    expected = expected_lora_kernel(full, rank=rank, alpha=alpha, entry_variance=sigma**2)
    error = drawn.std(axis=0) / math.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - expected) < 4.5 * error).all()
    if family == "orthogonal":
        return
    noise = relative_noise_of_sequences(gradients[0], gradients[1], rank=rank, family=family)
    assert drawn[:, 0, 1].std() / abs(drawn[:, 0, 1].mean()) == pytest.approx(noise.value, rel=0.02)
    assert noise.status == "ours"


def test_noise_at_one_position_is_that_of_a_sequence_of_one():
    h, other = np.array([3.0, 4.0, 0.0]), np.array([1.0, 2.0, 2.0])
    cosine = 11 / 15
    d = np.array([2.0, -1.0])
    sequences = relative_noise_of_sequences(np.outer(d, h), np.outer(3 * d, other), rank=8)
    assert relative_noise(cosine, rank=8).value == pytest.approx(math.sqrt((1 + 225 / 121) / 8))
    assert sequences.value == pytest.approx(relative_noise(cosine, rank=8).value)
    assert relative_noise(-1.0, rank=8).value == pytest.approx(0.5)


def test_noise_about_a_mean_of_zero():
    assert relative_noise(0.0, rank=4).value == math.inf
    crossed = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert relative_noise_of_sequences(*crossed, rank=4).value == math.inf
    assert math.isnan(relative_noise_of_sequences(np.zeros((1, 2)), np.ones((1, 2)), rank=4).value)


def test_speeds_by_hand():
    asked = {"rank": 4, "alpha": 8.0, "entry_variance": 0.25}
    assert function_space_speed(**asked).value == pytest.approx(8**2 * 0.25 / 4)
    assert function_space_speed(**asked, optimizer="adam").value == pytest.approx(8 * 0.5)
    assert function_space_speed(**asked, scaling="alpha/sqrt(r)").value == pytest.approx(8**2 * 0.25)
    assert function_space_speed(**asked, optimizer="adam", scaling="alpha/sqrt(r)").value == pytest.approx(8 * 2 * 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: published_first_entropy(rank=0, width=4, entry_variance=1), "Rank 0 is too small"),
        (lambda: published_first_entropy(rank=1, width=0, entry_variance=1), "Width 0 is too small"),
        (lambda: published_first_entropy(rank=1, width=4, entry_variance=0.0), "Variance 0.0 is not above 0"),
        (
            lambda: published_second_entropy(rank=1, width=4, entry_variance=1, family="orthogonal"),
            "Unknown family with independent entries 'orthogonal'",
        ),
        (
            lambda: second_moment(rank=5, width=4, entry_variance=1, family="orthogonal"),
            "Rank 5 is too large for orthogonal rows of width 4",
        ),
        (lambda: relative_noise(1.5, rank=2), "Cosine 1.5 is out of range"),
        (lambda: relative_noise(math.nan, rank=2), "Cosine nan is out of range"),
        (lambda: function_space_speed(rank=1, alpha=1, entry_variance=1, optimizer="sdg"), "Did you mean 'sgd'"),
    ],
)
def test_what_has_no_formula_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_gradients_of_two_maps_are_refused():
    with pytest.raises(DataError, match=r"Gradients of shapes \[2, 3\] and \[2, 4\] do not fit"):
        relative_noise_of_sequences(np.zeros((2, 3)), np.zeros((2, 4)), rank=1)
