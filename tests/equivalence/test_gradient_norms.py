"""Gradient norms of records in batches are those of single records, and a stopped run ends as an undisturbed one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CONTEXT, VOCABULARY, save_adapter
from loraudit.capture import (
    Call,
    GradientMeter,
    Piece,
    gather_gradients,
    gradient_folder,
    linear_maps,
    recorded_calls,
    squared_norms,
)
from loraudit.capture.engine import pieces_of
from loraudit.capture.norms import LinearMap, squared_norms_of_calls
from loraudit.data import cut_windows, encode, record_id
from loraudit.errors import EnvironmentFault
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.models import Numerics, Resident, load_tokenizer, plan_models
from loraudit.models.resident import always
from loraudit.scoring import ScoringOptions
from loraudit.store import EvidenceStore
from loraudit.types import Record

FP32 = Numerics("cpu", "fp32")
OPTIONS = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=400)
"""Passes of 100 tokens, so that the records below make several units."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def rows(texts):
    """24 records of 2 to 64 tokens, one longer than the context, one of a single token."""
    cut = [texts[i][: 12 + 5 * i] for i in range(22)]
    records = [Record(record_id(text=text), "test", line, text=text) for line, text in enumerate(cut, 1)]
    prompt, completion = texts[30][:40], texts[31][:50]
    return [
        *records,
        Record(record_id(prompt=prompt, completion=completion), "test", 30, prompt=prompt, completion=completion),
        Record(record_id(text=texts[32] + texts[33]), "test", 31, text=texts[32] + texts[33]),
        Record(record_id(text=""), "test", 32, text=""),
    ]


def loaded(folder, base) -> Resident:
    plan = plan_models(str(folder), base=str(base))
    return next(load for views, load in plan.stages if "target" in views)(FP32, "cpu")


# --- slow and obvious ---------------------------------------------------------------------------------


def slow_norm(resident, parameters, item) -> float:
    """One record, window by window, `backward` into `.grad`, nothing padded, nothing masked."""
    n_audited = int(item.is_audited[1:].sum())
    if not n_audited:
        return math.nan
    for parameter in resident.module.parameters():
        parameter.grad = None
    for parameter in parameters:
        parameter.requires_grad_(True)
    for start, end, first_new in cut_windows(len(item.ids), max_length=CONTEXT, stride=CONTEXT // 2):
        ids = torch.tensor(item.ids[start:end].astype(np.int64))[None]
        log_probs = resident.module(input_ids=ids).logits[0].log_softmax(dim=-1)
        for position in range(first_new, end):
            if item.is_audited[position]:
                here = log_probs[position - start - 1, ids[0, position - start]]
                (-here / n_audited).backward(retain_graph=True)
    squares = [float(p.grad.double().square().sum()) for p in parameters if p.grad is not None]
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return math.sqrt(sum(squares))


def lora(**more):
    import peft

    return peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | more)


CONFIGURATIONS = {
    "attention": lora,
    "all linear, rank-stabilised, with dropout": lambda: lora(
        target_modules="all-linear", r=8, use_rslora=True, lora_dropout=0.3
    ),
    "output head saved whole": lambda: lora(modules_to_save=["lm_head"]),
    "DoRA": lambda: lora(use_dora=True),
    "embedding": lambda: lora(target_modules=["embed_tokens", "q_proj"]),
}
OTHERS = ("GPT-2", "GPT-2 with biases of B", "head_only", "last_layer", "full")
ONE_AT_A_TIME = {"DoRA", "embedding", "last_layer", "full"}


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory, tokenizer):
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes))
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def targets(request, base, gpt2, tmp_path_factory):
    """Folder and base of a target by name, made once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("models") / "adapter"
            if name in CONFIGURATIONS:
                made[name] = save_adapter(base, folder, CONFIGURATIONS[name]()), base
            elif name.startswith("GPT-2"):
                more = {"lora_bias": True} if "bias" in name else {}
                config = lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, **more)
                made[name] = save_adapter(gpt2, folder, config), gpt2
            else:
                made[name] = request.getfixturevalue(name), base
        return made[name]

    return get


@pytest.mark.filterwarnings("ignore:Adapter .* LoRA tensor:UserWarning")  # of biases
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("name", [*CONFIGURATIONS, *OTHERS])
def test_norms_are_those_of_one_record_at_a_time(name, targets, rows):
    folder, base = targets(name)
    resident = loaded(folder, base)
    meter = GradientMeter(resident, batch_tokens=150)
    assert meter.is_batched == (name not in ONE_AT_A_TIME)
    encoded = encode(rows, load_tokenizer(base))
    windows = [cut_windows(len(item.ids), max_length=CONTEXT, stride=CONTEXT // 2) for item in encoded]
    pieces = [pieces_of(item, cuts) for item, cuts in zip(encoded, windows, strict=True)]
    assert max(map(len, pieces)) > 1
    norms = np.array(meter.norms(pieces))
    expected = [slow_norm(resident, meter.parameters, item) for item in encoded]
    assert np.isnan(expected).sum() == 1
    np.testing.assert_allclose(norms, expected, rtol=2e-4)
    for batch_tokens in (1, 64, 10_000):  # neighbours, and so padding, change nothing
        np.testing.assert_allclose(
            GradientMeter(resident, batch_tokens=batch_tokens).norms(pieces), expected, rtol=2e-4
        )


def test_what_counts_is_what_tuning_trained(targets):
    names = {}
    for name in ("attention", "output head saved whole", "head_only", "last_layer", "full"):
        resident = loaded(*targets(name))
        own = {id(p): n for n, p in resident.module.named_parameters()}
        names[name] = {own[id(p)] for p in GradientMeter(resident, batch_tokens=64).parameters}
    assert len(names["attention"]) == 3 * 2 * 2
    assert all("lora_A.default" in n or "lora_B.default" in n for n in names["attention"])
    assert {n for n in names["output head saved whole"] if "lora" not in n} == {
        "base_model.model.lm_head.modules_to_save.default.weight"
    }
    assert names["head_only"] == {"lm_head.weight"}
    assert names["last_layer"]
    assert all(n.startswith("model.layers.2.") for n in names["last_layer"])
    assert "model.embed_tokens.weight" in names["full"]


def test_the_model_is_left_as_it_was(targets):
    resident = loaded(*targets("attention"))
    before = {name: (p.requires_grad, p.clone()) for name, p in resident.module.named_parameters()}
    GradientMeter(resident, batch_tokens=64).norms([[Piece(np.arange(2, 30), np.arange(1, 28))]])
    for name, parameter in resident.module.named_parameters():
        required, value = before[name]
        assert parameter.requires_grad == required
        assert parameter.grad is None
        assert torch.equal(parameter, value)
    assert not any(module._forward_hooks for module in resident.module.modules())


def test_the_words_say_how_it_was_done(targets):
    batched, alone = (GradientMeter(loaded(*targets(name)), batch_tokens=64) for name in ("attention", "DoRA"))
    n = sum(parameter.numel() for parameter in batched.parameters)
    assert batched.describe() == f"gradients in {n:,} parameters, in batches"
    assert alone.describe().endswith("parameters, one record at a time")


# --- linear maps --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))
def test_squared_norms_equal_the_loop(seed, n_records, n_positions, n, k):
    """Long records of narrow layers, and short ones of wide layers, go two ways to one number."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n_records, n_positions, n, generator=generator)
    g = torch.randn(n_records, n_positions, k, generator=generator)
    expected = []
    for row in range(n_records):
        formed = sum(torch.outer(g[row, t].double(), a[row, t].double()) for t in range(n_positions))
        expected.append(float(formed.square().sum()))
    np.testing.assert_allclose(squared_norms(a, g).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_records_are_taken_a_few_at_a_time_where_their_gradients_are_large(monkeypatch):
    from loraudit.capture import norms

    a, g = torch.randn(7, 5, 3), torch.randn(7, 5, 2)
    whole = squared_norms(a, g)
    monkeypatch.setattr(norms, "_NUMBERS_AT_ONCE", 12)
    assert torch.equal(squared_norms(a, g), whole)


def test_a_layer_that_is_called_twice_has_one_gradient():
    layer = torch.nn.Linear(3, 3)
    x = torch.randn(2, 5, 3)
    with recorded_calls([layer]) as calls:
        losses = layer(torch.tanh(layer(x))).square().sum(dim=(1, 2))
    gradients = torch.autograd.grad(losses.sum(), [call.output for call in calls])
    found = squared_norms_of_calls([LinearMap(layer, uses_weight=True, uses_bias=True)], calls, gradients)
    for row in range(2):
        loss = layer(torch.tanh(layer(x[row]))).square().sum()
        expected = sum(float(g.square().sum()) for g in torch.autograd.grad(loss, list(layer.parameters())))
        assert float(found[row]) == pytest.approx(expected, rel=1e-5)


def test_a_layer_that_mixes_records_is_refused():
    layer = torch.nn.Linear(3, 2)
    flat = Call(layer, torch.zeros(4, 3), torch.zeros(4, 2))
    one = LinearMap(layer, uses_weight=True, uses_bias=False)
    with pytest.raises(ValueError, match="a layer mixes records"):
        squared_norms_of_calls([one], [flat], [torch.zeros(4, 2)])
    with pytest.raises(ValueError, match="depends on none of the layers"):
        squared_norms_of_calls([one], [], [])


def test_parameters_of_other_layers_or_of_two_layers_are_no_linear_maps():
    norm, one, two = torch.nn.LayerNorm(4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, bias=False)
    model = torch.nn.Sequential(norm, one, two)
    assert linear_maps(model, two.parameters()) == [LinearMap(two, uses_weight=True, uses_bias=False)]
    assert linear_maps(model, [one.bias]) == [LinearMap(one, uses_weight=False, uses_bias=True)]
    assert linear_maps(model, norm.parameters()) is None
    two.weight = one.weight
    assert linear_maps(model, [one.weight]) is None
    assert linear_maps(model, [torch.nn.Parameter(torch.zeros(2))]) is None


class Mixer(torch.nn.Module):
    """Adds to each record what another one holds: no batch of it gives the norm of a record alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x + x.mean(dim=0, keepdim=True))


def test_a_model_that_batches_wrongly_is_run_one_record_at_a_time(base, rows):
    plan = plan_models(str(base), alone=True)
    resident = plan.load_target(FP32, "cpu")
    layer = resident.module.model.layers[1].mlp
    layer.down_proj = Mixer(layer.down_proj)
    resident.tuned = [layer.down_proj.inner.weight]
    meter = GradientMeter(resident, batch_tokens=150)
    assert not meter.is_batched
    items = encode(rows[:3], load_tokenizer(base))
    pieces = [[Piece(item.ids, np.arange(1, len(item.ids)))] for item in items]
    np.testing.assert_allclose(
        meter.norms(pieces), [slow_norm(resident, resident.tuned, item) for item in items], rtol=2e-4
    )


# --- the store ----------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return EvidenceStore(tmp_path / "store")


def gather(plan, records, store, *, options=OPTIONS, **more):
    return gather_gradients(
        plan, records, options, store, tokenizer=lambda: load_tokenizer(plan.tokenizer_folder), **more
    )


@pytest.fixture(scope="session")
def undisturbed(adapter, base, rows, tmp_path_factory):
    plan = plan_models(str(adapter), base=str(base))
    return gather(plan, rows, EvidenceStore(tmp_path_factory.mktemp("undisturbed") / "store"))


class StopAfter(Silent):
    """Asks to stop once some units are done."""

    def __init__(self, n_units):
        self.stop = StopRequest()
        self.n_left, self.stages = n_units, []

    def stage(self, name, total, unit):
        self.stages.append((name, total, unit))

    def advance(self, n):
        self.n_left -= 1
        if self.n_left == 0:
            self.stop.ask()


def units_of(store):
    return sorted(store.root.glob("gradients/*/*.unit"))


def refuse(*_):
    raise AssertionError("a model was loaded")


def test_stopped_and_started_again_gives_the_same_norms(adapter, base, rows, store, undisturbed):
    plan = plan_models(str(adapter), base=str(base))
    progress = StopAfter(1)
    with pytest.raises(Interrupted):
        gather(plan, rows, store, progress=progress, stop=progress.stop)
    assert len(units_of(store)) == 1
    again = gather(plan, rows, store)
    assert 0 < again.n_cached < len(rows)
    assert again.n_cached + again.n_measured == len(rows)
    np.testing.assert_array_equal(again.norms, undisturbed.norms)
    plan.stages = [(views, refuse) for views, _ in plan.stages]
    cached = gather(plan, rows, store)
    assert (cached.n_measured, cached.modes) == (0, [])
    np.testing.assert_array_equal(cached.norms, undisturbed.norms)
    assert [name for name, _, _ in progress.stages] == ["Gradients of target"]


def test_the_norms_are_of_the_mean_loss_and_undefined_without_tokens(undisturbed, rows):
    assert np.isnan(undisturbed.norms).tolist() == [not (r.text or r.prompt) for r in rows]
    assert (undisturbed.norms[:-1] > 0).all()
    assert undisturbed.n_measured == len(rows)


def test_damaged_units_are_measured_again(adapter, base, rows, store, undisturbed):
    plan = plan_models(str(adapter), base=str(base))
    gather(plan, rows, store)
    damaged = units_of(store)[0]
    damaged.write_bytes(damaged.read_bytes()[:-3] + b"abc")
    again = gather(plan, rows, store)
    assert again.n_damaged_units == 1
    assert again.n_measured > 0
    np.testing.assert_array_equal(again.norms, undisturbed.norms)


def test_norms_under_other_conditions_are_kept_apart(adapter, full, base, rows, store):
    plan = plan_models(str(adapter), base=str(base))
    gather(plan, rows, store)
    others = [
        (plan, replace(OPTIONS, span="all")),
        (plan, replace(OPTIONS, numerics=Numerics("cpu", "bf16"))),
        (plan_models(str(full), base=str(base)), OPTIONS),
        (plan_models(str(full), alone=True), OPTIONS),
    ]
    folders = {gradient_folder(*other, store).path for other in [(plan, OPTIONS), *others]}
    assert len(folders) == 5


def small_memory(limit, error):
    """The plan's models fail on passes of more than `limit` positions."""

    def wrap(plan):
        def load_small(load):
            def run(numerics, device):
                resident = load(numerics, device)

                def check(_module, inputs):
                    if inputs[0].numel() > limit:
                        raise error

                resident.module.get_input_embeddings().register_forward_pre_hook(check)
                return resident

            return run

        plan.stages = [(views, load_small(load)) for views, load in plan.stages]
        return plan

    return wrap


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


def test_batches_that_do_not_fit_are_halved_and_records_that_never_fit_are_left_for_a_later_run(
    adapter, base, rows, store, undisturbed
):
    def plan():
        return plan_models(str(adapter), base=str(base))

    found = gather(small_memory(60, OUT_OF_MEMORY)(plan()), rows, store)
    assert found.n_backoffs > 0
    lost = np.isnan(found.norms) & ~np.isnan(undisturbed.norms)
    assert 0 < lost.sum() < 6
    np.testing.assert_allclose(found.norms[~lost], undisturbed.norms[~lost], rtol=1e-4)
    later = gather(plan(), rows, store)
    assert later.n_measured == lost.sum()
    np.testing.assert_allclose(later.norms, undisturbed.norms, rtol=1e-4)


def test_memory_that_is_gone_from_the_start_is_the_fault_of_the_environment(adapter, base, rows, store):
    plan = small_memory(1, OUT_OF_MEMORY)(plan_models(str(adapter), base=str(base)))
    with pytest.raises(EnvironmentFault, match=r"leaves no memory on cpu for the gradient of a short text\. Use"):
        gather(plan, rows, store)


@pytest.mark.parametrize("n_passes", [0, 2, 5])
def test_other_errors_are_not_taken_for_memory(adapter, base, rows, store, n_passes):
    left = [n_passes]

    def fail(*_):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("index out of range")

    plan = plan_models(str(adapter), base=str(base))
    ((views, load),) = plan.stages

    def hooked(numerics, device):
        resident = load(numerics, device)
        resident.module.get_input_embeddings().register_forward_pre_hook(fail)
        return resident

    plan.stages = [(views, hooked)]
    with pytest.raises(RuntimeError, match="index out of range"):
        gather(plan, rows, store)


def test_a_gradient_that_is_no_number_is_undefined(adapter, base):
    resident = loaded(adapter, base)
    meter = GradientMeter(resident, batch_tokens=200)

    def damage(_module, inputs, output):
        return torch.where((inputs[0] == 400)[..., None], torch.full_like(output, math.inf), output)

    resident.module.get_input_embeddings().register_forward_hook(damage)
    fine, broken = Piece(np.arange(2, 20), np.arange(1, 18)), Piece(np.arange(390, 410), np.arange(1, 20))
    norms = meter.norms([[fine], [broken], [fine]])
    assert np.isnan(norms).tolist() == [False, True, False]
    assert norms[0] == pytest.approx(norms[2])


def test_a_view_that_is_the_module_as_it_stands_can_be_measured(base):
    plan = plan_models(str(base), alone=True)
    module = plan.load_target(FP32, "cpu").module
    meter = GradientMeter(Resident(module, "cpu", {"target": always(module)}), batch_tokens=64)
    assert len(meter.parameters) == len(list(module.parameters()))
