"""Workers as the loop of all engines sees them: what it tells them, and what it hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loraudit.engines.seat import Answer
from loraudit.errors import EnvironmentFault
from loraudit.execution import StopRequest


@dataclass(frozen=True)
class Ready:
    """A worker can be given units."""

    worker: int


@dataclass(frozen=True)
class Answered:
    """A worker has finished the first unit that it had in hand."""

    worker: int
    answer: Answer


@dataclass(frozen=True)
class Lost:
    """A worker is no more; `how` says what became of it, as in "was killed by SIGKILL"."""

    worker: int
    how: str


Event = Ready | Answered | Lost


class Crew(Protocol):
    """Workers of one engine, and what is heard of them.

    Attributes:
        size: Workers to have at most; may grow and shrink.
        shares_memory: Whether all workers use up the same memory.
    """

    @property
    def size(self) -> int: ...  # noqa: D102

    @property
    def shares_memory(self) -> bool: ...  # noqa: D102

    def hire(self) -> int:
        """A new worker; it is heard of when it is ready."""
        ...

    def give(self, worker: int, position: int, unit: Any) -> None:
        """Put a unit into a worker's hand."""
        ...

    def events(self, seconds: float) -> Sequence[Event]:
        """What has happened since the last look; waits for something to happen, but not for long."""
        ...

    def ask_to_stop(self) -> None:
        """Ask all workers to stop; what they have in hand comes back as interrupted, or finished."""
        ...

    def dismiss(self) -> None:
        """End all workers, whatever they are doing."""
        ...


@dataclass(frozen=True)
class Wishes:
    """What the caller of an engine wants of every map.

    Attributes:
        retries: Times a unit is given to another worker when its own dies.
        stop: Asked while waiting.
        on_done: Told position and outcome of each unit as soon as it has finished, in this process.
        instead: Makes the outcome of a unit that no worker survives; without it the error is raised.
        say: Told of workers that died.
    """

    retries: int
    stop: StopRequest
    on_done: Callable[[int, Any], None]
    instead: Callable[[Any, EnvironmentFault], Any] | None
    say: Callable[[str], None]
