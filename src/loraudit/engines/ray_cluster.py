"""Workers on the nodes of a Ray cluster. No other file imports Ray, and of this one only `load_ray`.

Actors are given up, never restarted by Ray: a restart would run the unit again without anybody counting it. Nothing is
shipped but the work and its units; every node has its own loraudit, of the same version.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from loraudit.engines.dispatch import Answered, Dispatch, Event, Lost, Maps, Ready, Wishes
from loraudit.engines.processes import n_threads
from loraudit.engines.ray_worker import RayWorker, versions_here
from loraudit.engines.seat import Answer, packed_error, rebuilt_error
from loraudit.engines.sessions import Session
from loraudit.errors import EnvironmentFault, MissingExtra, StoreError
from loraudit.spec.engines import EngineOptions
from loraudit.store import user_secret

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")

_NAMESPACE = "loraudit"
_OBJECT_STORE_BYTES = 256 * 2**20
"""Of a cluster of one's own: work and outcomes are small, and Ray's default is a third of the memory."""

_LINES_KEPT_OFF = "RAY_DEDUP_LOGS_SKIP_REGEX"
"""Read once, when Ray is imported."""

_MUST_AGREE = ("loraudit", "python", "ray")
_SECONDS_BETWEEN_COUNTS = 5.0
_SECONDS_FOR_THE_DEAD = 60.0
_SECONDS_FOR_ROOM = 600.0
_SECONDS_TO_CONNECT = 3.0
_SILENCES_OF_THE_HEAD = 3


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
    quiet = {"log_to_driver": False, "logging_level": "error", "namespace": _NAMESPACE}
    if options.ray_address is None:
        n_cpus = None if options.workers is None else math.ceil(options.workers * options.worker_cpus)
        own = {"num_cpus": n_cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        settings = {"address": "local", **own, **quiet}
    else:
        settings = {"address": options.ray_address, **quiet}
    is_main = threading.current_thread() is threading.main_thread()
    kept = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "of its own" if options.ray_address is None else f"'{options.ray_address}'"
        raise EnvironmentFault(
            f"Ray cluster {where} cannot be used: {' '.join(str(error).split())}. Expected a running cluster with the "
            f"Python and Ray of this machine ({_said(versions_here())}). See `ray status`."
        ) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, kept)


def _said(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions.get(name, 'missing')}" for name in _MUST_AGREE)


class RayCluster:
    """The engine of a Ray cluster."""

    def __init__(self, ray: Any, options: EngineOptions, wishes: Wishes, shared: Path) -> None:
        self._ray, self._options, self._wishes = ray, options, wishes
        self._room = _Room(ray, options)
        self._session = Session(shared)
        self._crews: list[_Actors] = []
        self._maps = Maps()
        self._gone = self._left_over()

    def _left_over(self) -> list[str]:
        """Beginnings of the names of workers of earlier sessions that are no more, in this cluster either."""
        deadline = time.monotonic() + _SECONDS_FOR_THE_DEAD
        while self._session.left_over:
            named = self._ray.util.list_named_actors(all_namespaces=True)
            alive = {actor["name"].partition("-")[0] for actor in named if actor["namespace"] == _NAMESPACE}
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
        crew = _Actors(self._ray, self._room, self._session, names, self._gone, content, self._wishes.say)
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


class _Room:
    """How many workers the cluster can hold, and whether its head answers."""

    def __init__(self, ray: Any, options: EngineOptions) -> None:
        self._ray, self._wanted = ray, options.workers
        self.per_worker = {"CPU": options.worker_cpus, "GPU": options.worker_gpus}
        self._n_places, self._counted = 0, -math.inf
        self._n_silences = 0
        is_client = (options.ray_address or "").startswith("ray://")
        self._head = None if is_client else ray.get_runtime_context().gcs_address
        self._count()
        if not self._n_places and self._wanted is None:
            raise EnvironmentFault(
                f"No node of the Ray cluster has {options.worker_cpus:g} CPUs and {options.worker_gpus:g} GPUs. Expected "
                "room for one worker. Lower --worker-cpus or --worker-gpus, or say --workers N to wait for nodes."
            )

    @property
    def size(self) -> int:
        """Workers to have: as many as wanted, else as many as there is room for now."""
        if self._wanted is not None:
            return self._wanted
        if time.monotonic() - self._counted > _SECONDS_BETWEEN_COUNTS:
            self._count()
        return max(1, self._n_places)

    def _count(self) -> None:
        self._counted = time.monotonic()
        needs = {name: amount for name, amount in self.per_worker.items() if amount}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._n_places = sum(
            min(int(has.get(name, 0) / amount + 1e-9) for name, amount in needs.items()) for has in nodes
        )

    def check_head(self) -> None:
        """Fail while there is somebody to tell: a minute later Ray ends a process whose head is gone.

        Raises:
            EnvironmentFault: It did not answer several times in a row.
        """
        if self._head is None:
            return
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
            self._n_silences = 0
        except OSError:
            self._n_silences += 1
        if self._n_silences >= _SILENCES_OF_THE_HEAD:
            raise head_is_gone()


def head_is_gone() -> EnvironmentFault:
    """The error of a cluster that has lost its head."""
    return EnvironmentFault(
        "The head of the Ray cluster does not answer. Expected it to live as long as the work. Start the cluster again "
        "and repeat the same command; it goes on with what is not finished."
    )


class _Actors:
    """Actors of one map, and the answers that are awaited from them."""

    shares_memory = False

    def __init__(
        self,
        ray: Any,
        room: _Room,
        session: Session,
        names: str,
        gone: list[str],
        work: Any,
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._room, self._session, self._names = ray, room, session, names
        self._gone, self._work, self._say = gone, work, say
        self._kind = ray.remote(
            num_cpus=room.per_worker["CPU"],
            num_gpus=room.per_worker["GPU"],
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"control": 1},
            scheduling_strategy="SPREAD",
        )(RayWorker)
        self._secret = _secret()
        self._actors: dict[int, Any] = {}
        self._n_told: dict[int, int] = {}
        self._awaited: dict[Any, tuple[int, int | str]] = {}
        """Reference → worker, and position of the unit or what was asked."""
        self._n_hired = 0
        self._looked = self._worked = time.monotonic()
        self.n_most = 0
        self.hosts: set[str] = set()
        self.versions: dict[str, set[str]] = {}
        self.is_in_peace = True

    @property
    def size(self) -> int:
        return self._room.size

    def hire(self) -> int:
        self._n_hired += 1
        name = self._name(self._n_hired)
        actor = self._kind.options(name=name, namespace=_NAMESPACE).remote()
        known = {
            "name": name,
            "mark": str(self._session.path.absolute()),
            "text": self._session.text,
            "threads": n_threads(self._room.per_worker["CPU"]),
            "secret": self._secret,
        }
        self._actors[self._n_hired] = actor
        self._n_told[self._n_hired] = 0
        self._awaited[actor.check_in.remote(known)] = (self._n_hired, "check_in")
        return self._n_hired

    def _name(self, worker: int) -> str:
        """No other worker ever has it, so that nobody who lives is taken for one that is gone."""
        return f"{self._names}{worker}"

    def give(self, worker: int, position: int, unit: Any) -> None:
        gone = self._gone[self._n_told[worker] :]
        self._n_told[worker] = len(self._gone)
        content = self._ray.cloudpickle.dumps(unit)
        reference = self._actors[worker].carry_out.remote(position, content, gone)
        self._awaited[reference] = (worker, position)

    def events(self, seconds: float) -> Sequence[Event]:
        awaited = list(self._awaited)
        heard: list[Any] = []
        if not awaited:
            time.sleep(seconds)
        elif self._ray.wait(awaited, num_returns=1, timeout=seconds)[0]:
            heard = self._ray.wait(awaited, num_returns=len(awaited), timeout=0)[0]
        self._look_around()
        found: list[Event] = []
        for reference in sorted(heard, key=awaited.index) if len(heard) > 1 else heard:
            if reference in self._awaited:  # not, where its worker turned out to be lost
                event = self._heard(reference, *self._awaited.pop(reference))
                found += [] if event is None else [event]
        return found

    def _heard(self, reference: Any, worker: int, asked: int | str) -> Event | None:
        errors = self._ray.exceptions
        try:
            answer = Answer(*self._ray.get(reference))
        except errors.RayTaskError as error:  # a unit or work that the node cannot unpack
            cause = error.cause if isinstance(error.cause, Exception) else RuntimeError(str(error))
            answer = Answer(asked if isinstance(asked, int) else -1, 0.0, True, packed_error(cause))
        except (errors.LocalRayletDiedError, errors.RaySystemError, ConnectionError) as error:
            raise head_is_gone() from error
        except errors.RayActorError as error:
            if error.actor_init_failed:
                raise self._cannot_start(str(error)) from error
            return self._lost(worker, error)
        except errors.RayError as error:
            return self._lost(worker, error)
        self._worked = time.monotonic()
        if isinstance(asked, int):
            return Answered(worker, answer)
        if answer.is_error:
            raise rebuilt_error(answer.content)
        if asked == "check_in":
            self._check(pickle.loads(answer.content))
            self._awaited[self._actors[worker].take.remote(self._work)] = (worker, "take")
            return None
        self.n_most = max(self.n_most, len(self._actors) - self._n_starting())
        return Ready(worker)

    def _n_starting(self) -> int:
        return sum(isinstance(asked, str) for _, asked in self._awaited.values())

    def _check(self, node: dict[str, Any]) -> None:
        """Refuse a node of other versions; libraries that make numbers may differ, and are told."""
        here = versions_here()
        if any(node["versions"].get(name) != here[name] for name in _MUST_AGREE):
            raise EnvironmentFault(
                f"Node {node['host']} has {_said(node['versions'])}. Expected {_said(here)} as on the machine that "
                "started the work. Install the same versions on all nodes."
            )
        self.hosts.add(node["host"])
        for name in here.keys() | node["versions"].keys():
            seen = self.versions.setdefault(name, {here.get(name, "missing")})
            there = node["versions"].get(name, "missing")
            if there not in seen:
                seen.add(there)
                self._say(f"Node {node['host']} has {name} {there}, this machine {here.get(name, 'none')}.")

    def _cannot_start(self, why: str) -> EnvironmentFault:
        lines = [line.strip() for line in why.splitlines() if line.strip()]
        return EnvironmentFault(
            f"A worker of the Ray cluster cannot start: {lines[-1]}. Expected {_said(versions_here())} on every node. "
            "Install loraudit[ray] there."
        )

    def _lost(self, worker: int, error: Exception) -> Lost:
        """Give up a worker for good, so that whoever carries on has its place to itself."""
        actor = self._actors.pop(worker)
        with contextlib.suppress(Exception):  # it is gone already, as a rule
            self._ray.kill(actor, no_restart=True)
        self._gone.append(self._name(worker))
        del self._n_told[worker]
        self._awaited = {ref: about for ref, about in self._awaited.items() if about[0] != worker}
        self.is_in_peace = False
        return Lost(worker, f"was lost ({_why(error)})")

    def _look_around(self) -> None:
        """Now and then, whether the head is there, and whether anybody can work at all."""
        now = time.monotonic()
        if now - self._looked < _SECONDS_BETWEEN_COUNTS:
            return
        self._looked = now
        self._room.check_head()
        if len(self._actors) > self._n_starting():
            self._worked = now
        elif now - self._worked > _SECONDS_FOR_ROOM:
            raise EnvironmentFault(
                f"The Ray cluster has had no room for a worker for {now - self._worked:,.0f} s. Expected "
                f"{self._room.per_worker['CPU']:g} CPUs and {self._room.per_worker['GPU']:g} GPUs to become free. See "
                "`ray status`; repeat the same command when there is room."
            )

    def ask_to_stop(self) -> None:
        for actor in self._actors.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                actor.ask_to_stop.options(concurrency_group="control").remote()

    def dismiss(self) -> None:
        if any(isinstance(asked, int) for _, asked in self._awaited.values()):
            self.is_in_peace = False
        for worker, actor in self._actors.items():
            with contextlib.suppress(Exception):  # a cluster that is gone has no workers either
                self._ray.kill(actor, no_restart=True)
            self._gone.append(self._name(worker))
        self._actors.clear()
        self._awaited.clear()


def _secret() -> bytes | None:
    """The user's, from which shown ids are made; None where this account can have none, and so needs none."""
    try:
        return user_secret()
    except StoreError:
        return None


def _why(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
