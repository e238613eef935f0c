"""What stands before the last linear map, and that map's gradient for each record."""

import numpy as np
import pytest
import torch

from loraudit.capture import Represented, classifier_representations, head_gradients, prompt_representations
from loraudit.data import record_id
from loraudit.errors import ModelError
from loraudit.types import Record
from small_classifiers import KINDS, small_classifier
from small_tuning import bare

MAPS = {
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "distilbert": "classifier",
    "gpt2": "score",
    "llama": "score",
    "llama_without_padding": "score",
    "llama_lora": "base_model.model.score.modules_to_save.default",
}


def text(content):
    return Record(record_id(text=content), "rows", 1, text=content)


@pytest.fixture(scope="module")
def records(texts):
    return [text(" ".join(one.split()[: 2 + 3 * (i % 4)])) for i, one in enumerate(texts[:9])]


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_makes_its_logits_of_them(kind, records, tokenizer):
    module = small_classifier(kind)
    found = classifier_representations(module, tokenizer, records, device="cpu", max_length=20, batch_size=4)
    head = module.get_submodule(MAPS[kind])
    with torch.no_grad():
        made = head(torch.from_numpy(found.representations)).numpy()
        for row, one in zip(found.logits, records, strict=True):
            ids = torch.tensor(tokenizer(one.text)["input_ids"][:20])[None]
            assert np.allclose(row, module(input_ids=ids).logits[0].numpy(), atol=1e-5)
    assert np.allclose(made, found.logits, atol=1e-5)
    assert found.n_cut == sum(len(tokenizer(one.text)["input_ids"]) > 20 for one in records) > 0


def test_a_classifier_without_a_last_linear_map_is_refused(records, tokenizer):
    module = small_classifier("bert")

    class Doubled(torch.nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    module.classifier = torch.nn.Sequential(torch.nn.Linear(32, 2), torch.nn.Softplus())
    with pytest.raises(ModelError, match="The logits of BertForSequenceClassification are not what a linear map gave"):
        classifier_representations(module, tokenizer, records, device="cpu", max_length=20)
    module.classifier = torch.nn.Sequential(torch.nn.Linear(32, 7), Doubled(7, 2))
    assert classifier_representations(
        module, tokenizer, records, device="cpu", max_length=20
    ).representations.shape == (9, 7)


def test_head_gradients_are_those_of_autograd(records, tokenizer):
    module = small_classifier("bert", n_labels=3)
    labels = np.arange(9) % 3
    found = classifier_representations(module, tokenizer, records, device="cpu", max_length=20)
    gradients = head_gradients(found, labels, n_dimensions=99, seed=0)
    assert gradients.shape == (9, 3 * 33)
    for row, one, label in zip(gradients, records, labels, strict=True):
        ids = torch.tensor(tokenizer(one.text)["input_ids"][:20])[None]
        loss = torch.nn.functional.cross_entropy(module(input_ids=ids).logits, torch.tensor([label]))
        weight, bias = torch.autograd.grad(loss, [module.classifier.weight, module.classifier.bias])
        assert np.allclose(row.reshape(3, 33), torch.cat([weight, bias[:, None]], dim=1).numpy(), atol=1e-5)


def test_projected_head_gradients_keep_inner_products():
    rng = np.random.default_rng(0)
    represented = Represented(rng.normal(0, 1, (6, 40)).astype(np.float32), rng.normal(0, 1, (6, 3)), 0)
    labels = np.array([0, 1, 2, 0, 1, 2])
    exact = head_gradients(represented, labels, n_dimensions=10**6, seed=0).astype(np.float64)
    short = np.mean(
        [
            (g := head_gradients(represented, labels, n_dimensions=64, seed=seed).astype(np.float64)) @ g.T
            for seed in range(200)
        ],
        axis=0,
    )
    assert head_gradients(represented, labels, n_dimensions=64, seed=1).shape == (6, 64)
    assert np.abs(short - exact @ exact.T).max() < 0.05 * np.abs(exact @ exact.T).max()


def test_prompts_are_seen_up_to_their_last_token(base, texts, tokenizer):
    module = bare(base)
    words = [one.split() for one in texts[:6]]
    records = [
        Record(str(i), "rows", i, prompt=" ".join(own[: 1 + i]), completion=" " + " ".join(own[1 + i : 9]))
        for i, own in enumerate(words)
    ]
    records.append(text(" ".join(words[0][:4])))
    found = prompt_representations(module, tokenizer, records, device="cpu", max_length=12, batch_size=3)
    assert found.shape == (7, 32)
    for row, one in zip(found, records, strict=True):
        ids = torch.tensor(tokenizer(one.prompt or one.text)["input_ids"][-12:])[None]
        with torch.no_grad():
            logits = module(input_ids=ids).logits[0, -1]
            assert torch.allclose(module.lm_head(torch.from_numpy(row)), logits, atol=1e-4)
