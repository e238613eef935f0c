"""Continuations: the model's own, whatever the batches, the same for a seed, kept batch by batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import conftest
from loraudit.errors import ConfigError, EnvironmentFault, ModelError
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.generation import GREEDY, Sampling, sample
from loraudit.generation.drawing import draw_token
from loraudit.models import Numerics, Resident, plan_models
from loraudit.models.resident import always

DRAWN = Sampling(12, temperature=0.9, top_p=0.9)
TAKEN = Sampling(12, temperature=GREEDY)
FP32 = Numerics("cpu", "fp32")


@pytest.fixture(scope="module")
def resident(full) -> Resident:
    return plan_models(str(full)).load_target(FP32, "cpu")


@pytest.fixture(scope="module")
def prompts(tokenizer, texts) -> list[list[int]]:
    """Nineteen beginnings of 3 to 9 tokens, two of them the same."""
    ids = tokenizer(texts[:18])["input_ids"]
    rows = [row[: 3 + 2 * (i % 4)] for i, row in enumerate(ids)]
    return [*rows, rows[0]]


def slowly(module, prompt, n, end_ids=()):
    """The greedy continuation as its definition says: the whole text again for every token."""
    ids = list(prompt)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] in end_ids:
            break
    return ids[len(prompt) :]


def equal(first, second) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


class Counting(Silent):
    def __init__(self):
        self.stages, self.n = [], 0

    def stage(self, name, total, unit):
        self.stages.append((name, total, unit))

    def advance(self, n):
        self.n += n


# --- what is said -------------------------------------------------------------------------------------


def test_a_greedy_continuation_is_the_models_own_token_by_token(resident, prompts):
    found = sample(resident, prompts, TAKEN, seed=0)
    assert [ids.tolist() for ids in found] == [slowly(resident.module, prompt, 12) for prompt in prompts]
    assert all(ids.dtype == np.int32 for ids in found)


FAMILIES = {
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_cache_and_position_gives_the_models_own_tokens(family):
    import transformers

    name, options = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(
            vocab_size=conftest.VOCABULARY, initializer_range=0.5, **options
        )
        module = transformers.AutoModelForCausalLM.from_config(config).eval()
    own = Resident(module, "cpu", {"target": always(module)})
    given = [[7, 300, 11, 45], [9, 8, 7, 6], [5, 4]]
    assert [ids.tolist() for ids in sample(own, given, TAKEN, seed=0)] == [slowly(module, p, 12) for p in given]


def test_prompts_stay_the_tokens_they_are(resident, tokenizer):
    """Ids that the tokenizer would cut otherwise: the continuation is that of these ids, not of their text."""
    ids = [0, *tokenizer.convert_tokens_to_ids(list("theother"))]  # single letters, which the tokenizer would join
    again = tokenizer(tokenizer.decode(ids[1:]))["input_ids"]
    assert again != ids
    (found,) = sample(resident, [ids], TAKEN, seed=0)
    assert found.tolist() == slowly(resident.module, ids, 12)
    assert found.tolist() != slowly(resident.module, again, 12)


def test_a_continuation_ends_with_the_first_end_token(resident, prompts):
    whole = sample(resident, prompts, TAKEN, seed=0)
    ends = [int(whole[0][4]), int(whole[1][7])]
    found = sample(resident, prompts, TAKEN, seed=0, end_ids=ends)
    assert [ids.tolist() for ids in found] == [slowly(resident.module, p, 12, ends) for p in prompts]
    assert min(map(len, found)) < 12


def test_each_view_speaks_for_itself(adapter, base, prompts):
    both = plan_models(str(adapter)).load_target(FP32, "cpu")
    bare = plan_models(str(base)).load_target(FP32, "cpu")
    on, off = (sample(both, prompts, TAKEN, seed=0, view=view) for view in ("target", "reference"))
    assert equal(off, sample(bare, prompts, TAKEN, seed=0))
    assert not equal(on, off)


def test_settings_that_come_with_the_model_are_not_used_and_stay(full, prompts):
    import transformers

    own = plan_models(str(full)).load_target(FP32, "cpu")
    plain = sample(own, prompts, TAKEN, seed=0)
    said = sorted({int(i) for ids in plain for i in ids})
    strange = transformers.GenerationConfig(repetition_penalty=9.0, suppress_tokens=said[:5], no_repeat_ngram_size=1)
    own.module.generation_config = strange
    assert equal(sample(own, prompts, TAKEN, seed=0), plain)
    assert own.module.generation_config is strange


# --- what is drawn ------------------------------------------------------------------------------------


def test_a_drawn_token_is_as_likely_as_the_nucleus_says():
    """Uniform numbers laid out evenly give each token its share, for vocabularies larger than what is sorted first."""
    generator = torch.Generator().manual_seed(3)
    for size, scale, top_p in ((50, 1.0, 0.9), (50, 1.0, 1.0), (5000, 0.1, 0.9), (5000, 4.0, 0.9)):
        sampling = Sampling(1, temperature=0.7, top_p=top_p)
        logits = scale * torch.randn(1, size, generator=generator)
        n = 2000
        uniform = ((torch.arange(n) + 0.5) / n)[:, None]
        shares = torch.bincount(draw_token(logits.expand(n, -1), sampling, uniform)[:, 0], minlength=size) / n
        expected = _nucleus(logits[0].double().numpy() / 0.7, top_p)
        assert np.abs(shares.numpy() - expected).max() < 2 / n
        assert ((shares.numpy() > 0) <= (expected > 0)).all()


def _nucleus(logits, top_p):
    """The definition, slowly: the most likely tokens until their probability reaches top_p."""
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    kept, total = np.zeros_like(probabilities), 0.0
    for token in np.argsort(-probabilities):
        if total >= top_p:
            break
        kept[token] = probabilities[token]
        total += probabilities[token]
    return kept / kept.sum()


def test_the_nucleus_is_that_of_transformers():
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits = torch.randn(200, 400, generator=torch.Generator().manual_seed(4))
    warped = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.9)(None, logits))
    for uniform in (0.0, 0.3, 0.999_999_94):
        chosen = draw_token(logits, Sampling(1, temperature=0.9, top_p=0.8), torch.full((200, 1), uniform))
        assert warped.gather(-1, chosen).isfinite().all()


def test_the_same_seed_draws_the_same_and_another_seed_others(resident, prompts):
    state = torch.random.get_rng_state()
    first = sample(resident, prompts, DRAWN, seed=5)
    assert equal(sample(resident, prompts, DRAWN, seed=5), first)
    assert not equal(sample(resident, prompts, DRAWN, seed=6), first)
    assert not np.array_equal(first[0], first[-1]), "the same prompt twice is two draws"
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's generator was touched"


@pytest.mark.parametrize("sampling", [TAKEN, DRAWN], ids=["greedy", "drawn"])
def test_the_size_of_a_batch_changes_nothing(sampling, resident, prompts):
    alone = sample(resident, prompts, sampling, seed=1, batch_size=1)
    for size in (2, 7, 64):
        assert equal(sample(resident, prompts, sampling, seed=1, batch_size=size), alone)


@pytest.mark.parametrize("sampling", [TAKEN, DRAWN], ids=["greedy", "drawn"])
def test_a_batch_that_does_not_fit_is_halved_and_says_the_same(sampling, full, prompts, monkeypatch):
    own = plan_models(str(full)).load_target(FP32, "cpu")
    expected = sample(own, prompts, sampling, seed=1)
    forward, sizes = own.module.forward, []

    def small(input_ids, **options):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(own.module, "forward", small)
    assert equal(sample(own, prompts, sampling, seed=1), expected)
    assert max(sizes) > 2 >= min(sizes)

    def never(**options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(own.module, "forward", never)
    with pytest.raises(EnvironmentFault, match=r"Not even one prompt of 9 tokens can be continued by 12 .* of cpu"):
        sample(own, prompts, sampling, seed=1)


# --- what is kept -------------------------------------------------------------------------------------


class StopsAfter(StopRequest):
    """Asks to stop before a certain token is drawn."""

    def __init__(self, n_tokens):
        super().__init__()
        self.left = n_tokens

    def check(self):
        self.left -= 1
        if self.left < 0:
            self.ask()
        super().check()


def test_a_stopped_run_keeps_its_batches_and_goes_on_to_the_same_samples(resident, prompts, tmp_path):
    expected = sample(resident, prompts, DRAWN, seed=2, batch_size=2)
    kept, n_batches = tmp_path / "kept", 10  # 5, 5, 5 and 4 prompts of one length, two at a time
    with pytest.raises(Interrupted):
        sample(resident, prompts, DRAWN, seed=2, batch_size=2, kept=kept, stop=StopsAfter(12 * 4 + 5))
    before = {file: file.stat().st_mtime_ns for file in kept.glob("*.batch")}
    assert len(before) == 4, "four batches are complete, the fifth is not kept"
    progress = Counting()
    found = sample(resident, prompts, DRAWN, seed=2, batch_size=2, kept=kept, progress=progress)
    assert equal(found, expected)
    assert len(list(kept.iterdir())) == len(list(kept.glob("*.batch"))) >= n_batches
    assert {file: file.stat().st_mtime_ns for file in before} == before, "what was complete is not drawn again"
    assert progress.stages == [("Sampling", 19, "prompts")]
    assert progress.n == 19
    assert kept.stat().st_mode & 0o077 == 0


def test_with_every_batch_kept_no_model_is_loaded(resident, prompts, tmp_path):
    calls = []

    def load():
        calls.append(1)
        return resident

    first = sample(load, prompts, DRAWN, seed=2, batch_size=4, kept=tmp_path)
    assert calls == [1]
    assert equal(sample(load, prompts, DRAWN, seed=2, batch_size=4, kept=tmp_path), first)
    assert calls == [1]


@pytest.mark.parametrize("change", ["seed", "sampling", "end", "prompt"])
def test_kept_batches_of_another_request_are_not_taken(change, resident, prompts, tmp_path):
    sample(resident, prompts, DRAWN, seed=2, kept=tmp_path)
    other = [*prompts[:-1], [0, 9, 9]] if change == "prompt" else prompts
    sampling = Sampling(12, 0.9, 0.8) if change == "sampling" else DRAWN
    options = {"seed": 3 if change == "seed" else 2, "end_ids": (1, 44) if change == "end" else ()}
    found = sample(resident, other, sampling, kept=tmp_path, **options)
    assert equal(found, sample(resident, other, sampling, **options))


def test_kept_batches_of_another_view_are_not_taken(adapter, prompts, tmp_path):
    both = plan_models(str(adapter)).load_target(FP32, "cpu")
    on, off = (sample(both, prompts, TAKEN, seed=0, view=view, kept=tmp_path) for view in ("target", "reference"))
    assert equal(off, sample(both, prompts, TAKEN, seed=0, view="reference"))
    assert not equal(on, off)


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_batch_is_drawn_again(harm, resident, prompts, tmp_path):
    expected = sample(resident, prompts, DRAWN, seed=2, kept=tmp_path)
    file = min(tmp_path.glob("*.batch"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-5] if harm == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    assert equal(sample(resident, prompts, DRAWN, seed=2, kept=tmp_path), expected)
    assert file.read_bytes() == whole


def test_a_stop_request_is_heard_before_the_first_token(resident, prompts, tmp_path):
    stop = StopRequest()
    stop.ask()
    with pytest.raises(Interrupted):
        sample(resident, prompts, DRAWN, seed=0, kept=tmp_path, stop=stop)
    assert not list(tmp_path.iterdir())


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"new_tokens": 0}, "new_tokens 0 is not possible. Expected at least 1"),
        ({"new_tokens": 1, "temperature": -0.1}, r"temperature -0\.1 is not possible. Expected 0 \(greedy\) or more"),
        ({"new_tokens": 1, "top_p": 0.0}, r"top_p 0\.0 is not possible. Expected above 0 and at most 1"),
        ({"new_tokens": 1, "top_p": 1.1}, r"top_p 1\.1 is not possible"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=f"Sampling with {message}"):
        Sampling(**values)


def test_empty_prompts_are_refused_with_their_number(resident):
    with pytest.raises(ConfigError, match=r"2 of 3 prompts are empty\. Expected at least one token each"):
        sample(resident, [[], [1], []], DRAWN, seed=0)


def test_no_prompts_give_nothing(resident):
    assert sample(resident, [], DRAWN, seed=0) == []


def test_logits_that_are_no_numbers_are_an_error_and_not_a_sample(full, prompts, tmp_path):
    own = plan_models(str(full)).load_target(FP32, "cpu")
    own.module.get_output_embeddings().weight.data[3] = float("nan")
    for sampling in (TAKEN, DRAWN):
        with pytest.raises(ModelError, match=r"gave NaN or infinite logits while it was sampled from\. Use another"):
            sample(own, prompts, sampling, seed=0, kept=tmp_path)
    assert not list(tmp_path.glob("*.batch"))


def test_a_model_without_a_way_to_generate_is_refused():
    class Bare(torch.nn.Module):
        config = type("Config", (), {"name_or_path": "bare"})

    own = Resident(Bare(), "cpu", {"target": always(None)})
    with pytest.raises(ModelError, match="Model 'bare' cannot generate text with the installed transformers"):
        sample(own, [[1]], DRAWN, seed=0)
