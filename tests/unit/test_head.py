"""The evidence of a token equals a slow float64 implementation of its definition."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.scoring import head, token_statistics
from loraudit.scoring.head import score_hidden

DECODINGS = ((0, 1.0), (0, 0.7), (1, 1.0), (3, 0.5), (10_000, 1.3))
EXACT = {"is_top1", "rank_bucket"}


def slow_statistics(logits, gold, decodings=()):
    """The definition, token by token, in float64."""
    names = ["log_prob", "is_top1", "margin", "mean_log_prob", "var_log_prob", "rank_bucket"]
    found = {name: [] for name in names + [f"log_sum_exp.{i}" for i in range(len(decodings))]}
    for row, token in zip(np.asarray(logits, dtype=np.float64), gold, strict=True):
        log_probs = row - row.max() - math.log(sum(math.exp(value - row.max()) for value in row))
        probs = np.exp(log_probs)
        mean = float((probs * log_probs).sum())
        likeliest = sorted(row, reverse=True)
        found["log_prob"].append(log_probs[token])
        found["is_top1"].append(list(row).index(row.max()) == token)
        found["margin"].append(likeliest[0] - likeliest[1])
        found["mean_log_prob"].append(mean)
        found["var_log_prob"].append(float((probs * (log_probs - mean) ** 2).sum()))
        found["rank_bucket"].append(math.floor(math.log2(1 + sum(value > row[token] for value in row))))
        for i, (k, temperature) in enumerate(decodings):
            kept = sorted(log_probs, reverse=True)[: k or None]
            scaled = [value / temperature for value in kept]
            largest = max(scaled)
            is_allowed = k == 0 or sum(value > row[token] for value in row) < k
            value = largest + math.log(sum(math.exp(s - largest) for s in scaled))
            found[f"log_sum_exp.{i}"].append(value if is_allowed else math.inf)
    return {name: np.array(values) for name, values in found.items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, tensor in found.items():
        if name in EXACT:
            np.testing.assert_array_equal(tensor.numpy(), expected[name], err_msg=name)
        else:
            np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=2e-6, atol=3e-5, err_msg=name)


@st.composite
def logits_and_gold(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 40)))
    values = draw(
        st.sampled_from(
            [
                st.floats(-20, 20, width=32),
                st.floats(-1e4, 1e4, width=32),
                st.integers(-3, 3).map(float),  # many ties
                st.sampled_from([-1e4, 0.0, 1e4]),
            ]
        )
    )
    logits = draw(arrays.arrays(np.float32, shape, elements=values))
    return logits, draw(arrays.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))


@settings(deadline=None, max_examples=150)
@given(logits_and_gold())
def test_statistics_are_those_of_the_definition(drawn):
    logits, gold = drawn
    found = token_statistics(torch.from_numpy(logits.copy()), torch.from_numpy(gold), DECODINGS)
    assert_same(found, slow_statistics(logits, gold, DECODINGS))


@settings(deadline=None, max_examples=60)
@given(logits_and_gold())
def test_nothing_leaves_the_range_it_is_defined_on(drawn):
    logits, gold = drawn
    found = token_statistics(torch.from_numpy(logits.copy()), torch.from_numpy(gold), DECODINGS)
    may_be_infinite = {f"log_sum_exp.{i}" for i, (k, _) in enumerate(DECODINGS) if 0 < k < logits.shape[1]}
    assert all(bool(found[name].isfinite().all()) for name in found if name not in may_be_infinite)
    assert all(bool((found[name] > -torch.inf).all()) for name in may_be_infinite)
    assert bool((found["log_prob"] <= 0).all())
    assert bool((found["mean_log_prob"] <= 1e-6).all())
    assert bool((found["var_log_prob"] >= 0).all())
    assert bool((found["margin"] >= 0).all())


def test_the_log_sum_exp_over_everything_at_temperature_one_is_zero():
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)) * 8
    found = token_statistics(logits, torch.arange(5), [(0, 1.0), (300, 1.0), (1, 1.0)])
    assert found["log_sum_exp.0"].abs().max() < 1e-5
    assert torch.equal(found["log_sum_exp.0"], found["log_sum_exp.1"])


def test_a_token_outside_the_k_most_likely_has_an_infinite_log_sum_exp():
    """Ranks 1 to 6, one by one; the decodings are asked for out of order and with one k twice."""
    decodings = ((3, 1.0), (1, 0.5), (5, 2.0), (3, 0.7), (0, 0.7), (6, 0.7))
    logits = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]).repeat(6, 1)
    found = token_statistics(logits, torch.arange(6), decodings)
    for i, (k, _) in enumerate(decodings):
        column = found[f"log_sum_exp.{i}"]
        assert column.isinf().tolist() == [0 < k <= rank for rank in range(6)]
        assert bool((column > -torch.inf).all())


def test_probabilities_under_a_decoding_are_those_of_the_warped_softmax():
    """log_prob / T − log_sum_exp over all tokens as gold: 0 outside the k, and a law that sums to 1."""
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 3
    decodings = ((40, 0.7), (5, 1.0), (5, 2.5), (1, 1.0), (0, 0.3))
    found = token_statistics(logits.repeat(50, 1), torch.arange(50), decodings)
    for i, (k, temperature) in enumerate(decodings):
        warped = logits.double() / temperature
        warped[logits < logits.topk(k or 50).values[-1]] = -torch.inf
        ours = (found["log_prob"] / temperature - found[f"log_sum_exp.{i}"]).exp()
        torch.testing.assert_close(ours, warped.softmax(0).float(), rtol=2e-5, atol=1e-7)
        assert int((ours > 0).sum()) == (k or 50)


def test_tokens_as_likely_as_the_last_allowed_one_are_allowed():
    found = token_statistics(torch.tensor([[2.0, 1.0, 1.0, 0.0]]).repeat(4, 1), torch.arange(4), [(2, 1.0)])
    assert found["log_sum_exp.0"].isinf().tolist() == [False, False, False, True]


@pytest.mark.parametrize("vocabulary", [2, 3, 512, 50_000])
@pytest.mark.parametrize("level", [-1e4, 0.0, 1e4])
def test_identical_logits_make_a_uniform_law_whose_top_is_the_lowest_id(vocabulary, level):
    gold = torch.tensor([0, 1, vocabulary - 1])
    found = token_statistics(torch.full((3, vocabulary), level), gold)
    np.testing.assert_allclose(found["log_prob"], -math.log(vocabulary), rtol=1e-6)
    np.testing.assert_allclose(found["mean_log_prob"], -math.log(vocabulary), rtol=1e-6)
    assert found["var_log_prob"].tolist() == [0, 0, 0]
    assert found["margin"].tolist() == [0, 0, 0]
    assert found["is_top1"].tolist() == [True, False, False]
    assert found["rank_bucket"].tolist() == [0, 0, 0]


def test_one_logit_far_above_the_others_makes_a_certain_prediction():
    logits = torch.full((2, 100), -1e4)
    logits[:, 7] = 1e4
    found = token_statistics(logits, torch.tensor([7, 8]))
    assert found["log_prob"].tolist() == [0, -2e4]
    assert found["margin"].tolist() == [2e4, 2e4]
    assert found["mean_log_prob"].tolist() == [0, 0]
    assert found["var_log_prob"].tolist() == [0, 0]


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 7, 8, 255, 256, 511, 512, 1023, 1024, 4096])
def test_the_rank_bucket_is_the_floor_of_the_binary_logarithm(rank):
    logits = -torch.arange(4096, dtype=torch.float32)[None]
    found = token_statistics(logits, torch.tensor([rank - 1]))
    assert found["rank_bucket"].tolist() == [math.floor(math.log2(rank))]
    assert found["is_top1"].tolist() == [rank == 1]


def test_nan_logits_give_nan_and_not_a_number_that_looks_right():
    logits = torch.zeros(2, 10)
    logits[1, 3] = torch.nan
    found = token_statistics(logits, torch.tensor([0, 0]))
    for name in ("log_prob", "mean_log_prob", "var_log_prob"):
        assert bool(found[name][0].isfinite())
        assert bool(found[name][1].isnan())


@pytest.mark.parametrize("at_once", [1, 50, 51, 150, 1 << 20])
@pytest.mark.parametrize("cached", [1, 100, 1 << 20])
def test_chunks_of_any_size_give_the_same_evidence(monkeypatch, at_once, cached):
    generator = torch.Generator().manual_seed(3)
    n, width, vocabulary = 13, 8, 50
    hidden = torch.randn(n, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator) * 4
    gold = torch.randint(vocabulary, (n,), generator=generator)
    n_rows = []

    def logits_of(part):
        n_rows.append(len(part))
        return part @ weight.T

    whole = token_statistics(hidden @ weight.T, gold, DECODINGS)
    monkeypatch.setattr(head, "LOGITS_AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(head, "_CACHED_LOGITS", cached)
    found = score_hidden(hidden, gold, logits_of, vocabulary, DECODINGS)
    assert sum(n_rows) == n
    assert max(n_rows) <= max(1, at_once // vocabulary)
    assert set(found) == set(whole)
    for name, tensor in found.items():
        assert tensor.shape == (n,)
        np.testing.assert_allclose(tensor, whole[name], rtol=1e-5, atol=1e-5, err_msg=name)


@settings(deadline=None, max_examples=40)
@given(logits_and_gold())
def test_hidden_states_are_scored_as_their_logits_are(drawn):
    logits, gold = drawn
    rows = torch.arange(len(logits), dtype=torch.float32)[:, None]  # the "head" looks its logits up by row
    found = score_hidden(
        rows,
        torch.from_numpy(gold),
        lambda part: torch.from_numpy(logits)[part[:, 0].long()],
        logits.shape[1],
        DECODINGS,
    )
    assert_same(found, slow_statistics(logits, gold, DECODINGS))


def test_half_precision_logits_are_reduced_in_float32():
    logits = (torch.randn(4, 2000, generator=torch.Generator().manual_seed(5)) * 3).bfloat16()
    gold = torch.tensor([1, 2, 3, 4])
    found = score_hidden(torch.zeros(4, 1), gold, lambda _: logits, 2000)
    assert found["log_prob"].dtype == torch.float32
    assert_same(found, slow_statistics(logits.float().numpy(), gold.numpy()))
