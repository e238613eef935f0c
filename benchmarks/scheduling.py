"""What the engines' policy costs with up to a thousand workers and a million units, in virtual time.

    python benchmarks/scheduling.py
    python benchmarks/scheduling.py --units 100000 --workers 1 1000 --deaths 0.001

The loop is the engines' own (`engines.dispatch`), with its constants; only the workers are made up: a heap of moments
at which one finishes, starts or dies, and no time passes in between. `over ideal` is the makespan over that of workers
which are there from the beginning and never wait: the larger of all seconds / workers and the longest unit. `over
greedy` is the makespan over that of such workers who each take the next unit of the list, nobody knowing its length:
what the loop itself, starting and dying cost. `dead`
is the share of units that a worker dies of, part way through; `units ahead` is the most that had been read beyond the
first unfinished one. Units are a second long on average, which is when the policy gives a worker one at a time;
`--mean 0.01` shows the other case, with a round trip of `--latency` between a worker's units.
"""

from __future__ import annotations

import argparse
import heapq
import json
import pickle
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.engines.crew import Answered, Event, Lost, Ready, Wishes
from loraudit.engines.dispatch import Dispatch
from loraudit.engines.seat import Answer
from loraudit.execution import StopRequest

NOTHING = pickle.dumps(None)


def seconds_of_units(name: str, n_units: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """[n_units] seconds; of the heavy tail (Pareto, exponent 1.5) the variance is infinite."""
    if name == "constant":
        return np.full(n_units, mean)
    if name == "lognormal":
        drawn = rng.lognormal(0.0, 1.0, n_units)
    elif name == "rising":  # as along a grid whose later cells are larger
        drawn = np.linspace(0.1, 1.9, n_units)
    elif name == "pareto":
        drawn = rng.pareto(1.5, n_units) + 1.0
    else:
        raise ValueError(name)
    return drawn * (mean / drawn.mean())


class Virtual:
    """Workers that take no time but the one that they say they took."""

    shares_memory = False

    def __init__(
        self, size: int, seconds: np.ndarray, is_deadly: np.ndarray, *, latency: float, start: float, seed: int
    ) -> None:
        self.size, self.now, self.busy = size, 0.0, 0.0
        self._seconds, self._is_deadly = seconds, is_deadly
        self._latency, self._start = latency, start
        self._rng = np.random.default_rng(seed)
        self._moments: list[tuple[float, int, str]] = []
        self._hands: dict[int, deque[int]] = {}
        self._n_hired = 0

    def hire(self) -> int:
        self._n_hired += 1
        self._hands[self._n_hired] = deque()
        heapq.heappush(self._moments, (self.now + self._start, self._n_hired, "ready"))
        return self._n_hired

    def give(self, worker: int, position: int, unit: Any) -> None:  # noqa: ARG002
        hand = self._hands[worker]
        hand.append(position)
        if len(hand) == 1:
            self._begin(worker, self.now + self._latency)

    def _begin(self, worker: int, moment: float) -> None:
        position = self._hands[worker][0]
        if self._is_deadly[position]:
            self._is_deadly[position] = False
            heapq.heappush(self._moments, (moment + self._rng.uniform() * self._seconds[position], worker, "lost"))
        else:
            heapq.heappush(self._moments, (moment + self._seconds[position], worker, "answered"))

    def events(self, seconds: float) -> Sequence[Event]:  # noqa: ARG002
        self.now, worker, what = heapq.heappop(self._moments)
        if what == "ready":
            return [Ready(worker)]
        if what == "lost":
            del self._hands[worker]
            return [Lost(worker, "was lost")]
        hand = self._hands[worker]
        position = hand.popleft()
        self.busy += self._seconds[position]
        if hand:  # it has the next one in its hand, and does not wait for the way there and back
            self._begin(worker, self.now)
        return [Answered(worker, Answer(position, float(self._seconds[position]), False, NOTHING))]

    def ask_to_stop(self) -> None:
        raise AssertionError("nobody asks")

    def dismiss(self) -> None:
        self._moments.clear()


def greedy_makespan(seconds: np.ndarray, n_workers: int) -> float:
    """Seconds until workers who take the units in order, without waiting or dying, have finished."""
    free = [0.0] * n_workers
    for one in seconds.tolist():
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def simulate(
    name: str, n_units: int, n_workers: int, deaths: float, mean: float, latency: float, start: float, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    seconds = seconds_of_units(name, n_units, mean, rng)
    is_deadly = rng.uniform(size=n_units) < deaths
    n_dead = int(is_deadly.sum())
    crew = Virtual(n_workers, seconds, is_deadly, latency=latency, start=start, seed=seed)
    n_read = n_handed = most_ahead = 0

    def units() -> Iterator[int]:
        nonlocal n_read, most_ahead
        for unit in range(n_units):
            n_read += 1
            most_ahead = max(most_ahead, n_read - n_handed)
            yield unit

    wishes = Wishes(2, StopRequest(), lambda _position, _outcome: None, None, lambda _line: None)
    dispatch = Dispatch(crew, units(), wishes)
    began = time.perf_counter()
    for _ in dispatch.outcomes():
        n_handed += 1
    seconds_of_loop = time.perf_counter() - began
    greedy = greedy_makespan(seconds, n_workers)
    ideal = max(float(seconds.sum()) / n_workers, float(seconds.max()))
    return {
        "seconds_of_units": name,
        "units": n_units,
        "workers": n_workers,
        "deaths": n_dead,
        "repeated": dispatch.n_repeated,
        "makespan_s": round(crew.now, 1),
        "over_ideal": round(crew.now / ideal, 4),
        "over_greedy": round(crew.now / greedy, 4),
        "units_ahead": most_ahead,
        "loop_us_per_unit": round(1e6 * seconds_of_loop / n_units, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--lengths", nargs="+", default=["constant", "rising", "lognormal", "pareto"])
    parser.add_argument("--deaths", nargs="+", type=float, default=[0.0, 0.001], help="share of units")
    parser.add_argument("--mean", type=float, default=1.0, help="seconds of a unit")
    parser.add_argument("--latency", type=float, default=0.001, help="seconds to a worker and back")
    parser.add_argument("--start", type=float, default=20.0, help="seconds until a worker is ready")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the rows as JSON too")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'unit lengths':<12} {'workers':>7} {'dead':>6} {'repeated':>8} {'makespan':>12} {'over ideal':>10} "
        f"{'over greedy':>11} {'ahead':>7} loop"
    )
    for name in arguments.lengths:
        for deaths in arguments.deaths:
            for n_workers in arguments.workers:
                row = simulate(
                    name,
                    arguments.units,
                    n_workers,
                    deaths,
                    arguments.mean,
                    arguments.latency,
                    arguments.start,
                    arguments.seed,
                )
                rows.append(row)
                print(
                    f"{name:<12} {n_workers:>7} {row['deaths']:>6} {row['repeated']:>8} {row['makespan_s']:>10,.0f} s "
                    f"{row['over_ideal']:>10.4f} {row['over_greedy']:>11.4f} {row['units_ahead']:>7} "
                    f"{row['loop_us_per_unit']:.0f} µs",
                    flush=True,
                )
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
