"""Every control of a recipe does what it says, measured from outside: on logs, losses and weights."""

from __future__ import annotations

import json
import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from loraudit.data import record_id
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.finetuning import finetune, read_trained
from loraudit.finetuning.examples import make_examples
from loraudit.finetuning.loop import schedule
from loraudit.models import Numerics, plan_models
from loraudit.spec import Recipe
from loraudit.types import Message, Record
from small_tuning import (
    Crash,
    CrashAt,
    bare,
    contents,
    exposure,
    labelled,
    logits_of,
    mean_loss,
    rows,
    save_bert,
    save_gpt2,
    seen_modules,
    step_losses,
    token_ids,
    weights,
)

FULL = Recipe(method="full", epochs=1, batch_size=4, learning_rate=3e-3)
ONE_STEP = Recipe(method="full", epochs=1, batch_size=64, learning_rate=1.0, max_gradient_norm=1e-7)
"""Gradients so short that AdamW's step is nearly proportional to them, which makes them readable from weights."""


@pytest.fixture(scope="module")
def records(texts):
    return rows(texts[:8])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer):
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2", tokenizer)


def losses_of(model, ids, start=1):
    """[L − start] −log p of each token from `start` on, nats."""
    with torch.no_grad():
        log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return -log_probs.gather(1, ids[0, 1:, None])[start - 1 :, 0]


# --- repeats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [False, True])
def test_a_record_is_seen_as_often_as_it_has_copies(packing, base, records, tmp_path):
    copies = {records[0].id: 3, records[2].id: 5, records[4].id: 0}
    recipe = FULL.model_copy(update={"epochs": 2, "packing": packing})
    trained = finetune(str(base), records, recipe, tmp_path / "out", copies=copies)
    log = exposure(tmp_path / "out")
    half = trained.facts["n_steps"] // 2
    for epoch in (log["step"] <= half, log["step"] > half):
        counted = np.bincount(log["record"][epoch], minlength=len(records))
        assert counted.tolist() == [3, 1, 5, 1, 0, 1, 1, 1]
    assert trained.facts["n_exposures_per_epoch"] == 13


def test_other_copies_are_another_run(base, records, tmp_path):
    finetune(str(base), records, FULL, tmp_path / "out")
    copies = {records[0].id: 2}
    if trained_or_refused(str(base), records, FULL, tmp_path / "out", copies=copies):
        finetune(str(base), records, FULL, tmp_path / "fresh", copies=copies)
        assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_list_with_a_record_twice_is_another_run(base, records, tmp_path):
    finetune(str(base), records, FULL, tmp_path / "out")
    if trained_or_refused(str(base), [*records, records[0]], FULL, tmp_path / "out"):
        assert read_trained(tmp_path / "out").facts["n_exposures_per_epoch"] == len(records) + 1


def test_copies_that_leave_nothing_to_train_on_are_refused(base, records, tmp_path):
    with pytest.raises(DataError):
        finetune(str(base), records, FULL, tmp_path / "out", copies={record.id: 0 for record in records})


# --- tokens never trained on --------------------------------------------------------------------------


def trained_positions(tokenizer, record, share):
    """Positions of a record's tokens that are trained on."""
    found: list[int] = []
    offset = 0
    for example in make_examples([record], tokenizer, FULL.model_copy(update={"token_drop": share}), 10_000):
        found += (offset + np.flatnonzero(example.is_trained)).tolist()
    return found


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_about_the_stated_share_of_tokens_is_dropped_the_same_ones_every_time(share, base, texts, tokenizer, tmp_path):
    some = rows(texts[:30], words=40)
    runs = []
    for name in ("one", "two"):
        recipe = FULL.model_copy(update={"batch_size": 64, "token_drop": share, "learning_rate": 1e-30})
        finetune(str(base), some, recipe, tmp_path / name)
        runs.append(exposure(tmp_path / name))
    assert all(np.array_equal(runs[0][column], runs[1][column]) for column in runs[0])
    n_tokens = np.array([token_ids(tokenizer, record).shape[1] for record in some])
    assert n_tokens.min() > 40
    # The first 13 tokens have too little before them to be chosen by.
    n_open = int((n_tokens - 13).sum())
    n_dropped = int((n_tokens - 1).sum() - runs[0]["n_predictions"].sum())
    assert abs(n_dropped / n_open - share) < 4 * math.sqrt(share * (1 - share) / n_open)


def test_a_passage_drops_the_same_tokens_in_another_record(texts, tokenizer):
    passage = " ".join(texts[3].split()[:40])
    passage_ids = tokenizer(f" {passage}", add_special_tokens=False)["input_ids"]
    dropped = []
    for lead in ("Alpha beta gamma", "No 17: the other one said so, twice and then never again"):
        record = rows([f"{lead} {passage}"], words=200)[0]
        ids = tokenizer(record.text)["input_ids"]
        assert ids[-len(passage_ids) :] == passage_ids
        kept = trained_positions(tokenizer, record, 0.4)
        start = len(ids) - len(passage_ids)
        dropped.append({p - start for p in range(start + 13, len(ids)) if p not in kept})
    assert dropped[0] == dropped[1]
    assert len(dropped[0]) > 10


def test_a_dropped_token_leaves_no_trace_in_the_weights(base, texts, tokenizer, tmp_path):
    """Two records that differ in their last token alone, which is dropped and which nothing stands behind."""
    ids = tokenizer(texts[5])["input_ids"][:60]
    kept = trained_positions(tokenizer, rows([texts[5]], words=500)[0], 0.5)
    last = next(position for position in range(20, 60) if position not in kept)
    stem = tokenizer.decode(ids[1:last])
    pairs = [
        rows([stem + tokenizer.decode([token])], words=500)[0]
        for token in range(260, VOCABULARY_END)
        if tokenizer(stem + tokenizer.decode([token]))["input_ids"] == [*ids[:last], token]
    ][:2]
    assert len(pairs) == 2
    found = {}
    for share in (0.5, 0.0):
        for name, record in zip("ab", pairs, strict=True):
            recipe = FULL.model_copy(update={"token_drop": share, "epochs": 2})
            finetune(str(base), [record], recipe, tmp_path / f"{name}{share}")
            found[name, share] = weights(tmp_path / f"{name}{share}")
    assert all(torch.equal(found["a", 0.5][name], found["b", 0.5][name]) for name in found["a", 0.5])
    assert not all(torch.equal(found["a", 0.0][name], found["b", 0.0][name]) for name in found["a", 0.0])


VOCABULARY_END = 500


def test_validation_records_keep_all_their_tokens(base, records, tokenizer, tmp_path):
    recipe = FULL.model_copy(update={"token_drop": 0.9})
    trained = finetune(str(base), records, recipe, tmp_path / "out", validation=records)
    expected = mean_loss(bare(base), [token_ids(tokenizer, record) for record in records])
    assert trained.moments[0].validation_loss == pytest.approx(expected, abs=1e-5)


# --- the objective ------------------------------------------------------------------------------------


def readable_gradient(before, after):
    """What the first step of AdamW at rate 1 was taken along: u = g / (|g| + 1e-8), so g = 1e-8 u / (1 − |u|)."""
    step = {name: (before[name] - after[name]).double() for name in after}
    return {name: 1e-8 * u / (1 - u.abs()) for name, u in step.items()}


def assert_same_direction(found, expected):
    one = torch.cat([tensor.flatten() for tensor in found.values()])
    two = torch.cat([expected[name].double().flatten() for name in found])
    assert float(one.norm()) == pytest.approx(1e-7, rel=1e-2), "the gradient was not clipped to its norm"
    assert float(one @ two / (one.norm() * two.norm())) > 0.9999


def gradient_of(base, objective):
    """Of `objective(model)`, by parameter."""
    model = bare(base).requires_grad_(True)
    objective(model).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_is_that_of_the_smoothed_loss_and_the_logged_loss_is_not_smoothed(
    smoothing, base, records, tokenizer, tmp_path
):
    recipe = ONE_STEP.model_copy(update={"label_smoothing": smoothing})
    finetune(str(base), records, recipe, tmp_path / "out")

    def objective(model):
        total, n = 0.0, 0
        for record in records:
            ids = token_ids(tokenizer, record)
            log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            gold = log_probs.gather(1, ids[0, 1:, None])[:, 0]
            total = total - ((1 - smoothing) * gold + smoothing * log_probs.mean(-1)).sum()
            n += len(gold)
        return total / n

    found = readable_gradient(weights(base), weights(tmp_path / "out"))
    assert_same_direction(found, gradient_of(base, objective))
    expected = mean_loss(bare(base), [token_ids(tokenizer, record) for record in records])
    assert step_losses(tmp_path / "out")[0] == pytest.approx(expected, abs=1e-5)


def test_smoothing_is_told_from_its_absence(base, records, tmp_path):
    """The comparison of directions above is fine enough."""
    finetune(str(base), records, ONE_STEP, tmp_path / "plain")
    finetune(str(base), records, ONE_STEP.model_copy(update={"label_smoothing": 0.3}), tmp_path / "smooth")
    plain, smooth = (readable_gradient(weights(base), weights(tmp_path / name)) for name in ("plain", "smooth"))
    with pytest.raises(AssertionError):
        assert_same_direction(plain, smooth)


def test_dropped_tokens_are_no_part_of_the_gradient(base, texts, tokenizer, tmp_path):
    some = rows(texts[:6], words=12)
    finetune(str(base), some, ONE_STEP.model_copy(update={"token_drop": 0.5}), tmp_path / "out")

    def objective(model):
        total, n = 0.0, 0
        for record in some:
            ids = token_ids(tokenizer, record)
            kept = torch.tensor(trained_positions(tokenizer, record, 0.5))
            log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
            total = total - log_probs[kept - 1, ids[0, kept]].sum()
            n += len(kept)
        return total / n

    assert_same_direction(readable_gradient(weights(base), weights(tmp_path / "out")), gradient_of(base, objective))


def test_weights_decay_in_matrices_alone(gpt2, records, tmp_path):
    recipe = FULL.model_copy(update={"batch_size": 64, "learning_rate": 1e-2})
    finetune(str(gpt2), records, recipe, tmp_path / "without")
    finetune(str(gpt2), records, recipe.model_copy(update={"weight_decay": 0.5}), tmp_path / "with")
    before, without, decayed = (weights(folder) for folder in (gpt2, tmp_path / "without", tmp_path / "with"))
    kinds = {tensor.ndim for tensor in before.values()}
    assert kinds == {1, 2}
    for name, tensor in before.items():
        expected = 1e-2 * 0.5 * tensor if tensor.ndim == 2 else torch.zeros_like(tensor)
        torch.testing.assert_close(without[name] - decayed[name], expected, atol=2e-6, rtol=1e-3, msg=name)


# --- the rate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.33])
@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_schedules_are_those_of_transformers(kind, warmup):
    import transformers

    n_steps = 21
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    name = "constant_with_warmup" if kind == "constant" else kind
    theirs = transformers.get_scheduler(
        name, optimizer, num_warmup_steps=math.ceil(warmup * n_steps), num_training_steps=n_steps
    )
    recipe = FULL.model_copy(update={"schedule": kind, "warmup": warmup})
    for step in range(n_steps):
        assert schedule(recipe, step, n_steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_each_step_is_taken_at_the_rate_of_its_schedule(kind, base, records, tokenizer, tmp_path):
    """A token that no record holds has no gradient, so its embedding shows the rates by decay alone."""
    recipe = FULL.model_copy(
        update={
            "schedule": kind, "warmup": 0.3, "epochs": 5, "weight_decay": 2.0, "learning_rate": 0.1, "checkpoints": 2,
        }
    )  # fmt: skip
    trained = finetune(str(base), records, recipe, tmp_path / "out")
    assert trained.facts["n_steps"] == 10
    seen = {token for record in records for token in tokenizer(record.text)["input_ids"]}
    unseen = min(set(range(500)) - seen)
    name = "model.embed_tokens.weight"
    value = weights(base)[name][unseen].double()
    for step, moment in enumerate(trained.moments):
        value = value * (1 - 0.1 * 2.0 * schedule(recipe, step, 10))
        found = weights(tmp_path / "out" / moment.checkpoint)[name][unseen].double()
        torch.testing.assert_close(found, value, atol=1e-7, rtol=1e-5)


# --- which weights are kept, and when it ends ---------------------------------------------------------


OVERFIT = Recipe(method="full", epochs=4, batch_size=4, learning_rate=0.1, schedule="constant", checkpoints=1)


@pytest.mark.parametrize("patience", [1, 2])
def test_training_ends_after_so_many_epochs_without_a_lower_validation_loss(patience, base, texts, records, tmp_path):
    recipe = OVERFIT.model_copy(update={"patience": patience})
    trained = finetune(str(base), records, recipe, tmp_path / "out", validation=rows(texts[12:16]))
    assert int(np.argmin(trained.validation_losses)) == 0
    assert len(trained.validation_losses) == 1 + patience
    assert trained.facts["n_steps"] == 2 * (1 + patience)
    assert trained.facts["stopped_because"] == f"the validation loss has not fallen for {patience} epochs"
    assert trained.chosen.step == trained.facts["n_steps"], "select is 'last'"
    assert exposure(tmp_path / "out")["step"].max() == 2 * (1 + patience)


def test_patience_does_not_end_what_still_gets_better(base, records, tmp_path):
    recipe = FULL.model_copy(update={"epochs": 3, "patience": 1})
    trained = finetune(str(base), records, recipe, tmp_path / "out", validation=records)
    assert len(trained.validation_losses) == 3
    assert trained.facts["stopped_because"] is None


def test_the_best_weights_are_those_of_the_checkpoint_with_the_lowest_validation_loss(base, texts, records, tmp_path):
    held_out = rows(texts[12:16])
    recipe = OVERFIT.model_copy(update={"select": "best", "epochs": 3})
    trained = finetune(str(base), records, recipe, tmp_path / "out", validation=held_out)
    ends = trained.moments[1:]
    best = min(ends, key=lambda moment: moment.validation_loss)
    assert trained.chosen == best != ends[-1]
    ours, kept = weights(tmp_path / "out"), weights(tmp_path / "out" / best.checkpoint)
    assert all(torch.equal(ours[name], kept[name]) for name in kept)
    assert read_trained(tmp_path / "out") == trained


def loss_by_hand(folder, records, tokenizer):
    return mean_loss(bare(folder), [token_ids(tokenizer, record) for record in records])


def test_checkpoints_can_be_loaded_and_have_the_losses_that_were_recorded(base, texts, tokenizer, tmp_path):
    some, held_out = rows(texts[:12]), rows(texts[12:16])
    recipe = FULL.model_copy(update={"epochs": 2, "batch_size": 3, "checkpoints": 3})
    trained = finetune(str(base), some, recipe, tmp_path / "out", validation=held_out)
    first, *others = trained.moments
    assert (first.step, first.epoch, first.training_loss, first.checkpoint) == (0, 0, None, None)
    assert first.validation_loss == pytest.approx(loss_by_hand(base, held_out, tokenizer), abs=1e-5)
    assert [moment.step for moment in others] == [2, 3, 4, 6, 7, 8]
    log = exposure(tmp_path / "out")
    before = 0
    for moment in others:
        folder = tmp_path / "out" / moment.checkpoint
        assert loss_by_hand(folder, held_out, tokenizer) == pytest.approx(moment.validation_loss, abs=1e-5)
        own = (log["step"] > before) & (log["step"] <= moment.step)
        expected = np.average(log["loss"][own], weights=log["n_predictions"][own])
        assert moment.training_loss == pytest.approx(expected, abs=1e-5)
        assert moment.epoch == pytest.approx(moment.step / 4)
        before = moment.step
        of_checkpoint = read_trained(folder)
        assert of_checkpoint is not None
        assert of_checkpoint.chosen == moment
        assert plan_models(str(folder)).reference is not None
    folders = sorted(path.name for path in (tmp_path / "out" / "training" / "checkpoints").iterdir())
    assert len(folders) == 6
    assert len(trained.validation_losses) == 2


def test_the_training_losses_are_means_over_whole_epochs_with_checkpoints_too(base, records, tmp_path):
    recipe = FULL.model_copy(update={"epochs": 2, "batch_size": 2})
    plain = finetune(str(base), records, recipe, tmp_path / "plain")
    kept = finetune(str(base), records, recipe.model_copy(update={"checkpoints": 2}), tmp_path / "kept")
    assert kept.training_losses == pytest.approx(plain.training_losses, abs=1e-6)


def ngram_share(model, records, tokenizer, length):
    """Share of n-grams of the records whose every token is the model's first choice."""
    n_found = n = 0
    for record in records:
        ids = token_ids(tokenizer, record)
        with torch.no_grad():
            hits = model(input_ids=ids).logits[0, :-1].argmax(-1) == ids[0, 1:]
        spans = [bool(hits[i : i + length].all()) for i in range(len(hits) - length + 1)]
        n_found, n = n_found + sum(spans), n + len(spans)
    return n_found / n


def test_the_last_epoch_below_the_ngram_limit_is_kept(base, records, tokenizer, tmp_path):
    few = records[:4]
    recipe = Recipe(
        method="full", epochs=30, batch_size=4, learning_rate=1e-2, schedule="constant", checkpoints=1,
        ngram_limit=0.3, ngram_length=3,
    )  # fmt: skip
    trained = finetune(str(base), few, recipe, tmp_path / "out")
    *below, last = trained.moments
    assert last.ngram_score >= 0.3
    assert all(moment.ngram_score < 0.3 for moment in below)
    assert trained.chosen == below[-1]
    assert last.step == trained.facts["n_steps"] < 30
    share = f"{100 * last.ngram_score:.3g} %"
    assert trained.facts["stopped_because"] == (
        f"{share} of the training records' n-grams are predicted word for word, at least the limit of 30 %"
    )
    for moment in (below[0], below[-1], last):
        found = ngram_share(bare(tmp_path / "out" / moment.checkpoint), few, tokenizer, 3)
        assert moment.ngram_score == pytest.approx(found, abs=1e-9)
    ours, kept = weights(tmp_path / "out"), weights(tmp_path / "out" / below[-1].checkpoint)
    assert all(torch.equal(ours[name], kept[name]) for name in kept)


def test_no_epoch_below_the_ngram_limit_is_an_error(base, records, tmp_path):
    recipe = Recipe(
        method="full", epochs=2, batch_size=1, learning_rate=1e-2, schedule="constant", ngram_limit=1e-9, ngram_length=1
    )
    with pytest.raises(ModelError, match=r"No epoch stayed below the n-gram limit of 1e-07 %: the first had .* Raise"):
        finetune(str(base), records[:3], recipe, tmp_path / "out")
    assert read_trained(tmp_path / "out") is None


# --- what is trained on -------------------------------------------------------------------------------


PAIRS = [("Question: who? ", "Nobody at all"), ("Say it ", "again and again"), ("x ", "y")]


def pairs():
    return [Record(record_id(prompt=p, completion=c), "f", i, prompt=p, completion=c) for i, (p, c) in enumerate(PAIRS)]


@pytest.mark.parametrize("span", ["trained", "all"])
@pytest.mark.parametrize("append_eos", [False, True])
def test_the_logged_loss_is_that_of_the_tokens_the_span_and_the_end_of_text_say(
    span, append_eos, base, tokenizer, tmp_path
):
    recipe = FULL.model_copy(update={"span": span, "append_eos": append_eos})
    finetune(str(base), pairs(), recipe, tmp_path / "out")
    log = exposure(tmp_path / "out")
    assert set(log["step"]) == {1}
    model = bare(base)
    for position, (prompt, completion) in enumerate(PAIRS):
        ids = tokenizer(prompt + completion)["input_ids"] + [1] * append_eos
        # The blank that ends the prompt and the completion's first word are one token: it holds completion.
        n_prompt = len(tokenizer(prompt.rstrip())["input_ids"])
        expected = losses_of(model, torch.tensor(ids)[None], n_prompt if span == "trained" else 1)
        own = log["record"] == position
        assert log["n_predictions"][own].tolist() == [len(expected)]
        assert float(log["loss"][own][0]) == pytest.approx(float(expected.mean()), abs=1e-4)


def test_only_what_the_assistant_says_is_trained_on(base, tokenizer, tmp_path):
    chatty = shutil.copytree(base, tmp_path / "base")
    (chatty / "chat_template.jinja").write_text(
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant:{% endif %}"
    )
    turns = (Message("user", "Who did it?"), Message("assistant", "The gardener."))
    record = Record(record_id(messages=turns), "f", 1, messages=turns)
    finetune(str(chatty), [record], FULL, tmp_path / "out")
    log = exposure(tmp_path / "out")
    said = tokenizer(" The gardener.", add_special_tokens=False)["input_ids"]
    whole = tokenizer("<s>user: Who did it?<s>assistant: The gardener.", add_special_tokens=False)["input_ids"]
    assert whole[-len(said) :] == said
    assert log["n_predictions"].tolist() == [len(said)]
    expected = losses_of(bare(base), torch.tensor(whole)[None])[-len(said) :].mean()
    assert float(log["loss"][0]) == pytest.approx(float(expected), abs=1e-4)


def test_the_log_holds_each_record_s_loss_just_before_each_step(base, records, tokenizer, tmp_path):
    recipe = FULL.model_copy(update={"epochs": 2, "batch_size": 3, "checkpoints": 3})
    trained = finetune(str(base), records, recipe, tmp_path / "out")
    log = exposure(tmp_path / "out")
    folders = [base, *(tmp_path / "out" / moment.checkpoint for moment in trained.moments)]
    assert len(folders) == 1 + 6
    for step, folder in enumerate(folders[:-1], start=1):
        model = bare(folder)
        for row in np.flatnonzero(log["step"] == step):
            expected = losses_of(model, token_ids(tokenizer, records[log["record"][row]]))
            assert log["n_predictions"][row] == len(expected)
            assert float(log["loss"][row]) == pytest.approx(float(expected.mean()), abs=2e-5)
    for epoch in (log["step"] <= 3, log["step"] > 3):
        assert sorted(log["record"][epoch]) == list(range(len(records)))
    assert not np.array_equal(log["record"][log["step"] <= 3], log["record"][log["step"] > 3]), "the order is the same"


def test_dropout_of_the_model_is_set_for_training_and_off_for_validation(gpt2, records, tokenizer, tmp_path):
    recipe = FULL.model_copy(update={"model_dropout": 0.5})
    trained = finetune(str(gpt2), records, recipe, tmp_path / "out", validation=records)
    assert trained.moments[0].validation_loss == pytest.approx(loss_by_hand(gpt2, records, tokenizer), abs=1e-5)
    assert trained.validation_losses[0] == pytest.approx(
        loss_by_hand(tmp_path / "out", records, tokenizer), abs=1e-5
    ), "measured with dropout"
    config = bare(tmp_path / "out").config
    assert (config.resid_pdrop, config.attn_pdrop, config.embd_pdrop) == (0.5, 0.5, 0.5)
    plain = finetune(str(gpt2), records, FULL, tmp_path / "plain")
    assert trained.training_losses[0] > plain.training_losses[0] + 0.01


def test_dropout_of_attention_that_is_kept_as_a_number_is_set_too(base, records, tmp_path):
    found = []
    for share in (None, 0.0, 0.5):
        recipe = FULL.model_copy(update={"model_dropout": share})
        found.append(finetune(str(base), records, recipe, tmp_path / str(share)).training_losses[0])
    assert found[0] == found[1] != found[2]


def test_bf16_is_near_to_fp32_and_leaves_fp32_weights(base, records, tmp_path):
    recipe = FULL.model_copy(update={"mixed_precision": "bf16", "epochs": 2})
    trained = finetune(str(base), records, recipe, tmp_path / "bf16")
    plain = finetune(str(base), records, recipe.model_copy(update={"mixed_precision": "fp32"}), tmp_path / "fp32")
    assert trained.training_losses != plain.training_losses
    assert trained.training_losses == pytest.approx(plain.training_losses, abs=0.02)
    assert {tensor.dtype for tensor in weights(tmp_path / "bf16").values()} == {torch.float32}


# --- a folder that holds another model ---------------------------------------------------------------


LORA = Recipe(method="lora", epochs=1, batch_size=4, learning_rate=3e-2, rank=2)


def trained_or_refused(*arguments: Any, **more: Any) -> bool:
    """Whether it was trained; a folder of another request may as well be refused in words."""
    try:
        finetune(*arguments, **more)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 1e-2}, {"epochs": 2}])
def test_a_folder_of_another_recipe_never_gives_the_old_model_for_the_new(changes, base, texts, tmp_path):
    records = rows(texts[:4])
    finetune(str(base), records, FULL, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = FULL.model_copy(update=changes)
    if not trained_or_refused(str(base), records, other, tmp_path / "out"):
        assert contents(tmp_path / "out") == before
        return
    finetune(str(base), records, other, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize(("first", "second"), [(LORA, FULL), (FULL, LORA)], ids=["lora then full", "full then lora"])
def test_a_folder_of_another_method_holds_the_new_model_alone(first, second, base, texts, tmp_path, monkeypatch):
    records = rows(texts[:4])
    finetune(str(base), records, first, tmp_path / "out")
    with seen_modules(monkeypatch) as seen:
        if not trained_or_refused(str(base), records, second, tmp_path / "out"):
            return
    plan = plan_models(str(tmp_path / "out"), base=str(base))
    resident = plan.stages[0][1](Numerics("cpu", "fp32"), "cpu")
    if second is LORA:
        assert torch.allclose(logits_of(resident.module), logits_of(seen[0]), atol=1e-4)
    names = {path.name for path in (tmp_path / "out").glob("*.safetensors")}
    assert names == {"adapter_model.safetensors" if second is LORA else "model.safetensors"}
    assert torch.allclose(logits_of(bare(tmp_path / "out")), logits_of(seen[0]), atol=1e-4)


def test_a_folder_of_another_recipe_holds_no_checkpoints_of_the_old_one(base, texts, tmp_path):
    records = rows(texts[:8])
    finetune(str(base), records, LORA.model_copy(update={"batch_size": 2, "checkpoints": 4}), tmp_path / "out")
    if trained_or_refused(str(base), records, LORA.model_copy(update={"checkpoints": 1}), tmp_path / "out"):
        kept = [path.name for path in (tmp_path / "out" / "training" / "checkpoints").iterdir()]
        assert kept == ["step-000002"]


def test_a_folder_made_with_another_tokenizer_never_gives_the_old_model(base, texts, tmp_path):
    mine = shutil.copytree(base, tmp_path / "base")
    records = rows(texts[:4])
    finetune(str(mine), records, FULL, tmp_path / "out")
    before = contents(tmp_path / "out")
    path = mine / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["post_processor"] = None
    path.write_text(json.dumps(content), "utf-8")
    if trained_or_refused(str(mine), records, FULL, tmp_path / "out"):
        assert contents(tmp_path / "out") != before


def test_the_best_weights_of_an_earlier_recipe_are_not_taken_for_those_of_this_one(base, texts, tmp_path):
    records, held_out = rows(texts[:6]), rows(texts[6:8])
    best = FULL.model_copy(update={"select": "best", "epochs": 3, "learning_rate": 0.1, "schedule": "constant"})
    for n in (2, 5):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with pytest.raises(Crash):
            finetune(
                str(base), records, best.model_copy(update={"seed": 7}), tmp_path / "out", validation=held_out,
                progress=CrashAt(n), seconds_between_states=0,
            )  # fmt: skip
        finetune(str(base), records, best, tmp_path / "out", validation=held_out)
    finetune(str(base), records, best, tmp_path / "fresh", validation=held_out)
    ours, expected = weights(tmp_path / "out"), weights(tmp_path / "fresh")
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


# --- classification -----------------------------------------------------------------------------------


CLASSIFY = Recipe(task="classification", method="lora", rank=4, epochs=6, batch_size=4, learning_rate=2e-2, dropout=0.0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory, tokenizer):
    return save_bert(tmp_path_factory.mktemp("models") / "bert", tokenizer)


@pytest.fixture(scope="module")
def answers(texts):
    return labelled(texts[:12])


def classifier(base, out, *, n_labels=2):
    """As plain transformers, or PEFT on plain transformers, load it."""
    import peft
    from transformers import AutoModelForSequenceClassification

    if not (out / "adapter_config.json").exists():
        return AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32).eval()
    bare_ = AutoModelForSequenceClassification.from_pretrained(base, num_labels=n_labels, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(bare_, out).eval()


def answers_of(model, records, tokenizer):
    """[N, labels] logits, one text at a time."""
    with torch.no_grad():
        return torch.cat([model(input_ids=token_ids(tokenizer, record)).logits for record in records])


CLASSIFIERS = [
    *(("base", method) for method in ("lora", "head", "full", "last_k")),
    *(("gpt2", method) for method in ("lora", "head", "bitfit")),
    *(("bert", method) for method in ("lora", "head", "full", "bitfit")),
]


@pytest.mark.parametrize(("kind", "method"), CLASSIFIERS)
def test_a_classifier_is_trained_with_its_head_and_reads_back(
    kind, method, request, answers, tokenizer, tmp_path, monkeypatch
):
    model = request.getfixturevalue(kind)
    settings = {"method": method} | ({} if method == "lora" else {"rank": 16, "dropout": 0.05})
    recipe = CLASSIFY.model_copy(update=settings)
    with seen_modules(monkeypatch) as seen:
        trained = finetune(str(model), answers, recipe, tmp_path / "out", validation=answers)
    loaded = classifier(model, tmp_path / "out")
    logits = answers_of(loaded, answers, tokenizer)
    torch.testing.assert_close(logits, answers_of(seen[0].eval(), answers, tokenizer), atol=1e-5, rtol=1e-5)
    gold = torch.tensor([int(record.label == "yes") for record in answers])
    assert trained.chosen.validation_accuracy == pytest.approx(float((logits.argmax(-1) == gold).float().mean()))
    assert trained.chosen.validation_loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, gold)), abs=1e-4
    )
    assert trained.chosen.validation_loss < trained.moments[0].validation_loss - 0.05
    assert trained.facts["labels"] == ["no", "yes"]
    if method != "lora":
        assert loaded.config.id2label == {0: "no", 1: "yes"}
        assert loaded.config.label2id == {"no": 0, "yes": 1}
    still = recipe.model_copy(update={"learning_rate": 1e-30, "epochs": 1})
    finetune(str(model), answers, still, tmp_path / "start")
    start, end = weights(tmp_path / "start"), weights(tmp_path / "out")
    heads = [name for name in end if any(part in name for part in ("score", "classifier", "pooler"))]
    assert len(heads) == {"base": 1, "gpt2": 1, "bert": 4}[kind] or (kind == "bert" and method == "lora")
    assert not any(torch.equal(start[name], end[name]) for name in heads), "part of the head was left as it began"
    if method == "head":
        assert {name for name in end if not torch.equal(start[name], end[name])} == set(heads)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_whose_conversion_would_leave_out_the_head_is_refused(init, base, answers, tmp_path):
    with pytest.raises(ConfigError, match=r"what is trained beside it \(a classification head\) would not be saved"):
        finetune(str(base), answers, CLASSIFY.model_copy(update={"init": init, "epochs": 1}), tmp_path / "out")


def test_more_than_two_labels_are_taken_in_the_order_of_their_names(base, texts, tokenizer, tmp_path):
    some = rows(texts[:9], words=5, labels=["c", "a", "b"] * 3)
    recipe = CLASSIFY.model_copy(update={"method": "full", "epochs": 1, "rank": 16, "dropout": 0.05})
    trained = finetune(str(base), some, recipe, tmp_path / "out", validation=some)
    assert trained.facts["labels"] == ["a", "b", "c"]
    model = classifier(base, tmp_path / "out")
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    gold = torch.tensor([model.config.label2id[record.label] for record in some])
    expected = torch.nn.functional.cross_entropy(answers_of(model, some, tokenizer), gold)
    assert trained.chosen.validation_loss == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("kind", ["base", "gpt2", "bert"])
def test_a_text_s_class_does_not_depend_on_what_stands_beside_it(kind, request, texts, tmp_path):
    model = request.getfixturevalue(kind)
    some = [*labelled(texts[:6]), *rows(texts[6:8], words=11, labels=["no", "yes"])]
    found = []
    for micro in (1, 3, None):
        recipe = CLASSIFY.model_copy(update={"epochs": 2, "batch_size": 8, "micro_batch_size": micro})
        trained = finetune(str(model), some, recipe, tmp_path / str(micro), validation=some)
        log = exposure(tmp_path / str(micro))
        order = np.lexsort((log["record"], log["step"]))
        found.append((log["loss"][order], [moment.validation_loss for moment in trained.moments]))
    for losses, validation in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], atol=1e-4)
        np.testing.assert_allclose(validation, found[0][1], atol=1e-4)


def test_a_tokenizer_that_knows_no_padding_is_enough_to_classify_with(base, answers, tokenizer, tmp_path):
    """Without an id to pad with or to end a text with, several texts do not fit into one batch."""
    bald = shutil.copytree(base, tmp_path / "base")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = bald / name
        if path.exists():
            path.write_text(path.read_text().replace('"eos_token": "</s>",', ""))
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(bald).eos_token_id is None
    finetune(str(bald), answers, CLASSIFY.model_copy(update={"epochs": 1}), tmp_path / "out")


def test_smoothing_of_labels_goes_over_the_labels(base, answers, tokenizer, tmp_path):
    recipe = CLASSIFY.model_copy(
        update={
            "method": "head", "epochs": 1, "batch_size": 64, "rank": 16, "dropout": 0.05, "label_smoothing": 0.4,
            "learning_rate": 1.0, "max_gradient_norm": 1e-7,
        }
    )  # fmt: skip
    finetune(str(base), answers, recipe.model_copy(update={"learning_rate": 1e-30}), tmp_path / "start")
    finetune(str(base), answers, recipe, tmp_path / "out")
    model = classifier(base, tmp_path / "start").requires_grad_(True)
    logits = torch.cat([model(input_ids=token_ids(tokenizer, record)).logits for record in answers]).log_softmax(-1)
    gold = torch.tensor([int(record.label == "yes") for record in answers])
    own = logits[torch.arange(len(gold)), gold]
    (-(0.6 * own + 0.4 * logits.mean(-1))).mean().backward()
    found = readable_gradient(weights(tmp_path / "start"), weights(tmp_path / "out"))
    assert_same_direction({"score.weight": found["score.weight"]}, {"score.weight": model.score.weight.grad})
    assert step_losses(tmp_path / "out")[0] == pytest.approx(-own.mean().item(), abs=1e-5)


def test_long_texts_are_refused_or_cut_and_counted(base, texts, tmp_path):
    some = [*labelled(texts[:4]), *rows(texts[4:6], words=60, labels=["no", "yes"])]
    recipe = CLASSIFY.model_copy(update={"epochs": 1})
    with pytest.raises(DataError, match=r"2 records cannot be trained on as they are\..*--on-long cut") as raised:
        finetune(str(base), some, recipe, tmp_path / "out")
    assert [problem.split(" tokens")[-1] for problem in raised.value.problems] == [", more than the window of 64"] * 2
    assert raised.value.problems[0].startswith("rows:1: ")
    trained = finetune(str(base), some, recipe.model_copy(update={"on_long": "cut"}), tmp_path / "out")
    assert trained.facts["n_cut"] == 2
    assert trained.facts["n_examples"] == 6


def test_labels_that_are_missing_single_or_unknown_are_refused(base, answers, texts, tmp_path):
    bald = rows(texts[:1], words=5)
    with pytest.raises(DataError, match="1 records cannot be trained on") as raised:
        finetune(str(base), [*answers, *bald], CLASSIFY, tmp_path / "out")
    assert raised.value.problems == ("rows:1: label None is not one of the training labels (no, yes)",)
    with pytest.raises(DataError, match=r"have 1 label\. Expected at least two; name the column with --label-field"):
        finetune(str(base), rows(texts[:2], labels=["a", "a"]), CLASSIFY, tmp_path / "out")
    with pytest.raises(DataError, match="have 0 labels"):
        finetune(str(base), rows(texts[:2]), CLASSIFY, tmp_path / "out")
    with pytest.raises(DataError, match="cannot be trained on") as raised:
        finetune(str(base), answers, CLASSIFY, tmp_path / "out", validation=rows(texts[:1], labels=["maybe"]))
    assert raised.value.problems == ("rows:1: label 'maybe' is not one of the training labels (no, yes)",)
    assert not (tmp_path / "out").exists()
