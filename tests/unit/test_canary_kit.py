"""Drawing canaries, putting them between lines, sealing manifests, and what ranks and coins say."""

from __future__ import annotations

import json
import math
import secrets

import numpy as np
import pytest
from scipy import stats

from loraudit.canaries import (
    N_SECRETS,
    coin_canaries,
    draw_canaries,
    exposures,
    inclusion_problems,
    level_of,
    mean_interval,
    n_lines_of,
    planted_lines,
    reference_secrets,
    seal_of,
    sealed,
    stated_epsilon,
)
from loraudit.canaries.exposure import fisher_p_value
from loraudit.canaries.law import FIRST_NAMES, LAST_NAMES, TOWNS, WORDS, draw_secret
from loraudit.canaries.words import controls_stand_out, epsilon_words, heading_of, sentence_of
from loraudit.spec import Canary, CanaryInsertSpec, CanaryManifest, EpsilonResult, RecordFormat
from loraudit.statistics import epsilon_from_guesses


def system_coin() -> bool:
    return bool(secrets.randbits(1))


def drawn(spec: CanaryInsertSpec, *, n_lines: int = 100, seed: int = 0, flip=None) -> list[Canary]:
    coins = np.random.default_rng(99)
    return draw_canaries(spec, n_lines, rng=np.random.default_rng(seed), flip=flip or (lambda: bool(coins.integers(2))))


def manifest_of(canaries: list[Canary], **changes) -> CanaryManifest:
    return sealed(
        CanaryManifest(
            loraudit="0",
            spec=CanaryInsertSpec(data="train.jsonl", **changes),
            seed=0,
            form="text",
            n_secrets=N_SECRETS,
            reference_key="00",
            source_sha256="",
            planted_sha256="",
            canaries=canaries,
            digest="",
        )
    )


SPEC = CanaryInsertSpec(data="train.jsonl")


# --- drawing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [WORDS, FIRST_NAMES, LAST_NAMES, TOWNS])
def test_no_word_stands_twice(words):
    assert len(set(words)) == len(words)
    assert all(word.isalpha() for word in words)


def test_every_secret_is_equally_likely():
    rng = np.random.default_rng(3)
    parts = [draw_secret(rng).split() for _ in range(20_000)]
    for position in range(3):
        counts = np.unique([words[position] for words in parts], return_counts=True)[1]
        assert len(counts) == len(WORDS)
        assert stats.chisquare(counts).pvalue > 1e-4
    numbers = np.array([int(words[3]) for words in parts])
    assert stats.chisquare(np.histogram(numbers, bins=100, range=(0, 10_000))[0]).pvalue > 1e-4
    assert len(WORDS) ** 3 * 10_000 == N_SECRETS > 2**37


def test_contexts_stand_once_and_uses_are_those_asked_for():
    canaries = drawn(CanaryInsertSpec(data="f.jsonl", coins=50, repeats=(1, 4), per_repeats=6))
    assert len({canary.context for canary in canaries}) == len(canaries) == 50 + 6 + 6
    assert [canary.use for canary in canaries].count("coin") == 50
    for canary in canaries:
        expected = {"control": 0, "repeats": 4, "coin": int(bool(canary.coin))}[canary.use]
        assert len(canary.places) == expected
        assert (canary.coin is None) == (canary.use != "coin")
        assert all(0 <= place <= 100 for place in canary.places)


def test_without_coins_single_copies_are_put_in_by_choice():
    canaries = drawn(CanaryInsertSpec(data="f.jsonl", coins=0, repeats=(1, 4), per_repeats=6))
    assert sorted({len(canary.places) for canary in canaries}) == [0, 1, 4]
    chosen = drawn(CanaryInsertSpec(data="f.jsonl", coins=30, inclusion="chosen"))
    assert all(len(canary.places) == 1 and canary.coin is None for canary in coin_canaries(manifest_of(chosen)))


def test_a_seed_repeats_contexts_and_secrets_but_never_coins():
    spec = CanaryInsertSpec(data="f.jsonl", coins=200)
    one, two = (drawn(spec, seed=5, flip=system_coin) for _ in range(2))
    assert [(c.context, c.secret) for c in one] == [(c.context, c.secret) for c in two]
    assert [c.coin for c in one] != [c.coin for c in two]


def test_the_systems_coins_are_fair():
    from loraudit.planting.insert import _system_coin

    heads = sum(_system_coin() for _ in range(20_000))
    assert stats.binomtest(heads, 20_000).pvalue > 1e-6


def test_the_order_says_nothing_about_coins():
    """Guesses break ties by order, so that order must not know how coins fell."""
    spec = CanaryInsertSpec(data="f.jsonl", coins=60)
    falls = [bool(fall) for fall in np.random.default_rng(1).integers(2, size=60)]
    of = iter(falls)
    canaries = drawn(spec, flip=lambda: next(of))
    assert [c.coin for c in canaries if c.use == "coin"] == falls
    assert [c.name for c in canaries] == sorted(c.name for c in canaries)


def test_references_are_repeatable_distinct_and_never_the_secret():
    found = reference_secrets("ab", "c1", "acorn amber anchor 0001", 500)
    assert found == reference_secrets("ab", "c1", "acorn amber anchor 0001", 500)
    assert len(set(found)) == 500
    assert found != reference_secrets("ab", "c2", "acorn amber anchor 0001", 500)
    assert found != reference_secrets("cd", "c1", "acorn amber anchor 0001", 500)
    without = reference_secrets("ab", "c1", found[0], 500)
    assert found[0] not in without
    assert without[:499] == found[1:]


# --- lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "one"}\n{"text":"two" }\n\n  {"text": "\xc3\xa9"}\n',
        b'{"text": "one"}\r\n{"text": "two"}\r\n',
        b'\xef\xbb\xbf{"text": "one"}\n{"text": "two"}',
        b'{"text": "a\\u2028b"}\n{"text": "x\x0by"}\n',
    ],
    ids=["blank line", "crlf", "mark and no last end", "odd line ends"],
)
def test_every_other_line_keeps_its_bytes_and_order(content):
    canaries = drawn(SPEC, n_lines=n_lines_of(content))
    planted = planted_lines(content, canaries, "text", RecordFormat(), ["text"])
    secret = [canary.secret.encode() for canary in canaries]
    kept = [line for line in planted.split(b"\n") if not any(one in line for one in secret)]
    ours = [line.rstrip(b"\r") for line in planted.split(b"\n") if any(one in line for one in secret)]
    mark = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
    assert planted.startswith(mark)
    original = content[len(mark) :].split(b"\n")
    assert [line.removeprefix(mark) for line in kept if line.removeprefix(mark).strip(b"\r\n")] == [
        line for line in original if line.strip(b"\r\n")
    ]
    assert len(ours) == sum(len(canary.places) for canary in canaries)
    rows = [json.loads(line.removeprefix(mark)) for line in ours]
    assert {row["text"] for row in rows} == {f"{c.context} {c.secret}" for c in canaries if c.is_included}


def test_places_are_where_the_manifest_says():
    canary = Canary(name="c1", use="repeats", repeats=3, context="A:", secret="b", places=(0, 2, 2))
    planted = planted_lines(b"x\ny\nz\n", [canary], "line", RecordFormat(), [])
    assert planted == b"A: b\nx\ny\nA: b\nA: b\nz\n"


def test_rows_have_the_files_own_columns():
    canary = Canary(name="c7", use="repeats", repeats=1, context="A:", secret="b", places=(0,))
    layout = RecordFormat(prompt_field="q", completion_field="a", id_field="key", group_field="doc")
    line = planted_lines(b"", [canary], "prompt", layout, ["key", "q", "a", "doc", "score"])
    row = json.loads(line)
    assert row == {"key": "c7", "q": "A:", "a": " b", "doc": "c7", "score": None}
    assert list(row) == ["key", "q", "a", "doc", "score"]
    chat = json.loads(planted_lines(b"", [canary], "messages", RecordFormat(), ["messages"]))
    assert chat["messages"] == [{"role": "user", "content": "A:"}, {"role": "assistant", "content": "b"}]


# --- exposure -----------------------------------------------------------------------------------------


def slow_exposure(row):
    """Ties and references without a score rank before the secret."""
    rank = 1 + sum(not (round(float(other), 5) < round(float(row[0]), 5)) for other in row[1:])
    return math.log2(len(row)) - math.log2(rank)


def test_exposure_is_the_slow_loop():
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(50, 30)), 1)
    scores[3, 7] = np.nan
    found = exposures(scores)
    np.testing.assert_allclose(found.bits, [slow_exposure(row) for row in scores])
    np.testing.assert_allclose(found.p_values, 2.0**-found.bits)


def test_ties_count_against_the_secret_and_noise_breaks_none():
    scores = np.zeros((1, 100))
    scores[0, 1:] -= 1e-8
    assert exposures(scores).bits[0] == 0


def test_a_secret_without_a_score_is_undefined():
    scores = np.zeros((2, 5))
    scores[0, 0] = np.nan
    scores[1, 0] = 1
    found = exposures(scores)
    assert np.isnan(found.ranks[0])
    assert np.isnan(found.p_values[0])
    assert found.ranks[1] == 1


def test_p_values_of_what_was_never_trained_on_are_uniform():
    rng = np.random.default_rng(1)
    p = exposures(rng.normal(size=(20_000, 20))).p_values
    counts = np.unique(np.round(p * 20).astype(int), return_counts=True)[1]
    assert len(counts) == 20
    assert stats.chisquare(counts).pvalue > 1e-4


def test_fisher_holds_its_level_for_ranks_among_few():
    rng = np.random.default_rng(2)
    p = np.array([fisher_p_value(exposures(rng.normal(size=(16, 20))).bits) for _ in range(2000)])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(p <= level) <= stats.binom(2000, level).ppf(0.999) / 2000
    assert math.isnan(fisher_p_value(np.array([])))


@pytest.mark.parametrize("n", [8, 16, 64])
def test_intervals_of_the_mean_hold_it(n):
    rng = np.random.default_rng(3)
    truth = np.mean(np.log2(100) - np.log2(np.arange(1, 101)))
    held = 0
    for _ in range(400):
        values = exposures(rng.normal(size=(n, 100))).bits
        low, high = mean_interval(values, math.log2(100), confidence=0.95, n_resamples=200, rng=rng)
        held += low <= truth <= high
    assert held / 400 > 0.9


def test_canaries_that_are_all_alike_still_have_a_width():
    low, high = mean_interval(np.full(10, 6.0), 6.0, confidence=0.95, n_resamples=100, rng=np.random.default_rng(0))
    assert high == 6.0
    assert low == pytest.approx(6 * 0.025**0.1)
    low, high = mean_interval(np.zeros(10), 6.0, confidence=0.95, n_resamples=100, rng=np.random.default_rng(0))
    assert low == 0
    assert high == pytest.approx(6 * (1 - 0.025**0.1))
    alone = mean_interval(np.ones(1), 6.0, confidence=0.95, n_resamples=100, rng=np.random.default_rng(0))
    assert np.isnan(alone).all()


def level(bits_rows, repeats=4):
    found = exposures(np.asarray(bits_rows, dtype=float))
    return level_of(
        repeats,
        found,
        None,
        found.p_values < 0.1,
        n_references=np.shape(bits_rows)[1] - 1,
        confidence=0.95,
        n_resamples=100,
        rng=np.random.default_rng(0),
    )


def test_a_level_counts_what_it_has():
    scores = np.zeros((4, 20))
    scores[:2, 0] = 1
    scores[3, 0] = np.nan
    found = level(scores)
    assert (found.n, found.n_undefined, found.n_exposed) == (3, 1, 2)
    assert found.first.value == pytest.approx(2 / 3)
    assert found.exposure.value == pytest.approx(2 * math.log2(20) / 3)
    assert found.exposure.n_nonmembers == 3 * 19


# --- ε ------------------------------------------------------------------------------------------------


def coin_manifest(m=100, **changes):
    return manifest_of(drawn(CanaryInsertSpec(data="f.jsonl", coins=m)), **changes)


def coins_of(manifest):
    return np.array([canary.coin for canary in coin_canaries(manifest)])


def test_all_right_reaches_the_ceiling_and_no_more():
    manifest = coin_manifest()
    found = stated_epsilon(manifest, coins_of(manifest).astype(float), shares=(0.5,), delta=1e-5, confidence=0.95)
    assert found.status == "stated"
    assert [row.n_correct for row in found.guesses] == [50]
    assert 0 < found.epsilon == found.ceiling


def test_several_numbers_of_guesses_share_the_error():
    manifest = coin_manifest()
    scores = np.random.default_rng(0).normal(size=100) + coins_of(manifest)
    found = stated_epsilon(manifest, scores, shares=(1.0, 0.25, 0.25), delta=1e-5, confidence=0.95)
    assert [row.n_guesses for row in found.guesses] == [100, 25]
    assert [row.confidence for row in found.guesses] == pytest.approx([0.975, 0.975])
    for row in found.guesses:
        expected = epsilon_from_guesses(100, row.n_guesses, row.n_correct, delta=1e-5, confidence=row.confidence)
        assert (row.epsilon, row.ceiling) == (expected.epsilon, expected.ceiling)
    assert found.epsilon == max(row.epsilon for row in found.guesses)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_a_mechanism_of_known_epsilon_is_rarely_overstated(epsilon):
    """Randomised response on each coin, by the declared grid of guesses: the best row is picked with hindsight."""
    rng = np.random.default_rng(4)
    keeps = math.exp(epsilon) / (1 + math.exp(epsilon))
    n_over = 0
    for trial in range(150):
        falls = iter(rng.integers(2, size=200).astype(bool).tolist())
        spec = CanaryInsertSpec(data="f.jsonl", coins=200, per_repeats=2)
        manifest = manifest_of(drawn(spec, seed=trial, flip=lambda falls=falls: next(falls)))
        coins = coins_of(manifest)
        said = np.where(rng.random(200) < keeps, coins, ~coins)
        scores = said * 2 - 1 + rng.normal(scale=0.1, size=200)
        found = stated_epsilon(manifest, scores, shares=(1.0, 0.25), delta=0.0, confidence=0.95)
        n_over += found.epsilon > epsilon
    assert n_over <= stats.binom(150, 0.05).ppf(0.999)


def test_scores_that_know_nothing_prove_nothing():
    manifest = coin_manifest()
    found = stated_epsilon(manifest, np.zeros(100), shares=(1.0, 0.25), delta=1e-5, confidence=0.95)
    assert found.epsilon == 0
    assert "proves no ε above 0" in epsilon_words(found)


def refusal(manifest):
    n = len(coin_canaries(manifest))
    found = stated_epsilon(manifest, np.zeros(n), shares=(1.0,), delta=1e-5, confidence=0.95)
    assert found.status == "refused"
    assert found.epsilon is None
    assert found.guesses == []
    assert epsilon_words(found).startswith("No ε is stated.")
    return found.reason


def without_coin(canary, **changes):
    return canary.model_copy(update=changes) if canary.use == "coin" else canary


def test_epsilon_is_refused_where_inclusion_was_chosen():
    manifest = manifest_of(drawn(CanaryInsertSpec(data="f", coins=50, inclusion="chosen")), inclusion="chosen")
    assert "Inclusion was chosen (--inclusion chosen), not drawn" in refusal(manifest)


def test_epsilon_is_refused_where_a_coin_is_not_recorded():
    canaries = coin_manifest().canaries
    reason = refusal(manifest_of([without_coin(c, coin=None) for c in canaries]))
    assert "100 of 100 canaries lack the record of how their coin fell" in reason


def test_epsilon_is_refused_where_a_coin_was_not_followed():
    canaries = [without_coin(c, coin=not c.coin) if n < 3 else c for n, c in enumerate(coin_manifest().canaries)]
    assert "3 of 100 canaries stand elsewhere than their coin put them" in refusal(manifest_of(canaries))


def test_epsilon_is_refused_where_the_manifest_was_edited():
    manifest = coin_manifest()
    edited = manifest.model_copy(update={"canaries": manifest.canaries[::-1]})
    assert edited.digest != seal_of(edited)
    assert "its digest does not match" in refusal(edited)


def test_epsilon_is_refused_for_few_or_no_coins():
    assert "19 coins are too few" in refusal(coin_manifest(19))
    assert "No canary was left to a coin" in refusal(manifest_of(drawn(CanaryInsertSpec(data="f", coins=0))))


def test_epsilon_is_refused_where_copies_differ():
    canaries = coin_manifest().canaries
    other = [without_coin(c, repeats=2, places=c.places * 2) if n == 0 else c for n, c in enumerate(canaries)]
    assert "several numbers of copies" in refusal(manifest_of(other))


def test_epsilon_is_refused_for_coins_that_no_fair_one_gives():
    spec = CanaryInsertSpec(data="f.jsonl", coins=40)
    reason = refusal(manifest_of(drawn(spec, flip=lambda: True)))
    assert "40 of 40 coins fell in, which fair coins do less than once in a million times" in reason
    assert inclusion_problems(coin_manifest()) == []


# --- words --------------------------------------------------------------------------------------------


def test_words_say_what_the_unit_is():
    stated = EpsilonResult(
        status="stated",
        epsilon=1.5,
        ceiling=3.5,
        delta=1e-5,
        confidence=0.95,
        n_coins=100,
        n_included=50,
        repeats=1,
    )
    assert "an ε of at least 1.50 per record (δ = 1e-05, 95 % confidence; 100 coins could show at most 3.50)" in (
        epsilon_words(stated)
    )
    assert "per group of 4 equal records" in epsilon_words(stated.model_copy(update={"repeats": 4}))


def test_the_heading_follows_the_corrected_p_values_and_the_controls():
    shown = np.zeros((8, 20))
    shown[:, 0] = 1
    quiet = np.random.default_rng(8).normal(size=(8, 20))
    controls = level(quiet, repeats=0)
    assert not controls_stand_out(controls)
    exposed = level(shown).model_copy(update={"p_holm": 1e-6})
    hidden = level(quiet, repeats=1).model_copy(update={"p_holm": 0.4})
    assert heading_of([hidden, exposed], controls, 0.95) == "Planted secrets are exposed, from 4 copies on"
    assert heading_of([hidden], controls, 0.95) == "No planted secret is seen to be exposed"
    assert heading_of([exposed], level(shown, repeats=0), 0.95).startswith("Controls stand out")
    refused = stated_epsilon(coin_manifest(10), np.zeros(10), shares=(1.0,), delta=0, confidence=0.95)
    words = sentence_of([hidden, exposed], controls, 4.3, refused)
    assert "with 4 copies 4.32 (95 % interval" in words
    assert "with 1 copy" in words
    assert "never trained on" in words
