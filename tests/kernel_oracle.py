"""Kernels the obvious way: the gradient of every record, formed by autograd or `torch.func`, and multiplied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from conftest import CONTEXT, VOCABULARY
from loraudit.scoring.classifying import PaddedBatch

LENGTHS = (5, 9, 3, 12, 12, 7)


def probe_rows(seed: int = 0, lengths: Iterable[int] = LENGTHS) -> list[np.ndarray]:
    """Random tokens; one stands in every row, so that embeddings meet."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(3, 40, size=n) for n in lengths]
    for row in rows:
        row[0] = 2
    return rows


def small_lm(kind: str, **changes: Any) -> Any:
    """gpt2 (tied, Conv1D), llama, tied_llama."""
    import transformers as library

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shared = {"vocab_size": VOCABULARY, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1}
        if kind == "gpt2":
            config: Any = library.GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT)
            return library.GPT2LMHeadModel(config).eval()
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        is_tied = {"tie_word_embeddings": kind == "tied_llama"}
        config = library.LlamaConfig(**(shared | sizes | is_tied | {"num_key_value_heads": 2} | changes))
        return library.LlamaForCausalLM(config).eval()


def jacobian(
    model: Any, rows: list[np.ndarray], functional: Any, counts: Callable[[str], bool] = lambda _: True
) -> np.ndarray:
    """[m, P] gradients in the parameters whose name counts, one record at a time."""
    chosen = [parameter for name, parameter in model.named_parameters() if counts(name)]
    if not chosen:
        return np.zeros((len(rows), 0))
    flags = [parameter.requires_grad for parameter in chosen]
    found = []
    for parameter in chosen:
        parameter.requires_grad_(True)
    for i, ids in enumerate(rows):
        output = model(input_ids=torch.from_numpy(ids)[None])
        value = functional(PaddedBatch([i], np.array([len(ids)]), output)).sum()
        parts = torch.autograd.grad(value, chosen, allow_unused=True)
        filled = [torch.zeros_like(p) if part is None else part for p, part in zip(chosen, parts, strict=True)]
        found.append(torch.cat([part.flatten() for part in filled]).double().numpy())
    for parameter, flag in zip(chosen, flags, strict=True):
        parameter.requires_grad_(flag)
    return np.stack(found)


def functional_jacobian(model: Any, rows: list[np.ndarray], functional: Any) -> np.ndarray:
    """[m, P] by `torch.func.grad` of a functional call, all parameters."""
    own = {name: parameter.detach() for name, parameter in model.named_parameters()}
    found = []
    for i, ids in enumerate(rows):
        inputs = {"input_ids": torch.from_numpy(ids)[None]}

        def value(parameters: Any, i: int = i, ids: Any = ids, inputs: Any = inputs) -> Any:
            output = torch.func.functional_call(model, parameters, kwargs=inputs)
            return functional(PaddedBatch([i], np.array([len(ids)]), output)).sum()

        found.append(torch.cat([part.flatten() for part in torch.func.grad(value)(own).values()]))
    return torch.stack(found).double().numpy()


def gap(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference beside the largest entry."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
