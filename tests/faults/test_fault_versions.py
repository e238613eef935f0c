"""Run folders of the version before are read and gone on with; those of a newer one are refused with what helps."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from loraudit.auditing import exit_code
from loraudit.policy import judge, verdict_of
from loraudit.report import FORMATS
from loraudit.spec import SCHEMA_VERSION
from loraudit.store import read_run

GOLDEN = Path(__file__).parents[1] / "golden" / "run_v1"
UPGRADE = "Run: pip install --upgrade loraudit"


@pytest.fixture
def old(tmp_path) -> Path:
    """A copy of a run folder that the first version wrote."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "run"))


class Words(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_data(self, data):
        self.found.append(data)


def rewritten(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


# --- row 28: one version back -------------------------------------------------------------------------


def test_a_run_of_the_version_before_is_read_and_judged_when_it_is_read(old):
    run = read_run(old)
    assert run.result.schema_version == SCHEMA_VERSION - 1
    assert run.result.verdict is None
    assert run.result.validity is None
    verdict = verdict_of(run.result)
    assert verdict == judge(run.result)
    assert verdict.heading
    area = run.result.membership.attack("error_zone").findings["auc"]
    assert f"{area.value:.3f}" in verdict.sentence
    assert exit_code(run.result) == verdict.exit_code == 0


def test_a_report_of_the_version_before_is_rendered_with_its_verdict(old, command):
    before = (old / "result.json").read_bytes()
    code, out, err = command("report", old)
    assert (code, err) == (0, "")
    verdict = judge(read_run(old).result)
    assert out.startswith(f"{verdict.heading}\n")
    words = " ".join("".join(Words((old / "report.html").read_text(encoding="utf-8")).found).split())
    assert verdict.heading in words
    assert verdict.sentence in words
    assert "Not valid as it stands" not in words
    assert "holds no record text" in words
    assert (old / "result.json").read_bytes() == before, "reading changes nothing"


@pytest.mark.parametrize("format_", list(FORMATS))
def test_every_format_shows_a_run_of_the_version_before(format_, old, command):
    code, out, err = command("report", old, "--format", format_)
    assert (code, err) == (0, "")
    if format_ != "json":
        assert judge(read_run(old).result).heading in out


def test_runs_of_the_version_before_can_still_be_compared(old, command):
    code, out, _ = command("compare", old, old, "--json")
    assert code == 0
    assert json.loads(out)["n_changed_side"] == 0


@pytest.fixture
def beside_old(old, adapter, base, record_files, tmp_path):
    """The words that ask for what the old run folder was asked, with models and records where it says."""
    for source, name in ((adapter, "adapter"), (base, "base")):
        shutil.copytree(source, tmp_path / name)
    for source, name in zip(record_files, ("members.jsonl", "nonmembers.jsonl"), strict=True):
        shutil.copyfile(source, tmp_path / name)
    sides = ("--members", "members.jsonl", "--nonmembers", "nonmembers.jsonl")
    return ("adapter", "--base", "base", "--allow-other-base", *sides, "--resamples", 200, "-q", "-o", "run")


def test_a_run_folder_of_the_version_before_is_gone_on_with_by_the_same_request(old, beside_old, command):
    """The request of then, without the keys that were not there yet, is the request of now by its defaults."""
    spec = json.loads((old / "spec.json").read_text(encoding="utf-8"))
    assert "fdr" not in spec
    rewritten(old / "spec.json", allow_other_base=True)
    code, _, err = command("audit", *beside_old)
    assert code == 0, err
    run = read_run(old)
    assert run.result.schema_version == SCHEMA_VERSION
    assert run.result.verdict is not None
    assert run.result.validity is not None
    assert json.loads((old / "spec.json").read_text(encoding="utf-8"))["schema_version"] == SCHEMA_VERSION
    assert "blind.bag_of_words" in pq.read_schema(old / "scores.parquet").names
    assert command("verify", "run")[0] == 0


def test_another_request_in_a_run_folder_of_the_version_before_is_refused_with_the_difference(old, beside_old, command):
    rewritten(old / "spec.json", allow_other_base=True)
    code, _, err = command("audit", *beside_old, "--seed", 3)
    assert code == 2
    assert "holds another audit" in err
    assert err.splitlines()[1:] == ["  seed: 0 → 3"], "what it differs in, and no key that was not there yet"


def test_a_spec_file_of_the_version_before_is_valid(old, beside_old, command):
    code, out, err = command("validate", old / "spec.json")
    assert code == 0, err
    assert out.startswith("ok ")


def test_a_resolved_request_of_the_version_before_can_be_repeated(old, beside_old, command):
    code, _, err = command("audit", "--spec", old / "spec.json", "--allow-other-base", "-q", "-o", "new")
    assert code == 0, err


def test_a_resolved_request_can_be_repeated_although_it_holds_rates_that_cannot_be_resolved(beside_old, command):
    assert command("audit", *beside_old[:-1], "first")[0] == 0
    code, _, err = command("audit", "--spec", "first/spec.json", "-q", "-o", "second")
    assert code == 0, err
    first, second = (Path(name, "scores.parquet").read_bytes() for name in ("first", "second"))
    assert first == second


# --- row 28: newer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("report", "run"), ("verify", "run"), ("compare", "run", "run")], ids=lambda w: w[0])
def test_a_result_of_a_newer_version_is_refused_with_the_command_that_helps(words, old, command):
    rewritten(old / "result.json", schema_version=SCHEMA_VERSION + 1, a_field_of_the_future={"x": 1})
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: Run 'run' was written by a newer loraudit ")
    assert f"(schema {SCHEMA_VERSION + 1}, this one reads up to {SCHEMA_VERSION})" in err
    assert UPGRADE in err
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


@pytest.mark.parametrize("words", [("validate",), ("audit", "--spec"), ("doctor", "--spec")], ids=lambda w: w[0])
def test_a_spec_file_of_a_newer_version_is_refused_with_the_command_that_helps(words, old, beside_old, command):
    rewritten(old / "spec.json", schema_version=SCHEMA_VERSION + 1, a_key_of_the_future=True)
    code, out, err = command(*words, old / "spec.json")
    assert code == 2
    assert f"written by a newer loraudit (schema {SCHEMA_VERSION + 1}, this one reads up to {SCHEMA_VERSION})" in (
        out + err
    ).replace("\n", " ")
    assert UPGRADE in out + err


def test_a_run_folder_of_a_newer_version_is_refused_with_the_command_that_helps(old, beside_old, command):
    rewritten(old / "spec.json", schema_version=SCHEMA_VERSION + 1, a_key_of_the_future=True)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    code, _, err = command("audit", *beside_old)
    assert code == 2
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert UPGRADE in err


@pytest.mark.parametrize("version", ["2", None, 2.5, True, -1, [2]])
def test_a_version_that_is_no_number_is_no_reason_to_crash(version, old, command):
    rewritten(old / "result.json", schema_version=version)
    code, _, err = command("report", old)
    assert code in (0, 5)
    assert "Traceback" not in err
    rewritten(old / "spec.json", schema_version=version)
    code, _, err = command("validate", old / "spec.json")
    assert code == 2
    assert "Traceback" not in err
