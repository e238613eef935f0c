"""Size and shape of kernels: worked by hand, against scipy, and under changes of scale."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.errors import ConfigError, DataError
from loraudit.theory import (
    ORDERS,
    decompose,
    fisher_kernel,
    kernel_spectrum,
    log_determinant,
    normalised,
    renyi_entropy,
    top_energy,
)


def random_kernel(n, width, seed=0):
    features = np.random.default_rng(seed).standard_normal((n, width))
    return features @ features.T


def test_a_spectrum_worked_by_hand():
    """λ = 4, 2, 1, 1, 0: p = ½, ¼, ⅛, ⅛; H_1 = 1.75 log 2; Σp² = 11/32."""
    found = kernel_spectrum(np.diag([1.0, 4.0, 0.0, 2.0, 1.0]))
    assert found.eigenvalues.tolist() == [4.0, 2.0, 1.0, 1.0, 0.0]
    assert (found.trace, found.speed, found.n_records, found.rounding_share) == (8.0, 1.6, 5, 0.0)
    half = math.log(math.sqrt(1 / 2) + 1 / 2 + 2 * math.sqrt(1 / 8)) * 2
    expected = [math.log(4), half, 1.75 * math.log(2), math.log(32 / 11), math.log(2)]
    assert [found.entropies[order] for order in ORDERS] == pytest.approx(expected)
    assert found.effective_rank == pytest.approx(2**1.75)
    assert found.participation_ratio == pytest.approx(32 / 11)
    assert [top_energy(found, k) for k in (1, 2, 5)] == [0.5, 0.75, 1.0]
    assert log_determinant(found, 2.0) == pytest.approx(math.log(3 * 2 * 1.5 * 1.5))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 9), width=st.integers(1, 12), ridge=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_figures_are_those_of_the_definitions(n, width, ridge, seed):
    kernel = random_kernel(n, width, seed)
    found = kernel_spectrum(kernel)
    p = np.linalg.svd(kernel, compute_uv=False) / np.trace(kernel)
    assert found.entropies[1.0] == pytest.approx(stats.entropy(p), abs=1e-9)
    assert found.entropies[2.0] == pytest.approx(-math.log((p**2).sum()), abs=1e-9)
    assert found.entropies[math.inf] == pytest.approx(-math.log(p.max()), abs=1e-9)
    assert found.entropies[0.0] == pytest.approx(math.log(min(n, width)))
    assert found.participation_ratio == pytest.approx(np.trace(kernel) ** 2 / (kernel**2).sum())
    sign, expected = np.linalg.slogdet(np.eye(n) + kernel / ridge)
    assert sign == 1
    assert log_determinant(found, ridge) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 9), scale=st.floats(1e-12, 1e12), seed=st.integers(0, 99))
def test_scale_changes_the_size_alone(n, scale, seed):
    kernel = random_kernel(n, n + 1, seed)
    one, other = kernel_spectrum(kernel), kernel_spectrum(scale * kernel)
    assert other.trace == pytest.approx(scale * one.trace, rel=1e-9)
    assert other.speed == pytest.approx(other.trace / n)
    assert list(other.entropies.values()) == pytest.approx(list(one.entropies.values()), abs=1e-8)
    assert other.effective_rank == pytest.approx(one.effective_rank, rel=1e-8)
    assert top_energy(other, 2) == pytest.approx(top_energy(one, 2), rel=1e-9)
    np.testing.assert_allclose(normalised(scale * kernel), normalised(kernel), rtol=1e-9, atol=1e-15)


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(any))
def test_entropies_fall_with_their_order_and_stay_in_range(values):
    found = [renyi_entropy(np.array(values), order) for order in (0, 0.3, 0.5, 0.999, 1, 1.001, 2, 5, math.inf)]
    assert all(low <= high + 1e-9 for high, low in pairwise(found))
    assert 0 <= found[-1] <= found[0] <= math.log(len(values))


def test_a_kernel_of_zeros_has_a_size_and_no_shape():
    found = kernel_spectrum(np.zeros((3, 3)))
    assert (found.trace, found.speed, log_determinant(found, 1.0)) == (0.0, 0.0, 0.0)
    shape = [*found.entropies.values(), found.effective_rank, found.participation_ratio, found.rounding_share]
    assert all(math.isnan(one) for one in [*shape, top_energy(found, 1)])
    assert np.isnan(normalised(np.zeros((2, 2)))).all()


def test_rounding_of_single_precision_is_no_rank():
    """A kernel of rank 3 whose entries were rounded: what rounding added is set to 0, and its share is stated."""
    exact = random_kernel(60, 3)
    rounded = exact.astype(np.float32).astype(np.float64)
    found = kernel_spectrum(rounded)
    assert np.linalg.eigvalsh(rounded)[0] < 0
    assert 3 <= round(math.exp(found.entropies[0.0])) <= 6
    assert 0 < found.rounding_share < 1e-5
    assert found.effective_rank == pytest.approx(kernel_spectrum(exact).effective_rank, rel=1e-5)
    values = np.linalg.eigvalsh(rounded)
    dust = values[values <= -values[0]]
    assert found.rounding_share == pytest.approx(np.abs(dust).sum() / np.abs(values).sum(), rel=1e-6)


def test_a_decomposition_gives_the_kernel_back():
    kernel = random_kernel(6, 8)
    found = decompose(kernel)
    np.testing.assert_allclose(found.vectors @ np.diag(found.values) @ found.vectors.T, kernel, atol=1e-12)
    assert (np.diff(found.values) <= 0).all()
    assert (found.most_negative, found.negative_share) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.zeros((2, 3)), r"Kernel has the shape \[2, 3\]. Expected \[m, m\]"),
        (np.zeros((0, 0)), r"Kernel has the shape \[0, 0\]"),
        (np.zeros(4), r"Kernel has the shape \[4\]"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "Kernel holds 2 values that are not finite"),
        (np.array([[np.inf]]), "Kernel holds 1 values that are not finite"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "Kernel is not symmetric: mirrored entries differ by 0.1"),
        (np.diag([1.0, -0.01]), "Kernel has the eigenvalue -0.01 beside a largest of 1"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel, message):
    with pytest.raises(DataError, match=message):
        kernel_spectrum(kernel)


def test_the_fisher_information_has_the_same_eigenvalues():
    """Against the explicit Σ p(1 − p) ∇f ∇fᵀ over parameters."""
    rng = np.random.default_rng(3)
    jacobian, margins = rng.standard_normal((5, 8)), rng.normal(0, 2, 5)
    information = np.zeros((8, 8))
    for gradient, margin in zip(jacobian, margins, strict=True):
        p = 1 / (1 + math.exp(-margin))
        information += p * (1 - p) * np.outer(gradient, gradient)
    found = kernel_spectrum(fisher_kernel(jacobian @ jacobian.T, margins))
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(information)[::-1][:5], rtol=1e-9)


def test_a_record_the_base_is_sure_of_counts_nothing():
    assert fisher_kernel(np.eye(2), np.array([0.0, 800.0])).tolist() == [[0.25, 0.0], [0.0, 0.0]]


def test_settings_out_of_range_are_refused():
    spectrum = kernel_spectrum(np.eye(3))
    for ridge in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=rf"Ridge {ridge} is not above 0"):
            log_determinant(spectrum, ridge)
    for k in (0, 4):
        with pytest.raises(ConfigError, match=rf"Number of eigenvalues {k} is out of range. Expected 1 to 3"):
            top_energy(spectrum, k)
    for order in (-1, math.nan):
        with pytest.raises(ConfigError, match=rf"Order {order} of an entropy is out of range"):
            renyi_entropy(np.ones(2), order)
    with pytest.raises(DataError, match="Eigenvalues hold some below 0"):
        renyi_entropy(np.array([1.0, -1.0]), 1)
    for margins in (np.zeros(2), np.array([0.0, np.nan, 0.0])):
        with pytest.raises(DataError, match="do not go with a kernel over 3 records"):
            fisher_kernel(np.eye(3), margins)
