"""A checkpoint or adapter is loaded whole, or refused in one sentence that names file and tensor."""

from __future__ import annotations

import json
import re
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import save_adapter
from loraudit.errors import EnvironmentFault, ModelError
from loraudit.models import Numerics, locate
from loraudit.models.loading import load_adapter, load_checkpoint

FP32 = Numerics("cpu", "fp32")
WEIGHTS = {"checkpoint": "model.safetensors", "adapter": "adapter_model.safetensors"}


def load(folder, **options):
    return load_checkpoint(locate(str(folder), **options), FP32, "cpu", **options)


def put_on(base, folder):
    return load_adapter(load(base), locate(str(folder)), str(base))


def edited(source, folder, edit=None, *, config=None):
    """A copy of a model whose tensors went through `edit`, and whose config got other values."""
    shutil.copytree(source, folder)
    kind = "adapter" if (source / WEIGHTS["adapter"]).exists() else "checkpoint"
    path = folder / WEIGHTS[kind]
    if edit:
        tensors = load_file(path)
        save_file({n: t.contiguous() for n, t in edit(tensors).items()}, path, {"format": "pt"})
    if config:
        path = folder / ("adapter_config.json" if kind == "adapter" else "config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def without(*endings):
    return lambda tensors: {name: t for name, t in tensors.items() if not name.endswith(endings)}


# --- checkpoints --------------------------------------------------------------------------------------


def test_a_checkpoint_comes_frozen_and_in_evaluation_mode(base):
    model = load(base)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_checkpoint_comes_in_the_precision_asked_for(base, precision):
    numerics = Numerics("cpu", precision)
    model = load_checkpoint(locate(str(base)), numerics, "cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {numerics.dtype}


def test_loading_says_nothing_and_leaves_the_loggers_as_they_were(base, capfd):
    import logging

    import transformers

    levels = {name: logging.getLogger(name).level for name in ("transformers", "peft", "accelerate")}
    bar = transformers.utils.logging.is_progress_bar_enabled()
    load(base)
    assert capfd.readouterr() == ("", "")
    assert levels == {name: logging.getLogger(name).level for name in levels}
    assert bar == transformers.utils.logging.is_progress_bar_enabled()


def test_a_balanced_model_is_spread_by_the_library_and_not_moved(base, monkeypatch):
    import transformers

    asked = {}
    model = load(base)
    monkeypatch.setattr(model, "to", lambda *_: pytest.fail("moved"))

    def from_pretrained(folder, **options):
        asked.update(options)
        return model, {}

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    assert load_checkpoint(locate(str(base)), Numerics("cuda", "bf16"), "balanced") is model
    assert asked["device_map"] == "balanced"
    assert asked["dtype"] == torch.bfloat16
    assert asked["trust_remote_code"] is False
    assert asked["use_safetensors"] is True
    assert asked["local_files_only"] is True


@pytest.mark.parametrize("size", [0, 5, 1000, 100_000])
def test_a_truncated_checkpoint_is_refused(base, tmp_path, size):
    folder = edited(base, tmp_path / "cut")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:size])
    with pytest.raises(ModelError, match=rf"Model '{re.escape(str(folder))}' cannot be loaded: "):
        load(folder)


@pytest.mark.parametrize("missing", ["lm_head.weight", "layers.1.mlp.up_proj.weight", "norm.weight"])
def test_a_missing_tensor_is_named(base, tmp_path, missing):
    folder = edited(base, tmp_path / "less", without(missing))
    with pytest.raises(
        ModelError, match=rf"has missing keys \(.*{re.escape(missing)}.*do not belong to its config.json"
    ):
        load(folder)


def test_many_missing_tensors_are_counted(base, tmp_path):
    folder = edited(base, tmp_path / "less", without("_proj.weight"))
    with pytest.raises(ModelError, match=r"has missing keys \(.* and 16 more\)"):
        load(folder)


def test_renamed_tensors_are_refused(base, tmp_path):
    folder = edited(base, tmp_path / "other", lambda tensors: {f"net.{name}": t for name, t in tensors.items()})
    with pytest.raises(ModelError, match=r"has (missing|unexpected) keys \("):
        load(folder)


def test_a_tensor_left_over_is_named(base, tmp_path):
    folder = edited(base, tmp_path / "more", lambda tensors: tensors | {"model.extra.weight": torch.ones(2)})
    with pytest.raises(ModelError, match=r"has unexpected keys \(model.extra.weight\)"):
        load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 4}, r"has missing keys \(model.layers.3"),
        ({"num_hidden_layers": 2}, r"has unexpected keys \(model.layers.2"),
        ({"hidden_size": 64, "head_dim": 8}, r"cannot be loaded|mismatched keys"),
        ({"vocab_size": 600}, r"cannot be loaded|mismatched keys"),
        ({"model_type": "no_such_architecture"}, r"cannot be loaded: .*no_such_architecture"),
        ({"model_type": "t5"}, r"cannot be loaded: "),
    ],
    ids=["more layers", "fewer layers", "wider", "larger vocabulary", "unknown type", "encoder-decoder"],
)
def test_weights_that_do_not_belong_to_the_config_are_refused(base, tmp_path, config, message):
    folder = edited(base, tmp_path / "other", config=config)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused_with_its_tensor(base, tmp_path, value):
    def damage(tensors):
        tensors["model.layers.1.self_attn.q_proj.weight"][2, 3] = value
        return tensors

    folder = edited(base, tmp_path / "nan", damage)
    with pytest.raises(
        ModelError, match=r"has NaN or infinite values in tensor 'model.layers.1.self_attn.q_proj.weight'. Its training"
    ):
        load(folder)


def test_pickled_weights_are_loaded_only_where_they_are_allowed(base, tmp_path):
    folder = edited(base, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has only pickled weights"):
        load(folder)
    with pytest.raises(ModelError, match=r"cannot be loaded"):
        load_checkpoint(locate(str(folder), allow_pickle=True), FP32, "cpu")
    model = load(folder, allow_pickle=True)
    torch.testing.assert_close(model.state_dict(), load(base).state_dict(), rtol=0, atol=0)


def test_a_classifier_is_refused(base, tmp_path):
    from transformers import AutoModelForSequenceClassification

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    model.save_pretrained(tmp_path / "classifier")
    with pytest.raises(ModelError, match=r"is a LlamaForSequenceClassification. Expected a causal language model"):
        load(tmp_path / "classifier")
    silent = edited(tmp_path / "classifier", tmp_path / "silent", config={"architectures": None})
    with pytest.raises(ModelError, match=r"has (missing keys \(lm_head.weight\)|unexpected keys \(score.weight\))"):
        load(silent)


def test_a_classifier_with_a_tied_head_is_refused(tmp_path):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(
        n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=64, num_labels=2, pad_token_id=0, bos_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "whole")
    edited(tmp_path / "whole", tmp_path / "classifier", config={"architectures": None})
    with pytest.raises(ModelError, match=r"has unexpected keys \(score.weight\)"):
        load(tmp_path / "classifier")


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_masked_language_model_is_refused(tmp_path, kind, says_so):
    """It sees the tokens it is asked to predict: its scores would look like perfect memory."""
    import transformers

    from loraudit.models import plan_models
    from loraudit.scoring import Scorer

    config_class, model_class = {
        "bert": (transformers.BertConfig, transformers.BertForMaskedLM),
        "roberta": (transformers.RobertaConfig, transformers.RobertaForMaskedLM),
    }[kind]
    config = config_class(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        vocab_size=64, pad_token_id=1, bos_token_id=0, eos_token_id=2, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model_class(config).save_pretrained(tmp_path / kind)
    folder = tmp_path / kind
    if not says_so:
        folder = edited(folder, tmp_path / "silent", config={"architectures": None})
    words = (
        rf"is a {kind}.*Expected a causal" if says_so else r"sees the tokens it is asked to predict.*Expected a causal"
    )
    with pytest.raises(ModelError, match=rf"(?i){words} language model"):
        Scorer(plan_models(str(folder)).stages[0][1](FP32, "cpu"), batch_tokens=64)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        MemoryError(),
    ],
    ids=["torch", "cpu", "mps", "python"],
)
def test_a_model_that_does_not_fit_is_the_fault_of_the_environment(base, monkeypatch, error):
    import transformers

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(
        EnvironmentFault, match=r"does not fit into the memory of cpu. Use a lower --precision"
    ) as caught:
        load(base)
    assert caught.value.exit_code == 5


# --- checkpoints as the hub holds them ----------------------------------------------------------------


def test_masks_and_rotary_tables_of_old_checkpoints_are_no_fault(base, tmp_path):
    folder = edited(
        base,
        tmp_path / "old",
        lambda tensors: tensors | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)},
    )
    load(folder)


# --- adapters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 100, 2000])
def test_a_truncated_adapter_is_named(base, adapter, tmp_path, size):
    folder = edited(adapter, tmp_path / "cut")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        ModelError, match=rf"Adapter file '{re.escape(str(path))}' is damaged: .*Save or download it again"
    ):
        put_on(base, folder)


def test_an_adapter_that_lacks_half_its_tensors_is_refused(base, adapter, tmp_path):
    folder = edited(adapter, tmp_path / "half", without("lora_B.weight"))
    with pytest.raises(
        ModelError,
        match=r"adapter_model.safetensors' lacks 6 of 12 tensors \(.*lora_B.weight.* and 1 more\). It is incom",
    ):
        put_on(base, folder)


def test_an_adapter_that_lacks_one_tensor_is_refused(base, adapter, tmp_path):
    folder = edited(adapter, tmp_path / "one", without("layers.1.self_attn.v_proj.lora_B.weight"))
    with pytest.raises(ModelError, match=r"lacks 1 of 12 tensors \(.*layers.1.self_attn.v_proj.lora_B.weight\)"):
        put_on(base, folder)


def test_an_adapter_with_renamed_tensors_is_refused(base, adapter, tmp_path):
    folder = edited(
        adapter, tmp_path / "renamed", lambda tensors: {name.replace("lora_", "lo_"): t for name, t in tensors.items()}
    )
    with pytest.raises(ModelError, match=r"lacks 12 of 12 tensors"):
        put_on(base, folder)


@pytest.mark.parametrize("extra", ["layers.7.self_attn.q_proj.lora_A.weight", "layers.0.mlp.up_proj.lora_A.weight"])
def test_an_adapter_with_a_tensor_that_has_no_place_is_refused(base, adapter, tmp_path, extra):
    name = f"base_model.model.model.{extra}"
    folder = edited(adapter, tmp_path / "more", lambda tensors: tensors | {name: torch.ones(4, 32)})
    with pytest.raises(ModelError, match=rf"holds 1 tensors that base .* has no place for \({name}\). Give the base"):
        put_on(base, folder)


def test_an_adapter_on_a_base_of_another_width_is_refused(base, adapter, tmp_path):
    import conftest

    conftest._llama(hidden_size=64).save_pretrained(tmp_path / "wide")
    with pytest.raises(ModelError, match=r"cannot be put on base '.*wide': .*Check that this is the base") as caught:
        put_on(tmp_path / "wide", adapter)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("n_layers", "message"), [(4, r"lacks 4 of 16 tensors"), (2, r"holds 4 tensors that base")])
def test_an_adapter_on_a_base_of_other_depth_is_refused(adapter, tmp_path, n_layers, message):
    import conftest

    conftest._llama(num_hidden_layers=n_layers).save_pretrained(tmp_path / "deep")
    with pytest.raises(ModelError, match=message):
        put_on(tmp_path / "deep", adapter)


def test_an_adapter_on_another_architecture_is_refused(adapter, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=512, bos_token_id=0, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ModelError, match=r"cannot be put on base '.*gpt2': .*q_proj"):
        put_on(tmp_path / "gpt2", adapter)


def test_nan_in_an_adapter_is_refused_with_its_tensor(base, adapter, tmp_path):
    def damage(tensors):
        name = next(name for name in tensors if name.endswith("layers.2.self_attn.q_proj.lora_A.weight"))
        tensors[name][0, 0] = torch.nan
        return tensors

    folder = edited(adapter, tmp_path / "nan", damage)
    with pytest.raises(ModelError, match=r"NaN or infinite values in tensor '.*layers.2.self_attn.q_proj.lora_A.*'"):
        put_on(base, folder)


@pytest.mark.parametrize(
    "config", [{"peft_type": None}, {"peft_type": "NO_SUCH_METHOD"}, {"r": "four"}, {"target_modules": ["no_such"]}]
)
def test_an_adapter_config_that_makes_no_sense_is_refused(base, adapter, tmp_path, config):
    folder = edited(adapter, tmp_path / "odd", config=config)
    with pytest.raises(ModelError, match=r"Adapter '.*odd' cannot be put on base"):
        put_on(base, folder)


def test_an_adapter_config_without_its_type_is_refused(base, adapter, tmp_path):
    folder = edited(adapter, tmp_path / "odd")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"Adapter '.*odd' cannot be put on base"):
        put_on(base, folder)


def test_an_adapter_that_lacks_a_module_it_saved_whole_is_refused(base, tmp_path):
    import peft

    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    whole = save_adapter(base, tmp_path / "whole", config)
    put_on(base, whole)
    folder = edited(whole, tmp_path / "less", without("lm_head.weight"))
    with pytest.raises(ModelError, match=r"(lacks 1 of 7 tensors|cannot be put on base).*lm_head.weight"):
        put_on(base, folder)


def pickled(adapter, folder, edit=lambda tensors: tensors):
    shutil.copytree(adapter, folder)
    torch.save(edit(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    return locate(str(folder), allow_pickle=True)


def test_a_pickled_adapter_is_loaded_where_it_is_allowed(base, adapter, tmp_path):
    ours = load_adapter(load(base), pickled(adapter, tmp_path / "pickled"), "base").state_dict()
    torch.testing.assert_close(ours, put_on(base, adapter).state_dict(), rtol=0, atol=0)


def test_a_pickled_adapter_is_checked_like_any_other(base, adapter, tmp_path):
    source = pickled(adapter, tmp_path / "pickled", without("layers.2.self_attn.q_proj.lora_B.weight"))
    with pytest.raises(ModelError, match=r"lacks 1 of 12 tensors"):
        load_adapter(load(base), source, "base")


def test_an_adapter_that_does_not_fit_is_the_fault_of_the_environment(base, adapter, monkeypatch):
    import peft

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", fail)
    with pytest.raises(EnvironmentFault, match=r"does not fit into the memory"):
        put_on(base, adapter)
