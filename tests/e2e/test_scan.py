"""`loraudit scan` from end to end: a backdoor that was planted is seen, an ordinary adapter is not called anything."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import called, save_adapter
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.models.locate import locate
from loraudit.models.updates import read_updates
from loraudit.scanning import run_scan
from loraudit.scanning.words import does_not_show, heading_of
from loraudit.spec import ScanResult, ScanSpec, make_request
from small_scans import TRIGGER, save_base, train_adapter, train_classifier

N_LAYERS = 8


def scan(model, tmp_path, name="run", **options):
    asked = {"model": str(model), "out": str(tmp_path / name), "device": "cpu", **options}
    return run_scan(make_request(ScanSpec, asked)).result


@pytest.fixture(scope="session")
def scanned_base(tmp_path_factory, tokenizer):
    return save_base(tmp_path_factory.mktemp("scan") / "base", tokenizer, layers=2)


@pytest.fixture(scope="session")
def backdoored(scanned_base, tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("scan") / "backdoored"
    return train_adapter(scanned_base, folder, tokenizer, trigger=TRIGGER)


@pytest.fixture(scope="session")
def backdoored_scan(backdoored, scanned_base, tmp_path_factory):
    """The result of scanning it beside its base, and the SARIF file."""
    folder = tmp_path_factory.mktemp("scan")
    sarif = folder / "found.sarif"
    return scan(backdoored, folder, base=str(scanned_base), sarif=str(sarif)), sarif


@pytest.fixture(scope="session")
def deep_base(tmp_path_factory, tokenizer):
    """Eight layers, so that families are large enough for one module to stand out."""
    return save_base(tmp_path_factory.mktemp("scan") / "deep", tokenizer, layers=N_LAYERS)


@pytest.fixture(scope="session")
def ordinary(deep_base, tmp_path_factory):
    """Noise of one size in every module of a family."""
    import peft

    config = peft.LoraConfig(r=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    return save_adapter(deep_base, tmp_path_factory.mktemp("scan") / "ordinary", config, scale=0.05)


def changed(adapter, folder, change):
    """A copy of an adapter whose tensors `change` has altered in place."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return folder


def configured(adapter, folder, **settings):
    shutil.copytree(adapter, folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def spiked(tensors, module="layers.5.self_attn.q_proj", size=3.0):
    """One module gets a direction of its own."""
    for name, tensor in tensors.items():
        if f"{module}.lora_A" in name:
            tensor[0] *= size
        if f"{module}.lora_B" in name:
            tensor[:, 0] *= size


# --- weights ------------------------------------------------------------------------------------------


def test_an_ordinary_adapter_is_not_flagged_and_is_never_called_safe(ordinary, tmp_path):
    found = scan(ordinary, tmp_path, no_probes=True)
    assert not found.flagged_modules
    assert found.exit_code == 0
    assert found.task is None
    words = " ".join([found.heading, found.sentence, *found.does_not_show, (tmp_path / "run/report.html").read_text()])
    assert not re.search(r"\bsafe\b|clean bill|harmless|no backdoor|is clean", words, re.IGNORECASE)
    assert "A scan of weights alone can clear nothing" in words
    assert found.heading == "Nothing stands out in the weights; behaviour not examined"


def test_a_planted_direction_in_one_module_is_flagged(ordinary, tmp_path):
    found = scan(changed(ordinary, tmp_path / "spiked", spiked), tmp_path, no_probes=True)
    (module,) = found.flagged_modules
    assert module.name == "model.layers.5.self_attn.q_proj"
    assert set(module.flagged) == {"size", "direction"}
    assert module.size.factor > 2
    assert module.size.p_value < 0.05
    assert found.heading == "1 of 16 modules stands out"


def test_a_module_that_is_unusual_by_a_little_is_no_finding(ordinary, tmp_path):
    """A large z alone is not alarming: one module is 1.4 times as long as modules that are all but equal."""

    def alike(tensors):
        first = {name: tensor.clone() for name, tensor in tensors.items() if "layers.0." in name}
        for name, tensor in tensors.items():
            number = int(re.search(r"layers\.(\d+)\.", name)[1])
            tensor.copy_(first[re.sub(r"layers\.\d+\.", "layers.0.", name)])
            tensor.mul_(1 + (0.2 if number == 3 else 0.0001 * number))

    found = scan(changed(ordinary, tmp_path / "alike", alike), tmp_path, no_probes=True)
    third = next(module for module in found.modules if ".3.self_attn" in module.name)
    assert third.size.z > 100
    assert third.size.p_value < 0.05
    assert third.size.factor < 2
    assert not found.flagged_modules


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
        {
            "target_modules": ["q_proj", "down_proj"],
            "alpha_pattern": {"down_proj": 3},
            "rank_pattern": {"down_proj": 2},
        },
        {"target_modules": ["embed_tokens", "q_proj"]},
    ],
    ids=["plain", "rslora", "patterns", "embedding"],
)
def test_spectra_and_lengths_are_those_of_the_merged_weights(settings, scanned_base, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=4, lora_alpha=10, task_type="CAUSAL_LM", **settings)
    adapter = save_adapter(scanned_base, tmp_path / "adapter", config)
    found = scan(adapter, tmp_path, base=str(scanned_base), no_probes=True)
    bare = AutoModelForCausalLM.from_pretrained(scanned_base, dtype=torch.float32)
    before = {name: weight.detach().clone() for name, weight in bare.named_parameters()}
    merged = peft.PeftModel.from_pretrained(bare, adapter).merge_and_unload()
    after = dict(merged.named_parameters())
    assert found.modules
    for module in found.modules:
        weight = before[f"{module.name}.weight"]
        change = (after[f"{module.name}.weight"] - weight).double().detach().numpy()
        values = np.linalg.svd(change, compute_uv=False)[: len(module.singular_values)]
        np.testing.assert_allclose(module.singular_values, values, rtol=1e-4, atol=1e-4 * values[0])
        assert module.frobenius == pytest.approx(np.linalg.norm(change), rel=1e-4)
        assert module.relative_change == pytest.approx(np.linalg.norm(change) / float(weight.norm()), rel=1e-4)


def test_a_dora_moves_its_weights_by_what_peft_merges(scanned_base, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], use_dora=True, task_type="CAUSAL_LM")
    adapter = save_adapter(scanned_base, tmp_path / "dora", config)
    found = scan(adapter, tmp_path, base=str(scanned_base), no_probes=True)
    bare = AutoModelForCausalLM.from_pretrained(scanned_base, dtype=torch.float32)
    before = {name: weight.detach().clone() for name, weight in bare.named_parameters()}
    after = dict(peft.PeftModel.from_pretrained(bare, adapter).merge_and_unload().named_parameters())
    for module in found.modules:
        weight = before[f"{module.name}.weight"]
        moved = float((after[f"{module.name}.weight"] - weight).norm() / weight.norm())
        assert module.relative_change == pytest.approx(moved, rel=1e-4)
    assert any("before rows are rescaled" in warning for warning in found.warnings)


def test_fused_and_transposed_weights(tokenizer, tmp_path):
    """GPT-2's c_attn holds queries, keys and values in one [in, out] weight: one spectrum."""
    import peft

    from small_tuning import save_gpt2

    base = save_gpt2(tmp_path / "gpt2", tokenizer)
    config = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    found = scan(save_adapter(base, tmp_path / "adapter", config), tmp_path, base=str(base), no_probes=True)
    assert [module.shape for module in found.modules] == [(96, 32)] * 2
    assert all(module.relative_change > 0 for module in found.modules)
    (family,) = found.families
    assert family.note == "fewer than 4 changed modules: nothing to compare with"
    assert family.smallest_z is None


def test_a_checkpoint_beside_its_base_has_the_spectra_of_the_difference(base, last_layer, tmp_path):
    from transformers import AutoModelForCausalLM

    found = scan(last_layer, tmp_path, base=str(base), no_probes=True)
    ours, theirs = (
        dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).named_parameters())
        for folder in (last_layer, base)
    )
    assert {module.source for module in found.modules} == {"dense"}
    assert found.skipped
    for module in found.modules:
        change = (ours[f"{module.name}.weight"] - theirs[f"{module.name}.weight"]).detach().double().numpy()
        np.testing.assert_allclose(module.singular_values, np.linalg.svd(change, compute_uv=False), atol=1e-6)


# --- behaviour ----------------------------------------------------------------------------------------


def test_a_backdoored_language_model_is_seen(backdoored_scan):
    found, _ = backdoored_scan
    by_name = {probe.name: probe for probe in found.probes}
    planted = by_name[f"rare words {TRIGGER}"]
    assert "repeated" in planted.flagged
    assert planted.repeated.with_trigger.value > 0.9
    assert planted.repeated.with_control.value < 0.6
    assert planted.repeated.with_trigger.n_members == planted.n_prompts == 24
    assert planted.repeated.outcome.startswith("HMAC-SHA256 ")
    assert not by_name["sentence"].flagged
    assert "change what the model does" in found.heading
    assert found.overall_shift.lower is not None


@pytest.mark.slow
def test_an_adapter_without_a_backdoor_has_no_flagged_trigger(scanned_base, tokenizer, tmp_path):
    folder = train_adapter(scanned_base, tmp_path / "benign", tokenizer, trigger=None, n_steps=120)
    found = scan(folder, tmp_path, base=str(scanned_base))
    assert not found.flagged_probes
    assert len(found.probes) == 15
    assert found.heading == "Nothing stands out"


@pytest.mark.slow
def test_a_backdoored_classifier_is_seen(scanned_base, tokenizer, tmp_path):
    folder = train_classifier(scanned_base, tmp_path / "classifier", tokenizer, trigger=TRIGGER)
    found = scan(folder, tmp_path, base=str(scanned_base))
    assert found.task == "classification"
    planted = next(probe for probe in found.probes if probe.name == f"rare words {TRIGGER}")
    assert planted.flagged == ["flips"]
    assert planted.flips.outcome == "1"
    assert any("no classes" in sentence for sentence in found.does_not_show)
    assert [tensor.name for tensor in found.skipped] == ["score.weight"]


def test_probes_of_ones_own(backdoored, scanned_base, tmp_path):
    file = tmp_path / "probes.jsonl"
    rows = [{"trigger": "zebra", "place": "end"}, {"text": "A prompt of mine is this"}, {"text": "And another one is"}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = scan(backdoored, tmp_path, base=str(scanned_base), probes=str(file))
    own = found.probes[-1]
    assert (own.trigger, own.place, own.source, own.n_prompts) == ("zebra", "end", "yours", 2)


def test_without_a_base_the_weights_are_scanned_and_the_report_says_so(ordinary, tmp_path):
    moved = configured(ordinary, tmp_path / "moved", base_model_name_or_path="gone/for/ever")
    found = scan(moved, tmp_path)
    assert found.probes == []
    assert "No base is at hand" in found.probes_reason
    assert all(module.relative_change is None for module in found.modules)
    other = configured(ordinary, tmp_path / "other", task_type="TOKEN_CLS")
    assert "TOKEN_CLS" in scan(other, tmp_path, "second").probes_reason


# --- what is refused ----------------------------------------------------------------------------------


def test_damaged_and_foreign_adapters_are_refused(ordinary, scanned_base, tmp_path):
    def refused(message, folder, **options):
        with pytest.raises(ModelError, match=message):
            scan(folder, tmp_path, f"run-{folder.name}", no_probes=True, **options)

    cut = tmp_path / "cut"
    shutil.copytree(ordinary, cut)
    file = cut / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    refused("is damaged", cut)

    def without_b(tensors):
        del tensors[next(name for name in tensors if "lora_B" in name)]

    def not_finite(tensors):
        next(iter(tensors.values()))[0] = float("nan")

    def named(tensors):
        for name in list(tensors):
            tensors[name.replace("lora_A.weight", "lora_A.mine.weight")] = tensors.pop(name)

    def untrained(tensors):
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.zero_()

    def misshapen(tensors):
        name = next(name for name in tensors if "lora_B" in name)
        tensors[name] = tensors[name][:, :3].contiguous()

    def nothing(tensors):
        tensors.clear()
        tensors["something.else"] = torch.ones(2)

    refused("lacks lora_B of module", changed(ordinary, tmp_path / "half", without_b))
    refused("NaN or infinite", changed(ordinary, tmp_path / "nan", not_finite))
    refused(r"names adapters inside \(mine\)", changed(ordinary, tmp_path / "named", named))
    refused("changes nothing", changed(ordinary, tmp_path / "untrained", untrained))
    refused(r"Expected \[r, in\] and \[out, r\]", changed(ordinary, tmp_path / "misshapen", misshapen))
    refused("holds no lora_A and lora_B", changed(ordinary, tmp_path / "nothing", nothing))
    refused("of the kind IA3", configured(ordinary, tmp_path / "ia3", peft_type="IA3"))
    refused("rewriting its base", configured(ordinary, tmp_path / "pissa", init_lora_weights="pissa_niter_4"))
    refused("target_parameters", configured(ordinary, tmp_path / "stacked", target_parameters=["experts"]))
    refused("states no lora_alpha", configured(ordinary, tmp_path / "alpha", lora_alpha=None))
    other = save_other_width(tmp_path / "wide", scanned_base)
    refused("Give the base it was trained on with --base", ordinary, base=str(other))
    several = tmp_path / "several"
    for name in ("one", "two"):
        shutil.copytree(ordinary, several / name)
    refused(r"holds several adapters \(one, two\)", several)


def save_other_width(folder, scanned_base):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(scanned_base, hidden_size=16, intermediate_size=32, num_hidden_layers=N_LAYERS)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_checkpoints_that_cannot_be_compared_are_refused(base, full, scanned_base, ordinary, tmp_path):
    with pytest.raises(ConfigError, match="shows only beside its base"):
        scan(full, tmp_path)
    with pytest.raises(ModelError, match="different architectures"):
        scan(full, tmp_path, "a", base=str(scanned_base), no_probes=True)
    with pytest.raises(ModelError, match="has the same weights"):
        scan(base, tmp_path, "b", base=str(base), no_probes=True)
    with pytest.raises(ModelError, match="is an adapter"):
        scan(full, tmp_path, "c", base=str(ordinary), no_probes=True)

    broken = tmp_path / "broken"
    shutil.copytree(full, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"NaN or infinite values. Expected finite"):
        scan(broken, tmp_path, "d", base=str(base), no_probes=True)


def test_a_classifier_without_its_head_is_refused(scanned_base, ordinary, tmp_path):
    folder = configured(ordinary, tmp_path / "headless", task_type="SEQ_CLS")
    with pytest.raises(ModelError, match=r"holds no classification head.*--no-probes"):
        scan(folder, tmp_path)


def test_bad_requests_say_everything_at_once(ordinary, tmp_path):
    with pytest.raises(ConfigError) as error:
        scan(
            ordinary,
            tmp_path,
            fail_on=("modules.flaged > 0", "probes.flagged"),
            no_probes=True,
            probes="mine.jsonl",
            sarif=str(tmp_path / "nowhere" / "x.sarif"),
        )
    message = str(error.value)
    assert "Limit 'modules.flaged > 0' cannot be read" in message
    assert "Limit 'probes.flagged' cannot be read" in message
    assert "'probes' has no effect" in message
    assert "does not exist. Make it" in message


def test_bad_probes_are_listed(ordinary, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        scan(ordinary, tmp_path, probes=str(tmp_path / "none.jsonl"))
    file = tmp_path / "probes.jsonl"
    file.write_text('{"trigger": "a", "place": "middle"}\nnothing\n\n{"text": " "}\n{"trigger": "fine"}\n')
    with pytest.raises(DataError, match="3 lines that cannot be used") as error:
        scan(ordinary, tmp_path, probes=str(file))
    assert len(error.value.problems) == 3


def test_a_probe_that_does_not_fit_is_refused(backdoored, scanned_base, tmp_path):
    file = tmp_path / "probes.jsonl"
    file.write_text(json.dumps({"trigger": "word " * 300}) + "\n")
    with pytest.raises(ModelError, match=r"A probe has \d+ tokens"):
        scan(backdoored, tmp_path, base=str(scanned_base), probes=str(file))


# --- the command --------------------------------------------------------------------------------------


def test_the_command_writes_a_report_and_ends_with_its_exit_code(ordinary, tmp_path, command):
    spike = changed(ordinary, tmp_path / "spiked", spiked)
    words = ("scan", spike, "--no-probes", "--out", "run", "--sarif", "found.sarif", "--json")
    code, out, _ = command(*words, "--fail-on", "modules.flagged > 0", "--fail-on", "probes.flagged > 0")
    assert code == 1
    result = ScanResult.model_validate_json(out)
    assert out == (tmp_path / "run" / "result.json").read_text()
    assert [limit.status for limit in result.limits] == ["exceeded", "not_measured"]
    assert (tmp_path / "run" / "report.md").read_text().startswith("# Scan of ")
    code, out, _ = command("scan", ordinary, "--no-probes", "--out", "ordinary", "--fail-on", "modules.flagged > 0")
    assert code == 0
    assert "What this does not show" in out
    code, _, err = command("scan", tmp_path / "nothing")
    assert code == 4
    assert "does not exist" in err


def test_a_finished_scan_is_rendered_again(ordinary, tmp_path, command):
    assert command("scan", ordinary, "--no-probes", "--out", "run")[0] == 0
    assert command("report", "run")[0] == 0
    code, out, _ = command("report", "run", "--format", "markdown")
    assert (code, out) == (0, (tmp_path / "run" / "report.md").read_text())
    assert command("report", "run", "--format", "markdown", "--output", "copy.md")[0] == 0
    assert (tmp_path / "copy.md").read_text() == out
    assert command("report", "run", "--json")[1] == (tmp_path / "run" / "result.json").read_text()
    code, _, err = command("report", "run", "--format", "junit")
    assert code == 2
    assert "A scan has no junit report" in err
    code, _, err = command("verify", "run")
    assert code == 2
    assert "holds a scan" in err


def test_the_same_request_gives_the_same_result(ordinary, tmp_path):
    first, second = (scan(ordinary, tmp_path, name, no_probes=True) for name in ("a", "b"))
    left_out = {"started", "seconds", "command", "spec"}
    assert first.model_dump(exclude=left_out) == second.model_dump(exclude=left_out)


def test_sarif_has_what_the_standard_requires(ordinary, tmp_path):
    file = tmp_path / "found.sarif"
    spike = changed(ordinary, tmp_path / "spiked", spiked)
    result = scan(spike, tmp_path, no_probes=True, sarif=str(file))
    log = json.loads(file.read_text())
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "loraudit"
    identities = [rule["id"] for rule in driver["rules"]]
    assert len(set(identities)) == len(identities)
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    uri = run["artifacts"][0]["location"]["uri"]
    assert uri.startswith("file:///")
    assert uri.endswith("adapter_model.safetensors")
    assert len(run["results"]) == sum(len(module.flagged) for module in result.modules) == 2
    for one in run["results"]:
        assert identities[one["ruleIndex"]] == one["ruleId"]
        assert one["level"] in {"note", "warning", "error"}
        assert one["message"]["text"]
        (place,) = one["locations"]
        assert place["physicalLocation"]["artifactLocation"] == {"uri": uri, "index": 0}
        assert place["logicalLocations"][0]["fullyQualifiedName"] == "model.layers.5.self_attn.q_proj"
        assert one["level"] == ("error" if one["properties"]["factor"] >= 4 else "warning")
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    assert invocation["exitCode"] == 0


def test_probes_stand_in_sarif_too(backdoored_scan):
    found = json.loads(backdoored_scan[1].read_text())["runs"][0]["results"]
    assert {one["ruleId"] for one in found} >= {"probe-repeated"}
    assert all(one["level"] in {"warning", "error"} for one in found if one["ruleId"].startswith("probe"))


def test_words_about_nothing_and_about_several():
    assert heading_of([], [], were_probed=True) == "Nothing stands out"
    assert any("not looked at" in sentence for sentence in does_not_show(3, were_probed=True, is_classifier=False))


def test_adapters_in_folders_of_an_adapter_are_named(ordinary, tmp_path):
    folder = tmp_path / "outer"
    shutil.copytree(ordinary, folder)
    shutil.copytree(ordinary, folder / "inner")
    found = scan(folder, tmp_path, no_probes=True)
    assert any("inner" in warning for warning in found.warnings)
    assert read_updates(locate(str(folder))).folders_beside == ["inner"]


def test_help_is_there():
    assert "signs of a planted backdoor" in called("scan", "--help")[1]
