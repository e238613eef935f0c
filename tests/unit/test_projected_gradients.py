"""Random projections of single records' gradients: what a plain loop over autograd gives."""

import numpy as np
import pytest
import torch

from loraudit.capture import classification_loss, completion_loss, projected_gradients
from loraudit.data import encode, record_id
from loraudit.errors import ModelError
from loraudit.types import Record
from small_classifiers import small_classifier
from small_tuning import bare, with_adapter


@pytest.fixture(scope="module")
def records(texts):
    short = [" ".join(text.split()[: 2 + 2 * (i % 4)]) for i, text in enumerate(texts[:7])]
    return [Record(record_id(text=text), "rows", 1, text=text) for text in short]


@pytest.fixture(scope="module")
def encoded(records, tokenizer):
    return encode(records, tokenizer)


def trained(module):
    from transformers.pytorch_utils import Conv1D

    return [
        part for part in module.modules() if isinstance(part, torch.nn.Linear | Conv1D) and part.weight.requires_grad
    ]


def slowly(module, losses, *, k, seed):
    """uᵀ G v of each map, G formed by autograd for one record at a time."""
    from transformers.pytorch_utils import Conv1D

    maps = trained(module)
    rows = []
    for loss in losses:
        total = np.zeros(k)
        wanted = [parameter for part in maps for parameter in (part.weight, part.bias) if parameter is not None]
        parts = dict(
            zip(map(id, wanted), torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True), strict=True)
        )
        for place, part in enumerate(maps):
            weight = parts[id(part.weight)]
            if weight is None:
                continue
            gradient = weight.T.numpy() if isinstance(part, Conv1D) else weight.numpy()
            if part.bias is not None:
                gradient = np.concatenate([gradient, parts[id(part.bias)].numpy()[:, None]], axis=1)
            rng = np.random.default_rng([seed, place])
            u, v = (rng.standard_normal((n, k)) for n in gradient.shape)
            total += np.einsum("ok,oi,ik->k", u, gradient, v) / np.sqrt(k)
        rows.append(total)
    return np.array(rows)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama_lora"])
def test_of_a_classifier(kind, records, encoded, tokenizer):
    module = small_classifier(kind)
    labels = np.arange(7) % 2
    found = projected_gradients(
        module,
        [item.ids for item in encoded],
        classification_loss(labels),
        device="cpu",
        n_dimensions=5,
        seed=3,
        batch_size=3,
    )
    losses = [
        torch.nn.functional.cross_entropy(
            module(input_ids=torch.tensor(item.ids, dtype=torch.long)[None]).logits, torch.tensor([label])
        )
        for item, label in zip(encoded, labels, strict=True)
    ]
    expected = slowly(module, losses, k=5, seed=3)
    assert np.allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("has_adapter", [False, True])
def test_of_a_language_model(has_adapter, base, adapter, encoded):
    module = with_adapter(base, adapter) if has_adapter else bare(base)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name if has_adapter else True)
    found = projected_gradients(
        module,
        [item.ids for item in encoded],
        completion_loss(encoded),
        device="cpu",
        n_dimensions=5,
        seed=3,
        batch_size=3,
    )
    losses = [
        module(input_ids=ids, labels=ids).loss
        for ids in (torch.tensor(item.ids, dtype=torch.long)[None] for item in encoded)
    ]
    expected = slowly(module, losses, k=5, seed=3)
    assert np.allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_the_module_is_left_as_it_was(encoded):
    module = small_classifier("llama_lora").train()
    flags = [parameter.requires_grad for parameter in module.parameters()]
    projected_gradients(
        module,
        [item.ids for item in encoded],
        classification_loss(np.zeros(7, dtype=np.int64)),
        device="cpu",
        n_dimensions=2,
        seed=0,
    )
    assert flags == [parameter.requires_grad for parameter in module.parameters()]
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(part.training for part in module.modules())


def test_a_model_tuned_outside_linear_maps_is_refused(encoded):
    module = small_classifier("bert")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("LayerNorm" in name)
    with pytest.raises(ModelError, match="None of the parameters that BertForSequenceClassification was tuned in belo"):
        projected_gradients(
            module,
            [item.ids for item in encoded],
            classification_loss(np.zeros(7, dtype=np.int64)),
            device="cpu",
            n_dimensions=2,
            seed=0,
        )


def test_a_map_that_sees_records_mixed_is_refused(encoded):
    module = small_classifier("bert")

    class Mixing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(32, 2)

        def forward(self, pooled):
            return self.inner(torch.cat([pooled, pooled]))[: len(pooled)]

    module.classifier = Mixing()
    with pytest.raises(ModelError, match="A linear map sees 14 rows for 7 records, so their gradients are not apart"):
        projected_gradients(
            module,
            [item.ids for item in encoded],
            classification_loss(np.zeros(7, dtype=np.int64)),
            device="cpu",
            n_dimensions=2,
            seed=0,
        )
