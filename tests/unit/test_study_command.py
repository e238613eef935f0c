"""`loraudit study`: words, exit codes, costs; and how one cell is carried out."""

from __future__ import annotations

import errno
import json
import pickle
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loraudit.cli import app
from loraudit.cli.options import flag
from loraudit.errors import ConfigError, DataError, EnvironmentFault, InUse, StoreError
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.spec import AuditSpec, StudySpec, make_request
from loraudit.store import Lock
from loraudit.study import carrying, estimate_study, expand
from loraudit.study.carrying import CarryOut
from loraudit.study.kinds import REQUESTS, carry_out, read_cell
from loraudit.study.planning import CellCost, StudyCost, Work, work_of
from loraudit.study.spine import StudyRun, exit_code, run_study

STUDY = {
    "name": "s",
    "grids": [
        {
            "name": "g",
            "run": "audit",
            "settings": {"members": "m.jsonl", "nonmembers": "n.jsonl"},
            "axes": {"model": ["x", "y"]},
        }
    ],
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.json"
    path.write_text(json.dumps(STUDY))
    return path


def invoke(*words):
    return CliRunner().invoke(app, ["study", *map(str, words)])


# --- words --------------------------------------------------------------------------------------------


def test_every_field_that_is_no_part_of_the_file_alone_is_a_flag():
    import inspect

    from loraudit.cli.study import ONLY_IN_FILES, study

    parameters = inspect.signature(study).parameters
    own = {"study", "list_presets", "dry_run", "as_json", "quiet"}
    assert set(parameters) - own == set(StudySpec.model_fields) - set(ONLY_IN_FILES)
    for name in set(parameters) - own:
        assert parameters[name].default is None, flag(name)
        assert StudySpec.model_fields[name].description


def test_brackets_of_a_description_are_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert "loraudit[ray]" in invoke("--help").output


def test_no_study_is_refused_with_where_to_look():
    shown = invoke()
    assert isinstance(shown.exception, ConfigError)
    assert str(shown.exception) == ("No study was named. Give a file or a preset; see: loraudit study --list-presets")


def test_presets_are_listed_with_a_line_each():
    from loraudit.study.presets import preset_line, preset_names

    lines = invoke("--list-presets").output.splitlines()
    assert [line.split()[0] for line in lines] == list(preset_names())
    assert all(line.endswith(preset_line(name)) for line, name in zip(lines, preset_names(), strict=True))


@pytest.fixture
def asked(monkeypatch):
    """What the spine was asked for; it says that a part is done."""
    found: list[StudySpec] = []

    def run(spec, *, progress, stop, command):
        found.append(spec)
        return StudyRun(Path("s"), None, 6, 3, ["Grid 'g': no"] if spec.workers == 2 else [])

    module = types.ModuleType("loraudit.study.spine")
    module.__dict__.update(run_study=run, exit_code=exit_code, StudyRun=StudyRun)
    monkeypatch.setitem(sys.modules, "loraudit.study.spine", module)
    return found


def test_flags_reach_the_study(asked, file):
    shown = invoke(
        file, "--set", "seed=3", "--set", "attacks=['loss']", "--engine", "ray", "--shard", "1/2", "-o", "here",
        "--worker-gpus", 0.5, "-q",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    (spec,) = asked
    assert spec.settings == {"seed": 3, "attacks": ["loss"]}
    assert (spec.engine, spec.shard, spec.out, spec.worker_gpus) == ("ray", "1/2", "here", 0.5)
    assert shown.stdout.startswith("3 of 6 cells are complete. When all parts have run, put them together with the")


def test_a_failed_cell_of_a_part_is_exit_code_7(asked, file):
    shown = invoke(file, "--shard", "1/2", "--workers", 2, "-q")
    assert shown.exit_code == 7
    assert "Failed: Grid 'g': no" in shown.output


@pytest.mark.parametrize(
    ("codes", "failed", "expected"), [([0, 0], [], 0), ([0, 1], [], 1), ([1, 7], [], 7), ([1], ["c"], 7)]
)
def test_the_exit_code_is_that_of_the_cells(codes, failed, expected):
    result = types.SimpleNamespace(cells=[types.SimpleNamespace(exit_code=code) for code in codes])
    assert exit_code(StudyRun(Path("s"), result, 2, 2, failed)) == expected  # type: ignore[arg-type]


# --- costs --------------------------------------------------------------------------------------------


def test_a_dry_run_shows_every_cell_and_the_sums(monkeypatch, file):
    cells = [
        CellCost("1" * 12, "g", "contrast", {"seed": "0"}, False, Work(4, 1200, 0, None, 3 * 2**30), None),
        CellCost("2" * 12, "g", "audit", {}, False, Work(n_tokens=5000, seconds=9.0, memory_bytes=2**29), None),
        CellCost("3" * 12, "g", "audit", {"seed": "1"}, True, None, None),
        CellCost("4" * 12, "g", "audit", {"seed": "2"}, False, None, "Model 'z' does not exist."),
    ]
    cost = StudyCost("s", cells, 1, 4, 1200, 5000, 9.0, 3 * 2**30, 2)
    monkeypatch.setattr("loraudit.study.planning.estimate_study", lambda _: cost)
    shown = invoke(file, "--dry-run")
    assert shown.exit_code == 7
    assert shown.output.splitlines() == [
        "  contrast-111111111111  g, seed=0: 4 training runs of 1,200 steps, 3.00 GiB",
        "  audit-222222222222  g, one cell: 5,000 tokens, 0.50 GiB",
        "  audit-333333333333  g, seed=1: complete",
        "  audit-444444444444  g, seed=2: Model 'z' does not exist.",
        (
            "4 cells, 1 complete. To do: 3 cells, 4 training runs of 1,200 steps, 5,000 tokens through models in "
            "audits and forecasts (audits: about 9 s)."
        ),
        "The largest cell takes about 3.00 GiB; cells that run at once take theirs each.",
        "2 cells find the base scored by an earlier one, which these sums count again: they are upper bounds.",
        "1 cell cannot be carried out as asked.",
    ]
    facts = json.loads(invoke(file, "--dry-run", "--json").output)
    assert facts["cells"][0]["work"] == {
        "n_runs": 4, "n_steps": 1200, "n_tokens": 0, "seconds": None, "memory_bytes": 3 * 2**30,
    }  # fmt: skip


def test_what_is_wrong_with_a_cell_stands_beside_it(file):
    cost = estimate_study(make_request(StudySpec, STUDY))
    assert cost.n_failing == 2
    assert all("File 'm.jsonl' does not exist." in str(cell.error) for cell in cost.cells)


def test_no_other_request_is_a_cell():
    request = make_request(StudySpec, STUDY)
    with pytest.raises(TypeError, match="no cell is a StudySpec"):
        work_of(request)
    with pytest.raises(TypeError, match="no cell is a StudySpec"):
        carry_out(request, Silent(), StopRequest())
    assert set(REQUESTS) == {"audit", "contrast", "robustness", "forecast"}


# --- before the first cell ----------------------------------------------------------------------------


def test_missing_files_of_all_cells_are_said_before_the_first_runs(file):
    with pytest.raises(ConfigError) as caught:
        run_study(make_request(StudySpec, STUDY))
    assert str(caught.value).splitlines() == [
        f"Grid 'g', model=x and 1 more cell: File '{name}.jsonl' does not exist. Expected records; check the path."
        for name in "mn"
    ]
    assert not list(Path("runs").glob("*/cells/*"))


def test_an_earlier_run_or_a_figure_that_cannot_stand_beside_is_refused_first(file):
    figure = {"grid": "h", "finding": "auc", "value": 0.9, "source": "A paper"}
    with pytest.raises(
        ConfigError, match=r"(?s)Unknown grid 'h'.*\nFolder 'nowhere' does not exist\. Expected an earlier"
    ):
        run_study(make_request(StudySpec, {**STUDY, "published": [figure], "against": "nowhere"}))


def test_a_folder_with_another_study_is_refused_with_the_difference(file):
    other = {**STUDY, "settings": {"seed": 5}, "out": "s"}
    with pytest.raises(ConfigError, match="does not exist"):
        run_study(make_request(StudySpec, {**STUDY, "out": "s"}))
    with pytest.raises(ConfigError, match=r"(?s)holds another study.*settings: \{\} → \{'seed': 5\}"):
        run_study(make_request(StudySpec, other))


# --- one cell -----------------------------------------------------------------------------------------


@pytest.fixture
def cell():
    return expand(make_request(StudySpec, STUDY))[0]


def worker(tmp_path, **changes) -> CarryOut:
    return CarryOut(tmp_path / "s", tmp_path / "store", Path.cwd(), Silent(), **changes)


def carried(monkeypatch, outcomes):
    """The commands do what `outcomes` say, one after the other."""
    requests = []

    def carry_out(request, progress, stop):
        requests.append(request)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome

    monkeypatch.setattr(carrying, "carry_out", carry_out)
    return requests


def test_a_cell_gets_its_folder_and_the_store_of_the_study(monkeypatch, tmp_path, cell):
    requests = carried(monkeypatch, [None])
    outcome = worker(tmp_path)(cell)
    assert (outcome.id, outcome.status, outcome.error) == (cell.id, "ok", None)
    assert (requests[0].out, requests[0].store) == (f"{tmp_path}/s/cells/audit-{cell.id}", f"{tmp_path}/store")
    assert isinstance(requests[0], AuditSpec)


def test_what_a_person_can_mend_is_the_failure_of_the_cell(monkeypatch, tmp_path, cell):
    carried(monkeypatch, [DataError("File 'm.jsonl' is empty.")])
    outcome = worker(tmp_path)(cell)
    assert (outcome.status, outcome.error) == ("failed", "File 'm.jsonl' is empty.")


def test_a_stop_a_bug_and_a_full_disk_are_not(monkeypatch, tmp_path, cell):
    full = StoreError("'s' cannot be written.")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    for error in (Interrupted(), ZeroDivisionError("a bug"), full):
        carried(monkeypatch, [error])
        with pytest.raises(type(error)):
            worker(tmp_path)(cell)


def test_a_worker_waits_for_what_another_process_is_making(monkeypatch, tmp_path, cell):
    held = tmp_path / "store" / "references" / "a"
    held.mkdir(parents=True)
    requests = carried(monkeypatch, [InUse("in use", folder=str(held)), InUse("in use", folder=str(held)), None])
    monkeypatch.setattr(carrying, "_SECONDS_BETWEEN_LOOKS", 0.01)
    lock = Lock(held)
    lock.__enter__()
    release = threading.Timer(0.3, lock.__exit__, (None, None, None))
    release.start()
    began = time.monotonic()
    assert worker(tmp_path)(cell).status == "ok"
    release.join()
    assert len(requests) == 3
    assert time.monotonic() - began >= 0.25


def test_a_worker_does_not_wait_for_ever(monkeypatch, tmp_path, cell):
    carried(monkeypatch, [InUse("Folder 'a' is in use.", folder=str(tmp_path))])
    outcome = worker(tmp_path, patience=-1.0)(cell)
    assert (outcome.status, outcome.error) == ("failed", "Folder 'a' is in use.")


def test_a_worker_of_another_process_starts_in_the_same_folder_and_says_nothing(monkeypatch, tmp_path, cell):
    from loraudit.cli.console import Bar

    monkeypatch.chdir(tmp_path)
    made = CarryOut(Path("s"), Path("store"), Path.cwd(), Bar())
    made = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert isinstance(made.progress, Silent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    carried(monkeypatch, [None])
    assert made(cell).status == "ok"
    assert Path.cwd() == tmp_path


def test_a_cell_that_no_worker_survives_fails_in_words(cell):
    from loraudit.study.spine import _given_up

    outcome = _given_up(cell, EnvironmentFault("Its worker was killed by SIGKILL three times."))
    assert (outcome.id, outcome.status) == (cell.id, "failed")
    assert "SIGKILL" in str(outcome.error)


@pytest.mark.parametrize(("kind", "left"), [("audit", {}), ("contrast", {}), ("forecast", {"kind": "robustness"})])
def test_a_result_that_cannot_be_read_is_damaged_and_one_that_is_not_there_is_none(kind, left, tmp_path):
    assert read_cell(kind, tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps(left))
    with pytest.raises(StoreError, match=r"is damaged: .*Run it again; it resumes"):
        read_cell(kind, tmp_path)


def test_a_result_of_another_request_is_not_taken(monkeypatch, tmp_path, cell):
    monkeypatch.setattr(carrying, "read_cell", lambda _kind, _path: types.SimpleNamespace(spec_hash="other"))
    result, warning = carrying.complete_result(cell, tmp_path)
    assert result is None
    assert warning == "Grid 'g', model=x: its folder held the result of another request, and is made again."
