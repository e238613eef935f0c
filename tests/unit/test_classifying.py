"""Logits of a classifier: the same in a batch as alone, for every kind of model."""

import numpy as np
import pytest
import torch

from loraudit.data import record_id
from loraudit.errors import EnvironmentFault
from loraudit.scoring import classifier_inputs, classify
from loraudit.scoring.classifying import in_batches
from loraudit.types import Record, Tokens
from small_classifiers import KINDS, small_classifier


def record(text):
    return Record(record_id(text=text), "rows", 1, text=text)


@pytest.fixture(scope="module")
def records(texts):
    return [record(" ".join(text.split()[: 1 + 3 * (i % 5)])) for i, text in enumerate(texts[:13])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_plain_calls_of_each_text_alone_give(kind, records, tokenizer):
    module = small_classifier(kind)
    found = classify(module, tokenizer, records, device="cpu", max_length=24, batch_size=5)
    assert found.dtype == np.float64
    assert found.shape == (13, 2)
    for row, one in zip(found, records, strict=True):
        ids = torch.tensor(tokenizer(one.text)["input_ids"][:24])[None]
        with torch.no_grad():
            alone = module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        assert np.allclose(row, alone.numpy(), atol=1e-5)


def test_the_order_of_the_records_is_that_of_the_rows(records, tokenizer):
    module = small_classifier("bert", n_labels=3)
    forth = classify(module, tokenizer, records, device="cpu", max_length=24)
    back = classify(module, tokenizer, records[::-1], device="cpu", max_length=24, batch_size=1)
    assert forth.shape == (13, 3)
    assert np.allclose(forth, back[::-1], atol=1e-5)
    assert np.ptp(forth[:, 0]) > 0.01


def test_texts_longer_than_the_window_are_counted(records, tokenizer):
    n_tokens = [len(tokenizer(one.text)["input_ids"]) for one in records]
    inputs = classifier_inputs(records, tokenizer, 10)
    assert inputs.n_cut == sum(n > 10 for n in n_tokens) > 0
    assert [len(ids) for ids in inputs.ids] == [min(n, 10) for n in n_tokens]


def test_the_module_is_left_as_it_was(records, tokenizer):
    module = small_classifier("llama_lora").train()
    module.config.pad_token_id = None
    one = classify(module, tokenizer, records, device="cpu", max_length=24)
    assert np.array_equal(one, classify(module, tokenizer, records, device="cpu", max_length=24))  # no dropout
    assert all(part.training for part in module.modules())
    assert module.config.pad_token_id is None
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_text_without_a_token_has_no_logits(records, tokenizer):
    module, empty = small_classifier("bert"), Record("0" * 64, "rows", 1, tokens=Tokens((), ()))
    found = classify(module, tokenizer, [empty, records[1]], device="cpu", max_length=24)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    alone = classify(module, tokenizer, [empty], device="cpu", max_length=24)
    assert alone.shape == (1, 2)
    assert np.isnan(alone).all()
    assert classify(module, tokenizer, [], device="cpu", max_length=24).shape == (0, 2)


class Cramped(torch.nn.Module):
    """Has memory for so many rows."""

    def __init__(self, n_rows):
        super().__init__()
        self.n_rows = n_rows
        self.inner = small_classifier("bert")
        self.config = self.inner.config
        self.sizes = []

    def get_input_embeddings(self):
        return self.inner.get_input_embeddings()

    def forward(self, **inputs):
        self.sizes.append(len(inputs["input_ids"]))
        if self.sizes[-1] > self.n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(**inputs)


def test_a_batch_too_large_for_memory_is_halved(records, tokenizer):
    module = Cramped(2)
    found = classify(module, tokenizer, records, device="cpu", max_length=24, batch_size=8)
    assert np.allclose(found, classify(module.inner, tokenizer, records, device="cpu", max_length=24), atol=1e-5)
    assert max(module.sizes) == 8
    assert 2 in module.sizes


def test_a_single_text_too_large_for_memory_is_said(records, tokenizer):
    with pytest.raises(EnvironmentFault, match=r"A text of \d+ tokens does not fit into the memory of cpu. Give a"):
        classify(Cramped(0), tokenizer, records, device="cpu", max_length=24)


def test_other_errors_are_not_taken_for_a_lack_of_memory(records, tokenizer):
    def read(batch):
        raise RuntimeError("something else")

    module = small_classifier("bert")
    with pytest.raises(RuntimeError, match="something else"):
        in_batches(module, classifier_inputs(records, tokenizer, 9).ids, read, device="cpu", batch_size=4)
