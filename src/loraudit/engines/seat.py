"""What happens at a worker, whichever engine hired it: its copy of the work, one unit after another, and answers."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from loraudit.engines.stopping import stop_of_worker
from loraudit.errors import LorauditError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read by numpy's and torch's libraries when they are first loaded, and by no thread after that."""


class Answer(NamedTuple):
    """What came of a unit.

    Attributes:
        position: Of the unit.
        seconds: It took the worker.
        is_error: Whether `content` is an exception.
        content: The outcome or the exception, pickled.
    """

    position: int
    seconds: float
    is_error: bool
    content: bytes


class Seat:
    """A worker's place.

    Args:
        n_threads: Of the libraries that it will load.
    """

    def __init__(self, n_threads: int) -> None:
        for name in THREAD_VARIABLES:
            os.environ[name] = str(n_threads)
        if "torch" in sys.modules:  # it was loaded with the main script, before anybody was asked
            sys.modules["torch"].set_num_threads(n_threads)
        self._work: Callable[[Any], Any] | None = None

    def take(self, work: bytes) -> Answer:
        """Unpack the work; an error is the work's own, or of a script that cannot be imported."""
        return answered(-1, lambda: self._keep(pickle.loads(work)))  # noqa: S301 - from a process of ours

    def _keep(self, work: Callable[[Any], Any]) -> None:
        self._work = work

    def carry_out(self, position: int, unit: bytes) -> Answer:
        """Carry out one unit, unless a stop has been asked for."""
        return answered(position, lambda: self._outcome(pickle.loads(unit)))  # noqa: S301 - from a process of ours

    def _outcome(self, unit: Any) -> Any:
        assert self._work is not None, "a unit came before the work"  # noqa: S101 - a bug, not a state
        stop_of_worker().check()
        return self._work(unit)


def answered(position: int, doing: Callable[[], Any]) -> Answer:
    """What came of it: the outcome, or the exception, which is raised where outcomes are read."""
    began = time.perf_counter()
    try:
        content, is_error = pickle.dumps(doing()), False
    except Exception as error:
        content, is_error = packed_error(error), True
    return Answer(position, time.perf_counter() - began, is_error, content)


def packed_error(error: Exception) -> bytes:
    """An exception with the traceback of the worker, so that it can be raised elsewhere as itself.

    Pickle makes an exception by calling its class with `args`, which many classes do not take, or take for something
    else; such a one is put together again from its parts.
    """
    lines = "".join(traceback.format_exception(error))
    parts = type(error), error.args, {k: v for k, v in vars(error).items() if k != "__notes__"}
    for form in (error, parts):
        try:
            content = pickle.dumps((form, lines))
            again = rebuilt_error(content)
        except Exception:  # noqa: S112 - a class that does not travel in this form
            continue
        if type(again) is type(error) and str(again) == str(error):
            return content
    return pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), lines))


def rebuilt_error(content: bytes) -> Exception:
    """The exception that `packed_error` packed; the worker's traceback is a note of one that is a bug."""
    form, lines = pickle.loads(content)  # noqa: S301 - from a process of ours
    if isinstance(form, tuple):
        kind, arguments, state = form
        error = kind.__new__(kind, *arguments)
        error.args = arguments
        vars(error).update(state)
    else:
        error = form
    if not isinstance(error, LorauditError):
        error.add_note("Where it happened in the worker:\n" + lines.rstrip())
    return error
