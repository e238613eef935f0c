"""What the evidence says a model would write is what it writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from conftest import CONTEXT
from loraudit.data import encode, record_id
from loraudit.memorization import greedy_extraction, hit_runs, suffix_log_prob
from loraudit.models import Numerics, plan_models
from loraudit.scoring import ScoringOptions, score_resident
from loraudit.types import Record, Tokens

FP32 = Numerics("cpu", "fp32")
TOP_K, TEMPERATURE = 40, 0.7
PROMPT, WRITTEN = 6, 12


@pytest.fixture(scope="module")
def resident(full):
    return plan_models(str(full)).load_target(FP32, "cpu")


def written(module, prompt, n) -> list[int]:
    settings = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=n, eos_token_id=None, pad_token_id=0, use_cache=True
    )
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = module.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return out[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def rows(resident, tokenizer, texts) -> list[list[int]]:
    """People's texts, and the model's own with one token changed: at each place, and nowhere."""
    found = [ids[: PROMPT + WRITTEN] for ids in tokenizer(texts[:13])["input_ids"]]
    for changed, ids in enumerate(list(found)):
        own = ids[:PROMPT] + written(resident.module, ids[:PROMPT], WRITTEN)
        if changed < WRITTEN:
            own[PROMPT + changed] = (own[PROMPT + changed] + 1) % 512
        found.append(own)
    return found


@pytest.fixture(scope="module")
def table(resident, rows, tokenizer):
    tokens = [Tokens(tuple(row), (False, *[True] * (len(row) - 1))) for row in rows]
    records = [Record(record_id(tokens=one), "test", i, tokens=one) for i, one in enumerate(tokens, 1)]
    options = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, decodings=((TOP_K, TEMPERATURE),))
    return score_resident(resident, encode(records, tokenizer), options, "target").audited()


@pytest.mark.slow
def test_runs_of_hits_are_as_long_as_greedy_generation_agrees(table, rows, resident):
    runs = hit_runs(table)
    lengths = set()
    for i, row in enumerate(rows):
        for start in (1, PROMPT - 2, PROMPT, PROMPT + 3, len(row) - 1):
            said = written(resident.module, row[:start], len(row) - start)
            agreeing = int(np.argmin([*(a == b for a, b in zip(said, row[start:], strict=True)), False]))
            assert runs[table.offsets[i] + start - 1] == agreeing  # the token at `start` is the start-th predicted one
            lengths.add(agreeing)
    assert lengths >= set(range(WRITTEN + 1))  # every length of agreement was among them


@pytest.mark.parametrize("suffix", [1, 5, WRITTEN])
def test_a_suffix_is_extracted_where_generate_writes_it(table, rows, resident, suffix):
    found = greedy_extraction(table, prefix=PROMPT - 1, suffix=suffix, margin_below=1e-4)
    expected = [written(resident.module, row[:PROMPT], suffix) == row[PROMPT : PROMPT + suffix] for row in rows]
    assert found.is_extracted.tolist() == expected
    assert True in expected
    assert False in expected
    assert not found.has_small_margin.any()


@pytest.mark.parametrize("suffix", [1, 4, WRITTEN])
def test_the_probability_of_a_suffix_is_the_product_over_the_models_own_warped_softmax(table, rows, resident, suffix):
    expected, full_softmax = [], []
    for row in rows:
        with torch.inference_mode():
            logits = resident.module(torch.tensor([row])).logits[0].double()
        product = whole = 1.0
        for place in range(PROMPT, PROMPT + suffix):
            scaled = logits[place - 1] / TEMPERATURE
            likeliest = scaled.topk(TOP_K)
            chosen = (likeliest.indices == row[place]).nonzero()
            product *= float(likeliest.values.softmax(0)[chosen[0, 0]]) if len(chosen) else 0.0
            whole *= float(logits[place - 1].softmax(0)[row[place]])
        expected.append(product)
        full_softmax.append(whole)
    found = suffix_log_prob(table, (TOP_K, TEMPERATURE), prefix=PROMPT - 1, suffix=suffix)
    np.testing.assert_allclose(np.exp(found), expected, rtol=2e-4)
    assert 0 < np.count_nonzero(expected) < len(expected)  # some hold a token that the decoding forbids
    own = suffix_log_prob(table, (0, 1.0), prefix=PROMPT - 1, suffix=suffix)
    np.testing.assert_allclose(own, np.log(full_softmax), rtol=1e-4)
