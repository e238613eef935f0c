"""Everything that fine-tuning refuses, in the words in which it does."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import changed_copy
from loraudit.errors import ConfigError, DataError, EnvironmentFault, ModelError, StoreError
from loraudit.finetuning import METHODS, Moment, check_settings, finetune, read_trained, trained_before
from loraudit.finetuning.base import set_dropout, window_length
from loraudit.finetuning.device import accelerator_for
from loraudit.finetuning.forward import Forward
from loraudit.finetuning.history import History
from loraudit.models import Numerics, locate
from loraudit.models import loading as loading_module
from loraudit.models.loading import load_classifier
from loraudit.spec import Recipe
from small_tuning import labelled, rows, save_bert, save_gpt2, weights

FULL = Recipe(method="full", epochs=1, batch_size=4, learning_rate=3e-3)
FP32 = Numerics("cpu", "fp32")


@pytest.fixture
def records(texts):
    return rows(texts[:4])


def refused(recipe, words):
    with pytest.raises(ConfigError, match=words):
        check_settings(recipe)


# --- recipes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "loar"}, r"Unknown tuning method 'loar'\. Did you mean 'lora'\? Known: bitfit, full, head"),
        ({"method": "full", "rank": 4}, r"'rank' = 4 has no effect with method 'full'; it belongs to lora\. Leave it"),
        ({"method": "head", "dora": True}, r"'dora' = True has no effect with method 'head'"),
        ({"method": "lora", "layers": 2}, r"'layers' = 2 has no effect with method 'lora'; it belongs to last_k"),
        ({"method": "full", "peft_config": "x.json"}, r"'peft_config' = 'x\.json' has no effect with method 'full'"),
        ({"method": "peft"}, r"Method 'peft' needs a configuration\. Give its file with --peft-config"),
        (
            {"init": "pissa", "init_variance": 1.0},
            r"'init_variance' has no effect with init 'pissa'.*Expected init kai",
        ),
        ({"init": "orthogonal", "rank": 5}, r"Rank 5 is odd\. Expected an even rank with init orthogonal"),
        ({"batch_size": 4, "micro_batch_size": 5}, r"micro_batch_size 5 is more than batch_size 4\. Expected at most"),
        ({"ngram_limit": 0.5, "select": "best"}, r"select = 'best' and ngram_limit both choose the epoch"),
        ({"dp_noise": 1.0, "packing": True}, r"packing puts several records into one row.*Leave it out"),
        ({"dp_epsilon": 1.0, "mixed_precision": "fp16"}, r"fp16 scales gradients.*Use bf16 or fp32"),
        ({"dp_epsilon": 1.0, "dp_noise": 1.0}, r"'dp_epsilon' and 'dp_noise' were both given.*give one"),
        ({"dp_delta": 1e-5}, r"'dp_delta' has no effect without 'dp_epsilon' or 'dp_noise'"),
        ({"dp_repeatable": True}, r"'dp_repeatable' has no effect without 'dp_epsilon' or 'dp_noise'"),
        ({"task": "classification", "packing": True}, r"'packing' belongs to causal language models.*classification"),
        ({"task": "classification", "token_drop": 0.1}, r"'token_drop' belongs to causal"),
        ({"task": "classification", "ngram_limit": 0.1}, r"'ngram_limit' belongs to causal"),
        ({"task": "classification", "append_eos": True}, r"'append_eos' belongs to causal"),
        ({"on_long": "cut"}, r"'on_long' belongs to classification; longer records.*none of their tokens is lost"),
    ],
)
def test_what_contradicts_itself_or_has_no_effect_is_refused(changes, words):
    refused(Recipe.model_validate(changes), words)


def test_all_of_it_is_said_at_once():
    with pytest.raises(ConfigError) as raised:
        check_settings(Recipe(method="full", rank=3, dora=True, on_long="cut", dp_delta=0.1, batch_size=1))
    assert len(str(raised.value).splitlines()) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "classification", "span": "all"},
        {"task": "classification", "ngram_length": 5},
        {"ngram_length": 5},
        {"freeze_a": True, "method": "lora", "init": "kaiming", "dp_noise": 1.0, "ngram_limit": 0.5},
    ],
    ids=["span of a classifier", "n-grams of a classifier", "n-grams without a limit", "n-grams under privacy"],
)
def test_other_settings_without_effect_are_refused(changes):
    with pytest.raises(ConfigError):
        check_settings(Recipe.model_validate(changes))


def test_every_method_says_what_it_does_and_where_it_is_from():
    for name, method in METHODS.items():
        assert method.name == name
        assert method.summary.endswith(".")
        assert method.source


def test_going_by_validation_needs_validation_records(base, records, tmp_path):
    for changes in ({"select": "best"}, {"patience": 1}):
        with pytest.raises(ConfigError, match=r"go by the validation loss, and there are no validation records\. Give"):
            finetune(str(base), records, FULL.model_copy(update=changes), tmp_path / "out")


# --- bases --------------------------------------------------------------------------------------------


def test_an_adapter_is_no_base(adapter, records, tmp_path):
    with pytest.raises(ConfigError, match=r"is an adapter\. Expected a full checkpoint; merge it with merge_and_unl"):
        finetune(str(adapter), records, FULL, tmp_path / "out")


def test_a_window_longer_than_the_context_is_refused():
    with pytest.raises(
        ConfigError, match=r"Window length 65 is longer than the model's context of 64 tokens.*at most 64"
    ):
        window_length(Recipe(max_length=65), {"n_positions": 64})
    assert window_length(Recipe(max_length=64), {"max_position_embeddings": 64}) == 64
    assert window_length(Recipe(), {"max_position_embeddings": 64}) == 64
    assert window_length(Recipe(), {}) == 1024


def test_the_context_of_a_text_part_is_looked_up():
    assert window_length(Recipe(), {"text_config": {"max_position_embeddings": 64}}) == 64


def test_more_layers_than_there_are_are_refused(base, records, tmp_path):
    recipe = FULL.model_copy(update={"method": "last_k", "layers": 4})
    with pytest.raises(ConfigError, match=r"layers = 4 is out of range\. Expected at most 3, which this model has"):
        finetune(str(base), records, recipe, tmp_path / "out")


def test_a_model_whose_layers_are_not_found_has_no_last_ones(monkeypatch, base, records, tmp_path):
    from loraudit.finetuning import methods

    monkeypatch.setattr(methods, "find_layers", lambda _: ("", []))
    with pytest.raises(ConfigError, match=r"'last_k' does not apply to LlamaForCausalLM: its layers are not found"):
        finetune(str(base), records, FULL.model_copy(update={"method": "last_k"}), tmp_path / "out")


def test_a_model_without_biases_is_refused_by_bitfit(base, records, tmp_path):
    with pytest.raises(ConfigError, match=r"'bitfit' does not apply to LlamaForCausalLM: it has no bias\. Use full"):
        finetune(str(base), records, FULL.model_copy(update={"method": "bitfit"}), tmp_path / "out")


def test_a_model_without_dropout_has_none_to_set():
    class Plain(torch.nn.Linear):
        class Config:
            def get_text_config(self):
                return self

            def to_dict(self):
                return {"hidden_size": 2}

        config = Config()

    with pytest.raises(ConfigError, match=r"model_dropout does not apply to Plain: it has no dropout\. Leave it out"):
        set_dropout(Plain(2, 2), 0.1)


def test_fp16_needs_a_gpu(base, records, tmp_path):
    with (
        pytest.raises(ConfigError, match=r"fp16 needs a GPU, and the device is 'cpu'\. Use --mixed-precision bf16"),
        accelerator_for("cpu", "fp16"),
    ):
        pass
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        finetune(str(base), records, FULL.model_copy(update={"mixed_precision": "fp16"}), tmp_path / "out")


# --- adapters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"PEFT configuration '.*none\.json' cannot be read: No such file or directory\. Check the path"),
        ("{", r"PEFT configuration '.*' is no JSON: .*\. Mend it at that place"),
        ("[]", r"names no 'peft_type'\. Expected a file such as the adapter_config\.json"),
        ('{"r": 4}', r"names no 'peft_type'"),
        pytest.param(
            '{"peft_type": "LORA", "rnak": 4}',
            r"is not understood: .*rnak.*\. Mend that field",
        ),
        ('{"peft_type": "NOVEL"}', r"is not understood: .*NOVEL"),
        ('{"peft_type": "LORA", "target_modules": ["nowhere"]}', r"does not apply to LlamaForCausalLM: Target modules"),
        ('{"peft_type": "LORA", "r": 0, "target_modules": ["q_proj"]}', r"does not apply to Llama.*`r` should be"),
    ],
)
def test_a_peft_configuration_that_cannot_be_used_is_refused(content, words, base, records, tmp_path):
    path = tmp_path / ("config.json" if content else "none.json")
    if content:
        path.write_text(content)
    recipe = Recipe(peft_config=str(path), epochs=1)
    with pytest.raises(ConfigError, match=words):
        finetune(str(base), records, recipe, tmp_path / "out")


def test_a_peft_configuration_that_is_no_text_is_refused(base, records, tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"PEFT configuration '.*bytes\.json' is no JSON"):
        finetune(str(base), records, Recipe(peft_config=str(tmp_path / "bytes.json")), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"targets": ("nowhere",)},
            r"Method 'lora' does not apply to LlamaForCausalLM: Target modules.*not found.*Cha",
        ),
        (
            {"targets": ("norm",)},
            r"Method 'lora' does not apply to LlamaForCausalLM: Target module .* is not supported",
        ),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(changes, words, base, records, tmp_path):
    with pytest.raises(ConfigError, match=words):
        finetune(str(base), records, Recipe(**changes), tmp_path / "out")


def test_an_adapter_that_would_train_nothing_is_refused(base, records, tmp_path, monkeypatch):
    import peft

    make = peft.get_peft_model

    def frozen(*arguments):
        return make(*arguments).requires_grad_(False)

    monkeypatch.setattr(peft, "get_peft_model", frozen)
    with pytest.raises(ConfigError, match=r"Method 'lora' would train nothing in LlamaForCausalLM\. Change targets"):
        finetune(str(base), records, Recipe(targets=("q_proj",)), tmp_path / "out")


@pytest.mark.parametrize("kind", ["adalora", "eva"])
def test_a_method_that_asks_more_of_the_loop_than_it_does_is_refused(kind, base, records, tmp_path):
    """AdaLoRA moves its ranks between steps; EVA starts from activations on data."""
    import peft

    config = (
        peft.AdaLoraConfig(target_modules=["q_proj"], total_step=10, init_r=4, target_r=2)
        if kind == "adalora"
        else peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="eva", eva_config=peft.EvaConfig())
    )
    config.save_pretrained(tmp_path / "config")
    recipe = Recipe(peft_config=str(tmp_path / "config" / "adapter_config.json"), epochs=1)
    with pytest.raises(ConfigError):
        finetune(str(base), records, recipe, tmp_path / "out")


def test_the_stated_variance_holds_for_the_a_of_an_embedding_or_is_refused(base, records, tmp_path):
    recipe = Recipe(
        targets=("embed_tokens",), rank=64, init="gaussian", init_variance=0.5, learning_rate=1e-30, epochs=1
    )
    try:
        finetune(str(base), records, recipe, tmp_path / "out")
    except ConfigError:
        return
    (a,) = [tensor for name, tensor in weights(tmp_path / "out").items() if "embedding_A" in name]
    assert float(a.var()) * a.shape[1] == pytest.approx(0.5, rel=0.1)


# --- records ------------------------------------------------------------------------------------------


def test_records_without_a_token_to_train_on_are_refused(base, records, tmp_path):
    empty = rows([""])
    with pytest.raises(DataError, match=r"None of the 1 records has a token to train on\. Give longer records"):
        finetune(str(base), empty, FULL, tmp_path / "out")
    with pytest.raises(
        DataError, match=r"None of the 1 validation records has a token to take a loss on\. Give longer"
    ):
        finetune(str(base), records, FULL, tmp_path / "out", validation=empty)


def test_the_end_of_text_needs_a_token(base, records, tmp_path):
    bald = shutil.copytree(base, tmp_path / "base")
    path = bald / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"eos_token": "</s>",', ""))
    with pytest.raises(DataError, match="the tokenizer has no end-of-text token"):
        finetune(str(bald), records, FULL.model_copy(update={"append_eos": True}), tmp_path / "out")


# --- memory -------------------------------------------------------------------------------------------


def test_a_batch_too_large_for_the_memory_says_what_to_make_smaller(base, records, tmp_path, monkeypatch):
    def too_large(self, batch):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")

    with monkeypatch.context() as patch:
        patch.setattr(Forward, "_loss", lambda *_: too_large(*_[:2]))
        with pytest.raises(
            EnvironmentFault, match=r"A batch of 4 windows of up to \d+ tokens does not fit.*--micro-ba"
        ):
            finetune(str(base), records, FULL, tmp_path / "out")
    assert not (tmp_path / "out" / "training" / "lock.json").exists()


@pytest.mark.parametrize("where", ["backward", "optimizer"])
def test_memory_that_runs_out_behind_the_forward_pass_is_told_in_the_same_words(
    where, base, records, tmp_path, monkeypatch
):
    def too_large(*arguments, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")

    if where == "backward":
        monkeypatch.setattr(torch.Tensor, "backward", too_large)
    else:
        monkeypatch.setattr(torch.optim.AdamW, "step", too_large)
    with pytest.raises(EnvironmentFault, match="does not fit into the memory"):
        finetune(str(base), records, FULL, tmp_path / "out")


def test_another_failure_of_a_forward_pass_keeps_its_traceback(base, records, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Forward, "_loss", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        finetune(str(base), records, FULL, tmp_path / "out")


def test_a_head_that_cannot_be_run_on_selected_positions_is_run_on_all(base, records, tmp_path, monkeypatch):
    expected = finetune(str(base), records, FULL, tmp_path / "selected")
    logits = Forward._logits
    tried = []

    def picky(self, batch):
        tried.append(self.selects)
        if self.selects:
            raise ValueError("the head wants whole rows")
        return logits(self, batch)

    monkeypatch.setattr(Forward, "_logits", picky)
    trained = finetune(str(base), records, FULL, tmp_path / "whole")
    assert tried.count(True) == 1
    assert trained.training_losses == pytest.approx(expected.training_losses, abs=1e-5)


# --- results ------------------------------------------------------------------------------------------


def test_what_is_no_finished_folder_is_none(base, records, tmp_path):
    assert read_trained(tmp_path / "nothing") is None
    for content in ("", "[]", "{}", '{"made_from": {}, "moments": [], "chosen_step": 3}', '{"moments": 3}'):
        (tmp_path / "loraudit_recipe.json").write_text(content)
        assert read_trained(tmp_path) is None
        assert trained_before(str(base), records, FULL, tmp_path) is None


def test_a_folder_whose_weights_are_gone_is_trained_again(base, records, tmp_path):
    finetune(str(base), records, FULL, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    finetune(str(base), records, FULL, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_saving_that_fails_names_the_folder_and_its_bytes(base, records, tmp_path, monkeypatch):
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    for error, words in (
        (OSError(28, "No space left on device"), "No space left on device"),
        (SafetensorError("I/O error: full"), "I/O error: full"),
    ):

        def fail(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(PreTrainedModel, "save_pretrained", fail)
            with pytest.raises(
                StoreError, match=rf"cannot be saved to '.*chosen' \(about [\d,]+ bytes\): {words}\. Fr"
            ):
                finetune(str(base), records, FULL, tmp_path / "out")
        assert read_trained(tmp_path / "out") is None
    finetune(str(base), records, FULL, tmp_path / "out")


def test_a_moment_is_read_from_what_an_older_version_wrote():
    assert Moment.read({"step": 3, "epoch": 1.0, "of_a_later_version": 1}) == Moment(3, 1.0)


def test_the_best_moment_is_the_earliest_of_equals_and_never_the_base():
    history = History([Moment(0, 0.0, validation_loss=1.0), *(Moment(i, i, validation_loss=2.0) for i in (1, 2))])
    assert history.best == history.moments[1]
    assert History([Moment(0, 0.0, validation_loss=1.0)]).best is None
    assert History([Moment(1, 1.0)]).best is None


def test_a_validation_loss_of_zero_is_the_best_there_is():
    history = History([Moment(1, 1.0, validation_loss=0.5), Moment(2, 2.0, validation_loss=0.0)])
    assert history.best == history.moments[1]


def test_a_validation_loss_that_is_no_number_is_never_the_best():
    history = History([Moment(1, 1.0, validation_loss=float("nan")), Moment(2, 2.0, validation_loss=0.5)])
    assert history.best == history.moments[1]


# --- classifiers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory, tokenizer):
    return save_bert(tmp_path_factory.mktemp("models") / "bert", tokenizer)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer):
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2", tokenizer)


def classifier(folder, labels=("a", "b"), pad_id=1):
    return load_classifier(locate(str(folder)), FP32, "cpu", labels, pad_id)


def with_tensors(source, folder, change):
    shutil.copytree(source, folder)
    path = folder / "model.safetensors"
    save_file({n: t.contiguous() for n, t in change(load_file(path)).items()}, path, {"format": "pt"})
    return folder


def test_a_head_that_the_checkpoint_has_no_values_for_is_new(base, bert, gpt2):
    assert classifier(base)[1] == ["score.weight"]
    assert classifier(gpt2)[1] == ["score.weight"]
    assert set(classifier(bert)[1]) == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_a_classifier_is_loaded_with_its_own_head_where_the_labels_are_as_many(base, texts, tmp_path):
    recipe = Recipe(task="classification", method="full", epochs=1, batch_size=8)
    finetune(str(base), labelled(texts[:8]), recipe, tmp_path / "out")
    model, new = classifier(tmp_path / "out", ("no", "yes"))
    assert new == []
    assert torch.equal(model.score.weight, weights(tmp_path / "out")["score.weight"])
    assert classifier(tmp_path / "out", ("x", "y", "z"))[1] == ["score.weight"]


def test_a_body_that_lacks_weights_is_refused(base, bert, tmp_path):
    cut = with_tensors(base, tmp_path / "cut", lambda t: {n: v for n, v in t.items() if ".layers.1." not in n})
    with pytest.raises(
        ModelError, match=r"lacks \d+ weights of its body \(.*layers\.1\..* and \d+ more\): its weights"
    ):
        classifier(cut)
    other = with_tensors(
        bert, tmp_path / "other", lambda t: {n: v[:, :16] if n.endswith("query.weight") else v for n, v in t.items()}
    )
    with pytest.raises(ModelError, match=r"lacks 2 weights of its body \(bert\.encoder.*query\.weight"):
        classifier(other)


def test_a_body_with_values_that_are_no_numbers_is_refused(base, tmp_path):
    damaged = changed_copy(base, tmp_path / "nan", lambda n: n == "model.norm.weight", scale=float("nan"))
    with pytest.raises(ModelError, match=r"NaN or infinite values in tensor 'model\.norm\.weight'"):
        classifier(damaged)


def test_a_file_that_is_cut_short_is_refused(base, tmp_path):
    cut = shutil.copytree(base, tmp_path / "cut")
    path = cut / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cannot be loaded: .*Save or download it again"):
        classifier(cut)


def test_an_architecture_without_a_classifier_is_refused(base, tmp_path):
    strange = shutil.copytree(base, tmp_path / "strange")
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps(config | {"model_type": "mamba", "architectures": ["Mamba"]}))
    with pytest.raises(ModelError, match=r"cannot be loaded: .*AutoModelForSequenceClassification"):
        classifier(strange)


def test_what_the_loader_itself_complains_of_is_refused(base, monkeypatch):
    def loaded(*_, **__):
        return None, {"error_msgs": ["size mismatch for a.weight"]}

    monkeypatch.setattr(loading_module, "_load", loaded)
    with pytest.raises(ModelError, match=r"has error msgs \(size mismatch for a\.weight\): its weights do not belong"):
        classifier(base)


def test_a_classifier_too_large_for_the_memory_is_refused(base, monkeypatch):
    from transformers import AutoModelForSequenceClassification

    def too_large(*_, **__):
        raise MemoryError

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", too_large)
    with pytest.raises(EnvironmentFault, match="does not fit into the memory of cpu"):
        classifier(base)


def test_the_hub_name_of_a_base_stays_its_name_in_the_adapter(base, records, tmp_path, monkeypatch):
    """A snapshot in the cache is found under another path on every machine."""
    import huggingface_hub

    snapshot = shutil.copytree(base, tmp_path / "cache" / "snapshots" / "0123")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    recipe = Recipe(targets=("q_proj",), epochs=1, batch_size=4)
    trained = finetune("someone/model", records, recipe, tmp_path / "out", offline=True)
    assert trained.facts["base"] == "someone/model"
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/model"


def test_a_local_base_is_named_by_its_whole_path(base, records, tmp_path, monkeypatch):
    monkeypatch.chdir(base.parent)
    finetune(base.name, records, Recipe(targets=("q_proj",), epochs=1), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())


def test_no_text_of_a_record_is_written_beside_the_model(base, texts, tmp_path):
    some = rows(texts[:6])
    finetune(str(base), some, FULL.model_copy(update={"checkpoints": 1}), tmp_path / "out", validation=some[:2])
    words = {record.text.encode() for record in some} | {record.id.encode() for record in some}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in words if word in content], path
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    assert np.isfinite(read_trained(tmp_path / "out").chosen.validation_loss)
