"""A run that is killed, stopped or shared with another one ends with the numbers of a run left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from faults.fault_process import Audit, result_of, starter, undisturbed, unit_files, units, wait_for

PASSES_BEFORE_HOLD = 50
"""More than a model takes to prove itself, fewer than it takes to score these records."""


@pytest.fixture
def audit(full, base, record_files, tmp_path_factory):
    return undisturbed(full, base, record_files, tmp_path_factory)


@pytest.fixture
def held(audit, tmp_path):
    """A run that waits in the middle of a batch until the file `hold` is removed."""
    hold = tmp_path / "hold"
    process = starter().start(tmp_path, *audit.words, hold=[str(hold), PASSES_BEFORE_HOLD])
    wait_for(lambda: hold.exists() or process.poll() is not None)
    assert 0 < len(units(tmp_path)) < len(units(audit.folder))
    yield process, hold
    hold.unlink(missing_ok=True)
    process.send(signal.SIGKILL)
    process.finish()


def assert_valid(folder: Path) -> None:
    """Every unit is what its name says, and nothing is half written or marked complete."""
    for name, content in units(folder).items():
        assert hashlib.sha256(content).hexdigest()[:32] + ".unit" == name
    assert list((folder / ".loraudit").rglob("*.tmp")) == []
    assert not (folder / "run" / "result.json").exists()
    assert not (folder / "run" / "scores.parquet").exists()


# --- row 1: killed -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Kill:
    """What a kill found: units on disk afterwards, and views of units that had been scored but not written."""

    n_units: int
    n_lost: int


def kill_once(audit: Audit, folder: Path, rng: np.random.Generator, *, by_clock: bool) -> Kill | None:
    """Kill the command at a random moment, by the clock or by how many units there are; None if it was faster."""
    before, n_units = len(unit_files(folder)), len(units(audit.folder))
    log = folder / "views-scored"
    log.unlink(missing_ok=True)
    process = starter().start(folder, *audit.words, views_scored=str(log))
    if by_clock:
        time.sleep(rng.uniform(0, audit.seconds))
    else:
        target = before + int((n_units - before) * rng.uniform(0.05, 0.6))
        wait_for(lambda: len(unit_files(folder)) >= target or process.poll() is not None)
        time.sleep(rng.uniform(0, 0.01))
    process.send(signal.SIGKILL)
    code, _, err = process.finish()
    assert code in {0, -signal.SIGKILL}, err
    if code == 0:
        return None
    scored = sum(map(int, log.read_text().split())) if log.exists() else 0
    after = len(unit_files(folder))
    return Kill(after, scored - (after - before))


def check_kills(audit: Audit, tmp_path: Path, n_kills: int, *, seed: int) -> list[Kill]:
    """Kill runs again and again, each resuming the last, until one is through; then begin another folder."""
    rng = np.random.default_rng(seed)
    kills: list[Kill] = []
    folder = tmp_path / "0"
    while len(kills) < n_kills:
        kill = kill_once(audit, folder, rng, by_clock=len(kills) % 2 == 1)
        if kill is None:
            audit.assert_undisturbed(folder)
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            continue
        kills.append(kill)
        # All that was finished is on disk, but for one unit at most: no more than one is ever redone.
        assert 0 <= kill.n_lost <= audit.views_per_unit
        if kill.n_units > 0.7 * len(units(audit.folder)) and len(kills) < n_kills:
            assert starter().run(folder, *audit.words)[0] == 0
            audit.assert_undisturbed(folder)
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
    n_there = len(unit_files(folder))
    code, _, err = starter().run(folder, *audit.words)
    assert code == 0, err
    audit.assert_undisturbed(folder)
    undisturbed, resumed = result_of(audit.folder)["scoring"], result_of(folder)["scoring"]
    assert resumed["damaged_units_redone"] == 0
    if n_there:
        assert resumed["tokens"] < undisturbed["tokens"]
    return kills


def n_while_scoring(audit: Audit, kills: list[Kill]) -> int:
    return sum(0 < kill.n_units < len(units(audit.folder)) for kill in kills)


def test_a_run_killed_three_times_goes_on_to_the_numbers_of_one_left_alone(audit, tmp_path):
    assert n_while_scoring(audit, check_kills(audit, tmp_path, 3, seed=5)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "last_layer", "adapter"])
def test_a_run_killed_at_twenty_four_moments_goes_on_to_the_numbers_of_one_left_alone(
    kind, request, base, record_files, tmp_path, tmp_path_factory
):
    audit = undisturbed(request.getfixturevalue(kind), base, record_files, tmp_path_factory)
    assert n_while_scoring(audit, check_kills(audit, tmp_path, 24, seed=6)) >= 8


# --- row 2: asked to stop ------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_finishes_its_batch_and_says_how_to_go_on(sent, audit, held, tmp_path):
    process, hold = held
    process.send(sent)
    wait_for(lambda: "Stopping after this batch" in process.err.read_text("utf-8"))
    assert process.poll() is None, "the batch was not finished"
    hold.unlink()
    code, out, err = process.finish()
    assert (code, out) == (130, "")
    assert "run the same command again to go on" in err
    assert_valid(tmp_path)
    assert not (tmp_path / "run" / "lock.json").exists()
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()[-1])
    assert last["event"] == "stopped"
    n_tokens = result_of(audit.folder)["scoring"]["tokens"]
    assert starter().run(tmp_path, *audit.words)[0] == 0
    audit.assert_undisturbed(tmp_path)
    assert 0 < result_of(tmp_path)["scoring"]["tokens"] < n_tokens


def test_ctrl_c_twice_stops_in_the_middle_of_a_batch_and_leaves_a_valid_store(audit, held, tmp_path):
    process, hold = held
    process.send(signal.SIGINT)
    wait_for(lambda: "Ctrl-C again: at once" in process.err.read_text("utf-8"))
    process.send(signal.SIGINT)
    code, out, err = process.finish(timeout=10)
    assert hold.exists(), "it waited for the batch"
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert_valid(tmp_path)
    assert not (tmp_path / "run" / "lock.json").exists()
    assert starter().run(tmp_path, *audit.words)[0] == 0
    audit.assert_undisturbed(tmp_path)


def test_ctrl_c_before_the_run_has_begun_says_how_to_go_on(tmp_path):
    """The spec is a pipe that nobody writes to, as a place where the command surely is when it is stopped."""
    spec = tmp_path / "spec.toml"
    os.mkfifo(spec)
    process = starter().start(tmp_path, "audit", "--spec", "spec.toml")
    writer = -1
    while writer < 0:
        with contextlib.suppress(OSError):  # until somebody reads
            writer = os.open(spec, os.O_WRONLY | os.O_NONBLOCK)
    try:
        process.send(signal.SIGINT)
        code, out, err = process.finish(timeout=10)
    finally:
        os.close(writer)
    assert (code, out) == (130, "")
    assert "run the same command again to go on" in err


@pytest.mark.slow
def test_ctrl_c_twice_at_any_moment_leaves_a_valid_store(audit, tmp_path):
    rng = np.random.default_rng(7)
    for _ in range(12):
        process = starter().start(tmp_path, *audit.words)
        time.sleep(rng.uniform(0.2, 1) * audit.seconds)
        process.send(signal.SIGINT)
        time.sleep(rng.uniform(0, 0.02))
        process.send(signal.SIGINT)
        code, _, err = process.finish()
        assert code in {0, 130}, err
        for name, content in units(tmp_path).items():
            assert hashlib.sha256(content).hexdigest()[:32] + ".unit" == name
        assert list(tmp_path.rglob("*.tmp")) == []
        if code == 0:
            audit.assert_undisturbed(tmp_path)
    assert starter().run(tmp_path, *audit.words)[0] == 0
    audit.assert_undisturbed(tmp_path)


# --- row 5: two runs -----------------------------------------------------------------------------------


def test_a_second_run_on_the_folder_stops_and_does_not_disturb_the_first(audit, held, tmp_path):
    process, hold = held
    before = units(tmp_path)
    code, out, err = starter().run(tmp_path, *audit.words)
    assert (code, out) == (5, "")
    assert re.search(rf"in use by process {process.pid} on {re.escape(socket.gethostname())}\.", err)
    assert units(tmp_path) == before
    assert (tmp_path / "run" / "lock.json").exists(), "the second run took the lock of the first away"
    hold.unlink()
    code, _, err = process.finish()
    assert code == 0, err
    audit.assert_undisturbed(tmp_path)


def test_the_lock_of_a_killed_run_is_taken_over(audit, held, tmp_path):
    process, _ = held
    process.send(signal.SIGKILL)
    assert process.finish()[0] == -signal.SIGKILL
    lock = json.loads((tmp_path / "run" / "lock.json").read_text("utf-8"))
    assert lock == {"pid": process.pid, "host": socket.gethostname()}
    code, _, err = starter().run(tmp_path, *audit.words)
    assert code == 0, err
    audit.assert_undisturbed(tmp_path)


def test_a_lock_of_another_host_is_refused_with_what_to_do(audit, tmp_path):
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / "lock.json"
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere"}), "utf-8")
    code, _, err = starter().run(tmp_path, *audit.words)
    assert code == 5
    assert "in use by process 1 on elsewhere" in err
    assert "delete 'run/lock.json' if that process is gone" in err


def test_two_runs_at_once_may_share_a_store(audit, tmp_path):
    runs = [starter().start(tmp_path, *audit.words[:-1], name) for name in ("run", "other")]
    for process in runs:
        code, _, err = process.finish()
        assert code == 0, err
    assert (tmp_path / "other" / "scores.parquet").read_bytes() == (tmp_path / "run" / "scores.parquet").read_bytes()
    audit.assert_undisturbed(tmp_path)
