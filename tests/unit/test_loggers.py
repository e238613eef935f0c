"""Finished runs in MLflow and W&B: every figure once, under a legal name, and nothing that is nobody's business."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import types
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from test_report_page import make_result, make_run, model, synthetic_scores

from loraudit.errors import ConfigError, EnvironmentFault, MissingExtra, StoreError
from loraudit.integrations.figures import legal_names
from loraudit.integrations.logged import logged
from loraudit.integrations.mlflow_logger import log_to_mlflow
from loraudit.integrations.shareable import Places, asked
from loraudit.integrations.wandb_logger import log_to_wandb
from loraudit.spec import (
    AuditSpec,
    CanaryResult,
    CanaryScoreSpec,
    CellResult,
    EpsilonResult,
    ExposureLevel,
    Grid,
    ProbeResult,
    RatePair,
    RecordsResult,
    ScanResult,
    ScanSpec,
    StudyResult,
    StudySpec,
    Subgroup,
    spec_hash,
)
from loraudit.store import read_run
from loraudit.types import Finding
from synthetic_contrast import Contrast
from synthetic_forecast import Forecast
from synthetic_robustness import Robustness

TOKEN = "hf_PlantedTokenThatNobodyMaySee"
FOLDER = "/data/clinic-of-dr-planted/tuned"


def figure(value, half=0.1, **changes):
    low, high = (None, None) if value is None else (value - half, value + half)
    return Finding(value, low, high, 0.95, "made up", **({"n_members": 30, "n_nonmembers": 20} | changes))


def audited(folder, **changes):
    """The folder of an audit that nobody ran."""
    scores, is_member = synthetic_scores()
    return make_run(folder, make_result(scores, is_member, **changes), scores, is_member)


def rewritten(folder, change):
    """The same folder with another result.json."""
    path = folder / "result.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def kept(folder, result):
    """A run folder that holds only a result."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(result.model_dump_json())
    return folder


@pytest.fixture
def store(tmp_path):
    """A folder for MLflow, and what is in it: all runs of the experiment, newest first."""
    pytest.importorskip("mlflow")
    uri = (tmp_path / "tracked").as_uri()

    def runs():
        from mlflow.tracking import MlflowClient

        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        try:
            client = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name("loraudit")
            return client.search_runs([found.experiment_id]), client
        finally:
            del os.environ["MLFLOW_ALLOW_FILE_STORE"]

    return types.SimpleNamespace(uri=uri, runs=runs, path=tmp_path / "tracked")


# --- names --------------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet="ab/.=:%# é-", max_size=12), max_size=12))
def test_names_are_legal_and_each_its_own_as_a_file(names):
    legal = legal_names(names)
    assert len(set(legal)) == len(names)
    for name in legal:
        assert re.fullmatch(r"[\w./ -]+", name, re.ASCII)
        assert os.path.normpath(name) == name
        assert not name.startswith(("/", ".."))
        assert not any(other.startswith(f"{name}/") for other in legal)


def test_names_that_become_one_keep_apart_in_the_order_of_the_result():
    assert legal_names(["a=1", "a:1", "a_1"]) == ["a_1", "a_1-2", "a_1-3"]
    assert legal_names(["a/b", "a"]) == ["a/b", "a/value"]
    assert len(legal_names(["x" * 500])[0]) == 200


# --- what leaves this machine -------------------------------------------------------------------------

part = st.text(alphabet="abcXYZ019_.-", min_size=1, max_size=8).filter(lambda s: s.strip(".") == s and s.strip("-"))


@given(st.lists(part, min_size=2, max_size=5), st.sampled_from(["{}", "Read '{}' twice.", "see {}, and 1/400", "`{}`"]))
def test_of_a_path_only_the_last_name_leaves(parts, words):
    path = "/" + "/".join(parts)
    for places in (Places([path]), Places()):
        assert places.out_of(words.format(path)) == words.format(parts[-1])
        assert places.value(path) == parts[-1]


def test_a_known_folder_with_blanks_is_taken_out_whole():
    places = Places(["/data/dr planted/my notes.jsonl"])
    assert places.out_of("File '/data/dr planted/my notes.jsonl' has 3 rows.") == "File 'my notes.jsonl' has 3 rows."


def test_homes_drives_and_the_working_folder_are_places_and_fractions_and_addresses_are_none():
    places = Places()
    assert places.out_of(f"in {Path.home()}/x and ~/y/z.csv") == "in x and z.csv"
    assert places.value(r"C:\Users\planted\tuned") == "tuned"
    assert places.out_of(f"of {Path.cwd()}/runs/a.") == "of a."
    for words in ("1/400 of 3 / 4", "https://huggingface.co/org/model", "org/model", "and/or", "B/A"):
        assert places.out_of(words) == words


def test_params_are_what_was_asked_without_where_it_ran():
    spec = AuditSpec(
        model=FOLDER,
        members=("/data/a b/members.jsonl", "rest.jsonl"),
        nonmembers=f"/x/{TOKEN}.jsonl",
        device="cpu",
        out="/data/clinic-of-dr-planted/out",
        fpr=(0.01,),
    )
    params = asked(spec, Places.of(spec))
    assert params["model"] == "tuned"
    assert params["members"] == '["members.jsonl", "rest.jsonl"]'
    assert params["fpr"] == "[0.01]"
    assert not {"device", "out", "store"} & set(params)
    assert not [value for value in params.values() if "planted" in value or "PlantedToken" in value]


# --- figures ------------------------------------------------------------------------------------------


def test_every_figure_has_its_ends_and_its_n_and_the_undefined_are_counted(tmp_path):
    run = logged(audited(tmp_path / "run"))
    result = read_run(tmp_path / "run").result
    auc = result.membership.attack("error_zone").findings["auc"]
    name = "membership/error_zone/auc"
    assert run.metrics[name] == auc.value
    assert (run.metrics[f"{name}.lower"], run.metrics[f"{name}.upper"]) == (auc.lower, auc.upper)
    assert (run.metrics[f"{name}.n_members"], run.metrics[f"{name}.n_nonmembers"]) == (300, 250)
    # 250 non-members cannot resolve 0.1 %: the rate is refused for each of the three attacks.
    refused = [name for name in run.undefined if name.endswith("tpr_at_fpr_0_1pct")]
    assert len(refused) == 3
    assert not set(run.undefined) & set(run.metrics)
    assert run.tags["loraudit.n_undefined"] == str(len(run.undefined))
    assert refused[0] in run.tags["loraudit.undefined"]
    assert all(math.isfinite(value) for value in run.metrics.values())


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_an_undefined_figure_is_no_number(value, tmp_path):
    def change(content):
        content["membership"]["attacks"][0]["findings"]["auc"]["value"] = value if value is None else str(value)

    before = logged(audited(tmp_path / "run"))
    after = logged(rewritten(tmp_path / "run", change))
    assert "membership/error_zone/auc" in before.metrics
    assert not [name for name in after.metrics if name.startswith("membership/error_zone/auc")]
    assert set(after.undefined) - set(before.undefined) == {"membership/error_zone/auc"}


def test_values_of_the_users_own_column_are_withheld_and_counted(tmp_path):
    def group(by, name):
        return Subgroup(by=by, name=name, n_members=30, n_nonmembers=20, auc=figure(0.7), tpr=figure(0.2), fpr=0.01)

    records = RecordsResult(
        fdr=0.05,
        n_exposed=3,
        smallest_p_value=0.01,
        exposed=[],
        subgroups=[group("length", "short"), group("a/b", "planted diagnosis")],
    )
    scores, is_member = synthetic_scores()
    result = make_result(scores, is_member)
    membership = result.membership.model_copy(update={"records": records})
    spec = result.spec.model_copy(update={"subgroup_field": "a/b"})
    folder = make_run(
        tmp_path / "run",
        result.model_copy(update={"membership": membership, "spec": spec}),
        scores,
        is_member,
    )
    run = logged(folder)
    assert "membership/records/length_short/auc" in run.metrics
    assert run.tags["loraudit.n_withheld"] == "2"
    assert run.metrics["records.n_exposed"] == 3
    assert "diagnosis" not in repr(run)


def level(repeats):
    return ExposureLevel(
        repeats=repeats,
        n=16,
        n_undefined=0,
        exposure=figure(2.0 + repeats),
        exposure_of_target=None,
        first=figure(0.5),
        n_exposed=1,
        p_value=0.5,
        p_holm=None,
    )


def canary_result(**epsilon):
    spec = CanaryScoreSpec(model=FOLDER, manifest="/data/clinic-of-dr-planted/canaries.json")
    stated = {"status": "stated", "epsilon": 0.7, "ceiling": 3.0, "delta": 1e-5, "confidence": 0.95, "n_coins": 64}
    return CanaryResult(
        loraudit="0.1.0",
        spec=spec,
        spec_hash=spec_hash(spec),
        command="loraudit canaries score",
        heading="Planted secrets are exposed",
        sentence=f"In {FOLDER}.",
        headline="difference",
        target=model(FOLDER),
        reference=None,
        manifest="ab",
        n_secrets=99,
        most_bits=6.6,
        levels=[level(1), level(4)],
        controls=level(0),
        trend=figure(0.4),
        trend_p_value=0.01,
        epsilon=EpsilonResult(**(stated | {"n_included": 30, "repeats": 1} | epsilon)),
        numerics={},
        scoring={},
        started="2025-01-01T00:00:00+00:00",
        seconds=2.0,
        versions={},
        scores="cd",
    )


def scan_result():
    spec = ScanSpec(model=FOLDER)
    pair = RatePair(with_trigger=figure(0.9), with_control=figure(0.1), corrected_lower=0.5, outcome="planted outcome")
    probe = ProbeResult(
        name="yours, line 3",
        kind="yours",
        trigger="planted trigger",
        place="start",
        source="yours",
        n_prompts=20,
        n_controls=9,
        shift=figure(0.3),
        repeated=pair,
        flagged=["repeated"],
    )
    return ScanResult(
        loraudit="0.1.0",
        spec=spec,
        spec_hash=spec_hash(spec),
        command="loraudit scan",
        heading="One trigger is flagged",
        sentence="One.",
        does_not_show=[],
        target=model(FOLDER),
        reference=None,
        weights_file=f"{FOLDER}/adapter_model.safetensors",
        modules=[],
        families=[],
        skipped=[],
        n_tests=0,
        task="causal_lm",
        overall_shift=figure(0.01),
        probes=[probe],
        probes_reason=None,
        limits=[],
        exit_code=0,
        versions={},
        numerics={},
        warnings=[],
        started="2025-01-01T00:00:00+00:00",
        seconds=2.0,
    )


KINDS = {
    "contrast": lambda: Contrast(n_seeds=1, n_epochs=1).result(),
    "robustness": lambda: Robustness(n_seeds=1).result(),
    "forecast": lambda: Forecast().result(),
    "canaries": canary_result,
    "scan": scan_result,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind_can_be_sent(kind, store, tmp_path):
    run = logged(kept(tmp_path / "run", KINDS[kind]()))
    assert run.kind == kind
    assert int(run.tags["loraudit.n_findings"]) > 3
    log_to_mlflow(run, tracking_uri=store.uri)
    (entry,), _ = store.runs()
    assert entry.data.metrics == run.metrics
    assert entry.data.params == run.params


def test_canaries_have_a_figure_for_each_number_of_copies_and_epsilon_only_where_it_is_stated(tmp_path):
    stated = logged(kept(tmp_path / "stated", canary_result()))
    assert stated.metrics["copies_4/exposure"] == 6.0
    assert stated.metrics["controls/exposure"] == 2.0
    assert stated.metrics["epsilon.lower"] == 0.7
    refused = logged(kept(tmp_path / "refused", canary_result(status="refused", epsilon=None, reason="no coins")))
    assert not [name for name in refused.metrics if name.startswith("epsilon")]


def test_a_scan_says_which_line_is_flagged_and_never_what_stands_there(tmp_path):
    run = logged(kept(tmp_path / "run", scan_result()))
    assert run.metrics["probes/yours_ line 3/repeated/with_trigger"] == 0.9
    assert run.metrics["probes.n_flagged"] == 1
    assert "planted" not in repr({**run.metrics, **run.params, **run.tags, "note": run.note})


# --- MLflow -------------------------------------------------------------------------------------------


def test_mlflow_holds_the_figures_the_request_and_the_finding(store, tmp_path):
    run = logged(audited(tmp_path / "run"))
    sent = log_to_mlflow(run, tracking_uri=store.uri)
    (entry,), _ = store.runs()
    assert sent.entries == (entry.info.run_id,)
    assert sent.n_updated == 0
    assert entry.data.metrics == run.metrics
    assert entry.data.params == run.params
    assert entry.data.tags["loraudit.spec_hash"] == read_run(tmp_path / "run").result.spec_hash
    assert entry.data.tags["mlflow.note.content"].startswith("Membership leaks.")
    assert entry.info.status == "FINISHED"
    assert entry.info.end_time - entry.info.start_time == 12_300


def test_the_same_request_again_is_the_same_entry_and_what_is_gone_is_no_number(store, tmp_path):
    folder = audited(tmp_path / "run")
    first = log_to_mlflow(logged(folder), tracking_uri=store.uri)
    assert log_to_mlflow(logged(folder), tracking_uri=store.uri).n_updated == 1

    def change(content):
        one, other, *_ = content["membership"]["attacks"]
        one["findings"]["auc"]["value"] = 0.625
        other["findings"]["auc"]["value"] = None

    again = log_to_mlflow(logged(rewritten(folder, change)), tracking_uri=store.uri)
    assert again.entries == first.entries
    (entry,), client = store.runs()
    assert entry.data.metrics["membership/error_zone/auc"] == 0.625
    assert math.isnan(entry.data.metrics["membership/loss/auc"])
    history = client.get_metric_history(entry.info.run_id, "membership/zlib/auc")
    assert len(history) == 1, "an unchanged figure is not written again"


def test_files_are_sent_on_request_only_and_never_records_scores_or_ids(store, tmp_path):
    folder = audited(tmp_path / "run")
    (folder / "report.html").write_text("<p>")
    assert {"scores.parquet", "identity.parquet"} <= {path.name for path in folder.iterdir()}

    def artifacts():
        return sorted(path.name for path in store.path.rglob("artifacts/*"))

    log_to_mlflow(logged(folder), tracking_uri=store.uri)
    assert artifacts() == []
    sent = log_to_mlflow(logged(folder), tracking_uri=store.uri, with_files=True)
    assert artifacts() == ["report.html", "result.json"]
    assert sent.files == ("report.html", "result.json")


def test_a_report_that_shows_text_is_not_sent(tmp_path):
    scores, is_member = synthetic_scores()
    result = make_result(scores, is_member)
    with_text = result.model_copy(update={"spec": result.spec.model_copy(update={"include_text": True})})
    run = logged(make_run(tmp_path / "run", with_text, scores, is_member))
    assert run.files == ()
    assert run.withheld == (
        "report.html: the run was asked to show text",
        "result.json: the run was asked to show text",
    )


# --- row 25: what the report protects; row 26: credentials --------------------------------------------


def test_no_secret_reaches_the_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CLINIC_API_KEY", "planted-environment-secret")
    scores, is_member = synthetic_scores()
    spec = AuditSpec(
        model=FOLDER,
        members=f"https://ada:plantedpassword@hub.example/{TOKEN}/members.jsonl",
        nonmembers="/data/clinic-of-dr-planted/rest.jsonl",
    )
    result = make_result(scores, is_member, spec=spec, spec_hash=spec_hash(spec), target=model(FOLDER))
    worded = result.model_copy(
        update={
            "command": f"loraudit audit {FOLDER}",
            "warnings": [f"read {FOLDER}"],
            "started": "2025-01-01T00:00:00+00:00",
        }
    )
    folder = make_run(tmp_path / "run", worded, scores, is_member)
    broken = [{"name": "error_zone", "status": "error", "reason": f"planted-environment-secret in {FOLDER}"}]

    def change(content):
        content["membership"]["attacks"][0] |= broken[0] | {"findings": {}}

    log_to_mlflow(logged(rewritten(folder, change)), tracking_uri=store.uri)
    shown = set(read_run(folder).scores.column("id").to_pylist())
    written = [path for path in store.path.rglob("*") if path.is_file()]
    assert len(written) > 20
    for path in written:
        text = f"{path.name}\n{path.read_text()}"
        for secret in ("planted", TOKEN, "secret words", "/data/"):
            assert secret not in text, (path, secret)
        assert not shown & set(re.findall(r"[0-9a-f]{24}", text))


# --- where it goes ------------------------------------------------------------------------------------


def test_without_a_store_of_the_users_and_without_a_database_client_it_goes_to_a_folder(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    run = logged(audited(tmp_path / "run"))
    sent = log_to_mlflow(run)
    assert sent.where == f"{(tmp_path / 'mlruns').as_uri()}, experiment 'loraudit'"
    assert (tmp_path / "mlruns").is_dir()


def test_the_users_own_setting_names_the_store_and_is_left_as_it_was(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mine"))
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    before = dict(os.environ)
    log_to_mlflow(logged(audited(tmp_path / "run")), experiment="clinic")
    assert dict(os.environ) == before
    assert [path.parent.name for path in (tmp_path / "mine").rglob("artifacts")]


def test_a_database_without_its_client_is_refused_with_the_command(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = logged(audited(tmp_path / "run"))
    with pytest.raises(EnvironmentFault, match=r"is a database, which mlflow-skinny cannot open\..*pip install mlflow"):
        log_to_mlflow(run, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def test_a_server_that_is_away_is_a_fault_of_the_surroundings_and_the_run_is_untouched(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = audited(tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(EnvironmentFault, match=r"could not take run 'audit-\w{12}'.*--tracking-uri or") as refused:
        log_to_mlflow(logged(folder), tracking_uri="http://ada:plantedpassword@127.0.0.1:9")
    assert "plantedpassword" not in str(refused.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_deleted_experiment_is_named_with_the_way_back(store, tmp_path):
    run = logged(audited(tmp_path / "run"))
    log_to_mlflow(run, tracking_uri=store.uri)
    (entry,), client = store.runs()
    client.delete_experiment(entry.info.experiment_id)
    with pytest.raises(ConfigError, match=r"experiment 'loraudit' was deleted\..*mlflow experiments restore -x"):
        log_to_mlflow(run, tracking_uri=store.uri)


@pytest.mark.parametrize(("library", "send"), [("mlflow", log_to_mlflow), ("wandb", log_to_wandb)])
def test_a_missing_library_is_named_with_the_command_that_brings_it(library, send, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'loraudit\[{library}\]'"):
        send(logged(audited(tmp_path / "run")))


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"holds no run\. Expected a study, audit, contrast, robustness run, forecast, scan or search for",
    ):
        logged(tmp_path)


# --- studies ------------------------------------------------------------------------------------------


def study(folder, **changes):
    """A study of three cells: one is done, one failed, one is absent."""
    grid = Grid(name="ranks", run="audit", axes={"model": [FOLDER, "b", "c"]})
    spec = StudySpec(name="Ranks and leakage", grids=(grid,))
    done = audited(folder / "cells" / "audit-111111111111")

    def cell(number, status, model, **more):
        return CellResult(
            id=str(number) * 12,
            grid="ranks",
            kind="audit",
            labels={"model": model},
            folder=f"cells/audit-{str(number) * 12}",
            status=status,
            **more,
        )

    failed = cell(2, "failed", "b", error=f"Model '{FOLDER}/b' has no weights.\nMore.")
    values = {
        "loraudit": "0.1.0",
        "spec": spec,
        "spec_hash": spec_hash(spec),
        "command": "loraudit study ranks.toml",
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 60.0,
        "heading": "One cell",
        "sentence": "One of three.",
        "cells": [cell(1, "ok", FOLDER), failed, cell(3, "absent", "c")],
        "headlines": [],
        "n_findings": 30,
    }
    (folder / "result.json").write_text(StudyResult(**(values | changes)).model_dump_json())
    assert done.is_dir()
    return folder


def test_a_study_is_a_run_with_one_below_it_for_every_cell(store, tmp_path):
    run = logged(study(tmp_path / "study"))
    sent = log_to_mlflow(run, tracking_uri=store.uri, with_files=True)
    found, _ = store.runs()
    by_key = {entry.data.tags["loraudit.key"]: entry for entry in found}
    top = by_key[run.key]
    done, failed = (by_key[f"{run.key}/audit-{n * 12}"] for n in "12")
    assert len(found) == len(sent.entries) == 3
    assert (top.info.run_name, top.data.metrics["cells.n_failed"]) == ("Ranks and leakage", 1)
    assert {one.data.tags["mlflow.parentRunId"] for one in (done, failed)} == {top.info.run_id}
    assert (done.info.run_name, done.data.params["axis.model"]) == ("ranks: tuned", "tuned")
    assert done.data.metrics["membership/error_zone/auc"] > 0.5
    assert (failed.info.status, failed.data.metrics) == ("FAILED", {})
    assert failed.data.tags["loraudit.error"] == "Model 'b' has no weights."
    assert log_to_mlflow(run, tracking_uri=store.uri).n_updated == 3
    assert len(store.runs()[0]) == 3


def test_an_audit_by_itself_is_another_entry_than_the_same_audit_in_a_study(store, tmp_path):
    folder = study(tmp_path / "study")
    log_to_mlflow(logged(folder), tracking_uri=store.uri)
    log_to_mlflow(logged(folder / "cells" / "audit-111111111111"), tracking_uri=store.uri)
    assert len(store.runs()[0]) == 4


def test_a_cell_outside_the_study_is_refused(tmp_path):
    folder = study(tmp_path / "study")
    elsewhere = audited(tmp_path / "elsewhere")
    assert elsewhere.is_dir()
    with pytest.raises(StoreError, match=r"lies in '\.\./elsewhere', outside of it"):
        logged(rewritten(folder, lambda content: content["cells"][0].update(folder="../elsewhere")))


# --- W&B ----------------------------------------------------------------------------------------------


class Board:
    """What `wandb` offers and the logger uses; remembers what it was given."""

    class errors:  # noqa: N801 - a module there
        class Error(Exception):
            pass

    def __init__(self, *, knows=(), refuses=None):
        self.knows, self.refuses, self.runs = set(knows), refuses, []

    def Settings(self, **options):  # noqa: N802 - named by W&B
        return options

    def Artifact(self, name, type):  # noqa: A002, N802 - named by W&B
        board = types.SimpleNamespace(name=name, type=type, files=[])
        board.add_file = lambda path, name: board.files.append(name)
        return board

    def init(self, **options):
        if self.refuses:
            raise self.errors.Error(self.refuses)
        made = types.SimpleNamespace(
            id=options["id"],
            url=f"https://wandb.example/{options['id']}",
            resumed=options["id"] in self.knows,
            settings=types.SimpleNamespace(sync_dir=f"wandb/offline-run-{options['id']}"),
            given=options,
            summary={},
            artifacts=[],
            finished=[],
        )
        made.log_artifact = made.artifacts.append

        def finish(*, exit_code):
            made.finished.append(exit_code)

        made.finish = finish
        self.runs.append(made)
        return made


def test_wandb_gets_the_figures_once_and_nothing_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    board = Board()
    run = logged(audited(tmp_path / "run"))
    sent = log_to_wandb(run, wandb=board)
    (made,) = board.runs
    assert made.summary == run.metrics
    assert {**run.params, **run.tags}.items() <= made.given["config"].items()
    assert (made.given["mode"], made.given["project"], made.artifacts, made.finished) == (
        "offline",
        "loraudit",
        [],
        [0],
    )
    off = ("disable_code", "disable_git", "x_disable_meta", "x_disable_machine_info", "x_disable_stats")
    assert all(made.given["settings"][name] for name in off)
    assert made.given["settings"]["host"] == "not recorded"
    assert (made.given["settings"]["console"], made.given["settings"]["x_save_requirements"]) == ("off", False)
    assert sent.next_step == f"wandb sync wandb/offline-run-{made.id}"
    assert sent.n_updated is None


def test_the_same_request_continues_the_same_wandb_run(tmp_path):
    run = logged(audited(tmp_path / "run"))
    first = log_to_wandb(run, wandb=Board(), mode="online")
    board = Board(knows=first.entries)
    again = log_to_wandb(run, wandb=board, mode="online")
    assert again.entries == first.entries
    assert (first.n_updated, again.n_updated) == (0, 1)
    assert board.runs[0].given["resume"] == "allow"
    assert (again.next_step, again.where) == (None, f"W&B, {board.runs[0].url}")


def test_the_users_wandb_mode_counts_and_others_than_two_are_refused(tmp_path, monkeypatch):
    run = logged(audited(tmp_path / "run"))
    monkeypatch.setenv("WANDB_MODE", "online")
    board = Board()
    log_to_wandb(run, wandb=board)
    assert board.runs[0].given["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(ConfigError, match=r"WANDB_MODE 'disabled'.*Expected online or offline"):
        log_to_wandb(run, wandb=board)


def test_a_wandb_server_that_refuses_is_a_fault_of_the_surroundings(tmp_path):
    board = Board(refuses=f"no such key {TOKEN}")
    with pytest.raises(
        EnvironmentFault, match=r"W&B could not take run 'audit-\w{12}': no such key \*\*\*.*wandb login"
    ):
        log_to_wandb(logged(audited(tmp_path / "run")), wandb=board)


def test_a_study_is_a_group_of_wandb_runs_and_a_failed_cell_is_marked(tmp_path):
    folder = study(tmp_path / "study")
    (folder / "cells" / "audit-111111111111" / "report.html").write_text("<p>")
    board = Board()
    run = logged(folder)
    log_to_wandb(run, wandb=board, with_files=True)
    assert {made.given["group"] for made in board.runs} == {run.key}
    assert [made.finished for made in board.runs] == [[0], [0], [1]]
    assert [[a.files for a in made.artifacts] for made in board.runs] == [
        [["result.json"]],
        [["report.html", "result.json"]],
        [],
    ]
    assert len({made.id for made in board.runs}) == 3


def test_a_wandb_run_that_breaks_off_is_not_called_finished(tmp_path):
    board = Board()
    init = board.init

    def failing(**options):
        made = init(**options)
        made.summary = types.SimpleNamespace(update=lambda metrics: (_ for _ in ()).throw(OSError("disk full")))
        return made

    board.init = failing
    with pytest.raises(EnvironmentFault, match="disk full"):
        log_to_wandb(logged(audited(tmp_path / "run")), wandb=board)
    assert board.runs[0].finished == [1]


def test_scores_are_not_even_looked_at(tmp_path):
    run = logged(audited(tmp_path / "run"))
    scores = np.asarray(read_run(tmp_path / "run").scores.column("error_zone"))
    assert not set(scores.tolist()) & set(run.metrics.values())
