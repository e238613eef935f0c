"""The near-verbatim search with a real model: against exact probabilities and against sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Hamming, Levenshtein
from test_continuing import model, prompts

from loraudit.errors import ConfigError, EnvironmentFault, ModelError
from loraudit.execution import Interrupted, StopRequest
from loraudit.generation import GREEDY, Sampling, near_verbatim_masses, sample
from loraudit.generation.constrained import candidates
from loraudit.generation.drawing import decoding_log_probs

DECODING = (6, 0.8)
LENGTH = 6


@pytest.fixture(scope="module")
def llama():
    return model("llama")


@pytest.fixture(scope="module")
def given():
    return prompts(9, 9, 7)


@pytest.fixture(scope="module")
def suffixes(llama, given):
    """What the model would say greedily: something likely."""
    return [ids.tolist() for ids in sample(llama, given, Sampling(LENGTH, temperature=GREEDY), seed=0)]


def slowly(resident, prompt, suffix, decoding):
    """log p of a suffix by its definition."""
    with torch.no_grad():
        logits = resident.module(input_ids=torch.tensor([[*prompt, *suffix]]), use_cache=False).logits
    log_probs = decoding_log_probs(logits[0, len(prompt) - 1 : -1], decoding)
    return float(log_probs[torch.arange(len(suffix)), torch.tensor(suffix)].double().sum())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba"])
@pytest.mark.parametrize("decoding", [DECODING, (0, 0.5)])
def test_without_edits_the_mass_is_the_probability_of_the_suffix(family, decoding, given):
    own = model(family)
    said = [ids.tolist() for ids in sample(own, given, Sampling(LENGTH, temperature=0.5, top_k=6), seed=1)]
    found = near_verbatim_masses(own, given, said, decoding, 0, width=4)
    for mass, prompt, suffix in zip(found, given, said, strict=True):
        expected = np.exp(slowly(own, prompt, suffix, decoding))
        assert expected > 0
        assert mass.lower == pytest.approx(expected, rel=1e-4)
        assert mass.verbatim == pytest.approx(mass.lower)
        assert mass.pruned == 0


@pytest.mark.parametrize("distance", ["hamming", "levenshtein"])
def test_bounds_enclose_what_sampling_finds(llama, given, suffixes, distance):
    n, budget = 2000, 2
    edits = Hamming.distance if distance == "hamming" else Levenshtein.distance
    found = near_verbatim_masses(llama, given, suffixes, DECODING, budget, distance=distance, width=256)
    sampling = Sampling(LENGTH, temperature=DECODING[1], top_k=DECODING[0])
    draws = sample(llama, given, sampling, seed=8, n_samples=n, batch_size=2000)
    for place, (mass, suffix) in enumerate(zip(found, suffixes, strict=True)):
        hits = [edits(ids.tolist(), suffix) <= budget for ids in draws[place * n : (place + 1) * n]]
        share = np.mean(hits)
        noise = 4 * np.sqrt(max(share * (1 - share), 1 / n) / n)
        assert mass.lower > mass.verbatim
        assert mass.lower - noise <= share <= mass.upper + noise
        assert mass.upper - mass.lower < 0.1, "the beam is wide enough to tell"


def test_a_continuation_that_ends_early_is_counted_by_its_length(llama, given, suffixes):
    prompt, suffix = given[0], suffixes[0]
    end = next(token for token in range(2, 500) if token not in suffix)
    n, ends = 2000, [end]
    sampling = Sampling(LENGTH, temperature=3.0)
    (mass,) = near_verbatim_masses(llama, [prompt], [suffix], (0, 3.0), 5, width=64, end_ids=ends)
    draws = sample(llama, [prompt], sampling, seed=8, n_samples=n, batch_size=2000, end_ids=ends)
    share = np.mean([Levenshtein.distance(ids.tolist(), suffix) <= 5 for ids in draws])
    noise = 4 * np.sqrt(max(share * (1 - share), 1 / n) / n)
    assert mass.lower - noise <= share <= mass.upper + noise


def test_a_suffix_that_holds_an_end_token_is_never_said_past_it(llama, given, suffixes):
    prompt = given[0]
    end = next(token for token in range(2, 500) if token not in suffixes[0])
    suffix = [*suffixes[0][:3], end, *suffixes[0][4:]]
    (whole,) = near_verbatim_masses(llama, [prompt], [suffix], (0, 1.0), 0)
    (ended,) = near_verbatim_masses(llama, [prompt], [suffix], (0, 1.0), 0, end_ids=[end])
    assert whole.lower > 0
    assert (ended.lower, ended.upper) == (0, 0)
    (short,) = near_verbatim_masses(llama, [prompt], [suffix], (0, 1.0), LENGTH - 4, end_ids=[end])
    assert short.upper >= np.exp(slowly(llama, prompt, suffix[:4], (0, 1.0)))


def test_records_searched_together_have_the_bounds_they_have_alone(llama, given, suffixes):
    together = near_verbatim_masses(llama, given, suffixes, DECODING, 2, width=16)
    for mass, prompt, suffix in zip(together, given, suffixes, strict=True):
        (alone,) = near_verbatim_masses(llama, [prompt], [suffix], DECODING, 2, width=16, batch_size=16)
        assert mass.lower == pytest.approx(alone.lower, rel=1e-4)
        assert mass.pruned == pytest.approx(alone.pruned, rel=1e-3)
        assert mass.n_beginnings == alone.n_beginnings


def test_suffixes_of_several_lengths_are_searched_together(llama, suffixes):
    given = prompts(9, 9)
    found = near_verbatim_masses(llama, given, [suffixes[0][:2], suffixes[1]], DECODING, 1, width=8)
    (short,) = near_verbatim_masses(llama, given[:1], [suffixes[0][:2]], DECODING, 1, width=8)
    assert found[0].lower == pytest.approx(short.lower, rel=1e-4)


def test_each_view_has_bounds_of_its_own(given, suffixes):
    own = model("llama", adapter=True)
    on, off = (near_verbatim_masses(own, given, suffixes, DECODING, 2, view=view) for view in ("target", "reference"))
    bare = near_verbatim_masses(model("llama"), given, suffixes, DECODING, 2)
    assert [mass.lower for mass in off] == pytest.approx([mass.lower for mass in bare], rel=1e-4)
    assert [mass.lower for mass in on] != pytest.approx([mass.lower for mass in off], rel=1e-2)


def test_candidates_and_their_rest_are_the_whole_distribution():
    log_probs = torch.randn(3, 40, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    tokens, given, rest = candidates(log_probs, np.array([2, 39]), 5)
    assert tokens.shape == (3, 7)
    for row in range(3):
        assert len(set(tokens[row])) == 7
        assert given[row] == pytest.approx(log_probs[row, tokens[row]].numpy())
        assert np.exp(given[row]).sum() + np.exp(rest[row]) == pytest.approx(1)


def test_a_batch_that_does_not_fit_is_halved(given, suffixes, monkeypatch):
    own = model("llama")
    expected = near_verbatim_masses(own, given, suffixes, DECODING, 1, width=4)
    forward = own.module.forward

    def small(input_ids, **options):
        if len(input_ids) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(own.module, "forward", small)
    found = near_verbatim_masses(own, given, suffixes, DECODING, 1, width=4)
    assert [mass.lower for mass in found] == pytest.approx([mass.lower for mass in expected], rel=1e-4)
    with pytest.raises(EnvironmentFault, match=r"beginnings of one record with a prompt of 9 tokens .* narrower beam"):
        near_verbatim_masses(own, given, suffixes, DECODING, 2, width=32)


def test_a_stop_request_is_heard(llama, given, suffixes):
    stop = StopRequest()
    stop.ask()
    with pytest.raises(Interrupted):
        near_verbatim_masses(llama, given, suffixes, DECODING, 1, stop=stop)


def test_logits_that_are_no_numbers_are_an_error_and_no_bound(given, suffixes):
    own = model("llama")
    own.module.get_output_embeddings().weight.data[3] = float("nan")
    with pytest.raises(ModelError, match="gave NaN or infinite logits while near-verbatim"):
        near_verbatim_masses(own, given, suffixes, DECODING, 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (([[1], [2]], [[1]], DECODING, 1), r"2 prompts have 1 suffixes\. Expected one for each"),
        (([[1], []], [[1], [1]], DECODING, 1), r"1 of 2 prompts are empty\. Expected at least one token each"),
        (([[1], [2]], [[1], []], DECODING, 1), r"The suffix of a near-verbatim search is empty"),
        (([[1]], [[1]], (40, 0.0), 1), r"Decoding \(k 40, temperature 0\.0\) is not possible here"),
        (([[1]], [[1]], (-1, 1.0), 1), r"Decoding \(k -1, temperature 1\.0\) is not possible here"),
        (([[1]], [[1]], DECODING, -1), r"The edit budget -1 is not possible"),
    ],
)
def test_requests_that_make_no_sense_are_refused(llama, asked, message):
    with pytest.raises(ConfigError, match=message):
        near_verbatim_masses(llama, *asked)
