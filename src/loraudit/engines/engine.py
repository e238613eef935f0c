"""Which engine carries out the units, and what every engine can be asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from loraudit.engines.crew import Wishes
from loraudit.engines.stopping import stopping_with
from loraudit.errors import EnvironmentFault
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.spec.engines import EngineOptions

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")


class Engine(Protocol):
    """Where units are carried out. `map` is an `execution.Map`.

    Attributes:
        n_repeated: Units that may have been begun more than once because a worker died.
    """

    @property
    def n_repeated(self) -> int: ...  # noqa: D102

    def map(self, work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        """The outcomes, in the order of the units.

        Units are read as they are needed. An exception of `work` is raised where its outcome would stand: outcomes
        before it come first, units after it are not begun. Left early, or by an exception, it ends its workers.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """How the work is carried out, for a result: engine, workers and so on; no host is named."""
        ...


@contextlib.contextmanager
def open_engine(
    options: EngineOptions,
    *,
    shared: Path,
    stop: StopRequest | None = None,
    progress: Progress | None = None,
    on_done: Callable[[int, Any], None] | None = None,
    instead: Callable[[Any, EnvironmentFault], Any] | None = None,
) -> Iterator[Engine]:
    """An engine as the options want it, ended with the block.

    Args:
        options: Which, and how many workers. `options.shard` is the caller's business (`positions_of_shard`).
        shared: An existing folder that all workers are to see; its lock, if any, is held by the caller.
        stop: Asked while units are carried out; workers learn of it through `stop_of_worker`.
        progress: Told in a line of workers that died.
        on_done: Told position and outcome of each unit as soon as it has finished, whatever its turn.
        instead: Makes the outcome of a unit that every worker died of, from the unit and the error. Without it the
            error is raised.

    Raises:
        ConfigError: More GPUs are wanted than there are.
        EnvironmentFault: No cluster answers, it has no room for one worker, or its versions differ.
        MissingExtra: Ray is not installed.
        StoreError: A worker does not see `shared` (raised by `map`).
    """
    stop = stop or StopRequest()
    wishes = Wishes(
        retries=options.unit_retries,
        stop=stop,
        on_done=on_done or (lambda _position, _outcome: None),
        instead=instead,
        say=(progress or Silent()).say,
    )
    if options.engine == "ray":
        from loraudit.engines.ray_cluster import open_cluster

        with open_cluster(options, wishes, shared=shared) as cluster:
            yield cluster
    elif (options.workers or 1) > 1:
        from loraudit.engines.processes import Processes

        with contextlib.closing(Processes(options, wishes)) as processes:
            yield processes
    else:
        with stopping_with(stop):
            yield InThisProcess(wishes)


class InThisProcess:
    """One unit after another, where it was asked for."""

    n_repeated = 0

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes

    def map(self, work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        """The outcomes, in the order of the units."""
        for position, unit in enumerate(units):
            self._wishes.stop.check()
            outcome = work(unit)
            self._wishes.on_done(position, outcome)
            yield outcome

    def facts(self) -> dict[str, Any]:
        """How the work is carried out."""
        return {"engine": "local", "workers": 1}
