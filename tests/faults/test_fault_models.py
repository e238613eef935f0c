"""Models that are damaged, do not belong together or are not safe to load: refused in words, or counted."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from loraudit.models.recorded import RECIPE_FILE

CUT = pytest.mark.parametrize("kept", [0, 5, 300, 0.5, -1], ids=["empty", "length", "header", "half", "all but a byte"])
WEIGHTS = {"adapter": "adapter_model.safetensors", "checkpoint": "model.safetensors"}


def weights_of(folder):
    return folder / WEIGHTS["adapter" if (folder / "adapter_config.json").exists() else "checkpoint"]


def copied(source, folder, *, tensors=None, config=None, recipe=None):
    """A copy of a model whose tensors went through `tensors`, with other config values or a recipe beside it."""
    shutil.copytree(source, folder)
    path = weights_of(folder)
    if tensors is not None:
        save_file({n: t.contiguous() for n, t in tensors(load_file(path)).items()}, path, {"format": "pt"})
    if config is not None:
        path = folder / ("adapter_config.json" if "adapter" in path.name else "config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    if recipe is not None:
        (folder / RECIPE_FILE).write_text(json.dumps(recipe))
    return folder


def cut_off(path, kept):
    """Only the first `kept` bytes, or that share of them, are left of a file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])


def with_value(name, value, *, row=0, column=0):
    """One number of one tensor replaced."""

    def change(tensors):
        tensors[name][row, column] = value
        return tensors

    return change


def llama(folder, base, **changes):
    """A checkpoint of the base's kind in another shape, with the base's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(base)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def write_records(path, rows):
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return path


def one_line(message):
    """The message, which must be a single line: nobody should have to look for the sentence in a wall of text."""
    assert message.count("\n") == 1, message
    return message


# --- row 6: the adapter's own files -------------------------------------------------------------------


@CUT
def test_an_adapter_that_was_not_written_to_its_end_is_refused_by_file(kept, adapter, record_files, refused, tmp_path):
    folder = copied(adapter, tmp_path / "adapter")
    cut_off(weights_of(folder), kept)
    message = one_line(refused(4, folder, *record_files))
    assert f"Adapter file '{weights_of(folder)}' is damaged: " in message
    assert "Save or download it again." in message


def test_an_adapter_with_half_its_tensors_is_refused_with_their_names(adapter, record_files, refused, tmp_path):
    def half(tensors):
        return {name: tensors[name] for name in sorted(tensors)[::2]}

    folder = copied(adapter, tmp_path / "adapter", tensors=half)
    message = one_line(refused(4, folder, *record_files))
    assert f"Adapter file '{weights_of(folder)}' lacks 6 of 12 tensors" in message
    assert "model.layers.0.self_attn.q_proj.lora_B.weight" in message
    assert "give the right one with --base" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [("base_model.model.", ""), ("self_attn", "attention"), ("lora_A", "lora_a"), (".weight", ".default.weight")],
    ids=["prefix lost", "module", "matrix", "adapter's name kept"],
)
def test_an_adapter_whose_tensors_were_renamed_is_refused_with_their_names(
    old, new, adapter, record_files, refused, tmp_path
):
    def renamed(tensors):
        return {name.replace(old, new): tensor for name, tensor in tensors.items()}

    folder = copied(adapter, tmp_path / "adapter", tensors=renamed)
    message = one_line(refused(4, folder, *record_files))
    assert f"Adapter file '{weights_of(folder)}' lacks " in message
    assert "model.layers.0.self_attn.q_proj.lora_A.weight" in message
    assert "--base" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "adapter_config.json' cannot be read: "),
        ('{"peft_type": "LO', "adapter_config.json' cannot be read: "),
        ("[1, 2]", "adapter_config.json' holds no JSON object. "),
        ("null", "adapter_config.json' holds no JSON object. "),
    ],
    ids=["empty", "truncated", "list", "null"],
)
def test_an_adapter_config_that_cannot_be_used_is_refused_by_file(
    content, complaint, adapter, base, record_files, refused, tmp_path
):
    folder = copied(adapter, tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(content)
    message = one_line(refused(4, folder, *record_files, "--base", base))
    assert complaint in message
    assert "Save or download the model again." in message


def test_an_adapter_without_its_config_is_refused_with_what_was_expected(
    adapter, base, record_files, refused, tmp_path
):
    folder = copied(adapter, tmp_path / "adapter")
    (folder / "adapter_config.json").unlink()
    message = one_line(refused(4, folder, *record_files, "--base", base))
    assert f"Folder '{folder}' holds neither config.json nor adapter_config.json" in message
    assert "save_pretrained()" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"base_model_name_or_path": 5},
        {"base_model_name_or_path": ["org/model"]},
        {"peft_type": "NO_SUCH_KIND"},
        {"peft_type": None},
        {"r": "four"},
        {"r": -4},
        {"target_modules": 7},
        {"target_modules": ["no_such_module"]},
        {"trainable_token_indices": "all"},
        {"num_virtual_tokens": "many"},
    ],
    ids=str,
)
def test_an_adapter_config_with_a_senseless_value_is_refused_and_not_a_crash(
    changes, adapter, base, record_files, refused, tmp_path
):
    folder = copied(adapter, tmp_path / "adapter", config=changes)
    message = one_line(refused(4, folder, *record_files, "--base", base))
    assert str(folder) in message


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no_such_type"},
        {"architectures": 5},
        {"text_config": 3},
        {"max_position_embeddings": "long"},
        {"hidden_size": "wide"},
        {"num_hidden_layers": 0},
        {"auto_map": 3},
    ],
    ids=str,
)
def test_a_base_config_with_a_senseless_value_is_refused_and_not_a_crash(
    changes, adapter, base, record_files, refused, tmp_path
):
    folder = copied(base, tmp_path / "base", config=changes)
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert str(folder) in message


# --- row 7: another base of the same shape --------------------------------------------------------------


def cached_on_the_hub(name, source, cache):
    """`source` as the hub's cache holds it after a download of `name`."""
    commit = "0123456789abcdef" * 2 + "01234567"
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)


def test_a_base_with_another_hash_than_training_recorded_is_refused_unless_told_so(
    adapter, full, record_files, refused, finished, tmp_path
):
    """The other base has the same shape, so that nothing but the record can tell."""
    folder = copied(adapter, tmp_path / "adapter", recipe={"base_fingerprint": "0" * 64})
    words = folder, *record_files, "--base", full
    message = one_line(refused(4, *words))
    assert f"Model '{folder}' records a base with another content hash than '{full}' has." in message
    assert "Give the base it was trained on with --base, or accept this one with --allow-other-base." in message

    shutil.rmtree(tmp_path / "run")
    result, page = finished(*words, "--allow-other-base")
    (warning,) = [w for w in result["warnings"] if "--allow-other-base" in w]
    assert "another content hash" in warning
    assert warning in html.unescape(page)
    assert result["target"]["details"]["base_evidence"] == "contradicted by the record"


def test_another_hub_base_than_the_recorded_one_is_refused_unless_told_so(
    adapter, base, full, record_files, refused, finished, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    cached_on_the_hub("org/right", base, cache)
    cached_on_the_hub("org/wrong", full, cache)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    folder = copied(adapter, tmp_path / "adapter", config={"base_model_name_or_path": "org/right"})
    message = one_line(refused(4, folder, *record_files, "--base", "org/wrong"))
    assert f"Model '{folder}' records base 'org/right', but --base is 'org/wrong'." in message
    assert "--allow-other-base" in message

    shutil.rmtree(tmp_path / "run")
    result, page = finished(folder, *record_files, "--base", "org/wrong", "--allow-other-base")
    (warning,) = result["warnings"]
    assert warning.endswith("it was used all the same (--allow-other-base).")
    assert warning in html.unescape(page)

    shutil.rmtree(tmp_path / "run")
    result, _ = finished(folder, *record_files, "--base", "org/right")
    assert result["warnings"] == []


def test_a_base_that_only_moved_is_accepted_and_the_report_says_that_it_is_not_proven(
    adapter, base, record_files, finished, tmp_path
):
    moved = copied(base, tmp_path / "moved")
    result, page = finished(adapter, *record_files, "--base", moved)
    (warning,) = result["warnings"]
    assert warning.startswith(f"Base not proven: the model records '{base}'")
    assert warning in html.unescape(page)
    assert result["target"]["details"]["base_evidence"] == "not proven"


def test_a_moved_base_with_the_recorded_hash_needs_no_warning(adapter, base, record_files, finished, tmp_path):
    from loraudit.models import fingerprint

    folder = copied(adapter, tmp_path / "adapter", recipe={"base_fingerprint": fingerprint(base)})
    result, _ = finished(folder, *record_files, "--base", copied(base, tmp_path / "moved"))
    assert result["warnings"] == []


# --- row 8: a base of another shape ---------------------------------------------------------------------


def test_a_base_with_more_layers_than_the_adapter_was_trained_on_is_refused(
    adapter, base, record_files, refused, tmp_path
):
    deeper = llama(tmp_path / "deeper", base, num_hidden_layers=5)
    message = one_line(refused(4, adapter, *record_files, "--base", deeper))
    assert f"Adapter file '{weights_of(adapter)}' lacks 8 of 20 tensors" in message
    assert "layers.3.self_attn" in message
    assert "--base" in message


def test_a_base_with_fewer_layers_than_the_adapter_was_trained_on_is_refused(
    adapter, base, record_files, refused, tmp_path
):
    flatter = llama(tmp_path / "flatter", base, num_hidden_layers=2)
    message = one_line(refused(4, adapter, *record_files, "--base", flatter))
    assert f"holds 4 tensors that base '{flatter}' has no place for" in message
    assert "layers.2.self_attn" in message
    assert "--base" in message


def test_a_base_of_another_width_is_refused(adapter, base, record_files, refused, tmp_path):
    wider = llama(tmp_path / "wider", base, hidden_size=48)
    message = one_line(refused(4, adapter, *record_files, "--base", wider))
    assert f"Adapter '{adapter}' cannot be put on base '{wider}'" in message
    assert "self_attn.q_proj.lora_A" in message, "the tensor that does not fit is named"
    assert "--base" in message


def test_a_base_that_lacks_tensors_is_refused_with_their_names(adapter, base, record_files, refused, tmp_path):
    def without_norm(tensors):
        return {name: t for name, t in tensors.items() if name != "model.layers.1.input_layernorm.weight"}

    folder = copied(base, tmp_path / "base", tensors=without_norm)
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert f"Model '{folder}' has missing keys (model.layers.1.input_layernorm.weight)" in message
    assert "Save or download it again." in message


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 5},
        {"num_hidden_layers": 2},
        pytest.param({"intermediate_size": 96}),
    ],
)
def test_a_base_whose_config_is_of_another_model_is_refused_with_tensors(
    changes, adapter, base, record_files, refused, tmp_path
):
    folder = copied(base, tmp_path / "base", config=changes)
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert f"Model '{folder}'" in message
    assert "model.layers." in message, "a tensor that does not fit is named"
    assert "Save or download it again." in message


@CUT
def test_a_base_that_was_not_written_to_its_end_is_refused(kept, adapter, base, record_files, refused, tmp_path):
    folder = copied(base, tmp_path / "base")
    cut_off(weights_of(folder), kept)
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert f"{folder}" in message
    assert "Save or download it again." in message


@CUT
def test_a_target_that_was_not_written_to_its_end_is_refused(kept, full, base, record_files, refused, tmp_path):
    """Two checkpoints are compared tensor by tensor before either is loaded."""
    folder = copied(full, tmp_path / "target")
    cut_off(weights_of(folder), kept)
    message = one_line(refused(4, folder, *record_files, "--base", base))
    assert f"{folder}" in message
    assert "Save or download it again." in message


def test_a_base_that_lacks_one_of_its_shards_is_refused_by_file(adapter, base, record_files, refused, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = copied(base, tmp_path / "base")
    weights_of(folder).unlink()
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size="60KB")
    shard = max(folder.glob("model-*.safetensors"))
    shard.unlink()
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert str(folder) in message
    assert shard.name in message
    assert "ave or download it again." in message


# --- row 9: an adapter that changes nothing -------------------------------------------------------------


@pytest.mark.parametrize("how", ["B is zero", "A is zero", "alpha is zero"])
def test_an_adapter_that_changes_nothing_is_refused(how, adapter, record_files, refused, tmp_path):
    def zeroed(tensors):
        return {name: t * 0 if f"lora_{how[0]}" in name else t for name, t in tensors.items()}

    changes = {"config": {"lora_alpha": 0}} if how == "alpha is zero" else {"tensors": zeroed}
    folder = copied(adapter, tmp_path / "adapter", **changes)
    message = one_line(refused(4, folder, *record_files))
    assert f"Adapter '{folder}' changes nothing" in message
    assert "audit a trained adapter" in message


# --- row 10: numbers that are none ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("which", ["target", "base"])
def test_a_weight_that_is_no_number_is_refused_by_tensor(which, value, full, base, record_files, refused, tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    damaged = copied(full if which == "target" else base, tmp_path / which, tensors=with_value(name, value))
    models = (damaged, base) if which == "target" else (full, damaged)
    message = one_line(refused(4, models[0], *record_files, "--base", models[1]))
    assert f"Model '{damaged}' has NaN or infinite values in tensor '{name}'" in message
    assert "audit an earlier checkpoint" in message


def test_a_weight_of_an_adapter_that_is_no_number_is_refused_by_tensor(adapter, record_files, refused, tmp_path):
    name = "base_model.model.model.layers.2.self_attn.v_proj.lora_B.weight"
    folder = copied(adapter, tmp_path / "adapter", tensors=with_value(name, float("nan")))
    message = one_line(refused(4, folder, *record_files))
    assert f"Model '{folder}' has NaN or infinite values in tensor '" in message
    assert "layers.2.self_attn.v_proj.lora_B" in message


def overflowing(source, folder, token):
    """A checkpoint with finite weights whose logits after `token`, and only there, are infinite.

    One hidden dimension is far above the others for that token and 0 for every other; no layer writes to
    it; the head multiplies it by more than float32 can hold.
    """

    def change(tensors):
        for name, tensor in tensors.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                tensor[0] = 0
        tensors["model.embed_tokens.weight"][:, 0] = 0
        tensors["model.embed_tokens.weight"][token] = 0
        tensors["model.embed_tokens.weight"][token, 0] = 1000
        tensors["lm_head.weight"][:, 0] = 3e38
        return tensors

    return copied(source, folder, tensors=change)


@pytest.mark.parametrize(("n_hit", "code"), [(1, 0), (2, 7), (59, 7)], ids=["0.8 %", "1.7 %", "49 %"])
def test_records_without_finite_logits_are_set_aside_and_counted(
    n_hit, code, full, base, texts, tokenizer, finished, tmp_path
):
    """Up to 1 % of the records may be lost; with more the run is partial."""
    (token,) = tokenizer("~", add_special_tokens=False)["input_ids"]
    target = overflowing(full, tmp_path / "target", token)
    members = write_records(tmp_path / "m.jsonl", [f"~ {text}" for text in texts[:n_hit]] + texts[n_hit:60])
    nonmembers = write_records(tmp_path / "n.jsonl", texts[60:])
    result, page = finished(target, members, nonmembers, "--base", base, code=code)
    expected = {"nonfinite": n_hit, "ok": 60 - n_hit}
    assert result["members"]["status"] == expected
    assert result["nonmembers"]["status"] == {"ok": 60}
    (warning,) = [w for w in result["warnings"] if "no score" in w]
    assert warning == f"{n_hit} record{' has' if n_hit == 1 else 's have'} no score: {n_hit} nonfinite."
    assert warning in html.unescape(page)
    scores = pq.read_table(tmp_path / "run" / "scores.parquet")
    is_lost = np.array(scores.column("status").to_pylist()) == "nonfinite"
    assert is_lost.tolist() == [True] * n_hit + [False] * (120 - n_hit)
    assert np.array_equal(np.isnan(scores.column("error_zone").to_numpy()), is_lost)


def test_no_record_with_finite_logits_is_an_error_and_no_result(full, base, texts, tokenizer, refused, tmp_path):
    (token,) = tokenizer("~", add_special_tokens=False)["input_ids"]
    target = overflowing(full, tmp_path / "target", token)
    sides = (
        write_records(tmp_path / f"{side}.jsonl", [f"~ {text}" for text in rows])
        for side, rows in (("m", texts[:20]), ("n", texts[20:40]))
    )
    message = one_line(refused(3, target, *sides, "--base", base))
    assert "None of the 20 member records could be scored: 20 nonfinite." in message


def test_a_token_whose_logits_overflow_matters_only_to_records_that_hold_it(
    full, base, record_files, texts, tokenizer, finished, tmp_path
):
    """Also where the token is one of those that a model is tried out with before the first record."""
    (token,) = tokenizer("*", add_special_tokens=False)["input_ids"]
    assert token == 11, "the first of the tokens that models are tried out with"
    assert not any("*" in text for text in texts)
    target = overflowing(full, tmp_path / "target", token)
    result, _ = finished(target, *record_files, "--base", base)
    assert (result["members"]["status"], result["nonmembers"]["status"]) == ({"ok": 60}, {"ok": 60})


def test_a_model_that_gives_no_number_for_any_text_is_refused_in_those_words(
    full, base, record_files, refused, tmp_path
):
    def huge(tensors):
        return tensors | {"lm_head.weight": tensors["lm_head.weight"].sign() * 3e38}

    target = copied(full, tmp_path / "target", tensors=huge)
    message = one_line(refused(4, target, *record_files, "--base", base))
    assert str(target) in message
    assert "NaN or infinite" in message


# --- row 11: what could run code ------------------------------------------------------------------------


class _Trap:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def pickled(source, folder, content=None):
    """A model whose weights are a pickle: its own tensors, or whatever is given."""
    shutil.copytree(source, folder)
    path = weights_of(folder)
    torch.save(
        load_file(path) if content is None else content,
        path.with_name("adapter_model.bin" if "adapter" in path.name else "pytorch_model.bin"),
    )
    path.unlink()
    return folder


@pytest.mark.parametrize(("kind", "file"), [("adapter", "adapter_model.bin"), ("full", "pytorch_model.bin")])
def test_pickled_weights_are_refused_unopened_and_shown_where_they_are_allowed(
    kind, file, base, record_files, refused, finished, request, tmp_path
):
    source = request.getfixturevalue(kind)
    sprung = tmp_path / "sprung"
    trap = pickled(source, tmp_path / "trap", {"weight": _Trap(sprung)})
    message = one_line(refused(4, trap, *record_files, "--base", base))
    assert f"Model '{trap}' has only pickled weights ({file}), which can run code when loaded." in message
    assert "Convert them to safetensors, or accept the risk with --allow-pickle." in message

    shutil.rmtree(tmp_path / "run")
    message = refused(4, trap, *record_files, "--base", base, "--allow-pickle")
    assert not sprung.exists(), "even where pickles are allowed only tensors are unpickled"
    assert str(trap) in message

    shutil.rmtree(tmp_path / "run")
    result, page = finished(pickled(source, tmp_path / "pickled"), *record_files, "--base", base, "--allow-pickle")
    assert "Pickled weights were allowed (--allow-pickle)." in result["warnings"]
    assert "Pickled weights were allowed (--allow-pickle)." in page


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_pickle_of_more_than_tensors_is_refused_in_one_line_without_advice_to_run_it(
    kind, base, record_files, refused, request, tmp_path
):
    """What torch says at this point is ten lines long and explains how to load the file all the same."""
    trap = pickled(request.getfixturevalue(kind), tmp_path / "trap", {"weight": _Trap(tmp_path / "sprung")})
    message = one_line(refused(4, trap, *record_files, "--base", base, "--allow-pickle"))
    assert str(trap) in message
    assert "weights_only" not in message
    assert "can still be loaded" not in message


def test_a_pickled_base_is_refused_like_a_pickled_target(adapter, base, record_files, refused, tmp_path):
    folder = pickled(base, tmp_path / "base")
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert f"Model '{folder}' has only pickled weights (pytorch_model.bin)" in message
    assert "--allow-pickle" in message


@pytest.fixture
def own_module_cache(tmp_path, monkeypatch):
    """Where transformers copies the code of repositories: not into the account of whoever runs the test."""
    import transformers.dynamic_module_utils

    cache = tmp_path / "modules"
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(cache))
    monkeypatch.syspath_prepend(str(cache))
    return cache


def with_own_code(source, folder, sprung):
    """A checkpoint that brings its model class along; importing it makes a file."""
    copied(
        source,
        folder,
        config={
            "auto_map": {"AutoModelForCausalLM": "modeling_own.OwnModel", "AutoConfig": "modeling_own.OwnConfig"},
            "model_type": "own",
        },
    )
    (folder / "modeling_own.py").write_text(
        "import pathlib\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"pathlib.Path({str(sprung)!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    return folder


def test_a_model_that_brings_code_is_refused_unread_and_shown_where_it_is_allowed(
    full, base, record_files, refused, finished, own_module_cache, tmp_path
):
    sprung = tmp_path / "sprung"
    folder = with_own_code(full, tmp_path / "own", sprung)
    words = folder, *record_files, "--base", base
    message = one_line(refused(4, *words))
    assert f"Model '{folder}' needs code that comes with it, which would run on this machine." in message
    assert "Read that code first, then accept it with --allow-remote-code." in message
    assert not sprung.exists()

    shutil.rmtree(tmp_path / "run")
    result, page = finished(*words, "--allow-remote-code")
    assert sprung.exists(), "the flag is what makes this model usable"
    warning = "Code that comes with the model was allowed to run (--allow-remote-code)."
    assert warning in result["warnings"]
    assert warning in page


def test_a_tokenizer_that_brings_code_is_refused_with_the_flag_that_accepts_it(
    full, base, record_files, refused, own_module_cache, tmp_path
):
    sprung = tmp_path / "sprung"
    folder = copied(full, tmp_path / "own")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
    path.write_text(json.dumps(settings | {"tokenizer_class": "OwnTokenizer"}))
    (folder / "tokenization_own.py").write_text(
        "import pathlib\nfrom transformers import PreTrainedTokenizerFast\n"
        f"pathlib.Path({str(sprung)!r}).touch()\n"
        "class OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    message = one_line(refused(4, folder, *record_files, "--base", base))
    assert not sprung.exists()
    assert str(folder) in message
    assert "--allow-remote-code" in message


# --- row 12: vocabulary and tokenizer -------------------------------------------------------------------


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused_before_scoring(base, record_files, refused, tmp_path):
    """Wrapping round, clipping or resizing would all give numbers."""
    smaller = llama(tmp_path / "smaller", base, vocab_size=300)
    target = copied(smaller, tmp_path / "target", tensors=lambda tensors: {n: t + 0.01 for n, t in tensors.items()})
    message = one_line(refused(4, target, *record_files, "--base", smaller))
    assert re.search(r"The tokenizer gives token id \d+, but the model has only 300 embeddings\.", message)
    assert "loraudit never resizes a model. Give the checkpoint with its own tokenizer." in message
    assert not list((tmp_path / ".loraudit").rglob("*.unit"))


def with_added_token(source, folder, base, token):
    from transformers import AutoTokenizer

    copied(source, folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([token])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_an_added_token_without_an_embedding_is_refused_where_a_record_holds_it(
    kind, base, texts, refused, finished, request, record_files, tmp_path
):
    target = with_added_token(request.getfixturevalue(kind), tmp_path / "target", base, "<|case|>")
    members = write_records(tmp_path / "m.jsonl", [*texts[:59], f"<|case|>{texts[59]}"])
    message = one_line(refused(4, target, members, record_files[1], "--base", base))
    assert "The tokenizer gives token id 512, but the model has only 512 embeddings." in message
    assert "never resizes" in message

    shutil.rmtree(tmp_path / "run")
    result, _ = finished(target, *record_files, "--base", base)  # no record holds it: nothing is amiss
    assert result["members"]["status"] == {"ok": 60}


def test_a_tokenizer_without_a_pad_token_is_no_obstacle_and_gets_none(base, adapter, record_files, finished):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(base).pad_token is None
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    result, _ = finished(adapter, *record_files)
    assert result["members"]["status"] == {"ok": 60}
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before


def test_a_model_without_a_tokenizer_is_refused_by_folder(adapter, base, record_files, refused, tmp_path):
    folder = copied(base, tmp_path / "bare")
    for path in folder.glob("token*"):
        path.unlink()
    message = one_line(refused(4, adapter, *record_files, "--base", folder))
    assert f"The tokenizer in '{folder}' cannot be loaded: " in message


# --- row 13: records of unusual length ------------------------------------------------------------------


def rows_by_line(folder):
    return {row["line"]: row for row in pq.read_table(folder / "scores.parquet").to_pylist() if row["is_member"]}


def test_records_of_any_length_are_scored_or_counted_and_none_is_cut(
    adapter, base, texts, tokenizer, finished, record_files, tmp_path
):
    """With a beginning-of-text token even a single token can be predicted; nothing at all cannot."""
    long = " ".join(texts[:20])
    members = write_records(tmp_path / "m.jsonl", [long, "", "a", " \t \n ", *(text[-60:] for text in texts[20:60])])
    result, page = finished(adapter, members, record_files[1])
    side = result["members"]
    assert (side["n_read"], side["n_records"], side["n_windowed"]) == (44, 44, 1)
    assert side["status"] == {"ok": 43, "no_tokens": 1}
    assert "1 record has no score: 1 no_tokens." in result["warnings"]
    assert "1 record has no score: 1 no_tokens." in page
    rows = rows_by_line(tmp_path / "run")
    n_tokens = len(tokenizer(long)["input_ids"])
    assert rows[1]["n_tokens"] == n_tokens - 1  # every token but the first is predicted
    assert rows[1]["n_windows"] == 1 + -(-(n_tokens - 64) // 32)  # windows of the whole context, half of it new
    assert (rows[2]["n_tokens"], rows[2]["n_windows"], rows[2]["status"]) == (0, 0, "no_tokens")
    assert (rows[3]["n_tokens"], rows[3]["status"]) == (1, "ok")
    assert rows[4]["n_tokens"] == len(tokenizer(" \t \n ")["input_ids"]) - 1
    assert rows[4]["status"] == "ok"


def test_without_a_beginning_of_text_token_a_single_token_has_nothing_to_be_predicted_from(
    full, base, texts, finished, record_files, tmp_path
):
    def without_bos(source, name):
        folder = copied(source, tmp_path / name)
        settings = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(settings | {"post_processor": None}))
        return folder

    members = write_records(tmp_path / "m.jsonl", ["", "a", "ab ab ab", *texts[3:60]])
    result, _ = finished(without_bos(full, "target"), members, record_files[1], "--base", without_bos(base, "base"))
    assert result["members"]["status"] == {"no_tokens": 2, "ok": 58}
    assert "2 records have no score: 2 no_tokens." in result["warnings"]
    rows = rows_by_line(tmp_path / "run")
    assert [rows[line]["status"] for line in (1, 2, 3)] == ["no_tokens", "no_tokens", "ok"]
