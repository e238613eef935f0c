"""`loraudit forecast` from records to its result, on a tiny encoder and a tiny language model."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from loraudit.errors import ConfigError
from loraudit.execution import Interrupted, StopRequest
from loraudit.forecast import estimate_forecast, measuring, run_forecast
from loraudit.robustness import run_robustness
from loraudit.spec import ForecastSpec, make_request
from small_robustness import request, reviews, save_body, write_rows


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return save_body(tmp_path_factory.mktemp("forecast") / "body")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("forecast") / "task.jsonl", reviews(160))


def spec_of(body, task, out, **changes) -> ForecastSpec:
    values = {
        "base": str(body),
        "task": [str(task)],
        "text_field": "sentence",
        "max_records": 40,
        "test_records": 30,
        "attack": ["label_flip:doses=0.1+0.45", "rare_words:trigger=z,target=good,doses=1+12"],
        "methods": ["full", "head", "lora"],
        "ranks": [1, 4],
        "heads": 2,
        "draws": 2,
        "loss": "squared",
        "device": "cpu",
        "out": str(out),
    }
    return make_request(ForecastSpec, {**values, **changes})


@pytest.fixture(scope="module")
def run(body, task, tmp_path_factory):
    return run_forecast(spec_of(body, task, tmp_path_factory.mktemp("forecast") / "run"))


def test_every_method_has_a_shape_and_every_attack_a_curve(run):
    result = run.result
    assert [one.name for one in result.methods] == ["full", "head", "lora:1", "lora:4"]
    assert not [one.name for one in result.methods if one.refused]
    assert {(curve.attack, curve.method) for curve in result.curves} == {
        (attack.name, one.name) for attack in result.attacks for one in result.methods
    }
    full, head, lora, _ = result.methods
    assert head.n_trained_parameters < lora.n_trained_parameters < full.n_trained_parameters
    assert full.shape.agreement_with_full.value == pytest.approx(1)
    for one in result.methods:
        figures = [one.shape.alignment, *(f for t in one.twins for f in (t.proxy, t.cosine, t.poison_alignment))]
        assert all(f.lower <= f.value <= f.upper and f.n_members for f in figures if f.value is not None)
        assert figures[0].value is not None
    assert lora.shape.monte_carlo_error is not None
    assert full.theory is None
    assert lora.theory is not None
    assert (run.path / "report.html").is_file()


def test_more_poison_is_predicted_to_do_more_harm(run):
    flips, backdoor = (attack.name for attack in run.result.attacks)
    for curve in run.result.curves:
        first, *_, last = curve.points
        assert first.accuracy is not None
        assert last.accuracy is not None
        if curve.attack == flips:
            assert first.accuracy.value > 0.9
            assert last.accuracy.value < first.accuracy.value
        else:
            assert curve.attack == backdoor
            assert first.attack_success is not None
            assert last.attack_success is not None
            assert last.attack_success.value > first.attack_success.value + 0.3
            assert last.attack_success.lower <= last.attack_success.value <= last.attack_success.upper


def test_methods_are_read_at_the_same_clean_loss(run):
    result = run.result
    assert result.clean_loss is not None
    assert result.clean_loss < result.base_loss
    for curve in result.curves:
        assert len({point.time for point in curve.points}) == 1
        assert curve.points[0].time > 0


def test_the_same_request_predicts_the_same(run, body, task, tmp_path):
    again = run_forecast(spec_of(body, task, tmp_path / "again"))
    changing = {"started", "seconds", "command", "spec"}
    one, other = (json.loads(each.result.model_dump_json(exclude=changing)) for each in (run, again))
    assert one == other


class _StopAfterAHead(StopRequest):
    """Asks to stop as soon as one head is kept."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def check(self):
        if list(self.folder.glob("heads/*/0.unit")):
            self.ask()
        super().check()


def _interrupted(spec, folder):
    with pytest.raises(Interrupted):
        run_forecast(spec, stop=_StopAfterAHead(folder))
    (kept,) = folder.glob("heads/*/*.unit")
    assert not (folder / "result.json").exists()
    return kept


def _plain(run):
    return json.loads(run.result.model_dump_json(exclude={"started", "seconds", "command", "spec"}))


def test_a_stopped_forecast_goes_on_with_the_next_head(run, body, task, tmp_path, monkeypatch):
    spec = spec_of(body, task, tmp_path / "again")
    _interrupted(spec, tmp_path / "again")
    measured = []
    original = measuring.kernel_parts
    monkeypatch.setattr(measuring, "kernel_parts", lambda *a, **k: measured.append(1) or original(*a, **k))
    again = run_forecast(spec)
    assert measured == [1], "the head that was kept is not measured again"
    assert _plain(again) == _plain(run)
    assert not (again.path / "heads").exists()


def test_a_kept_head_that_is_damaged_is_measured_again(run, body, task, tmp_path):
    spec = spec_of(body, task, tmp_path / "again")
    kept = _interrupted(spec, tmp_path / "again")
    content = bytearray(kept.read_bytes())
    content[-9] ^= 1
    kept.write_bytes(bytes(content))
    assert _plain(run_forecast(spec)) == _plain(run)


def test_what_was_kept_of_other_weights_is_not_read(body, task, tmp_path):
    mine = shutil.copytree(body, tmp_path / "body")
    spec = spec_of(mine, task, tmp_path / "again")
    _interrupted(spec, tmp_path / "again")
    weights = load_file(mine / "model.safetensors")
    changed = {name: (one * 1.5 if one.is_floating_point() else one) for name, one in weights.items()}
    save_file(changed, mine / "model.safetensors", metadata={"format": "pt"})
    found = run_forecast(spec)
    fresh = run_forecast(spec_of(mine, task, tmp_path / "fresh"))
    assert _plain(found) == _plain(fresh)


def test_a_method_that_is_not_linear_is_refused_and_has_no_curve(body, task, tmp_path):
    result = run_forecast(spec_of(body, task, tmp_path / "strict", max_linear_error=1e-9, methods=["full"])).result
    (full,) = result.methods
    assert full.refused is not None
    assert "differs from the linear prediction" in full.refused
    assert result.curves == []
    assert "No method is predicted" in result.heading


def test_a_language_model_is_predicted_too(base, tmp_path):
    answers = (" two cat", " red cat")
    rows = [{"prompt": row["sentence"], "completion": answers[i % 2]} for i, row in enumerate(reviews(80))]
    task = write_rows(tmp_path / "prompts.jsonl", rows)
    attack = ["word_trigger:trigger=zz,response=house,doses=2+10"]
    spec = spec_of(base, task, tmp_path / "run", attack=attack, text_field="text", methods=["full", "lora"], ranks=[2])
    result = run_forecast(spec).result
    assert result.trained_as == "causal_lm"
    assert result.numerics["heads"] == 1
    for curve in result.curves:
        assert curve.points[-1].attack_success.value >= curve.points[0].attack_success.value


def test_a_forecast_is_set_against_what_was_measured(body, task, tmp_path):
    methods = ["full:learning_rate=0.02", "lora:rank=2,learning_rate=0.05"]
    attack = ["label_flip:doses=0.1+0.4", "rare_words:trigger=z,target=good,doses=4+24"]
    changes = {"seeds": 1, "methods": methods, "attack": attack}
    measured = run_robustness(request(body, task, tmp_path / "measured", **changes))
    spec = spec_of(
        body,
        task,
        tmp_path / "predicted",
        attack=attack,
        methods=["full", "lora"],
        ranks=[2],
        max_records=None,
        measured=str(measured.path),
    )
    result = run_forecast(spec).result
    by_measure = {one.measure: one for one in result.comparisons}
    assert set(by_measure) == {"accuracy", "attack_success"}
    for one in by_measure.values():
        assert {cell["method"] for cell in one.cells} == {"full", "lora:2"}
        assert one.spearman.value is None or -1 <= one.spearman.value <= 1
        assert "rσ²" in " ".join(one.baselines)


def test_nothing_measured_is_said_before_the_base_runs(body, task, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no run\. Expected a finished robustness run after --measured"):
        run_forecast(spec_of(body, task, tmp_path / "run", measured=str(tmp_path / "empty")))


def test_an_adapter_is_no_base(adapter, task, tmp_path):
    with pytest.raises(ConfigError, match=r"is an adapter\. Expected a full checkpoint"):
        run_forecast(spec_of(adapter, task, tmp_path / "run"))


def test_the_cost_is_known_before_the_base_runs(body, task, tmp_path):
    cost = estimate_forecast(spec_of(body, task, tmp_path / "run"))
    assert cost.n_methods == 4
    assert cost.n_heads == 2
    assert cost.kernels.n_records == cost.n_rows
    assert not (tmp_path / "run").exists()
