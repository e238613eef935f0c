"""Workers of this machine: what a killed one costs, and that none outlives who hired it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine_work import Files, Memory, files_of, n_begun, wait_until
from loraudit.engines import open_engine
from loraudit.errors import EnvironmentFault
from loraudit.spec.engines import EngineOptions

DRIVER = """
import sys
from pathlib import Path
from engine_work import Deaf, Files, UntilStopped
from loraudit.cli.console import waiting
from loraudit.engines import open_engine
from loraudit.execution import Interrupted, StopNow
from loraudit.spec.engines import EngineOptions

def main(folder, work, n_units):
    work = {"files": Files(folder, seconds=0.05), "deaf": Deaf(folder), "stopped": UntilStopped(folder)}[work]
    with waiting(quiet=True) as (_, stop), open_engine(EngineOptions(workers=2), shared=folder, stop=stop) as engine:
        for _ in engine.map(work, range(n_units)):
            pass

if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except (Interrupted, StopNow) as stopped:
        print(type(stopped).__name__, flush=True)
        sys.exit(130)
"""


@pytest.fixture
def driver(tmp_path):
    """Start a command with two workers in a process group of its own, as a terminal does."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, "utf-8")
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = []

    def start(folder, work, n_units):
        folder.mkdir(exist_ok=True)
        started.append(
            subprocess.Popen(
                [sys.executable, script, folder, work, str(n_units)],
                env=os.environ | {"PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def workers_of(process):
    return psutil.Process(process.pid).children(recursive=True)


def assert_nobody_left(workers):
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def undisturbed(folder, n_units):
    folder.mkdir()
    with open_engine(EngineOptions(), shared=folder) as engine:
        list(engine.map(Files(folder), range(n_units)))
    return files_of(folder)


# --- row 1: killed -------------------------------------------------------------------------------------


def test_workers_killed_at_random_moments_leave_the_files_of_an_undisturbed_run(tmp_path):
    folder, draw = tmp_path / "run", random.Random(3)
    folder.mkdir()
    killed = []

    def kill_one(position, outcome):
        if position and position % 12 == 0:
            worker = draw.choice([p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())])
            time.sleep(draw.uniform(0, 0.03))
            worker.kill()
            killed.append(worker.pid)

    options = EngineOptions(workers=2, unit_retries=5)
    with open_engine(options, shared=folder, on_done=kill_one) as engine:
        outcomes = list(engine.map(Files(folder, seconds=0.02), range(60)))
    assert len(killed) == 4
    assert len(outcomes) == 60
    assert 1 <= engine.n_repeated <= 4
    assert files_of(folder) == undisturbed(tmp_path / "undisturbed", 60)
    assert sum(n_begun(folder).values()) - 60 <= 4  # no more than one unit is redone for a death


def test_a_killed_command_leaves_no_worker_and_the_next_one_redoes_what_was_in_hand(tmp_path, driver):
    folder = tmp_path / "run"
    process = driver(folder, "files", 40)
    wait_until(lambda: len(files_of(folder)) >= 8)
    workers = workers_of(process)
    assert len([w for w in workers if "spawn_main" in " ".join(w.cmdline())]) == 2
    process.kill()
    assert_nobody_left(workers)
    assert 8 <= len(files_of(folder)) < 40
    again = driver(folder, "files", 40)
    assert again.wait(timeout=60) == 0
    assert files_of(folder) == undisturbed(tmp_path / "undisturbed", 40)


# --- row 2: SIGTERM, Ctrl-C ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["command", "group"])
def test_a_stop_asks_the_work_of_all_workers_and_leaves_none(how, whom, tmp_path, driver):
    folder = tmp_path / "run"
    process = driver(folder, "stopped", 20)
    wait_until(lambda: len(list(folder.glob("begun-*"))) == 2)
    workers = workers_of(process)
    (os.killpg if whom == "group" else os.kill)(process.pid, how)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "Interrupted\n")
    assert "Traceback" not in err
    assert len(list(folder.glob("begun-*"))) == 2  # nothing was begun after the stop
    assert_nobody_left(workers)


def test_a_second_ctrl_c_ends_workers_that_do_not_listen(tmp_path, driver):
    folder = tmp_path / "run"
    process = driver(folder, "deaf", 20)
    wait_until(lambda: len(list(folder.glob("begun-*"))) == 2)
    workers = workers_of(process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None  # it waits for what is in hand
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "StopNow\n")
    assert time.monotonic() - began < 20
    assert "Traceback" not in err
    assert_nobody_left(workers)


def test_ctrl_c_while_workers_start_leaves_none_and_prints_no_traceback(tmp_path, driver):
    folder = tmp_path / "run"
    process = driver(folder, "stopped", 20)
    wait_until(lambda: len(workers_of(process)) >= 2)
    workers = workers_of(process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "Interrupted\n")
    assert "Traceback" not in err
    assert_nobody_left(workers)


# --- row 18: out of memory ---------------------------------------------------------------------------------


def test_a_unit_that_fails_beside_others_gets_the_memory_to_itself(tmp_path):
    with open_engine(EngineOptions(workers=2), shared=tmp_path) as engine:
        assert list(engine.map(Memory(tmp_path), range(6))) == list(range(6))
    assert engine.n_repeated <= 2


def test_a_unit_that_no_worker_survives_is_named_and_the_others_stay(tmp_path):
    options = EngineOptions(workers=2, unit_retries=1)
    with (
        open_engine(options, shared=tmp_path) as engine,
        pytest.raises(
            EnvironmentFault,
            match=r"^Unit 4 \(4\) ended 2 workers, one after another; the last one was killed by SIGKILL\. .*memory",
        ),
    ):
        list(engine.map(Files(tmp_path, {4: 99}), range(12)))
    assert len(files_of(tmp_path)) >= 4
    assert engine.n_repeated == 1
