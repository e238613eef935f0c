"""Records longer than a model's context are cut into windows; every token is predicted exactly once."""

from __future__ import annotations

from typing import NamedTuple

from loraudit.errors import ConfigError


class Window(NamedTuple):
    """Tokens `start` to `end` of a record go into the model; those from `first_new` on are predicted."""

    start: int
    end: int
    first_new: int


def cut_windows(n_tokens: int, *, max_length: int, stride: int) -> list[Window]:
    """Windows over a record of `n_tokens` tokens.

    The first window predicts tokens 1 to `max_length` − 1. Each further one predicts the next
    `stride` tokens and sees at least `max_length` − `stride` tokens before them. The first token
    of a record has nothing before it and is never predicted.

    Args:
        n_tokens: Of the record; fewer than 2 give no window.
        max_length: Longest window.
        stride: Between 1 and `max_length` − 1.

    Raises:
        ConfigError: `stride` leaves no context.

    >>> cut_windows(10, max_length=6, stride=3)
    [Window(start=0, end=6, first_new=1), Window(start=3, end=9, first_new=6), Window(start=4, end=10, first_new=9)]
    """
    if not 1 <= stride < max_length:
        raise ConfigError(
            f"Stride {stride} is out of range. Expected 1 to {max_length - 1} with windows of {max_length} tokens."
        )
    if n_tokens < 2:
        return []
    windows = [Window(0, min(n_tokens, max_length), 1)]
    while windows[-1].end < n_tokens:
        first_new = windows[-1].end
        end = min(n_tokens, first_new + stride)
        windows.append(Window(end - max_length, end, first_new))
    return windows
