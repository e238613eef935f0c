"""Audits against another reference than the base: what it is made of, that it is kept, and that the result says so."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit import finetuning
from loraudit.auditing import estimate_audit, run_audit
from loraudit.auditing.preparation import requested_models
from loraudit.auditing.references import making
from loraudit.auditing.references.wanted import requested_reference
from loraudit.auditing.request import load_data
from loraudit.data import Encoded, load_records
from loraudit.errors import ConfigError, DataError, ModelError, StoreError
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.finetuning import finetune
from loraudit.models import fingerprint, plan_models
from loraudit.models.recorded import RECIPE_FILE
from loraudit.report import FORMATS
from loraudit.spec import Recipe, RecordFormat, make_audit_spec
from loraudit.store import Lock
from loraudit.synthetic import private_records

FEW = ("--reference-prompts", 6, "--reference-epochs", 1)
RECIPE = Recipe(method="lora", epochs=1, learning_rate=5e-3, rank=2, alpha=4, targets=("q_proj", "v_proj"), seed=0)


@pytest.fixture(scope="module")
def public_file(tmp_path_factory):
    """Twenty-four other records of the same kind."""
    path = tmp_path_factory.mktemp("public") / "public.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in private_records(24, seed=77)))
    return path


@pytest.fixture(scope="module")
def tuned_adapter(base, record_files, tmp_path_factory):
    """A LoRA target of loraudit's own, whose recipe lies beside it."""
    members = load_records([str(record_files[0])], RecordFormat()).records
    return finetune(str(base), members, RECIPE, tmp_path_factory.mktemp("tuned") / "adapter").path


@pytest.fixture
def ask(base, record_files, tmp_path):
    """The words of an audit in this test's folder."""

    def words(target, reference, *more, run="run"):
        sides = ("--members", record_files[0], "--nonmembers", record_files[1])
        about = ("--base", base, *sides, "--resamples", 100, "-q", "-o", tmp_path / run, "--reference", reference)
        return ("audit", target, *about, *more)

    return words


@pytest.fixture
def wish(base, record_files, tmp_path):
    """The same as a request."""

    def spec(target, reference, **more):
        values = {"members": str(record_files[0]), "nonmembers": str(record_files[1]), "base": str(base)}
        about = {"resamples": 100, "out": str(tmp_path / "run"), "device": "cpu"}
        return make_audit_spec({"model": str(target), "reference": reference, **values, **about, **more})

    return spec


def result_of(run):
    return json.loads((run / "result.json").read_text())


def references_in(folder):
    return sorted((folder / ".loraudit" / "references").iterdir())


# --- public -------------------------------------------------------------------------------------------


def test_a_public_reference_is_the_base_tuned_on_those_records(command, ask, full, base, public_file, tmp_path):
    code, out, err = command(*ask(full, "public", "--reference-data", public_file, "--reference-epochs", 2))
    assert code == 0, err
    result = result_of(tmp_path / "run")
    reference = result["reference"]
    assert reference["kind"] == "tuned on public records"
    assert reference["name"] == f"{base} tuned on 24 records"
    details = reference["details"]
    assert details["n_records"] == 24
    assert "n_samples" not in details
    assert details["recipe_source"] == "the published settings, epochs as asked for"
    recipe = details["recipe"]
    assert (recipe["method"], recipe["epochs"], recipe["learning_rate"]) == ("full", 2, 1e-4)
    assert len(details["training_losses"]) == 2
    (said,) = details["data"]
    sha256 = result["provenance"]["data"][str(public_file)]
    assert said == f"{public_file} (sha256 {sha256})"
    assert "near-duplicates are not looked for" in details["disjoint"]
    (kept,) = references_in(tmp_path)
    assert fingerprint(kept / "model") == reference["fingerprint"] == result["provenance"]["weights"]["reference"]
    assert reference["fingerprint"] not in {fingerprint(base), fingerprint(full)}
    assert "has 24 records of the same domain and tunes the base" in result["verdict"]["threat_model"]
    assert "has 24 records of the same domain and tunes" in " ".join(out.split())
    record = json.loads((kept / "model" / RECIPE_FILE).read_text())
    assert record["n_records"] == 24
    assert record["base_fingerprint"] == fingerprint(base)


def test_every_attack_takes_it_and_target_only_attacks_say_what_they_said(command, ask, full, public_file, tmp_path):
    command(*ask(full, "base", run="a"))
    command(*ask(full, "public", "--reference-data", public_file, "--reference-learning-rate", 0.01, run="b"))
    one, two = (pq.read_table(tmp_path / run / "scores.parquet") for run in "ab")
    attacks = {a["name"]: a for a in result_of(tmp_path / "b")["membership"]["attacks"]}
    assert {a["status"] for a in attacks.values()} == {"ok"}
    for name, attack in attacks.items():
        same = np.array_equal(one.column(name).to_numpy(), two.column(name).to_numpy(), equal_nan=True)
        assert same is ("reference" not in attack["needs"]), name
    assert result_of(tmp_path / "b")["scoring"]["records_scored"] == 120
    target_evidence = [result_of(tmp_path / run)["target"]["fingerprint"] for run in "ab"]
    folders = list((tmp_path / ".loraudit" / "evidence").iterdir())
    assert len(folders) == 3, "the target's evidence is shared by both audits"
    assert target_evidence[0] == target_evidence[1]


def test_its_scores_are_those_of_the_tuned_model_itself(command, ask, full, base, public_file, tmp_path):
    """The evidence of the kept reference equals that of an audit in which it is the base."""
    command(*ask(full, "public", "--reference-data", public_file, "--reference-epochs", 1, run="a"))
    (kept,) = references_in(tmp_path)
    shutil.move(kept / "model", tmp_path / "tuned")
    words = [tmp_path / "tuned" if word == base else word for word in ask(full, "base", run="b")]
    code, _, err = command(*words)
    assert code == 0, err
    one, two = (pq.read_table(tmp_path / run / "scores.parquet") for run in "ab")
    for name in ("error_zone", "reference_difference", "window_vote"):
        assert np.allclose(one.column(name), two.column(name), atol=1e-4, equal_nan=True)


def test_without_records_a_public_reference_is_refused_before_anything_is_read(command, ask, full, tmp_path):
    code, _, err = command(*ask(full, "public"))
    assert code == 2
    assert (
        "A public reference is tuned on records, and none are given. Give records of the same domain that are not "
        "audited with --reference-data." in err
    )
    code, _, err = command(*ask(full, "public", "--reference-data", tmp_path / "none.jsonl"))
    assert code == 2
    assert "none.jsonl' does not exist. Expected records; check the path." in err


@pytest.mark.parametrize("reference", ["public", "distilled"])
@pytest.mark.parametrize("side", [0, 1])
def test_audited_records_among_those_of_the_reference_are_refused(side, reference, full, record_files, wish, tmp_path):
    """Also those that --max-records leaves out, and the same text under other columns."""
    lines = record_files[side].read_text().splitlines()[-3:]
    cut = json.loads(lines[0])["text"]
    lines[0] = json.dumps({"prompt": cut[:10], "completion": cut[10:]})
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("\n".join([json.dumps({"text": "Something of its own."}), *lines]))
    spec = wish(full, reference, reference_data=str(mixed), **({} if side else {"on_overlap": "drop"}))
    words = r"3 of 4 records of --reference-data stand in --members or --nonmembers too\. .*Take them out"
    with pytest.raises(DataError, match=words) as caught:
        run_audit(spec)
    assert caught.value.problems == tuple(f"{mixed}:{line}" for line in (2, 3, 4))
    with pytest.raises(DataError, match="2 of 4 records of --reference-data stand in"):
        run_audit(wish(full, reference, reference_data=str(mixed), max_records=2, out=str(tmp_path / "few")))


def test_columns_of_the_audit_are_not_asked_of_public_records(command, ask, full, record_files, public_file, tmp_path):
    for name, file in zip("mn", record_files, strict=True):
        rows = [json.loads(line) | {"doc": f"{name}{i // 3}"} for i, line in enumerate(file.read_text().splitlines())]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = list(ask(full, "public", "--reference-data", public_file, "--reference-epochs", 1, "--group-field", "doc"))
    words[words.index(record_files[0])], words[words.index(record_files[1])] = "m.jsonl", "n.jsonl"
    code, _, err = command(*words)
    assert code == 0, err


# --- distilled ----------------------------------------------------------------------------------------


def test_a_distilled_reference_is_the_base_tuned_on_what_the_target_says(command, ask, full, base, tmp_path):
    code, out, err = command(*ask(full, "distilled", *FEW))
    assert code == 0, err
    result = result_of(tmp_path / "run")
    reference = result["reference"]
    assert reference["kind"] == "distilled from the target"
    assert reference["name"] == f"{base} tuned on 6 samples of {full}"
    details = reference["details"]
    assert details["n_samples"] == 6
    assert details["prompts"] == "one beginning-of-text token"
    assert details["sampling"] == {"new_tokens": 63, "temperature": 0.9, "top_p": 0.9, "seed": 0}
    assert "draws 6 samples from the model and tunes its base" in result["verdict"]["threat_model"]
    assert "draws 6 samples from the model" in " ".join(out.split())
    (kept,) = references_in(tmp_path)
    assert json.loads((kept / "model" / RECIPE_FILE).read_text())["n_records"] == 6
    assert fingerprint(kept / "model") == reference["fingerprint"]
    (samples,) = (tmp_path / ".loraudit" / "samples").iterdir()
    assert len(list(samples.iterdir())) == 1
    for folder in (kept, samples, kept.parent, samples.parent):
        assert folder.stat().st_mode & 0o077 == 0, "what the target says can be what it was trained on"


def test_prompts_are_the_first_tokens_of_records_and_samples_are_trained_on_as_they_are(
    full, public_file, tokenizer, wish, monkeypatch
):
    trained = []

    def listen(base, records, *rest, **options):
        trained.extend(records)
        return finetune(base, records, *rest, **options)

    monkeypatch.setattr(finetuning, "finetune", listen)
    spec = wish(full, "distilled", reference_data=str(public_file), reference_prompts=30, reference_epochs=1)
    details = run_audit(spec).result.reference.details
    assert details["prompts"] == "the first tokens of those records"
    assert details["sampling"]["new_tokens"] == 48
    assert details["n_records"] == 24
    rows = load_records([str(public_file)], RecordFormat()).records
    beginnings = {tuple(tokenizer(row.text)["input_ids"][:16]) for row in rows}
    prompts = [record.tokens.ids[:16] for record in trained]
    assert len(prompts) == 30
    assert set(prompts) == beginnings, "thirty samples of twenty-four prompts: each is used"
    assert len({record.tokens.ids for record in trained}) == 30, "the same prompt twice gives two samples"
    assert all(all(record.tokens.is_audited) for record in trained)
    assert max(len(record.tokens.ids) for record in trained) == 64
    again = [tokenizer(tokenizer.decode(r.tokens.ids[1:]))["input_ids"] for r in trained]
    assert any(list(r.tokens.ids) != ids for r, ids in zip(trained, again, strict=True)), (
        "this test would not see text that was tokenised again"
    )


def test_the_base_stands_for_the_reference_in_the_gates(command, ask, full, tmp_path):
    """A distilled reference has heard the target; that it knows the members is leakage, no unlike sides."""
    command(*ask(full, "base", run="a"))
    command(*ask(full, "distilled", *FEW, run="b"))
    one, two = (pq.read_table(tmp_path / run / "scores.parquet") for run in "ab")
    blind = [name for name in one.column_names if name.startswith(("blind.reference_", "control."))]
    assert len(blind) > 6
    for name in blind:
        assert np.array_equal(one.column(name).to_numpy(), two.column(name).to_numpy(), equal_nan=True)
    gates = {gate["name"]: gate for gate in result_of(tmp_path / "b")["validity"]["gates"]}
    assert gates["reference_loss"]["summary"] == "The attack loss on the base, which was never tuned on the members"
    assert "when the base takes the target's role" in gates["reference_as_target"]["summary"]


def test_another_recipe_draws_no_sample_again(full, wish, monkeypatch):
    run_audit(wish(full, "distilled", reference_prompts=6, reference_epochs=1))

    def fail(*_, **__):
        pytest.fail("the target was loaded to be sampled from")

    monkeypatch.setattr("loraudit.generation.sampling._continue", fail)
    spec = wish(full, "distilled", reference_prompts=6, reference_epochs=2)
    run = run_audit(spec.model_copy(update={"out": spec.out + "-2"}))
    assert run.result.reference.details["recipe"]["epochs"] == 2


def test_without_a_first_token_prompts_are_asked_for(full, wish, monkeypatch):
    class Silent:
        bos_token_id = eos_token_id = None

    spec = wish(full, "distilled", reference_prompts=6)
    monkeypatch.setattr(making, "requested_tokenizer", lambda *_: Silent())
    with pytest.raises(ConfigError, match=r"neither a beginning-of-text nor an end-of-text token .*--reference-data"):
        run_audit(spec)


def test_records_without_a_token_are_no_prompts(full, wish, tmp_path, monkeypatch):
    (tmp_path / "blank.jsonl").write_text('{"text": ""}\n')
    nothing = Encoded(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=bool))
    monkeypatch.setattr(making, "encode", lambda *_, **__: [nothing])
    with pytest.raises(DataError, match=r"No record of --reference-data has a token to begin a prompt with\."):
        run_audit(wish(full, "distilled", reference_prompts=6, reference_data=str(tmp_path / "blank.jsonl")))


# --- the recipe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["public", "distilled"])
def test_a_target_of_our_own_gets_a_reference_of_its_own_recipe(reference, wish, tuned_adapter, base, public_file):
    more = {"reference_prompts": 6} if reference == "distilled" else {}
    run = run_audit(wish(tuned_adapter, reference, reference_data=str(public_file), **more))
    details = run.result.reference.details
    assert details["recipe_source"] == "the target's own, recorded beside its weights"
    recipe = Recipe.model_validate(details["recipe"])
    assert recipe == RECIPE.model_copy(update={"seed": 1}), "all but the seed, which is not to be that of the target"
    (kept,) = references_in(run.path.parent)
    assert (kept / "model" / "adapter_config.json").exists()
    assert run.result.reference.fingerprint == plan_models(str(kept / "model"), base=str(base)).target.fingerprint
    assert run.result.scoring["modes"], "both were scored"
    assert {attack.status for attack in run.result.membership.attacks} == {"ok"}


def test_an_adapter_of_unknown_recipe_gets_a_reference_of_its_form(wish, adapter, public_file):
    spec = wish(adapter, "public", reference_data=str(public_file), reference_learning_rate=0.01)
    details = run_audit(spec).result.reference.details
    assert details["recipe_source"] == (
        "an adapter of the target's form, with the published epochs and learning rate, learning rate as asked for"
    )
    recipe = details["recipe"]
    assert (recipe["method"], recipe["rank"], recipe["epochs"], recipe["learning_rate"]) == ("lora", 4, 4, 0.01)
    assert recipe["targets"] == ["q_proj", "v_proj"]


def test_a_recipe_that_cannot_be_read_is_refused(wish, tuned_adapter, public_file, tmp_path):
    target = shutil.copytree(tuned_adapter, tmp_path / "target")
    record = json.loads((target / RECIPE_FILE).read_text())
    record["recipe"]["warp"] = 9
    (target / RECIPE_FILE).write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"records cannot be read: 'warp': Extra inputs .* to have the published sett"):
        run_audit(wish(target, "public", reference_data=str(public_file)))


def test_an_adapter_of_impossible_form_is_refused(wish, adapter, public_file, tmp_path):
    target = shutil.copytree(adapter, tmp_path / "target")
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | {"r": [4]}))
    with pytest.raises(ModelError, match=r"The form of adapter .* cannot be read: 'rank': Input should be a valid int"):
        estimate_audit(wish(target, "public", reference_data=str(public_file)))


# --- kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["public", "distilled"])
def test_a_second_audit_finds_reference_and_evidence_and_loads_no_model(
    reference, command, ask, full, public_file, tmp_path, monkeypatch
):
    more = FEW if reference == "distilled" else ("--reference-epochs", 1)
    words = ask(full, reference, "--reference-data", public_file, *more, "--json")
    code, first, err = command(*words)
    assert code == 0, err
    for name in ("plan.load_checkpoint", "adapters.load_adapter"):
        monkeypatch.setattr(f"loraudit.models.{name}", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setattr(finetuning, "finetune", lambda *_, **__: pytest.fail("tuned again"))
    code, second, err = command(*words)
    assert code == 0, err
    first, second = json.loads(first), json.loads(second)
    assert second["scoring"]["records_scored"] == 0
    assert second["reference"] == first["reference"]
    assert second["provenance"]["scores"] == first["provenance"]["scores"]
    again = list(words)
    again[again.index(tmp_path / "run")] = tmp_path / "other"
    code, _, err = command(*again, "--resamples", 120)
    assert code == 0, err
    assert len(references_in(tmp_path)) == 1


def test_a_public_reference_is_shared_by_targets_of_one_base(command, ask, full, last_layer, public_file, tmp_path):
    more = ("--reference-data", public_file, "--reference-epochs", 1)
    command(*ask(full, "public", *more, run="a"))
    command(*ask(last_layer, "public", *more, run="b"))
    assert len(references_in(tmp_path)) == 1
    prints = {result_of(tmp_path / run)["reference"]["fingerprint"] for run in "ab"}
    assert len(prints) == 1


@pytest.mark.parametrize("change", ["reference_epochs", "seed", "reference_data", "reference_prompts"])
def test_whatever_changes_the_reference_makes_another_one(change, full, public_file, wish, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(public_file.read_text().split("\n", 1)[1])
    changes = {"reference_epochs": 3, "seed": 5, "reference_data": str(other), "reference_prompts": 7}
    kind = "distilled" if change == "reference_prompts" else "public"
    asked = {"reference_data": str(public_file)}

    def folder(**more):
        spec = wish(full, kind, **(asked | more))
        return requested_reference(spec, requested_models(spec, None), load_data(spec)).folder

    assert folder(**{change: changes[change]}) != folder()
    assert folder(resamples=300, device="auto") == folder()


@pytest.mark.parametrize("harm", ["weights", "mark", "gone"])
def test_a_kept_reference_that_was_damaged_is_made_again(harm, full, public_file, wish, tmp_path):
    spec = wish(full, "public", reference_data=str(public_file), reference_epochs=1)
    first = run_audit(spec).result
    (kept,) = references_in(tmp_path)
    weights, mark = kept / "model" / "model.safetensors", kept / "reference.json"
    if harm == "weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif harm == "mark":
        mark.write_text(mark.read_text()[:40])
    else:
        weights.unlink()
    said = []
    listener = Silent()
    listener.say = said.append
    second = run_audit(spec, progress=listener).result
    assert "The kept reference does not have the weights it was made with; it is made again." in said
    assert second.reference.fingerprint == first.reference.fingerprint
    assert second.scoring["records_scored"] == 0, "the same weights as before have been scored before"


def test_a_killed_run_redoes_no_sample_and_no_finished_tuning(full, wish, tmp_path, monkeypatch):
    spec = wish(full, "distilled", reference_prompts=6, reference_epochs=1)
    stop = StopRequest()

    def interrupted(*_, **__):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "finetune", interrupted)
        with pytest.raises(Interrupted):
            run_audit(spec, stop=stop)
    (kept,) = references_in(tmp_path)
    assert not (kept / "reference.json").exists()
    assert not (kept / "lock.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr("loraudit.generation.sampling._continue", lambda *_: pytest.fail("sampled again"))
        patch.setattr(making, "with_reference", interrupted)  # killed after the last file was written
        with pytest.raises(Interrupted):
            run_audit(spec)
    (kept / "reference.json").unlink()  # and before the mark
    monkeypatch.setattr("loraudit.finetuning.tune.make_trainable", lambda *_: pytest.fail("tuned again"))
    assert run_audit(spec).result.reference.kind == "distilled from the target"


def test_two_runs_do_not_make_one_reference_at_once(full, public_file, wish, tmp_path):
    spec = wish(full, "public", reference_data=str(public_file), reference_epochs=1)
    run_audit(spec)
    (kept,) = references_in(tmp_path)
    (kept / "reference.json").unlink()
    with Lock(kept), pytest.raises(StoreError, match="is in use by process"):
        run_audit(spec)


def test_a_reference_made_by_another_run_in_the_meantime_is_taken(full, public_file, wish, monkeypatch):
    spec = wish(full, "public", reference_data=str(public_file), reference_epochs=1)
    run_audit(spec)
    kept, asked = making.WantedReference.kept, []

    def late(self, spec):
        asked.append(1)
        return None if len(asked) == 1 else kept(self, spec)

    monkeypatch.setattr(making.WantedReference, "kept", late)
    monkeypatch.setattr(finetuning, "finetune", lambda *_, **__: pytest.fail("tuned again"))
    assert run_audit(spec).result.scoring["records_scored"] == 0
    assert len(asked) == 2


# --- said beforehand and afterwards -------------------------------------------------------------------


def test_a_dry_run_says_what_must_be_made_and_makes_nothing(command, ask, full, public_file, tmp_path):
    words = ask(full, "distilled", "--dry-run")
    code, out, err = command(*words)
    assert code == 0, err
    assert (
        "First a reference must be made, which costs time: draw 10,000 samples of the target, up to 630,000 tokens one "
        "after another, then tune the base on them (full) for 4 epochs of up to 640,000 tokens."
    ) in " ".join(out.split())
    assert "loaded one after another: target; reference; base." in out
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / ".loraudit").exists()
    public = ask(full, "public", "--reference-data", public_file, "--reference-epochs", 1)
    n_tokens = json.loads(command(*public, "--dry-run", "--json")[1])["reference"]["n_training_tokens"]
    command(*public)
    details = result_of(tmp_path / "run")["reference"]["details"]
    assert n_tokens == details["n_tokens"]
    code, out, _ = command(*public, "--dry-run")
    assert "reference must be made" not in out
    assert "120 of them already scored" in out


def test_the_estimate_counts_sampling_training_and_the_base(full, wish):
    alone = estimate_audit(wish(full, "base"))
    distilled = estimate_audit(wish(full, "distilled", reference_prompts=1000))
    assert distilled.n_tokens == alone.n_tokens * 3 // 2
    assert distilled.seconds > alone.seconds
    assert distilled.memory_bytes > alone.memory_bytes
    assert distilled.reference.n_sampled_tokens == 63_000
    assert distilled.reference.n_training_tokens == 4 * 64_000


def test_the_finished_run_can_be_verified_shown_and_compared(command, ask, full, public_file, tmp_path):
    command(*ask(full, "base", run="a"))
    command(*ask(full, "public", "--reference-data", public_file, "--reference-epochs", 1, run="b"))
    command(*ask(full, "distilled", *FEW, run="c"))
    for run in "bc":
        code, out, _ = command("verify", tmp_path / run)
        assert code == 0, out
        reference = result_of(tmp_path / run)["reference"]
        shown = {name: command("report", tmp_path / run, "--format", name)[1] for name in FORMATS}
        assert all(reference["kind"] in shown[name] for name in ("html", "markdown", "model-card", "json"))
        assert "published settings" in shown["html"]
        page = (tmp_path / run / "report.html").read_text()
        assert "learning rate 0.0001" in page, "settings are words and no Python"
        assert "{&#39;" not in page
    code, out, _ = command("verify", tmp_path / "b")
    assert f"data {public_file}: unchanged" in out
    code, out, _ = command("compare", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "the reference of the first run is base, of the second public" in out
    code, out, _ = command("compare", tmp_path / "a", tmp_path / "a")
    assert "attackers differ" not in out


def test_validate_and_doctor_know_the_reference(command, ask, full, base, record_files, public_file, tmp_path):
    spec = tmp_path / "audit.toml"
    lines = [f'model = "{full}"', f'base = "{base}"', 'reference = "public"', "reference-epochs = 1"]
    lines += [f'members = "{record_files[0]}"', f'nonmembers = "{record_files[1]}"', f'out = "{tmp_path / "run"}"']
    spec.write_text("\n".join(lines))
    code, _, err = command("validate", spec)
    assert code == 2
    assert "A public reference is tuned on records" in err
    spec.write_text("\n".join([*lines, f'reference-data = "{public_file}"']))
    assert command("validate", spec)[0] == 0
    code, out, _ = command("doctor", "--spec", spec)
    assert code == 0
    assert re.search(
        r"reference: public, still to be made: tune the base on the public records \(full\) for 1 epoch of ", out
    )
    command("audit", "--spec", spec, "-q")
    assert "reference: public, made before" in command("doctor", "--spec", spec)[1]
    spec.write_text("\n".join([*lines, f'reference-data = "{record_files[0]}"']))
    code, out, _ = command("doctor", "--spec", spec)
    assert code == 3
    assert "60 of 60 records of --reference-data stand in" in out


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("base", "--reference-data", "x.jsonl"), "--reference-data says nothing about the reference 'base'. Expected"),
        (("base", "--reference-prompts", 5), "Expected it with --reference distilled or public."),
        (("base", "--reference-epochs", 5), "--reference-epochs says nothing about the reference 'base'"),
        (("base", "--reference-learning-rate", 0.1), "--reference-learning-rate says nothing about the reference 'ba"),
        (("public", "--reference-prompts", 5), "'public'. Expected it with --reference distilled."),
        (("shadow",), "'reference' has the value 'shadow'. Expected 'base', 'distilled' or 'public'"),
        (("distilled", "--reference-prompts", 0), "'reference-prompts' has the value 0. Expected greater than or"),
        (
            ("distilled", "--attacks", "loss", "--headline", "min_k"),
            "Reference 'distilled' is not looked at by any attack asked for. Leave --reference out",
        ),
    ],
)
def test_settings_that_would_be_ignored_are_refused(words, message, command, ask, full):
    code, _, err = command(*ask(full, *words))
    assert code == 2
    assert message in err


def test_without_a_base_there_is_nothing_to_tune(full, record_files, tmp_path, wish):
    spec = wish(full, "distilled").model_copy(update={"base": None})
    with pytest.raises(ConfigError, match=r"A distilled reference is tuned from the base, and no base of .* is known"):
        run_audit(spec)


def test_a_base_that_needs_trust_is_not_tuned(full, base, public_file, wish, tmp_path):
    folder = shutil.copytree(base, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "code.Config"}}))
    asked = {"reference_data": str(public_file), "base": str(folder), "allow_remote_code": True}
    with pytest.raises(ModelError, match=r"cannot be tuned from base .*, which needs code that comes with it\."):
        estimate_audit(wish(full, "public", **asked))


def test_a_reference_is_not_tuned_over_several_devices(full, public_file, wish, monkeypatch):
    monkeypatch.setattr(making, "resolve_devices", lambda _: ["balanced"])
    with pytest.raises(ConfigError, match=r"cannot be tuned on --device balanced\. Make it once with a single device"):
        run_audit(wish(full, "public", reference_data=str(public_file)))


def test_tokens_that_the_base_does_not_know_are_refused(full, public_file, wish, monkeypatch):
    strange = Encoded(np.array([0, 600], dtype=np.int32), np.ones(2, dtype=bool))
    monkeypatch.setattr("loraudit.auditing.references.wanted.encode", lambda *_, **__: [strange] * 24)
    with pytest.raises(ModelError, match=r"go up to id 600, but its base knows 512: the embedding grew in training"):
        run_audit(wish(full, "public", reference_data=str(public_file)))
