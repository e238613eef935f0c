"""Jobs that several processes of a benchmark share: each is done by one of them, and once."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class Job(NamedTuple):
    """One piece of work.

    Attributes:
        name: Of its own.
        work: What to do; what it leaves on disk is the outcome.
        is_ready: Whether what it needs is there.
    """

    name: str
    work: Callable[[], object]
    is_ready: Callable[[], bool] = lambda: True


def is_done(claims: Path, name: str) -> bool:
    return (claims / f"{name}.done").exists()


def work_through(claims: Path, jobs: Callable[[], Iterable[Job]]) -> None:
    """Do what no other process is doing, in the order given, until nothing is left."""
    claims.mkdir(parents=True, exist_ok=True)
    while True:
        left = [job for job in jobs() if not is_done(claims, job.name)]
        if not left:
            return
        if not any(_do(claims, job) for job in left):
            time.sleep(2)


def seconds_spent(claims: Path) -> dict[str, float]:
    """By job."""
    return {done.stem: float(done.read_text()) for done in sorted(claims.glob("*.done"))}


def _do(claims: Path, job: Job) -> bool:
    if not job.is_ready():
        return False
    with (claims / f"{job.name}.lock").open("w") as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if is_done(claims, job.name):
            return False
        began = time.perf_counter()
        job.work()
        seconds = time.perf_counter() - began
        print(f"{time.strftime('%H:%M:%S')} {job.name}: {seconds:.0f} s", flush=True)
        (claims / f"{job.name}.done").write_text(f"{seconds:.1f}")
    return True
