"""What an engine costs: units of known length carried out by one process, by several, and by a Ray cluster.

    python benchmarks/engines.py
    python benchmarks/engines.py --engines serial processes --workers 2 --cpu-seconds 0.01 0.1

`sleep` units leave the cores alone, so that the wall time of any number of workers can be ideal; `cpu` units compete
for them. `of ideal` is the wall time over units × seconds / workers; the clock runs from when all workers have
started (after `start`) to the last outcome. `per unit` is what remains for one unit at one worker, in milliseconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loraudit.engines import open_engine
from loraudit.spec.engines import EngineOptions


@dataclass
class Work:
    """Sleeps, or spins so often as was measured before to take so long. Units below 0 wait for each other.

    Attributes:
        kind: Which.
        amount: Seconds, or rounds.
        shared: Where workers say that they are there.
        n_workers: That there are to be.
    """

    kind: str
    amount: float
    shared: Path
    n_workers: int

    def __call__(self, unit: int) -> int:
        if unit < 0:
            (self.shared / f"there{unit}").touch()
            while len(list(self.shared.glob("there*"))) < self.n_workers:
                time.sleep(0.005)
        elif self.kind == "sleep":
            time.sleep(self.amount)
        else:
            spin(int(self.amount))
        return unit


def spin(rounds: int) -> float:
    values, total = np.arange(1.0, 2001.0), 0.0
    for _ in range(rounds):
        total += float(np.sqrt(values).sum())
    return total


def rounds_for(seconds: float) -> int:
    """By the fastest of several tries: another program's use of the cores is no property of this work."""
    n_tried, fastest = 20_000, float("inf")
    for _ in range(5):
        began = time.perf_counter()
        spin(n_tried)
        fastest = min(fastest, time.perf_counter() - began)
    return max(1, round(n_tried * seconds / fastest))


def measure(engine_name: str, workers: int, kind: str, seconds: float, n_units: int, shared: Path) -> dict:
    from engines import Work  # this very file, under the name by which workers know it

    work = Work(kind, seconds if kind == "sleep" else rounds_for(seconds), shared, workers)
    options = EngineOptions(engine="ray" if engine_name == "ray" else "local", workers=workers)
    with open_engine(options, shared=shared) as engine:
        opened = time.perf_counter()
        outcomes = engine.map(work, itertools.chain(range(-workers, 0), range(n_units)))
        for _ in range(workers):
            next(outcomes)
        began = time.perf_counter()
        for _ in itertools.islice(outcomes, n_units):
            pass
        wall = time.perf_counter() - began
    ideal = n_units * seconds / workers
    return {
        "engine": engine_name,
        "workers": workers,
        "work": kind,
        "seconds": seconds,
        "units": n_units,
        "start_s": round(began - opened, 2),
        "wall_s": round(wall, 2),
        "of_ideal": round(wall / ideal, 3),
        "per_unit_ms": round(1000 * (wall - ideal) * workers / n_units, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["serial", "processes", "ray"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sleep-seconds", nargs="*", type=float, default=[0.001, 0.01, 0.1, 1.0])
    parser.add_argument("--cpu-seconds", nargs="*", type=float, default=[0.01, 0.1])
    parser.add_argument("--wall-seconds", type=float, default=8.0, help="ideal wall time of each measurement")
    parser.add_argument("--most-units", type=int, default=4000)
    parser.add_argument("--out", type=Path, help="write the rows as JSON too")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )  # workers of Ray import this file by name
    works = [("sleep", s) for s in arguments.sleep_seconds] + [("cpu", s) for s in arguments.cpu_seconds]
    rows = []
    print(
        f"{'engine':<10} {'workers':>7} {'work':>6} {'unit':>8} {'units':>6} {'start':>7} {'wall':>7} "
        f"{'of ideal':>9} per unit"
    )
    for kind, seconds in works:
        for engine_name in arguments.engines:
            workers = 1 if engine_name == "serial" else arguments.workers
            n_units = min(arguments.most_units, max(workers, round(arguments.wall_seconds * workers / seconds)))
            with tempfile.TemporaryDirectory() as folder:
                row = measure(engine_name, workers, kind, seconds, n_units, Path(folder))
            rows.append(row)
            print(
                f"{engine_name:<10} {row['workers']:>7} {row['work']:>6} {seconds:>6.3f} s {n_units:>6} "
                f"{row['start_s']:>5.1f} s {row['wall_s']:>5.1f} s {row['of_ideal']:>9.3f} {row['per_unit_ms']:.2f} ms",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
