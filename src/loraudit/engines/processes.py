"""Workers that are processes of this machine.

They are not a `ProcessPoolExecutor`: when one of its processes dies, that pool ends all the others, with whatever
they had loaded and half finished, and cannot say which unit was the cause. Here each worker has a pipe of its own, so
a death costs one unit and names it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any, TypeVar

from loraudit.engines.crew import Answered, Event, Lost, Ready, Wishes
from loraudit.engines.dispatch import Dispatch, Maps
from loraudit.engines.seat import THREAD_VARIABLES, Answer, Seat, rebuilt_error
from loraudit.engines.stopping import stop_of_worker
from loraudit.errors import ConfigError
from loraudit.spec.engines import EngineOptions

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")

_SECONDS_TO_LEAVE = 5.0
"""For a worker that has nothing in hand; one that has is killed, since units are whole on disk or not there."""

_SECONDS_AFTER_THE_PARENT = 1.0
_ASKED_FROM_OUTSIDE = {signal.SIGINT, signal.SIGTERM}


class Processes:
    """The engine of more than one process of this machine."""

    def __init__(self, options: EngineOptions, wishes: Wishes) -> None:
        self._n_workers = options.workers or 1
        self._n_threads = n_threads(options.worker_cpus)
        self._gpus = gpus_of_workers(self._n_workers, options.worker_gpus)
        self._wishes = wishes
        self._maps = Maps()

    @property
    def n_repeated(self) -> int:
        """Units that may have been begun more than once because a worker died."""
        return self._maps.n_repeated

    def close(self) -> None:
        """End the workers of maps that were left in the middle."""
        self._maps.close()

    def map(self, work: Callable[[Unit], Outcome], units: Iterable[Unit], /) -> Iterator[Outcome]:
        """The outcomes, in the order of the units."""
        crew = _Crew(self._n_workers, self._n_threads, self._gpus, pickle.dumps(work))
        return self._maps.begin(Dispatch(crew, units, self._wishes))

    def facts(self) -> dict[str, Any]:
        """How the work is carried out."""
        return {"engine": "local", "workers": self._n_workers, "threads_per_worker": self._n_threads}


def n_threads(worker_cpus: float) -> int:
    """Threads of a worker that has so many cores; less than one core is one thread."""
    return max(1, int(worker_cpus))


def gpus_of_workers(n_workers: int, worker_gpus: float) -> list[str | None]:
    """`CUDA_VISIBLE_DEVICES` of each worker; None leaves it as it is.

    Raises:
        ConfigError: There are fewer GPUs.
    """
    if worker_gpus == 0:
        return [None] * n_workers
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        import torch

        present = [str(i) for i in range(torch.cuda.device_count())]
    else:
        present = [name.strip() for name in named.split(",") if name.strip()]
    whole = max(1, int(worker_gpus))
    per_gpu = 1 if worker_gpus >= 1 else int(1 / worker_gpus)
    room = len(present) // whole * per_gpu
    if room < n_workers or (worker_gpus > 1 and worker_gpus != whole):
        raise ConfigError(
            f"{n_workers} workers with {worker_gpus:g} GPUs each do not fit on {len(present)} visible GPUs. Expected "
            "whole GPUs or a part of one, and room for all workers. Lower --workers or --worker-gpus."
        )
    first = [i // per_gpu * whole for i in range(n_workers)]
    return [",".join(present[i : i + whole]) for i in first]


@dataclass
class _Worker:
    process: Any
    pipe: connection.Connection
    place: int
    n_in_hand: int = 0
    is_ready: bool = False


class _Crew:
    """Processes of this machine and the pipes to them."""

    shares_memory = True

    def __init__(self, size: int, n_threads: int, gpus: Sequence[str | None], work: bytes) -> None:
        self.size = size
        self._n_threads, self._gpus, self._work = n_threads, gpus, work
        self._workers: dict[int, _Worker] = {}
        self._n_hired = 0

    def hire(self) -> int:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads or a GPU may hang
        ours, theirs = context.Pipe()
        place = min(set(range(self.size)) - {worker.place for worker in self._workers.values()})
        process = context.Process(target=_work_at, args=(theirs, self._n_threads), daemon=True)
        with _signals_held_back(), _environment(self._n_threads, self._gpus[place]):
            process.start()
        theirs.close()
        self._n_hired += 1
        self._workers[self._n_hired] = _Worker(process, ours, place)
        with contextlib.suppress(OSError):  # it died at once, and is heard of as lost
            ours.send_bytes(self._work)
        return self._n_hired

    def give(self, worker: int, position: int, unit: Any) -> None:
        self._workers[worker].n_in_hand += 1
        with contextlib.suppress(OSError):
            self._workers[worker].pipe.send_bytes(pickle.dumps((position, pickle.dumps(unit))))

    def events(self, seconds: float) -> Sequence[Event]:
        by_pipe = {worker.pipe: number for number, worker in self._workers.items()}
        by_sentinel = {worker.process.sentinel: number for number, worker in self._workers.items()}
        if not by_pipe:
            time.sleep(seconds)
        heard = connection.wait([*by_pipe, *by_sentinel], timeout=seconds)
        numbers = dict.fromkeys(by_pipe.get(one) or by_sentinel[one] for one in heard)  # type: ignore[arg-type, index]
        return [event for number in numbers for event in self._heard_of(number)]

    def _heard_of(self, number: int) -> Iterator[Event]:
        """All that a worker has said; then its end, if that has come."""
        worker = self._workers[number]
        has_ended = not worker.process.is_alive()  # asked first, so that its last words are read below
        try:
            while worker.pipe.poll():
                answer = Answer(*pickle.loads(worker.pipe.recv_bytes()))  # noqa: S301 - from a process of ours
                if worker.is_ready:
                    worker.n_in_hand -= 1
                    yield Answered(number, answer)
                elif answer.is_error:
                    raise rebuilt_error(answer.content)
                else:
                    worker.is_ready = True
                    yield Ready(number)
        except (EOFError, OSError):  # the other end is gone, perhaps in the middle of an answer
            has_ended = True
        if has_ended:
            yield Lost(number, self._end(number))

    def _end(self, number: int) -> str:
        """Take leave of a worker that has ended, and say how it ended."""
        worker = self._workers.pop(number)
        worker.process.join(_SECONDS_TO_LEAVE)  # until it is gone for the system too, its locks count as held
        worker.process.kill()
        worker.process.join()
        code = worker.process.exitcode
        worker.process.close()
        worker.pipe.close()
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended by itself with exit code {code}"

    def ask_to_stop(self) -> None:
        for worker in self._workers.values():
            if worker.is_ready:
                worker.process.terminate()  # a request; see `_work_at`

    def dismiss(self) -> None:
        deadline = time.monotonic() + _SECONDS_TO_LEAVE
        for worker in self._workers.values():
            if worker.n_in_hand or not worker.is_ready:
                worker.process.kill()
            worker.pipe.close()
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.process.close()
        self._workers.clear()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """What is started here holds Ctrl-C back until it can deal with it; the terminal sends it to every process."""
    resource_tracker.ensure_running()  # starting it would let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED_FROM_OUTSIDE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(n_threads: int, gpus: str | None) -> Iterator[None]:
    """What a new process must know before its first import, that of the main script included."""
    wanted = dict.fromkeys(THREAD_VARIABLES, str(n_threads)) | ({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})
    kept = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work_at(pipe: connection.Connection, n_threads: int) -> None:
    """A worker's life: the work, then units until the pipe is closed.

    Ctrl-C is left to the process that hired it. SIGTERM, from there or from a scheduler, asks the work to stop.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop_of_worker().ask())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_FROM_OUTSIDE)
    inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    seat = Seat(n_threads)
    work = inbox.get()
    with contextlib.suppress(OSError):
        if work is not None:
            pipe.send_bytes(pickle.dumps(tuple(seat.take(work))))
        while (message := inbox.get()) is not None:
            pipe.send_bytes(pickle.dumps(tuple(seat.carry_out(*pickle.loads(message)))))  # noqa: S301 - from a process of ours


def _listen(pipe: connection.Connection, inbox: queue.SimpleQueue[bytes | None]) -> None:
    """Read while the worker works: the sender never waits for a long unit, and its end is noticed.

    A worker never outlives the process that hired it: a unit that it has in hand then is left to the next run.
    """
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(pipe.recv_bytes())
    inbox.put(None)
    time.sleep(_SECONDS_AFTER_THE_PARENT)
    os._exit(1)
