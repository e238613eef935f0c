"""Real steps of a language model whose head shares its weights with the embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import CONTEXT, VOCABULARY
from kernel_oracle import probe_rows, small_lm
from loraudit.capture import Stepper, kernel_parts, mean_log_prob
from loraudit.influence.methods import Kernelled


def small_gptj():
    """A head with a bias, tied to the embedding."""
    import transformers as library

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = library.GPTJConfig(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=32,
            n_layer=2,
            n_head=4,
            rotary_dim=4,
            initializer_range=0.2,
            bos_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=True,
        )
        model = library.GPTJForCausalLM(config).eval()
        torch.nn.init.normal_(model.lm_head.bias)
    assert model.lm_head.weight is model.transformer.wte.weight
    return model


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("gptj", "full"),
        ("gptj", "head"),
        ("gptj", "bitfit"),
        ("gpt2", "full"),
        ("gpt2", "head"),
        ("llama", "head"),
    ],
)
def test_a_small_step_is_what_the_kernel_says_whether_or_not_the_head_is_tied(kind, method):
    model, rows = small_gptj() if kind == "gptj" else small_lm(kind), probe_rows()
    functional = mean_log_prob(rows, [np.arange(len(row)) > 0 for row in rows])
    parts = kernel_parts(model, rows, functional, device="cpu", ranks=(1,), kinds=(), is_read_everywhere=True)
    residuals = -parts.values
    stepper = Stepper(model, rows, functional, residuals, head=None, device="cpu", batch_size=4)
    one = Kernelled(method, method)
    kernel = one.kernel(parts)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight, flags = model.get_output_embeddings().weight, [own.requires_grad for own in model.parameters()]
    for share in (1e-4, 2e-4):  # the second one with the gradients that the first has taken
        step = share / np.linalg.eigvalsh(kernel)[-1]
        real = stepper.values_after(one, step, family="uniform", seed=0) - parts.values
        predicted = step * kernel @ residuals
        assert np.linalg.norm(real - predicted) < 0.02 * np.linalg.norm(real)
    assert model.get_output_embeddings().weight is weight  # tied again
    assert [own.requires_grad for own in model.parameters()] == flags
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
