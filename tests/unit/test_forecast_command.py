"""`loraudit forecast` and `loraudit report` of its runs, alone and beside a measurement: output and exit codes."""

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
from loraudit.cli.options import flag
from loraudit.errors import ConfigError, StoreError
from loraudit.spec import ForecastResult, ForecastSpec
from loraudit.store import read_forecast, read_run
from synthetic_forecast import Forecast
from synthetic_robustness import Robustness

ASKED = ["forecast", "bert-base", "--task", "topics.jsonl", "--ranks", "1", "--ranks", "8", "--variances", "0.333"]


@dataclasses.dataclass
class Kernels:
    """What measuring kernels takes."""

    n_passes: float = 12.5
    held_bytes: int = 3 * 2**30
    kernel_bytes: int = 2**29


@dataclasses.dataclass
class Cost:
    """What the spine says a forecast would take."""

    n_train: int = 128
    n_test: int = 200
    n_rows: int = 410
    n_tokens: int = 21_300
    n_methods: int = 5
    n_heads: int = 3
    attacks: Any = (("label_flip", [(0.05, 6)]), ("rare_words", [(8.0, 8), (32.0, 32)]))
    kernels: Kernels = dataclasses.field(default_factory=Kernels)
    warnings: Any = ("3 texts were cut.", "\x1b[2J left out")


@dataclasses.dataclass
class Run:
    path: Path
    result: ForecastResult


@pytest.fixture
def spine(monkeypatch, tmp_path):
    """A spine that has the result already; what it was asked for is kept."""
    asked: list[ForecastSpec] = []

    def run_forecast(spec, *, progress=None, stop=None, command=None):
        asked.append(spec)
        result = Forecast().result(fail_on=spec.fail_on)
        (tmp_path / "result.json").write_text(result.model_dump_json())
        return Run(tmp_path, result)

    module = types.ModuleType("loraudit.forecast")
    module.__dict__.update(
        run_forecast=run_forecast, estimate_forecast=lambda spec: asked.append(spec) or Cost(), asked=asked
    )
    monkeypatch.setitem(sys.modules, "loraudit.forecast", module)
    return module


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_dry_run_says_what_it_would_take(spine):
    shown = invoke(*ASKED, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == [
        "128 training, 200 test records; 410 texts, 21,300 tokens.",
        "5 methods, none trained; 12.5 passes over every text, for each of 3 draws of the head.",
        "At most 3.00 GiB of gradients at a time, 0.50 GiB of kernels.",
        "  label_flip: 6 (5 %) records poisoned",
        "  rare_words: 8, 32 records poisoned",
        "Warning: 3 texts were cut.",
        "Warning: \\x1b[2J left out",
    ]
    assert (spine.asked[0].ranks, spine.asked[0].variances) == ((1, 8), (0.333,))
    assert json.loads(invoke(*ASKED, "--dry-run", "--json").output)["kernels"]["n_passes"] == 12.5


@pytest.mark.parametrize(("limit", "code"), [(None, 0), ("refused > 9", 0), ("refused > 0", 1), ("asr.value > 0.5", 1)])
def test_the_exit_code_says_whether_the_limits_hold(spine, limit, code):
    shown = invoke(*ASKED, "--quiet", *([] if limit is None else ["--fail-on", limit]))
    assert shown.exit_code == code, shown.output
    assert "Nothing is predicted of 1 of 7 methods" in shown.output
    assert "report.html" in shown.output
    assert (limit is None) or (f"Limit {limit}" in shown.output)


def test_json_is_the_result_and_nothing_else(spine):
    shown = invoke(*ASKED, "--json")
    assert ForecastResult.model_validate_json(shown.stdout).kind == "forecast"


def test_a_spec_file_gives_what_flags_do_not(spine, tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text('base = "other"\ntask = "t.jsonl"\nalphas = [8, 16]\ndraws = 6\n')
    assert invoke("forecast", "--spec", str(path), "--draws", "2", "--dry-run").exit_code == 0
    assert (spine.asked[0].base, spine.asked[0].draws, spine.asked[0].alphas) == ("other", 2, (8.0, 16.0))


def test_every_field_of_the_request_is_a_flag_with_words(spine):
    import inspect

    from loraudit.cli.forecast import forecast

    parameters = inspect.signature(forecast).parameters
    assert set(parameters) - {"spec", "dry_run", "as_json", "quiet"} == set(ForecastSpec.model_fields)
    for name, field in ForecastSpec.model_fields.items():
        assert field.description, flag(name)
        assert parameters[name].default is None


# --- finished runs ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "forecast"
    path.mkdir()
    (path / "result.json").write_text(Forecast(is_compared=True).result().model_dump_json())
    return path


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "measured"
    path.mkdir()
    (path / "result.json").write_text(Robustness().result().model_dump_json())
    return path


def test_a_finished_run_is_shown_and_rendered_again(folder):
    shown = invoke("report", str(folder), "--verbose")
    assert shown.exit_code == 0, shown.output
    for words in ("Linearity", "Spearman with measured accuracy", "Entropies from the settings alone"):
        assert words in shown.output
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads(invoke("report", str(folder), "--json").stdout)["kind"] == "forecast"
    assert "Linearity" not in invoke("report", str(folder)).output


BEGINNINGS = [("html", "<!doctype"), ("json", "{"), ("junit", "<?xml"), ("markdown", "# What poisoned")]


@pytest.mark.parametrize(("name", "begins"), BEGINNINGS)
def test_a_finished_run_has_every_format(folder, name, begins):
    assert invoke("report", str(folder), "--format", name).output.startswith(begins)
    assert invoke("report", str(folder), "--format", name, "--output", str(folder / "out")).output == ""
    assert (folder / "out").read_text().startswith(begins)


def test_a_format_it_lacks_is_refused_by_name(folder):
    shown = invoke("report", str(folder), "--format", "model-card")
    assert isinstance(shown.exception, ConfigError)
    assert str(shown.exception) == "A forecast has no model-card report. Expected --format html, json, junit, markdown."


def test_commands_for_audits_refuse_it_politely(folder):
    (folder / "scores.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds a forecast, which this does not take\. Expected an audit"):
        read_run(folder)


def test_a_damaged_result_is_said_to_be(folder):
    assert read_forecast(folder / "nothing") is None
    (folder / "result.json").write_text('{"kind": "forecast"}')
    with pytest.raises(StoreError, match="is damaged"):
        read_forecast(folder)


# --- beside a measurement ---------------------------------------------------------------------


def test_a_forecast_is_set_beside_a_robustness_run(folder, measured):
    shown = invoke("report", str(folder), "--with", str(measured))
    assert shown.exit_code == 0, shown.output
    for words in ("Spearman with measured attack success", "Predicted and measured accuracy", "on LoRA alone"):
        assert words in shown.output
    assert "predicted and measured, by method" in (folder / "report.html").read_text()
    assert json.loads((folder / "result.json").read_text())["comparisons"][0]["run"] == "runs/measured"  # as it was
    assert invoke("report", str(folder)).exit_code == 0
    assert "predicted and measured, by method" not in (folder / "report.html").read_text()


@pytest.mark.parametrize(("name", "begins"), BEGINNINGS)
def test_every_format_knows_the_run_it_is_set_beside(folder, measured, name, begins):
    shown = invoke("report", str(folder), "--with", str(measured), "--format", name).output
    assert shown.startswith(begins)
    assert str(measured) in shown
    if name == "json":
        made = ForecastResult.model_validate_json(shown)
        assert {one.run for one in made.comparisons} == {str(measured)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{measured}", "--with", "{folder}"],
            r"holds a robustness run and '.*', after --with, a forecast\. .*report .*forecast --with .*measured$",
        ),
        (
            ["{folder}", "--with", "{folder}"],
            r"Folder '.*forecast' holds a forecast, which this .* a robustness run aft",
        ),
        (
            ["{measured}", "--with", "{measured}"],
            r"holds a robustness run, .* Expected a forecast, where --with names a",
        ),
        (["{folder}", "--with", "{measured}", "--json"], r"--json prints result\.json as it is, without --with\. Use"),
    ],
)
def test_what_cannot_be_set_beside_is_refused(folder, measured, words, message):
    shown = invoke("report", *(word.format(folder=folder, measured=measured) for word in words))
    assert isinstance(shown.exception, ConfigError)
    assert shown.exception.args
    with pytest.raises(ConfigError, match=message):
        raise shown.exception
