"""Work for engines, importable by their workers: small, pickled by name, writing what it did into a folder."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraudit.engines import stop_of_worker
from loraudit.errors import DataError, Diverged, MissingExtra
from loraudit.store import Lock, write_atomically

SECONDS_PATIENT = 60.0


def wait_until(condition: Callable[[], Any], seconds: float = SECONDS_PATIENT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def die(how: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), how)
    time.sleep(SECONDS_PATIENT)


@dataclass
class Square:
    """The square of a number."""

    def __call__(self, unit: int) -> int:
        return unit * unit


@dataclass
class Surroundings:
    """Where a unit is carried out."""

    def __call__(self, unit: int) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "is_main_thread": threading.current_thread() is threading.main_thread(),
        }


@dataclass
class CountedUnpickling:
    """Says in `folder` how often it was unpickled, and carries state that stays with the worker."""

    folder: Path
    _n_carried_out: int = field(default=0, repr=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        (self.folder / f"unpickled-{os.getpid()}-{random.randbytes(4).hex()}").touch()

    def __call__(self, unit: int) -> int:
        self._n_carried_out += 1
        return self._n_carried_out


@dataclass
class Files:
    """Writes one file per unit, from its own seed; skips what is there. Kills its worker at some units, some times.

    Attributes:
        folder: Of the files.
        deaths: Unit → times that its worker dies of it, before or after writing.
        seconds: That a unit takes.
    """

    folder: Path
    deaths: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def __call__(self, unit: int) -> str:
        path = self.folder / f"{unit:06d}.bin"
        with (self.folder / f".begun-{unit:06d}").open("a") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(self.seconds)
        n_begun = len((self.folder / f".begun-{unit:06d}").read_text().split())
        if unit % 2 == 0 and n_begun <= self.deaths.get(unit, 0):
            die()
        if not path.exists():
            write_atomically(path, random.Random(unit).randbytes(256 + unit))
        if unit % 2 == 1 and n_begun <= self.deaths.get(unit, 0):
            die()
        return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.bin"))}


def n_begun(folder: Path) -> dict[int, int]:
    """Times each unit was begun."""
    return {int(path.name[-6:]): len(path.read_text().split()) for path in folder.glob(".begun-*")}


class Stubborn(Exception):  # noqa: N818 - it is one by its ways
    """Cannot be made from its `args`, nor pickled."""

    def __init__(self, one: str, *, other: int) -> None:
        super().__init__(one, lambda: other)


@dataclass
class Failing:
    """Unit 3 fails in the way that is asked for; others take a moment and leave a file."""

    how: str
    folder: Path

    def __call__(self, unit: int) -> int:
        (self.folder / f"begun-{unit}").touch()
        time.sleep(0.01)
        if unit == 3:
            raise {
                "data": DataError("Records are bad.", ["line 1", "line 2"]),
                "extra": MissingExtra("This", "ray"),
                "diverged": Diverged("It diverged.", step=3, n_steps=9),
                "bug": ValueError("three"),
                "stubborn": Stubborn("cannot travel", other=1),
                "memory": MemoryError("too large"),
                "file": FileNotFoundError(2, "No such file", "gone.txt"),
                "unicode": UnicodeDecodeError("utf-8", b"ab", 0, 1, "why"),
            }[self.how]
        return unit


@dataclass
class UntilStopped:
    """Says that it began, then works until it is asked to stop."""

    folder: Path

    def __call__(self, unit: int) -> int:
        (self.folder / f"begun-{unit}-{os.getpid()}").touch()
        deadline = time.monotonic() + SECONDS_PATIENT
        while time.monotonic() < deadline:
            stop_of_worker().check()
            time.sleep(0.01)
        raise TimeoutError("nobody asked it to stop")


@dataclass
class Deaf:
    """Says that it began, then works for a time without asking whether to stop."""

    folder: Path
    seconds: float = SECONDS_PATIENT

    def __call__(self, unit: int) -> int:
        (self.folder / f"begun-{unit}-{os.getpid()}").touch()
        time.sleep(self.seconds)
        return unit


@dataclass
class Locked:
    """Holds the lock of the unit's folder; the first time, unit 0 dies while it holds it, as if on another host."""

    folder: Path
    host: str

    def __call__(self, unit: int) -> int:
        import socket

        socket.gethostname = lambda: f"{self.host}-{os.getpid()}"
        room = self.folder / f"unit-{unit}"
        is_first = not room.exists()
        room.mkdir(exist_ok=True)
        with Lock(room):
            if is_first and unit == 0:
                die()
        return unit


@dataclass
class Memory:
    """Units that say how many are at work at once, and that die where another is at work beside them."""

    folder: Path

    def __call__(self, unit: int) -> int:
        mark = self.folder / f"at-work-{unit}-{os.getpid()}"
        mark.touch()
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            beside = [p for p in self.folder.glob("at-work-*") if p != mark]
            if unit == 2 and beside:
                mark.unlink()
                die()
            time.sleep(0.01)
        mark.unlink()
        return unit


@dataclass
class Held:
    """Writes a file after a while, under a lock that no other process of this host can judge."""

    folder: Path
    seconds: float

    def __call__(self, unit: int) -> int:
        import socket

        socket.gethostname = lambda: f"host-of-{os.getpid()}"
        room = self.folder / f"unit-{unit}"
        room.mkdir(exist_ok=True)
        with Lock(room):
            with (self.folder / f".begun-{unit:06d}").open("a") as log:
                log.write(f"{os.getpid()}\n")
            time.sleep(self.seconds)
            path = self.folder / f"{unit:06d}.bin"
            if not path.exists():
                write_atomically(path, random.Random(unit).randbytes(256))
        return os.getpid()
