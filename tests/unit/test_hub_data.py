"""Files of the hub's data sets wherever a file of records may stand: names, download, cache, and what refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import errors

from loraudit.data import load_records, local_path, missing_files, names_file, read_rows
from loraudit.errors import ConfigError, DataError, EnvironmentFault
from loraudit.hub import HubFile, cached, fetch, hub_file
from loraudit.planting import run_insert
from loraudit.spec import CanaryInsertSpec, ContrastSpec, RecordFormat, TuneSpec, make_request
from small_hub import TOKEN, asking, running_hub

NAME = "hub:org/reviews/data/train.parquet"
NO_NAME = (
    "is no name of a file of the hub. Expected hub:OWNER/NAME/PATH with an optional @REVISION, "
    "such as hub:org/reviews/data/train.parquet@main."
)


@pytest.fixture
def hub():
    with running_hub() as server:
        yield server


@pytest.fixture
def answers(monkeypatch):
    """Let downloads give a file or an error; the list of what was asked for. The tests' own setting is offline."""
    asked = []

    def answer(outcome):
        def download(repository, path, **options):
            asked.append({"repository": repository, "path": path, **options})
            if isinstance(outcome, Exception):
                raise outcome
            return str(outcome)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return asked

    return answer


def ask(hub, tmp_path, names, *, offline=False):
    """`fetch_files` in a process of its own: what it says, "fine" where nothing."""
    code = (
        "import sys; from loraudit.data import fetch_files, local_path\n"
        "from loraudit.errors import LorauditError\n"
        f"names, offline = {names!r}, {offline}\n"
        "try: fetch_files(names, offline=offline); print('fine', *[local_path(n).read_bytes() for n in names])\n"
        "except LorauditError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=asking(hub.address, dict(os.environ), str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout.strip()


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (NAME, ("org/reviews", "data/train.parquet", None)),
        (f"{NAME}@v2", ("org/reviews", "data/train.parquet", "v2")),
        ("hub:o.r-g/a_b/x.jsonl.gz@refs/convert/parquet", ("o.r-g/a_b", "x.jsonl.gz", "refs/convert/parquet")),
    ],
)
def test_a_name_says_data_set_path_and_revision(name, file):
    assert hub_file(name) == HubFile(name, *file)


@pytest.mark.parametrize(
    "name", ["hub:", "hub:org", "hub:org/reviews", "hub:org/reviews/", f"{NAME}@", "hub:a/b/../c.csv"]
)
def test_what_is_no_such_name_is_said_with_the_form(name):
    with pytest.raises(DataError, match=r"is no name of a file of the hub\. Expected hub:OWNER/NAME/PATH"):
        hub_file(name)


def test_the_command_in_messages_downloads_that_file():
    command = shlex.split(hub_file(f"{NAME}@v2").wanted.command)
    assert command == [
        "hf",
        "download",
        "--repo-type",
        "dataset",
        "org/reviews",
        "data/train.parquet",
        "--revision",
        "v2",
    ]


def test_the_ending_is_that_of_the_path_whatever_the_revision():
    assert names_file("hub:org/reviews/train.jsonl.gz@refs/convert/parquet")
    assert not names_file("hub:org/reviews/train@a.jsonl")


# --- checks before any work ---------------------------------------------------------------------------


def test_missing_files_and_wrong_names_are_said_together_and_nobody_is_asked(tmp_path, answers):
    asked = answers(RuntimeError("never"))
    here = tmp_path / "here.jsonl"
    here.write_text("{}")
    found = missing_files([str(here), "none.jsonl", NAME, "hub:org", "none.jsonl"])
    assert found == [
        "File 'none.jsonl' does not exist. Expected records; check the path.",
        f"File 'hub:org' {NO_NAME}",
    ]
    assert asked == []


def test_a_request_says_every_problem_before_the_hub_is_asked(answers):
    from loraudit.contrast.request import check_request

    asked = answers(RuntimeError("never"))
    spec = make_request(ContrastSpec, {"base": "b", "data": [NAME, "hub:org"], "methods": ["nothing"]})
    with pytest.raises(ConfigError, match=r"(?s)'hub:org' is no name.*Unknown tuning method 'nothing'"):
        check_request(spec)
    assert asked == []


@pytest.mark.parametrize("offline", [False, True])
def test_every_command_asks_for_its_files_once_and_obeys_offline(offline, answers, tmp_path):
    from loraudit.contrast.request import check_request
    from loraudit.spec import RobustnessSpec
    from loraudit.tasks import check_files
    from loraudit.tuning import estimate_tune

    asked = answers(errors.LocalEntryNotFoundError("not here"))
    shared = {"base": "b", "offline": offline}
    calls = [
        lambda: check_request(
            make_request(ContrastSpec, {**shared, "data": [NAME], "shadow": 2, "pool": [f"{NAME}@v2"]})
        ),
        lambda: check_files(make_request(RobustnessSpec, {**shared, "task": [NAME], "test": [f"{NAME}@v2"]})),
        lambda: estimate_tune(make_request(TuneSpec, {**shared, "data": [NAME], "validation": [f"{NAME}@v2"]})),
    ]
    for call in calls:
        asked.clear()
        why = "--offline is set and it is not in the cache" if offline else "the hub cannot be reached"
        with pytest.raises(EnvironmentFault, match=rf"File '{NAME}' cannot be had: {why}.*\n.*v2' cannot be had"):
            call()
        assert [(one["revision"], one["local_files_only"]) for one in asked] == [(None, offline), ("v2", offline)]
        assert {one["repo_type"] for one in asked} == {"dataset"}


def test_an_audit_fetches_all_its_records(answers):
    from loraudit.auditing.request import load_data
    from loraudit.spec import make_audit_spec

    asked = answers(errors.LocalEntryNotFoundError("not here"))
    names = {key: [f"hub:org/set/{key}.jsonl"] for key in ("members", "nonmembers", "pool", "reference_data")}
    with pytest.raises(EnvironmentFault, match="cannot be had"):
        load_data(make_audit_spec({"model": "m", **names, "offline": True}))
    assert {one["path"] for one in asked} == {f"{key}.jsonl" for key in names}


# --- reading ------------------------------------------------------------------------------------------


def test_records_are_read_from_the_copy_and_keep_the_name_of_the_hub(tmp_path, answers):
    copy = tmp_path / "0000"  # the cache names files by their content
    pq.write_table(pa.table({"document": ["One day.", "Two days."], "id": [1, 2]}), copy)
    asked = answers(copy)
    found = load_records([f"{NAME}@main"], RecordFormat(text_field="document"))
    assert [record.text for record in found.records] == ["One day.", "Two days."]
    assert found.files == (
        {"path": f"{NAME}@main", "sha256": hashlib.sha256(copy.read_bytes()).hexdigest(), "rows": 2},
    )
    assert {record.source for record in found.records} == {f"{NAME}@main"}
    assert {one["local_files_only"] for one in asked} == {True}, "reading asks nobody"


def test_a_file_that_was_never_fetched_is_told_with_the_command(answers):
    answers(errors.LocalEntryNotFoundError("not here"))
    for read in (lambda: read_rows(NAME), lambda: local_path(NAME), lambda: cached(hub_file(NAME))):
        with pytest.raises(
            EnvironmentFault, match=r"run: hf download --repo-type dataset org/reviews data/train\.parquet"
        ):
            read()


def test_a_name_the_hub_cannot_have_is_a_problem_of_the_name(answers):
    answers(errors.HFValidationError("no"))
    with pytest.raises(DataError, match="names no data set the hub can have"):
        fetch(hub_file(NAME), offline=False)


def test_an_unforeseen_failure_of_the_client_is_no_traceback(answers):
    answers(OSError("disk full\nmore"))
    with pytest.raises(EnvironmentFault, match=r"could not be downloaded: disk full\. Try again: hf download"):
        fetch(hub_file(NAME), offline=False)


def test_canaries_go_into_a_file_of_the_user(tmp_path):
    spec = make_request(CanaryInsertSpec, {"data": "hub:org/set/train.jsonl", "out": str(tmp_path / "out")})
    with pytest.raises(DataError, match="is one of the hub, and canaries are put into a file that you train on"):
        run_insert(spec)


# --- texts of several columns -------------------------------------------------------------------------


def pairs(tmp_path, *rows):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(path)]


def test_a_text_of_two_columns_has_a_line_of_each(tmp_path):
    path = pairs(tmp_path, {"question": "Who?", "sentence": "Ada.", "label": 1})
    found = load_records(path, RecordFormat(text_field="question+sentence"), label_field="label")
    assert [(record.text, record.label) for record in found.records] == [("Who?\nAda.", "1")]


def test_a_column_whose_own_name_has_a_plus_is_that_column(tmp_path):
    path = pairs(tmp_path, {"a+b": "whole", "a": "x", "b": "y"})
    assert load_records(path, RecordFormat(text_field="a+b")).records[0].text == "whole"


@pytest.mark.parametrize("row", [{"question": "Who?"}, {"question": "Who?", "sentence": None}])
def test_a_pair_without_one_of_its_columns_is_a_bad_row(tmp_path, row):
    with pytest.raises(DataError) as caught:
        load_records(pairs(tmp_path, row), RecordFormat(text_field="question+sentence"))
    assert "lacks the column 'sentence' of the text 'question+sentence'" in str(caught.value.problems)


def test_a_pair_whose_column_is_no_text_is_a_bad_row(tmp_path):
    with pytest.raises(DataError) as caught:
        load_records(pairs(tmp_path, {"a": "Who?", "b": 7}), RecordFormat(text_field="a+b"))
    assert "'b' is an int, not a string" in str(caught.value.problems)


def test_rows_whose_text_is_put_together_are_not_poisoned_in_their_file(tmp_path):
    from loraudit.planting import run_poison
    from loraudit.spec import PoisonSpec

    path = pairs(tmp_path, *({"a": f"Who {n}?", "b": "Ada.", "label": str(n % 2)} for n in range(30)))
    spec = make_request(
        PoisonSpec,
        {"data": path, "poison": "rare_words", "dose": 4, "text_field": "a+b", "out": str(tmp_path / "out")},
    )
    with pytest.raises(DataError, match=r"Text 'a\+b' is put together from several columns"):
        run_poison(spec)
    planted = {"data": path[0], "text_field": "a+b", "out": str(tmp_path / "planted")}
    with pytest.raises(DataError, match=r"Text 'a\+b' is put together from several columns"):
        run_insert(make_request(CanaryInsertSpec, planted))


# --- a hub that answers -------------------------------------------------------------------------------


def test_a_file_is_downloaded_once_and_then_read_without_a_network(hub, tmp_path):
    hub.files = {"data/train.jsonl": b"{}\n"}
    name = "hub:org/set/data/train.jsonl@refs/convert/parquet"
    assert ask(hub, tmp_path, [name]) == "fine b'{}\\n'"
    assert hub.seen[0][1] == "/datasets/org/set/resolve/refs%2Fconvert%2Fparquet/data/train.jsonl"
    hub.seen.clear()
    assert ask(hub, tmp_path, [name], offline=True) == "fine b'{}\\n'"
    assert hub.seen == []


def test_offline_without_a_copy_asks_nobody(hub, tmp_path):
    said = ask(hub, tmp_path, [NAME], offline=True)
    assert said == (
        f"EnvironmentFault File '{NAME}' cannot be had: --offline is set and it is not in the cache. Where there is a "
        "network, run: hf download --repo-type dataset org/reviews data/train.parquet"
    )
    assert hub.seen == []


def test_a_file_that_the_data_set_lacks_is_a_problem_of_the_request(hub, tmp_path):
    said = ask(hub, tmp_path, [NAME])
    assert said.startswith(f"DataError File '{NAME}' does not exist on the hub. Expected a file of the data set")


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "does not accept your token"),
        (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, "is gated"),
        (404, {"X-Error-Code": "RepoNotFound"}, "was not found on the hub, or you may not see it"),
        (429, {"Retry-After": "300"}, "rate limit is reached"),
        (500, {}, "the hub is out of order (500)"),
    ],
    ids=["bad token", "gated", "missing", "rate limit", "out of order"],
)
def test_a_refusal_of_the_hub_is_told_in_words(status, headers, reason, hub, tmp_path):
    hub.fault = status, headers
    said = ask(hub, tmp_path, [NAME])
    assert said.startswith(f"EnvironmentFault File '{NAME}' ")
    assert reason in said
    assert ("hf auth login" in said) or ("hf download --repo-type dataset org/reviews data/train.parquet" in said)
    assert said.count("\n") == 0
    assert len(hub.seen) == 1, "asked once: who is refused or sent away does not knock again"


@pytest.mark.slow
def test_an_audit_of_hub_records_names_them_with_their_hash(hub, tmp_path, adapter, base, record_files):
    hub.files = {path.name: path.read_bytes() for path in record_files}
    words = ["audit", str(adapter), "--base", str(base), "--attacks", "error_zone", "--resamples", "100", "-q"]
    words += ["--members", "hub:org/set/members.jsonl", "--nonmembers", "hub:org/set/nonmembers.jsonl@main"]
    done = subprocess.run(
        [sys.executable, "-m", "loraudit", *words, "-o", str(tmp_path / "run")],
        env=asking(hub.address, dict(os.environ), str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = (tmp_path / "run" / "result.json").read_text()
    for name, path in zip(
        ("hub:org/set/members.jsonl", "hub:org/set/nonmembers.jsonl@main"), record_files, strict=True
    ):
        assert name in result
        assert hashlib.sha256(path.read_bytes()).hexdigest() in result
