"""Training is what it is elsewhere: the same curve as the Trainer's, the same weights however it is interrupted,
and models that plain transformers and PEFT read back as they were."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch

from loraudit.errors import ConfigError, ModelError
from loraudit.finetuning import finetune
from loraudit.finetuning.examples import make_examples, make_training_batch, packed
from loraudit.models import Numerics, plan_models
from loraudit.spec import Recipe
from small_tuning import (
    bare,
    contents,
    exposure,
    logits_of,
    mean_loss,
    rows,
    save_gpt2,
    save_tied_llama,
    seen_modules,
    step_losses,
    token_ids,
    weights,
    with_adapter,
    with_interruptions,
)

FULL = Recipe(method="full", epochs=1, batch_size=4, learning_rate=3e-3)
LORA = Recipe(method="lora", epochs=1, batch_size=4, learning_rate=1e-2, rank=4, dropout=0.0)


@pytest.fixture(scope="module")
def records(texts):
    return rows(texts[:12])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer):
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2", tokenizer)


# --- the same curve as the Trainer's ------------------------------------------------------------------


def trainer_curve(model, rows_of_ids, order, *, micro, steps, folder, **arguments):
    """Loss of each step of Hugging Face's Trainer over the rows in this order; it trains `model`."""
    import transformers

    losses = np.zeros(steps)

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return list(order)

        def compute_loss(self, model, inputs, *args, **more):
            loss = super().compute_loss(model, inputs, *args, **more)
            losses[self.state.global_step] += loss.item()
            return loss

    def collate(features):
        longest = max(len(feature["ids"]) for feature in features)
        ids = torch.zeros(len(features), longest, dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, feature in enumerate(features):
            ids[row, : len(feature["ids"])] = labels[row, : len(feature["ids"])] = torch.tensor(feature["ids"])
        return {"input_ids": ids, "attention_mask": (labels >= 0).long(), "labels": labels}

    InOrder(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=micro,
            max_steps=steps,
            lr_scheduler_type="linear",
            optim="adamw_torch",
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            use_cpu=True,
            **arguments,
        ),
        train_dataset=[{"ids": ids[0].tolist()} for ids in rows_of_ids],
        data_collator=collate,
    ).train()
    return losses


@pytest.mark.parametrize(
    ("method", "micro"),
    [
        ("full", 4),
        pytest.param("full", 2, marks=pytest.mark.slow),
        pytest.param("lora", 4, marks=pytest.mark.slow),
        ("lora", 2),
    ],
)
def test_losses_and_weights_are_those_of_the_trainer_on_the_same_batches(
    method, micro, base, records, tokenizer, tmp_path
):
    import peft

    recipe = (FULL if method == "full" else LORA).model_copy(
        update={"epochs": 7, "warmup": 0.2, "weight_decay": 0.1, "micro_batch_size": micro}
    )
    finetune(str(base), records, recipe, tmp_path / "ours")
    log = exposure(tmp_path / "ours")
    assert len(set(log["step"])) == 21
    model = bare(base)
    if method == "lora":
        # The untrained start of the same seed, as the adapter of a run whose steps are too small to matter.
        still = recipe.model_copy(update={"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0})
        finetune(str(base), records, still, tmp_path / "start")
        model = peft.PeftModel.from_pretrained(model, tmp_path / "start", is_trainable=True)
    theirs = trainer_curve(
        model,
        [token_ids(tokenizer, record) for record in records],
        log["record"].tolist(),
        micro=micro,
        steps=21,
        folder=tmp_path / "theirs",
        gradient_accumulation_steps=4 // micro,
        learning_rate=recipe.learning_rate,
        weight_decay=0.1,
        warmup_steps=math.ceil(0.2 * 21),
        num_train_epochs=7,
    )
    np.testing.assert_allclose(step_losses(tmp_path / "ours"), theirs, atol=1e-4)
    assert theirs[-1] < theirs[0] - 0.1, "nothing was learned, so nothing was compared"
    expected = peft.get_peft_model_state_dict(model) if method == "lora" else model.state_dict()
    ours = weights(tmp_path / "ours")
    assert set(ours) == set(expected)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-4, rtol=1e-3, msg=name)


@pytest.fixture
def no_accelerator():
    """accelerate keeps settings for the whole process; neither earlier tests nor later ones see those of this one."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    def reset():
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()

    reset()
    yield
    reset()


def test_an_accelerator_of_the_caller_keeps_its_settings(no_accelerator, base, records, tmp_path):
    import accelerate

    alone = finetune(str(base), records, FULL, tmp_path / "alone")
    mine = accelerate.Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
    beside = finetune(str(base), records, FULL, tmp_path / "beside")
    assert accelerate.state.AcceleratorState().mixed_precision == mine.mixed_precision == "bf16"
    assert mine.gradient_accumulation_steps == 3
    assert beside.training_losses == alone.training_losses, "the caller's precision was used"


# --- how a batch is cut changes nothing ---------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"method": "lora", "rank": 4, "dropout": 0.0}, {"packing": True}], ids=["full", "lora", "packed"]
)
def test_the_size_of_a_forward_pass_changes_nothing_but_rounding(changes, base, records, tmp_path):
    found = []
    for micro in (1, 3, None):
        recipe = FULL.model_copy(update={"epochs": 2, "batch_size": 6, "micro_batch_size": micro, **changes})
        out = tmp_path / str(micro)
        trained = finetune(str(base), records, recipe, out, validation=records[:3])
        found.append((step_losses(out), trained.validation_losses, weights(out)))
    for losses, validation, tensors in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], atol=2e-5)
        np.testing.assert_allclose(validation, found[0][1], atol=2e-5)
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, found[0][2][name], atol=1e-4, rtol=1e-3, msg=name)


# --- packing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["base", "gpt2"])
def test_packed_records_have_the_losses_they_have_alone(kind, request, texts, tmp_path):
    model = request.getfixturevalue(kind)
    some = rows([f"{number} {text}" for number, text in enumerate(texts[:14])], words=5)
    found = []
    for packing in (False, True):
        recipe = FULL.model_copy(update={"batch_size": 64, "packing": packing})
        out = tmp_path / str(packing)
        trained = finetune(str(model), some, recipe, out)
        log = exposure(out)
        assert set(log["step"]) == {1}
        assert trained.facts["n_steps"] == 1
        order = np.argsort(log["record"])
        found.append((log["loss"][order], log["n_predictions"][order], log["record"][order]))
    np.testing.assert_array_equal(found[0][2], np.arange(len(some)))
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-4)


def test_a_model_in_which_packed_records_see_each_other_is_refused(base, texts, tmp_path):
    """Virtual tokens take the positions by which records are told apart."""
    import peft

    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    config.save_pretrained(tmp_path / "config")
    recipe = FULL.model_copy(
        update={
            "method": "peft",
            "peft_config": str(tmp_path / "config" / "adapter_config.json"),
            "packing": True,
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ModelError, match=r"packed records see each other: .* Train without --packing\."):
            finetune(str(base), rows(texts[:8], words=4), recipe, tmp_path / "out")


def window_losses(model, ids, longest):
    """Summed loss and number of predictions of a record in windows that each add `longest` − 1 tokens."""
    total, n_predictions, n_done = 0.0, 0, 1
    while n_done < ids.shape[1]:
        end = min(ids.shape[1], longest if n_done == 1 else n_done + longest - 1)
        start = max(0, end - longest)
        with torch.no_grad():
            log_probs = model(input_ids=ids[:, start:end]).logits.log_softmax(-1)[0]
        for position in range(n_done, end):
            total -= log_probs[position - 1 - start, ids[0, position]].item()
            n_predictions += 1
        n_done = end
    return total, n_predictions


@pytest.mark.parametrize("packing", [False, True])
def test_every_token_of_long_and_short_records_is_trained_on_once_an_epoch(packing, base, texts, tokenizer, tmp_path):
    some = [*rows(texts[:5], words=4), *rows(texts[5:8], words=60)]
    recipe = FULL.model_copy(
        update={"epochs": 2, "batch_size": 100, "learning_rate": 1e-30, "packing": packing, "max_length": 48}
    )
    finetune(str(base), some, recipe, tmp_path / "out")
    log = exposure(tmp_path / "out")
    model = bare(base)
    for position, record in enumerate(some):
        ids = token_ids(tokenizer, record)
        assert (ids.shape[1] > 48) == (position >= 5)
        total, n_predictions = window_losses(model, ids, 48)
        assert n_predictions == ids.shape[1] - 1
        for epoch in (1, 2):
            own = (log["record"] == position) & (log["step"] == epoch)
            assert log["n_predictions"][own].sum() == n_predictions
            assert (log["loss"] * log["n_predictions"])[own].sum() == pytest.approx(total, rel=1e-4)


def test_a_batch_of_packs_asks_for_each_record_s_own_tokens_in_order(texts, tokenizer):
    some = [*rows(texts[:20], words=3), *rows(texts[20:26], words=50)]
    examples = make_examples(some, tokenizer, FULL, 32)
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(np.repeat(np.arange(len(examples)), rng.integers(1, 4, len(examples))))
        packs = packed(examples, order, 32)
        assert sorted(position for pack in packs for position in pack) == sorted(order.tolist())
        batch = make_training_batch(examples, packs)
        assert batch.ids.shape[1] <= 32
        gold: dict[int, list[list[int]]] = {}
        standing = [position for pack in packs for position in pack]
        for pack in packs:
            assert len({examples[position].record for position in pack}) == len(pack)
        for number, position in enumerate(standing):
            own = batch.owner == number
            # What is predicted stands right behind where it is predicted from, one position further in its record.
            rows_, columns = batch.rows[own], batch.columns[own]
            assert len(set(rows_)) == 1
            np.testing.assert_array_equal(batch.ids[rows_, columns + 1], batch.gold[own])
            np.testing.assert_array_equal(batch.positions[rows_, columns + 1], batch.positions[rows_, columns] + 1)
            gold.setdefault(position, []).append(batch.gold[own].tolist())
        for position, found in gold.items():
            example = examples[position]
            assert len(found) == (order == position).sum()
            assert all(one == example.ids[example.is_trained].tolist() for one in found)
    for number, record in enumerate(some):
        ids = tokenizer(record.text)["input_ids"]
        own = [e.ids[e.is_trained].tolist() for e in examples if e.record == number]
        assert [token for part in own for token in part] == ids[1:]


# --- interrupted --------------------------------------------------------------------------------------


EVERY_STEP = {"seconds_between_states": 0}
PRIVATE = LORA.model_copy(update={"dp_noise": 1.0, "dp_repeatable": True, "dropout": 0.1, "epochs": 2})
INTERRUPTED = {
    "full": ("base", FULL, {}),
    "full with dropout": ("gpt2_with_dropout", FULL.model_copy(update={"micro_batch_size": 3}), {}),
    "lora with dropout": ("base", LORA.model_copy(update={"dropout": 0.2, "seed": 3, "warmup": 0.3}), EVERY_STEP),
    "best": (
        "base",
        FULL.model_copy(update={"epochs": 3, "select": "best", "learning_rate": 0.1, "schedule": "constant"}),
        EVERY_STEP,
    ),
    "patience": (
        "base",
        FULL.model_copy(update={"epochs": 5, "patience": 1, "learning_rate": 0.1, "schedule": "constant"}),
        EVERY_STEP,
    ),
    "n-grams": (
        "base",
        FULL.model_copy(
            update={
                "epochs": 9, "ngram_limit": 0.2, "ngram_length": 2, "learning_rate": 2e-2, "schedule": "constant",
            }
        ),
        EVERY_STEP,
    ),
    "checkpoints": (
        "base", FULL.model_copy(update={"epochs": 2, "checkpoints": 2, "packing": True, "batch_size": 2}), {},
    ),
    "pissa": ("base", LORA.model_copy(update={"init": "pissa", "checkpoints": 1, "epochs": 2}), EVERY_STEP),
    "private": ("base", PRIVATE, EVERY_STEP),
    "private with dropout of the model": ("gpt2_with_dropout", PRIVATE, EVERY_STEP),
}  # fmt: skip


@pytest.fixture(scope="module")
def gpt2_with_dropout(tmp_path_factory, tokenizer):
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2", tokenizer, dropout=0.1)


SLOW = ("n-grams", "checkpoints", "private with dropout of the model")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in INTERRUPTED]
)
def test_interrupted_at_random_steps_it_ends_with_the_same_bytes(kind, request, records, texts, tmp_path):
    model, recipe, options = INTERRUPTED[kind]
    if recipe.is_private:
        pytest.importorskip("opacus")
        recipe = recipe.model_copy(update={"targets": ("q_proj",) if model == "base" else ("c_attn",)})
    asked = (str(request.getfixturevalue(model)), records, recipe)
    held_out = rows(texts[12:16])
    expected = finetune(*asked, tmp_path / "whole", validation=held_out)
    for seed in (1,) if recipe.is_private or recipe.init == "pissa" else (1, 2):
        out = tmp_path / str(seed)
        found, n_times = with_interruptions(seed, *asked, out, validation=held_out, **options)
        assert n_times >= 1
        assert contents(out) == contents(tmp_path / "whole")
        assert found.moments == expected.moments
        assert found.chosen == expected.chosen
        assert found.facts == expected.facts
    n_steps, n_asked = expected.facts["n_steps"], recipe.epochs * 3
    if kind in {"best", "n-grams"}:
        assert expected.chosen.step < n_steps, "the last weights were kept; the case shows nothing"
    if kind in {"patience", "n-grams"}:
        assert n_steps < n_asked, "it did not end early; the case shows nothing"


def test_a_run_of_another_recipe_does_not_go_on_from_the_state(base, records, tmp_path):
    from small_tuning import Crash, CrashAt

    with pytest.raises(Crash):
        finetune(str(base), records, FULL, tmp_path / "out", progress=CrashAt(2), seconds_between_states=0)
    other = FULL.model_copy(update={"seed": 5})
    finetune(str(base), records, other, tmp_path / "out")
    finetune(str(base), records, other, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


# --- saved and loaded ---------------------------------------------------------------------------------


LORA_FAMILY = {
    "kaiming": {},
    "gaussian": {"init": "gaussian", "init_variance": 0.7},
    "orthogonal": {"init": "orthogonal"},
    "pissa": {"init": "pissa"},
    "olora": {"init": "olora"},
    "rslora": {"rslora": True, "alpha": 3.0},
    "dora": {"dora": True},
    "freeze_a": {"freeze_a": True},
    "pissa rslora": {"init": "pissa", "rslora": True},
    "pissa dora": {"init": "pissa", "dora": True},
    "olora frozen": {"init": "olora", "freeze_a": True, "alpha": 4.0},
    "one module": {"targets": ("q_proj",), "dropout": 0.1},
}


def assert_reads_back(base, out, module, monkeypatch):
    """Plain PEFT and an audit's plan give what the module gave; switched off, the base."""
    expected, of_base = logits_of(module), logits_of(bare(base))
    assert float((expected - of_base).abs().max()) > 1e-3, "the adapter does nothing"
    loaded = with_adapter(base, out)
    torch.testing.assert_close(logits_of(loaded), expected, atol=1e-4, rtol=1e-4)
    with loaded.disable_adapter():
        torch.testing.assert_close(logits_of(loaded), of_base, atol=1e-5, rtol=0)
    plan = plan_models(str(out))
    assert plan.reference is not None
    resident = plan.stages[0][1](Numerics("cpu", "fp32"), "cpu")
    torch.testing.assert_close(logits_of(resident.module), expected, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_saved_together_is_refused(base, records, tmp_path):
    recipe = LORA.model_copy(update=LORA_FAMILY["pissa dora"])
    with pytest.raises(ConfigError, match="it cannot be saved together with DoRA"):
        finetune(str(base), records, recipe, tmp_path / "out")


@pytest.mark.parametrize("kind", [name for name in LORA_FAMILY if name != "pissa dora"])
def test_a_saved_adapter_is_the_one_that_was_trained(kind, base, records, tmp_path, monkeypatch):
    recipe = LORA.model_copy(update=LORA_FAMILY[kind])
    with seen_modules(monkeypatch) as seen:
        trained = finetune(str(base), records, recipe, tmp_path / "out", validation=records[:3])
    assert_reads_back(base, tmp_path / "out", seen[0], monkeypatch)
    # None of them is far from the base before it is trained.
    assert trained.moments[0].validation_loss == pytest.approx(
        mean_loss(bare(base), [_ids(base, record) for record in records[:3]]), abs=1e-4
    )
    if kind == "rslora":
        assert with_adapter(base, tmp_path / "out").peft_config["default"].lora_alpha == 3.0


@pytest.mark.parametrize(
    "init",
    [
        "pissa",
        "orthogonal",
        pytest.param(
            "olora",
        ),
    ],
)
def test_an_adapter_on_layers_that_are_stored_the_other_way_round_is_the_one_that_was_trained(
    init, gpt2, records, tmp_path, monkeypatch
):
    with seen_modules(monkeypatch) as seen:
        try:
            finetune(str(gpt2), records, LORA.model_copy(update={"init": init}), tmp_path / "out")
        except ConfigError:
            return
    assert_reads_back(gpt2, tmp_path / "out", seen[0], monkeypatch)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"targets": ("lm_head",)}, "the head is the embedding too, and is rewritten for both"),
        ({"targets": ("embed_tokens",)}, "the conversion leaves out the matrices of an embedding"),
        ({"targets": ("k_proj",), "rank": 32}, "there are fewer directions than ranks"),
    ],
    ids=["tied head", "embedding", "rank above the width"],
)
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_rewrites_the_base_is_refused_or_saved_as_it_was_trained(
    init, changes, why, records, tokenizer, tmp_path, monkeypatch
):
    tied = save_tied_llama(tmp_path / "tied", tokenizer)
    with seen_modules(monkeypatch) as seen:
        try:
            finetune(str(tied), records, LORA.model_copy(update={"init": init, **changes}), tmp_path / "out")
        except ConfigError:
            return
    assert_reads_back(tied, tmp_path / "out", seen[0], monkeypatch)


def _ids(base, record):
    from transformers import AutoTokenizer

    return token_ids(AutoTokenizer.from_pretrained(base), record)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_keeping_checkpoints_of_an_adapter_that_is_converted_does_not_disturb_its_training(
    init, base, records, tmp_path
):
    recipe = LORA.model_copy(update={"init": init, "epochs": 2, "freeze_a": init == "olora"})
    finetune(str(base), records, recipe, tmp_path / "without")
    trained = finetune(str(base), records, recipe.model_copy(update={"checkpoints": 2}), tmp_path / "with")
    ours, expected = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    kept = [moment for moment in trained.moments if moment.checkpoint]
    assert len(kept) == 4
    last = tmp_path / "with" / kept[-1].checkpoint
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(last).items())


def peft_configs():
    import peft

    linear = ["q_proj", "v_proj"]
    return {
        "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "loha": peft.LoHaConfig(r=4, alpha=8, target_modules=linear),
        "prompt": peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        "prefix": peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        "oft": peft.OFTConfig(oft_block_size=4, r=0, target_modules=linear),
        "ln": peft.LNTuningConfig(target_modules=["input_layernorm"]),
        "lora of layers": peft.LoraConfig(r=2, target_modules="all-linear", layers_to_transform=None, bias="none"),
        "lora and norm": peft.LoraConfig(r=2, target_modules=linear, modules_to_save=["norm"]),
        "pissa": peft.LoraConfig(r=2, target_modules=linear, init_lora_weights="pissa", task_type="CAUSAL_LM"),
    }


PEFT_CONFIGS = ("ia3", "loha", "prompt", "prefix", "oft", "ln", "lora of layers", "lora and norm", "pissa")


@pytest.mark.parametrize("kind", PEFT_CONFIGS)
def test_any_configuration_that_peft_wrote_is_trained_and_reads_back(kind, base, records, tmp_path, monkeypatch):
    folder = tmp_path / "config"
    peft_configs()[kind].save_pretrained(folder)
    recipe = Recipe(peft_config=str(folder / "adapter_config.json"), epochs=2, batch_size=4, learning_rate=3e-2)
    assert recipe.method == "peft"
    with seen_modules(monkeypatch) as seen:
        trained = finetune(str(base), records, recipe, tmp_path / "out", validation=records[:3])
    assert 0 < trained.facts["n_trained_parameters"] < trained.facts["n_parameters"]
    assert trained.validation_losses[-1] != trained.moments[0].validation_loss
    assert_reads_back(base, tmp_path / "out", seen[0], monkeypatch)


def test_virtual_tokens_leave_room_for_themselves_in_the_context(gpt2, texts, tmp_path):
    """A window as long as the context and tokens in front of it are more than the model has positions for."""
    import peft

    peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM").save_pretrained(tmp_path / "config")
    recipe = Recipe(peft_config=str(tmp_path / "config" / "adapter_config.json"), epochs=1, batch_size=4)
    finetune(str(gpt2), rows(texts[:4], words=60), recipe, tmp_path / "out")


@pytest.mark.parametrize("method", ["full", "head", "last_k", "bitfit"])
def test_a_saved_checkpoint_is_the_one_that_was_trained(method, gpt2, records, tmp_path, monkeypatch):
    recipe = FULL.model_copy(update={"method": method, "learning_rate": 2e-2})
    with seen_modules(monkeypatch) as seen:
        finetune(str(gpt2), records, recipe, tmp_path / "out")
    loaded = bare(tmp_path / "out")
    assert torch.equal(logits_of(loaded), logits_of(seen[0]))
    assert float((logits_of(loaded) - logits_of(bare(gpt2))).abs().max()) > 1e-3
    plan = plan_models(str(tmp_path / "out"), base=str(gpt2))
    resident = plan.stages[0][1](Numerics("cpu", "fp32"), "cpu")
    assert resident is not None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_head_of_a_tied_model_is_trained_and_its_embedding_is_not(
    family, gpt2, tokenizer, records, tmp_path, monkeypatch
):
    base = gpt2 if family == "gpt2" else save_tied_llama(tmp_path / "tied", tokenizer)
    with seen_modules(monkeypatch) as seen:
        finetune(str(base), records, FULL.model_copy(update={"method": "head"}), tmp_path / "out")
    before, after = bare(base), bare(tmp_path / "out")
    assert before.get_output_embeddings().weight is before.get_input_embeddings().weight
    assert torch.equal(after.get_input_embeddings().weight, before.get_input_embeddings().weight)
    assert not torch.equal(after.get_output_embeddings().weight, before.get_output_embeddings().weight)
    assert torch.equal(logits_of(after), logits_of(seen[0]))
    others = {n: p for n, p in after.state_dict().items() if n != "lm_head.weight"}
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in others.items())


# --- which parameters are trained ---------------------------------------------------------------------


def changed_names(base, out):
    before, after = bare(base).state_dict(), bare(out).state_dict()
    return {name for name in after if not torch.equal(after[name], before[name])}


def test_bitfit_trains_every_bias_and_nothing_else(gpt2, records, tmp_path):
    finetune(str(gpt2), records, FULL.model_copy(update={"method": "bitfit"}), tmp_path / "out")
    assert changed_names(gpt2, tmp_path / "out") == {name for name in bare(gpt2).state_dict() if name.endswith(".bias")}


@pytest.mark.parametrize(("kind", "layers"), [("base", 1), ("base", 2), ("gpt2", 1)])
def test_last_k_trains_the_last_layers_and_nothing_else(kind, layers, request, records, tmp_path):
    model = request.getfixturevalue(kind)
    finetune(str(model), records, FULL.model_copy(update={"method": "last_k", "layers": layers}), tmp_path / "out")
    n_layers = {"base": 3, "gpt2": 2}[kind]
    marks = [f".{'layers' if kind == 'base' else 'h'}.{n_layers - 1 - i}." for i in range(layers)]
    expected = {name for name in bare(model).state_dict() if any(mark in name for mark in marks)}
    assert changed_names(model, tmp_path / "out") == expected


def test_full_trains_everything(gpt2, records, tmp_path):
    finetune(str(gpt2), records, FULL.model_copy(update={"epochs": 4}), tmp_path / "out")
    assert changed_names(gpt2, tmp_path / "out") == set(bare(gpt2).state_dict())


# --- how LoRA starts ----------------------------------------------------------------------------------


def matrices(out, which):
    return {name: tensor for name, tensor in weights(out).items() if f".lora_{which}." in name}


@pytest.mark.parametrize(
    ("init", "variance", "given"), [("kaiming", 1 / 3, None), ("kaiming", 0.9, 0.9), ("gaussian", 0.25, 0.25)]
)
@pytest.mark.parametrize("kind", ["base", "gpt2"])
def test_entries_of_a_start_with_the_stated_variance_over_the_width(
    kind, init, variance, given, request, records, tmp_path
):
    model = request.getfixturevalue(kind)
    recipe = LORA.model_copy(
        update={
            "rank": 96, "init": init, "init_variance": given, "freeze_a": True, "learning_rate": 1e-30, "seed": 4,
        }
    )  # fmt: skip
    finetune(str(model), records[:4], recipe, tmp_path / "out")
    found = matrices(tmp_path / "out", "A")
    scaled = torch.cat([(tensor.double() * math.sqrt(tensor.shape[1])).flatten() for tensor in found.values()])
    assert {tensor.shape[1] for tensor in found.values()} >= {32}
    assert len({tensor.shape[1] for tensor in found.values()}) > 1, "one width cannot tell c / n from a constant"
    n = len(scaled)
    kurtosis = float((scaled**4).mean() / (scaled**2).mean() ** 2)
    expected_kurtosis = 9 / 5 if init == "kaiming" else 3
    error = math.sqrt((expected_kurtosis - 1) / n)
    assert abs(float((scaled**2).mean()) / variance - 1) < 4 * error
    assert abs(float(scaled.mean())) < 4 * math.sqrt(variance / n)
    assert kurtosis == pytest.approx(expected_kurtosis, rel=0.05)
    # 1e-30 is too small to be seen beside anything but a B of zeros.
    assert all(float(tensor.abs().max()) < 1e-25 for tensor in matrices(tmp_path / "out", "B").values())


def test_a_frozen_a_stays_as_it_started_and_b_is_trained(base, records, tmp_path):
    recipe = LORA.model_copy(update={"freeze_a": True, "init": "gaussian", "epochs": 3, "weight_decay": 0.1})
    finetune(str(base), records, recipe.model_copy(update={"learning_rate": 1e-30, "epochs": 1}), tmp_path / "start")
    finetune(str(base), records, recipe, tmp_path / "frozen")
    trained = finetune(str(base), records, recipe.model_copy(update={"freeze_a": False}), tmp_path / "free")
    start, frozen, free = (matrices(tmp_path / name, "A") for name in ("start", "frozen", "free"))
    assert all(torch.equal(frozen[name], start[name]) for name in start)
    assert not any(torch.equal(free[name], start[name]) for name in start)
    assert all(tensor.abs().max() > 1e-3 for tensor in matrices(tmp_path / "frozen", "B").values())
    n_a = sum(tensor.numel() for tensor in start.values())
    facts = json.loads((tmp_path / "frozen" / "loraudit_recipe.json").read_text())
    assert facts["n_trained_parameters"] == trained.facts["n_trained_parameters"] - n_a
