"""Every token but the first is predicted once, with enough before it, in windows that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.data import Window, cut_windows
from loraudit.errors import ConfigError


@st.composite
def cuts(draw) -> tuple[int, int, int]:
    max_length = draw(st.integers(2, 70))
    return draw(st.integers(2, 400)), max_length, draw(st.integers(1, max_length - 1))


@given(cuts())
def test_every_token_but_the_first_is_predicted_exactly_once(cut):
    n_tokens, max_length, stride = cut
    times = np.zeros(n_tokens, dtype=int)
    for window in cut_windows(n_tokens, max_length=max_length, stride=stride):
        times[window.first_new : window.end] += 1
    assert times[0] == 0
    assert (times[1:] == 1).all()


@given(cuts())
def test_windows_lie_in_the_record_and_are_never_longer_than_allowed(cut):
    n_tokens, max_length, stride = cut
    for start, end, first_new in cut_windows(n_tokens, max_length=max_length, stride=stride):
        assert 0 <= start < first_new < end <= n_tokens
        assert end - start <= max_length


@given(cuts())
def test_a_further_window_sees_at_least_max_length_minus_stride_tokens_before_its_new_ones(cut):
    n_tokens, max_length, stride = cut
    first, *further = cut_windows(n_tokens, max_length=max_length, stride=stride)
    assert first == (0, min(n_tokens, max_length), 1)
    for start, end, first_new in further:
        assert first_new - start >= max_length - stride
        assert end - start == max_length
        assert end - first_new <= stride


@given(cuts())
def test_there_are_no_more_windows_than_strides(cut):
    n_tokens, max_length, stride = cut
    n_further = -(-max(0, n_tokens - max_length) // stride)
    assert len(cut_windows(n_tokens, max_length=max_length, stride=stride)) == 1 + n_further


def test_a_hand_worked_cut():
    assert cut_windows(10, max_length=6, stride=3) == [Window(0, 6, 1), Window(3, 9, 6), Window(4, 10, 9)]


@pytest.mark.parametrize("n_tokens", [0, 1])
def test_a_record_of_fewer_than_two_tokens_has_no_window(n_tokens):
    assert cut_windows(n_tokens, max_length=6, stride=3) == []


@pytest.mark.parametrize("n_tokens", [2, 5, 6])
def test_a_record_that_fits_is_one_window(n_tokens):
    assert cut_windows(n_tokens, max_length=6, stride=3) == [Window(0, n_tokens, 1)]


@pytest.mark.parametrize("stride", [-1, 0, 6, 7])
def test_a_stride_that_leaves_no_context_or_no_progress_is_refused(stride):
    with pytest.raises(
        ConfigError, match=rf"^Stride {stride} is out of range\. Expected 1 to 5 with windows of 6 tokens\.$"
    ):
        cut_windows(100, max_length=6, stride=stride)
