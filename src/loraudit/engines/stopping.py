"""How a stop that was asked of the engine reaches the work, wherever that runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from loraudit.execution import Interrupted, StopRequest

_of_this_process = [StopRequest()]


def stop_of_worker() -> StopRequest:
    """The request that work is to ask between its batches: the engine's own in its process, a worker's in a worker.

    Work that never asks is waited for; what it then leaves is a finished unit.
    """
    return _of_this_process[-1]


@contextlib.contextmanager
def stopping_with(stop: StopRequest) -> Iterator[None]:
    """Work of this process asks `stop`."""
    _of_this_process.append(stop)
    try:
        yield
    finally:
        _of_this_process.pop()


def is_asked(stop: StopRequest) -> bool:
    """Whether to stop."""
    try:
        stop.check()
    except Interrupted:
        return True
    return False
