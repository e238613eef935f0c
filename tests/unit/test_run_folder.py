"""A run folder holds one request and what it found; what is read back is what was written, or refused in words."""

import datetime
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit.data import record_id
from loraudit.errors import ConfigError, LorauditError, StoreError
from loraudit.spec import SCHEMA_VERSION, AuditResult, AuditSpec, make_audit_spec, spec_hash
from loraudit.store import RunFolder, read_run, refused_folder, shown_ids
from loraudit.store.identity import run_key
from loraudit.types import Finding, Record


def request(**changes) -> AuditSpec:
    return make_audit_spec({"model": "my-adapter", "members": "a.jsonl", "nonmembers": "b.jsonl"} | changes)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


RECORDS = [Record(record_id(text=f"row {i}"), "größe a.jsonl", i + 1, text=f"row {i}") for i in range(30)]
COLUMNS = {
    "is_member": [i % 2 == 0 for i in range(30)],
    "n_tokens": np.arange(30, dtype=np.int64),
    "status": ["ok"] * 29 + ["nonfinite"],
    "loss": np.array([i / 7 for i in range(29)] + [np.nan]),
    "ratio": np.linspace(-1, 1, 30).astype(np.float32),
}


def result(spec: AuditSpec) -> AuditResult:
    side = {
        "files": [{"path": "größe a.jsonl", "sha256": "00", "rows": 30}],
        "n_read": 30,
        "n_bad": 0,
        "n_duplicates": 0,
        "n_overlap": 0,
        "n_left_out": 0,
        "n_records": 30,
        "n_groups": 30,
        "n_tokens": 300,
        "n_windowed": 0,
        "status": {"ok": 30},
    }
    attack = {"name": "loss", "summary": "s", "source": "x", "needs": ["target"], "cost": "c", "status": "ok"}
    attack["findings"] = {"auc": Finding(0.1 + 0.2, 0.25, 1.0, 0.95, "bootstrap", 15, 15)}
    return AuditResult.model_validate(
        {
            "loraudit": "0.1.0",
            "spec": spec.model_dump(),
            "spec_hash": spec_hash(spec),
            "command": "loraudit audit my-adapter",
            "target": {"name": "my-adapter", "kind": "adapter", "fingerprint": "ff"},
            "reference": None,
            "members": side,
            "nonmembers": side,
            "numerics": {},
            "versions": {},
            "scoring": {},
            "membership": {"headline": "loss", "attacks": [attack]},
            "warnings": ["é"],
            "started": "2025-01-01T00:00:00+00:00",
            "seconds": 1.5,
        }
    )


def finish(path: Path, spec: AuditSpec | None = None) -> RunFolder:
    folder = RunFolder(path, spec or request())
    folder.write_spec()
    folder.write_scores(RECORDS, COLUMNS)
    folder.write_result(result(folder.spec))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """One finished run, for tests that only read or copy it."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.mktemp("home")))
        finish(path)
    return path


@pytest.fixture
def run(written, tmp_path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "run"))


# --- one folder, one request --------------------------------------------------------------------------


def test_a_new_folder_is_for_its_owner_only_and_so_is_all_in_it(tmp_path):
    previous = os.umask(0)
    try:
        folder = finish(tmp_path / "runs" / "my run é")
        folder.log("begin")
    finally:
        os.umask(previous)
    assert mode(folder.path) == 0o700
    assert {path.name: mode(path) for path in folder.path.iterdir()} == dict.fromkeys(
        ["spec.json", "scores.parquet", "identity.parquet", "result.json", "log.jsonl"], 0o600
    )


def test_the_request_is_kept_as_it_was(tmp_path):
    folder = RunFolder(tmp_path, request(seed=3, fpr=0.1))
    folder.write_spec()
    assert make_audit_spec(json.loads((tmp_path / "spec.json").read_bytes())) == folder.spec
    assert folder.hash == spec_hash(folder.spec)


def test_the_same_request_may_come_again_carried_out_otherwise(tmp_path):
    RunFolder(tmp_path, request()).write_spec()
    again = RunFolder(tmp_path, request(device="cpu", batch_tokens=64, offline=True, out=str(tmp_path), store="s"))
    assert again.hash == RunFolder(tmp_path, request()).hash


def test_another_request_is_refused_with_the_fields_that_differ(tmp_path):
    RunFolder(tmp_path, request()).write_spec()
    before = (tmp_path / "spec.json").read_bytes()
    with pytest.raises(ConfigError, match=r"^Run folder '.*' holds another audit\. Choose another --out") as caught:
        RunFolder(tmp_path, request(seed=3, fpr=0.1, device="cpu"))
    assert str(caught.value).splitlines()[1:] == ["  fpr: [0.1, 0.01, 0.001] → [0.1]", "  seed: 0 → 3"]
    assert (tmp_path / "spec.json").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"null", b"[]", b"{}", b'{"model": "m", "members": ["a"], "leakage": 1}']
)
def test_a_folder_whose_request_cannot_be_read_is_refused(content, tmp_path):
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"^Run folder '.*' holds a spec this version cannot read\. Choose another --out\.$"
    ):
        RunFolder(tmp_path, request())


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_else(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        RunFolder(tmp_path / "file", request())


def test_one_process_at_a_time_writes(tmp_path):
    folder = RunFolder(tmp_path, request())
    with folder.lock(), pytest.raises(StoreError, match="is in use by process"), folder.lock():
        pytest.fail("one folder was locked twice")


# --- log ----------------------------------------------------------------------------------------------


def test_the_log_gains_one_line_of_json_per_event_in_utc(tmp_path):
    folder = RunFolder(tmp_path, request())
    before = datetime.datetime.now(datetime.UTC)
    folder.log("begin", n_records=3, path=Path("größe"), text="two\nlines \ud800")
    RunFolder(tmp_path, request()).log("end", value=float("nan"))
    lines = (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert {**first, "time": None} == {
        "time": None,
        "event": "begin",
        "n_records": 3,
        "path": "größe",
        "text": "two\nlines \ud800",
    }
    assert second["event"] == "end"
    for line in (first, second):
        when = datetime.datetime.fromisoformat(line["time"])
        assert when.utcoffset() == datetime.timedelta(0)
        assert abs(when - before) < datetime.timedelta(minutes=1)


def test_a_log_that_cannot_be_written_is_an_error(tmp_path):
    folder = RunFolder(tmp_path / "run", request())
    shutil.rmtree(folder.path)
    with pytest.raises(StoreError, match=r"^'.*log\.jsonl' cannot be written: No such file or directory\.$"):
        folder.log("begin")


# --- scores -------------------------------------------------------------------------------------------


def test_scores_have_one_row_per_record_under_its_shown_id(tmp_path):
    folder = finish(tmp_path / "run")
    table = pq.read_table(folder.path / "scores.parquet").to_pydict()
    assert list(table) == ["id", "source", "line", *COLUMNS]
    assert table["id"] == shown_ids(RECORDS, run_key(folder.hash))
    assert table["source"] == ["größe a.jsonl"] * 30
    assert table["line"] == list(range(1, 31))
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(table[name], column)


def test_scores_keep_every_bit_of_a_column(run):
    found = read_run(run)
    np.testing.assert_array_equal(found.column("loss"), COLUMNS["loss"])
    np.testing.assert_array_equal(found.column("ratio"), COLUMNS["ratio"].astype(np.float64))
    assert found.column("loss").dtype == found.column("n_tokens").dtype == np.float64


def test_source_and_line_are_left_out_where_others_can_enter(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o750)
    folder = finish(tmp_path / "run")
    table = pq.read_table(folder.path / "scores.parquet").to_pydict()
    assert table["source"] == table["line"] == [None] * 30
    assert mode(folder.path / "identity.parquet") == 0o600


def test_the_private_file_leads_from_shown_ids_to_contents(run):
    identity = pq.read_table(run / "identity.parquet")
    assert identity.column("id").to_pylist() == read_run(run).scores.column("id").to_pylist()
    assert identity.column("content_sha256").to_pylist() == [record.id for record in RECORDS]
    key = bytes.fromhex(identity.schema.metadata[b"key"].decode())
    assert shown_ids(RECORDS, key) == identity.column("id").to_pylist()


def test_no_content_hash_and_no_key_is_in_any_file_but_the_private_one(tmp_path):
    folder = finish(tmp_path / "run")
    folder.log("end")
    key = run_key(folder.hash)
    hidden = [*(record.id for record in RECORDS), key.hex()]
    for path in folder.path.iterdir():
        content = path.read_bytes()
        if path.name == "scores.parquet":
            content += str(pq.read_table(path).to_pydict()).encode() + str(pq.read_schema(path).metadata).encode()
        leaks = [secret for secret in hidden if secret.encode() in content or bytes.fromhex(secret) in content]
        assert path.name == "identity.parquet" or leaks == []


def test_shown_ids_are_the_same_when_the_run_is_repeated_and_others_in_another_run(tmp_path):
    ids = [
        read_run(finish(tmp_path / name, spec).path).scores.column("id").to_pylist()
        for name, spec in (("one", request()), ("again", request(device="cpu")), ("other", request(seed=1)))
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])


def test_scores_of_no_records_can_be_written_and_read(tmp_path):
    folder = RunFolder(tmp_path, request())
    folder.write_scores([], {"is_member": [], "loss": np.array([])})
    folder.write_result(result(folder.spec))
    assert read_run(tmp_path).column("loss").shape == (0,)


# --- reading back -------------------------------------------------------------------------------------


def test_a_finished_run_is_read_back_as_it_was_written(run):
    found = read_run(run)
    assert found.path == run
    assert found.result == result(request())
    assert found.result.membership.attack("loss").findings["auc"].value == 0.1 + 0.2
    assert found.result.warnings == ["é"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "result.json",
            r"^Folder '.*' holds a run that has not finished\. Expected an audit, to its end\. Give the com",
        ),
        (
            "scores.parquet",
            r"^Folder '.*' holds an audit without its scores\.parquet\. Expected both files of a finish",
        ),
    ],
)
def test_a_run_that_is_not_finished_is_refused(missing, message, run):
    (run / missing).unlink()
    with pytest.raises(ConfigError, match=message):
        read_run(run)


def test_a_folder_that_is_no_run_or_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^Folder '.*' holds no run\. Expected an audit\. Check the path\.$"):
        read_run(tmp_path)
    with pytest.raises(ConfigError, match=r"^Folder '.*gone' does not exist\. Expected a b\. Check the path\.$"):
        read_run(tmp_path / "gone", expected="a b")
    (tmp_path / "mem.jsonl").write_text("{}\n")
    with pytest.raises(
        ConfigError, match=r"^'.*mem\.jsonl' is a file\. Expected the run folder of an audit\. Check th"
    ):
        read_run(tmp_path / "mem.jsonl")


KINDS = {
    "canaries": "a search for canaries",
    "contrast": "a contrast",
    "forecast": "a forecast",
    "influence": "an influence run",
    "robustness": "a robustness run",
    "scan": "a scan",
    "score": "scores of records",
    "study": "a study",
    "a kind of the future": "a run of the kind 'a kind of the future'",
}


@pytest.mark.parametrize(("kind", "words"), KINDS.items())
@pytest.mark.parametrize("has_scores", [True, False], ids=["with scores", "without"])
def test_a_finished_run_of_another_kind_is_named(kind, words, has_scores, tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"kind": kind}))
    if has_scores:
        (tmp_path / "scores.parquet").write_bytes(b"")
    with pytest.raises(ConfigError) as refused:
        read_run(tmp_path, expected="an audit or a robustness run")
    said = f"Folder '{tmp_path}' holds {words}, which this does not take. Expected an audit or a robustness run. Name "
    assert str(refused.value).startswith(said)
    assert "--help" not in str(refused.value)
    within = {"contrast": "audits", "study": "cells"}.get(kind)
    assert (f"one of the runs in '{tmp_path / within}'" in str(refused.value)) if within else True


@pytest.mark.parametrize("kind", [[], {}, 5, True])
def test_a_kind_that_is_no_name_is_no_reason_to_crash(kind, tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"kind": kind}))
    with pytest.raises(ConfigError, match="holds a run of the kind"):
        read_run(tmp_path)


def test_what_is_needed_and_what_is_held_are_said_of_every_folder(run):
    assert "holds an audit, which this does not take. Expected a contrast." in str(refused_folder(run, "a contrast"))
    (run / "result.json").write_bytes(b"{")
    message = (
        r"^Folder '.*' holds a result\.json that cannot be read\. Expected a contrast\. Run it again; it resumes\.$"
    )
    with pytest.raises(ConfigError, match=message):
        raise refused_folder(run, "a contrast")


def rewritten(run: Path, **changes) -> None:
    content = json.loads((run / "result.json").read_bytes()) | changes
    (run / "result.json").write_text(json.dumps(content), "utf-8")


def test_a_run_of_a_newer_version_is_refused_with_the_command_that_helps(run):
    rewritten(run, schema_version=SCHEMA_VERSION + 1, a_field_of_the_future={"x": 1})
    with pytest.raises(
        ConfigError,
        match=rf"^Run '.*' was written by a newer loraudit \(schema {SCHEMA_VERSION + 1}, this one reads up to "
        rf"{SCHEMA_VERSION}\)\. Run: pip install --upgrade loraudit$",
    ):
        read_run(run)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"null", b"[]", b"5", b'"x"', b"{}", b'{"schema_version": "x"}', b"[" * 100_000]
)
def test_a_result_that_is_damaged_is_refused(content, run):
    (run / "result.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"^Run '.*' is damaged: "):
        read_run(run)


def test_a_result_with_what_this_version_does_not_know_is_refused(run):
    rewritten(run, leakage=1)
    with pytest.raises(StoreError, match=r"(?s)^Run '.*' is damaged: .*leakage.*Run the audit again; it resumes\.$"):
        read_run(run)


def test_a_truncated_file_of_a_run_is_refused_wherever_it_ends(run):
    for name in ("result.json", "scores.parquet"):
        whole = (run / name).read_bytes()
        for share in (0, 0.01, 0.3, 0.7, 0.99):
            (run / name).write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(StoreError, match=r"^Run '.*' is damaged: "):
                read_run(run)
        (run / name).write_bytes(whole)
    assert read_run(run).result == result(request())


@pytest.mark.parametrize("name", ["result.json", "scores.parquet"])
def test_no_flipped_bit_of_a_run_is_anything_but_an_error_in_words(name, run):
    whole = (run / name).read_bytes()
    strangers = set()
    for place in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place // 5 % 8)
        (run / name).write_bytes(flipped)
        try:
            read_run(run)
        except LorauditError:
            pass
        except Exception as error:  # the law is about every kind
            strangers.add(f"{type(error).__name__}: {error}"[:60])
    assert strangers == set()
