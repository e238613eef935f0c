"""The check of linearity against real steps of a model that is not linear."""

import math

import numpy as np
import pytest

from loraudit.errors import ConfigError, DataError
from loraudit.theory import (
    check_linearity,
    linearisation_error,
    predicted_change,
)

STEPS = (1e-3, 1e-2, 1e-1, 10.0)


def small_network(seed=0, n=20, width=5, hidden=7):
    """f(x) = v · tanh(U x): its start, its gradients by records, and f after a real step of any size."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, width)), rng.choice([-1.0, 1.0], n)
    u, v = rng.standard_normal((hidden, width)) / 2, rng.standard_normal(hidden)

    def outputs(u, v):
        return np.tanh(x @ u.T) @ v

    h = np.tanh(x @ u.T)
    of_u = ((1 - h**2) * v)[:, :, None] * x[:, None, :]
    jacobian = np.concatenate([h, of_u.reshape(n, -1)], axis=1)

    def step(rate):
        gradient = jacobian.T @ (outputs(u, v) - y) / n
        moved = -rate * gradient
        return outputs(u + moved[hidden:].reshape(hidden, width), v + moved[:hidden])

    return outputs(u, v), y, jacobian @ jacobian.T, step


def test_small_steps_are_linear_and_large_ones_are_refused():
    before, y, kernel, step = small_network()
    after = {rate: step(rate) for rate in STEPS}
    predicted = {rate: predicted_change(kernel, y - before, learning_rate=rate) for rate in STEPS}
    found = check_linearity(before, after, predicted, limit=0.3)
    values = [found.errors[rate].value for rate in STEPS]
    assert values == sorted(values)
    assert values[1] == pytest.approx(10 * values[0], rel=0.1)  # the error of a linearisation is of second order
    assert values[0] < 1e-2
    assert values[-1] > 0.3
    assert all(error.n == 20 for error in found.errors.values())
    assert found.largest_trusted == 0.1
    assert found.refusal(0.01) is None
    assert found.refusal(0.05) is None
    refusal = found.refusal(10.0)
    assert (
        f"The linearisation error of a step of 10 is {values[-1]:.2f} over 20 records. Expected at most 0.3." in refusal
    )
    assert "Up to a step of 0.1 it is." in refusal
    assert found.refusal(1.0) == refusal  # between what is trusted and what is not: the larger step decides
    assert "Step 11 was not tried: the largest real step was 10" in found.refusal(11.0)


def test_the_residual_of_the_logistic_loss_predicts_its_step():
    before, y, kernel, _ = small_network()
    residual = y / (1 + np.exp(y * before))
    moved = predicted_change(kernel, residual, learning_rate=1e-4)
    slope = np.array([np.logaddexp(0, -y * (before + 1e-6 * np.eye(20)[i])).mean() for i in range(20)])
    slope = (slope - np.logaddexp(0, -y * before).mean()) / 1e-6
    np.testing.assert_allclose(moved, -1e-4 * kernel @ slope, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(predicted_change(kernel, residual, learning_rate=1e-4, is_mean=False), 20 * moved)


def test_errors_by_hand():
    before, after = np.zeros(2), np.array([3.0, 4.0])
    assert linearisation_error(before, after, after).value == 0.0
    assert linearisation_error(before, after, np.zeros(2)).value == 1.0
    assert linearisation_error(before, after, np.array([3.0, 3.0])).value == pytest.approx(0.2)
    assert linearisation_error(before, after, 2 * after).interval == pytest.approx((1.0, 1.0))
    assert linearisation_error(before, after, np.array([3.0, 3.0])).interval.lower == 0.0


def test_an_undefined_error_is_never_trusted():
    still = check_linearity(np.zeros(3), {0.1: np.zeros(3)}, {0.1: np.ones(3)}, limit=0.3)
    assert math.isnan(still.errors[0.1].value)
    assert still.largest_trusted is None
    assert "undefined: f did not move over 3 records" in still.refusal(0.1)
    assert "No step that was tried is within it." in still.refusal(0.1)


def test_a_limit_can_be_set():
    before, after, predicted = np.zeros(2), {1.0: np.array([3.0, 4.0])}, {1.0: np.array([3.0, 3.0])}
    assert check_linearity(before, after, predicted, limit=0.19).refusal(1.0) is not None
    assert check_linearity(before, after, predicted, limit=0.21).refusal(1.0) is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: predicted_change(np.eye(2), np.ones(3), learning_rate=1.0), DataError, r"Kernel of shape \[2, 2\]"),
        (
            lambda: linearisation_error(np.ones(2), np.ones(3), np.ones(2)),
            DataError,
            r"Outputs of shapes \[2\] and \[3\]",
        ),
        (lambda: linearisation_error(np.ones(0), np.ones(0), np.ones(0)), DataError, r"Expected \[m\] each"),
        (
            lambda: linearisation_error(np.ones(1), np.array([np.inf]), np.ones(1)),
            DataError,
            "A check of linearity holds values that are not finite",
        ),
        (lambda: check_linearity(np.ones(1), {}, {}, limit=0.3), ConfigError, r"Steps \[\] cannot be used"),
        (
            lambda: check_linearity(np.ones(1), {0.0: np.ones(1)}, {}, limit=0.3),
            ConfigError,
            r"Steps \[0.0\] cannot be used",
        ),
        (
            lambda: check_linearity(np.ones(1), {1.0: np.ones(1)}, {2.0: np.ones(1)}, limit=0.3),
            DataError,
            r"Real steps \[1.0\] and predicted ones \[2.0\] differ",
        ),
        (
            lambda: check_linearity(np.ones(1), {1.0: np.ones(1)}, {1.0: np.ones(1)}, limit=math.nan),
            ConfigError,
            "Limit nan of the linearisation error is not above 0",
        ),
    ],
)
def test_checks_that_cannot_be_made_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
