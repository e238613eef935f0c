"""How work is carried out: units that are complete or absent, a `map`, progress, and stopping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")
Outcome_co = TypeVar("Outcome_co", covariant=True)


class Map(Protocol):
    """Apply a function to units, in any order, anywhere."""

    def __call__(self, work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        """The outcomes, in the order of the units."""
        ...


def serial_map(work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
    """One unit after another in this process."""
    return map(work, units)


def threaded_map(n_threads: int) -> Map:
    """A map over `n_threads` threads, for work that waits on as many devices."""

    def run(work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        with ThreadPoolExecutor(n_threads) as pool:
            futures = [pool.submit(work, unit) for unit in units]
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()

    return run


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """A stop was asked for; everything finished so far is on disk."""


class StopNow(BaseException):
    """Stop at once. Like `KeyboardInterrupt`, which command-line libraries take for themselves, but ours."""


class StopRequest:
    """Set from a signal handler or another thread; long work asks it between batches."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ask(self) -> None:
        """Ask the work to stop at the next safe point."""
        self._event.set()

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self._event.is_set():
            raise Interrupted


class Progress(Protocol):
    """Where long work says how far it is."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage of `total` units begins."""
        ...

    def advance(self, n: int) -> None:
        """`n` more units are done."""
        ...

    def say(self, message: str) -> None:
        """One line for the person who waits."""
        ...


class Silent:
    """Progress that nobody sees."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, n: int) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""
