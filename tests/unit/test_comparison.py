"""Which tensors two checkpoints differ in, whatever they are stored as."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraudit.models.comparison import HEADS, compare_checkpoints

HEAD = "lm_head.weight"


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def difference(target, base):
    return compare_checkpoints(target, base, config_of(target), config_of(base))


def stored(folder):
    return load_file(folder / "model.safetensors")


def copy_of(source, folder, tensors=None, config=None):
    """A copy of a checkpoint with other tensors or another config."""
    shutil.copytree(source, folder)
    if tensors is not None:
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory):
    """A tiny GPT-2, whose head is tied to its embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("compared") / "gpt2"
    config = GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=32, vocab_size=64, bos_token_id=0, eos_token_id=1, pad_token_id=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tuned_gpt2(gpt2, tmp_path_factory):
    """The same with its last feed-forward layer changed."""
    tensors = stored(gpt2)
    tensors["transformer.h.1.mlp.c_fc.weight"] += 0.1
    return copy_of(gpt2, tmp_path_factory.mktemp("compared") / "tuned", tensors)


def test_a_copy_differs_in_nothing(base, tmp_path):
    found = difference(copy_of(base, tmp_path / "copy"), base)
    assert (found.changed, found.n_tensors, found.is_comparable) == ((), len(stored(base)), True)


def test_a_checkpoint_tuned_everywhere_differs_everywhere(full, base):
    found = difference(full, base)
    assert set(found.changed) == set(stored(base))
    assert found.n_tensors == len(found.changed)


def test_the_head_alone(head_only, base):
    assert difference(head_only, base).changed == (HEAD,)


def test_the_last_layer_alone(last_layer, base):
    changed = difference(last_layer, base).changed
    assert changed
    assert all(name.startswith("model.layers.2.") for name in changed)
    assert set(changed) == {name for name in stored(base) if ".layers.2." in name}


def test_heads_by_other_names_are_known():
    assert {HEAD, "embed_out.weight"} <= set(HEADS)


def test_the_order_of_the_arguments_matters_only_for_names(last_layer, base):
    assert set(difference(last_layer, base).changed) == set(difference(base, last_layer).changed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_equal_values_in_another_precision_are_no_change(base, tmp_path, dtype):
    narrow = {name: tensor.to(dtype) for name, tensor in stored(base).items()}
    wide = {name: tensor.float() for name, tensor in narrow.items()}
    narrow_folder = copy_of(base, tmp_path / "narrow", narrow, config_of(base) | {"dtype": str(dtype)[6:]})
    wide_folder = copy_of(base, tmp_path / "wide", wide)
    for target, reference in ((wide_folder, narrow_folder), (narrow_folder, wide_folder)):
        found = difference(target, reference)
        assert found.is_comparable
        assert found.changed == ()


def test_rounding_to_another_precision_is_a_change(base, tmp_path):
    rounded = {name: tensor.half() for name, tensor in stored(base).items()}
    found = difference(base, copy_of(base, tmp_path / "half", rounded))
    assert HEAD in found.changed
    # norms are exactly one in both
    assert "model.norm.weight" not in found.changed


def test_one_value_in_one_tensor_is_found(base, tmp_path):
    tensors = stored(base)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] += 1e-4
    found = difference(copy_of(base, tmp_path / "one", tensors), base)
    assert found.changed == ("model.layers.1.mlp.up_proj.weight",)


def test_a_checkpoint_in_shards_is_compared_as_a_whole(base, last_layer, tmp_path):
    from transformers import AutoModelForCausalLM

    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(last_layer, dtype=torch.float32).save_pretrained(
        sharded, max_shard_size="40KB"
    )
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert set(difference(sharded, base).changed) == set(difference(last_layer, base).changed)
    assert set(difference(base, sharded).changed) == set(difference(last_layer, base).changed)


# --- heads --------------------------------------------------------------------------------------------


def test_a_head_stored_apart_is_compared_with_the_embedding_the_base_ties_it_to(gpt2, tmp_path):
    tensors = stored(gpt2)
    assert HEAD not in tensors
    equal = copy_of(gpt2, tmp_path / "equal", tensors | {HEAD: tensors["transformer.wte.weight"].clone()})
    assert difference(equal, gpt2).changed == ()
    head = tensors["transformer.wte.weight"] + 0.1
    untied = copy_of(
        gpt2, tmp_path / "untied", tensors | {HEAD: head}, config_of(gpt2) | {"tie_word_embeddings": False}
    )
    found = difference(untied, gpt2)
    assert found.is_comparable
    assert found.changed == (HEAD,)
    assert found.n_tensors == len(tensors) + 1


def test_a_head_that_only_the_base_stores_apart_is_compared_too(base, tmp_path):
    """A target that ties its head to its embedding has another head than an untied base."""
    tensors = stored(base)
    del tensors[HEAD]
    tensors["model.layers.2.mlp.up_proj.weight"] += 0.1
    tied = copy_of(base, tmp_path / "tied", tensors, config_of(base) | {"tie_word_embeddings": True})
    found = difference(tied, base)
    assert not found.is_comparable or HEAD in found.changed


def test_a_head_that_the_base_stores_twice_is_no_change(gpt2, tmp_path):
    tensors = stored(gpt2)
    twice = copy_of(gpt2, tmp_path / "twice", tensors | {HEAD: tensors["transformer.wte.weight"].clone()})
    assert difference(gpt2, twice).is_comparable
    assert difference(gpt2, twice).changed == ()


# --- old layouts --------------------------------------------------------------------------------------


def without_prefix(tensors):
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def test_a_base_without_the_prefix_of_the_body_is_compared(gpt2, tuned_gpt2, tmp_path):
    old = copy_of(gpt2, tmp_path / "old", without_prefix(stored(gpt2)))
    found = difference(tuned_gpt2, old)
    assert found.is_comparable
    assert found.changed == ("transformer.h.1.mlp.c_fc.weight",)


def test_masks_that_old_checkpoints_store_as_tensors_do_not_count(gpt2, tuned_gpt2, tmp_path):
    """`openai-community/gpt2` on the hub holds h.N.attn.bias, the causal mask."""
    tensors = without_prefix(stored(gpt2))
    tensors |= {f"h.{i}.attn.bias": torch.ones(1, 1, 32, 32).tril() for i in range(2)}
    old = copy_of(gpt2, tmp_path / "masks", tensors)
    found = difference(tuned_gpt2, old)
    assert found.is_comparable
    assert found.changed == ("transformer.h.1.mlp.c_fc.weight",)


def test_a_config_written_by_an_older_transformers_is_the_same_architecture(gpt2, tuned_gpt2, tmp_path):
    """The fields of `openai-community/gpt2`'s config.json: defaults left out, long unused ones present."""
    saved = config_of(gpt2)
    kept = ("activation_function", "attn_pdrop", "embd_pdrop", "initializer_range", "layer_norm_epsilon", "model_type",
            "n_embd", "n_head", "n_layer", "n_positions", "resid_pdrop", "vocab_size", "bos_token_id",
            "eos_token_id")  # fmt: skip
    config = {name: saved[name] for name in kept} | {
        "architectures": ["GPT2LMHeadModel"],
        "n_ctx": saved["n_positions"],
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    }
    old = copy_of(gpt2, tmp_path / "hub", config=config)
    found = difference(tuned_gpt2, old)
    assert found.is_comparable
    assert found.changed == ("transformer.h.1.mlp.c_fc.weight",)


def test_rotary_settings_written_by_an_older_transformers_are_the_same_architecture(base, last_layer, tmp_path):
    config = config_of(base)
    rotary = config.pop("rope_parameters")
    config |= {"rope_theta": rotary["rope_theta"], "rope_scaling": None, "torch_dtype": config.pop("dtype")}
    old = copy_of(base, tmp_path / "old", config=config | {"transformers_version": "4.40.0"})
    found = difference(last_layer, old)
    assert found.is_comparable
    assert len(found.changed) == 9


def test_a_second_copy_of_the_weights_in_another_layout_does_not_count(base, last_layer, tmp_path):
    """Mistral's repositories hold consolidated.safetensors beside the model's own file."""
    doubled = copy_of(base, tmp_path / "doubled")
    save_file({"tok_embeddings.weight": torch.ones(4, 4)}, doubled / "consolidated.safetensors")
    assert difference(last_layer, doubled).is_comparable


# --- not comparable -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 2},
        {"rms_norm_eps": 1e-2},
        {"hidden_act": "gelu"},
        {"model_type": "mistral"},
        {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
    ],
)
def test_what_changes_the_function_makes_them_incomparable(base, last_layer, tmp_path, change):
    found = difference(last_layer, copy_of(base, tmp_path / "other", config=config_of(base) | change))
    assert not found.is_comparable
    assert found.changed == ()


@pytest.mark.parametrize(
    "change",
    [
        {"_name_or_path": "elsewhere"},
        {"transformers_version": "4.1"},
        {"use_cache": False},
        {"dtype": "float16"},
        {"pad_token_id": 7},
        {"architectures": None},
        {"quite_unknown": 1},
    ],
)
def test_what_does_not_change_the_function_is_ignored(base, last_layer, tmp_path, change):
    other = copy_of(base, tmp_path / "other", config=config_of(base) | change)
    assert difference(last_layer, other).is_comparable


@pytest.mark.parametrize(("setting", "is_comparable"), [({"sharpness": 1}, True), ({"sharpness": 2}, False)])
def test_an_architecture_this_transformers_does_not_know_is_compared_as_written(
    base, last_layer, tmp_path, setting, is_comparable
):
    unknown = {"model_type": "from_the_future"}
    ours = copy_of(last_layer, tmp_path / "ours", config=config_of(last_layer) | unknown | {"sharpness": 1})
    theirs = copy_of(base, tmp_path / "theirs", config=config_of(base) | unknown | setting)
    assert difference(ours, theirs).is_comparable is is_comparable


def test_another_architecture_is_incomparable(base, gpt2):
    found = difference(base, gpt2)
    assert (found.changed, found.n_tensors, found.is_comparable) == ((), len(stored(base)), False)


def test_a_missing_tensor_makes_them_incomparable(base, tmp_path):
    tensors = stored(base)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    smaller = copy_of(base, tmp_path / "smaller", tensors)
    assert not difference(smaller, base).is_comparable
    assert not difference(base, smaller).is_comparable


def test_a_resized_vocabulary_is_found_as_a_change_or_incomparable(base, tmp_path):
    tensors = stored(base)
    for name in ("model.embed_tokens.weight", HEAD):
        tensors[name] = torch.cat([tensors[name], torch.zeros(2, 32)])
    wider = copy_of(base, tmp_path / "wider", tensors, config_of(base) | {"vocab_size": 514})
    found = difference(wider, base)
    assert not found.is_comparable
