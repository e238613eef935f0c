"""Audits inside a Trainer: the figures of an audit of the saved checkpoint, and a training that does not notice."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import shutil
import stat
import subprocess
import sys

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

import conftest
from loraudit.auditing import run_audit
from loraudit.data import record_id
from loraudit.errors import ConfigError, DataError, ModelError, StoreError
from loraudit.integrations import AuditCallback, EpochAudit
from loraudit.membership import ATTACKS, Attack
from loraudit.models.live import holds_its_base, live_resident, precision_of, undisturbed, whole_module
from loraudit.spec import RecordFormat, make_audit_spec
from loraudit.store import EvidenceStore
from loraudit.types import Record

STEPS_PER_EPOCH = 8
LORA = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def full_model(base):
    """With dropout, so that training draws random numbers in every step."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attention_dropout=0.1)


def lora_model(base, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return peft.get_peft_model(full_model(base), peft.LoraConfig(**(LORA | changes)))


def collate(rows):
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = labels[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
    return {"input_ids": ids, "labels": labels, "attention_mask": (labels >= 0).long()}


@pytest.fixture(scope="module")
def rows(texts, tokenizer):
    return [{"input_ids": tokenizer(text)["input_ids"][: conftest.CONTEXT]} for text in texts[:60]]


@pytest.fixture
def trained(rows, tokenizer, tmp_path):
    return lambda model, *callbacks, **changes: make_trainer(
        rows, tokenizer, changes.pop("folder", tmp_path / "out"), model, *callbacks, **changes
    )


def make_trainer(rows, tokenizer, folder, model, *callbacks, **changes):
    options = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-2,
        "save_strategy": "no",
        "logging_strategy": "epoch",
        "disable_tqdm": True,
        "report_to": [],
        "use_cpu": True,
        "seed": 4,
    }
    own = {"train_dataset": rows, "processing_class": tokenizer, "data_collator": collate}
    own |= {name: changes.pop(name) for name in list(changes) if name in {*own, "eval_dataset"}}
    arguments = TrainingArguments(str(folder), **(options | changes))
    with contextlib.redirect_stdout(None):
        return Trainer(model, arguments, callbacks=list(callbacks), **own)


def quick(record_files, **changes):
    """A callback that costs little."""
    options = {"attacks": "loss", "resamples": 100} | changes
    return AuditCallback(str(record_files[0]), str(record_files[1]), **options)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def audited(checkpoint, record_files, folder, **options):
    return run_audit(
        make_audit_spec(
            {
                "model": str(checkpoint),
                "members": str(record_files[0]),
                "nonmembers": str(record_files[1]),
                "resamples": 500,
                "out": str(folder),
                **options,
            }
        )
    )


def assert_same_figures(entry: EpochAudit, run):
    """Every finding of every attack, interval included, and what follows for single records and gates."""
    result = run.result
    assert entry.error is None
    assert list(entry.findings) == [attack.name for attack in result.membership.attacks if attack.status == "ok"]
    assert len(entry.findings) > 12
    for attack in result.membership.attacks:
        if attack.status != "ok":
            continue
        for metric, expected in attack.findings.items():
            found = entry.findings[attack.name][metric]
            for part in ("value", "lower", "upper"):
                one, two = getattr(found, part), getattr(expected, part)
                assert one == two or one == pytest.approx(two, abs=1e-5), (attack.name, metric, part)
    assert entry.n_exposed == result.membership.records.n_exposed
    assert set(entry.failed_gates) == {gate.name for gate in result.validity.failed}


# --- the same figures as an audit of the saved checkpoint -----------------------------------------------


@pytest.fixture(scope="module", params=["full", "lora"])
def finished(request, base, rows, tokenizer, record_files, tmp_path_factory):
    """A training with a checkpoint at each epoch: its trainer and callback."""
    model = full_model(base) if request.param == "full" else lora_model(base)
    callback = AuditCallback(str(record_files[0]), str(record_files[1]))
    folder = tmp_path_factory.mktemp(request.param)
    changes = {"save_strategy": "epoch", "eval_strategy": "epoch", "eval_dataset": rows[:4]}
    trainer = make_trainer(rows, tokenizer, folder, model, callback, **changes)
    trainer.train()
    return request.param, folder, trainer, callback


@pytest.mark.parametrize("epoch", [1, 3])
def test_figures_equal_those_of_an_audit_of_the_checkpoint(finished, epoch, base, record_files, tmp_path):
    kind, folder, _, callback = finished
    run = audited(folder / f"checkpoint-{epoch * STEPS_PER_EPOCH}", record_files, tmp_path / "run", base=str(base))
    entry = callback.history[epoch - 1]
    assert (entry.epoch, entry.step) == (epoch, epoch * STEPS_PER_EPOCH)
    assert entry.reference == ("the model at the start of training" if kind == "full" else "the adapter switched off")
    assert_same_figures(entry, run)


def test_evidence_equals_that_of_the_checkpoint(finished, base, record_files, tmp_path):
    _, folder, trainer, callback = finished
    audited(folder / "checkpoint-24", record_files, tmp_path / "run", base=str(base), attacks="loss", resamples=100)
    prepared = callback._audit.prepared
    with undisturbed(trainer.model):
        tables = {
            "target": prepared.score(live_resident(trainer.model), "target"),
            "reference": callback._audit.reference,
        }
    stored = []
    for place in (tmp_path / ".loraudit" / "evidence").iterdir():
        kept = EvidenceStore(tmp_path / ".loraudit").folder(
            {k: v for k, v in json.loads((place / "conditions.json").read_text()).items() if k != "evidence_schema"}
        )
        kept.refresh()
        stored.append(kept.table([record.id for record in prepared.sides.records]))
    for table in tables.values():
        gaps = [np.abs(table.columns["log_prob"] - other.columns["log_prob"]).max() for other in stored]
        assert min(gaps) < 1e-5


def test_the_history_says_what_was_trained_and_evaluated(finished):
    kind, folder, trainer, callback = finished
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    evaluated = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [entry.training_loss for entry in callback.history] == [entry["loss"] for entry in logged]
    assert [entry.validation_loss for entry in callback.history] == [entry["eval_loss"] for entry in evaluated]
    lines = (folder / "loraudit" / "audits.jsonl").read_text(encoding="utf-8").splitlines()
    assert [EpochAudit.model_validate_json(line) for line in lines] == callback.history
    assert stat.S_IMODE((folder / "loraudit" / "audits.jsonl").stat().st_mode) == 0o600
    if kind == "full":  # the adapter learns next to nothing in three epochs
        areas = [entry.findings["error_zone"]["auc"].value for entry in callback.history]
        assert areas[0] < areas[-1] > 0.6


def test_the_trainer_state_holds_the_headline_with_its_interval(finished):
    _, folder, _, callback = finished
    state = json.loads((folder / "checkpoint-24" / "trainer_state.json").read_text())
    found = [entry for entry in state["log_history"] if "loraudit/auc" in entry]
    assert [(entry["epoch"], entry["step"]) for entry in found] == [(1, 8), (2, 16), (3, 24)]
    area = callback.history[-1].findings["error_zone"]["auc"]
    assert found[-1]["loraudit/auc"] == area.value
    assert (found[-1]["loraudit/auc_lower95"], found[-1]["loraudit/auc_upper95"]) == (area.lower, area.upper)
    assert found[-1]["loraudit/n_members"] == 60
    assert "loraudit/tpr_at_fpr_10pct" in found[-1]
    assert "loraudit/tpr_at_fpr_0_1pct" not in found[-1]  # 60 non-members cannot resolve it


def test_fewer_records_are_drawn_as_an_audit_draws_them(base, trained, record_files, tmp_path):
    callback = AuditCallback(*map(str, record_files), max_records=40, seed=3, span="all", append_eos=True)
    trainer = trained(lora_model(base), callback, num_train_epochs=1, save_strategy="epoch")
    trainer.train()
    options = {"max_records": 40, "seed": 3, "span": "all", "append_eos": True}
    run = audited(tmp_path / "out" / "checkpoint-8", record_files, tmp_path / "run", **options)
    assert_same_figures(callback.history[0], run)
    assert callback.history[0].n_members == 40


def test_weights_are_scored_as_they_are_under_mixed_precision(base, trained, record_files, tmp_path):
    callback = AuditCallback(*map(str, record_files))
    trained(full_model(base), callback, num_train_epochs=1, save_strategy="epoch", bf16=True).train()
    run = audited(tmp_path / "out" / "checkpoint-8", record_files, tmp_path / "run", base=str(base))
    assert_same_figures(callback.history[0], run)


# --- training does not notice ---------------------------------------------------------------------------


class RandomStates(TrainerCallback):
    """What the random generators hold at each step."""

    def __init__(self):
        self.states = []

    def on_step_end(self, args, state, control, **kwargs):
        numpy_state = np.random.get_state()  # noqa: NPY002
        self.states.append((torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist(), numpy_state[2]))


@pytest.mark.parametrize("kind", [full_model, lora_model])
@pytest.mark.parametrize("changes", [{}, {"bf16": True, "gradient_checkpointing": True}], ids=["plain", "mixed"])
def test_training_is_the_same_bit_by_bit(base, trained, record_files, kind, changes, tmp_path):
    outcomes = []
    for callbacks in ([], [quick(record_files, base=str(base) if changes else None)]):
        states = RandomStates()
        folder = tmp_path / str(len(callbacks))
        trainer = trained(kind(base), states, *callbacks, num_train_epochs=2, folder=folder, **changes)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        outcomes.append((weights(trainer.model), states.states, losses))
        assert all(entry.error is None for callback in callbacks for entry in callback.history)
    assert same(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1:] == outcomes[1][1:]


def test_modes_flags_gradients_and_random_states_are_put_back(base):
    model = lora_model(base)
    model.train()
    model.base_model.model.model.layers[1].eval()  # frozen in evaluation mode by whoever trains
    frozen = next(p for name, p in model.named_parameters() if "lora_A" in name)
    frozen.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    before = (
        [part.training for part in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if p.grad is None else id(p.grad) for p in model.parameters()],
        torch.get_rng_state().tolist(),
        random.getstate(),
    )
    with undisturbed(model):
        assert not any(part.training for part in model.modules())
        resident = live_resident(model)
        with resident.views["reference"]():
            model(input_ids=torch.tensor([[1, 2, 3]]))
        torch.rand(3)
        random.random()
    after = (
        [part.training for part in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if p.grad is None else id(p.grad) for p in model.parameters()],
        torch.get_rng_state().tolist(),
        random.getstate(),
    )
    assert before == after


def test_what_was_changed_is_put_back_after_an_error(base):
    model = full_model(base).train()
    state = torch.get_rng_state()

    def fail():
        with undisturbed(model):
            torch.rand(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


# --- stopping -------------------------------------------------------------------------------------------


def test_training_stops_when_a_limit_comes_true(base, trained, record_files, caplog):
    callback = quick(record_files, stop_if=["membership.auc.value > 0.65", "validity.n_failed > 5"])
    trainer = trained(full_model(base), callback, num_train_epochs=20)
    trainer.train()
    assert len(callback.history) < 20
    last = callback.history[-1]
    assert trainer.state.global_step == last.step == STEPS_PER_EPOCH * len(callback.history)
    assert [outcome.limit for outcome in last.exceeded] == ["membership.auc.value > 0.65"]
    assert not any(entry.exceeded for entry in callback.history[:-1])
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name == "loraudit"]
    (line,) = [text for text in said if text.startswith("Training stops")]
    assert (
        f"limit 'membership.auc.value > 0.65' came true, measured {last.exceeded[0].measured:.4g}, which is > " in line
    )


def test_training_goes_on_while_limits_hold(base, trained, record_files):
    callback = quick(record_files, stop_if="membership.auc.lower95 > 0.99")
    trainer = trained(full_model(base), callback, num_train_epochs=2)
    trainer.train()
    assert trainer.state.global_step == 2 * STEPS_PER_EPOCH
    assert [entry.limits[0].status for entry in callback.history] == ["holds", "holds"]


def test_a_limit_that_cannot_be_read_is_refused_when_it_is_written(record_files):
    with pytest.raises(ConfigError, match=r"Limit 'auc > 0.6' begins with 'auc'"):
        quick(record_files, stop_if="auc > 0.6")


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("membership.tpr_at_fpr_0_1pct.upper95 > 0.1", "Cannot state TPR at 0.1 % FPR from 60 non-members"),
        ("membership.min_k.auc.value > 0.1", "this run has no attack 'min_k'"),
        ("membership.acu.value > 0.1", "did you mean 'auc'"),
        ("validity.documents.failed > 0", "no column names documents"),
    ],
)
def test_a_limit_that_these_records_cannot_measure_is_refused_before_the_first_step(
    base, trained, record_files, limit, reason
):
    trainer = trained(full_model(base), quick(record_files, stop_if=limit))
    with pytest.raises(ConfigError, match=f"cannot stop the training: .*{reason}"):
        trainer.train()
    assert trainer.state.global_step == 0


# --- what it is compared with ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [full_model, lora_model])
def test_a_resumed_training_has_the_figures_of_one_that_was_not_interrupted(
    base, trained, record_files, kind, tmp_path
):
    callback = quick(record_files)
    trained(kind(base), callback, save_strategy="epoch").train()
    shutil.rmtree(tmp_path / "out" / "checkpoint-24")
    again = quick(record_files)
    trainer = trained(kind(base), again, save_strategy="epoch")
    trainer.train(resume_from_checkpoint=True)
    assert [entry.step for entry in again.history] == [8, 16, 24]
    assert again.history[:2] == callback.history[:2]
    for name, findings in callback.history[2].findings.items():
        assert again.history[2].findings[name]["auc"].value == pytest.approx(findings["auc"].value, abs=1e-5)
    lines = (tmp_path / "out" / "loraudit" / "audits.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


def resumed(trained, base, callback, **changes):
    trainer = trained(full_model(base), callback, save_strategy="epoch", **changes)
    trainer.train(resume_from_checkpoint=True)
    return callback.history


def test_a_resumed_training_that_has_lost_its_start_needs_the_base(base, trained, record_files, tmp_path):
    first = quick(record_files, folder=tmp_path / "kept")
    trained(full_model(base), first, save_strategy="epoch").train()
    shutil.rmtree(tmp_path / "out" / "checkpoint-24")
    other = quick(record_files, folder=tmp_path / "other")
    with pytest.raises(ConfigError, match=r"no longer those it started from.*other' holds nothing on these records"):
        resumed(trained, base, other)
    fewer = quick(record_files, folder=tmp_path / "kept", max_records=20, append_eos=True)
    with pytest.raises(ConfigError, match=r"kept' holds nothing on these records as this tokenizer reads them"):
        resumed(trained, base, fewer)
    with_base = resumed(trained, base, quick(record_files, folder=tmp_path / "other", base=base))
    assert [entry.reference for entry in with_base] == [f"base '{base}'"]
    assert with_base[0].findings["error_zone"]["auc"].value == pytest.approx(
        first.history[2].findings["error_zone"]["auc"].value, abs=1e-5
    )


def test_a_training_that_began_without_the_callback_cannot_be_joined_without_the_base(
    base, trained, record_files, tmp_path
):
    trained(full_model(base), save_strategy="epoch", num_train_epochs=1).train()
    with pytest.raises(ConfigError, match="the training began without AuditCallback"):
        resumed(trained, base, quick(record_files))


def test_an_adapter_can_be_joined_at_any_time(base, trained, record_files):
    trained(lora_model(base), save_strategy="epoch", num_train_epochs=1).train()
    callback = quick(record_files)
    trainer = trained(lora_model(base), callback, save_strategy="epoch", num_train_epochs=2)
    trainer.train(resume_from_checkpoint=True)
    assert [entry.reference for entry in callback.history] == ["the adapter switched off"]


def test_training_again_keeps_the_first_start(base, trained, record_files):
    callback = quick(record_files)
    trainer = trained(full_model(base), callback, num_train_epochs=1)
    trainer.train()
    start = callback._audit.reference
    trainer.train()
    assert callback._audit.reference is start
    other = trained(full_model(base), callback, num_train_epochs=1)
    other.train()
    assert callback._audit.reference is not start


def test_a_base_that_is_an_adapter_is_refused(base, adapter, trained, record_files):
    trainer = trained(full_model(base), quick(record_files, base=adapter))
    with pytest.raises(ModelError, match=r"is an adapter. Expected a full checkpoint"):
        trainer.train()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"init_lora_weights": "gaussian"}, True),
        ({"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}, True),
        ({"init_lora_weights": "pissa"}, False),
        ({"init_lora_weights": "olora"}, False),
    ],
)
def test_an_adapter_that_rewrites_its_base_is_compared_with_the_start(base, changes, expected):
    model = lora_model(base, **changes)
    assert holds_its_base(model) is expected
    assert set(live_resident(model).views) == ({"target", "reference"} if expected else {"target"})
    assert not holds_its_base(full_model(base))


def test_an_adapter_whose_base_is_trained_too_is_compared_with_the_start(base):
    model = lora_model(base)
    model.get_base_model().model.norm.weight.requires_grad_(True)
    assert not holds_its_base(model)


# --- what is refused, and when --------------------------------------------------------------------------


def test_a_record_on_both_sides_is_refused_before_the_first_step(base, trained, texts):
    trainer = trained(full_model(base), AuditCallback(texts[:60], texts[59:]))
    with pytest.raises(DataError, match=r"1 of 61 non-members are members too.*\n  nonmembers:1 is members:60"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_rows_that_cannot_be_used_are_listed(base, trained, texts):
    members = [{"text": texts[0]}, {"txt": texts[1]}, 3]
    trainer = trained(full_model(base), AuditCallback(members, texts[60:]))
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used") as raised:
        trainer.train()
    assert "members:2: has none of the columns" in str(raised.value)
    assert "members:3: is an int, not a text, a row of columns or a record" in str(raised.value)


def test_a_side_that_cannot_be_scored_is_refused(base, trained, texts):
    trainer = trained(full_model(base), AuditCallback(["", " "][:1], texts[60:]))
    with pytest.raises(DataError, match="None of the 1 member records could be scored"):
        trainer.train()


def test_a_rate_that_the_records_cannot_resolve_is_refused_if_it_was_asked_for(base, trained, record_files):
    trainer = trained(full_model(base), quick(record_files, fpr=0.001))
    with pytest.raises(ConfigError, match=r"Cannot state TPR at 0.1 % FPR from 60 non-members"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacks": "mink"}, "Unknown attack 'mink'"),
        ({"headline": "eror_zone"}, "Did you mean 'error_zone'"),
        ({"resamples": 3}, "'resamples' has the value 3"),
        ({"max_records": 0}, "'max-records' has the value 0"),
        ({"span": "some"}, "'span' has the value 'some'"),
    ],
)
def test_a_malformed_request_is_refused_when_it_is_written(record_files, options, message):
    with pytest.raises(ConfigError, match=message):
        quick(record_files, **options)


def test_a_file_that_does_not_exist_is_refused_when_it_is_written(record_files, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.jsonl' does not exist"):
        AuditCallback([str(record_files[0]), str(tmp_path / "nowhere.jsonl")], str(record_files[1]))


def test_attacks_that_need_other_models_are_refused_if_they_were_named(monkeypatch, record_files):
    shadow = Attack("shadowed", lambda views: np.zeros(len(views.target)), ("shadow/0",), "s", "s", "1 F")
    monkeypatch.setitem(ATTACKS._entries, "shadowed", shadow)
    with pytest.raises(ConfigError, match="Attacks shadowed need more than the model in training"):
        quick(record_files, attacks=["shadowed"])
    request = AuditCallback(str(record_files[0]), str(record_files[1]))._request
    assert "shadowed" not in [attack.name for attack in request.attacks]


def test_a_trainer_without_tokenizer_is_refused(base, trained, record_files):
    trainer = trained(full_model(base), quick(record_files), processing_class=None)
    with pytest.raises(ConfigError, match=r"The trainer has no tokenizer.*processing_class=tokenizer"):
        trainer.train()


def test_the_tokenizer_may_come_under_its_old_name_or_inside_a_processor(base, trained, record_files, tokenizer):
    from loraudit.integrations.callback import _tokenizer

    assert _tokenizer({"tokenizer": tokenizer}) is tokenizer
    assert _tokenizer({"processing_class": type("Processor", (), {"tokenizer": tokenizer})()}) is tokenizer
    with pytest.raises(ConfigError, match="was given a dict in place of a tokenizer"):
        _tokenizer({"processing_class": {}})


def test_a_window_longer_than_the_context_is_refused(base, trained, record_files):
    trainer = trained(full_model(base), quick(record_files, max_length=65))
    with pytest.raises(ConfigError, match="Window length 65 is longer than the model's context of 64 tokens"):
        trainer.train()


def test_a_model_of_another_kind_is_refused(base, trained, record_files):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(base)
    trainer = trained(model, quick(record_files))
    with pytest.raises(ModelError, match="Expected a causal language model"):
        trainer.train()


def test_a_headline_that_fails_on_these_records_is_refused(monkeypatch, base, trained, record_files):
    def score(views):
        raise ValueError("no")

    monkeypatch.setitem(ATTACKS._entries, "broken", Attack("broken", score, ("target",), "s", "s", "1 F"))
    trainer = trained(full_model(base), quick(record_files, headline="broken"))
    with pytest.raises(ConfigError, match="headline attack 'broken' fails on these records: ValueError: no"):
        trainer.train()


def test_weights_spread_over_processes_are_refused(base, trained, record_files):
    model = full_model(base)
    next(model.parameters()).ds_id = 0
    trainer = trained(model, quick(record_files))
    with pytest.raises(ModelError, match="spread over processes by DeepSpeed ZeRO-3"):
        trainer.train()


def test_sharded_parameters_are_refused(base, tmp_path):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_module

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = distribute_module(full_model(base), init_device_mesh("cpu", (1,)))
        with pytest.raises(ModelError, match="spread over processes by FSDP or tensor parallelism"):
            whole_module(model)
    finally:
        dist.destroy_process_group()


def test_a_wrapped_model_is_unwrapped(base):
    model = full_model(base)
    assert whole_module(torch.nn.DataParallel(model)) is model
    assert whole_module(torch.compile(model)) is model
    assert whole_module(model) is model
    assert precision_of(model.to(torch.bfloat16)) == "bf16"


# --- failures during training ---------------------------------------------------------------------------


def test_an_audit_that_fails_is_recorded_and_training_goes_on(monkeypatch, base, trained, record_files, caplog):
    callback = quick(record_files)
    trainer = trained(full_model(base), callback, num_train_epochs=3)
    trainer.add_callback(breaking(monkeypatch, {8: MemoryError("out of memory"), 16: ModelError("NaN")}))
    trainer.train()
    assert trainer.state.global_step == 24
    assert [entry.error for entry in callback.history] == ["MemoryError: out of memory", "ModelError: NaN", None]
    assert callback.history[0].findings == {}
    assert [entry["step"] for entry in trainer.state.log_history if "loraudit/auc" in entry] == [24]
    warned = [record for record in caplog.records if "training goes on" in record.getMessage()]
    assert [bool(record.exc_info) for record in warned] == [True, False]  # a bug keeps its traceback


def breaking(monkeypatch, errors):
    """Makes scoring fail at some steps."""
    from loraudit.integrations import live_audit

    real, now = live_audit.score_resident, [0]

    def score(*args):
        if now[0] in errors:
            raise errors[now[0]]
        return real(*args)

    monkeypatch.setattr(live_audit, "score_resident", score)

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            now[0] = state.global_step

    return Clock()


def test_an_attack_that_fails_later_is_recorded(monkeypatch, base, trained, record_files, caplog):
    def score(views):
        if np.abs(views.log_ratio).max() > 0:
            raise ValueError("only after training")
        return np.zeros(len(views.target))

    moody = Attack("moody", score, ("target", "reference"), "s", "s", "2 F")
    monkeypatch.setitem(ATTACKS._entries, "moody", moody)
    callback = quick(record_files, attacks="moody", stop_if="membership.moody.auc.value > 0.9")
    trainer = trained(full_model(base), callback, num_train_epochs=1)
    trainer.train()
    (entry,) = callback.history
    assert entry.failed_attacks == {"moody": "ValueError: only after training"}
    assert set(entry.findings) == {"error_zone"}
    assert entry.limits[0].status == "not_measured"
    assert "was not checked after epoch 1" in caplog.text


def test_a_headline_that_fails_later_is_said(monkeypatch, base, trained, record_files, caplog):
    def score(views):
        return np.full(len(views.target), np.nan if np.abs(views.log_ratio).max() > 0 else 0.0)

    monkeypatch.setitem(ATTACKS._entries, "blank", Attack("blank", score, ("target", "reference"), "s", "s", "2 F"))
    callback = quick(record_files, headline="blank")
    with caplog.at_level(logging.INFO, "loraudit"):
        trained(full_model(base), callback, num_train_epochs=1).train()
    assert "Epoch 1: blank gave no AUC" in caplog.text
    assert callback.history[0].n_exposed is None


def test_a_full_disk_does_not_stop_the_training(monkeypatch, base, trained, record_files, caplog):
    from loraudit.integrations import callback as module

    def full(*args):
        raise StoreError("'audits.jsonl' cannot be written: No space left on device.")

    callback = quick(record_files)
    monkeypatch.setattr(module, "write_atomically", full)
    trainer = trained(full_model(base), callback, num_train_epochs=1)
    trainer.train()
    assert trainer.state.global_step == 8
    assert len(callback.history) == 1
    assert "No space left on device" in caplog.text


def test_a_damaged_file_of_audits_is_refused_on_resuming(base, trained, record_files, tmp_path):
    trained(full_model(base), quick(record_files), save_strategy="epoch", num_train_epochs=1).train()
    (tmp_path / "out" / "loraudit" / "audits.jsonl").write_text("{")
    with pytest.raises(StoreError, match=r"audits.jsonl' cannot be read \(ValidationError\).*Move it away"):
        resumed(trained, base, quick(record_files))


def test_sides_of_two_kinds_are_warned_of_before_the_first_step(base, trained, texts, caplog):
    callback = AuditCallback(texts[:60], [text.upper() for text in texts[60:]], attacks="loss", resamples=100)
    trained(full_model(base), callback, num_train_epochs=1).train()
    assert "Members and non-members differ by more than training (zlib_ratio" in caplog.text
    assert "zlib_ratio" in callback.history[0].failed_gates


# --- where numbers go -----------------------------------------------------------------------------------


class Logger(TrainerCallback):
    """Some other logger of the trainer."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


def test_numbers_reach_every_logger_through_the_trainer(base, trained, record_files, caplog):
    logger = Logger()
    trainer = trained(full_model(base), logger, num_train_epochs=2)
    callback = quick(record_files, log=trainer.log)
    trainer.add_callback(callback)
    with caplog.at_level(logging.INFO, "loraudit"):
        trainer.train()
    seen = [logs for logs in logger.logs if "loraudit/auc" in logs]
    assert [logs["epoch"] for logs in seen] == [1.0, 2.0]
    assert len([logs for logs in logger.logs if "loss" in logs]) == 2  # the epoch's own log is not lost
    assert [entry.training_loss is None for entry in callback.history] == [False, False]
    assert len([entry for entry in trainer.state.log_history if "loraudit/auc" in entry]) == 2
    assert "Epoch 2: AUC " in caplog.text
    assert "(n = 60 members and 60 non-members)" in caplog.text


def test_losses_logged_by_steps_are_those_since_the_audit_before(base, trained, record_files):
    callback = quick(record_files)
    trainer = trained(full_model(base), callback, num_train_epochs=2, logging_strategy="steps", logging_steps=3)
    trainer.train()
    logged = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    assert [entry.training_loss for entry in callback.history] == [logged[6], logged[15]]
    assert [entry.validation_loss for entry in callback.history] == [None, None]


# --- records from anywhere ------------------------------------------------------------------------------


def test_records_may_come_from_anywhere(texts, record_files, tmp_path):
    def as_record(text):
        return Record(record_id(text=text), "notebook", 1, text=text)

    halves = []
    for i, part in enumerate((texts[:30], texts[30:60])):
        path = tmp_path / f"{i}.txt"
        path.write_text("\n".join(part), encoding="utf-8")
        halves.append(path)
    forms = [
        (record_files[0], record_files[1]),
        (halves, str(record_files[1])),
        ([str(path) for path in halves], [record_files[1]]),
        (texts[:60], tuple(texts[60:])),
        ([as_record(text) for text in texts[:60]], (text for text in texts[60:])),
        ([{"body": text} for text in texts[:60]], texts[60:]),
    ]
    for members, nonmembers in forms:
        layout = RecordFormat(text_field="body") if members is forms[-1][0] else None
        request = AuditCallback(members, nonmembers, record_format=layout)._request
        for _ in range(2):  # a generator is read once and kept
            sides = request.load()
            assert [record.text for record in sides.records] == texts


def test_a_training_that_ends_within_an_epoch_is_audited_there(base, trained, record_files):
    callback = quick(record_files)
    trained(lora_model(base), callback, max_steps=3).train()
    assert [(entry.epoch, entry.step) for entry in callback.history] == [(3 / STEPS_PER_EPOCH, 3)]


# --- precision ------------------------------------------------------------------------------------------


def test_weights_that_need_mixed_precision_to_fit_together_are_run_with_it(base, trained, record_files):
    model = full_model(base)
    for layer in model.model.layers:
        layer.mlp.to(torch.bfloat16)
    callback = quick(record_files)
    trained(model, callback, num_train_epochs=1, bf16=True).train()
    assert callback.history[0].error is None
    assert callback.history[0].findings["loss"]["auc"].value is not None


# --- the package ----------------------------------------------------------------------------------------


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, loraudit.integrations; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names_that_are_not_there_are_refused():
    import loraudit.integrations

    assert loraudit.integrations.AuditCallback is AuditCallback
    with pytest.raises(AttributeError, match="has no attribute 'Secret'"):
        loraudit.integrations.Secret  # noqa: B018


# --- TRL ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # whatever the installed version warns of
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("form", ["text", "completion"])
def test_figures_inside_an_sft_trainer_equal_those_of_an_audit(base, texts, tokenizer, tmp_path, kind, form):
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    rows = [{"text": text} if form == "text" else {"prompt": text[:20], "completion": text[20:]} for text in texts]
    sides = [datasets.Dataset.from_list(part) for part in (rows[:60], rows[60:])]
    files = [tmp_path / "members.jsonl", tmp_path / "nonmembers.jsonl"]
    for path, side in zip(files, sides, strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in side), encoding="utf-8")
    arguments = trl.SFTConfig(
        str(tmp_path / "out"),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=2e-2,
        save_strategy="epoch",
        logging_strategy="epoch",
        max_length=conftest.CONTEXT,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    trainer = trl.SFTTrainer(
        full_model(base),
        arguments,
        train_dataset=sides[0],
        processing_class=type(tokenizer).from_pretrained(base),
        peft_config=peft.LoraConfig(**LORA) if kind == "lora" else None,
    )
    callback = AuditCallback(*sides, append_eos=True, log=trainer.log)
    trainer.add_callback(callback)
    trainer.train()
    for epoch in (1, 2):
        run = audited(
            tmp_path / "out" / f"checkpoint-{epoch * STEPS_PER_EPOCH}",
            files,
            tmp_path / f"run-{epoch}",
            base=str(base),
            append_eos=True,
        )
        assert_same_figures(callback.history[epoch - 1], run)
    assert [entry.training_loss is None for entry in callback.history] == [False, False]
    assert len([entry for entry in trainer.state.log_history if "loraudit/auc" in entry]) == 2


# --- several processes ----------------------------------------------------------------------------------

ON_TWO_PROCESSES = """
import json, os, sys
from pathlib import Path

sys.path[:0] = sys.argv[1:3]
import test_trainer_callback as shared
from loraudit.integrations import AuditCallback
from transformers import AutoTokenizer

base, members, nonmembers, folder = sys.argv[3:]
tokenizer = AutoTokenizer.from_pretrained(base)
texts = [json.loads(line)["text"] for line in Path(members).read_text().splitlines()]
rows = [{"input_ids": tokenizer(text)["input_ids"][:64]} for text in texts]
callback = AuditCallback(members, nonmembers, attacks="loss", resamples=100, stop_if="membership.auc.value > 0.6")
trainer = shared.make_trainer(
    rows, tokenizer, folder, shared.full_model(base), callback, num_train_epochs=30, per_device_train_batch_size=4,
    ddp_backend="gloo",
)
trainer.train()
found = {"step": trainer.state.global_step, "audits": len(callback.history)}
Path(folder, f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_of_several_processes_one_audits_and_all_stop(base, record_files, tmp_path):
    from pathlib import Path

    script = tmp_path / "script.py"
    script.write_text(ON_TWO_PROCESSES)
    here = Path(__file__).resolve()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    subprocess.run([*command, here.parent, here.parents[1], base, *record_files, tmp_path], check=True, timeout=300)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first["step"] == second["step"] == STEPS_PER_EPOCH * first["audits"] < 30 * STEPS_PER_EPOCH
    assert second["audits"] == 0


# --- the page about it ----------------------------------------------------------------------------------


def blocks():
    from pathlib import Path

    page = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
    return [part.split("```")[0] for part in page.read_text(encoding="utf-8").split("```python\n")[1:]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_blocks", [1, 2], ids=["trainer", "trl"])
def test_the_examples_of_the_page_run(n_blocks, tmp_path, monkeypatch):
    if n_blocks == 2:
        pytest.importorskip("trl")
        pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks()[:n_blocks]:
        exec(block, names)  # noqa: S102
    assert [audit.error for audit in names["callback"].history] == [None] * (2 if n_blocks == 1 else 3)
    assert (tmp_path / ("out" if n_blocks == 1 else "out-sft") / "loraudit" / "audits.jsonl").exists()


def test_the_page_names_every_argument_and_column():
    import inspect
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
    assert [name for name in inspect.signature(AuditCallback).parameters if f"`{name}`" not in page] == []
