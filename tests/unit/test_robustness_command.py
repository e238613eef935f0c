"""`loraudit robustness` and `loraudit report` of its runs: what they print and how they end."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loraudit.cli import app
from loraudit.errors import ConfigError, StoreError
from loraudit.spec import RobustnessResult, RobustnessSpec
from loraudit.store import read_robustness, read_run
from synthetic_robustness import Robustness

ASKED = ["robustness", "bert-base", "--task", "topics.jsonl", "--methods", "full", "--methods", "lora:8"]


@dataclasses.dataclass
class Cost:
    """What the spine says a run would take."""

    n_train: int = 4000
    n_validation: int = 400
    n_test: int = 872
    n_runs: int = 90
    n_steps: int = 67_500
    attacks: Any = (("label_flip", [(0.05, 200)]), ("rare_words", [(8.0, 8), (512.0, 512)]))
    methods: Any = (("full", 750, 124_440_576, 3 * 2**30, True), ("lora:8", 750, 443_906, 2**30, False))
    warnings: Any = ("rare_words: 2 of 4,000 clean records hold the trigger already.", "\x1b[2J left out")


@dataclasses.dataclass
class Run:
    path: Path
    result: RobustnessResult


@pytest.fixture
def spine(monkeypatch, tmp_path):
    """A spine that has the result already; what it was asked for is kept."""
    asked: list[RobustnessSpec] = []

    def run_robustness(spec, *, progress=None, stop=None, command=None):
        asked.append(spec)
        result = Robustness().result(fail_on=spec.fail_on)
        (tmp_path / "result.json").write_text(result.model_dump_json())
        return Run(tmp_path, result)

    module = types.ModuleType("loraudit.robustness")
    module.__dict__.update(
        run_robustness=run_robustness, estimate_robustness=lambda spec: asked.append(spec) or Cost(), asked=asked
    )
    monkeypatch.setitem(sys.modules, "loraudit.robustness", module)
    return module


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_dry_run_says_what_it_would_take(spine):
    shown = invoke(*ASKED, "--dry-run")
    assert shown.exit_code == 0, shown.output
    search = "; learning rate to be searched"
    assert shown.output.splitlines() == [
        "4,000 training, 400 validation and 872 test records.",
        "90 training runs, 67,500 steps.",
        "  label_flip: 200 (5 %) records poisoned",
        "  rare_words: 8, 512 records poisoned",
        f"  full: 750 steps a run, 124,440,576 parameters trained, 3.00 GiB without activations{search}",
        "  lora:8: 750 steps a run, 443,906 parameters trained, 1.00 GiB without activations",
        "Warning: rare_words: 2 of 4,000 clean records hold the trigger already.",
        "Warning: \\x1b[2J left out",
    ]
    assert spine.asked[0].methods == ("full", "lora:8")
    assert json.loads(invoke(*ASKED, "--dry-run", "--json").output)["n_runs"] == 90


@pytest.mark.parametrize(("limit", "code"), [(None, 0), ("n_invalid > 9", 0), ("n_invalid > 0", 1), ("asr < 0", 1)])
def test_the_exit_code_says_whether_the_limits_hold(spine, limit, code):
    shown = invoke(*ASKED, "--quiet", *([] if limit is None else ["--fail-on", limit]))
    assert shown.exit_code == code, shown.output
    assert "a control fails" in shown.output
    assert "report.html" in shown.output
    assert (limit is None) or (f"Limit {limit}" in shown.output)


def test_json_is_the_result_and_nothing_else(spine):
    shown = invoke(*ASKED, "--json")
    assert RobustnessResult.model_validate_json(shown.stdout).kind == "robustness"


def test_a_spec_file_gives_what_flags_do_not(spine, tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text('base = "other"\ntask = "t.jsonl"\nseeds = 7\n')
    assert invoke("robustness", "--spec", str(path), "--seeds", "2", "--dry-run").exit_code == 0
    assert (spine.asked[0].base, spine.asked[0].seeds) == ("other", 2)


# --- finished runs ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "result.json").write_text(Robustness().result().model_dump_json())
    return tmp_path


def test_a_finished_run_is_shown_and_rendered_again(folder):
    shown = invoke("report", str(folder), "--verbose")
    assert shown.exit_code == 0, shown.output
    assert "Effective doses" in shown.output
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads(invoke("report", str(folder), "--json").stdout)["kind"] == "robustness"


@pytest.mark.parametrize(
    ("name", "begins"), [("html", "<!doctype"), ("json", "{"), ("junit", "<?xml"), ("markdown", "# What poisoned")]
)
def test_a_finished_run_has_every_format(folder, name, begins):
    assert invoke("report", str(folder), "--format", name).output.startswith(begins)
    assert invoke("report", str(folder), "--format", name, "--output", str(folder / "out")).output == ""
    assert (folder / "out").read_text().startswith(begins)


def test_a_format_it_lacks_is_refused_by_name(folder):
    shown = invoke("report", str(folder), "--format", "model-card")
    assert isinstance(shown.exception, ConfigError)
    assert str(shown.exception) == (
        "A robustness run has no model-card report. Expected --format html, json, junit, markdown."
    )


def test_commands_for_audits_refuse_it_politely(folder):
    (folder / "scores.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds a robustness run, which this does not take\. Expected an audit"):
        read_run(folder)


def test_a_damaged_result_is_said_to_be(folder):
    assert read_robustness(folder / "nothing") is None
    (folder / "result.json").write_text('{"kind": "robustness"}')
    with pytest.raises(StoreError, match="is damaged"):
        read_robustness(folder)
