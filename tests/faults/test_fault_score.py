"""Scoring in parts survives what an audit survives: a part is whole, or it is made again, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from faults.fault_process import Command, starter, wait_for
from faults.test_fault_models import overflowing
from loraudit.bulk import exit_code, run_score
from loraudit.scoring import Scorer
from loraudit.spec import ScoreSpec, make_request

PASSES_BEFORE_HOLD = 60
"""More than a model takes to prove itself, fewer than it takes to score these records."""
N_PARTS = 12
_LUCK = (
    "started", "seconds", "n_units_done", "n_units_damaged", "records_per_second", "tokens_per_second", "carried_out",
    "warnings",
)  # fmt: skip
"""What a result says of the last call alone."""


@dataclasses.dataclass
class Score:
    """One request and what it gives when nothing happens to it.

    Attributes:
        words: Of the command; its run folder is `run` below the working folder.
        folder: Working folder of the undisturbed run.
        seconds: That run took.
    """

    words: tuple[object, ...]
    folder: Path
    seconds: float

    def assert_undisturbed(self, folder: Path) -> None:
        """The run in `folder` ended as the undisturbed one did."""
        ours, expected = folder / "run", self.folder / "run"
        assert parts(folder) == parts(self.folder)
        assert (ours / "parts.parquet").read_bytes() == (expected / "parts.parquet").read_bytes()
        assert lasting(folder) == lasting(self.folder)
        names = [{p.name for p in run.iterdir() if not p.name.startswith(".")} for run in (ours, expected)]
        assert names[0] == names[1]


_SCORES: list[Score] = []
"""Kept here and not by a fixture of the session, which would run before a test has a LORAUDIT_HOME of its own."""


@pytest.fixture
def score(adapter, texts, tmp_path_factory) -> Score:
    """A run of twelve parts of five short records."""
    if not _SCORES:
        folder = tmp_path_factory.mktemp("undisturbed-score")
        records = folder / "records.jsonl"
        records.write_text("".join(json.dumps({"text": text[:110]}) + "\n" for text in texts[:60]), encoding="utf-8")
        words = (
            "score", adapter, "--records", records, "--batch-tokens", 64, "--records-per-unit", 5,
            "--attacks", "loss", "--attacks", "error_zone", "-q", "-o", "run",
        )  # fmt: skip
        starter().run(tmp_path_factory.mktemp("first-is-slow"), *words)
        began = time.monotonic()
        code, _, err = starter().run(folder, *words)
        assert code == 0, err
        _SCORES.append(Score(words, folder, time.monotonic() - began))
    return _SCORES[0]


def parts(folder: Path) -> dict[str, bytes]:
    """Parts by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "run" / "scores").glob("part-*"))}


def marks(folder: Path) -> list[Path]:
    """Marks of parts that are whole, in the order they were made."""
    return sorted((folder / "run" / "marks").glob("part-*"), key=lambda path: path.stat().st_mtime_ns)


def wait_for_marks(folder: Path, n_marks: int, process: Command) -> None:
    """Until there are so many, or the command has ended."""
    wait_for(lambda: len(marks(folder)) >= n_marks or process.poll() is not None)


def result_of_score(folder: Path) -> dict:
    return json.loads((folder / "run" / "result.json").read_text("utf-8"))


def lasting(folder: Path) -> dict:
    """A result without what the last call alone decides."""
    result = result_of_score(folder)
    return {name: value for name, value in result.items() if name not in _LUCK}


def assert_valid(folder: Path) -> None:
    """Every marked part is what its mark says, and nothing is marked complete."""
    for path in marks(folder):
        mark = json.loads(path.read_text("utf-8"))
        part = folder / "run" / "scores" / f"{path.stem}.parquet"
        assert hashlib.sha256(part.read_bytes()).hexdigest() == mark["sha256"]
    assert not (folder / "run" / "result.json").exists()
    assert not (folder / "run" / "lock.json").exists()


@pytest.fixture
def held(score, tmp_path):
    """A run that waits in the middle of a batch until the file `hold` is removed."""
    hold = tmp_path / "hold"
    process = starter().start(tmp_path, *score.words, hold=[str(hold), PASSES_BEFORE_HOLD])
    wait_for(lambda: hold.exists() or process.poll() is not None)
    assert 0 < len(marks(tmp_path)) < N_PARTS
    yield process, hold
    hold.unlink(missing_ok=True)
    process.send(signal.SIGKILL)
    process.finish()


# --- row 1: killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_scoring_killed_at_any_moment_goes_on_to_the_same_parts(n_kills, score, tmp_path):
    rng = np.random.default_rng(8)
    n_between = 0
    folder, n_folders = tmp_path / "0", 1
    for number in range(n_kills):
        before = len(marks(folder))
        process = starter().start(folder, *score.words)
        if number % 2:
            time.sleep(rng.uniform(0, score.seconds))
        else:
            wait_for_marks(folder, before + 1 + int((N_PARTS - before) * rng.uniform(0, 0.5)), process)
        process.send(signal.SIGKILL)
        code, _, err = process.finish()
        assert code in {0, -signal.SIGKILL}, err
        after = len(marks(folder))
        assert after >= before
        assert after <= len(parts(folder)) <= after + 1, "more than one part is without its mark"
        n_between += 0 < after < N_PARTS
        if code == 0:
            score.assert_undisturbed(folder)
            folder, n_folders = tmp_path / str(n_folders), n_folders + 1
    there = len(marks(folder))
    code, _, err = starter().run(folder, *score.words)
    assert code == 0, err
    score.assert_undisturbed(folder)
    assert result_of_score(folder)["n_units_done"] == N_PARTS - there
    assert result_of_score(folder)["n_units_damaged"] == 0
    assert n_between >= 1


# --- row 2: asked to stop ------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_scoring_asked_to_stop_finishes_its_batch_and_says_how_to_go_on(sent, score, held, tmp_path):
    process, hold = held
    there = len(marks(tmp_path))
    process.send(sent)
    wait_for(lambda: "Stopping after this batch" in process.err.read_text("utf-8"))
    hold.unlink()
    code, out, err = process.finish()
    assert (code, out) == (130, "")
    assert "run the same command again to go on" in err
    assert len(marks(tmp_path)) == there, "it went on to the end of the part"
    assert_valid(tmp_path)
    assert starter().run(tmp_path, *score.words)[0] == 0
    score.assert_undisturbed(tmp_path)


# --- row 3: a full disk, a folder that cannot be written -----------------------------------------------


def test_a_disk_too_full_for_a_part_names_it_and_keeps_the_others(score, tmp_path):
    sizes = {name: len(content) for name, content in parts(score.folder).items()}
    largest = max(sizes, key=lambda name: (sizes[name], name))
    code, out, err = starter().run(tmp_path, *score.words, largest_file=sizes[largest] - 1)
    assert (code, out) == (5, "")
    assert re.search(
        r"'[^']*part-000\d\d\.parquet' \([\d,]+ bytes\) cannot be written: .*what was finished is kept", err
    )
    assert list((tmp_path / "run").rglob("*.tmp")) == []
    assert_valid(tmp_path)
    assert parts(tmp_path).items() <= parts(score.folder).items()
    assert starter().run(tmp_path, *score.words)[0] == 0
    score.assert_undisturbed(tmp_path)


def test_a_disk_too_full_for_the_result_marks_nothing_complete(score, tmp_path):
    assert starter().run(tmp_path, *score.words)[0] == 0
    result = tmp_path / "run" / "result.json"
    size = result.stat().st_size
    result.unlink()
    code, _, err = starter().run(tmp_path, *score.words, largest_file=size - 300)
    assert code == 5
    assert "result.json' (" in err
    assert_valid(tmp_path)
    assert starter().run(tmp_path, *score.words)[0] == 0
    score.assert_undisturbed(tmp_path)


@pytest.mark.parametrize("where", ["--out", "--store"])
def test_a_folder_for_parts_that_cannot_be_made_is_found_before_the_model_is_looked_for(where, record_files, tmp_path):
    (tmp_path / "file").touch()
    words = ("score", "no-such-model", "--records", record_files[0], "-o", "run", where, "file/below")
    code, _, err = starter().run(tmp_path, *words)
    assert code == 5, err
    assert re.search(r"'file/below' cannot be written: (File exists|Not a directory)\.", err)


# --- row 4: damaged parts ------------------------------------------------------------------------------


def test_damaged_parts_alone_are_made_again_and_counted(score, tmp_path):
    assert starter().run(tmp_path, *score.words)[0] == 0
    folder = tmp_path / "run" / "scores"
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for number, change in ((2, lambda content: content[: len(content) // 2]), (7, lambda c: c[:99] + b"?" + c[100:])):
        path = folder / f"part-{number:05d}.parquet"
        path.write_bytes(change(path.read_bytes()))
    code, out, err = starter().run(tmp_path, *score.words)
    assert code == 0, err
    score.assert_undisturbed(tmp_path)
    result = result_of_score(tmp_path)
    assert (result["n_units_done"], result["n_units_damaged"]) == (2, 2)
    assert "2 damaged parts did not match their checksum and were made again." in result["warnings"]
    assert "2 damaged parts" in out
    changed = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != kept[path.name]}
    assert changed == {"part-00002.parquet", "part-00007.parquet"}


def test_a_damaged_index_is_made_again(score, tmp_path):
    assert starter().run(tmp_path, *score.words)[0] == 0
    index = tmp_path / "run" / "index.safetensors"
    whole = index.read_bytes()
    index.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    (tmp_path / "run" / "marks" / "part-00003.json").unlink()
    code, _, err = starter().run(tmp_path, *score.words)
    assert code == 0, err
    assert index.read_bytes() == whole
    score.assert_undisturbed(tmp_path)


# --- row 5: two runs -----------------------------------------------------------------------------------


def test_a_second_scoring_run_on_the_folder_stops_but_a_shard_may_work_beside_another(score, held, tmp_path):
    process, hold = held
    code, _, err = starter().run(tmp_path, *score.words)
    assert code == 5
    assert f"in use by process {process.pid} on " in err
    other = tmp_path / "array"
    first = starter().start(other, *score.words, "--shard", "1/2", hold=[str(other / "hold"), PASSES_BEFORE_HOLD])
    wait_for(lambda: (other / "hold").exists() or first.poll() is not None)
    code, _, err = starter().run(other, *score.words, "--shard", "2/2")
    assert code == 0, err
    assert not (other / "run" / "result.json").exists()
    code, _, err = starter().run(other, *score.words, "--shard", "1/2")
    assert code == 5, "one shard was carried out twice at once"
    (other / "hold").unlink()
    code, _, err = first.finish()
    assert code == 0, err
    assert parts(other) == parts(score.folder)
    hold.unlink()
    assert process.finish()[0] == 0


# --- row 10: numbers that are not finite ---------------------------------------------------------------


@pytest.fixture
def scored_here(tmp_path):
    """Run a request in this process: its rows and its result."""

    def run(model, base, path, **changes):
        values = {"model": str(model), "base": base and str(base), "records": [str(path)], "out": str(tmp_path / "run")}
        run = run_score(make_request(ScoreSpec, {**values, "attacks": ["loss", "error_zone"], **changes}))
        table = ds.dataset(run.path / "scores").to_table()
        return {name: np.array(table.column(name).to_pylist()) for name in table.column_names}, run.result

    return run


@pytest.mark.parametrize(("n_hit", "code"), [(1, 0), (2, 7)], ids=["0.8 %", "1.7 %"])
def test_records_without_finite_numbers_have_a_row_and_are_counted(
    n_hit, code, full, base, texts, tokenizer, scored_here, tmp_path
):
    (token,) = tokenizer("~", add_special_tokens=False)["input_ids"]
    target = overflowing(full, tmp_path / "target", token)
    path = tmp_path / "r.jsonl"
    rows = [f"~ {text}" for text in texts[:n_hit]] + texts[n_hit:]
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    found, result = scored_here(target, base, path)
    is_lost = found["status"] == "nonfinite"
    assert is_lost.tolist() == [True] * n_hit + [False] * (120 - n_hit)
    assert result.status == {"ok": 120 - n_hit, "nonfinite": n_hit}
    for name in ("target_loss", "loss", "error_zone"):
        assert np.array_equal(np.isnan(found[name]), is_lost)
    assert f"Records without scores: {n_hit} nonfinite." in result.warnings
    assert exit_code(result) == code


# --- row 18: out of memory -----------------------------------------------------------------------------


def test_batches_that_do_not_fit_are_halved_and_a_record_that_never_fits_has_a_row(
    adapter, texts, scored_here, tmp_path, monkeypatch
):
    path = tmp_path / "r.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text[: 40 + 70 * (i == 5)]}) + "\n" for i, text in enumerate(texts[:20]))
    )
    plain, _ = scored_here(adapter, None, path, out=str(tmp_path / "plain"))
    longest = int(np.argmax(plain["n_tokens"]))
    score_batch = Scorer._score_batch

    def crowded(self, batch, views, reduce=None):
        is_of_records = batch.ids[0, 0] == 0  # they begin with the tokenizer's own token; the probe does not
        if is_of_records and batch.ids.size > 40:
            raise RuntimeError("out of memory")
        return score_batch(self, batch, views, reduce)

    monkeypatch.setattr(Scorer, "_score_batch", crowded)
    found, result = scored_here(adapter, None, path)
    assert result.n_backoffs > 0
    assert found["status"][longest] == "out_of_memory"
    lost = found["status"] == "out_of_memory"
    assert (plain["n_tokens"][lost] >= 40).all()
    assert (plain["n_tokens"][~lost] < 40).all()
    assert np.abs(found["target_loss"] - plain["target_loss"])[~lost].max() <= 1e-6
    assert exit_code(result) == 7


# --- row 25: what is protected -------------------------------------------------------------------------


def test_parts_marks_index_and_result_hold_no_text_and_no_hash_of_it(score, texts):
    from loraudit.types import record_id

    secrets = [text[:25] for text in texts] + [record_id(text=text)[:16] for text in texts]
    for path in (score.folder / "run").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
            shown = path.read_bytes().decode("utf-8", "replace")
            if path.suffix == ".parquet":
                shown += str(pq.read_table(path).to_pylist())
            assert not [secret for secret in secrets if secret in shown], path
