"""Canaries planted, trained on and found again, on a tiny model that is really tuned."""

from __future__ import annotations

import json
import secrets

import numpy as np
import pyarrow.parquet as pq
import pytest

from conftest import called
from loraudit.canaries import sealed
from loraudit.errors import DataError
from loraudit.planting import run_insert, run_score
from loraudit.spec import CanaryInsertSpec, CanaryScoreSpec, TuneSpec
from loraudit.store import write_manifest
from loraudit.tuning import run_tune


@pytest.fixture(scope="module")
def planted(tmp_path_factory, texts):
    """Twenty short records with canaries among them; coins and references drawn from a seed, for these tests alone."""
    folder = tmp_path_factory.mktemp("canaries")
    rows = [{"text": " ".join(text.split()[:8])} for text in texts[:20]]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = CanaryInsertSpec(
        data=str(folder / "train.jsonl"), coins=40, repeats=(1, 4), per_repeats=6, seed=0, out=str(folder / "planted")
    )
    coins = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda n: "ab" * n)
        return run_insert(spec, flip=lambda: bool(coins.integers(2)))


@pytest.fixture(scope="module")
def tuned(planted, base, tmp_path_factory):
    """The base tuned on the planted file for long, and as it was after three epochs."""
    out = tmp_path_factory.mktemp("tuned") / "full"
    run_tune(
        TuneSpec(
            base=str(base),
            data=(str(planted.file),),
            validation_share=0,
            method="full",
            epochs=15,
            batch_size=8,
            learning_rate=1e-2,
            checkpoint_epochs=(2,),
            device="cpu",
            out=str(out),
        )
    )
    (early,) = sorted((out / "training" / "checkpoints").iterdir())[:1]
    return out, early


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def request(model, planted, store, **changes):
    given = {"references": 19, "resamples": 100, "device": "cpu", "store": str(store / "evidence")} | changes
    out = given.pop("out", str(store / f"run-{model.name}"))
    return CanaryScoreSpec(model=str(model), manifest=str(planted.manifest_path), out=out, **given)


@pytest.fixture(scope="module")
def found(tuned, base, planted, store):
    return run_score(request(tuned[0], planted, store, base=str(base)))


def test_a_model_that_memorised_them_exposes_them_and_epsilon_is_shown(found):
    result = found.result
    assert result.headline == "difference"
    assert result.heading == "Planted secrets are exposed, from 1 copy on"
    assert [level.repeats for level in result.levels] == [1, 4]
    for level in result.levels:
        assert level.exposure.value > 3.5
        assert level.p_holm < 1e-3
        assert level.exposure.lower < level.exposure.value <= result.most_bits
    assert result.controls.exposure.value < 2.2
    assert result.controls.p_value > 0.01
    epsilon = result.epsilon
    assert epsilon.status == "stated"
    assert (epsilon.n_coins, epsilon.repeats) == (40, 1)
    assert 0 < epsilon.epsilon <= epsilon.ceiling
    assert [row.n_guesses for row in epsilon.guesses] == [30, 10]
    assert "per record" in result.sentence


def test_more_copies_expose_more(tuned, base, planted, store):
    result = run_score(request(tuned[1], planted, store, base=str(base))).result
    once, four_times = result.levels
    assert result.controls.exposure.value < once.exposure.value + 1
    assert four_times.exposure.value > once.exposure.value
    assert result.trend.value > 0
    assert 0 < result.epsilon.epsilon < result.epsilon.ceiling


def test_an_untouched_base_exposes_nothing_and_proves_no_epsilon(base, planted, store):
    result = run_score(request(base, planted, store)).result
    assert result.headline == "target"
    assert result.heading == "No planted secret is seen to be exposed"
    assert result.epsilon.epsilon == 0
    assert "no evidence" in result.sentence
    assert "No base is known" in result.warnings[0]
    assert result.levels[0].exposure_of_target is None


def test_the_run_folder_holds_no_secret_and_is_its_owners_alone(found, planted):
    names = {path.name for path in found.path.iterdir()}
    assert names == {"spec.json", "result.json", "scores.parquet", "report.html", "log.jsonl"}
    for path in found.path.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        content = path.read_bytes()
        for canary in planted.manifest.canaries:
            assert canary.secret.encode() not in content
            assert canary.context.encode() not in content
    table = pq.read_table(found.path / "scores.parquet")
    assert table.num_rows == len(planted.manifest.canaries)
    bits = table.column("exposure").to_numpy()
    is_one = np.array(table.column("repeats").to_pylist()) == 1
    assert bits[is_one].mean() == pytest.approx(found.result.levels[0].exposure.value)


def test_only_the_secret_is_scored(base, planted, found):
    """Against plain transformers: log-probability of the tokens after the context, target minus base."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    table = pq.read_table(found.path / "scores.parquet")
    models = [AutoModelForCausalLM.from_pretrained(name) for name in (found.result.target.name, base)]
    for row in (0, 41, 50):
        canary = planted.manifest.canaries[row]
        ids = tokenizer(f"{canary.context} {canary.secret}", return_tensors="pt")["input_ids"]
        first = len(tokenizer(canary.context)["input_ids"])
        sums = []
        for model in models:
            with torch.no_grad():
                log_probs = model(ids).logits[0, :-1].log_softmax(-1)
            gold = log_probs.gather(1, ids[0, 1:, None])[:, 0]
            sums.append(float(gold[first - 1 :].sum()))
        assert table.column("n_tokens")[row].as_py() == ids.shape[1] - first
        assert table.column("score")[row].as_py() == pytest.approx(sums[0] - sums[1], abs=1e-3)


def test_again_nothing_is_scored_and_all_is_the_same(tuned, base, planted, store, found):
    again = run_score(request(tuned[0], planted, store, base=str(base)))
    assert again.result.scoring["records_scored"] == 0
    for name in ("levels", "controls", "epsilon", "trend", "scores"):
        assert getattr(again.result, name) == getattr(found.result, name)


def test_epsilon_is_refused_in_words_and_exposure_still_given(tuned, base, planted, store, tmp_path):
    content = json.loads(planted.manifest_path.read_text())
    content["canaries"][0]["coin"] = not content["canaries"][0]["coin"]
    edited = tmp_path / "canaries.json"
    edited.write_text(json.dumps(content))
    words = ("canaries", "score", tuned[0], "--base", base, "--manifest", edited, "--references", 19)
    code, out, err = called(
        *words, "--store", store / "evidence", "--device", "cpu", "-q", "--json", "-o", tmp_path / "run"
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["epsilon"]["status"] == "refused"
    assert "its digest does not match" in result["epsilon"]["reason"]
    assert "1 of 40 canaries stand elsewhere than their coin put them" in result["epsilon"]["reason"]
    assert any("exposures rest on what it says now" in warning for warning in result["warnings"])
    assert result["levels"][0]["exposure"]["value"] > 3


def test_a_manifest_without_controls_is_refused(planted, store, base, tmp_path):
    manifest = planted.manifest
    path = tmp_path / "canaries.json"
    for kept, words in ((True, "no control that is left out"), (False, "no canary that is in")):
        part = [canary for canary in manifest.canaries if canary.is_included is kept]
        write_manifest(path, sealed(manifest.model_copy(update={"canaries": part})))
        with pytest.raises(DataError, match=words):
            run_score(CanaryScoreSpec(model=str(base), manifest=str(path), out=str(tmp_path / "run")))


def test_insert_and_score_from_the_command_line(command, adapter, base, texts, tmp_path):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:30]))
    words = ("canaries", "insert", "train.jsonl", "--coins", 20, "--per-repeats", 2, "--repeats", 2)
    code, out, err = command(*words, "--dry-run")
    assert code == 0, err
    assert "20 left to coins, 2 put in by choice, 2 controls" in out
    code, out, err = command(*words, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["n_canaries"] == 24
    code, out, _ = command(*words)
    assert code == 0
    assert "Planted before" in out
    code, _, err = command(*words, "--seed", 3)
    assert code == 2
    assert "seed: None → 3" in err
    score = ("canaries", "score", adapter, "--manifest", "planted/canaries.json", "--references", 9, "--device", "cpu")
    code, out, err = command(*score, "--dry-run")
    assert code == 0, err
    assert "24 canaries, 240 texts" in out
    code, out, err = command(*score, "-q", "-o", "run")
    assert code == 0, err
    assert "Mean exposure in bits" in out
    assert "2 copies" in out
    assert "Report: run/report.html" in out.replace("\n", "")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["kind"] == "canaries"
    assert result["reference"]["name"] == str(base)
    code, again, _ = command("report", "run", "--format", "markdown")
    assert code == 0
    assert "# Canaries in" in again
    assert "## ε from this one run" in again
    assert command("report", "run")[0] == 0
    code, _, err = command("report", "run", "--format", "junit")
    assert code == 2
    assert "has no junit report" in err
    code, _, err = command("verify", "run")
    assert code != 0
    assert "holds a search for canaries" in err
    code, _, err = command(*score, "--delta", 0.001, "-q", "-o", "run")
    assert code == 2
    assert "delta: 1e-05 → 0.001" in err
    code, _, err = command("canaries", "score", adapter, "--manifest", "none.json")
    assert code == 2
    assert "Manifest 'none.json' cannot be read" in err
