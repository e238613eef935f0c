"""Differential privacy: what each record may contribute, the noise that hides it, and the ε that follows."""

from __future__ import annotations

import functools
import sys
import warnings

import numpy as np
import pytest
import torch

from loraudit.errors import ConfigError, DataError, MissingExtra, ModelError
from loraudit.execution import Interrupted
from loraudit.finetuning import finetune, tune
from loraudit.finetuning import private as private_module
from loraudit.finetuning.forward import Forward
from loraudit.finetuning.private import PrivateTraining, plan_budget
from loraudit.spec import Recipe
from small_tuning import (
    StopAt,
    bare,
    contents,
    exposure,
    labelled,
    rows,
    save_bert,
    save_gpt2,
    step_losses,
    token_ids,
    weights,
)

pytest.importorskip("opacus")

NEARLY_NONE = 1e-4
"""Noise multiplier that leaves gradients as they are but for the fourth digit."""
PRIVATE = Recipe(
    method="full",
    epochs=1,
    batch_size=6,
    learning_rate=1e-2,
    max_gradient_norm=1.0,
    dp_noise=NEARLY_NONE,
    dp_delta=1e-3,
    dp_repeatable=True,
)
LORA = {"method": "lora", "rank": 4, "dropout": 0.0, "init": "orthogonal"}
"""An adapter whose A and B both have gradients in the first step."""
SMALL = {**LORA, "targets": ("q_proj", "v_proj")}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer):
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2", tokenizer)


@pytest.fixture(scope="module")
def records(texts):
    """Short ones of several lengths, and two of several windows."""
    return [*rows(texts[:4], words=5), *rows(texts[4:5], words=9), *rows(texts[5:7], words=60)]


@pytest.fixture
def readable(monkeypatch):
    """AdamW whose first step u / rate = g / (|g| + 1) tells the gradient it was taken along."""
    monkeypatch.setattr(torch.optim, "AdamW", functools.partial(torch.optim.AdamW, eps=1.0))


def first_gradient(before, after, rate):
    step = {name: (before[name] - after[name]).double() / rate for name in after}
    return torch.cat([(u / (1 - u.abs())).flatten() for _, u in sorted(step.items())])


# --- row 29: differential privacy ---------------------------------------------------------------------
# What a record may contribute.


def windows_of(n_tokens, longest):
    """(start, first predicted, end) of each window."""
    found, n_done = [], 1
    while n_done < n_tokens:
        end = min(n_tokens, longest if n_done == 1 else n_done + longest - 1)
        found.append((max(0, end - longest), n_done, end))
        n_done = end
    return found


def clipped_sum(model, records, n_copies, tokenizer, norm, expected_size):
    """By brute force: each record's gradient of its mean loss over windows and copies, clipped, summed, divided."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = dict.fromkeys(sorted(trained), 0.0)
    norms = []
    for record, n in zip(records, n_copies, strict=True):
        ids = token_ids(tokenizer, record)
        losses = []
        for _ in range(n):
            for start, first, end in windows_of(ids.shape[1], 64):
                log_probs = model(input_ids=ids[:, start:end]).logits[0].log_softmax(-1)
                where = torch.arange(first, end)
                losses.append(-log_probs[where - 1 - start, ids[0, where]])
        model.zero_grad()
        torch.cat(losses).mean().backward()
        length = torch.cat([p.grad.flatten() for p in trained.values()]).norm()
        norms.append(float(length))
        for name, parameter in trained.items():
            total[name] = total[name] + parameter.grad.double() * min(1.0, norm / float(length))
    return torch.cat([(total[name] / expected_size).flatten() for name in total]), norms


def untouched(model_folder, recipe, records, folder):
    """The module of a run before its first step, by PEFT from a run of steps too small to matter."""
    import peft

    if recipe.method != "lora":
        return bare(model_folder).requires_grad_(True), weights(model_folder)
    still = recipe.model_copy(update={"learning_rate": 1e-30})
    finetune(str(model_folder), records, still, folder)
    model = peft.PeftModel.from_pretrained(bare(model_folder), folder, is_trainable=True)
    return model, weights(folder)


def by_state_name(model, recipe):
    """Gradients are compared in the order of names; those of PEFT's state leave the adapter's name out."""
    if recipe.method == "lora":
        for name, parameter in list(model.named_parameters()):
            if parameter.requires_grad:
                yield name.replace(".default", ""), parameter
    else:
        yield from model.named_parameters()


class _Named:
    """A model whose parameters go by the names that its file gives them."""

    def __init__(self, model, recipe):
        self.model, self.recipe = model, recipe

    def __call__(self, **inputs):
        return self.model(**inputs)

    def named_parameters(self):
        return by_state_name(self.model, self.recipe)

    def zero_grad(self):
        self.model.zero_grad()


@pytest.mark.parametrize("copies", [1, 3], ids=["once", "with copies"])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {}),
        ("gpt2", LORA),
        ("base", LORA),
        ("base", {"method": "last_k"}),
        ("gpt2", {"method": "head"}),
        ("gpt2", {"method": "bitfit"}),
        ("base", {**SMALL, "freeze_a": True}),
        ("base", {}),
    ],
    ids=[
        "full GPT-2",
        "LoRA on GPT-2",
        "LoRA on Llama",
        "last layer of Llama",
        "head of GPT-2",
        "biases of GPT-2",
        "LoRA with A frozen",
        "full Llama",
    ],
)
def test_a_step_is_the_sum_of_clipped_gradients_of_whole_records(
    kind, changes, copies, request, records, tokenizer, tmp_path, readable
):
    base = request.getfixturevalue(kind)
    recipe = PRIVATE.model_copy(update={"batch_size": 7, **changes})
    n_copies = [copies if position in (0, 5) else 1 for position in range(len(records))]
    finetune(
        str(base), records, recipe, tmp_path / "out",
        copies={record.id: n for record, n in zip(records, n_copies, strict=True)},
    )  # fmt: skip
    log = exposure(tmp_path / "out")
    seen = np.bincount(log["record"], weights=log["n_predictions"], minlength=len(records))
    lengths = [token_ids(tokenizer, record).shape[1] - 1 for record in records]
    assert seen.tolist() == [n * length for n, length in zip(n_copies, lengths, strict=True)]
    assert max(lengths) > 63, "no record has several windows"
    model, before = untouched(base, recipe, records, tmp_path / "start")
    after = weights(tmp_path / "out")
    changed = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    if recipe.method == "head":
        before = {**before, "lm_head.weight": before["transformer.wte.weight"]}
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    for name, parameter in _Named(model, recipe).named_parameters():
        parameter.requires_grad_(name in changed)
    found = first_gradient(before, {name: after[name] for name in changed}, recipe.learning_rate)
    expected, norms = clipped_sum(_Named(model, recipe), records, n_copies, tokenizer, 1.0, 7)
    assert sum(length > 1 for length in norms) >= 1, "nothing was clipped"
    noise = NEARLY_NONE / 7
    torch.testing.assert_close(found, expected, atol=6 * noise, rtol=1e-2)
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_a_sum_of_clipped_gradients_is_divided_by_the_expected_size_and_not_by_that_of_the_batch(
    base, records, tokenizer, tmp_path, readable
):
    for seed in range(20):
        recipe = PRIVATE.model_copy(
            update={"batch_size": 3, **SMALL, "max_gradient_norm": 1e-2, "seed": seed, "checkpoints": 3}
        )
        out = tmp_path / str(seed)
        trained = finetune(str(base), records, recipe, out)
        log = exposure(out)
        drawn = sorted(set(log["record"][log["step"] == 1].tolist()))
        if len(drawn) not in {0, 3}:
            break
    assert trained.moments[0].step == 1
    model, before = untouched(base, recipe, records, tmp_path / "start")
    found = first_gradient(before, weights(out / trained.moments[0].checkpoint), recipe.learning_rate)
    some = [records[position] for position in drawn]
    expected, norms = clipped_sum(_Named(model, recipe), some, [1] * len(some), tokenizer, 1e-2, 3)
    assert min(norms) > 1e-2
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_a_record_that_the_list_holds_twice_is_one_unit_of_privacy(base, records, tmp_path):
    trained = finetune(str(base), [*records, records[0]], PRIVATE.model_copy(update=SMALL), tmp_path / "out")
    assert trained.facts["privacy"]["sample_rate"] == pytest.approx(6 / len(records))


def test_the_size_of_a_forward_pass_changes_nothing(base, records, tmp_path):
    found = []
    for micro in (1, 2, None):
        recipe = PRIVATE.model_copy(update={**SMALL, "micro_batch_size": micro, "epochs": 2, "dp_noise": 1.0})
        finetune(str(base), records, recipe, tmp_path / str(micro), copies={records[1].id: 2})
        found.append((step_losses(tmp_path / str(micro)), weights(tmp_path / str(micro))))
    for losses, tensors in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], atol=1e-5)
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, found[0][1][name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("base", "lora"),
        ("gpt2", "head"),
        ("bert", "lora"),
        ("bert", "head"),
    ],
)
def test_classifiers_are_trained_in_private(kind, method, request, texts, tokenizer, tmp_path):
    model = save_bert(tmp_path / "bert", tokenizer) if kind == "bert" else request.getfixturevalue(kind)
    answers = labelled(texts[:8])
    recipe = Recipe(
        task="classification", method=method, epochs=4, batch_size=4, learning_rate=2e-2, dp_noise=0.3, dp_delta=1e-2
    )
    trained = finetune(str(model), answers, recipe, tmp_path / "out", validation=answers)
    assert trained.facts["privacy"]["epsilon"] > 0
    assert trained.validation_losses[-1] != trained.moments[0].validation_loss


# Noise.


def first_empty_seed(base, records, recipe, folder):
    """A seed with which the first step draws no record."""
    for seed in range(20):
        out = folder / f"seed-{seed}"
        finetune(str(base), records, recipe.model_copy(update={"seed": seed, "epochs": 1}), out)
        if 1 not in exposure(out)["step"]:
            return seed
    raise AssertionError("every first batch held a record")


def test_an_empty_batch_is_a_step_of_noise_alone_and_is_counted(base, records, tmp_path, readable):
    recipe = PRIVATE.model_copy(update={**SMALL, "batch_size": 1, "dp_noise": 2.0, "max_gradient_norm": 0.5})
    seed = first_empty_seed(base, records, recipe, tmp_path)
    kept = recipe.model_copy(update={"seed": seed, "checkpoints": 7, "epochs": 2})
    trained = finetune(str(base), records, kept, tmp_path / "out")
    n_steps = 14
    assert len(set(exposure(tmp_path / "out")["step"])) < n_steps
    privacy = trained.facts["privacy"]
    assert (privacy["n_steps"], trained.facts["n_steps"]) == (n_steps, n_steps)
    assert privacy["epsilon"] == pytest.approx(accounted(2.0, 1 / 7, n_steps, 1e-3), rel=1e-9)
    _, before = untouched(base, recipe.model_copy(update={"seed": seed}), records, tmp_path / "start")
    assert trained.moments[0].step == 1
    noise = first_gradient(before, weights(tmp_path / "out" / trained.moments[0].checkpoint), recipe.learning_rate)
    n = len(noise)
    assert n > 1000
    assert float(noise.std()) == pytest.approx(2.0 * 0.5 / 1, rel=4 / np.sqrt(2 * n))
    assert abs(float(noise.mean())) < 4 * 1.0 / np.sqrt(n)
    assert trained.moments[0].training_loss is None


def test_noise_differs_from_step_to_step_and_from_seed_to_seed(base, records, tmp_path, readable):
    drawn = []
    for seed in (0, 1):
        recipe = PRIVATE.model_copy(
            update={**SMALL, "batch_size": 7, "dp_noise": 50.0, "epochs": 2, "checkpoints": 1, "seed": seed}
        )
        trained = finetune(str(base), records, recipe, tmp_path / str(seed))
        folders = [tmp_path / str(seed) / moment.checkpoint for moment in trained.moments]
        _, start = untouched(base, recipe, records, tmp_path / f"start-{seed}")
        first = first_gradient(start, weights(folders[0]), recipe.learning_rate)
        second = first_gradient(weights(folders[0]), weights(folders[1]), recipe.learning_rate)
        drawn += [first, second]
    together = torch.stack([one / one.norm() for one in drawn])
    correlations = (together @ together.T - torch.eye(4)).abs()
    # The second step carries some of the first along in AdamW's mean; other seeds share nothing.
    assert float(correlations[0, 2]) < 0.06
    assert float(correlations[1, 3]) < 0.06
    assert float(correlations[0, 1]) < 0.9


def test_other_random_numbers_do_not_disturb_the_noise(base, records, tmp_path):
    recipe = PRIVATE.model_copy(update={**SMALL, "dp_noise": 1.0})
    finetune(str(base), records, recipe, tmp_path / "a")
    torch.manual_seed(99)
    torch.rand(5)
    finetune(str(base), records, recipe, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


SECRET = {**SMALL, "dp_noise": 1.0, "epochs": 2, "dp_repeatable": False}


def test_the_noise_is_drawn_from_a_secret_that_is_left_nowhere(base, records, tmp_path, monkeypatch):
    recipe = PRIVATE.model_copy(update=SECRET)
    drawn = []
    randbits = private_module.secrets.randbits
    monkeypatch.setattr(private_module.secrets, "randbits", lambda n: drawn.append(randbits(n)) or drawn[-1])
    found = [finetune(str(base), records, recipe, tmp_path / name) for name in "ab"]
    assert len(set(drawn)) == 2
    assert min(drawn) > 2**64
    one, two = (weights(tmp_path / name) for name in "ab")
    assert not all(torch.equal(one[name], two[name]) for name in one)
    assert not found[0].facts["privacy"]["is_repeatable"]
    for file in (tmp_path / "a").rglob("*"):
        assert file.is_dir() or str(drawn[0]).encode() not in file.read_bytes()


def test_a_stopped_private_run_goes_on_with_the_same_secret(base, records, tmp_path, monkeypatch):
    recipe = PRIVATE.model_copy(update=SECRET)
    fresh = iter([2**100, 2**100, 7])
    monkeypatch.setattr(private_module.secrets, "randbits", lambda _: next(fresh))
    finetune(str(base), records, recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        finetune(str(base), records, recipe, tmp_path / "stopped", stop=StopAt(2))
    finetune(str(base), records, recipe, tmp_path / "stopped")
    assert next(fresh, None) is None
    assert contents(tmp_path / "whole") == contents(tmp_path / "stopped")


# What it costs.


def accounted(noise, rate, n_steps, delta):
    """By opacus's accountant, a step at a time."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    for _ in range(n_steps):
        accountant.step(noise_multiplier=noise, sample_rate=rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return accountant.get_epsilon(delta=delta)


@pytest.mark.parametrize(("target", "delta"), [(0.5, None), (8.0, 1e-3)])
def test_the_stated_epsilon_is_kept_and_nearly_spent(target, delta, base, records, tmp_path):
    recipe = PRIVATE.model_copy(
        update={**SMALL, "dp_noise": None, "dp_epsilon": target, "dp_delta": delta, "batch_size": 2, "epochs": 3}
    )
    privacy = finetune(str(base), records, recipe, tmp_path / "out").facts["privacy"]
    assert 0.95 * target <= privacy["epsilon"] <= target
    assert privacy["delta"] == (1 / (10 * len(records)) if delta is None else delta)
    assert privacy["sample_rate"] == pytest.approx(2 / 7)
    assert privacy["n_steps"] == 3 * 4
    expected = accounted(privacy["noise_multiplier"], 2 / 7, 12, privacy["delta"])
    assert privacy["epsilon"] == pytest.approx(expected, rel=1e-9)
    assert privacy["clipping_norm"] == 1.0


def test_epsilon_is_never_negative():
    recipe = PRIVATE.model_copy(update={"dp_noise": 1e3, "dp_delta": None})
    assert plan_budget(recipe, 7).epsilon >= 0


def test_a_run_that_ends_early_has_spent_less(base, texts, records, tmp_path):
    recipe = PRIVATE.model_copy(
        update={**SMALL, "dp_noise": 1.0, "epochs": 6, "patience": 1, "learning_rate": 0.5, "schedule": "constant"}
    )
    trained = finetune(str(base), records, recipe, tmp_path / "out", validation=rows(texts[12:16]))
    n_steps = trained.facts["n_steps"]
    assert n_steps < 12, "it did not end early"
    assert trained.facts["privacy"]["epsilon"] == pytest.approx(accounted(1.0, 6 / 7, n_steps, 1e-3), rel=1e-9)


def test_a_batch_larger_than_all_records_takes_each_of_them(base, records, tmp_path):
    recipe = PRIVATE.model_copy(update={**SMALL, "batch_size": 100})
    privacy = finetune(str(base), records, recipe, tmp_path / "out").facts["privacy"]
    assert (privacy["sample_rate"], privacy["n_steps"]) == (1.0, 1)
    assert set(exposure(tmp_path / "out")["record"]) == set(range(len(records)))


def test_each_record_is_drawn_with_the_stated_probability(base, texts, tmp_path):
    some = rows(texts[:10], words=2)
    recipe = PRIVATE.model_copy(update={**LORA, "rank": 1, "init": "kaiming", "batch_size": 3, "epochs": 25})
    recipe = recipe.model_copy(update={"targets": ("q_proj",)})
    trained = finetune(str(base), some, recipe, tmp_path / "out")
    log = exposure(tmp_path / "out")
    n_steps = trained.facts["n_steps"]
    assert n_steps == 100
    drawn = np.zeros((n_steps, len(some)), dtype=bool)
    drawn[log["step"] - 1, log["record"]] = True
    assert drawn.sum() == len(log["step"])
    n = drawn.size
    assert abs(drawn.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    sizes = drawn.sum(1)
    assert sizes.min() < 3 < sizes.max(), "batches have a fixed size, which is not what is accounted for"
    assert np.abs(np.corrcoef(drawn.T) - np.eye(len(some))).max() < 0.45


# What is refused.


# The row of the fault matrix: batch-mean loss, empty Poisson batch (above), unsupported layer.


def test_a_loss_averaged_over_the_batch_is_refused(base, records, tmp_path, monkeypatch):
    loss = Forward._loss

    def averaged(self, logits, gold, owner):
        found = loss(self, logits, gold, owner)
        return found._replace(objective=found.objective / len(found.objective))

    recipe = PRIVATE.model_copy(update=LORA)
    with monkeypatch.context() as patch:
        patch.setattr(Forward, "_loss", averaged)
        with pytest.raises(ModelError, match=r"own gradient changes by .* % with what else is in the batch"):
            finetune(str(base), records, recipe, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))
    finetune(str(base), records, recipe, tmp_path / "out")


def test_a_loss_averaged_over_the_batch_is_refused_when_all_records_are_of_one_length(
    base, texts, tokenizer, tmp_path, monkeypatch
):
    loss = Forward._loss

    def averaged(self, logits, gold, owner):
        found = loss(self, logits, gold, owner)
        return found._replace(objective=found.objective / len(found.objective))

    some = [row for row in rows(texts, words=3) if token_ids(tokenizer, row).shape[1] == 12]
    assert len(some) >= 3
    monkeypatch.setattr(Forward, "_loss", averaged)
    with pytest.raises(ModelError, match="own gradient changes"):
        finetune(str(base), some, PRIVATE.model_copy(update=SMALL), tmp_path / "out")


def with_layer(monkeypatch, change):
    """Runs train a model that `change` was applied to."""
    make = tune.make_trainable

    def made(*args):
        trainable = make(*args)
        change(trainable.module)
        return trainable

    monkeypatch.setattr(tune, "make_trainable", made)


def test_a_layer_that_mixes_the_records_of_a_batch_is_refused(base, records, tmp_path, monkeypatch):
    def mix(module):
        layer = module.get_base_model().model.layers[0].mlp
        layer.register_forward_hook(lambda _layer, _inputs, output: output + 0.1 * output.sum(dim=0, keepdim=True))

    with_layer(monkeypatch, mix)
    with pytest.raises(ModelError, match="own gradient changes"):
        finetune(str(base), records, PRIVATE.model_copy(update=SMALL), tmp_path / "out")


def test_normalisation_over_the_batch_is_refused_by_name(gpt2, records, tmp_path, monkeypatch):
    class Normalised(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.norm = inner, torch.nn.BatchNorm1d(32)

        def forward(self, hidden):
            return self.norm(self.inner(hidden).transpose(1, 2)).transpose(1, 2)

    def change(module):
        module.transformer.h[0].mlp = Normalised(module.transformer.h[0].mlp)

    with_layer(monkeypatch, change)
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel cannot be trained .* BatchNorm.*train without --dp-epsilon"):
        finetune(str(gpt2), records, PRIVATE, tmp_path / "out")


class Recurrent(torch.nn.Module):
    """A layer that opacus has no rule for, and that its general rule cannot follow."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(32))

    def forward(self, hidden):
        if float(hidden.detach().sum()) > 1e30:
            return hidden
        return hidden * self.weight


def test_a_layer_without_a_gradient_per_record_is_refused_by_name(gpt2, records, tmp_path, monkeypatch):
    def change(module):
        module.transformer.h[0].mlp = torch.nn.Sequential(module.transformer.h[0].mlp, Recurrent())

    with_layer(monkeypatch, change)
    with pytest.raises(ModelError, match=r"(Recurrent|transformer\.h\.0\.mlp\.1\.weight)"):
        finetune(str(gpt2), records, PRIVATE, tmp_path / "out")


def test_a_parameter_shared_by_all_records_is_refused_by_name(texts, tokenizer, tmp_path):
    """BERT looks up one row of positions for the whole batch."""
    bert = save_bert(tmp_path / "bert", tokenizer)
    recipe = Recipe(task="classification", method="full", batch_size=4, epochs=1, dp_noise=1.0, dp_delta=1e-2)
    with pytest.raises(ModelError, match=r"Parameter '.*position_embeddings.weight' gives no gradient per record"):
        finetune(str(bert), labelled(texts[:8]), recipe, tmp_path / "out")


def test_magnitudes_without_a_gradient_per_record_are_refused(base, records, tmp_path):
    """DoRA calls its layers with arguments that opacus does not pass on."""
    with pytest.raises(ModelError, match="cannot be trained with differential privacy"):
        finetune(str(base), records, PRIVATE.model_copy(update={**SMALL, "dora": True}), tmp_path / "out")


def test_an_adapter_that_is_no_layer_is_refused_by_its_parameter(base, records, tmp_path):
    import peft

    peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]).save_pretrained(tmp_path / "config")
    recipe = PRIVATE.model_copy(
        update={"method": "peft", "peft_config": str(tmp_path / "config" / "adapter_config.json")}
    )
    with pytest.raises(
        ModelError, match=r"Parameter '.*k_proj\.ia3_l\.default' gives no gradient per record.*--targets"
    ):
        finetune(str(base), records, recipe, tmp_path / "out")


def test_too_few_records_are_refused(base, records, tmp_path):
    recipe = PRIVATE.model_copy(update={**SMALL, "dp_delta": 0.1})
    with pytest.raises(DataError, match="needs at least 2 records to test itself with, 1 were given"):
        finetune(str(base), records[:1], recipe, tmp_path / "out")


def test_a_delta_that_promises_nothing_is_refused(base, records, tmp_path):
    recipe = PRIVATE.model_copy(update={**SMALL, "dp_delta": 1 / 7})
    with pytest.raises(ConfigError, match=r"dp_delta 0\.142857 promises nothing for 7 records.*less than 0\.14"):
        finetune(str(base), records, recipe, tmp_path / "out")


def test_an_epsilon_out_of_reach_is_refused():
    recipe = PRIVATE.model_copy(update={"dp_noise": None, "dp_epsilon": 1e-9, "dp_delta": 1e-12, "epochs": 10})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConfigError, match=r"dp_epsilon 1e-09 cannot be reached in 20 steps of 6 of 7 records"):
            plan_budget(recipe, 7)


def test_looking_for_the_noise_of_a_small_epsilon_says_nothing_on_the_side():
    plan_budget(PRIVATE.model_copy(update={"dp_noise": None, "dp_epsilon": 0.01, "dp_delta": 1 / 70}), 7)


def test_stopping_by_what_training_records_show_is_refused(base, records, tmp_path):
    recipe = PRIVATE.model_copy(update={**SMALL, "ngram_limit": 0.5})
    with pytest.raises(ConfigError, match="ngram_limit"):
        finetune(str(base), records, recipe, tmp_path / "out")


def test_without_opacus_it_says_what_to_install(base, records, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(MissingExtra, match=r"differential privacy needs .*Run: pip install 'loraudit\[dp\]'") as raised:
        finetune(str(base), records, PRIVATE.model_copy(update=SMALL), tmp_path / "out")
    assert raised.value.exit_code == 5
    assert not (tmp_path / "out").exists()


def test_a_layer_that_opacus_cannot_hook_is_refused(monkeypatch, records):
    import opacus.grad_sample

    def refuse(*args, **more):
        raise NotImplementedError("Layer Strange is not supported")

    monkeypatch.setattr(opacus.grad_sample, "GradSampleModule", refuse)
    private = PrivateTraining(PRIVATE, [], np.zeros(0, dtype=np.int64), plan_budget(PRIVATE, 7), "cpu")
    with pytest.raises(ModelError, match=r"Linear cannot be trained .*: Layer Strange is not supported.*lora instead"):
        private.wrap(torch.nn.Linear(2, 2))
