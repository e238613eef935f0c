"""What one copy of the weights can say for both models, and that it is put back as it was."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from loraudit.models.resident import Resident, always, count_shared_layers, find_layers, swapped


def of(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


def sizes(**changes):
    return {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    } | changes


@pytest.fixture(scope="module")
def llama():
    from transformers import LlamaConfig

    return of(LlamaConfig(**sizes(), tie_word_embeddings=False))


@pytest.fixture(scope="module")
def tied_llama():
    from transformers import LlamaConfig

    return of(LlamaConfig(**sizes(), tie_word_embeddings=True))


@pytest.fixture(scope="module")
def gpt2():
    from transformers import GPT2Config

    return of(GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=32, vocab_size=64, bos_token_id=0, eos_token_id=1))


@pytest.fixture(scope="module")
def opt():
    from transformers import OPTConfig

    return of(
        OPTConfig(**{k: v for k, v in sizes(ffn_dim=32).items() if k != "intermediate_size"}, word_embed_proj_dim=16)
    )


IDS = torch.arange(20)[None]


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


# --- views --------------------------------------------------------------------------------------------


def test_the_view_that_is_the_module_itself_changes_nothing(llama):
    before = logits(llama)
    with always(llama)():
        assert torch.equal(logits(llama), before)


def test_a_swapped_view_speaks_with_the_other_values_and_gives_them_back(llama):
    before = logits(llama)
    state = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    other = {"lm_head.weight": torch.randn(64, 16), "model.norm.weight": torch.full((16,), 2.0)}
    view = swapped(llama, other)
    for _ in range(2):
        with view():
            inside = logits(llama)
            assert torch.equal(llama.lm_head.weight.data, other["lm_head.weight"])
        assert not torch.equal(inside, before)
        assert torch.equal(logits(llama), before)
    torch.testing.assert_close(llama.state_dict(), state, rtol=0, atol=0)


def test_a_swapped_view_gives_the_values_back_after_an_error(llama):
    before = logits(llama)
    view = swapped(llama, {"lm_head.weight": torch.zeros(64, 16)})

    def fail():
        with view():
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert torch.equal(logits(llama), before)


def test_swapping_a_tied_embedding_swaps_the_head_with_it(gpt2):
    before = logits(gpt2)
    with swapped(gpt2, {"transformer.wte.weight": torch.zeros(64, 16)})():
        assert not logits(gpt2).any()
    assert torch.equal(logits(gpt2), before)


def test_swapping_works_in_inference_mode(llama):
    before = logits(llama)
    with torch.inference_mode(), swapped(llama, {"lm_head.weight": torch.zeros(64, 16)})():
        assert not llama(input_ids=IDS).logits.any()
    assert torch.equal(logits(llama), before)


# --- what a resident copy tells -----------------------------------------------------------------------


def test_a_resident_copy_tells_its_head_and_sizes(llama):
    resident = Resident(llama, "cpu", {"target": always(llama)})
    assert resident.head is llama.lm_head
    assert resident.vocabulary_size == 64
    assert resident.n_parameters == sum(p.numel() for p in llama.parameters())


@pytest.mark.parametrize(
    ("model", "path"), [("llama", "model.layers"), ("gpt2", "transformer.h"), ("opt", "model.decoder.layers")]
)
def test_the_decoder_layers_are_found_whatever_they_are_called(request, model, path):
    found, layers = find_layers(request.getfixturevalue(model))
    assert found == path
    assert len(layers) == 3


def test_where_layers_cannot_be_told_apart_none_are_found():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = type("Config", (), {"num_hidden_layers": 2})()
            self.encoder = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2))
            self.decoder = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2))

    assert find_layers(Two()) == ("", [])
    assert count_shared_layers(Two(), ["decoder.1.weight"]) == 0
    assert find_layers(torch.nn.Linear(1, 1)) == ("", [])


# --- which layers come before every change --------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changed", "expected"),
    [
        ("llama", ["lm_head.weight"], 3),
        ("llama", ["model.norm.weight"], 3),
        ("llama", ["model.norm.weight", "lm_head.weight"], 3),
        ("llama", ["model.layers.2.mlp.up_proj.weight"], 2),
        ("llama", ["model.layers.2.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"], 1),
        ("llama", ["model.layers.0.mlp.up_proj.weight", "lm_head.weight"], 0),
        ("llama", ["model.embed_tokens.weight"], 0),
        ("llama", ["model.embed_tokens.weight", "lm_head.weight"], 0),
        ("llama", ["model.layers.1.self_attn.q_proj.lora_A.default.weight"], 1),
        ("llama", ["lm_head.lora_A.default.weight"], 3),
        ("llama", ["prompt_encoder.default.embedding.weight"], 0),
        ("llama", ["something.else"], 0),
        ("tied_llama", ["lm_head.weight"], 0),
        ("tied_llama", ["model.layers.2.mlp.up_proj.weight"], 2),
        ("gpt2", ["transformer.h.2.mlp.c_fc.weight"], 2),
        ("gpt2", ["transformer.ln_f.weight", "transformer.ln_f.bias"], 3),
        ("gpt2", ["transformer.wte.weight"], 0),
        ("gpt2", ["transformer.wpe.weight"], 0),
        ("opt", ["model.decoder.layers.1.fc1.weight"], 1),
        ("opt", ["model.decoder.embed_positions.weight"], 0),
    ],
)
def test_shared_layers_end_before_the_first_change(request, model, changed, expected):
    assert count_shared_layers(request.getfixturevalue(model), changed) == expected


def test_ten_layers_are_counted_as_numbers_and_not_as_text():
    from transformers import LlamaConfig

    model = of(LlamaConfig(**sizes(num_hidden_layers=12)))
    assert count_shared_layers(model, ["model.layers.10.mlp.up_proj.weight"]) == 10
    assert count_shared_layers(model, ["model.layers.10.mlp.up_proj.weight", "model.layers.9.mlp.up_proj.weight"]) == 9
