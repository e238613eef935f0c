"""Predictions from a kernel against gradient descent of real linear models, and what is read off predicted outputs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from loraudit.errors import ConfigError, DataError
from loraudit.statistics import wilson
from loraudit.theory import (
    clean_loss,
    decompose,
    learned,
    logistic_flow,
    predicted_accuracy,
    predicted_success,
    squared_flow,
    targets_of,
    time_at_loss,
)

TIMES = np.array([0.0, 1.0, 10.0, 40.0])


def linear_task(n=8, n_asked=5, width=11, seed=0):
    """Features of trained and of other records, a start, and labels: f(x) = w·x, so the kernel is exact."""
    rng = np.random.default_rng(seed)
    train, asked = rng.standard_normal((n, width)), rng.standard_normal((n_asked, width))
    return train, asked, 0.3 * rng.standard_normal(width), rng.choice([-1.0, 1.0], n)


def descend(train, asked, start, slope, *, learning_rate, times, small=400):
    """[T, p] outputs of plain gradient descent on a mean loss, in steps `small` times smaller; slope = ∂loss/∂f."""
    w, found = start.copy(), []
    done = 0
    for time in times:
        for _ in range(round(time * small) - done):
            w -= learning_rate / small * train.T @ slope(train @ w) / len(train)
        done = round(time * small)
        found.append(asked @ w)
    return np.array(found)


def given_of(train, asked, start):
    return {
        "cross": asked @ train.T,
        "initial_train": train @ start,
        "initial": asked @ start,
        "times": TIMES,
        "learning_rate": 0.2,
    }


def test_the_squared_flow_is_gradient_descent_of_small_steps():
    train, asked, start, labels = linear_task()
    y = targets_of(labels, scale=2.0)
    slow = descend(train, asked, start, lambda f: f - y, learning_rate=0.2, times=TIMES)
    found = squared_flow(decompose(train @ train.T), targets=y, **given_of(train, asked, start))
    np.testing.assert_allclose(found, slow, atol=2e-3)
    coarse = descend(train, asked, start, lambda f: f - y, learning_rate=0.2, times=TIMES, small=100)
    assert np.abs(slow - found).max() < np.abs(coarse - found).max() / 3  # the error is that of the steps


def test_the_logistic_flow_is_gradient_descent_of_small_steps():
    train, asked, start, y = linear_task(seed=1)
    slow = descend(train, asked, start, lambda f: -y / (1 + np.exp(y * f)), learning_rate=0.2, times=TIMES)
    found = logistic_flow(train @ train.T, labels=y, **given_of(train, asked, start))
    np.testing.assert_allclose(found, slow, atol=1e-3)
    np.testing.assert_allclose(found[0], asked @ start, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 6),
    width=st.integers(1, 7),
    rate=st.floats(1e-3, 2),
    seed=st.integers(0, 50),
    is_mean=st.booleans(),
)
def test_the_squared_flow_is_the_matrix_exponential(n, width, rate, seed, is_mean):
    """f' = −η K (f − y) of all records at once, by the exponential of the augmented matrix; low rank too."""
    train, asked, start, labels = linear_task(n, 3, width, seed)
    both = np.concatenate([train, asked])
    kernel = both @ train.T
    eta = rate / n if is_mean else rate
    generator = np.zeros((n + 4, n + 4))
    generator[: n + 3, :n], generator[: n + 3, -1] = -eta * kernel, eta * kernel @ labels
    state = np.append(both @ start, 1.0)
    times = np.array([0.0, 0.7, 9.0])
    slow = np.array([(linalg.expm(time * generator) @ state)[n : n + 3] for time in times])
    found = squared_flow(
        decompose(train @ train.T),
        kernel[n:],
        targets=labels,
        initial_train=train @ start,
        initial=asked @ start,
        times=times,
        learning_rate=rate,
        is_mean=is_mean,
    )
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-7)


def test_a_direction_without_eigenvalue_is_learned_at_the_rate_alone():
    tiny = np.array([0.0, 1e-300, 1e-12, 1e-3])
    found = learned(tiny, np.array([0.0, 5.0, 1e6]), rate=0.1)
    assert found[:, 0].tolist() == [0.0, 0.5, 1e5]
    assert found[1] == pytest.approx([0.5, 0.5, 0.5, 0.5 - 0.5**2 * 1e-3 / 2], rel=1e-7)
    assert found[2, 3] == pytest.approx(1000 * (1 - math.exp(-100)))


def test_half_is_learned_after_log_two():
    one = decompose(np.array([[4.0]]))
    found = squared_flow(
        one,
        np.array([[4.0], [2.0]]),
        targets=np.array([3.0]),
        initial_train=np.array([1.0]),
        initial=np.array([1.0, 0.0]),
        times=np.array([math.log(2) / (0.5 * 4)]),
        learning_rate=0.5,
    )
    np.testing.assert_allclose(found, [[2.0, 0.5]])


def test_speed_is_time():
    """A kernel twice as large is the same run at twice the speed: only its shape changes what is learned first."""
    train, asked, start, labels = linear_task()
    inputs = given_of(train, asked, start)
    one = squared_flow(decompose(train @ train.T), targets=labels, **{**inputs, "times": 2 * TIMES})
    inputs["cross"] = 2 * inputs["cross"]
    two = squared_flow(decompose(2 * train @ train.T), targets=labels, **inputs)
    np.testing.assert_allclose(one, two, rtol=1e-9)
    inputs["cross"] = inputs["cross"] / 2
    slow = logistic_flow(train @ train.T, labels=labels, **{**inputs, "times": 2 * TIMES})
    fast = logistic_flow(train @ train.T, labels=labels, **{**inputs, "learning_rate": 0.4})
    np.testing.assert_allclose(slow, fast, rtol=1e-6, atol=1e-8)


def test_a_logistic_flow_of_no_time_is_the_start():
    train, asked, start, labels = linear_task()
    inputs = {**given_of(train, asked, start), "times": np.zeros(2)}
    found = logistic_flow(train @ train.T, labels=labels, **inputs)
    np.testing.assert_array_equal(found, np.tile(asked @ start, (2, 1)))
    assert logistic_flow(train @ train.T, labels=labels, **{**inputs, "times": np.zeros(0)}).shape == (0, 5)


def test_losses_by_hand():
    outputs, labels = np.array([[0.0, 0.0], [2.0, 1.0]]), np.array([1.0, -1.0])
    found = clean_loss(outputs, labels)
    last = [math.log1p(math.exp(-2)), math.log1p(math.exp(1))]
    assert found.values == pytest.approx([math.log(2), np.mean(last)])
    assert found.lower[0] == pytest.approx(found.upper[0])
    half = 12.706204736 * abs(last[0] - last[1]) / 2
    assert (found.lower[1], found.upper[1]) == pytest.approx((0.0, np.mean(last) + half))
    assert found.n == 2
    squared = clean_loss(outputs, labels, loss="squared", scale=2.0)
    assert squared.values == pytest.approx([2.0, (0 + 9) / 4])
    assert np.isnan(clean_loss(outputs[:, :1], labels[:1]).lower).all()
    assert clean_loss(outputs[:, :1], labels[:1]).n == 1
    assert np.isnan(clean_loss(outputs[:, :0], labels[:0]).values).all()


def test_the_time_of_equal_loss():
    times = np.linspace(0, 10, 11)

    def dips(t):
        return 1 + (t - 5) ** 2 / 10

    assert time_at_loss(dips, 1.4, times=times) == pytest.approx(3.0)
    assert time_at_loss(dips, 1.9, times=times) == pytest.approx(2.0)
    assert time_at_loss(dips, 2.15, times=times) == pytest.approx(5 - math.sqrt(11.5))
    assert time_at_loss(dips, 0.5, times=times) is None
    assert time_at_loss(dips, 9.0, times=times) is None
    assert time_at_loss(dips, 3.5, times=times) == 0.0
    assert time_at_loss(lambda t: np.full(len(t), np.nan), 1.0, times=times) is None
    assert time_at_loss(lambda t: np.where(t < 2, np.inf, 0.5), 1.0, times=times) == 2.0
    with pytest.raises(ConfigError, match="Level nan of the loss is not finite"):
        time_at_loss(dips, math.nan, times=times)


def test_equal_loss_of_a_flow():
    train, asked, start, labels = linear_task()
    inputs = given_of(train, asked, start)
    truth = np.sign(asked @ np.linalg.lstsq(train, labels)[0])

    def loss_at(times):
        flow = squared_flow(decompose(train @ train.T), targets=labels, **{**inputs, "times": times})
        return clean_loss(flow, truth).values

    grid = np.linspace(0, 60, 61)
    level = float(np.quantile(loss_at(grid), 0.4))
    time = time_at_loss(loss_at, level, times=grid)
    assert loss_at(np.array([time]))[0] == pytest.approx(level, abs=1e-9)
    assert (loss_at(np.linspace(0, time * 0.999, 200)) > level).all()


def test_accuracy_counts_signs_and_credits_no_tie():
    outputs = np.array([[1.0, -2.0, 0.0, 3.0], [1.0, 2.0, -1.0, -3.0]])
    found = predicted_accuracy(outputs, np.array([1.0, -1.0, 1.0, -1.0]))
    assert found.values.tolist() == [0.5, 0.5]
    assert (found.lower[0], found.upper[0]) == pytest.approx(wilson(2, 4))
    assert found.n == 4
    assert np.isnan(predicted_accuracy(np.zeros((2, 0)), np.zeros(0)).values).all()


def test_success_is_of_records_of_other_classes():
    outputs = np.array([[1.0, -2.0, 5.0, 0.0]])
    labels = np.array([-1.0, -1.0, 1.0, -1.0])
    found = predicted_success(outputs, labels, target=1)
    assert (found.values[0], found.n) == (pytest.approx(1 / 3), 3)
    assert (found.lower[0], found.upper[0]) == pytest.approx(wilson(1, 3))
    other = predicted_success(outputs, labels, target=-1)
    assert (other.values[0], other.n) == (0.0, 1)
    assert predicted_success(outputs, np.ones(4), target=1).n == 0


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"cross": np.zeros((5, 7))}, DataError, r"cross has the shape \[5, 7\]; expected \[5, 8\]"),
        ({"initial": np.zeros((5, 1))}, DataError, r"initial has the shape \[5, 1\]; expected \[p\]"),
        ({"initial_train": np.full(8, np.nan)}, DataError, "initial_train holds values that are not finite"),
        ({"times": np.array([1.0, 0.5])}, ConfigError, r"Times \[1.0, 0.5\] cannot be used"),
        ({"times": np.array([-1.0])}, ConfigError, "Expected ascending numbers of steps from 0"),
        ({"times": np.array([math.inf])}, ConfigError, r"Times \[inf\] cannot be used"),
        ({"learning_rate": 0.0}, ConfigError, "Learning rate 0.0 is not above 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changed, error, message):
    train, asked, start, labels = linear_task()
    inputs = {**given_of(train, asked, start), **changed}
    with pytest.raises(error, match=message):
        squared_flow(decompose(train @ train.T), targets=labels, **inputs)
    with pytest.raises(error, match=message):
        logistic_flow(train @ train.T, labels=labels, **inputs)


def test_a_long_logistic_flow_grows_as_its_logarithm():
    """One record: f' = σ(−f), so e^f + f − (e^f0 + f0) = t exactly."""
    times = np.array([1.0, 1e3, 1e9, 1e30])
    found = logistic_flow(
        np.array([[4.0]]),
        np.array([[4.0]]),
        labels=np.array([1.0]),
        initial_train=np.array([0.5]),
        initial=np.array([0.5]),
        times=times,
        learning_rate=0.25,
    )[:, 0]
    np.testing.assert_allclose(np.exp(found) + found, times + math.exp(0.5) + 0.5, rtol=1e-5)


def test_a_kernel_of_zeros_learns_nothing():
    inputs = {"cross": np.zeros((1, 2)), "initial_train": np.zeros(2), "initial": np.ones(1), "times": TIMES}
    assert (logistic_flow(np.zeros((2, 2)), labels=np.ones(2), learning_rate=1.0, **inputs) == 1).all()
    assert (squared_flow(decompose(np.zeros((2, 2))), targets=np.ones(2), learning_rate=1.0, **inputs) == 1).all()


def test_every_misfit_of_a_prediction_is_listed():
    train, asked, start, _ = linear_task()
    inputs = {**given_of(train, asked, start), "initial_train": np.zeros(3)}
    with pytest.raises(DataError, match="do not fit") as caught:
        squared_flow(decompose(train @ train.T), targets=np.zeros(2), **inputs)
    assert len(caught.value.problems) == 2


def test_a_flow_that_leaves_the_numbers_is_refused():
    train, asked, start, labels = linear_task()
    inputs = {**given_of(train, asked, start), "learning_rate": 1e308}
    with pytest.raises(DataError, match=r"The logistic flow cannot be followed for 40 steps"):
        logistic_flow(train @ train.T, labels=labels, **inputs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: targets_of(np.array([0.0, 1.0])), DataError, "1 of 2 labels are neither -1 nor 1"),
        (lambda: targets_of(np.ones(2), scale=0), ConfigError, "Scale 0 of targets is not above 0"),
        (lambda: clean_loss(np.zeros((1, 2)), np.ones(2), loss="hinge"), ConfigError, "Unknown loss 'hinge'"),
        (lambda: clean_loss(np.zeros((1, 2)), np.ones(3)), DataError, r"Outputs of shape \[1, 2\] and labels of shape"),
        (lambda: predicted_accuracy(np.zeros(2), np.ones(2)), DataError, r"Expected \[T, p\] and \[p\]"),
        (
            lambda: predicted_accuracy(np.full((1, 1), np.nan), np.ones(1)),
            DataError,
            "Outputs hold values that are not",
        ),
        (lambda: predicted_success(np.zeros((1, 1)), np.ones(1), target=0), ConfigError, "Target 0 is no class"),
    ],
)
def test_outcomes_that_have_no_meaning_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
