"""Presets: each is a whole study of valid requests, its published figures name what is measured, and small ones run."""

from __future__ import annotations

import itertools
import json
import tomllib
from importlib.resources import files

import pytest

from loraudit.errors import ConfigError
from loraudit.hub import hub_file
from loraudit.spec import ContrastSpec, ForecastSpec, RobustnessSpec, StudySpec, make_request
from loraudit.study.presets import preset, preset_line, preset_names
from loraudit.study.presets.published import published_of
from small_robustness import reviews, save_body, write_rows

KINDS = {"contrast": ContrastSpec, "robustness": RobustnessSpec, "forecast": ForecastSpec}
EZ_MIA = [f"ez-mia/{d}-{m}-{t}" for d in ("xsum", "ag_news", "wikitext") for m in ("gpt2", "gpt2-xl", "llama2-7b")
          for t in ("full", "lora")]  # fmt: skip
TTR = [f"ttr/{task}-bert-large" for task in ("sst2", "cola", "qnli", "qqp")]


def requests(spec, **overrides):
    """Every request of a study: grid, labels, request. The rule of `Grid`, told once more."""
    for grid in spec.grids:
        kind = KINDS[grid.run]
        shared = {name: value for name, value in {**spec.settings, **overrides}.items() if name in kind.model_fields}
        assert {*spec.settings, *overrides} <= {name for each in KINDS.values() for name in each.model_fields}
        for choice in itertools.product(*(values.items() for values in grid.axes.values())):
            chosen = {name: value for _, sets in choice for name, value in sets.items()}
            labels = dict(zip(grid.axes, (label for label, _ in choice), strict=True))
            yield grid.name, labels, make_request(kind, {**shared, **grid.settings, **chosen})


def study(name):
    return make_request(StudySpec, preset(name))


def test_the_families_are_there():
    names = preset_names()
    assert [name for name in names if name.startswith("ez-mia/")] == EZ_MIA
    assert [name for name in names if name.startswith("ttr/")] == TTR
    assert {name.partition("/")[0] for name in names} == {"ez-mia", "ttr", "leaner"}
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", preset_names())
def test_every_request_of_every_preset_is_valid(name, monkeypatch):
    """Form, methods, attacks and recipes; the hub is not asked."""
    import loraudit.contrast.request as of_contrast
    import loraudit.forecast.request as of_forecast
    import loraudit.robustness.request as of_robustness

    monkeypatch.setattr(of_contrast, "fetch_files", lambda paths, offline: None)
    spec = study(name)
    assert spec.name == name
    found = list(requests(spec))
    for _, _, request in found:
        if isinstance(request, ContrastSpec):
            assert of_contrast.check_request(request)
        elif isinstance(request, RobustnessSpec):
            assert of_robustness.check_request(request, "classification").arms
        else:
            assert of_forecast.check_request(request, "classification")
    asked = [json.dumps(request.model_dump(mode="json"), sort_keys=True) for _, _, request in found]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_is_and_where_its_data_are(name):
    spec = study(name)
    assert 20 < len(preset_line(name)) < 120
    assert "{" not in preset_line(name) + spec.description
    assert "Texts are" in spec.description or "tested on" in spec.description, "what differs is said"
    paths = [*spec.settings.get("data", ()), *spec.settings.get("task", ()), *spec.settings.get("test", ())]
    assert paths
    for path in paths:
        assert hub_file(path).path.endswith(".parquet")
    assert "/" in spec.settings["base"]
    assert not any({"base", "data", "task"} & grid.settings.keys() for grid in spec.grids)


def test_what_one_asker_does_to_a_preset_reaches_no_other():
    preset(EZ_MIA[0])["settings"]["data"].append("changed")
    preset(EZ_MIA[0])["grids"][0]["name"] = "changed"
    assert "changed" not in json.dumps(preset(EZ_MIA[0]))


@pytest.mark.parametrize("asked", [preset, preset_line])
def test_an_unknown_preset_is_refused_with_the_nearest(asked):
    with pytest.raises(ConfigError, match=r"Unknown preset '.*'\. Did you mean 'ez-mia/xsum-gpt2-full'"):
        asked("ez-mia/xsum-gpt-full")


# --- protocols ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EZ_MIA)
def test_the_membership_presets_follow_the_published_protocol(name):
    [(_, _, request)] = requests(study(name))
    assert (request.max_records, request.validation_records) == (10_000, 500)
    assert (request.record_tokens, request.max_length) == (128, 128)
    assert (request.epochs, request.batch_size, request.measure_at) == (3, 16, (1, 2, 3))
    assert request.headline == "error_zone_reference_code"
    asked = {"learning_rate=0.0001", "schedule=linear", "select=best"}
    if name.endswith("lora"):
        where = "all-linear" if "llama" in name else "c_attn+c_proj"
        asked |= {"alpha=32", "dropout=0.05", f"targets={where}"}
        assert request.methods == ("lora:16",)
    else:
        assert request.methods == ("full",)
    assert asked <= set(request.settings)


@pytest.mark.parametrize(("name", "n_steps"), [(TTR[0], 10_000), (TTR[2], 10_000), (TTR[3], 10_000)])
def test_the_robustness_presets_take_the_published_steps_and_doses(name, n_steps):
    spec = study(name)
    cells = list(requests(spec))
    main = next(request for grid, _, request in cells if grid == "methods")
    assert main.max_records * main.epochs / main.batch_size == n_steps
    assert (main.batch_size, main.seeds) == (8, 5)
    backdoor = main.attack[1].rpartition("=")[2].split("+")
    assert [int(dose) / main.max_records for dose in backdoor] == [0.001, 0.0015, 0.002, 0.003, 0.0045]
    assert {"schedule=constant", "alpha=16"} <= set(main.settings)
    assert main.methods == ("full:learning_rate=0.000003", "lora:8,learning_rate=0.00003")
    ranks = [labels["rank"] for grid, labels, _ in cells if grid == "ranks"]
    assert ranks == ["4", "8", "16", "32", "64", "128", "256", "512"]
    variances = [labels["variance"] for grid, labels, _ in cells if grid == "variances"]
    assert variances == ["2", "1.5", "1", "0.667", "0.333", "0.1", "0.001", "0.0001"]


# --- published figures --------------------------------------------------------------------------------


def test_every_figure_of_the_table_stands_in_one_preset_and_is_a_share():
    table = tomllib.loads((files("loraudit.study.presets") / "published.toml").read_text())
    of_presets = {name: study(name).published for name in preset_names()}
    written = table["ez-mia"]["figures"]
    assert {f"ez-mia/{own}" for own in written} == {n for n in EZ_MIA if of_presets[n]}
    for own, measures in written.items():
        found = {figure.finding.rpartition("/")[2]: figure.value for figure in of_presets[f"ez-mia/{own}"]}
        assert found == measures
    for task, attacks in table["ttr"]["figures"].items():
        found = [figure.value for figure in of_presets[f"ttr/{task}-bert-large"]]
        assert found == [value for rows in attacks.values() for row in rows for value in row]
    assert all(0 <= figure.value <= 1 for figures in of_presets.values() for figure in figures)
    notes = {key for key in table["ez-mia"]["notes"] if not key.startswith("tpr")}
    assert notes <= set(written)


def test_figures_name_their_cell_and_their_source():
    figure = study("ttr/sst2-bert-large").published[-1]
    assert figure.finding == "epochs=2/lora:8/attack_success/fixed_string/dose=180"
    assert "SST-2, BERT-large, fixed_string at 0.45 %, lora:8" in figure.source
    full = {figure.finding: figure for figure in study("ttr/sst2-bert-large").published}
    assert "collapsed" in full["epochs=2/full/accuracy/label_flip/dose=0.4"].note
    assert "collapsed" not in full["epochs=2/lora:8/accuracy/label_flip/dose=0.4"].note
    auc = study("ez-mia/xsum-gpt2-lora").published[0]
    assert (auc.finding, auc.value) == ("best/lora:16/error_zone_reference_code/auc", 0.553)
    assert auc.source.startswith("arXiv:2601.12104")


# --- small runs ---------------------------------------------------------------------------------------


def names_of(result):
    """The names that a study gives the figures of a result."""
    naming = pytest.importorskip("loraudit.study.naming")
    return {name for name, _ in naming.named_findings(result)}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer):
    """A tiny GPT-2, whose maps have the names that the preset's LoRA is put on."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=4, n_positions=64)).save_pretrained(
            folder
        )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_membership_preset_runs_on_a_small_model_without_a_hub(tuning, gpt2, texts, tmp_path):
    from loraudit.contrast import run_contrast

    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = study(f"ez-mia/xsum-gpt2-{tuning}")
    overrides = {
        "base": str(gpt2),
        "data": [str(path)],
        "text_field": "text",
        "max_records": 40,
        "validation_records": 20,
        "record_tokens": 20,
        "least_tokens": 10,
        "max_length": 32,
    }
    small = {"attacks": ["error_zone"], "resamples": 100, "device": "cpu", "offline": True}
    [(_, _, request)] = requests(spec, **overrides, **small, out=str(tmp_path / "run"))
    result = run_contrast(request).result
    assert (result.n_members, result.n_nonmembers, result.n_validation) == (40, 40, 20)
    recipe = result.arms[0].recipe
    assert (recipe["learning_rate"], recipe["select"], recipe["schedule"]) == (1e-4, "best", "linear")
    if tuning == "lora":
        assert (recipe["rank"], recipe["alpha"], recipe["targets"]) == (16, 32, ["c_attn", "c_proj"])
    assert {figure.finding for figure in spec.published} <= names_of(result)


@pytest.mark.slow
def test_a_robustness_preset_runs_on_a_small_model_without_a_hub(tmp_path):
    from loraudit.forecast import run_forecast
    from loraudit.robustness import run_robustness

    task = write_rows(tmp_path / "task.jsonl", reviews(200))
    spec = study("ttr/sst2-bert-large")
    overrides = {
        "base": str(save_body(tmp_path / "body", n_steps=20)),
        "task": [str(task)],
        "test": [],
        "max_records": 80,
        "epochs": 1,
        "measure_at": [1],
        "seeds": 1,
        "attack": ["label_flip:doses=0.05+0.1+0.2+0.3+0.4", "fixed_string:doses=4+5+6+7+8"],
    }
    small = {"resamples": 100, "device": "cpu", "offline": True}
    cells = {
        (grid, *labels.values()): request
        for grid, labels, request in requests(spec, **overrides, **small, out=str(tmp_path / "run"))
    }
    assert len(cells) == 18
    result = run_robustness(cells["methods",].model_copy(update={"out": str(tmp_path / "methods")})).result
    assert result.n_train == 80
    assert [method.name for method in result.methods] == ["full", "lora:8"]
    figures = published_of(spec.name, {"task": "sst2"}, {"task": "SST-2"}, {**spec.settings, **overrides})
    assert {figure["finding"] for figure in figures} <= names_of(result)
    for place, alpha in ((("ranks", "512"), 1024), (("variances", "0.0001"), 16)):
        few = {"attack": ("fixed_string:doses=4",), "out": str(tmp_path / place[0])}
        swept = run_robustness(cells[place].model_copy(update=few)).result
        assert swept.methods[0].recipe["alpha"] in {alpha, None}
    few = {"ranks": (4, 8), "variances": (1.0,), "out": str(tmp_path / "forecast")}
    predicted = run_forecast(cells["forecast",].model_copy(update=few)).result
    assert {"full", "head", "lora:4", "lora:8"} == {method.name for method in predicted.methods}


def test_the_page_on_presets_lists_every_preset():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` | {preset_line(name)} |" in text for name in preset_names())
    assert "| AUC | TPR at 1 % FPR | TPR at 0.1 % FPR |" in text, "both rates always"
