"""Records left out in closed form against really leaving them out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.errors import ConfigError, DataError
from loraudit.theory import (
    agreement,
    changes_with_share,
    decompose,
    left_out_changes,
    left_out_changes_of_ridge,
    self_influence,
    squared_flow,
)


def random_task(n, width, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, width)) * np.arange(1, width + 1) ** -1.0
    return features @ features.T, rng.standard_normal(n)


def refitted(kernel, residual, times, rate):
    """[T, n] f_i with all minus f_i without i, one decomposition per record; the rate is that of a sum."""
    n = len(residual)

    def fit(kept):
        return squared_flow(
            decompose(kernel[np.ix_(kept, kept)]),
            kernel[:, kept],
            targets=residual[kept],
            initial_train=np.zeros(len(kept)),
            initial=np.zeros(n),
            times=times,
            learning_rate=rate,
            is_mean=False,
        )

    whole = fit(np.arange(n))
    return np.stack([whole[:, i] - fit(np.delete(np.arange(n), i))[:, i] for i in range(n)], axis=1)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 9), width=st.integers(1, 12), rate=st.floats(1e-3, 10), seed=st.integers(0, 99))
def test_leaving_out_in_closed_form_is_leaving_out(n, width, rate, seed):
    kernel, residual = random_task(n, width, seed)
    times = np.array([0.0, 1e-3, 0.3, 7.0, 500.0])
    found = left_out_changes(decompose(kernel), residual, times=times, learning_rate=rate, is_mean=False)
    np.testing.assert_allclose(found, refitted(kernel, residual, times, rate), atol=1e-8 * np.abs(residual).max())
    assert not found[0].any()


def test_leaving_out_of_many_records_and_long_times():
    kernel, residual = random_task(60, 40)
    times = np.array([1.0, 1e3, 1e6])
    found = left_out_changes(decompose(kernel), residual, times=times, learning_rate=0.6)
    np.testing.assert_allclose(found, refitted(kernel, residual, times, 0.01), atol=1e-8)


def test_the_mean_loss_keeps_the_weight_of_the_others():
    kernel, residual = random_task(5, 4)
    inputs = {"times": np.array([3.0]), "learning_rate": 0.5}
    mean = left_out_changes(decompose(kernel), residual, **inputs)
    whole = left_out_changes(decompose(kernel), residual, times=np.array([3.0]), learning_rate=0.1, is_mean=False)
    np.testing.assert_allclose(mean, whole)


def test_leaving_out_by_hand():
    """Two records that share nothing: left out, one stays where it was; trained, it learns 1 − e^{−ηλt}."""
    found = left_out_changes(
        decompose(np.diag([2.0, 1.0])),
        np.array([3.0, -1.0]),
        times=np.array([1.0]),
        learning_rate=math.log(2),
        is_mean=False,
    )
    assert found[0] == pytest.approx([3 * 3 / 4, -1 / 2])
    ridge = left_out_changes_of_ridge(decompose(np.diag([2.0, 1.0])), np.array([3.0, -1.0]), ridge=1.0)
    assert ridge == pytest.approx([2.0, -1 / 2])


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 9), width=st.integers(1, 12), ridge=st.floats(1e-2, 10), seed=st.integers(0, 99))
def test_ridge_without_a_record_is_a_fit_without_it(n, width, ridge, seed):
    kernel, residual = random_task(n, width, seed)

    def fit(kept):
        return kernel[:, kept] @ np.linalg.solve(kernel[np.ix_(kept, kept)] + ridge * np.eye(len(kept)), residual[kept])

    whole = fit(np.arange(n))
    slow = [whole[i] - fit(np.delete(np.arange(n), i))[i] for i in range(n)]
    found = left_out_changes_of_ridge(decompose(kernel), residual, ridge=ridge)
    np.testing.assert_allclose(found, slow, rtol=1e-7, atol=1e-9)


def test_a_record_with_a_twin_rests_less_on_itself():
    kernel = np.kron(np.eye(2), np.ones((2, 2)))[:3, :3]  # records 0 and 1 are alike, record 2 stands alone
    found = left_out_changes(decompose(kernel), np.ones(3), times=np.array([5.0]), learning_rate=1.0)[0]
    assert 0 < found[0] < found[2]
    assert found[0] == pytest.approx(found[1])
    assert self_influence(kernel).tolist() == [1.0, 1.0, 1.0]


def test_self_influence_is_the_diagonal_and_no_view():
    kernel = np.diag([1.0, 4.0])
    self_influence(kernel)[:] = 0
    assert self_influence(kernel).tolist() == [1.0, 4.0]


def test_agreement_is_spearmans_with_its_n():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=50)
    measured = predicted + rng.normal(size=50)
    measured[3] = np.nan
    found = agreement(predicted, measured)
    kept = ~np.isnan(measured)
    assert found.value == pytest.approx(stats.spearmanr(predicted[kept], measured[kept]).statistic)
    assert found.n_records == 49
    assert found.interval.lower < found.value < found.interval.upper


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda k, r: left_out_changes_of_ridge(k, r, ridge=0.0), ConfigError, "Ridge 0.0 is not above 0"),
        (lambda k, r: left_out_changes_of_ridge(k, r[:2], ridge=1.0), DataError, r"Residuals of shape \[2\] do not go"),
        (
            lambda k, r: left_out_changes(k, np.nan * r, times=np.ones(1), learning_rate=1.0),
            DataError,
            "one finite number per record",
        ),
        (
            lambda k, r: left_out_changes(k, r, times=np.array([np.inf]), learning_rate=1.0),
            ConfigError,
            r"Times \[inf\] cannot be used",
        ),
        (
            lambda k, r: left_out_changes(k, r, times=np.ones(1), learning_rate=-1.0),
            ConfigError,
            "Learning rate -1.0 is not above 0",
        ),
        (lambda k, r: agreement(r, r[:2]), DataError, r"Predictions of shape \[3\] and measurements of shape \[2\]"),
    ],
)
def test_what_cannot_be_left_out_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(decompose(np.eye(3)), np.ones(3))


# --- a record that counts for itself alone --------------------------------------------------------------


def weighted(kernel, cross, residual, times, rate, share):
    """[T, n] change of every output, integrated with the record's own weight, one decomposition per record."""
    found = np.empty((len(times), len(residual)))
    for i in range(len(residual)):
        weights = np.ones(len(residual))
        weights[i] = share
        root = np.sqrt(weights)
        found[:, i] = squared_flow(
            decompose(kernel * np.outer(root, root)),
            cross[i : i + 1] * root,
            targets=residual * root,
            initial_train=np.zeros(len(root)),
            initial=np.zeros(1),
            times=times,
            learning_rate=rate,
            is_mean=False,
        )[:, 0]
    return found


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 9),
    width=st.integers(1, 12),
    rate=st.floats(1e-3, 10),
    share=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    seed=st.integers(0, 99),
)
def test_a_share_in_closed_form_is_training_with_that_weight(n, width, rate, share, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, width))
    kernel, cross, residual = features @ features.T, rng.standard_normal((n, width)) @ features.T, rng.normal(size=n)
    times = np.array([0.0, 1e-3, 0.3, 7.0, 500.0])
    inputs = {"times": times, "learning_rate": rate, "share": share}
    for outputs in (kernel, cross):
        found = changes_with_share(decompose(kernel), outputs, residual, **inputs)
        expected = weighted(kernel, outputs, residual, times, rate, share)
        np.testing.assert_allclose(found, expected, atol=1e-6 * (1 + np.abs(outputs).max() / np.abs(kernel).max()))
        assert not found[0].any()


def test_a_share_of_nothing_is_leaving_out():
    kernel, residual = random_task(7, 5)
    times = np.array([0.5, 4.0])
    inputs = {"times": times, "learning_rate": 0.3}
    made = decompose(kernel)
    own = changes_with_share(made, kernel, residual, share=1.0, **inputs) - changes_with_share(
        made, kernel, residual, share=0.0, **inputs
    )
    np.testing.assert_allclose(own, left_out_changes(made, residual, is_mean=False, **inputs), atol=1e-9)


def test_a_share_of_another_number_of_records_is_refused():
    made = decompose(np.eye(2))
    inputs = {"times": np.array([1.0]), "learning_rate": 1.0}
    with pytest.raises(DataError, match=r"of shape \[1, 2\] between outputs and 2 trained records does not fit"):
        changes_with_share(made, np.ones((1, 2)), np.ones(2), share=1.0, **inputs)
    with pytest.raises(ConfigError, match=r"Share 1\.5 of a record is out of range\. Expected 0 to 1\. Give another\."):
        changes_with_share(made, np.eye(2), np.ones(2), share=1.5, **inputs)
