"""The vLLM engine against a stand-in for vLLM that says what one of our models says."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from test_continuing import lists, model, prompts

from loraudit.errors import ConfigError, MissingExtra
from loraudit.generation import GREEDY, Sampling, open_vllm, parse_decoding, sample

TAKEN = Sampling(6, temperature=GREEDY)


@dataclass
class SamplingParams:
    """The documented fields that are used."""

    temperature: float
    top_p: float
    max_tokens: int
    stop_token_ids: list[int]
    ignore_eos: bool
    repetition_penalty: float
    detokenize: bool
    seed: int
    top_k: int = -1


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class FakeLlm:
    """`vllm.LLM` with a model of ours behind it; `noise` moves its logits."""

    speaker: object
    options: dict
    noise: float = 0.0
    asked: list = field(default_factory=list)

    def generate(self, given, params, *, lora_request, use_tqdm):
        assert use_tqdm is False
        self.asked.append((params, lora_request))
        view = "target" if lora_request or len(self.speaker.views) == 1 else "reference"
        outputs = []
        for prompt, param in zip(given, params, strict=True):
            sampling = Sampling(param.max_tokens, param.temperature, param.top_p, max(param.top_k, 0))
            (said,) = sample(
                self.speaker, [prompt["prompt_token_ids"]], sampling, seed=param.seed, view=view,
                end_ids=param.stop_token_ids,
            )  # fmt: skip
            outputs.append(types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=tuple(said.tolist()))]))
        return outputs


@pytest.fixture
def install(monkeypatch):
    """Put the stand-in where vLLM would be, speaking as a resident model; gives the list of opened ones."""
    opened = []

    def put(speaker):
        def build(**options):
            opened.append(FakeLlm(speaker, options))
            return opened[-1]

        vllm = types.ModuleType("vllm")
        vllm.LLM, vllm.SamplingParams = build, SamplingParams
        request = types.ModuleType("vllm.lora.request")
        request.LoRARequest = LoRARequest
        for name, module in {
            "vllm": vllm,
            "vllm.lora": types.ModuleType("vllm.lora"),
            request.__name__: request,
        }.items():
            monkeypatch.setitem(sys.modules, name, module)
        return opened

    return put


def test_an_engine_that_says_the_same_is_used_for_everything(install, tmp_path):
    own = model("llama", adapter=True)
    (opened, given) = install(own), prompts(7, 9, 7)
    engine = open_vllm("base", own, given, precision="fp32", adapter=tmp_path, adapter_rank=4, max_model_len=64)
    (llm,) = opened
    assert llm.options == {
        "model": "base", "dtype": "float32", "seed": 0, "skip_tokenizer_init": True, "trust_remote_code": False,
        "enable_lora": True, "max_lora_rank": 4, "max_model_len": 64,
    }  # fmt: skip
    whole = sample(own, given, TAKEN, seed=0)
    assert lists(sample(own, given, TAKEN, seed=0, engine=engine)) == lists(whole)
    params, request = llm.asked[-1]
    assert request == LoRARequest("target", 1, str(tmp_path))
    assert params[0].repetition_penalty == 1.0
    assert params[0].ignore_eos
    end = int(whole[0][2])
    assert lists(sample(own, given, TAKEN, seed=0, engine=engine, end_ids=[end])) == lists(
        sample(own, given, TAKEN, seed=0, end_ids=[end])
    )
    texts = [[5, 6], whole[1].tolist(), whole[2][:1].tolist()]
    assert lists(sample(own, given, TAKEN, seed=0, engine=engine, expected=texts)) == lists(
        sample(own, given, TAKEN, seed=0, expected=texts)
    )


def test_draws_depend_on_seed_place_and_number_and_are_kept_apart_from_our_own(install, tmp_path):
    own = model("llama")
    opened, given = install(own), prompts(7, 7)
    engine = open_vllm("base", own, given, precision="fp32")
    drawn = Sampling(6, top_k=40)
    first = sample(own, given, drawn, seed=1, engine=engine, n_samples=3, kept=tmp_path)
    assert [param.top_k for param in opened[0].asked[-1][0]] == [40] * 6
    assert len({param.seed for param in opened[0].asked[-1][0]}) == 6
    assert lists(sample(own, given, drawn, seed=1, engine=engine)) == lists(first[::3])
    assert lists(sample(own, given, drawn, seed=2, engine=engine)) != lists(first[::3])
    ours = sample(own, given, drawn, seed=1, n_samples=3)
    assert lists(sample(own, given, drawn, seed=1, n_samples=3, kept=tmp_path)) == lists(ours)


def test_another_model_is_refused_with_what_to_check(install):
    own = model("llama", adapter=True)
    install(own)
    with pytest.raises(
        ConfigError,
        match=r"vLLM continues prompt \d of the probe otherwise .* token \d+ differs, .* nats apart\. Expected the "
        r"same tokens but for near-ties of at most 0\.001 nats\. Check that vLLM was given the same checkpoint",
    ):
        open_vllm("base", own, prompts(7, 9), precision="fp32")  # without the adapter


def test_a_near_tie_may_fall_either_way(install):
    own, other = model("llama"), model("llama")
    given = prompts(7)
    (said,) = sample(own, given, TAKEN, seed=0)
    with torch.no_grad():
        logits = own.module(input_ids=torch.tensor([given[0]]), use_cache=False).logits[0, -1]
        hidden = own.module.model(input_ids=torch.tensor([given[0]])).last_hidden_state[0, -1]
        top, second = logits.topk(2).indices.tolist()
        gap = float(logits[top] - logits[second])
        # Both heads have a tie there; in the other model it falls the other way.
        for resident, excess in ((own, -2e-4), (other, 2e-4)):
            head = resident.module.get_output_embeddings().weight
            head.data[second] += hidden / hidden.square().sum() * (gap + excess)
    install(other)
    assert int(said[0]) == top
    assert not np.array_equal(sample(own, given, TAKEN, seed=0)[0], sample(other, given, TAKEN, seed=0)[0])
    assert open_vllm("base", own, given, precision="fp32")


def test_what_vllm_cannot_do_is_refused(install):
    own = model("llama")
    install(own)
    engine = open_vllm("base", own, prompts(7), precision="fp32")
    with pytest.raises(ConfigError, match=r"Decoding 'decaying' is not possible with vLLM\. Expected a constant temp"):
        sample(own, prompts(7), parse_decoding("decaying", 5), seed=0, engine=engine)
    with pytest.raises(ConfigError, match=r"The probe for vLLM is empty\. Expected at least one prompt"):
        open_vllm("base", own, [], precision="fp32")


def test_without_vllm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"Sampling with vLLM needs .*Run: pip install 'loraudit\[vllm\]'"):
        open_vllm("base", model("llama"), prompts(3), precision="fp32")
