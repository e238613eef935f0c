"""How target and reference come to be, and every pair that is refused."""

from __future__ import annotations

import json
import re
import shutil
import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import conftest
from conftest import changed_copy
from loraudit.errors import EnvironmentFault, ModelError
from loraudit.models import (
    Numerics,
    fingerprint,
    load_tokenizer,
    plan_models,
    tokenizer_fingerprint,
    with_reference,
)
from loraudit.models.fingerprint import count_parameters, has_tokenizer
from loraudit.models.recorded import RECIPE_FILE
from loraudit.spec import ModelSummary
from loraudit.store import EvidenceStore

FP32 = Numerics("cpu", "fp32")


def resident_of(plan, stage=0):
    return plan.stages[stage][1](FP32, "cpu")


def copied(source, folder, *, tensors=None, config=None, recipe=None):
    """A copy of a model with other tensors, config values or a recipe beside it."""
    shutil.copytree(source, folder)
    is_adapter = (source / "adapter_config.json").exists()
    if tensors is not None:
        path = folder / ("adapter_model.safetensors" if is_adapter else "model.safetensors")
        save_file({n: t.contiguous() for n, t in tensors(load_file(path)).items()}, path, {"format": "pt"})
    if config is not None:
        path = folder / ("adapter_config.json" if is_adapter else "config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    if recipe is not None:
        (folder / RECIPE_FILE).write_text(json.dumps(recipe))
    return folder


def save_adapter(base, folder, config, **options):
    """As in conftest, without PEFT's remarks on what is meant to be unusual here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return conftest.save_adapter(base, folder, config, **options)


def probe_logits(module):
    with torch.inference_mode():
        return module(input_ids=torch.arange(40)[None], use_cache=False).logits


def bare(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


# --- adapters -----------------------------------------------------------------------------------------


def test_an_adapter_and_its_recorded_base_are_one_copy(adapter, base):
    plan = plan_models(str(adapter))
    assert [views for views, _ in plan.stages] == [("target", "reference")]
    assert plan.target.kind == "adapter"
    assert plan.reference.kind == "base, as the adapter switched off"
    assert plan.reference.name == str(base)
    assert plan.reference.fingerprint == fingerprint(base)
    assert plan.target.fingerprint not in {fingerprint(base), fingerprint(adapter)}
    assert plan.target.details["type"] == "LORA"
    assert plan.target.details["r"] == 4
    assert plan.target.details["base_evidence"] == "name recorded with the model"
    assert plan.context_length == conftest.CONTEXT
    assert plan.width == 32
    assert plan.n_parameters == count_parameters(base) + count_parameters(adapter)
    assert plan.warnings == []
    assert plan.tokenizer_folder == base


def test_an_adapter_switched_off_gives_the_logits_of_the_base_bit_by_bit(adapter, base):
    resident = resident_of(plan_models(str(adapter)))
    with resident.views["reference"]():
        off = probe_logits(resident.module)
    assert torch.equal(off, probe_logits(bare(base)))
    with resident.views["target"]():
        on = probe_logits(resident.module)
    assert torch.equal(on, probe_logits(peft.PeftModel.from_pretrained(bare(base), adapter).eval()))
    assert not torch.equal(on, off)


def test_the_same_adapter_on_another_base_is_another_target(adapter, base, full):
    ours = plan_models(str(adapter), base=str(base))
    other = plan_models(str(adapter), base=str(full))
    assert ours.target.fingerprint != other.target.fingerprint
    assert ours.target.fingerprint == plan_models(str(adapter)).target.fingerprint


def test_a_tokenizer_beside_the_adapter_wins(adapter, base, tmp_path):
    folder = copied(adapter, tmp_path / "own")
    shutil.copy(base / "tokenizer.json", folder)
    shutil.copy(base / "tokenizer_config.json", folder)
    plan = plan_models(str(folder))
    assert plan.tokenizer_folder == folder
    assert plan.tokenizer_fingerprint == tokenizer_fingerprint(folder)


def test_an_adapter_that_records_no_base_needs_one(adapter, base, tmp_path):
    folder = copied(adapter, tmp_path / "none", config={"base_model_name_or_path": None})
    with pytest.raises(
        ModelError, match=rf"Adapter '{re.escape(str(folder))}' records no base model. Give it with --base"
    ):
        plan_models(str(folder))
    assert plan_models(str(folder), base=str(base)).reference.name == str(base)


def test_a_recorded_base_that_is_gone_is_asked_for(adapter, base, tmp_path):
    folder = copied(adapter, tmp_path / "moved", config={"base_model_name_or_path": "/home/someone/else/base"})
    with pytest.raises(
        ModelError, match=r"records, '/home/someone/else/base', does not exist here. Give it with --base"
    ):
        plan_models(str(folder))


def test_a_moved_local_base_is_no_mismatch_but_stands_in_the_report(adapter, base, tmp_path):
    folder = copied(adapter, tmp_path / "moved", config={"base_model_name_or_path": "/home/someone/else/base"})
    plan = plan_models(str(folder), base=str(base))
    (warning,) = plan.warnings
    assert warning == (
        "Base not proven: the model records '/home/someone/else/base', and a local folder cannot be checked against "
        "that name."
    )


def test_a_base_recorded_relative_to_the_adapter_is_found(adapter, base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    folder = copied(adapter, tmp_path / "adapter", config={"base_model_name_or_path": "../base"})
    assert plan_models(str(folder)).reference.fingerprint == fingerprint(base)


def test_a_recorded_hub_name_is_looked_up(adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = copied(adapter, tmp_path / "hub", config={"base_model_name_or_path": "nobody/no-such-base"})
    with pytest.raises(EnvironmentFault, match=r"Where there is a network, run: hf download nobody/no-such-base"):
        plan_models(str(folder), offline=True)


def from_hub(monkeypatch, tmp_path, **folders):
    """Let hub names with underscores for slashes be these folders."""
    import huggingface_hub

    monkeypatch.chdir(tmp_path)
    known = {name.replace("__", "/"): folder for name, folder in folders.items()}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(known[name]))


def test_another_hub_base_than_the_recorded_one_is_refused(adapter, base, tmp_path, monkeypatch):
    from_hub(monkeypatch, tmp_path, org__base=base, org__other=base)
    folder = copied(adapter, tmp_path / "hub", config={"base_model_name_or_path": "org/base"})
    assert plan_models(str(folder)).warnings == []
    assert plan_models(str(folder), base="org/base").warnings == []
    with pytest.raises(
        ModelError,
        match=r"records base 'org/base', but --base is 'org/other'. Give .*, or accept .* --allow-other-base",
    ):
        plan_models(str(folder), base="org/other")
    plan = plan_models(str(folder), base="org/other", allow_other_base=True)
    (warning,) = plan.warnings
    assert warning == (
        f"Model '{folder}' records base 'org/base', but --base is 'org/other'; it was used all the same "
        "(--allow-other-base)."
    )


def test_a_base_with_the_recorded_content_is_proven_wherever_it_lies(adapter, base, tmp_path):
    recipe = {"base_fingerprint": fingerprint(base)}
    folder = copied(adapter, tmp_path / "ours", config={"base_model_name_or_path": "/gone"}, recipe=recipe)
    plan = plan_models(str(folder), base=str(base))
    assert plan.warnings == []
    assert plan.target.details["base_evidence"] == "content hash recorded at training"


def test_a_base_with_other_content_than_recorded_is_refused(adapter, full, tmp_path):
    folder = copied(adapter, tmp_path / "ours", recipe={"base_fingerprint": "0" * 64})
    with pytest.raises(
        ModelError, match=r"records a base with another content hash than '.*full' has. Give .*--allow-other-base"
    ):
        plan_models(str(folder), base=str(full))
    plan = plan_models(str(folder), base=str(full), allow_other_base=True)
    (warning,) = plan.warnings
    assert warning == (
        f"Model '{folder}' records a base with another content hash than '{full}' has; it was used all the same "
        "(--allow-other-base)."
    )
    assert plan.target.details["base_evidence"] == "contradicted by the record"


def test_a_recorded_base_that_changed_in_place_is_named_in_the_refusal(adapter, base, tmp_path):
    """Nobody gave --base here, so the message must not speak of it as 'None'."""
    folder = copied(adapter, tmp_path / "ours", recipe={"base_fingerprint": "0" * 64})
    with pytest.raises(ModelError, match=r"another content hash") as caught:
        plan_models(str(folder))
    assert "None" not in str(caught.value)
    assert str(base) in str(caught.value)
    assert "None" not in plan_models(str(folder), allow_other_base=True).warnings[0]


@pytest.mark.parametrize("recipe", ["", "{", "[]"])
def test_an_unreadable_recipe_is_as_none(adapter, tmp_path, recipe):
    folder = copied(adapter, tmp_path / "ours")
    (folder / RECIPE_FILE).write_text(recipe)
    assert plan_models(str(folder)).warnings == []


def test_a_base_that_is_an_adapter_is_refused(adapter):
    with pytest.raises(ModelError, match=r"Base '.*' is itself an adapter. Expected a full checkpoint; merge it first"):
        plan_models(str(adapter), base=str(adapter))


def test_an_adapter_that_changes_nothing_is_refused(base, tmp_path):
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    folder = save_adapter(base, tmp_path / "fresh", config, scale=0.0)
    with pytest.raises(
        ModelError, match=rf"Adapter '{re.escape(str(folder))}' changes nothing: .* audit a trained adapt"
    ):
        resident_of(plan_models(str(folder)))


@pytest.mark.parametrize("how", ["pissa", "olora"])
def test_an_adapter_that_rewrites_the_base_is_refused(base, tmp_path, how):
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=how, task_type="CAUSAL_LM")
    folder = save_adapter(base, tmp_path / how, config)
    with pytest.raises(
        ModelError,
        match=rf"Adapter '.*{how}' cannot be switched off: without it the logits differ from base .* by up to .*"
        rf"init_lora_weights = '{how}'.* Merge it .* path_initial_model_for_weight_conversion",
    ):
        resident_of(plan_models(str(folder)))


def test_a_converted_pissa_adapter_can_be_audited(base, tmp_path):
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT recommends the conversion that follows
        torch.manual_seed(0)
        model = peft.get_peft_model(bare(base), config)
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(tmp_path / "start")
        model.peft_config["default"].init_lora_weights = "pissa"
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    resident = resident_of(plan_models(str(tmp_path / "converted")))
    with resident.views["reference"]():
        assert torch.equal(probe_logits(resident.module), probe_logits(bare(base)))
    torch.testing.assert_close(probe_logits(resident.module), probe_logits(model.eval()), rtol=1e-4, atol=1e-3)


def test_an_adapter_that_trained_biases_of_the_base_is_refused_with_what_is_the_matter(tmp_path):
    """PEFT overwrites the base's own biases, and switching off does not bring them back."""
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=64, bos_token_id=0, eos_token_id=1)
    ).save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], bias="all", fan_in_fan_out=True, task_type="CAUSAL_LM")
    folder = save_adapter(tmp_path / "base", tmp_path / "trained", config)
    with pytest.raises(ModelError, match=r"cannot be switched off: .*bias = 'all'.* Merge it with merge_and_unload"):
        resident_of(plan_models(str(folder)))


def test_an_adapter_of_a_few_tokens_that_the_probe_does_not_hold_is_audited(base, tmp_path):
    config = peft.TrainableTokensConfig(token_indices=[5, 6], task_type="CAUSAL_LM")
    folder = save_adapter(base, tmp_path / "tokens", config, scale=1.0)
    assert set(resident_of(plan_models(str(folder))).views) == {"target", "reference"}


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_virtual_tokens_take_their_room_from_the_context(base, tmp_path, kind):
    config = getattr(peft, kind)(num_virtual_tokens=4, task_type="CAUSAL_LM")
    folder = save_adapter(base, tmp_path / "virtual", config)
    assert plan_models(str(folder)).context_length == conftest.CONTEXT - 4


# --- what one copy shares -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "n_shared", "shares_trunk"),
    [
        ({"target_modules": ["q_proj", "v_proj"]}, 0, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1, 2]}, 1, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [2], "modules_to_save": ["lm_head"]}, 2, False),
        ({"target_modules": ["lm_head"]}, 3, True),
        ({"target_modules": ["embed_tokens"]}, 0, False),
        ({"target_modules": ["lm_head"], "modules_to_save": ["embed_tokens"]}, 0, False),
    ],
)
def test_layers_before_the_first_adapted_one_are_shared(base, tmp_path, options, n_shared, shares_trunk):
    folder = save_adapter(base, tmp_path / "adapter", peft.LoraConfig(r=2, task_type="CAUSAL_LM", **options))
    resident = resident_of(plan_models(str(folder)))
    assert (resident.n_shared_layers, resident.shares_trunk) == (n_shared, shares_trunk)


# --- checkpoints --------------------------------------------------------------------------------------


def test_a_checkpoint_alone_has_no_reference(base):
    plan = plan_models(str(base))
    assert plan.reference is None
    assert [views for views, _ in plan.stages] == [("target",)]
    assert plan.target.kind == "checkpoint"
    assert plan.warnings == []


@pytest.mark.parametrize(
    ("name", "kind", "changed", "stages"),
    [
        ("full", "checkpoint", "30 of 30", [("target",), ("reference",)]),
        ("head_only", "checkpoint, head only", "1 of 30", [("target", "reference")]),
        ("last_layer", "checkpoint, partly tuned", "9 of 30", [("target", "reference")]),
    ],
)
def test_a_checkpoint_shares_memory_with_its_base_where_most_tensors_are_equal(
    request, base, name, kind, changed, stages
):
    target = request.getfixturevalue(name)
    plan = plan_models(str(target), base=str(base))
    assert plan.target.kind == kind
    assert plan.target.details["tensors_changed"] == changed
    assert [views for views, _ in plan.stages] == stages
    assert plan.reference.kind == "base checkpoint"
    assert plan.target.fingerprint == fingerprint(target)
    assert plan.reference.fingerprint == fingerprint(base)
    assert plan.warnings == []


def test_a_head_by_another_name_is_a_head(tmp_path):
    """GPT-NeoX (Pythia) calls it embed_out."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        vocab_size=64, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "base")
    copied(tmp_path / "base", tmp_path / "head", tensors=lambda t: t | {"embed_out.weight": t["embed_out.weight"] + 1})
    plan = plan_models(str(tmp_path / "head"), base=str(tmp_path / "base"))
    assert resident_of(plan).shares_trunk
    assert plan.target.kind == "checkpoint, head only"


@pytest.mark.parametrize("name", ["head_only", "last_layer"])
def test_the_swapped_view_gives_the_logits_of_the_base_bit_by_bit(request, base, name):
    target = request.getfixturevalue(name)
    resident = resident_of(plan_models(str(target), base=str(base)))
    for _ in range(2):
        with resident.views["reference"]():
            assert torch.equal(probe_logits(resident.module), probe_logits(bare(base)))
        with resident.views["target"]():
            assert torch.equal(probe_logits(resident.module), probe_logits(bare(target)))


def test_a_tied_target_of_an_untied_base_still_has_the_base_as_reference(base, tmp_path):
    def tied(tensors):
        tensors["model.layers.2.mlp.up_proj.weight"] += 0.1
        return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}

    target = copied(base, tmp_path / "tied", tensors=tied, config={"tie_word_embeddings": True})
    plan = plan_models(str(target), base=str(base))
    stage = next(i for i, (views, _) in enumerate(plan.stages) if "reference" in views)
    resident = resident_of(plan, stage)
    with resident.views["reference"]():
        assert torch.equal(probe_logits(resident.module), probe_logits(bare(base)))


def test_an_untied_head_on_a_tied_base_shares_the_body(tmp_path):
    conftest._llama(tie_word_embeddings=True).save_pretrained(tmp_path / "base")

    def untied(tensors):
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 0.5}

    target = copied(tmp_path / "base", tmp_path / "untied", tensors=untied, config={"tie_word_embeddings": False})
    plan = plan_models(str(target), base=str(tmp_path / "base"))
    assert plan.target.kind == "checkpoint, head only"
    resident = resident_of(plan)
    assert resident.shares_trunk
    with resident.views["reference"]():
        assert torch.equal(probe_logits(resident.module), probe_logits(bare(tmp_path / "base")))


def test_a_base_recorded_in_the_recipe_is_used_if_it_is_there(full, base, tmp_path):
    target = copied(full, tmp_path / "ours", recipe={"base": str(base)})
    assert plan_models(str(target)).reference.fingerprint == fingerprint(base)
    gone = copied(full, tmp_path / "gone", recipe={"base": str(tmp_path / "no-such-base")})
    assert plan_models(str(gone)).reference is None
    itself = copied(full, tmp_path / "itself", recipe={"base": str(tmp_path / "itself")})
    assert plan_models(str(itself)).reference is None


def test_a_checkpoint_whose_recorded_base_changed_in_place_is_refused(full, base, tmp_path):
    """The recipe holds the content hash of the base, for checkpoints as for adapters."""
    target = copied(full, tmp_path / "ours", recipe={"base": str(base), "base_fingerprint": "0" * 64})
    with pytest.raises(ModelError, match=r"another content hash"):
        plan_models(str(target))
    assert "another content hash" in plan_models(str(target), allow_other_base=True).warnings[0]
    known = copied(full, tmp_path / "known", recipe={"base": str(base), "base_fingerprint": fingerprint(base)})
    assert plan_models(str(known)).warnings == []


def test_the_same_checkpoint_twice_is_refused(base, tmp_path):
    copy = copied(base, tmp_path / "copy")
    with pytest.raises(
        ModelError, match=r"Model '.*copy' and base '.*' are the same checkpoint. Give the fine-tuned one"
    ):
        plan_models(str(copy), base=str(base))


def test_equal_weights_in_another_file_are_refused(base, tmp_path):
    copy = copied(base, tmp_path / "copy", config={"transformers_version": "0"})
    with pytest.raises(
        ModelError, match=r"Model '.*copy' has the same weights as base '.*'. Give the fine-tuned check"
    ):
        plan_models(str(copy), base=str(base))


def test_the_base_of_a_checkpoint_cannot_be_an_adapter(full, adapter):
    with pytest.raises(ModelError, match=r"Base '.*' is an adapter. Expected a full checkpoint"):
        plan_models(str(full), base=str(adapter))


def test_models_that_cannot_be_compared_are_loaded_apart_and_the_report_says_so(base, tmp_path):
    conftest._llama(num_hidden_layers=2).save_pretrained(tmp_path / "other")
    plan = plan_models(str(base), base=str(tmp_path / "other"))
    assert [views for views, _ in plan.stages] == [("target",), ("reference",)]
    assert plan.target.details["tensors_changed"] == "not comparable"
    assert plan.warnings == [
        "Target and base have different architectures or tensor names; their tensors were not compared."
    ]


def test_tensors_that_loading_leaves_out_do_not_hinder_sharing(base, last_layer, tmp_path):
    extra = "model.layers.2.self_attn.rotary_emb.inv_freq"
    for source, folder, value in ((last_layer, "ours", 1.0), (base, "theirs", 2.0)):
        copied(source, tmp_path / folder, tensors=lambda t, v=value: t | {extra: torch.full((4,), v)})
    plan = plan_models(str(tmp_path / "ours"), base=str(tmp_path / "theirs"))
    assert plan.target.details["tensors_changed"] == "9 of 30"
    resident = resident_of(plan)
    assert resident.n_shared_layers == 2
    with resident.views["reference"]():
        assert torch.equal(probe_logits(resident.module), probe_logits(bare(base)))


def test_a_tied_embedding_that_alone_changed_is_swapped_with_its_head(tmp_path):
    conftest._llama(tie_word_embeddings=True).save_pretrained(tmp_path / "base")

    def change(tensors):
        return tensors | {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"] + 0.1}

    target = copied(tmp_path / "base", tmp_path / "tuned", tensors=change)
    plan = plan_models(str(target), base=str(tmp_path / "base"))
    assert [views for views, _ in plan.stages] == [("target", "reference")]
    resident = resident_of(plan)
    assert (resident.n_shared_layers, resident.shares_trunk) == (0, False)
    for view, folder in (("reference", tmp_path / "base"), ("target", target)):
        with resident.views[view]():
            assert torch.equal(probe_logits(resident.module), probe_logits(bare(folder)))


def test_a_base_that_changed_its_shape_after_planning_is_named(last_layer, base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    plan = plan_models(str(last_layer), base=str(tmp_path / "base"))
    conftest._llama(intermediate_size=48).save_pretrained(tmp_path / "base")
    with pytest.raises(
        ModelError, match=r"Parameter 'model.layers.0.mlp.*' of model '.*last' has no counterpart in base '.*/base'"
    ):
        resident_of(plan)


def test_the_comparison_of_two_checkpoints_is_remembered(head_only, base, tmp_path, monkeypatch):
    from loraudit.models import checkpoints as module

    store = EvidenceStore(tmp_path / "store")
    first = plan_models(str(head_only), base=str(base), memory=store)
    monkeypatch.setattr(module, "compare_checkpoints", lambda *_: pytest.fail("compared again"))
    second = plan_models(str(head_only), base=str(base), memory=store)
    assert first.target == second.target
    assert [views for views, _ in first.stages] == [views for views, _ in second.stages]
    with pytest.raises(pytest.fail.Exception, match="compared again"):
        plan_models(str(head_only), base=str(base), memory=EvidenceStore(tmp_path / "another"))


@pytest.mark.parametrize(
    ("option", "words"), [("allow_pickle", "Pickled weights were allowed"), ("allow_remote_code", "was allowed to run")]
)
def test_accepted_risks_stand_in_the_report(base, option, words):
    assert words in plan_models(str(base), **{option: True}).warnings[-1]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_positions": 128, "n_embd": 16}, (128, 16)),
        ({"max_seq_len": 32, "d_model": 8}, (32, 8)),
        ({"text_config": {"max_position_embeddings": 256, "hidden_size": 24}}, (256, 24)),
        ({}, (None, None)),
    ],
)
def test_context_and_width_are_read_whatever_they_are_called(base, tmp_path, config, expected):
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "some"} | config))
    plan = plan_models(str(folder))
    assert (plan.context_length, plan.width) == expected


# --- fingerprints and tokenizers ------------------------------------------------------------------------


def test_the_same_content_has_the_same_fingerprint_wherever_it_lies(base, tmp_path):
    assert fingerprint(copied(base, tmp_path / "moved")) == fingerprint(base)


@pytest.mark.parametrize("change", ["weights", "config", "adapter_config"])
def test_a_change_in_place_changes_the_fingerprint(base, adapter, tmp_path, change):
    source = adapter if change == "adapter_config" else base
    folder = tmp_path / "model"
    if change == "weights":
        changed_copy(base, folder, lambda name: name == "model.norm.weight", scale=1e-3)
    else:
        copied(source, folder, config={"another": 1})
    assert fingerprint(folder) != fingerprint(source)


def test_what_is_no_part_of_the_model_does_not_count(base, tmp_path):
    folder = copied(base, tmp_path / "noted")
    for name in ("README.md", "training_args.bin", "tokenizer.json", "trainer_state.json"):
        (folder / name).write_text("other")
    assert fingerprint(folder) == fingerprint(base)
    assert tokenizer_fingerprint(folder) != tokenizer_fingerprint(base)


def tokenizer_in(folder, **settings):
    """A folder with a tokenizer whose settings are these."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"} | settings))
    return folder


def test_a_tokenizer_saved_again_is_the_same(base, tmp_path):
    load_tokenizer(base).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer_config.json").read_text() != (base / "tokenizer_config.json").read_text()
    assert tokenizer_fingerprint(tmp_path) == tokenizer_fingerprint(base)


@pytest.mark.parametrize(
    "change", [{"bos_token": "<b>"}, {"add_eos_token": True}, {"chat_template": "{{ messages }}"}, {"legacy": False}]
)
def test_a_setting_of_the_tokenizer_that_may_change_its_tokens_counts(tmp_path, change):
    first, second = tokenizer_in(tmp_path / "first"), tokenizer_in(tmp_path / "second", **change)
    assert tokenizer_fingerprint(first) != tokenizer_fingerprint(second)


def test_a_chat_template_in_a_file_of_its_own_counts(tmp_path):
    folder = tokenizer_in(tmp_path / "tokenizer")
    before = tokenizer_fingerprint(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_fingerprint(folder) != before


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_settings_of_a_tokenizer_still_have_a_fingerprint(tmp_path, content):
    folder = tokenizer_in(tmp_path / "tokenizer")
    whole = tokenizer_fingerprint(folder)
    (folder / "tokenizer_config.json").write_text(content)
    assert tokenizer_fingerprint(folder) != whole


def test_code_that_comes_with_a_model_is_part_of_it(base, tmp_path):
    """With --allow-remote-code it decides the scores as the weights do."""
    folder = copied(base, tmp_path / "coded", config={"auto_map": {"AutoModelForCausalLM": "code.Model"}})
    (folder / "code.py").write_text("a = 1")
    before = fingerprint(folder)
    (folder / "code.py").write_text("a = 2")
    assert fingerprint(folder) != before


def test_the_weights_of_a_checkpoint_count_also_beside_a_forgotten_adapter_file(base, tmp_path):
    """No adapter_config.json: what is loaded is model.safetensors."""
    folder = copied(base, tmp_path / "model")
    save_file({"forgotten": torch.ones(2)}, folder / "adapter_model.safetensors")
    before = fingerprint(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1}, folder / "model.safetensors", {"format": "pt"}
    )
    assert fingerprint(folder) != before
    assert count_parameters(folder) == count_parameters(base)


def test_shards_count_that_the_index_names(base, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert count_parameters(tmp_path) == count_parameters(base)
    before = fingerprint(tmp_path)
    save_file({"tok_embeddings.weight": torch.ones(2)}, tmp_path / "consolidated.safetensors")
    assert fingerprint(tmp_path) == before
    assert count_parameters(tmp_path) == count_parameters(base)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    save_file({name: tensor + 1 for name, tensor in load_file(shard).items()}, shard, {"format": "pt"})
    assert fingerprint(tmp_path) != before


def test_parameters_are_counted_from_the_headers(base, tmp_path):
    expected = sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())
    assert count_parameters(base) == expected
    assert count_parameters(tmp_path) == 0
    for name, content in (("empty", b""), ("cut", b"\x10"), ("odd", b"\xff" * 40)):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    assert count_parameters(tmp_path) == 0


def test_a_tokenizer_is_loaded_from_its_folder(base):
    assert has_tokenizer(base)
    assert load_tokenizer(base)("abc")["input_ids"]


@pytest.mark.parametrize("content", [None, "", '{"version": "1.0", "model": {'])
def test_a_tokenizer_that_is_missing_or_damaged_is_refused(base, tmp_path, content):
    shutil.copy(base / "tokenizer_config.json", tmp_path)
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=rf"The tokenizer in '{re.escape(str(tmp_path))}' cannot be loaded: "):
        load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_says_so(adapter):
    assert not has_tokenizer(adapter)


# --- two models of their own ----------------------------------------------------------------------------


SUMMARY = ModelSummary(name="another", kind="tuned", fingerprint="")


def test_a_model_planned_alone_is_compared_with_no_base(full, base, adapter):
    plan = plan_models(str(full), base=str(base), alone=True)
    assert plan.reference is None
    assert [views for views, _ in plan.stages] == [("target",)]
    assert plan.target.fingerprint == fingerprint(full)
    assert plan_models(str(adapter), alone=True).reference.name == str(base), "an adapter is nothing without its base"


@pytest.mark.parametrize("target", ["adapter", "full", "head_only"])
@pytest.mark.parametrize("other", ["second_adapter", "last_layer"])
def test_any_target_can_be_compared_with_any_other_model(target, other, base, second_adapter, request):
    folders = {"second_adapter": second_adapter}
    folder, other_folder = (folders.get(n) or request.getfixturevalue(n) for n in (target, other))
    plan, reference = (plan_models(str(f), base=str(base)) for f in (folder, other_folder))
    pair = with_reference(plan, reference, SUMMARY)
    assert [views for views, _ in pair.stages] == [("target",), ("reference",)]
    assert pair.target == plan.target
    assert pair.reference == SUMMARY.model_copy(update={"fingerprint": reference.target.fingerprint})
    assert pair.hashes == {**plan.hashes, "reference": reference.target.fingerprint}
    assert pair.tokenizer_fingerprint == plan.tokenizer_fingerprint
    assert set(pair.folders) == {*plan.folders, *reference.folders}
    for stage, (view, alone) in enumerate((("target", plan), ("reference", reference))):
        resident = resident_of(pair, stage)
        assert set(resident.views) == {view}
        assert not resident.shares_trunk
        own = alone.load_target(FP32, "cpu")
        with resident.views[view](), own.views["target"]():
            assert torch.equal(probe_logits(resident.module), probe_logits(own.module))


def test_the_shorter_context_of_both_is_kept_and_warnings_are_said_once(full, adapter, base, tmp_path):
    moved = copied(adapter, tmp_path / "moved", config={"base_model_name_or_path": "/home/someone/else/base"})
    plan, other = plan_models(str(full), base=str(base)), plan_models(str(moved), base=str(base))
    plan.warnings, other.context_length = [*other.warnings, "one"], 20
    pair = with_reference(plan, other, SUMMARY)
    assert pair.context_length == 20
    assert pair.warnings == [*other.warnings, "one"]
    plan.context_length = other.context_length = None
    assert with_reference(plan, other, SUMMARY).context_length is None


@pytest.fixture(scope="module")
def second_adapter(base, tmp_path_factory):
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    return save_adapter(base, tmp_path_factory.mktemp("models") / "second", config, seed=9)
