"""Actors of a Ray cluster as a crew. Ray itself is handed in.

Actors are given up, never restarted by Ray: a restart would run the unit again without anybody counting it. Nothing is
shipped but the work and its units; every node has its own loraudit, of the same version.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

from loraudit.engines.crew import Answered, Event, Lost, Ready
from loraudit.engines.processes import n_threads
from loraudit.engines.ray_room import SECONDS_BETWEEN_COUNTS, Room, head_is_gone
from loraudit.engines.ray_worker import MUST_AGREE, RayWorker, said, versions_here
from loraudit.engines.seat import Answer, packed_error, rebuilt_error
from loraudit.engines.sessions import Session
from loraudit.errors import EnvironmentFault, StoreError
from loraudit.store import user_secret

NAMESPACE = "loraudit"
_SECONDS_FOR_ROOM = 600.0


class Actors:
    """Actors of one map, and the answers that are awaited from them."""

    shares_memory = False

    def __init__(
        self,
        ray: Any,
        room: Room,
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
        """Workers to have at most."""
        return self._room.size

    def hire(self) -> int:
        """A new actor; it is asked to check in, and waits for a place."""
        self._n_hired += 1
        name = self._name(self._n_hired)
        actor = self._kind.options(name=name, namespace=NAMESPACE).remote()
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
        """Put a unit into an actor's hand, and tell it who is gone since it was last given one."""
        gone = self._gone[self._n_told[worker] :]
        self._n_told[worker] = len(self._gone)
        content = self._ray.cloudpickle.dumps(unit)
        reference = self._actors[worker].carry_out.remote(position, content, gone)
        self._awaited[reference] = (worker, position)

    def events(self, seconds: float) -> Sequence[Event]:
        """What has been answered, in the order in which it was asked, and who was lost."""
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
            self._check(pickle.loads(answer.content))  # noqa: S301 - from a process of ours
            self._awaited[self._actors[worker].take.remote(self._work)] = (worker, "take")
            return None
        self.n_most = max(self.n_most, len(self._actors) - self._n_starting())
        return Ready(worker)

    def _n_starting(self) -> int:
        return sum(isinstance(asked, str) for _, asked in self._awaited.values())

    def _check(self, node: dict[str, Any]) -> None:
        """Refuse a node of other versions; libraries that make numbers may differ, and are told."""
        here = versions_here()
        if any(node["versions"].get(name) != here[name] for name in MUST_AGREE):
            raise EnvironmentFault(
                f"Node {node['host']} has {said(node['versions'])}. Expected {said(here)} as on the machine that "
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
            f"A worker of the Ray cluster cannot start: {lines[-1]}. Expected {said(versions_here())} on every node. "
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
        if now - self._looked < SECONDS_BETWEEN_COUNTS:
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
        """Ask beside the unit that each has in hand."""
        for actor in self._actors.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                actor.ask_to_stop.options(concurrency_group="control").remote()

    def dismiss(self) -> None:
        """End all actors; those that had a unit in hand may leave locks, which the next session takes over."""
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
