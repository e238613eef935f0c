"""Fast detectors of poison give what their definitions give, written as plain loops."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from loraudit.poisoning.detection import Observed, gradient_spectral_entropy, spectral_scores
from loraudit.poisoning.detection.clustering import _two_means, mean_silhouette

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def drawn(seed, n, d, n_classes=2):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, d)) + rng.normal(0, 3, d), rng.integers(0, n_classes, n)


@quick
@given(seeds, st.integers(8, 30), st.integers(1, 40), st.integers(1, 3))
def test_spectral_scores_are_projections_on_eigenvectors_of_the_covariance(seed, n, d, k):
    features, labels = drawn(seed, n, d)
    found = spectral_scores(features, labels, n_directions=k)
    for i in range(n):
        own = features[labels == labels[i]]
        if len(own) < 3:
            assert np.isnan(found[i])
            continue
        mean = own.mean(axis=0)
        vectors = np.linalg.eigh(np.cov(own.T, bias=True).reshape(d, d))[1][:, ::-1][:, :k]
        assert np.isclose(found[i], sum(((features[i] - mean) @ v) ** 2 for v in vectors.T), rtol=1e-6, atol=1e-8)


@quick
@given(seeds, st.integers(8, 30), st.integers(1, 40))
def test_entropy_rises_are_those_of_a_spectrum_without_the_record(seed, n, d):
    gradients, labels = drawn(seed, n, d)
    found = gradient_spectral_entropy(Observed(labels, gradients=gradients))

    def entropy(rows):
        values = np.square(np.linalg.svd(rows, compute_uv=False))
        shares = values[values > 1e-12 * max(values.max(), 1e-300)] / values.sum()
        return -sum(p * np.log(p) for p in shares)

    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own = np.array([g / np.linalg.norm(g) for g in gradients[members]])
        own = own - own.mean(axis=0)
        if len(own) < 3 or d == 1:
            continue
        for place, i in enumerate(members):
            without = np.delete(own, place, axis=0)
            assert np.isclose(found[i], entropy(without) - entropy(own), atol=1e-7)


@quick
@given(seeds, st.integers(6, 60), st.integers(1, 10), st.floats(0, 6))
def test_two_means_are_as_tight_as_those_of_many_random_starts(seed, n, d, gap):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (n, d))
    rows[: n // 4] += gap
    rows -= rows.mean(axis=0)
    rows = np.linalg.svd(rows, full_matrices=False)[0] * np.linalg.svd(rows, compute_uv=False)
    is_second = _two_means(rows)
    found = sum(np.square(part - part.mean(axis=0)).sum() for part in (rows[is_second], rows[~is_second]))
    best = KMeans(2, n_init=10, random_state=0).fit(rows).inertia_
    assert found <= best * 1.2


@quick
@given(seeds, st.integers(3, 700), st.integers(1, 5))
def test_the_silhouette_is_that_of_scikit_learn(seed, n, d):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (n, d))
    is_small = rng.random(n) < 0.3
    is_small[:2] = True, False
    assert np.isclose(mean_silhouette(rows, is_small), silhouette_score(rows, is_small), atol=1e-9)
