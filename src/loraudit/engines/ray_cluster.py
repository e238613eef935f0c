"""The engine of a Ray cluster. No other file imports Ray, and of this one only `load_ray`."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from loraudit.engines.crew import Wishes
from loraudit.engines.dispatch import Dispatch, Maps
from loraudit.engines.processes import n_threads
from loraudit.engines.ray_actors import NAMESPACE, Actors
from loraudit.engines.ray_room import Room, answers
from loraudit.engines.ray_worker import said, versions_here
from loraudit.engines.sessions import Session
from loraudit.errors import EnvironmentFault, MissingExtra
from loraudit.spec.engines import EngineOptions

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")

_OBJECT_STORE_BYTES = 256 * 2**20
"""Of a cluster of one's own: work and outcomes are small, and Ray's default is a third of the memory."""

_LINES_KEPT_OFF = "RAY_DEDUP_LOGS_SKIP_REGEX"
"""Read once, when Ray is imported."""

_SECONDS_FOR_THE_DEAD = 60.0
_NAMED_HEAD = re.compile(r"(ray://)?\S+:\d+")


def load_ray() -> Any:
    """The library, without its usage reports, and without lines of the cluster on standard output, which is ours.

    Raises:
        MissingExtra: It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    lines_kept_off = os.environ.get(_LINES_KEPT_OFF)
    os.environ.setdefault(_LINES_KEPT_OFF, ".")
    try:
        import ray
    except ImportError:
        raise MissingExtra("The Ray engine", "ray") from None
    finally:
        if lines_kept_off is None:
            del os.environ[_LINES_KEPT_OFF]
    return ray


@contextlib.contextmanager
def open_cluster(options: EngineOptions, wishes: Wishes, *, shared: Path) -> Iterator[RayCluster]:
    """An engine on the cluster that the options name, or on one of its own that ends with the block."""
    ray = load_ray()
    is_joined_already = ray.is_initialized()
    if not is_joined_already:
        _join(ray, options)
    try:
        with contextlib.closing(RayCluster(ray, options, wishes, shared)) as cluster:
            yield cluster
    finally:
        if not is_joined_already:
            ray.shutdown()


def _join(ray: Any, options: EngineOptions) -> None:
    """Connect; the process keeps its own way of dealing with SIGTERM, which Ray would replace."""
    quiet = {"log_to_driver": False, "logging_level": "error", "namespace": NAMESPACE}
    if options.ray_address is None:
        n_cpus = None if options.workers is None else math.ceil(options.workers * options.worker_cpus)
        own = {"num_cpus": n_cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        settings = {"address": "local", **own, **quiet}
    else:
        settings = {"address": options.ray_address, **quiet}
    address = options.ray_address or ""
    if _NAMED_HEAD.fullmatch(address) and not answers(address.removeprefix("ray://")):
        raise _cannot_be_used(options, "nobody answers there")  # Ray would try for minutes
    is_main = threading.current_thread() is threading.main_thread()
    kept = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**settings)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        raise _cannot_be_used(options, " ".join(str(error).split())) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, kept)


def _cannot_be_used(options: EngineOptions, why: str) -> EnvironmentFault:
    where = "of its own" if options.ray_address is None else f"'{options.ray_address}'"
    return EnvironmentFault(
        f"Ray cluster {where} cannot be used: {why}. Expected a running cluster with the Python and Ray of this "
        f"machine ({said(versions_here())}). See `ray status`."
    )


class RayCluster:
    """The engine of a Ray cluster."""

    def __init__(self, ray: Any, options: EngineOptions, wishes: Wishes, shared: Path) -> None:
        self._ray, self._options, self._wishes = ray, options, wishes
        self._room = Room(ray, options)
        self._session = Session(shared)
        self._crews: list[Actors] = []
        self._maps = Maps()
        self._gone = self._left_over()

    def _left_over(self) -> list[str]:
        """Beginnings of the names of workers of earlier sessions that are no more, in this cluster either."""
        deadline = time.monotonic() + _SECONDS_FOR_THE_DEAD
        while self._session.left_over:
            named = self._ray.util.list_named_actors(all_namespaces=True)
            alive = {actor["name"].partition("-")[0] for actor in named if actor["namespace"] == NAMESPACE}
            if not alive & set(self._session.left_over):
                break
            if time.monotonic() > deadline:
                self._session.left_over = [one for one in self._session.left_over if one not in alive]
                break
            time.sleep(0.5)
        return [f"{session}-" for session in self._session.left_over]

    @property
    def n_repeated(self) -> int:
        """Units that may have been begun more than once because a worker or its node died."""
        return self._maps.n_repeated

    def map(self, work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        """The outcomes, in the order of the units."""
        content = self._ray.put(self._ray.cloudpickle.dumps(work))
        names = f"{self._session.id}-{len(self._crews)}-"
        crew = Actors(self._ray, self._room, self._session, names, self._gone, content, self._wishes.say)
        self._crews.append(crew)
        return self._maps.begin(Dispatch(crew, units, self._wishes))

    def facts(self) -> dict[str, Any]:
        """How the work is carried out."""
        versions = {name: sorted(seen) for crew in self._crews for name, seen in crew.versions.items() if len(seen) > 1}
        return {
            "engine": "ray",
            "ray": versions_here()["ray"],
            "cluster": "own" if self._options.ray_address is None else "joined",
            "workers": max((crew.n_most for crew in self._crews), default=0),
            "nodes": len({host for crew in self._crews for host in crew.hosts}),
            "threads_per_worker": n_threads(self._options.worker_cpus),
            "gpus_per_worker": self._options.worker_gpus,
        } | ({"versions_that_differ": versions} if versions else {})

    def close(self) -> None:
        """End the workers; the cluster is left as it was."""
        self._maps.close()
        self._session.close(in_peace=all(crew.is_in_peace for crew in self._crews))
