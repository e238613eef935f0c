"""Audits with slow attacks: what is altered, who scores it, what is kept, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from loraudit.auditing import estimate_audit, run_audit
from loraudit.auditing.copies.altered import altered_tokens, requested_slow
from loraudit.auditing.copies.neighbours import kept_substitutions
from loraudit.auditing.preparation import base_options, requested_models, requested_tokenizer
from loraudit.auditing.request import chosen_attacks, load_data, store_path
from loraudit.data import behind_prefix, with_substitutions
from loraudit.errors import ConfigError, DataError
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.models import ModelPlan
from loraudit.policy import verdict_of
from loraudit.report import FORMATS
from loraudit.spec import make_audit_spec
from loraudit.store import EvidenceStore
from loraudit.synthetic import private_records

SLOW = {"neighbourhood", "spv_mia", "recall"}
NOTHING_DONE = {"drawing": 0, "neighbours": 0, "prefixed": 0}


def texts_in(path):
    return [json.loads(line)["text"] for line in Path(path).read_text().splitlines()]


def write(path, texts, **columns):
    rows = [{"text": text, **{name: of[i] for name, of in columns.items()}} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def short(texts, tmp_path_factory):
    """Members, non-members and others of about twenty tokens, so that a prefix fits into the context of 64."""
    folder = tmp_path_factory.mktemp("short")
    cut = [" ".join(text.split()[:3]) + f" {i}" for i, text in enumerate([*texts, *private_records(20, seed=5)])]
    sides = {"members": cut[:60], "nonmembers": cut[60:120], "others": cut[120:]}
    return {side: write(folder / f"{side}.jsonl", rows) for side, rows in sides.items()}


@pytest.fixture(scope="module")
def wish(adapter, base, short, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")

    def spec(**more):
        sides = {side: short[side] for side in ("members", "nonmembers")}
        about = {"model": str(adapter), "base": str(base), "resamples": 100, "out": str(runs / "a"), "device": "cpu"}
        return make_audit_spec({**about, **sides, "slow": True, "neighbours": 3, "recall_shots": 2, **more})

    return spec


@pytest.fixture(scope="module")
def done(wish, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        return run_audit(wish())


def attack(run, name):
    return run.result.membership.attack(name)


def looked_at(spec):
    """Records, tokens with prefix, and the substitutions that are kept for them."""
    sides, plan = load_data(spec), requested_models(spec, None)
    wanted = requested_slow(spec, sides, chosen_attacks(spec))
    options = base_options(spec, plan)
    tokens = altered_tokens(wanted, sides.records, spec, options, requested_tokenizer(spec, plan))
    return sides, tokens, kept_substitutions(wanted, plan, options, EvidenceStore(store_path(spec)))


# --- what is measured ---------------------------------------------------------------------------------


def test_slow_adds_exactly_these_attacks_and_changes_no_other(done, wish, short):
    names = {a.name for a in done.result.membership.attacks if a.status == "ok"}
    assert names >= SLOW
    where = {"recall_prefix": short["others"], "store": str(store_path(wish()))}
    slow = run_audit(wish(**where, out=str(done.path.parent / "with")))
    plain = run_audit(
        wish(slow=False, neighbours=10, recall_shots=7, store=where["store"], out=str(done.path.parent / "b"))
    )
    assert {a.name for a in slow.result.membership.attacks} - {a.name for a in plain.result.membership.attacks} == SLOW
    for a in plain.result.membership.attacks:
        np.testing.assert_array_equal(plain.column(a.name), slow.column(a.name))


def test_scores_are_what_the_models_say_of_the_copies_one_by_one(done, wish, adapter, base):
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    sides, tokens, kept = looked_at(wish())
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)

    def mean_log_prob(item) -> float:
        ids = torch.from_numpy(item.ids.astype(np.int64))
        with torch.inference_mode():
            log_probs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        each = log_probs.gather(1, ids[1:, None])[:, 0].numpy()
        return float(each[item.is_audited[1:]].mean())

    def variation(item, copies) -> float:
        return math.exp(mean_log_prob(item)) - np.mean([math.exp(mean_log_prob(copy)) for copy in copies])

    for row in (0, 7, 80):
        item = tokens.encoded[row]
        copies = [with_substitutions(item, one) for one in kept[sides.records[row].id]]
        assert len(copies) == 3
        around = np.mean([mean_log_prob(copy) for copy in copies])
        assert done.column("neighbourhood")[row] == pytest.approx(mean_log_prob(item) - around, abs=2e-4)
        behind = mean_log_prob(behind_prefix(item, tokens.prefix, bos_id=tokens.bos_id))
        assert done.column("recall")[row] == pytest.approx(behind / mean_log_prob(item), abs=2e-4)
        with model.disable_adapter():
            of_base = variation(item, copies)
        assert done.column("spv_mia")[row] == pytest.approx(variation(item, copies) - of_base, abs=2e-5)


def test_neighbours_are_altered_where_drawn_and_nothing_proposed_is_the_records_own(done, wish):
    sides, tokens, kept = looked_at(wish())
    for record, item in zip(sides.records, tokens.encoded, strict=True):
        for one in kept[record.id]:
            copy = with_substitutions(item, one)
            assert (np.flatnonzero(copy.ids != item.ids) == one[:, 0]).all()
            assert len(one) == max(1, round(0.2 * item.is_audited[1:].sum()))


def test_the_base_in_the_targets_role_is_the_control_of_slow_attacks_too(done):
    gates = {gate.name: gate for gate in done.result.validity.gates}
    for name in ("neighbourhood", "recall"):
        assert abs(gates[f"control_{name}"].finding.value - 0.5) < 0.2
    assert "control_spv_mia" not in gates  # nothing varies between a model and itself
    assert not [name for name in gates if name.startswith("reference_recall")]
    assert not np.nanmax(np.abs(done.scores.column("control.control_spv_mia").to_numpy()))


def test_long_records_have_neighbours_but_no_room_for_a_prefix(wish, record_files, tmp_path):
    sides = {"members": str(record_files[0]), "nonmembers": str(record_files[1])}
    run = run_audit(wish(**sides, out=str(tmp_path / "a"), neighbours=1))
    assert attack(run, "neighbourhood").status == "ok"
    assert run.result.members.n_windowed > 30
    recall = attack(run, "recall")
    assert recall.status == "not_measured"
    assert "leave room for 0 tokens of prefix in a window of 64; expected 16 or more" in recall.reason
    for look in (run_audit, estimate_audit):
        with pytest.raises(ConfigError, match=r"The headline attack 'recall' cannot be measured: records of .* leave"):
            look(wish(**sides, headline="recall", out=str(tmp_path / "b")))


def test_records_that_do_not_fit_with_the_prefix_are_undefined_for_recall_alone(wish, short, texts, tmp_path):
    members = write(tmp_path / "members.jsonl", [*texts_in(short["members"])[:-2], *texts[:2]])
    run = run_audit(wish(members=members, recall_prefix=short["others"], recall_shots=9, out=str(tmp_path / "a")))
    too_long = np.flatnonzero(np.isnan(run.column("recall"))).tolist()
    assert {58, 59} <= set(too_long)
    assert run.result.slow.n_too_long == len(too_long) <= 6
    assert not np.isnan(run.column("neighbourhood")).any()
    assert not np.isnan(run.column("error_zone")).any()
    assert any(
        "records do not fit into one window with the prefix; recall is undefined" in w for w in run.result.warnings
    )
    assert any("The window has room for" in warning for warning in run.result.warnings)
    assert run.result.slow.n_shots < 9


def test_without_a_base_only_recall_can_be_measured(wish, full, tmp_path):
    run = run_audit(wish(model=str(full), base=None, headline="loss", out=str(tmp_path / "a")))
    assert attack(run, "recall").status == "ok"
    for name in ("neighbourhood", "spv_mia"):
        assert attack(run, name).status == "not_measured"
        assert "give the base model with --base" in attack(run, name).reason
    assert run.result.slow.n_neighbours == 0


@pytest.mark.parametrize("kind", ["full", "head_only"])
def test_checkpoints_have_slow_attacks_too(kind, wish, request, tmp_path):
    run = run_audit(wish(model=str(request.getfixturevalue(kind)), out=str(tmp_path / "a"), neighbours=1))
    assert {attack(run, name).status for name in SLOW} == {"ok"}
    assert not any(np.isnan(run.column(name)).any() for name in SLOW)


def test_a_distilled_reference_calibrates_and_the_base_stays_the_control(wish, tmp_path):
    run = run_audit(
        wish(reference="distilled", reference_prompts=6, reference_epochs=1, out=str(tmp_path / "a"), neighbours=2)
    )
    assert {attack(run, name).status for name in SLOW} == {"ok"}
    assert "is the base tuned on samples of the target, as published" in FORMATS["markdown"](run)
    assert not run.scores.column("control.control_spv_mia").to_numpy().any()
    plain = run_audit(wish(out=str(tmp_path / "b"), neighbours=2, store=str(tmp_path / ".loraudit")))
    np.testing.assert_array_equal(run.column("neighbourhood"), plain.column("neighbourhood"))
    assert (run.column("spv_mia") != plain.column("spv_mia")).any()
    assert plain.result.slow.n_tokens == {**NOTHING_DONE}


# --- the prefix is none of the audited records --------------------------------------------------------


def test_non_members_of_the_prefix_are_set_aside_and_counted(done, wish):
    sides = load_data(wish())
    assert len(sides.aside) == 2
    assert not {record.id for record in sides.aside} & {record.id for record in sides.records}
    assert done.result.nonmembers.n_records == 58
    assert done.result.nonmembers.n_set_aside == done.result.slow.n_set_aside == 2
    assert done.scores.num_rows == 118
    assert any(warning.startswith("2 non-members were set aside for the prefix") for warning in done.result.warnings)
    assert len(load_data(wish(attacks="neighbourhood", recall_shots=7)).nonmembers.records) == 60


def test_documents_are_set_aside_whole(wish, short, tmp_path):
    sides = {
        side: write(
            tmp_path / f"{side}.jsonl",
            texts_in(short[side]),
            doc=[f"{side}-{i // 4}" for i in range(60)],
        )
        for side in ("members", "nonmembers")
    }
    spec = wish(**sides, group_field="doc", out=str(tmp_path / "a"))
    loaded = load_data(spec)
    assert len(loaded.aside) == 2
    assert loaded.nonmembers.n_set_aside == 4
    assert not {r.group for r in loaded.aside} & {r.group for r in loaded.records}
    assert any(
        "2 non-members, with 2 more of the same documents, were set aside" in w for w in run_audit(spec).result.warnings
    )


@pytest.mark.parametrize("flag", ["recall_prefix", "pool"])
def test_a_prefix_of_other_records_sets_nothing_aside(flag, wish, short, tmp_path):
    spec = wish(**{flag: short["others"]}, out=str(tmp_path / "a"))
    run = run_audit(spec)
    assert run.result.nonmembers.n_records == 60
    assert run.result.slow.n_set_aside == 0
    assert run.result.slow.prefix_from == "records of --" + flag.replace("_", "-")
    assert run.result.provenance.data[short["others"]] == run.result.slow.files[0]["sha256"]
    with pytest.raises(DataError, match=r"60 of 60 records of --.* stand in --members or --nonmembers too"):
        run_audit(wish(**{flag: short["nonmembers"]}, out=str(tmp_path / "b")))


def test_too_few_non_members_to_set_any_aside_are_refused(wish, tmp_path):
    with pytest.raises(DataError, match=r"The prefix of recall takes 60 non-members, which leaves none of 60"):
        run_audit(wish(recall_shots=60, out=str(tmp_path / "a")))


# --- kept and resumed ---------------------------------------------------------------------------------


def test_a_second_run_loads_no_model_and_gives_the_same_bits(done, wish, monkeypatch):
    before = (done.path / "scores.parquet").read_bytes()
    monkeypatch.setattr(ModelPlan, "stages", [], raising=False)
    for module in ("loraudit.auditing.copies.neighbours.likeliest_tokens", "loraudit.scoring.engine._run_stage"):
        monkeypatch.setattr(module, lambda *_, **__: pytest.fail("scored again"))
    again = run_audit(wish())
    assert again.result.slow.n_tokens == NOTHING_DONE
    assert (again.path / "scores.parquet").read_bytes() == before


class StopAfter(Silent):
    """Asks for a stop after so many units of one stage."""

    def __init__(self, stage, n_units):
        self.wanted, self.left, self.stop, self.now = stage, n_units, StopRequest(), ""

    def stage(self, name, total, unit):
        self.now = name

    def advance(self, n):
        if self.now.startswith(self.wanted):
            self.left -= 1
            if self.left == 0:
                self.stop.ask()


def test_a_run_that_is_stopped_goes_on_and_gives_the_same_scores(done, wish, tmp_path):
    spec = wish(out=str(tmp_path / "a"), batch_tokens=64)
    for stage, n_units in (("Drawing neighbours", 2), ("Scoring", 9)):
        waiting = StopAfter(stage, n_units)
        with pytest.raises(Interrupted):
            run_audit(spec, progress=waiting, stop=waiting.stop)
    run = run_audit(spec)
    assert run.result.slow.n_tokens["neighbours"] > 0
    assert run.result.slow.n_tokens["drawing"] == 0
    for name in SLOW:
        np.testing.assert_allclose(run.column(name), done.column(name), atol=2e-4)


def test_neighbours_do_not_depend_on_the_target(done, wish, full):
    run = run_audit(wish(model=str(full), out=str(done.path.parent / "full"), store=str(store_path(wish()))))
    assert run.result.slow.n_tokens["drawing"] == 0
    assert run.result.slow.n_tokens["neighbours"] > 0
    assert run.result.slow.drawn_by == done.result.slow.drawn_by
    kept = sorted(path.name for path in (store_path(wish()) / "neighbours").iterdir())
    assert len(kept) == 1


def test_neighbours_follow_the_seed_and_the_record_alone(done, wish, short, tmp_path):
    sides, _, kept = looked_at(wish())
    run_audit(wish(out=str(tmp_path / "same"), recall_prefix=short["others"], attacks=list(SLOW)))
    run_audit(wish(out=str(tmp_path / "other"), recall_prefix=short["others"], attacks=list(SLOW), seed=1))
    _, _, same = looked_at(wish(out=str(tmp_path / "same"), recall_prefix=short["others"]))
    _, _, other = looked_at(wish(out=str(tmp_path / "other"), recall_prefix=short["others"], seed=1))
    ids = [record.id for record in sides.records]
    assert all(np.array_equal(kept[i], same[i]) for i in ids)
    assert not all(np.array_equal(kept[i], other[i]) for i in ids)


def test_damaged_draws_are_made_again(wish, tmp_path):
    spec = wish(out=str(tmp_path / "a"), attacks="neighbourhood", headline="neighbourhood", recall_shots=7)
    before = run_audit(spec).column("neighbourhood")
    (unit,) = (store_path(spec) / "neighbours").rglob("*.unit")
    unit.write_bytes(unit.read_bytes()[:-1] + b"x")
    again = run_audit(spec)
    assert again.result.slow.n_tokens["drawing"] > 0
    assert again.result.slow.n_tokens["neighbours"] == 0
    np.testing.assert_array_equal(again.column("neighbourhood"), before)


def test_ordinary_audits_do_not_read_what_slow_ones_keep(done, wish):
    plan = requested_models(wish(), None)
    conditions = base_options(wish(), plan).conditions(plan, plan.target.fingerprint)
    store = EvidenceStore(store_path(wish()))
    sizes = []
    for folder in (store.folder(conditions), store.apart("slow").folder(conditions)):
        folder.refresh()
        sizes.append(len(folder))
    assert sizes[0] <= 120
    assert sizes[1] > 3 * 110


# --- what it takes ------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_is_missing(done, wish, command, tmp_path):
    kept = estimate_audit(wish())
    assert (kept.slow, kept.n_units, kept.n_tokens) == (None, 0, 0)
    fresh = estimate_audit(wish(out=str(tmp_path / "a")))
    _, tokens, _ = looked_at(wish())
    n = sum(len(item.ids) for item in tokens.encoded)
    prefixed = sum(len(record.tokens.ids) for record in tokens.prefixed())
    assert fresh.n_tokens == 2 * n + n + 3 * 2 * n + 2 * prefixed
    assert f"draw neighbours of 118 records from the base: {n:,} tokens" in fresh.slow
    assert f"score 3 neighbours of each by 2 models: {6 * n:,} tokens" in fresh.slow
    assert f"score each record behind {len(tokens.prefix.ids)} tokens of prefix: {2 * prefixed:,} tokens" in fresh.slow
    more = estimate_audit(wish(neighbours=4, out=str(done.path.parent / "c"), store=str(store_path(wish()))))
    assert f"score 4 neighbours of each by 2 models: {8 * n:,} tokens" in more.slow
    spec = wish()
    sides = ("--members", *spec.members, "--nonmembers", *spec.nonmembers)
    code, out, err = command("audit", spec.model, *sides, "--slow", "-o", tmp_path / "d", "--dry-run")
    assert code == 0, err
    assert "Slow attacks take passes of their own: draw neighbours of 113 records" in " ".join(out.split())
    assert not (tmp_path / "d").exists()


def test_a_run_sends_as_many_tokens_as_a_dry_run_says(wish, tmp_path):
    spec = wish(out=str(tmp_path / "a"))
    said = estimate_audit(spec).n_tokens
    result = run_audit(spec).result
    assert said == sum(result.slow.n_tokens.values()) + result.scoring["tokens"]


def test_the_list_of_attacks_states_the_passes(command):
    code, out, _ = command("attacks", "--json")
    costs = {entry["name"]: entry["cost"] for entry in json.loads(out)}
    assert code == 0
    assert {name: costs[name] for name in SLOW} == {
        "neighbourhood": "(2 + N) F",
        "spv_mia": "(3 + 2N) F",
        "recall": "2 F",
    }
    assert "N: altered copies of each record" in command("attacks")[1]


# --- what is said -------------------------------------------------------------------------------------


def test_every_report_says_what_was_altered(done, command):
    html = (done.path / "report.html").read_text()
    for words in ("Altered copies.", "with 3 copies of it, in which 20 % of the audited tokens", "Slow attacks"):
        assert words in html
    assert "2 set aside for the prefix of recall" in html
    assert "What two forward passes give" not in html
    assert "is the base; as published it takes one tuned on samples of the target" in FORMATS["markdown"](done)
    code, out, _ = command("report", done.path)
    assert code == 0
    assert "the target has no part in what is replaced" in " ".join(out.split())
    code, out, err = command("verify", done.path)
    assert code == 0, out + err


@pytest.mark.parametrize(
    ("headline", "words"),
    [
        ("neighbourhood", "needs 5 forward passes per text, 3 of them over altered copies"),
        ("spv_mia", "needs 9 forward passes per text, 6 of them over altered copies"),
        ("recall", "needs 2 forward passes per text, one of them behind"),
    ],
)
def test_the_verdict_says_what_a_slow_headline_takes(headline, words, done, wish):
    where = {"store": str(store_path(wish())), "out": str(done.path.parent / headline)}
    run = run_audit(wish(headline=headline, **where))
    assert words in verdict_of(run.result).threat_model
    assert run.result.slow.n_tokens == NOTHING_DONE


# --- what is wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"slow": False, "neighbours": 10, "recall_shots": 7, "attacks": "recall"},
            r"Attack 'recall' takes many passes over altered copies.*Add --slow, or leave the attack out",
        ),
        ({"slow": False, "recall_shots": 7}, r"--neighbours is for the attacks that --slow adds\. Add --slow"),
        ({"slow": False, "neighbours": 10}, r"--recall-shots is for the attacks that --slow adds"),
        ({"attacks": "loss"}, r"--slow is for attacks on altered copies, and none was asked for"),
        ({"attacks": "neighbourhood"}, r"--recall-shots is for recall, which was not asked for"),
        ({"attacks": "recall"}, r"--neighbours is for attacks on neighbours, and none was asked for"),
        ({"recall_prefix": "x.jsonl"}, r"File 'x\.jsonl' does not exist"),
        (
            {"recall_prefix": "x.jsonl", "pool": "x.jsonl"},
            r"--pool is what shadow models are trained on, or the prefix",
        ),
    ],
)
def test_requests_that_make_no_sense_are_refused(wish, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_audit(wish(**changes))
