"""A study that is killed, stopped, damaged or started twice ends with the figures of one left alone."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from faults.fault_process import starter, wait_for
from faults.fault_small import write_sides

STUDY = """
name = "four"

[[grids]]
name = "checkpoints"
run = "audit"
settings = {{ members = "m.jsonl", nonmembers = "n.jsonl", base = "{base}", resamples = 100, attacks = ["error_zone"] }}
axes = {{ model = ["{full}", "{head}"], max_records = [15, 25] }}
"""
WORDS = ("study", "study.toml", "-o", "s", "-q")
_UNDISTURBED: dict[str, tuple[Path, float]] = {}
"""Kept here and not by a fixture of the session, which would run before a test has a LORAUDIT_HOME of its own."""


@pytest.fixture
def four(base, full, head_only, texts, tmp_path_factory):
    """Makes a working folder with a study of four cells."""

    def prepared(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        write_sides(texts, folder)
        study = STUDY.format(base=base, full=full, head=head_only)
        (folder / "study.toml").write_text(study, encoding="utf-8")
        return folder

    return prepared


@pytest.fixture
def alone(four, tmp_path_factory):
    """The study that nothing happened to, and the seconds it took."""
    if "study" not in _UNDISTURBED:
        folder = four(tmp_path_factory.mktemp("undisturbed-study"))
        began = time.monotonic()
        code, _, err = starter().run(folder, *WORDS, timeout=300)
        assert code == 0, err
        _UNDISTURBED["study"] = folder / "s", time.monotonic() - began
    return _UNDISTURBED["study"]


def n_started(folder: Path) -> dict[str, int]:
    """How often each cell was begun."""
    return {
        log.parent.name: log.read_text("utf-8").count('"event": "started"') for log in folder.glob("cells/*/log.jsonl")
    }


def complete(folder: Path) -> set[str]:
    return {result.parent.name for result in folder.glob("cells/*/result.json")}


def assert_as_alone(folder: Path, alone: Path) -> None:
    for name in ("findings.parquet", "findings.csv"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes()
    ours, theirs = (json.loads((one / "result.json").read_text("utf-8")) for one in (folder, alone))
    assert [cell["sentence"] for cell in ours["cells"]] == [cell["sentence"] for cell in theirs["cells"]]
    assert ours["heading"] == theirs["heading"] == "All 4 cells are finished"
    assert not list(folder.rglob("lock.json"))


# --- row 1: killed -------------------------------------------------------------------------------------


def check_kills(four, alone, tmp_path, *, n_kills: int, seed: int, n_workers: int = 1) -> int:
    """Kill a study again and again, each call resuming the last; how many kills fell between two cells' ends."""
    rng = np.random.default_rng(seed)
    undisturbed, seconds = alone
    words = *WORDS, "--workers", n_workers
    n_hit = n_done = folder_number = 0
    folder = four(tmp_path / "0")
    kills_here = 0
    while n_done < n_kills:
        process = starter().start(folder, *words)
        time.sleep(rng.uniform(0.05, 0.7) * seconds * (1 if n_workers == 1 else 2))
        before = complete(folder / "s")
        begun = n_started(folder / "s")
        process.send(signal.SIGKILL)
        code, _, err = process.finish()
        if code == 0:  # it was faster
            assert_as_alone(folder / "s", undisturbed)
            folder_number, kills_here = folder_number + 1, 0
            folder = four(tmp_path / str(folder_number))
            continue
        assert code == -signal.SIGKILL, err
        n_done, kills_here = n_done + 1, kills_here + 1
        n_hit += bool(begun) and len(before) < 4
        found = n_started(folder / "s")
        assert sum(found.values()) <= len(found) + n_workers * (kills_here - 1)
    code, _, err = starter().run(folder, *words, timeout=300)
    assert code == 0, err
    assert_as_alone(folder / "s", undisturbed)
    # Each kill costs each worker the cell it was at, which goes on where it stopped; nothing else is begun again.
    assert sum(n_started(folder / "s").values()) <= 4 + n_workers * kills_here
    return n_hit


def test_a_study_killed_twice_goes_on_to_the_figures_of_one_left_alone(four, alone, tmp_path):
    assert check_kills(four, alone, tmp_path, n_kills=2, seed=3) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_study_killed_at_many_moments_goes_on_to_the_figures_of_one_left_alone(n_workers, four, alone, tmp_path):
    assert check_kills(four, alone, tmp_path, n_kills=6, seed=4, n_workers=n_workers) >= 3


# --- row 2: asked to stop ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_study_asked_to_stop_says_how_to_go_on_and_goes_on(n_workers, four, alone, tmp_path):
    folder = four(tmp_path / "stopped")
    process = starter().start(folder, *WORDS, "--workers", n_workers)
    wait_for(lambda: complete(folder / "s") or process.poll() is not None)
    process.send(signal.SIGTERM)
    code, out, err = process.finish(120)
    assert (code, out) == (130, ""), err
    assert "run the same command again to go on" in err
    assert not list((folder / "s").rglob("lock.json"))
    assert not (folder / "s" / "result.json").exists()
    events = [json.loads(line) for line in (folder / "s" / "log.jsonl").read_text("utf-8").splitlines()]
    assert events[-1]["event"] == "stopped"
    assert {event["status"] for event in events if event["event"] == "cell"} == {"ok"}
    finished = complete(folder / "s")
    begun = n_started(folder / "s")
    assert starter().run(folder, *WORDS, timeout=300)[0] == 0
    assert_as_alone(folder / "s", alone[0])
    assert all(n_started(folder / "s")[name] == begun[name] for name in finished)


# --- row 3: folders that cannot be written -------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_found_before_the_first_cell(four, tmp_path):
    folder = four(tmp_path / "place")
    (folder / "s").write_text("a file", "utf-8")
    code, _, err = starter().run(folder, *WORDS)
    assert code == 5
    assert re.search(r"Error: 's.*' cannot be written: ", err)


def test_a_disk_that_fills_up_stops_the_study_and_marks_nothing_complete(four, alone, tmp_path):
    folder = four(tmp_path / "full-disk")
    code, _, err = starter().run(folder, *WORDS, largest_file=6000, timeout=300)
    assert code == 5, err
    assert "cannot be written" in err
    assert complete(folder / "s") == set()
    code, _, err = starter().run(folder, *WORDS, timeout=300)
    assert code == 0, err
    assert_as_alone(folder / "s", alone[0])


# --- row 4: damaged ------------------------------------------------------------------------------------


def test_a_damaged_cell_and_a_damaged_unit_alone_are_done_again(four, alone, tmp_path):
    folder = four(tmp_path / "damaged")
    assert starter().run(folder, *WORDS, timeout=300)[0] == 0
    begun = n_started(folder / "s")
    first, second, *_ = sorted(complete(folder / "s"))
    scores = folder / "s" / "cells" / first / "scores.parquet"
    content = bytearray(scores.read_bytes())
    content[len(content) // 3] ^= 0xFF
    scores.write_bytes(bytes(content))
    (folder / "s" / "cells" / second / "result.json").write_text("{", "utf-8")
    unit = next((folder / "s" / "store").glob("evidence/*/*.unit"))
    unit.write_bytes(unit.read_bytes()[:-1])
    code, _, err = starter().run(folder, *WORDS, timeout=300)
    assert code == 0, err
    assert_as_alone(folder / "s", alone[0])
    now = n_started(folder / "s")
    assert {name for name in now if now[name] > begun[name]} == {first, second}
    warnings = json.loads((folder / "s" / "result.json").read_text("utf-8"))["warnings"]
    assert len([words for words in warnings if "its result was damaged and is made again" in words]) == 2


# --- row 5: two at once --------------------------------------------------------------------------------


def test_a_second_study_in_the_folder_stops_and_parts_keep_out_the_whole(four, alone, tmp_path):
    folder = four(tmp_path / "twice")
    process = starter().start(folder, *WORDS, "--shard", "1/2")
    wait_for(lambda: n_started(folder / "s") or process.poll() is not None)
    for more, where in (
        ((), "s/parts/1-of-2"),
        (("--shard", "1/2"), "s/parts/1-of-2"),
        (("--shard", "1/3"), "s/parts"),
    ):
        code, _, err = starter().run(folder, *WORDS, *more)
        assert code == 5, err
        assert re.search(rf"Run folder '{where}.*' is in use by process {process.pid} on ", err)
    code, _, err = starter().run(folder, *WORDS, "--shard", "2/2", timeout=300)  # the other part may run beside it
    assert code == 0, err
    assert process.finish(300)[0] == 0
    assert starter().run(folder, *WORDS, timeout=300)[0] == 0
    assert_as_alone(folder / "s", alone[0])
    assert set(n_started(folder / "s").values()) == {1}
