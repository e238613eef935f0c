"""A LoRA model that is really trained goes where the kernel from its parts says, and a full one likewise."""

import math

import numpy as np
import pytest

from loraudit.theory import (
    KernelParts,
    check_linearity,
    decompose,
    full_kernel,
    lora_kernel,
    lora_scale,
    predicted_change,
    squared_flow,
)

N, P, OUT, WIDTH, RANKS, DRAWS = 10, 6, 3, 8, (1, 2, 4), 2
TIMES = np.array([0.0, 3.0, 30.0])
RATE, SMALL = 0.05, 200


def setting(seed=0):
    """f_i = ⟨G_i, W⟩ of one map: N trained records and P others, A of variance 1 / n, and the parts of all of them."""
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((N + P, OUT, WIDTH))
    w, y = 0.2 * rng.standard_normal((OUT, WIDTH)), rng.choice([-1.0, 1.0], N)
    a = rng.standard_normal((DRAWS, max(RANKS), WIDTH)) / math.sqrt(WIDTH)
    values = np.einsum("ikn,kn->i", g, w)
    moved = np.einsum("ikn,drn->drik", g, a)
    lora = np.cumsum(np.einsum("drik,drjk->drij", moved, moved), axis=1)[:, [rank - 1 for rank in RANKS]]
    gram = np.einsum("ikn,jkn->ij", g, g)
    parts = KernelParts(
        values=values,
        weights={"map": gram},
        biases={},
        others={},
        head=np.zeros_like(gram),
        lora={"map": lora},
        ranks=RANKS,
        family="gaussian",
        head_kinds=frozenset(),
    )
    return g, w, y, a, parts


def predicted(kernel, parts, y):
    return squared_flow(
        decompose(kernel[:N, :N]),
        kernel[:, :N],
        targets=y,
        initial_train=parts.values[:N],
        initial=parts.values,
        times=TIMES,
        learning_rate=RATE,
    )


def descend(g, y, weight_of, start, move):
    """[T, N + P] f along gradient descent of a mean squared loss in steps `SMALL` times smaller."""
    state, found, done = start, [], 0
    for time in TIMES:
        for _ in range(round(time * SMALL) - done):
            f = np.einsum("ikn,kn->i", g[:N], weight_of(state))
            state = move(state, RATE / SMALL * np.einsum("i,ikn->kn", y - f, g[:N]) / N)
        done = round(time * SMALL)
        found.append(np.einsum("ikn,kn->i", g, weight_of(state)))
    return np.array(found)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("scaling", ["alpha/r", "alpha/sqrt(r)"])
def test_lora_with_frozen_a(rank, scaling):
    g, w, y, a, parts = setting()
    alpha, c = 3.0, 0.5
    s, first = lora_scale(rank, alpha, scaling), math.sqrt(c) * a[1, :rank]
    slow = descend(g, y, lambda b: w + s * b @ first, np.zeros((OUT, rank)), lambda b, step: b + s * step @ first.T)
    kernel = lora_kernel(parts, rank=rank, alpha=alpha, variance=c, draw=1, with_head=False, scaling=scaling)
    found = predicted(kernel, parts, y)
    assert np.abs(found - found[0]).max() > 0.3  # it learns something
    np.testing.assert_allclose(found, slow, atol=3e-3)


def test_full_tuning():
    g, w, y, _, parts = setting()
    slow = descend(g, y, lambda weight: weight, w, lambda weight, step: weight + step)
    np.testing.assert_allclose(predicted(full_kernel(parts), parts, y), slow, atol=5e-3)


def test_lora_that_moves_a_too_leaves_its_kernel_as_steps_grow():
    """Two steps of size η from B = 0: the second moves A as well, which the kernel at the start does not know."""
    g, w, y, a, parts = setting()
    rank, alpha = 2, 4.0
    s, kernel = lora_scale(rank, alpha), lora_kernel(parts, rank=2, alpha=alpha, variance=1.0, draw=0, with_head=False)
    after, change = {}, {}
    for rate in (1e-3, 1e-2, 1e-1):
        b, first = np.zeros((OUT, rank)), a[0, :rank].copy()
        linear = parts.values.copy()
        for _ in range(2):
            f = np.einsum("ikn,kn->i", g, w + s * b @ first)
            step = rate * s * np.einsum("i,ikn->kn", y - f[:N], g[:N]) / N
            b, first = b + step @ first.T, first + b.T @ step
            linear = linear + predicted_change(kernel[:, :N], y - linear[:N], learning_rate=rate)
        after[rate] = np.einsum("ikn,kn->i", g, w + s * b @ first)
        change[rate] = linear - parts.values
    found = check_linearity(parts.values, after, change, limit=0.3)
    small, middle, large = (error.value for error in found.errors.values())
    assert small < 1e-4
    assert small < middle < large
