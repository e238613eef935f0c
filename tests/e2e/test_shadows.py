"""Audits with shadow models: what they are trained on, who scores whom, and what they add."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loraudit import finetuning
from loraudit.auditing import estimate_audit, run_audit
from loraudit.auditing.preparation import requested_models
from loraudit.auditing.references.halves import chosen_rows
from loraudit.auditing.references.shadows import requested_shadows
from loraudit.auditing.request import load_data
from loraudit.data import load_records
from loraudit.errors import ConfigError, DataError
from loraudit.finetuning import finetune
from loraudit.membership.shadow import SHADOW_TWIN
from loraudit.report import FORMATS, shadow_statement
from loraudit.spec import Recipe, RecordFormat, make_audit_spec
from loraudit.synthetic import private_records
from loraudit.types import TokenTable

RECIPE = Recipe(
    method="lora", epochs=12, learning_rate=2e-2, rank=4, dropout=0.0, targets=("q_proj", "v_proj"), batch_size=8
)
ADDED = {
    "lira_offline",
    "bavaria",
    "lira_tokens",
    "rmia",
    *(SHADOW_TWIN + name for name in ("error_zone", "window_vote", "paired_t")),
    *(SHADOW_TWIN + name for name in ("reference_difference", "reference_ratio")),
}


@pytest.fixture(scope="module")
def target(base, record_files, tmp_path_factory):
    members = load_records([str(record_files[0])], RecordFormat()).records
    return finetune(str(base), members, RECIPE, tmp_path_factory.mktemp("tuned") / "adapter").path


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in private_records(24, seed=77)))
    return path


@pytest.fixture(scope="module")
def wish(target, base, record_files, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")

    def spec(**more):
        sides = {"members": str(record_files[0]), "nonmembers": str(record_files[1])}
        about = {"model": str(target), "base": str(base), "resamples": 100, "out": str(runs / "a"), "device": "cpu"}
        return make_audit_spec({**about, **sides, "shadow": 4, **more})

    return spec


@pytest.fixture(scope="module")
def done(wish, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        return run_audit(wish())


def areas(run) -> dict[str, float]:
    return {a.name: a.findings["auc"].value for a in run.result.membership.attacks if a.status == "ok"}


# --- who is trained on what ---------------------------------------------------------------------------


def test_a_pair_shares_the_non_members_and_no_member_is_trained_on(wish):
    spec = wish(shadow=6)
    sides = load_data(spec)
    shadows = requested_shadows(spec, requested_models(spec, None), sides)
    assert shadows.halves.trained_on == "nonmembers"
    assert not shadows.halves.seen[:, sides.is_member].any()
    nonmembers = shadows.halves.seen[:, ~sides.is_member]
    for pair in range(3):
        assert (nonmembers[2 * pair] ^ nonmembers[2 * pair + 1]).all()
        assert nonmembers[2 * pair].sum() == nonmembers[2 * pair + 1].sum()
    assert len({tuple(row) for row in nonmembers[::2]}) == 3
    seeds = [wanted.recipe.seed for wanted in shadows.wanted]
    assert len(set(seeds)) == 6
    assert RECIPE.seed not in seeds
    for wanted in shadows.wanted:
        assert wanted.recipe.model_copy(update={"seed": 0}) == RECIPE
        assert wanted.recipe_source == "the target's own, recorded beside its weights"


def test_a_pool_is_trained_on_by_halves_and_every_shadow_scores_everyone(wish, pool_file):
    spec = wish(shadow=3, pool=str(pool_file))
    sides = load_data(spec)
    shadows = requested_shadows(spec, requested_models(spec, None), sides)
    assert shadows.halves.trained_on == "pool"
    assert not shadows.halves.seen.any()
    assert [len(wanted.data.records) for wanted in shadows.wanted] == [12, 12, 12]
    ids = [{record.id for record in wanted.data.records} for wanted in shadows.wanted]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {record.id for record in shadows.halves.pool.records}


def test_on_request_pairs_share_the_audited_records_as_training_would_draw_them(wish):
    spec = wish(shadow_on="audited", shadow=4)
    sides = load_data(spec)
    shadows = requested_shadows(spec, requested_models(spec, None), sides)
    assert shadows.halves.trained_on == "audited"
    assert (shadows.halves.seen[0] ^ shadows.halves.seen[1]).all()
    assert (shadows.halves.seen[2] ^ shadows.halves.seen[3]).all()
    assert shadows.halves.seen[0].sum() == len(sides.members.records)
    assert 15 < shadows.halves.seen[0][sides.is_member].sum() < 45


@pytest.mark.slow
def test_shadows_that_saw_the_record_serve_online_lira(wish, tmp_path):
    run = run_audit(wish(shadow_on="audited", shadow=4, out=str(tmp_path / "run"), store=str(tmp_path / "store")))
    found = areas(run)
    assert found["lira_online"] > 0.85
    assert found["shadow_error_zone"] > found["error_zone"]
    facts = run.result.shadows
    assert (facts.n_shadows, facts.n_per_record, facts.trained_on) == (4, 2, "audited")
    gates = {gate.name: gate for gate in run.result.validity.gates}
    assert abs(gates["control_lira_online"].finding.value - 0.5) < 0.2
    assert "it is the auditor's, who has the audited records to train 4 models on" in shadow_statement(run.result)
    html = (run.path / "report.html").read_text()
    assert "none of which was trained on it, and 2 that were, for lira_online" in html
    assert "records of both sides, each" in html
    headlined = run_audit(
        wish(shadow_on="audited", headline="lira_online", out=str(tmp_path / "b"), store=str(tmp_path / "store"))
    )
    assert "The auditor, and no outside attacker" in headlined.result.verdict.threat_model


def test_documents_are_never_shared_between_two_shadows(wish, record_files, tmp_path):
    rows = [json.loads(line) for line in record_files[1].read_text().splitlines()]
    path = tmp_path / "nonmembers.jsonl"
    path.write_text("".join(json.dumps({**row, "doc": f"d{i // 7}"}) + "\n" for i, row in enumerate(rows)))
    members = tmp_path / "members.jsonl"
    lines = record_files[0].read_text().splitlines()
    members.write_text("".join(json.dumps({**json.loads(x), "doc": f"m{i}"}) + "\n" for i, x in enumerate(lines)))
    spec = wish(nonmembers=str(path), members=str(members), group_field="doc", shadow=2)
    shadows = requested_shadows(spec, requested_models(spec, None), load_data(spec))
    one, two = ({record.group for record in wanted.data.records} for wanted in shadows.wanted)
    assert not one & two
    few = tmp_path / "one.jsonl"
    few.write_text("".join(json.dumps({**row, "doc": "all"}) + "\n" for row in rows))
    spec = wish(nonmembers=str(few), members=str(members), group_field="doc", shadow=2)
    with pytest.raises(DataError, match="in too few documents cannot be shared between two shadows"):
        requested_shadows(spec, requested_models(spec, None), load_data(spec))


def test_rows_are_taken_from_the_shadow_that_is_chosen():
    def table(value):
        tokens = {"log_prob": np.full(5, value), "is_top1": np.full(5, value > 0)}
        return TokenTable(tokens, np.array([0, 2, 3, 5]), np.ones(5, bool), np.ones(3, int), [f"{value}"] * 3)

    found = chosen_rows((table(0.0), table(1.0)), np.array([1, 0, 1]))
    assert found.columns["log_prob"].tolist() == [1, 1, 0, 1, 1]
    assert found.columns["is_top1"].tolist() == [True, True, False, True, True]
    assert found.status == ["1.0", "0.0", "1.0"]


# --- what they show -----------------------------------------------------------------------------------


def test_shadows_see_what_the_comparison_with_the_base_hides(done):
    found = areas(done)
    assert set(found) >= ADDED
    assert found["shadow_error_zone"] > found["error_zone"] + 0.1
    assert min(found[name] for name in ADDED) > 0.8
    comparison = done.result.membership.shadows
    assert (comparison.against_base, comparison.against_shadows) == ("error_zone", "shadow_error_zone")
    difference = comparison.differences["auc"]
    assert difference.value == pytest.approx(found["shadow_error_zone"] - found["error_zone"])
    assert difference.lower > 0
    facts = done.result.shadows
    assert (facts.n_shadows, facts.n_per_record, facts.trained_on) == (4, 2, "nonmembers")
    assert facts.n_records == [30] * 4
    assert len(set(facts.fingerprints)) == 4
    assert facts.recipe["rank"] == 4


def test_controls_put_the_base_in_the_targets_role_against_the_shadows(done):
    gates = {gate.name: gate for gate in done.result.validity.gates}
    assert not done.result.validity.failed
    for name in ADDED:
        assert abs(gates[f"control_{name}"].finding.value - 0.5) < 0.15


def test_a_target_that_never_saw_the_members_is_not_found_out(wish, base, tmp_path):
    """Cross-fitting must not make non-members look like members, nor the reverse."""
    strangers = private_records(60, seed=99)
    path = tmp_path / "strangers.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in strangers))
    records = load_records([str(path)], RecordFormat()).records
    other = finetune(str(base), records, RECIPE, tmp_path / "other").path
    found = areas(run_audit(wish(model=str(other), out=str(tmp_path / "run"), shadow=2)))
    for name in ADDED:
        assert abs(found[name] - 0.5) < 0.17, name


def test_every_report_says_what_shadows_change(done, command):
    statement = shadow_statement(done.result)
    assert "Against the base the AUC of error_zone is" in statement
    assert "against the mean of 2 shadow models it is" in statement
    assert "Go by the second number: an attacker needs 60 other records of the kind and 4 trainings." in statement
    html = (done.path / "report.html").read_text()
    for words in ("Shadow models.", "Go by the second number", "30 of the 60 records of the non-members, each"):
        assert words in html
    assert "An attacker who trains shadow models" not in html
    assert "Go by the second number" in FORMATS["markdown"](done)
    code, out, _ = command("report", done.path)
    assert code == 0
    assert "Go by the second number" in " ".join(out.split())
    code, out, err = command("verify", done.path)
    assert code == 0, out + err


# --- kept and resumed ---------------------------------------------------------------------------------


def test_shadows_are_made_once(done, wish, monkeypatch):
    monkeypatch.setattr(finetuning, "finetune", lambda *_, **__: pytest.fail("trained again"))
    again = run_audit(wish())
    assert areas(again) == areas(done)
    assert again.result.membership.shadows == done.result.membership.shadows
    assert again.result.shadows == done.result.shadows
    more = run_audit(wish(headline="shadow_error_zone", out=str(done.path.parent / "b")))
    assert areas(more) == areas(done)
    assert "60 other records of the same kind to train 4 models" in more.result.verdict.threat_model
    assert more.result.membership.shadows.against_base == "error_zone"


def test_a_dry_run_counts_the_trainings_and_trains_nothing(done, wish, tmp_path, command):
    made = estimate_audit(wish())
    assert made.shadows is None
    assert made.n_units == 0
    missing = estimate_audit(wish(shadow=8, out=str(done.path.parent / "c"))).shadows
    assert missing.words.startswith("train 4 shadow models (lora, 12 epochs):")
    spec = wish(store=str(tmp_path / "none"), out=str(tmp_path / "d"))
    assert estimate_audit(spec).n_units > 0
    sides = ("--members", *spec.members, "--nonmembers", *spec.nonmembers)
    code, out, err = command("audit", spec.model, *sides, "--shadow", 4, "-o", tmp_path / "d", "--dry-run")
    assert code == 0, err
    assert "Shadow models cost time too: train 4 shadow models" in " ".join(out.split())
    assert not (tmp_path / "d").exists()


# --- what is wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shadow": 3}, r"--shadow 3 is odd\. Expected an even number without --pool"),
        ({"shadow": 0, "headline": "lira_offline"}, r"Attack 'lira_offline' compares with shadow models.*--shadow"),
        ({"shadow": 0, "pool": "x.jsonl"}, r"--pool is what shadow models are trained on"),
        ({"pool": "x.jsonl"}, r"File 'x\.jsonl' does not exist"),
        ({"headline": "lira_online"}, r"'lira_online' compares with shadow models that saw the record.*--shadow-on"),
        ({"shadow_on": "audited", "pool": __file__}, r"--shadow-on audited trains on the audited records, and --pool"),
        ({"shadow": 0, "shadow_on": "audited"}, r"--shadow-on says what shadow models are trained on"),
        ({"attacks": "loss"}, r"--shadow trains models that no attack asked for looks at"),
        ({"shadow": 0, "reference_epochs": 2}, r"--reference-epochs says nothing about the reference 'base'"),
    ],
)
def test_requests_that_make_no_sense_are_refused(wish, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_audit(wish(**changes))


def test_shadows_without_a_base_and_pools_of_audited_records_are_refused(wish, full, record_files, tmp_path):
    with pytest.raises(ConfigError, match=r"Shadow models are tuned from the base, and no base of .* Give it with"):
        run_audit(wish(model=str(full), base=None, headline="loss", out=str(tmp_path / "a")))
    with pytest.raises(DataError, match=r"60 of 60 records of --pool stand in --members or --nonmembers too"):
        run_audit(wish(pool=str(record_files[1]), out=str(tmp_path / "b")))


def test_epochs_and_learning_rate_of_shadows_can_be_set(wish):
    spec = wish(reference_epochs=3, reference_learning_rate=0.5)
    shadows = requested_shadows(spec, requested_models(spec, None), load_data(spec))
    assert {(wanted.recipe.epochs, wanted.recipe.learning_rate) for wanted in shadows.wanted} == {(3, 0.5)}
    assert shadows.wanted[0].recipe_source.endswith("epochs as asked for, learning rate as asked for")
