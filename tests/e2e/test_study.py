"""`loraudit study` on tiny models, end to end: cells, resuming, failures, parts, and what is made only once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import called
from loraudit.spec import StudyResult
from loraudit.store import read_contrast, read_run

STUDY = """
name = "tiny"
description = "Two checkpoints and two ways of tuning."

[settings]
resamples = 100
device = "cpu"

[[grids]]
name = "checkpoints"
run = "audit"
settings = {{ members = "{members}", nonmembers = "{nonmembers}", base = "{base}", max_records = 20 }}
axes = {{ model = ["{full}", "{head}"], headline = ["loss", "error_zone"] }}
exclude = [{{ model = "{head}", headline = "loss" }}]

[[grids]]
name = "tuning"
run = "contrast"
[grids.settings]
base = "{base}"
data = "{members}"
seeds = 1
epochs = 1
measure_at = [1]
batch_size = 8
max_length = 32

[grids.axes]
seed = [0, 1]

[grids.axes.method]
head = {{ methods = ["head:learning_rate=0.02"] }}

[[published]]
grid = "tuning"
cell = {{ seed = "1" }}
finding = "nowhere/auc"
value = 0.9
source = "A paper, Table 1"
"""


@pytest.fixture(scope="module")
def text(base, full, head_only, record_files):
    members, nonmembers = record_files
    return STUDY.format(base=base, full=full, head=head_only, members=members, nonmembers=nonmembers)


@pytest.fixture(scope="module")
def done(text, tmp_path_factory):
    """A finished study: its folder's parent, what was printed, and what went to the error stream."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        patch.chdir(folder)
        (folder / "study.toml").write_text(text, encoding="utf-8")
        code, out, err = called("study", "study.toml", "-o", "s")
    assert code == 0, err
    return folder, out, err


def result_of(folder: Path) -> StudyResult:
    return StudyResult.model_validate_json((folder / "result.json").read_text(encoding="utf-8"))


def events(folder: Path, event: str) -> dict[str, list[dict]]:
    """Such events of each cell's log, by the name of its folder."""
    return {
        log.parent.name: [
            line for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()) if line["event"] == event
        ]
        for log in folder.glob("cells/*/log.jsonl")
    }


def started(folder: Path) -> dict[str, int]:
    """How often each cell was begun."""
    return {name: len(lines) for name, lines in events(folder, "started").items()}


@pytest.fixture
def again(done, text, tmp_path, monkeypatch):
    """A copy of the finished study in a folder of its own, which is the current one."""
    shutil.copytree(done[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / "s"


def test_every_cell_is_a_run_of_its_own_that_its_command_can_read(done):
    folder = done[0] / "s"
    result = result_of(folder)
    assert [(cell.grid, cell.labels, cell.status) for cell in result.cells if cell.kind == "contrast"] == [
        ("tuning", {"seed": "0", "method": "head"}, "ok"),
        ("tuning", {"seed": "1", "method": "head"}, "ok"),
    ]
    audits = [cell for cell in result.cells if cell.kind == "audit"]
    assert [cell.labels["headline"] for cell in audits] == ["loss", "error_zone", "error_zone"]
    for cell in audits:
        assert read_run(folder / cell.folder).result.spec.headline == cell.labels["headline"]
    assert all(read_contrast(folder / cell.folder) for cell in result.cells if cell.kind == "contrast")
    assert set(started(folder).values()) == {1}
    assert all(cell.sentence and cell.seconds and cell.loraudit for cell in result.cells)


def test_the_study_says_what_was_found_and_where_it_is(done):
    folder, out, err = done
    result = result_of(folder / "s")
    assert result.heading == "All 5 cells are finished"
    assert "tiny: 3 audits, 2 contrasts in 2 grids" in result.sentence
    assert "0 of 1 published figures have a measured one beside them" in result.sentence
    assert result.n_findings > len(result.headlines) > 0
    assert {one.cell for one in result.headlines} == {cell.id for cell in result.cells}
    assert result.carried_out["engine"] == "local"
    assert (folder / "s" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert out.splitlines()[0] == "All 5 cells are finished"
    assert "Report: s/report.html" in out
    assert "[1/5] audit, grid 'checkpoints', model=" in err
    assert "[5/5] contrast, grid 'tuning', seed=1, method=head: done in " in err  # one after another, as written


def test_cells_share_one_store_and_the_base_is_scored_once(done):
    folder = done[0] / "s"
    scored = events(folder, "evidence")
    cells = [cell for cell in result_of(folder).cells if cell.kind == "audit"]
    first, second, third = (scored[Path(cell.folder).name][0] for cell in cells)
    assert (first["scored"], first["cached"]) == (40, 0)
    assert (second["scored"], second["cached"]) == (0, 40)  # the same checkpoint, another headline
    assert third["scored"] == 40  # another checkpoint: of its views only the target's is new
    assert (folder / "store" / "evidence").is_dir()
    assert not (folder / "cells" / ".loraudit").exists()


def test_the_same_study_again_repeats_nothing(again):
    before, findings = started(again), (again / "findings.parquet").read_bytes()
    code, _, err = called("study", "study.toml", "-o", "s")
    assert code == 0, err
    assert "5 of 5 cells are complete already" in err
    assert started(again) == before
    assert (again / "findings.parquet").read_bytes() == findings


def test_a_damaged_result_is_made_again_with_a_warning_and_the_same_figures(again):
    findings, cells = (again / "findings.parquet").read_bytes(), result_of(again).cells
    (again / cells[0].folder / "result.json").write_text('{"schema_version"', encoding="utf-8")
    (again / cells[-1].folder / "result.json").write_text('{"kind": "contrast"}', encoding="utf-8")
    code, _, err = called("study", "study.toml", "-o", "s")
    assert code == 0, err
    assert "3 of 5 cells are complete already" in err
    warnings = result_of(again).warnings
    assert len([words for words in warnings if "its result was damaged and is made again" in words]) == 2
    assert (again / "findings.parquet").read_bytes() == findings


def test_a_cell_that_fails_leaves_the_others_alone_and_is_tried_again(done, text, again, full, base):
    broken = again.parent / "broken"
    shutil.copytree(full, broken)
    (broken / "config.json").unlink()
    changed = text.replace(f'"{full}", ', f'"{broken}", "{full}", ')
    (again.parent / "changed.toml").write_text(changed, encoding="utf-8")
    code, out, err = called("study", "changed.toml", "-o", "t", "--store", "s/store", "-q")
    assert code == 7, err
    result = result_of(again.parent / "t")
    failed = [cell for cell in result.cells if cell.status == "failed"]
    assert len(failed) == 2
    assert all("broken" in cell.error for cell in failed)
    assert result.heading == "5 of 7 cells are finished, 2 failed"
    assert "(failed): " in out
    assert not any(one.cell == failed[0].id for one in result.headlines)
    shutil.copy(full / "config.json", broken)
    code, _, err = called("study", "changed.toml", "-o", "t", "--store", "s/store")
    assert code == 0, err
    assert "5 of 7 cells are complete already" in err
    assert result_of(again.parent / "t").heading == "All 7 cells are finished"


def test_parts_put_together_are_the_whole(done, again):
    words = "study", "study.toml", "-o", "parts"
    code, out, err = called(*words, "--shard", "2/2")
    assert code == 0, err
    assert "2 of 5 cells are complete" in out
    assert not (again.parent / "parts" / "result.json").exists()
    code, out, err = called(*words, "--shard", "1/2", "--workers", 1)
    assert code == 0, err
    assert "All 5 cells are finished" in out  # the last part finds all of them there
    assert called(*words)[0] == 0
    one, other = again.parent / "parts", done[0] / "s"
    assert (one / "findings.parquet").read_bytes() == (other / "findings.parquet").read_bytes()
    assert [cell.id for cell in result_of(one).cells] == [cell.id for cell in result_of(other).cells]


@pytest.mark.slow
def test_processes_find_what_one_process_finds(done, again):
    code, _, err = called("study", "study.toml", "-o", "two", "--workers", 2)
    assert code == 0, err
    one, other = again.parent / "two", done[0] / "s"
    assert (one / "findings.parquet").read_bytes() == (other / "findings.parquet").read_bytes()
    assert result_of(one).carried_out["workers"] == 2
    assert set(started(one).values()) == {1}


def test_an_earlier_run_is_compared_with(again):
    code, _, err = called("study", "study.toml", "-o", "s", "--against", "s")
    assert code == 0, err
    result = result_of(again)
    assert result.regressions == []
    assert "no figures differ from those in 's'" in result.sentence


def test_a_limit_of_a_cell_that_does_not_hold_is_exit_code_1(again, text):
    limited = text.replace("max_records = 20", 'max_records = 20, fail_on = "membership.auc.value > 0"')
    (again.parent / "limited.toml").write_text(limited, encoding="utf-8")
    code, _, err = called("study", "limited.toml", "-o", "limited", "--store", "s/store", "-q")
    assert code == 1, err
    result = result_of(again.parent / "limited")
    assert [cell.exit_code for cell in result.cells] == [1, 1, 1, 0, 0]
    assert "in 3 cells a limit does not hold" in result.sentence


def test_a_dry_run_adds_up_and_begins_nothing(done, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    code, out, err = called("study", "study.toml", "-o", "s", "--dry-run", "--json")
    assert code == 0, err
    cost = json.loads(out)
    assert [cell["is_complete"] for cell in cost["cells"]] == [False] * 5
    assert cost["n_runs"] == 2
    assert cost["n_steps"] == sum(cell["work"]["n_steps"] for cell in cost["cells"])
    assert cost["memory_bytes"] == max(cell["work"]["memory_bytes"] for cell in cost["cells"])
    assert cost["n_sharing"] == 2
    assert not (tmp_path / "s").exists()
    monkeypatch.chdir(done[0])
    code, out, err = called("study", "study.toml", "-o", "s", "--dry-run")
    assert code == 0, err
    assert "5 cells, 5 complete. To do: 0 cells, 0 training runs" in out
