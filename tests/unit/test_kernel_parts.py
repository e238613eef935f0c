"""The kernel of every tuning method is put together from parts as the definition of the method says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.errors import ConfigError, DataError
from loraudit.theory import (
    KernelParts,
    bitfit_kernel,
    full_kernel,
    head_kernel,
    lora_kernel,
    lora_kernel_error,
    lora_scale,
)

RANKS = (1, 2, 4)
M, OUT, DRAWS = 5, 3, 6
WIDTHS = {"layer.*.query": 7, "layer.*.value": 4, "classifier": 6}


def gradients(seed=0):
    """By kind, [m, out, n] gradients of the weight; and those of the bias of the head and of a norm."""
    rng = np.random.default_rng(seed)
    return {kind: rng.standard_normal((M, OUT, width)) for kind, width in WIDTHS.items()} | {
        "classifier.bias": rng.standard_normal((M, OUT)),
        "norm.bias": rng.standard_normal((M, 4)),
        "norm.weight": rng.standard_normal((M, 4)),
    }


def first_matrices(seed=1):
    """By adapted kind, [draws, r, n] rows of variance 1 / n."""
    rng = np.random.default_rng(seed)
    return {
        kind: rng.standard_normal((DRAWS, max(RANKS), width)) / math.sqrt(width)
        for kind, width in WIDTHS.items()
        if kind != "classifier"
    }


def gram(rows):
    flat = rows.reshape(len(rows), -1)
    return flat @ flat.T


def parts_of(g, a, **changes):
    lora = {
        kind: np.array([[gram(g[kind] @ one[:rank].T) for rank in RANKS] for one in drawn]) for kind, drawn in a.items()
    }
    fields = {
        "values": np.zeros(M),
        "weights": {kind: gram(g[kind]) for kind in WIDTHS},
        "biases": {"classifier": gram(g["classifier.bias"]), "norm": gram(g["norm.bias"])},
        "others": {"norm": gram(g["norm.weight"])},
        "head": gram(g["classifier"]) + gram(g["classifier.bias"]),
        "lora": lora,
        "ranks": RANKS,
        "family": "gaussian",
        "head_kinds": frozenset({"classifier"}),
    }
    return KernelParts(**{**fields, **changes})


PARTS = parts_of(gradients(), first_matrices())


def test_full_tuning_is_the_gram_matrix_of_all_gradients():
    every = np.concatenate([one.reshape(M, -1) for one in gradients().values()], axis=1)
    np.testing.assert_allclose(full_kernel(PARTS), every @ every.T, rtol=1e-12)


def test_head_and_biases():
    g = gradients()
    head = np.concatenate([g["classifier"].reshape(M, -1), g["classifier.bias"]], axis=1)
    np.testing.assert_allclose(head_kernel(PARTS), head @ head.T, rtol=1e-12)
    np.testing.assert_allclose(
        bitfit_kernel(PARTS, with_head=False), gram(g["norm.bias"]) + gram(g["classifier.bias"]), rtol=1e-12
    )
    np.testing.assert_allclose(bitfit_kernel(PARTS), gram(g["norm.bias"]) + head @ head.T, rtol=1e-12)


def test_the_head_handed_out_is_not_that_of_the_parts():
    head_kernel(PARTS)[:] = 0
    assert PARTS.head.any()


@pytest.mark.parametrize("scaling", ["alpha/r", "alpha/sqrt(r)"])
@pytest.mark.parametrize("rank", RANKS)
def test_lora_is_the_gram_matrix_of_the_gradients_of_b(rank, scaling):
    """f = ⟨G, s·B·A⟩, so the gradient of B is s·G Aᵀ, with A = √c times the rows of variance 1 / n."""
    g, a = gradients(), first_matrices()
    alpha, c, draw = 8.0, 1 / 3, 2
    s = alpha / rank if scaling == "alpha/r" else alpha / math.sqrt(rank)
    of_b = [s * g[kind] @ (math.sqrt(c) * rows[draw, :rank]).T for kind, rows in a.items()]
    every = np.concatenate([one.reshape(M, -1) for one in of_b], axis=1)
    asked = {"rank": rank, "alpha": alpha, "variance": c, "draw": draw, "scaling": scaling}
    np.testing.assert_allclose(lora_kernel(PARTS, with_head=False, **asked), every @ every.T, rtol=1e-11)
    np.testing.assert_allclose(lora_kernel(PARTS, **asked), every @ every.T + PARTS.head, rtol=1e-11)


def test_kinds_add_up_and_draws_average():
    asked = {"rank": 2, "alpha": 4.0, "variance": 1.0, "with_head": False}
    apart = [lora_kernel(PARTS, kinds=[kind], **asked) for kind in PARTS.lora]
    np.testing.assert_allclose(lora_kernel(PARTS, **asked), sum(apart), rtol=1e-12)
    draws = [lora_kernel(PARTS, draw=draw, **asked) for draw in range(DRAWS)]
    np.testing.assert_allclose(lora_kernel(PARTS, **asked), np.mean(draws, axis=0), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(c=st.floats(1e-4, 2), alpha=st.floats(0.1, 64), rank=st.sampled_from(RANKS))
def test_variance_and_alpha_change_the_size_alone(c, alpha, rank):
    one = lora_kernel(PARTS, rank=rank, alpha=1.0, variance=1.0, with_head=False)
    other = lora_kernel(PARTS, rank=rank, alpha=alpha, variance=c, with_head=False)
    np.testing.assert_allclose(other, alpha**2 * c * one, rtol=1e-10)


def test_the_error_over_draws_is_that_of_a_slow_loop():
    asked = {"rank": 2, "alpha": 3.0, "variance": 0.5}
    draws = [lora_kernel(PARTS, draw=draw, **asked) for draw in range(DRAWS)]
    mean = sum(draws) / DRAWS
    variance = sum(((one - mean) ** 2).sum() for one in draws) / (DRAWS - 1)
    expected = math.sqrt(variance / DRAWS) / np.linalg.norm(mean)
    assert lora_kernel_error(PARTS, **asked) == pytest.approx(expected, rel=1e-10)
    assert lora_kernel_error(PARTS, with_head=False, **asked) > lora_kernel_error(PARTS, **asked)


def test_an_error_that_nothing_shows_is_undefined():
    lone = parts_of(gradients(), {kind: rows[:1] for kind, rows in first_matrices().items()})
    assert math.isnan(lora_kernel_error(lone, rank=1, alpha=1, variance=1))
    still = parts_of({kind: 0 * one for kind, one in gradients().items()}, first_matrices())
    assert math.isnan(lora_kernel_error(still, rank=1, alpha=1, variance=1))


def test_parts_without_lora_still_have_the_other_kernels():
    plain = parts_of(gradients(), {})
    assert (plain.n_draws, plain.n_records) == (0, M)
    np.testing.assert_allclose(full_kernel(plain), full_kernel(PARTS))
    with pytest.raises(ConfigError, match="No kind of module carries an adapter"):
        lora_kernel(plain, rank=1, alpha=1, variance=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": 3}, "Rank 3 was not measured. Expected one of: 1, 2, 4"),
        ({"rank": 0}, "Rank 0 is too small"),
        ({"alpha": 0.0}, "Alpha 0.0 is not above 0"),
        ({"alpha": math.nan}, "Alpha nan is not above 0"),
        ({"variance": -1.0}, "Variance -1.0 is not above 0"),
        ({"kinds": ["layer.*.qery"]}, r"Unknown kind of module 'layer.\*.qery'. Did you mean 'layer.\*.query'"),
        ({"kinds": []}, "No kind of module carries an adapter"),
        ({"draw": 6}, "Draw 6 was not measured. Expected one of 0 to 5"),
        ({"draw": -1}, "Draw -1 was not measured"),
        ({"scaling": "alpha"}, "Unknown scaling of LoRA 'alpha'"),
    ],
)
def test_what_was_not_measured_is_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        lora_kernel(PARTS, **{"rank": 2, "alpha": 1.0, "variance": 1.0, **changed})


def test_every_misfit_is_listed():
    lora = {"layer.*.query": np.zeros((2, 3, M, M)), "classifier": np.zeros((2, 1, M, M))}
    with pytest.raises(DataError, match="do not fit each other") as caught:
        parts_of(gradients(), {}, head=np.zeros((M, 2)), biases={"norm": np.zeros(3)}, lora=lora, ranks=(4, 2, 2))
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    assert "head has the shape [5, 2]; expected [5, 5]." in text
    assert "biases of 'norm' has the shape [3]" in text
    assert "lora of 'classifier' has the shape [2, 1, 5, 5]; expected [2, 3, 5, 5]." in text
    assert "lora holds 'classifier', which belongs to the head" in text
    assert "ranks are [4, 2, 2]" in text


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match=r"Unknown family of initialisation 'gausian'\. Did you mean 'gaussian'"):
        parts_of(gradients(), {}, family="gausian")


def test_scales_by_hand():
    assert lora_scale(8, 16) == 2.0
    assert lora_scale(4, 16, "alpha/sqrt(r)") == 8.0
