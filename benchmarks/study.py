"""One study by every engine: the same findings, whatever carries it out and whatever dies on the way.

    python benchmarks/study.py --out runs/study-engines

24 cells: contrasts of the packaged base, four methods by three seeds by two numbers of fictional records. They are
carried out by one process, by a Ray cluster of a head and two nodes started on this machine, and by such a cluster of
which one node is killed after both nodes have cells under way. Each is a `loraudit study` process of its own. Prints
wall times, their ratio, what each unit cost beyond its own work, and whether `findings.parquet` has the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loraudit.models import packaged_base
from loraudit.synthetic import private_records

METHODS = (
    "full:learning_rate=0.001",
    "head:learning_rate=0.001",
    "lora:4,learning_rate=0.002",
    "lora:16,learning_rate=0.002",
)
SIZES, SEEDS = (24, 48), (0, 1, 2)
N_RECORDS = 140
N_NODES = 2
PATIENCE = 900.0


def write_study(out: Path) -> Path:
    records = out / "records.jsonl"
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in private_records(N_RECORDS, seed=3)))
    study = {
        "name": "engines",
        "settings": {
            "base": str(packaged_base()),
            "data": [str(records)],
            "validation_records": 16,
            "seeds": 1,
            "epochs": 1,
            "batch_size": 8,
            "resamples": 200,
            "device": "cpu",
            "offline": True,
        },
        "grids": [
            {
                "name": "leakage",
                "run": "contrast",
                "axes": {
                    "methods": [[method] for method in METHODS],
                    "seed": list(SEEDS),
                    "max_records": list(SIZES),
                },
            }
        ],
    }
    path = out / "study.json"
    path.write_text(json.dumps(study))
    return path


def start(study: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "loraudit", "study", str(study), "--out", str(folder), "--quiet", *more]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise SystemExit(f"the study ended with exit code {process.returncode}")


def cells_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("cells/*"))


def under_way(folder: Path) -> int:
    return sum((cell / "lock.json").exists() and not (cell / "result.json").exists() for cell in cells_of(folder))


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "findings.parquet").read_bytes()).hexdigest()


def begun(folder: Path) -> int:
    """How often cells were begun, as they log it themselves."""
    lines = [line for cell in cells_of(folder) for line in (cell / "log.jsonl").read_text().splitlines()]
    return sum(json.loads(line)["event"] == "started" for line in lines)


class RayNodes:
    """A Ray cluster of several nodes on one machine; workers may only run on nodes that can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        fast = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": fast})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(N_NODES)]

    def run(self, study: Path, folder: Path, *, kill: bool) -> float:
        started = time.perf_counter()
        process = start(study, folder, "--engine", "ray", "--ray-address", self.cluster.address)
        if kill:
            wait_for(lambda: under_way(folder) >= N_NODES or process.poll() is not None)
            if process.poll() is not None:
                raise SystemExit("the study ended before both nodes had work: the kill would prove nothing")
            self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)
        finish(process)
        return time.perf_counter() - started

    def close(self) -> None:
        self.cluster.shutdown()


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing happened for {PATIENCE:g} s")
        time.sleep(0.1)


def row(name: str, folder: Path, seconds: float, serial: float, n_workers: int) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    own = sum(cell["seconds"] for cell in result["cells"])
    n = len(result["cells"])
    return {
        "engine": name,
        "cells": n,
        "wall": seconds,
        "ratio": seconds / serial,
        "beyond": (seconds * n_workers - own) / n,
        "repeated": result["n_units_repeated"],
        "begun": begun(folder),
        "findings": result["n_findings"],
        "digest": digest(folder),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    study = write_study(out)
    started = time.perf_counter()
    finish(start(study, out / "local"))
    serial = time.perf_counter() - started
    rows = [row("one process", out / "local", serial, serial, 1)]
    for name, kill in (("Ray, two nodes", False), ("Ray, one of two nodes killed", True)):
        nodes = RayNodes()
        folder = out / ("killed" if kill else "ray")
        try:
            seconds = nodes.run(study, folder, kill=kill)
        finally:
            nodes.close()
        rows.append(row(name, folder, seconds, serial, N_NODES))
    columns = (
        "cells | wall, s | of one process | beyond the cells' own time, s a cell | cells begun | repeated | findings"
    )
    print(f"| engine | {columns} |")
    print("|---|---|---|---|---|---|---|---|")
    for one in rows:
        same = "reference" if one is rows[0] else "same bytes" if one["digest"] == rows[0]["digest"] else "DIFFERENT"
        print(
            f"| {one['engine']} | {one['cells']} | {one['wall']:.0f} | {one['ratio']:.2f} | {one['beyond']:.1f} | "
            f"{one['begun']} | {one['repeated']} | {one['findings']}, {same} |"
        )


if __name__ == "__main__":
    main()
