"""The bounds of the near-verbatim search against every continuation there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Hamming, Levenshtein

from loraudit.errors import ConfigError
from loraudit.memorization import edits
from loraudit.memorization.near_verbatim import EditBeam, NearVerbatimMass, near_verbatim_mass

VOCABULARY = 4
LENGTH = 5
WIDE = VOCABULARY**LENGTH


def law(seed, top_k):
    """A made-up model: every beginning has a distribution of its own over the top_k likeliest of four tokens."""

    def next_log_probs(prefixes):
        rows = []
        for prefix in prefixes:
            logits = np.random.default_rng([seed, *(int(token) + 1 for token in prefix)]).normal(0, 2, VOCABULARY)
            logits[np.argsort(-logits)[top_k:]] = -np.inf
            rows.append(logits - np.log(np.exp(logits).sum()))
        return np.array(rows)

    return next_log_probs


def outcomes(next_log_probs, end_ids):
    """Every continuation, ended by an end token or its length, with its probability."""
    for whole in itertools.product(range(VOCABULARY), repeat=LENGTH):
        first_end = next((t for t, token in enumerate(whole) if token in end_ids), LENGTH - 1)
        if any(whole[first_end + 1 :]):
            continue  # one text stands for all that begin with the same ended one
        text, total = whole[: first_end + 1], 0.0
        for t, token in enumerate(text):
            total += next_log_probs(np.array([text[:t]], dtype=int).reshape(1, -1))[0, token]
        yield text, np.exp(total)


def truth(next_log_probs, suffix, budget, distance, end_ids):
    edits = Hamming.distance if distance == "hamming" else Levenshtein.distance
    return sum(p for text, p in outcomes(next_log_probs, end_ids) if edits(text, suffix) <= budget)


CASES = {
    "seed": st.integers(0, 10_000),
    "suffix": st.lists(st.integers(0, VOCABULARY - 1), min_size=LENGTH, max_size=LENGTH),
    "budget": st.integers(0, 4),
    "top_k": st.integers(2, VOCABULARY),
    "distance": st.sampled_from(["hamming", "levenshtein"]),
    "end_ids": st.sampled_from([(), (3,), (0, 2)]),
}


@settings(max_examples=10)
@given(**CASES)
def test_a_beam_that_drops_nothing_finds_exactly_the_mass_there_is(seed, suffix, budget, top_k, distance, end_ids):
    model = law(seed, top_k)
    found = near_verbatim_mass(model, suffix, budget, distance=distance, width=WIDE, end_ids=end_ids)
    assert found.lower == pytest.approx(truth(model, suffix, budget, distance, end_ids), abs=1e-12)
    assert found.pruned == 0
    assert found.upper == pytest.approx(found.lower)


@settings(max_examples=10)
@given(width=st.integers(1, 12), **CASES)
def test_bounds_hold_the_truth_between_them_for_every_width(seed, suffix, budget, top_k, distance, end_ids, width):
    model = law(seed, top_k)
    found = near_verbatim_mass(model, suffix, budget, distance=distance, width=width, end_ids=end_ids)
    expected = truth(model, suffix, budget, distance, end_ids)
    assert found.lower <= expected + 1e-12
    assert found.lower + found.pruned >= expected - 1e-12
    assert found.lower >= found.verbatim
    assert found.n_beginnings <= 1 + width * (LENGTH - 1)


@settings(max_examples=10)
@given(seed=CASES["seed"], suffix=CASES["suffix"], distance=CASES["distance"], width=st.integers(1, 3))
def test_without_edits_the_mass_is_that_of_the_suffix(seed, suffix, distance, width):
    model = law(seed, VOCABULARY)
    steps = [model(np.array([suffix[:t]], dtype=int).reshape(1, -1))[0, token] for t, token in enumerate(suffix)]
    found = near_verbatim_mass(model, suffix, 0, distance=distance, width=width)
    assert found.lower == pytest.approx(np.exp(sum(steps)))
    assert found.verbatim == pytest.approx(found.lower)
    assert found.pruned == 0, "beginnings that differ are no loss: they are out of budget"


@settings(max_examples=10)
@given(seed=CASES["seed"], suffix=CASES["suffix"], budget=CASES["budget"], end_ids=CASES["end_ids"])
def test_tokens_left_out_of_the_candidates_change_no_bound_by_more_than_the_beam(seed, suffix, budget, end_ids):
    """What is not listed one by one is counted in one sum, and the truth stays between the bounds."""
    model = law(seed, VOCABULARY)
    beam = EditBeam(suffix, budget, width=2, end_ids=end_ids)
    while not beam.is_over:
        log_probs = model(beam.prefixes)
        others = np.setdiff1d(np.arange(VOCABULARY), beam.listed)
        tokens = np.tile(beam.listed, (len(log_probs), 1))
        with np.errstate(divide="ignore"):
            rest = np.log(np.exp(log_probs[:, others]).sum(1))
        beam.extend(tokens, log_probs[:, beam.listed], rest)
    expected = truth(model, suffix, budget, "levenshtein", end_ids)
    assert beam.mass().lower <= expected + 1e-12
    assert beam.mass().lower + beam.mass().pruned >= expected - 1e-12


def test_a_continuation_that_lacks_a_token_and_ends_for_it_early_is_found():
    model, suffix = law(3, VOCABULARY), [0, 1, 2, 0, 3]
    found = near_verbatim_mass(model, suffix, 1, width=WIDE, end_ids=(3,))
    assert found.lower == pytest.approx(truth(model, suffix, 1, "levenshtein", (3,)), abs=1e-12)


@pytest.mark.parametrize("may_end", [False, True])
def test_the_least_distance_of_a_beginning_is_that_of_its_best_continuation(may_end):
    """A lower one would leave beginnings in the beam that cannot end within the budget, and the bounds wide apart."""
    suffix = [0, 1, 0, 2]
    distance = edits.Levenshtein(len(suffix), may_end)
    is_equal = np.equal.outer(range(3), suffix)
    states, n = distance.start(), len(suffix)
    for t in range(1, n + 1):
        states = distance.after(states, is_equal, t - 1).reshape(-1, n + 1)
        for text, least in zip(itertools.product(range(3), repeat=t), distance.least(states, t), strict=True):
            more = range(n - t + 1) if may_end else [n - t]
            ends = (end for n_more in more for end in itertools.product(range(3), repeat=n_more))
            assert least == min(Levenshtein.distance([*text, *end], suffix) for end in ends)


def test_every_beginning_that_was_extended_is_counted():
    def even(prefixes):
        return np.full((len(prefixes), 2), np.log(0.5))

    found = near_verbatim_mass(even, [0, 1, 0], 1, distance="hamming")
    assert found.n_beginnings == 1 + 2 + 3  # nothing; 0 and 1; 00, 01 and 11


def test_the_upper_bound_is_a_probability_however_it_was_rounded():
    assert NearVerbatimMass(0.7, 0.3 + 1e-15, 0.0, 1).upper == 1


def test_a_suffix_that_the_decoding_cannot_say_has_no_verbatim_mass_but_may_have_near_ones():
    def only_zero(prefixes):
        log_probs = np.full((len(prefixes), 2), -np.inf)
        log_probs[:, 0] = 0
        return log_probs

    found = near_verbatim_mass(only_zero, [0, 1, 0], 1, width=4)
    assert (found.lower, found.verbatim, found.pruned) == (1.0, 0.0, 0.0)
    assert near_verbatim_mass(only_zero, [0, 1, 0], 0, width=4).lower == 0


def test_the_true_suffix_is_never_dropped_however_improbable():
    def rather_others(prefixes):
        return np.log(np.tile([0.98, 0.01, 0.01], (len(prefixes), 1)))

    found = near_verbatim_mass(rather_others, [1, 1, 1], 3, distance="hamming", width=1)
    assert found.verbatim == pytest.approx(1e-6)
    assert found.lower == pytest.approx(1e-4), "all that begins with the suffix up to its last token"
    assert found.upper == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("suffix", "budget", "options", "message"),
    [
        ([], 1, {}, r"suffix of a near-verbatim search is empty\. Expected at least one token"),
        ([1], -1, {}, r"edit budget -1 is not possible\. Expected 0 or more tokens"),
        ([1], 1, {"width": 0}, r"beam width 0 is not possible\. Expected at least 1"),
        ([1], 1, {"distance": "jaro"}, r"Edit distance 'jaro' is not known\. Expected hamming or levenshtein"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(suffix, budget, options, message):
    with pytest.raises(ConfigError, match=message):
        EditBeam(suffix, budget, **options)
