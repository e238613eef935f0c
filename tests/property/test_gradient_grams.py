"""Inner products of gradients from their factors are those of the gradients, whichever way is taken."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.capture.factors import Held, Lookup, Outer
from loraudit.capture.grams import held_gram, outer_grams, signed_gram

WORKSPACES = st.sampled_from([1, 500, 1 << 24])


def made_outer(rng, counts, k, n):
    owners = np.repeat(np.arange(len(counts)), counts)
    left, right = rng.normal(size=(len(owners), k)), rng.normal(size=(len(owners), n))
    sides = (torch.from_numpy(side.astype(np.float32)) for side in (left, right))
    return Outer(*sides, torch.from_numpy(owners), len(counts))


def made_lookup(rng, n_records, k, n):
    pairs = sorted({(int(rng.integers(k)), int(rng.integers(n_records))) for _ in range(6)})
    ids, owners = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    return Lookup(ids, torch.from_numpy(rng.normal(size=(len(pairs), n)).astype(np.float32)), owners, n_records)


def dense(held, k, n):
    """[b, k, n] the gradients themselves, by loops."""
    found = np.zeros((held.n_records, k, n))
    if held.outer:
        for owner, left, right in zip(held.outer.owners, held.outer.left, held.outer.right, strict=True):
            found[int(owner)] += np.outer(left.double(), right.double())
    if held.lookup:
        for row, owner, value in zip(held.lookup.ids, held.lookup.owners, held.lookup.values, strict=True):
            found[int(owner), int(row)] += value.double().numpy()
    return found


COUNTS = st.lists(st.integers(0, 7), min_size=1, max_size=5)


@settings(max_examples=60)
@given(COUNTS, COUNTS, st.integers(1, 6), st.integers(1, 6), WORKSPACES, st.integers(0, 2**32 - 1))
def test_of_linear_maps(ours, theirs, k, n, workspace, seed):
    rng = np.random.default_rng(seed)
    x, y = made_outer(rng, ours, k, n), made_outer(rng, theirs, k, n)
    bounds = sorted({int(rng.integers(1, n + 1)), n})
    for right in (y, x):
        grams = outer_grams(x, right, workspace=workspace, bounds=bounds)
        ours_dense, theirs_dense = (dense(Held(side.n_records, side), k, n) for side in (x, right))
        for gram, low, high in zip(grams, [0, *bounds[:-1]], bounds, strict=True):
            expected = np.einsum("ikn,jkn->ij", ours_dense[:, :, low:high], theirs_dense[:, :, low:high])
            assert np.allclose(gram, expected, atol=1e-4)


@settings(max_examples=60)
@given(COUNTS, st.booleans(), st.booleans(), st.booleans(), WORKSPACES, st.integers(0, 2**32 - 1))
def test_of_weights_that_layers_share(counts, has_outer, has_lookup, others_differ, workspace, seed):
    rng, k, n = np.random.default_rng(seed), 7, 4
    x = Held(len(counts))
    x.outer = made_outer(rng, counts, k, n) if has_outer else None
    x.lookup = made_lookup(rng, len(counts), k, n) if has_lookup else None
    y = Held(3, made_outer(rng, [2, 0, 1], k, n), made_lookup(rng, 3, k, n)) if others_differ else x
    gradients, others = dense(x, k, n), dense(y, k, n)
    assert np.allclose(held_gram(x, y, workspace=workspace), np.einsum("ikn,jkn->ij", gradients, others), atol=1e-4)
    signed = np.einsum("ikn,jkn->ij", gradients, np.sign(others))
    assert np.allclose(signed_gram(x, y, workspace=workspace), signed, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_of_vectors(n_records, width, seed):
    x = Held(n_records, vectors=torch.from_numpy(np.random.default_rng(seed).normal(size=(n_records, width))).float())
    expected = x.vectors.double() @ x.vectors.double().T
    found = held_gram(x, x, workspace=1)
    assert np.allclose(found, expected, atol=1e-4)
    assert (found == found.T).all()
    assert np.allclose(signed_gram(x, x, workspace=1), x.vectors.double() @ x.vectors.sign().double().T, atol=1e-4)


def test_many_products_are_summed_in_float64():
    # 2 ** 24 ones and more: float32 alone would stop counting.
    n = 2**25 + 2**15
    x = Held(1, vectors=torch.ones(1, n))
    assert held_gram(x, x, workspace=1)[0, 0] == n
