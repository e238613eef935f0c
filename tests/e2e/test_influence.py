"""`loraudit influence` on a tiny contrast: what is predicted, what is refused, what is shown."""

from __future__ import annotations

import hashlib
import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from conftest import called
from loraudit.contrast import run_contrast
from loraudit.errors import ConfigError, DataError, StoreError
from loraudit.influence import estimate_influence, run_influence
from loraudit.influence.measuring import measure, training_weights
from loraudit.influence.predicting import Flow
from loraudit.influence.probes import choose
from loraudit.spec import ContrastSpec, InfluenceSpec, make_request
from loraudit.store import read_influence

METHODS = [
    "full:learning_rate=0.003",
    "head:learning_rate=0.01",
    "lora:rank=4,learning_rate=0.01,targets=q_proj+v_proj",
    "lora:rank=2,dora=true,learning_rate=0.01",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        yield


@pytest.fixture(scope="module")
def tied(base, tmp_path_factory):
    """A base whose head shares its weights with the embedding."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base, tie_word_embeddings=True))
    folder = tmp_path_factory.mktemp("models") / "tied"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def contrast(home, tied, texts, tmp_path_factory):
    data = tmp_path_factory.mktemp("data") / "records.jsonl"
    rows = [{"text": f"{i} {' '.join(text.split()[:9])}", "topic": f"t{i // 2}"} for i, text in enumerate(texts[:70])]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "base": str(tied),
        "data": str(data),
        "group_field": "topic",
        "methods": METHODS,
        "seeds": 1,
        "epochs": 2,
        "batch_size": 8,
        "measure_at": [1, 2],
        "resamples": 100,
        "fpr": [0.1],
        "max_records": 24,
        "repeats": [1, 4],
        "memorization": True,
        "prefix_tokens": [4],
        "suffix_tokens": 6,
        "generations": 2,
        "decodings": ["greedy"],
        "out": str(tmp_path_factory.mktemp("runs") / "c"),
    }
    return run_contrast(make_request(ContrastSpec, values))


def asked(contrast, out, **changes) -> InfluenceSpec:
    values = {"contrast": str(contrast.path), "max_records": 16, "draws": 2, "device": "cpu", "out": str(out)}
    return make_request(InfluenceSpec, {**values, "max_linear_error": 1e3, **changes})


@pytest.fixture(scope="module")
def run(contrast, tmp_path_factory):
    return run_influence(asked(contrast, tmp_path_factory.mktemp("influence") / "run"))


def test_every_method_with_a_kernel_is_predicted_and_the_others_are_named(run, contrast):
    result = run.result
    assert [one.method for one in result.methods] == ["full", "head", "lora"]
    assert [one.name for one in result.left_out] == ["lora:2,dora=true"]
    assert "DoRA" in result.left_out[0].why
    assert result.n_members == result.n_nonmembers == 16
    assert result.n_trained == contrast.result.n_members
    assert (result.level, result.contrast) == (contrast.result.matches[0].level, contrast.result.spec_hash)
    lora = result.methods[-1]
    assert (lora.rank, lora.alpha, len(lora.kinds)) == (4, 8.0, 2)
    assert all(kind.endswith(("q_proj", "v_proj")) for kind in lora.kinds)
    for one in result.methods:
        assert [flow.flow for flow in one.predictions] == ["squared", "log"]
        for flow in one.predictions:
            assert flow.time > 0
            assert flow.own.value > 0
            assert {(a.predicted, a.measured, a.side) for a in flow.agreements} >= {
                ("gain", "gain", "members"),
                ("gain", "gain", "nonmembers"),
                ("own", "excess", "members"),
                ("own", "score:error_zone", "members"),
            }
            for found in flow.agreements:
                assert set(found.baselines) == {"base_loss", "length", "full_self_influence"}
                assert found.spearman.n_members + found.spearman.n_nonmembers == 16
        assert one.extraction is not None
        assert one.extraction.share.value == 0
    assert result.methods[0].against is None
    assert result.methods[1].against.other == result.methods[0].name


def test_what_is_measured_is_what_the_contrast_measured(run, contrast):
    """At a matched level that a run meets at a checkpoint, gains are those of that checkpoint's losses."""
    arm = run.result.methods[0]
    losses = [(point.member_loss, point.nonmember_loss) for point in contrast.result.arms[0].runs[0].points]
    gaps = [(losses[0][0] - m) - (losses[0][1] - n) for m, n in losses]
    assert min(gaps) - 0.05 < arm.gap.value < max(gaps) + 0.05
    assert arm.gap.n_members == contrast.result.n_members
    table = run.records
    base = np.asarray(table.column("base_loss"))
    assert base == pytest.approx(base[:32].tolist() * 3)
    scores = pq.read_table(contrast.path / "scores.parquet").to_pylist()
    known = [row["loss"] for row in scores if row["arm"] == "base"]
    for value in base[:32]:  # f is what the audit said; the attack `loss` has the sign of a score
        assert min(abs(value + score) for score in known) < 1e-4
    assert all(row["summed_loss"] / row["n_tokens"] == pytest.approx(-row["loss"], abs=1e-3) for row in scores)
    assert not [words for words in run.result.warnings if words.startswith("The base")]


def test_non_members_gain_what_the_validation_records_gained_and_own_nothing(run):
    result = run.result
    assert len(run.records) == 3 * 32
    for one in result.methods:
        rows = [row for row in run.records.to_pylist() if row["method"] == one.name]
        others = [row for row in rows if not row["is_member"]]
        assert all(row["predicted_own_squared"] == 0 for row in others)
        for flow in ("squared", "log"):
            gained = np.average([r[f"predicted_gain_{flow}"] for r in others], weights=[r["n_tokens"] for r in others])
            assert gained == pytest.approx(result.base_validation_loss - result.level, rel=1e-6)


def test_every_draw_of_a_is_predicted_on_its_own(contrast, tmp_path, monkeypatch):
    """Gains, own parts and suffixes of a LoRA are means over flows, each from one draw's kernel to the same fit."""
    kept = []

    def keeping(spec, prepared, *others):
        kept.append((prepared, measure(spec, prepared, *others)))
        return kept[-1][1]

    monkeypatch.setattr("loraudit.influence.spine.measure", keeping)
    found = run_influence(asked(contrast, tmp_path / "draws", draws=3))
    prepared, measured = kept[0]
    assert [len(measured.kernels[one.name]) for one in found.result.methods] == [1, 1, 3]
    gain = found.result.base_validation_loss - found.result.level
    for one in found.result.methods:
        rows = [row for row in found.records.to_pylist() if row["method"] == one.name]
        for flow, prediction in zip(("squared", "log"), one.predictions, strict=True):
            arguments = measured.values, prepared.probe, training_weights(prepared), prepared.contrast.n_members
            draws = [Flow(flow, kernel, *arguments) for kernel in measured.kernels[one.name]]
            fits = [made.fit_at(made.time_at(gain)) for made in draws]
            own = np.mean([fit.own for fit in fits], axis=0)
            assert [row[f"predicted_own_{flow}"] for row in rows if row["is_member"]] == pytest.approx(own)
            of_others = np.mean([fit.nonmembers for fit in fits], axis=0)
            assert [row[f"predicted_gain_{flow}"] for row in rows if not row["is_member"]] == pytest.approx(of_others)
            assert prediction.own.value == pytest.approx(own.mean())
            assert prediction.time == pytest.approx(np.mean([fit.time for fit in fits]))
            assert (prediction.own_draw_error is None) == (one.method != "lora")
            at_end = [made.fit_at(made.time_at(one.extraction.validation_gain)).suffixes for made in draws]
            log_p = np.mean([np.minimum(6 * (measured.values[32:] + change), 0) for change in at_end], axis=0)
            suffixes = np.array([row[f"predicted_suffix_log_p_{flow}"] for row in rows])
            assert suffixes[prepared.probe.suffix_of] == pytest.approx(log_p)


def test_a_base_whose_head_is_tied_has_its_embedding_counted_once(run, tied):
    model = AutoModelForCausalLM.from_pretrained(tied)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert run.result.base.details["n_parameters"] == sum(one.numel() for one in model.parameters())


def test_nothing_that_identifies_leaves_the_run(run, contrast):
    assert not {"text", "source", "line"} & set(run.records.column_names)
    page = (run.path / "report.html").read_text()
    texts = [
        json.loads(line)["text"] for line in (contrast.path / "records" / "members.jsonl").read_text().splitlines()
    ]
    assert not any(text in page for text in texts)
    ids = set(pq.read_table(contrast.path / "scores.parquet", columns=["id"]).column("id").to_pylist())
    assert not ids & set(run.records.column("id").to_pylist())


def test_the_same_request_predicts_the_same(run, contrast, tmp_path):
    again = run_influence(asked(contrast, tmp_path / "again"))
    changing = {"started", "seconds", "command", "spec"}
    one, other = (json.loads(each.result.model_dump_json(exclude=changing)) for each in (run, again))
    assert one == other
    assert one["records"] == other["records"]  # the sha256 of influence.parquet


def test_a_method_that_is_not_linear_is_refused_and_predicts_nothing(contrast, tmp_path):
    found = run_influence(asked(contrast, tmp_path / "strict", max_linear_error=1e-9))
    assert all("differs from the linear prediction" in one.refused for one in found.result.methods)
    assert all(one.predictions == [] and one.extraction.predicted == [] for one in found.result.methods)
    assert "No record is predicted" in found.result.heading
    assert "every method is refused" in (found.path / "report.html").read_text()
    assert called("report", found.path)[0] == 0


def test_the_report_is_made_from_the_folder(run):
    assert read_influence(run.path).result == run.result
    code, out, err = called("report", run.path)
    assert code == 0, err
    assert "Own part and measured gap" in out
    for name in ("markdown", "json", "html"):
        code, out, err = called("report", run.path, "--format", name)
        assert code == 0, err
        assert run.result.methods[2].name in out
    code, _, err = called("report", run.path, "--format", "junit")
    assert code != 0
    assert "An influence run has no junit report" in err


def test_the_command_line_says_what_it_takes_and_what_it_found(contrast, tmp_path):
    words = ["influence", contrast.path, "--max-records", 16, "--draws", 2, "--device", "cpu", "-o", tmp_path / "cli"]
    code, out, err = called(*words, "--dry-run")
    assert code == 0, err
    assert "16 of 24 members and 16 non-members; 64 windows" in out
    assert "Left out: lora:2,dora=true: DoRA" in out
    assert not (tmp_path / "cli").exists()
    code, out, _ = called(*words, "--dry-run", "--json")
    assert json.loads(out)["methods"] == ["full", "head", "lora:4,targets=q_proj+v_proj"]
    code, out, err = called(*words, "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "influence"
    code, out, err = called(*words, "--quiet")
    assert code == 0, err
    assert "Report:" in out


def test_the_cost_counts_every_window(contrast, tmp_path):
    cost = estimate_influence(asked(contrast, tmp_path / "x"))
    assert cost.n_rows == cost.kernels.n_records == 2 * 32
    assert cost.n_families == 1


# --- refusals -------------------------------------------------------------------------------------------


def test_a_folder_without_a_contrast_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"holds no run\. Expected a finished contrast, as `loraudit contrast` makes it"
    ):
        run_influence(make_request(InfluenceSpec, {"contrast": str(tmp_path)}))


def changed(contrast, folder, change):
    """A copy of the contrast with another result."""
    shutil.copytree(contrast.path, folder)
    result = json.loads((folder / "result.json").read_text())
    change(result)
    (folder / "result.json").write_text(json.dumps(result))
    return make_request(InfluenceSpec, {"contrast": str(folder), "device": "cpu", "out": str(folder / "out")})


def test_methods_without_a_common_fit_are_refused(contrast, tmp_path):
    def never(result):
        result["matches"] = [match for match in result["matches"] if match["kind"] != "validation_loss"]

    with pytest.raises(ConfigError, match="reach no common validation loss below that of their base"):
        run_influence(changed(contrast, tmp_path / "c", never))


def test_another_base_is_refused(contrast, tmp_path):
    def another(result):
        result["base"]["fingerprint"] = "0" * 64

    with pytest.raises(ConfigError, match=r"is not the one that contrast '.*' started from"):
        run_influence(changed(contrast, tmp_path / "c", another))


def test_a_contrast_of_which_no_method_has_a_kernel_is_refused(contrast, tmp_path):
    def only_dora(result):
        result["arms"] = [arm for arm in result["arms"] if "dora" in arm["name"]]

    with pytest.raises(ConfigError, match=r"No method of contrast '.*' can be predicted(.|\n)*lora:2,dora=true: DoRA"):
        run_influence(changed(contrast, tmp_path / "c", only_dora))


def test_scores_that_were_changed_are_refused(contrast, tmp_path):
    spec = changed(contrast, tmp_path / "c", lambda result: result.update(scores="0" * 64))
    with pytest.raises(StoreError, match="have another sha256 than the contrast recorded"):
        run_influence(spec)
    (tmp_path / "c" / "scores.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match=r"Scores '.*' cannot be read"):
        run_influence(spec)


def test_scores_without_summed_losses_are_refused(contrast, tmp_path):
    content = io.BytesIO()
    pq.write_table(pq.read_table(contrast.path / "scores.parquet").drop_columns("summed_loss"), content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    spec = changed(contrast, tmp_path / "c", lambda result: result.update(scores=digest))
    (tmp_path / "c" / "scores.parquet").write_bytes(content.getvalue())
    with pytest.raises(StoreError, match=r"have no column summed_loss\. Expected those of this version"):
        run_influence(spec)


def test_scores_of_a_checkpoint_that_is_not_there_are_refused(contrast, tmp_path):
    def later(result):
        for arm in result["arms"]:
            for one in arm["runs"]:
                for point in one["points"][1:]:
                    point["step"] += 1000

    with pytest.raises(StoreError, match=r"Scores of full after step \d+ are missing"):
        run_influence(changed(contrast, tmp_path / "c", later))


def test_records_that_are_gone_are_refused(contrast, tmp_path):
    spec = changed(contrast, tmp_path / "c", lambda result: None)
    (tmp_path / "c" / "records" / "members.jsonl").unlink()
    with pytest.raises(StoreError, match=r"Records '.*members\.jsonl' cannot be read"):
        run_influence(spec)


def test_the_ids_of_another_account_are_refused(contrast, tmp_path, monkeypatch):
    monkeypatch.setenv("LORAUDIT_HOME", str(tmp_path / "other"))
    with pytest.raises(StoreError, match=r"are not among its scores\. Expected all of them, under ids"):
        run_influence(asked(contrast, tmp_path / "run"))


def test_too_few_records_with_scores_are_refused():
    usable = np.array([True] * 3 + [False] * 5 + [True] * 8)
    with pytest.raises(DataError, match=r"3 members and 8 non-members of the contrast have tokens and a score"):
        choose(usable, np.arange(16) < 8, 4, 0)


def test_a_run_whose_records_are_gone_is_damaged(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "r")
    (tmp_path / "r" / "influence.parquet").unlink()
    with pytest.raises(StoreError, match=r"Run '.*' is damaged"):
        read_influence(tmp_path / "r")
