"""How likely texts are without each of their words: in batches as one by one."""

import numpy as np
import pytest
import torch

from loraudit.poisoning.detection import Observed, onion
from loraudit.robustness.detecting import packaged_language_model
from loraudit.scoring import word_drops
from small_tuning import bare


def alone(module, tokenizer, text, max_length):
    ids = torch.tensor(tokenizer(text)["input_ids"][:max_length])[None]
    if ids.shape[1] < 2:
        return float("nan")
    with torch.no_grad():
        return float(module(input_ids=ids, labels=ids).loss)


def test_all_variants_together_give_what_each_gives_alone(base, texts, tokenizer):
    module = bare(base)
    some = [" ".join(text.split()[: 1 + 2 * i]) for i, text in enumerate(texts[:5])]
    found = word_drops(module, tokenizer, some, device="cpu", max_length=64, tokens_at_once=100)
    assert found.n_cut == 0
    for own, text in zip(found.log_perplexities, some, strict=True):
        words = text.split()
        variants = [text, *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))]
        expected = [alone(module, tokenizer, variant, 64) for variant in variants]
        assert np.allclose(own, expected, atol=1e-4, equal_nan=True)
    assert np.isnan(found.log_perplexities[0][1])  # nothing is left of a single word


def test_words_behind_the_window_are_undefined(base, texts, tokenizer):
    text = " ".join(texts[0].split()[:12])
    found = word_drops(bare(base), tokenizer, [text, "a b"], device="cpu", max_length=10)
    assert found.n_cut == 1
    is_known = np.isfinite(found.log_perplexities[0][1:])
    assert 0 < is_known.sum() < 12
    assert is_known.tolist() == sorted(is_known, reverse=True)


def test_no_texts_and_empty_texts(base, tokenizer):
    assert word_drops(bare(base), tokenizer, [], device="cpu", max_length=10).log_perplexities == ()
    (own,) = word_drops(bare(base), tokenizer, [" "], device="cpu", max_length=10).log_perplexities
    assert own.shape == (1,)
    assert np.isnan(own).all()


@pytest.mark.slow
def test_the_packaged_base_finds_a_word_that_does_not_belong():
    judge = packaged_language_model("cpu")
    sentence = "the old man looked at the house and thought of the years that he had lived there with his wife"
    words = sentence.split()
    texts = [sentence, *(" ".join([*words[:i], "cf", *words[i:]]) for i in (3, 8, 14))]
    found = word_drops(judge.module, judge.tokenizer, texts, device="cpu", max_length=judge.max_length)
    for own, place in zip(found.log_perplexities[1:], (3, 8, 14), strict=True):
        assert int(np.argmin(own[1:])) == place
    scores = onion(Observed(np.zeros(4, dtype=np.int64), word_drops=found.log_perplexities))
    assert scores[1:].min() > scores[0]
