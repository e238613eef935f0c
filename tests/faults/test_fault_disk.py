"""A disk that is full, read-only, gone or wrong costs what it took, never the rest and never the truth."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from conftest import changed_copy
from faults.fault_process import result_of, sides, starter, undisturbed, unit_files, units, wait_for

PASSES_BEFORE_HOLD = 50
NOBODY = 65534


@pytest.fixture
def audit(full, base, record_files, tmp_path_factory):
    return undisturbed(full, base, record_files, tmp_path_factory)


@pytest.fixture
def scored(audit, tmp_path):
    """A working folder with the evidence and no run."""
    shutil.copytree(audit.folder / ".loraudit", tmp_path / ".loraudit")
    return tmp_path


def sizes(audit) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (audit.folder / "run").iterdir()}


def assert_refused_at(name: str, folder: Path, code: int, err: str) -> None:
    """Environment fault that names the file and its bytes; nothing half written, nothing marked complete."""
    assert code == 5, err
    assert re.search(rf"^Error: '[^']*{name}' \([\d,]+ bytes\) cannot be written: .*what was finished is kept\.$", err)
    assert list(folder.rglob("*.tmp")) == []
    assert not (folder / "run" / "lock.json").exists()
    assert not (folder / "run" / "result.json").exists(), "the run is marked complete"


# --- row 3: a full disk --------------------------------------------------------------------------------


def test_a_disk_too_full_for_a_unit_keeps_the_earlier_ones_and_the_run_goes_on_later(audit, tmp_path):
    written = [file.stat().st_size for file in unit_files(audit.folder)]
    first = written.index(max(written))
    assert first > 0, "the first unit is the largest; there are no earlier ones to keep"
    code, out, err = starter().run(tmp_path, *audit.words, largest_file=max(written) - 1)
    assert_refused_at(r"\.unit", tmp_path, code, err)
    assert out == ""
    kept = units(tmp_path)
    assert len(kept) == first
    assert kept.items() <= units(audit.folder).items()
    assert starter().run(tmp_path, *audit.words)[0] == 0
    audit.assert_undisturbed(tmp_path)
    assert result_of(tmp_path)["scoring"]["damaged_units_redone"] == 0


@pytest.mark.parametrize(
    "name",
    [
        "scores.parquet",
        "report.html",
    ],
)
def test_a_disk_too_full_for_a_file_of_the_run_marks_nothing_complete(name, audit, scored):
    size = sizes(audit)
    smaller = [*(n for n in size.values() if n < size[name]), *map(len, units(scored).values())]
    limit = max(smaller) + 300  # the times in a result make its length vary
    assert limit < size[name] - 300
    code, out, err = starter().run(scored, *audit.words, largest_file=limit)
    assert_refused_at(re.escape(name), scored, code, err)
    assert out == ""
    assert units(scored) == units(audit.folder)
    assert starter().run(scored, *audit.words)[0] == 0
    audit.assert_undisturbed(scored)


def test_a_full_disk_never_leaves_an_old_result_beside_new_scores(base, record_files, tmp_path):
    target = changed_copy(base, tmp_path / "target", lambda _: True, seed=5)
    words = (
        "audit",
        target,
        "--base",
        base,
        *sides(record_files),
        "--max-records",
        8,
        "--batch-tokens",
        128,
        "-o",
        "run",
    )
    assert starter().run(tmp_path, *words)[0] == 0
    before = (tmp_path / "run" / "scores.parquet").read_bytes()
    shutil.rmtree(target)
    changed_copy(base, target, lambda _: True, seed=6)
    result = tmp_path / "run" / "result.json"
    code, _, err = starter().run(tmp_path, *words, largest_file=result.stat().st_size - 300)
    assert code == 5, err
    assert not result.exists() or (tmp_path / "run" / "scores.parquet").read_bytes() == before


# --- row 3: a folder that is read-only or gone ---------------------------------------------------------


@pytest.mark.parametrize("where", ["--out", "--store"])
def test_an_output_folder_that_cannot_be_made_is_found_before_the_model_is_looked_for(where, record_files, tmp_path):
    (tmp_path / "file").touch()
    words = ("audit", "no-such-model", *sides(record_files), "--out", "run", "--store", "store", where, "file/below")
    code, _, err = starter().run(tmp_path, *words)
    assert code == 5, err
    assert re.search(r"'file/below' cannot be written: (File exists|Not a directory)\.", err)
    assert not (tmp_path / "run" / "lock.json").exists()


@pytest.mark.parametrize("where", ["run", "store"])
def test_a_read_only_output_folder_is_found_before_the_model_is_looked_for(where, record_files):
    with tempfile.TemporaryDirectory() as name:  # one that other users may enter
        folder = Path(name)
        folder.chmod(0o755)
        for path in ("run", "store"):
            (folder / path).mkdir()
            (folder / path).chmod(0o555 if path == where else 0o777)
        files = [Path(shutil.copy(path, folder)) for path in record_files]
        words = ("audit", "no-such-model", *sides(files), "--out", "run", "--store", "store")
        code, _, err = starter().run(folder, *words, user=NOBODY if os.geteuid() == 0 else None)
        (folder / where).chmod(0o777)
    assert code == 5, err
    assert f"'{where}' cannot be written: Permission denied." in err


def test_a_home_that_cannot_be_written_is_found_before_the_model_is_looked_for(record_files, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORAUDIT_HOME", str(tmp_path / "file" / "home"))
    code, _, err = starter().run(tmp_path, "audit", "no-such-model", *sides(record_files), "--out", "run")
    assert code == 5, err
    assert "LORAUDIT_HOME" in err


@pytest.mark.parametrize("gone", ["run", ".loraudit"])
def test_a_folder_that_vanishes_while_scoring_is_an_error_that_names_it(gone, audit, tmp_path):
    hold = tmp_path / "hold"
    process = starter().start(tmp_path, *audit.words, hold=[str(hold), PASSES_BEFORE_HOLD])
    wait_for(lambda: hold.exists() or process.poll() is not None)
    shutil.rmtree(tmp_path / gone)
    hold.unlink()
    code, out, err = process.finish()
    assert (code, out) == (5, "")
    assert re.search(rf"^Error: '{re.escape(gone)}/[^']*'.* cannot be written: No such file or directory\.", err)
    assert not (tmp_path / "run" / "result.json").exists()
    assert units(tmp_path).items() <= units(audit.folder).items()
    assert starter().run(tmp_path, *audit.words)[0] == 0
    audit.assert_undisturbed(tmp_path)


# --- row 4: damaged units ------------------------------------------------------------------------------


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bit_flipped(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def damage(folder: Path) -> int:
    """One unit cut short, one with a bit flipped; how many there are."""
    files = unit_files(folder)
    for file, change in ((files[3], truncated), (files[-2], bit_flipped)):
        file.write_bytes(change(file.read_bytes()))
    return len(files)


def test_damaged_units_alone_are_done_again_and_counted(audit, scored):
    n_units = damage(scored)
    log = scored / "views-scored"
    code, _, err = starter().run(scored, *audit.words, views_scored=str(log))
    assert code == 0, err
    audit.assert_undisturbed(scored)
    assert log.read_text("utf-8").split() == ["1", "1"]
    scoring = result_of(scored)["scoring"]
    assert scoring["damaged_units_redone"] == 2
    assert 0 < scoring["tokens"] < 4 * result_of(audit.folder)["scoring"]["tokens"] / n_units


def test_damaged_units_are_warned_of(audit, scored):
    damage(scored)
    code, out, err = starter().run(scored, *audit.words)
    assert code == 0, err
    assert any("damaged" in warning for warning in result_of(scored)["warnings"])
    assert "damaged" in out + err


@pytest.mark.slow
def test_a_run_killed_and_then_damaged_and_then_without_room_still_ends_right(audit, tmp_path):
    """Faults seldom come alone."""
    hold = tmp_path / "hold"
    process = starter().start(tmp_path, *audit.words, hold=[str(hold), PASSES_BEFORE_HOLD])
    wait_for(lambda: hold.exists() or process.poll() is not None)
    process.send(signal.SIGKILL)
    process.finish()
    hold.unlink()
    damage(tmp_path)
    largest = max(map(len, units(audit.folder).values()))
    for limit in (largest - 1, largest + 100):
        assert starter().run(tmp_path, *audit.words, largest_file=limit)[0] == 5
    assert starter().run(tmp_path, *audit.words)[0] == 0
    audit.assert_undisturbed(tmp_path)
