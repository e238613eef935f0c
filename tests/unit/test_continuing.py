"""The decoding loop: that of the library and of the definition, with rows that leave, for every kind of cache."""

from __future__ import annotations

import itertools

import numpy as np
import peft
import pytest
import torch
import transformers

import conftest
from loraudit.errors import ConfigError
from loraudit.generation import GREEDY, Sampling, sample
from loraudit.generation.cached import CachedModel, has_rows, speaking
from loraudit.models import Resident
from loraudit.models.resident import always

TAKEN = Sampling(10, temperature=GREEDY)
DRAWN = Sampling(10, top_k=40)
FAMILIES = {
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "llama": ("Llama", {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "sliding": (
        "Mistral",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "sliding_window": 5,
        },
    ),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
}
TARGETS = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"]}


def model(family, *, adapter=False) -> Resident:
    name, options = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        special = {"bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.5}
        config = getattr(transformers, f"{name}Config")(vocab_size=conftest.VOCABULARY, **special, **options)
        module = transformers.AutoModelForCausalLM.from_config(config).eval()
        if not adapter:
            return Resident(module, "cpu", {"target": always(module)})
        lora = peft.LoraConfig(
            r=4, target_modules=TARGETS[family], task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2"
        )
        module = peft.get_peft_model(module, lora).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn(parameter.shape))
    return Resident(module, "cpu", {"target": always(module), "reference": module.disable_adapter})


def prompts(*lengths, seed=0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(2, conftest.VOCABULARY, length).tolist() for length in lengths]


def by_library(resident, given, n, view="target", end=None):
    """What `generate` says, one prompt at a time."""
    found = []
    for prompt in given:
        ids = torch.tensor([prompt])
        with torch.no_grad(), resident.views[view]():
            settings = transformers.GenerationConfig(
                do_sample=False, max_new_tokens=n, eos_token_id=end, pad_token_id=0, use_cache=True
            )
            said = resident.module.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
            )
        found.append(said[0, len(prompt) :].tolist())
    return found


def lists(continuations):
    return [ids.tolist() for ids in continuations]


# --- the same as the library --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "adapter"), [("gpt2", False), ("gpt2", True), ("llama", False), ("llama", True), ("sliding", False)]
)
def test_greedy_is_that_of_generate_in_every_view(family, adapter):
    own = model(family, adapter=adapter)
    given = prompts(9, 4, 20, 9, 21, 22, 3)
    for view in own.views:
        with speaking(own, view):
            assert has_rows(own)
        whole = by_library(own, given, 10, view)
        assert lists(sample(own, given, TAKEN, seed=0, view=view)) == whole
        end = whole[0][3]
        ended = sample(own, given, TAKEN, seed=0, view=view, end_ids=[end])
        assert lists(ended) == by_library(own, given, 10, view, end)
    if adapter:
        assert len({str(by_library(own, given, 10, view)) for view in own.views}) == 2


def test_a_model_whose_cache_has_no_rows_says_the_same_in_whole_batches():
    own = model("mamba")
    with speaking(own, "target"):
        assert not has_rows(own)
    given = prompts(9, 4, 9, 5)
    whole = by_library(own, given, 10)
    assert lists(sample(own, given, TAKEN, seed=0)) == whole
    expected = [[*said[:4], 0] for said in whole]
    found = sample(own, given, TAKEN, seed=0, expected=expected)
    assert lists(found) == [cut_at_divergence(said, text) for said, text in zip(whole, expected, strict=True)]


def test_a_cache_that_keeps_rows_that_were_told_to_leave_is_noticed(monkeypatch):
    own = model("llama")
    monkeypatch.setattr(CachedModel, "select", lambda self, places: None)
    with speaking(own, "target"):
        assert not has_rows(own)


# --- what is computed once ----------------------------------------------------------------------------


class Counted:
    """The shapes of everything that goes through a model."""

    def __init__(self, module, monkeypatch):
        self.shapes = []
        forward = module.forward

        def counted(*args, **options):
            self.shapes.append(tuple(options["input_ids"].shape))
            return forward(*args, **options)

        monkeypatch.setattr(module, "forward", counted)

    def after_probe(self):
        return self.shapes[4:]  # two for its beginning, one token more, and the whole texts


def test_samples_of_a_prompt_share_its_computation(monkeypatch):
    own = model("llama")
    given = prompts(12, 12)
    apart = [sample(own, [prompt], DRAWN, seed=3)[0] for prompt in given]
    counted = Counted(own.module, monkeypatch)
    found = sample(own, given, DRAWN, seed=3, n_samples=5)
    assert counted.after_probe()[0] == (2, 12), "each prompt once"
    assert counted.after_probe()[1] == (10, 1)
    assert len(found) == 10
    assert np.array_equal(found[0], apart[0]), "the first sample does not depend on how many there are"
    assert len({str(ids) for ids in found[:5]}) > 1, "the samples of one prompt are draws of their own"
    assert lists(found[::5]) == lists(sample(own, given, DRAWN, seed=3))
    assert lists(sample(own, given, DRAWN, seed=3, n_samples=5, batch_size=3)) == lists(found)


def test_a_long_beginning_that_all_share_is_computed_once(monkeypatch):
    own = model("gpt2")
    (shared,) = prompts(30)
    given = [[*shared, *end] for end in prompts(5, 5, 6, seed=1)]
    whole = by_library(own, given, 10)
    counted = Counted(own.module, monkeypatch)
    assert lists(sample(own, given, TAKEN, seed=0)) == whole
    assert counted.after_probe()[:2] == [(1, 30), (3, 5)]


# --- what is expected ---------------------------------------------------------------------------------


def cut_at_divergence(said, text):
    """The definition: up to the first token that differs, or to the end of what is expected."""
    n = next((i for i, (a, b) in enumerate(itertools.zip_longest(said, text)) if a != b), len(text))
    return said[: min(n + 1, len(text))]


@pytest.mark.parametrize("sampling", [TAKEN, DRAWN], ids=["greedy", "drawn"])
def test_rows_stop_at_the_first_token_that_is_not_expected(sampling, monkeypatch):
    own = model("llama")
    given = prompts(*[8] * 16)
    whole = lists(sample(own, given, sampling, seed=4))
    # The i-th text differs from what is said at token i; some are shorter, longer or never differ.
    texts = [[*said[:i], said[i] ^ 1, *said[i + 1 :]] if i < 10 else said for i, said in enumerate(whole)]
    texts[11], texts[12] = whole[11][:3], [*whole[12], 5, 6]
    counted = Counted(own.module, monkeypatch)
    found = sample(own, given, sampling, seed=4, expected=texts)
    assert lists(found) == [cut_at_divergence(said, text) for said, text in zip(whole, texts, strict=True)]
    n_rows = [shape[0] for shape in counted.after_probe()]
    assert n_rows == sorted(n_rows, reverse=True)
    assert n_rows[-1] < 8, "rows that are over have left the batch"


def test_without_stopping_at_divergence_only_the_length_of_what_is_expected_counts():
    own = model("llama")
    given = prompts(8, 8, 7)
    whole = lists(sample(own, given, TAKEN, seed=0))
    found = sample(own, given, TAKEN, seed=0, expected=[[1] * 3, [1] * 50, [1]], stop_at_divergence=False)
    assert lists(found) == [whole[0][:3], whole[1], whole[2][:1]]


def test_when_all_rows_diverge_at_once_nothing_more_is_computed(monkeypatch):
    own = model("llama")
    given = prompts(*[8] * 6)
    texts = [[said[0] ^ 1, 5, 5] for said in by_library(own, given, 1)]
    counted = Counted(own.module, monkeypatch)
    assert all(len(ids) == 1 for ids in sample(own, given, TAKEN, seed=0, expected=texts))
    assert counted.after_probe() == [(6, 8)]


def test_kept_batches_of_another_expectation_are_not_taken(tmp_path):
    own = model("llama")
    given = prompts(8, 8)
    whole = sample(own, given, TAKEN, seed=0, kept=tmp_path)
    short = sample(own, given, TAKEN, seed=0, kept=tmp_path, expected=[[1, 2], [3, 4]], stop_at_divergence=False)
    assert lists(short) == [ids[:2].tolist() for ids in whole]
    cut = sample(own, given, TAKEN, seed=0, kept=tmp_path, expected=[[1, 2], [3, 4]])
    assert [len(ids) for ids in cut] == [1, 1]


# --- lengths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [TAKEN, DRAWN], ids=["greedy", "drawn"])
def test_prompts_of_many_lengths_go_together_and_say_what_they_say_alone(sampling, monkeypatch):
    own = model("gpt2")
    given = prompts(*range(5, 29))
    alone = [sample(own, given[: place + 1], sampling, seed=2, batch_size=1)[place] for place in (0, 7, 23)]
    counted = Counted(own.module, monkeypatch)
    found = sample(own, given, sampling, seed=2)
    assert lists(found[place] for place in (0, 7, 23)) == lists(alone)
    assert max(shape[0] for shape in counted.after_probe()) > 1
    assert len(counted.after_probe()) < 24 * 10 / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, r"n_samples 0 is not possible\. Expected at least 1"),
        ({"expected": [[1]]}, r"2 prompts have 1 expected continuations\. Expected one for each"),
        ({"expected": [[1], []]}, r"1 of 2 expected continuations are empty\. Expected at least one token each"),
    ],
)
def test_requests_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        sample(model("gpt2"), prompts(3, 3), TAKEN, seed=0, **options)
