"""Decodings: their settings, their names, and that they draw as transformers would."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loraudit.errors import ConfigError
from loraudit.generation import GREEDY, PRESETS, Sampling, draw_token, parse_decoding
from loraudit.generation.drawing import decoding_log_probs


def shares(logits, sampling, n=20_000):
    """[V] how often each token is drawn by uniform numbers laid out evenly."""
    uniform = ((torch.arange(n) + 0.5) / n)[:, None]
    drawn = draw_token(logits.expand(n, -1), sampling, uniform)[:, 0]
    return (torch.bincount(drawn, minlength=logits.shape[-1]) / n).numpy()


@pytest.mark.parametrize("top_k", [0, 1, 7, 60, 500])
def test_filters_apply_in_the_order_of_transformers(top_k):
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = 2 * torch.randn(1, 60, generator=torch.Generator().manual_seed(5))
    warped = TemperatureLogitsWarper(0.7)(None, logits)
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    warped = TopPLogitsWarper(0.9)(None, warped)
    expected = warped.softmax(-1)[0].numpy()
    found = shares(logits, Sampling(1, temperature=0.7, top_p=0.9, top_k=top_k))
    assert np.abs(found - expected).max() < 1e-3
    assert ((found > 0) <= (expected > 0)).all()


def test_equally_likely_tokens_beyond_top_k_are_not_drawn():
    assert (shares(torch.zeros(1, 9), Sampling(1, top_k=4)) > 0).sum() == 4


def test_log_probabilities_under_a_decoding_are_the_shares_of_its_draws():
    logits = 2 * torch.randn(1, 50, generator=torch.Generator().manual_seed(6))
    for k, temperature in ((0, 1.0), (5, 0.5), (50, 2.0)):
        expected = shares(logits, Sampling(1, temperature=temperature, top_k=k))
        assert np.abs(decoding_log_probs(logits, (k, temperature)).exp()[0].numpy() - expected).max() < 1e-3


def test_a_decaying_temperature_comes_down_in_a_straight_line_and_stays():
    sampling = parse_decoding("decaying", 50)
    found = sampling.temperatures(np.array([0, 5, 10, 20, 21, 49]))
    assert found.tolist() == pytest.approx([10, 7.75, 5.5, 1, 1, 1])
    assert Sampling(3, temperature=2.0, first_temperature=2.0, decay_tokens=1).temperatures(np.array([0])) == [2]
    assert Sampling(3, temperature=0.4).temperatures(np.array([0, 2])).tolist() == [0.4, 0.4]


def test_rows_of_several_temperatures_are_drawn_each_at_its_own():
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(7))
    uniform, temperature = torch.tensor([[0.6]] * 3), torch.tensor([[0.2], [1.0], [9.0]])
    together = draw_token(logits.expand(3, -1), parse_decoding("decaying", 5), uniform, temperature)
    alone = [draw_token(logits, Sampling(1, temperature=float(t)), uniform[:1])[0] for t in temperature]
    assert together.tolist() == [one.tolist() for one in alone]


def test_every_preset_is_a_decoding_whose_name_it_bears():
    assert set(PRESETS) == {"greedy", "top_k_40", "nucleus", "decaying"}
    for name in PRESETS:
        assert parse_decoding(name, 50).name == name
    assert parse_decoding("greedy", 50) == Sampling(50, temperature=GREEDY)
    assert parse_decoding("top_k_40", 50) == Sampling(50, temperature=1.0, top_k=40)
    assert parse_decoding("nucleus", 50) == Sampling(50, top_p=0.95)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("top_k=40,temperature=0.7", Sampling(50, temperature=0.7, top_k=40)),
        (" top_p = 0.6 , temperature=1e-1", Sampling(50, temperature=0.1, top_p=0.6)),
        ("top_k_40,temperature=0.7", Sampling(50, temperature=0.7, top_k=40)),
        ("temperature=1", Sampling(50)),
        ("first_temperature=5,decay_tokens=8", Sampling(50, first_temperature=5.0, decay_tokens=8)),
    ],
)
def test_words_are_read_and_said_again(words, expected):
    found = parse_decoding(words, 50)
    assert found == expected
    assert parse_decoding(found.name, 50) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("gredy", r"Unknown decoding 'gredy'\. Did you mean 'greedy'\?"),
        ("", r"Unknown decoding ''\."),
        ("topk=40", r"Unknown decoding setting 'topk'\. Did you mean 'top_k'\?"),
        ("repetition_penalty=1.2", r"Unknown decoding setting 'repetition_penalty'"),
        ("top_k=4,top_k=5", r"Decoding 'top_k=4,top_k=5' sets top_k twice\. Expected each setting once"),
        ("top_k=4,nucleus", r"has 'nucleus' where a setting should stand\. Expected name=value, with a preset only in"),
        ("top_k=4,", r"has '' where a setting should stand"),
        ("top_k=4.5", r"sets top_k to '4\.5'\. Expected a whole number"),
        ("temperature=hot", r"sets temperature to 'hot'\. Expected a number"),
        ("temperature=nan", r"Sampling with temperature nan is not possible"),
        ("top_p=2", r"Sampling with top_p 2\.0 is not possible"),
    ],
)
def test_words_that_are_no_decoding_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_decoding(words, 50)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_k": -1}, r"top_k -1 is not possible\. Expected 0 \(all tokens\) or more"),
        (
            {"first_temperature": 0.5, "decay_tokens": 3},
            r"first_temperature 0\.5 .* Expected a temperature above 0 that",
        ),
        ({"temperature": 0.0, "first_temperature": 2.0, "decay_tokens": 3}, r"first_temperature 2\.0 is not possible"),
        ({"first_temperature": 2.0}, r"decay_tokens 0 .* Expected at least 1 together with a first_temperature"),
        ({"decay_tokens": 2}, r"decay_tokens 2 is not possible"),
    ],
)
def test_settings_that_fit_no_decoding_are_refused(values, message):
    with pytest.raises(ConfigError, match=f"Sampling with {message}"):
        Sampling(1, **values)
