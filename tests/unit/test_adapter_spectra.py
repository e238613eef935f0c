"""Spectra without the matrix are those of the matrix, and a module that stands out is seen as one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.errors import ModelError
from loraudit.poisoning.deviation import (
    SMALLEST_FAMILY,
    Ordinary,
    deviations,
    family_of,
    largest_of_ordinary,
    robust_z,
    short_names,
    smallest_z,
)
from loraudit.poisoning.spectra import (
    Update,
    dense_values,
    low_rank_values,
    relative_change,
    spectrum_of,
    spectrum_of_update,
)


def factors(rank, out, into, *, seed=0, true_rank=None):
    """[rank, into] and [out, rank] of normal numbers; with `true_rank` rows of A repeat."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rank, into)), rng.standard_normal((out, rank))
    if true_rank is not None:
        a = a[np.arange(rank) % true_rank]
    return a, b


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 9),
    out=st.integers(1, 12),
    into=st.integers(1, 12),
    true_rank=st.integers(1, 9) | st.none(),
    scale=st.floats(-8, 8, allow_nan=False),
    seed=st.integers(0, 1000),
)
def test_values_without_the_matrix_are_those_of_the_matrix(rank, out, into, true_rank, scale, seed):
    a, b = factors(rank, out, into, seed=seed, true_rank=true_rank)
    found = low_rank_values(a, b, scale)
    dense = np.linalg.svd(scale * (b @ a), compute_uv=False)[: min(rank, out, into)]
    assert len(found) == min(rank, out, into)
    np.testing.assert_allclose(found, dense, rtol=1e-6, atol=1e-9 * max(1.0, dense[0]))


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (40, 3)])
def test_values_of_a_matrix_are_those_of_its_decomposition(shape):
    matrix = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_allclose(dense_values(matrix), np.linalg.svd(matrix, compute_uv=False), rtol=1e-10)


def test_what_is_read_off_a_spectrum():
    found = spectrum_of(np.array([3.0, 4.0, 0.0])[[1, 0, 2]])
    assert found.frobenius == pytest.approx(5.0)
    assert found.spectral == 4.0
    assert found.top_share == pytest.approx(16 / 25)
    shares = np.array([4 / 7, 3 / 7])
    assert found.effective_rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_a_change_of_nothing_has_no_shares():
    found = spectrum_of(np.zeros(3))
    assert found.frobenius == found.spectral == 0.0
    assert math.isnan(found.effective_rank)
    assert math.isnan(found.top_share)


def test_tiny_changes_have_the_same_shares_as_large_ones():
    values = np.array([4.0, 3.0])
    assert spectrum_of(1e-200 * values).top_share == pytest.approx(spectrum_of(values).top_share)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 3)), "cannot be multiplied"),
        (np.ones((0, 3)), np.ones((4, 0)), "cannot be multiplied"),
        (np.full((2, 3), np.nan), np.ones((4, 2)), "NaN or infinite"),
    ],
)
def test_factors_that_are_none_are_refused(a, b, message):
    with pytest.raises(ModelError, match=message):
        low_rank_values(a, b, 1.0)
    with pytest.raises(ModelError, match="Module 'q_proj'"):
        spectrum_of_update(Update("q_proj", a, b, 1.0))


# --- against the base ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("has_magnitude", [False, True])
@pytest.mark.parametrize("into", [6, 9])
def test_how_far_a_weight_moves_is_that_of_the_merged_weight(is_transposed, has_magnitude, into):
    a, b = factors(2, 6, into)
    weight = np.random.default_rng(3).standard_normal((6, into))
    merged = weight + 0.5 * b @ a
    magnitude = None
    if has_magnitude:
        magnitude = np.random.default_rng(4).random(6) + 1
        merged = magnitude[:, None] * merged / np.linalg.norm(merged, axis=1, keepdims=True)
    update = Update("m", a, b, 0.5, is_transposed, magnitude)
    found = relative_change(update, weight.T if is_transposed else weight)
    assert found == pytest.approx(np.linalg.norm(merged - weight) / np.linalg.norm(weight))


def test_a_weight_of_zeros_and_one_of_another_shape():
    a, b = factors(2, 4, 5)
    assert math.isnan(relative_change(Update("m", a, b, 1.0), np.zeros((4, 5))))
    with pytest.raises(ModelError, match=r"the base has \[4, 6\]. Give the base it was trained on"):
        relative_change(Update("m", a, b, 1.0), np.ones((4, 6)))


# --- among its kind -----------------------------------------------------------------------------------


def test_families_and_their_short_names():
    names = ["model.layers.0.self_attn.q_proj", "model.layers.11.self_attn.q_proj", "model.layers.0.mlp.up_proj"]
    families = [family_of(name) for name in names]
    assert families[0] == families[1] != families[2]
    assert short_names(families)[families[0]] == "self_attn.q_proj"
    twice = ["encoder.*.q", "decoder.*.q"]
    assert short_names(twice) == {name: name for name in twice}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=4, max_size=12))
def test_robust_z_is_its_definition(values):
    found = robust_z(np.array(values))
    middle = sorted(values)[len(values) // 2] if len(values) % 2 else None
    middle = np.median(values) if middle is None else middle
    spread = 1.4826 * np.median([abs(value - middle) for value in values])
    if spread == 0:
        assert np.isnan(found).all()
    else:
        np.testing.assert_allclose(found, [(value - middle) / spread for value in values], atol=1e-9)


def test_small_families_and_equal_ones_are_undefined():
    assert np.isnan(robust_z(np.array([1.0, 2.0, 9.0]))).all()
    assert np.isnan(robust_z(np.array([1.0, 1.0, 1.0, 9.0]))).all()
    assert np.isnan(robust_z(np.array([1.0, 2.0, 3.0, np.nan]))).all()
    ordinary = Ordinary(np.random.default_rng(0))
    found = deviations({"a": 1.0, "b": 2.0, "c": 0.0}, dict.fromkeys("abc", "f"), ordinary)
    assert all(math.isnan(one.z) and math.isnan(one.p_value) for one in found.values())


def test_a_p_value_is_the_share_of_ordinary_families_with_a_larger_z():
    values = dict(zip("abcdefgh", np.exp([0.1, -0.2, 0.05, 0.3, -0.1, 0.2, -0.25, 2.5]), strict=True))
    found = deviations(values, dict.fromkeys(values, "f"), Ordinary(np.random.default_rng(0)))
    null = largest_of_ordinary(8, np.random.default_rng(0))
    assert found["h"].p_value == pytest.approx((1 + (null >= found["h"].z).sum()) / (1 + len(null)))
    assert found["h"].factor == pytest.approx(values["h"] / np.median(list(values.values())), rel=0.1)
    assert found["h"].p_value < 0.01 < found["a"].p_value


@pytest.mark.parametrize("n", [SMALLEST_FAMILY, 7, 24])
def test_ordinary_families_are_called_unusual_as_often_as_stated(n):
    level, n_families = 0.05, 2000
    bound = smallest_z(n, level, Ordinary(np.random.default_rng(1)))
    rng = np.random.default_rng(2)
    n_flagged = sum(robust_z(rng.standard_normal(n)).max() >= bound for _ in range(n_families))
    error = math.sqrt(level * (1 - level) / n_families)
    assert abs(n_flagged / n_families - level) < 4 * error


def test_no_z_is_enough_where_the_draws_do_not_reach():
    assert math.isnan(smallest_z(8, 1e-6, Ordinary(np.random.default_rng(0))))
    assert math.isnan(smallest_z(SMALLEST_FAMILY - 1, 0.05, Ordinary(np.random.default_rng(0))))
