"""The fine-tuning loop: what it trains, what it saves, and that it learns."""

import json
import math

import numpy as np
import pytest
import torch

from loraudit.data import load_records
from loraudit.errors import ConfigError, DataError, Diverged
from loraudit.execution import Interrupted, StopRequest
from loraudit.finetuning import METHODS, finetune
from loraudit.models import fingerprint
from loraudit.spec import Recipe, RecordFormat
from loraudit.types import Record

RECIPE = Recipe(method="full", epochs=2, learning_rate=3e-3, batch_size=8)


@pytest.fixture(scope="module")
def records(record_files):
    return load_records([str(record_files[0])], RecordFormat()).records[:16]


RATES = {"full": 3e-3, "head": 1e-2, "last_k": 1e-2, "lora": 1e-2}
"""The methods that apply to a model without biases, with a learning rate that suits the tiny one."""


def test_the_methods_are_these():
    assert set(METHODS) == {*RATES, "bitfit", "peft"}


@pytest.mark.parametrize("method", RATES)
def test_training_lowers_the_loss_on_its_records(method, base, records, tmp_path):
    recipe = RECIPE.model_copy(update={"method": method, "epochs": 6, "learning_rate": RATES[method]})
    trained = finetune(str(base), records, recipe, tmp_path / "out", validation=records)
    assert len(trained.training_losses) == len(trained.validation_losses) == 6
    assert trained.validation_losses[-1] < trained.validation_losses[0] - 0.02


def test_a_full_target_loads_in_plain_transformers(base, records, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    finetune(str(base), records, RECIPE, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.float32
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a")["input_ids"]


def test_an_adapter_loads_in_plain_peft_and_leaves_the_base_alone(base, records, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    recipe = RECIPE.model_copy(update={"method": "lora", "rank": 4, "targets": ("q_proj",)})
    finetune(str(base), records, recipe, tmp_path / "out")
    bare = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        before = bare(input_ids=ids).logits
        model = peft.PeftModel.from_pretrained(bare, tmp_path / "out")
        assert not torch.equal(model(input_ids=ids).logits, before)
        with model.disable_adapter():
            assert torch.equal(model(input_ids=ids).logits, before)
    config = model.peft_config["default"]
    assert (config.r, set(config.target_modules)) == (4, {"q_proj"})


def test_the_recipe_and_the_hash_of_the_base_are_recorded(base, records, tmp_path):
    finetune(str(base), records, RECIPE, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "loraudit_recipe.json").read_text())
    assert record["base_fingerprint"] == fingerprint(base)
    assert Recipe.model_validate(record["recipe"]) == RECIPE
    assert record["n_records"] == len(records)


@pytest.mark.parametrize("method", RATES)
def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(method, base, records, tmp_path):
    recipe = RECIPE.model_copy(update={"method": method, "epochs": 1})
    state = torch.random.get_rng_state()
    prints = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune(str(base), records, recipe.model_copy(update={"seed": seed}), tmp_path / name)
        files = sorted((tmp_path / name).glob("*.safetensors"))
        prints.append([path.read_bytes() for path in files])
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's generator was touched"


def test_the_loss_is_that_of_the_model_itself(base, records, tmp_path):
    """One step over all records at learning rate ~0: the training loss is the plain token-weighted mean."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    short = [Record(f"{i:064}", "f", i, text=" ".join(str(r.text).split()[:6])) for i, r in enumerate(records)]
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch_size": len(short), "learning_rate": 1e-12})
    trained = finetune(str(base), short, recipe, tmp_path / "out")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    total = n_tokens = 0
    for record in short:
        ids = torch.tensor(tokenizer(record.text)["input_ids"])[None]
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids).loss.item()
        total, n_tokens = total + loss * (ids.shape[1] - 1), n_tokens + ids.shape[1] - 1
    assert trained.training_losses[0] == pytest.approx(total / n_tokens, abs=1e-4)


def test_only_the_completion_is_trained_on(base, tmp_path):
    """With the prompt in the loss as well, the loss is another one."""
    from loraudit.data import record_id

    rows = [Record(record_id(prompt="q ", completion="a b c"), "f", 1, prompt="q ", completion="a b c")]
    masked = finetune(str(base), rows, RECIPE.model_copy(update={"epochs": 1}), tmp_path / "masked")
    whole = finetune(str(base), rows, RECIPE.model_copy(update={"epochs": 1, "span": "all"}), tmp_path / "whole")
    assert not math.isclose(masked.training_losses[0], whole.training_losses[0], abs_tol=1e-3)


def test_long_records_are_cut_into_windows_and_every_token_is_trained_on(base, tokenizer):
    from loraudit.finetuning.examples import make_examples

    text = " ".join(f"word{i}" for i in range(200))
    n_tokens = len(tokenizer(text)["input_ids"])
    examples = make_examples([Record("0" * 64, "f", 1, text=text)], tokenizer, RECIPE, 64)
    assert max(len(e.ids) for e in examples) == 64
    assert sum(int(np.sum(e.is_trained)) for e in examples) == n_tokens - 1


def test_errors_say_what_to_do(base, records, tmp_path):
    with pytest.raises(ConfigError, match=r"Unknown tuning method 'lorra'\. Did you mean 'lora'"):
        finetune(str(base), records, RECIPE.model_copy(update={"method": "lorra"}), tmp_path / "out")
    with pytest.raises(ConfigError, match="longer than the model's context of 64 tokens"):
        finetune(str(base), records, RECIPE.model_copy(update={"max_length": 65}), tmp_path / "out")
    with pytest.raises(DataError, match="has a token to train on"):
        finetune(str(base), [Record("0" * 64, "f", 1, text="")], RECIPE, tmp_path / "out")
    huge = RECIPE.model_copy(update={"learning_rate": 1e30, "epochs": 20, "max_gradient_norm": 1e30})
    with pytest.raises(Diverged, match=r"The loss became .* Lower the learning rate"):
        finetune(str(base), records, huge, tmp_path / "out")
    assert not (tmp_path / "out" / "loraudit_recipe.json").exists()


def test_a_stop_request_ends_training_and_leaves_no_model(base, records, tmp_path):
    stop = StopRequest()
    stop.ask()
    with pytest.raises(Interrupted):
        finetune(str(base), records, RECIPE, tmp_path / "out", stop=stop)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_an_earlier_target_is_used_again_only_for_the_same_base_records_and_recipe(base, full, records, tmp_path):
    from loraudit.finetuning import trained_before

    recipe = RECIPE.model_copy(update={"epochs": 1})
    trained = finetune(str(base), records, recipe, tmp_path / "out")
    assert trained_before(str(base), records, recipe, tmp_path / "out") == trained
    assert trained_before(str(full), records, recipe, tmp_path / "out") is None
    assert trained_before(str(base), records[1:], recipe, tmp_path / "out") is None
    assert trained_before(str(base), records, RECIPE, tmp_path / "out") is None
    assert trained_before(str(base), records, recipe, tmp_path / "nothing") is None
