"""Gates: a planted difference in kind is caught, a fair split passes as often as stated, and nothing else fails."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from loraudit.statistics import auc, auc_p_value, holm
from loraudit.synthetic import private_records
from loraudit.types import RecordFacts
from loraudit.validity.blind import BAG_OF_WORDS, LENGTH, ZLIB, bag_of_words_scores, blind_scores
from loraudit.validity.gates import GateInput, judge_gates, oriented, strongest_blind
from loraudit.validity.words import Words

NAN = math.nan
BLIND = ("bag_of_words", "length", "zlib_ratio")


@pytest.fixture(scope="module")
def pool() -> list[str]:
    return private_records(1600, seed=21)


def facts(texts: Sequence[str]) -> RecordFacts:
    raw = [text.encode() for text in texts]
    return RecordFacts(np.array([len(b) for b in raw]), np.array([len(zlib.compress(b)) for b in raw]))


def given(is_member, *, blind=None, controls=None, headline=None, groups=None, near=None, shares=None) -> GateInput:
    n = len(is_member)
    return GateInput(
        is_member=is_member,
        blind=blind or {},
        controls=controls or {},
        headline=np.full(n, NAN) if headline is None else headline,
        groups=groups,
        has_near_duplicate=np.zeros(n, dtype=bool) if near is None else near,
        ngram_share=np.full(n, NAN) if shares is None else shares,
        usual_share=NAN,
    )


def judged(about: GateInput, *, confidence: float = 0.95, seed: int = 0):
    gates = judge_gates(about, confidence=confidence, rng=np.random.default_rng(seed))
    return {gate.name: gate for gate in gates}


def panel(members, nonmembers, *, groups=None, seed: int = 0):
    """The gates over texts: what an audit would look at without any model."""
    texts = [*members, *nonmembers]
    is_member = np.arange(len(texts)) < len(members)
    rng = np.random.default_rng(seed)
    blind = blind_scores(Words.of(texts), facts(texts), is_member, groups=groups, rng=rng)
    return judged(given(is_member, blind=blind, groups=groups), seed=seed)


def halves(n: int = 100):
    return np.arange(2 * n) < n


def failed(gates) -> set[str]:
    return {name for name, gate in gates.items() if gate.status == "failed"}


# ---------------------------------------------------------------------------------------------
# Planted differences
# ---------------------------------------------------------------------------------------------


def test_another_topic_is_caught_by_the_words_alone():
    """One template, nouns of a garden against nouns of a ship, each as long as its counterpart."""
    rng = np.random.default_rng(0)
    gardens, ships = ("rose", "lawn", "seed", "moss", "fern"), ("mast", "sail", "keel", "helm", "hull")
    tails = private_records(160, seed=5)

    def written(nouns, tail: str) -> str:
        return f"Yesterday the {rng.choice(nouns)} stood beside the {rng.choice(nouns)}. {tail}"

    found = panel([written(gardens, t) for t in tails[:80]], [written(ships, t) for t in tails[80:]])
    assert failed(found) == {"bag_of_words"}
    assert found["bag_of_words"].finding.value > 0.85


def test_records_chosen_by_a_word_are_caught(pool):
    """Members all hold a word that one record in a few holds."""
    with_word = [text for text in pool if " my " in text.lower()][:150]
    rest = [text for text in pool if text not in set(with_word)][:150]
    share = np.mean([" my " in text.lower() for text in rest])
    assert len(with_word) == 150
    assert share < 0.7
    assert "bag_of_words" in failed(panel(with_word, rest))


def test_another_length_is_caught(pool):
    texts = [text.split() for text in pool[:300]]
    found = panel([" ".join(words[:44]) for words in texts[:150]], [" ".join(words[:38]) for words in texts[150:]])
    assert {"length", "length_law"} <= failed(found)
    assert found["length"].finding.value > 0.7


def test_the_same_mean_length_with_another_spread_is_caught_by_the_law(pool):
    """Lengths of 40 words against 30 or 50: the AUC is a half, the distribution is not the same."""
    rng = np.random.default_rng(1)
    is_member = halves(150)
    lengths = np.where(is_member, rng.normal(200, 5, 300), 200 + rng.choice([-50, 50], 300) + rng.normal(0, 5, 300))
    found = judged(given(is_member, blind={LENGTH: lengths}))
    assert failed(found) == {"length_law"}
    expected = stats.ks_2samp(lengths[is_member], lengths[~is_member], method="asymp").pvalue
    assert found["length_law"].p_value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda y, m, d: f"{y}-{m:02}-{d:02}", lambda y, m, d: f"{MONTHS[m - 1]} {d}, {y}"),
        (lambda y, m, d: f"{y}-{m:02}-{d:02}", lambda y, m, d: f"{d:02}/{m:02}/{y}"),
        (lambda y, m, d: f"{d:02}.{m:02}.{y}", lambda y, m, d: f"{d:02}/{m:02}/{y}"),
    ],
    ids=["iso and words", "iso and slashes", "dots and slashes"],
)
def test_another_style_of_dates_is_caught_whatever_the_dates(pool, one, other):
    rng = np.random.default_rng(2)
    plain = [text for text in pool if not any(c.isdigit() for c in text)][:40] + pool[:160]

    def dated(text: str, style) -> str:
        year, month, day = int(rng.integers(1970, 2024)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
        return f"{text} Written on {style(year, month, day)} at home."

    found = panel([dated(t, one) for t in plain[::2]], [dated(t, other) for t in plain[1::2]])
    assert "bag_of_words" in failed(found)
    assert found["bag_of_words"].finding.value > 0.8


MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)


def test_repetitive_text_of_the_same_length_is_caught_by_its_compression():
    """Members compress better, so the AUC is below a half: the test looks at either side."""
    rng = np.random.default_rng(3)
    letters = list("abcdefghij")
    members = ["".join(rng.choice(letters, 60)) * 3 for _ in range(60)]
    nonmembers = ["".join(rng.choice(letters, 180)) for _ in range(60)]
    found = panel(members, nonmembers)
    assert failed(found) == {"zlib_ratio"}
    assert found["zlib_ratio"].finding.value < 0.05
    assert found["length"].status == "passed"
    assert found["length"].finding.value == 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_of_the_reference_alone_that_tells_the_sides_apart_is_caught(sign):
    rng = np.random.default_rng(4)
    is_member = halves(150)
    blind = {"reference_loss": sign * (rng.normal(size=300) + 0.7 * is_member), "reference_min_k": rng.normal(size=300)}
    found = judged(given(is_member, blind=blind))
    assert failed(found) == {"reference_loss"}
    gate = found["reference_loss"]
    assert gate.kind == "blind"
    assert "loss on the reference" in gate.summary
    assert gate.finding.value == pytest.approx(auc(blind["reference_loss"][:150], blind["reference_loss"][150:]))
    assert (gate.finding.lower > 0.5) if sign > 0 else (gate.finding.upper < 0.5)


# ---------------------------------------------------------------------------------------------
# Controls
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [np.zeros(200), np.full(200, NAN), np.full(200, 0.1)])
def test_controls_that_say_the_same_of_everybody_pass_together(values):
    rng = np.random.default_rng(5)
    controls = {"control_error_zone": values, "control_sign": values, "control_zlib": rng.normal(size=200)}
    found = judged(given(halves(), controls=controls))
    gate = found["reference_as_target"]
    assert (gate.kind, gate.status, gate.p_value) == ("control", "passed", None)
    assert "2 of 3 attacks give every record the same score" in gate.reason
    assert found["control_zlib"].p_value is not None
    assert found["control_zlib"].p_holm == found["control_zlib"].p_value  # the others are no tests


def test_without_an_attack_that_compares_there_is_no_control():
    assert judged(given(halves()))["reference_as_target"].status == "not_measured"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_control_that_tells_the_sides_apart_is_caught(sign):
    rng = np.random.default_rng(5)
    is_member = halves()
    controls = {
        "control_loss_ratio": sign * (rng.normal(size=200) + is_member),
        "control_window_vote": rng.normal(size=200),
    }
    found = judged(given(is_member, controls=controls))
    assert failed(found) == {"control_loss_ratio"}
    assert found["control_window_vote"].p_value is not None


@pytest.mark.parametrize("shift", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_shuffled_labels_pass_for_an_honest_headline_however_strong(shift, ties, grouped):
    rng = np.random.default_rng(6)
    is_member = halves(120)
    groups = np.arange(240) // 4 if grouped else None
    headline = rng.normal(size=240) + shift * is_member
    if groups is not None:
        headline = headline + rng.normal(size=60)[groups]
    headline = np.round(headline) if ties else headline
    gate = judged(given(is_member, headline=headline, groups=groups))["shuffled_labels"]
    assert (gate.kind, gate.status) == ("control", "passed")
    assert gate.reason.startswith("AUC 0.")


def test_shuffled_labels_catch_an_interval_that_does_not_hold():
    """One document of a thousand records beside nine single ones a side: no interval by documents can be right."""
    rng = np.random.default_rng(7)
    groups = np.concatenate([np.zeros(1000, int), np.arange(1, 30)])
    is_member = groups < 10
    headline = rng.normal(size=len(groups)) + 3 * (groups == 0)
    gate = judged(given(is_member, headline=headline, groups=groups))["shuffled_labels"]
    assert gate.status == "failed"


# ---------------------------------------------------------------------------------------------
# Documents and overlap
# ---------------------------------------------------------------------------------------------


def test_a_document_on_both_sides_fails():
    groups = np.concatenate([np.arange(50), np.arange(47, 97)])
    gate = judged(given(halves(50), groups=groups))["documents"]
    assert (gate.kind, gate.status) == ("overlap", "failed")
    assert "3 of 97 documents" in gate.reason
    assert "(6 records)" in gate.reason


def test_documents_on_one_side_each_pass_and_unnamed_ones_are_not_measured():
    gate = judged(given(halves(50), groups=np.arange(100) // 5))["documents"]
    assert gate.status == "passed"
    gate = judged(given(halves(50)))["documents"]
    assert gate.status == "not_measured"
    assert "--group-field" in gate.reason


def test_near_duplicates_warn_and_count_nonmembers_alone():
    near = np.zeros(200, dtype=bool)
    near[[0, 1, 2, 150]] = True
    gate = judged(given(halves(), near=near))["near_duplicates"]
    assert gate.status == "warned"
    assert gate.reason.startswith("1 of 100 non-members")
    assert judged(given(halves(), near=np.arange(200) < 5))["near_duplicates"].status == "passed"


@pytest.mark.parametrize(("n_copies", "status"), [(0, "passed"), (1, "passed"), (2, "warned")])
def test_more_than_one_nonmember_in_a_hundred_of_shared_sequences_warns(n_copies, status):
    shares = np.concatenate([np.full(100, NAN), np.full(n_copies, 0.8), np.full(100 - n_copies, 0.79)])
    assert judged(given(halves(), shares=shares))["ngram_overlap"].status == status


def test_shared_sequences_of_short_texts_are_not_measured():
    gate = judged(given(halves()))["ngram_overlap"]
    assert (gate.status, gate.reason) == ("not_measured", "no non-member has 7 words")


# ---------------------------------------------------------------------------------------------
# What cannot be judged
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_members", "n_nonmembers"), [(9, 200), (200, 9), (0, 50)])
def test_too_few_records_are_not_judged_and_say_so(n_members, n_nonmembers):
    rng = np.random.default_rng(8)
    n = n_members + n_nonmembers
    is_member = np.arange(n) < n_members
    values = rng.normal(size=n) + 9 * is_member
    found = judged(
        given(is_member, blind={BAG_OF_WORDS: values, LENGTH: values}, controls={"control_x": values}, headline=values)
    )
    for name in ("bag_of_words", "length", "length_law", "control_x", "shuffled_labels"):
        assert found[name].status == "not_measured", name
        assert "fewer than 10" in found[name].reason
        assert found[name].p_value is None
    assert not failed(found)


def test_ten_records_a_side_are_judged():
    values = np.arange(20.0)
    found = judged(given(np.arange(20) >= 10, blind={LENGTH: values}, headline=values))
    assert found["length"].status == "failed"
    assert found["length"].p_value == pytest.approx(2 * 0.5**10)
    assert found["shuffled_labels"].status == "passed"


def test_records_without_a_score_are_counted_and_do_not_count_as_records():
    rng = np.random.default_rng(9)
    is_member = halves(40)
    values = rng.normal(size=80)
    values[:31] = NAN
    values[-5:] = NAN
    gate = judged(given(is_member, blind={"reference_loss": values}))["reference_loss"]
    assert gate.status == "not_measured"  # nine members are left
    values[30] = 0.0
    gate = judged(given(is_member, blind={"reference_loss": values}))["reference_loss"]
    assert gate.status == "passed"
    counted = gate.finding
    assert (counted.n_members, counted.n_nonmembers) == (10, 35)
    assert (counted.n_undefined_members, counted.n_undefined_nonmembers) == (30, 5)


def test_one_document_a_side_tells_nothing_of_the_spread():
    rng = np.random.default_rng(10)
    is_member = halves(50)
    found = judged(given(is_member, blind={LENGTH: rng.normal(size=100)}, groups=(~is_member).astype(int)))
    assert found["length"].status == "not_measured"
    assert "too few documents" in found["length"].reason
    assert found["length_law"].status == "not_measured"


def test_a_blind_score_that_is_the_same_for_everybody_passes():
    found = judged(given(halves(), blind={LENGTH: np.full(200, 80.0)}))
    assert found["length"].status == "passed"
    assert found["length"].p_value == 1
    assert found["length_law"].status == "passed"


# ---------------------------------------------------------------------------------------------
# One family of tests
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_all_that_test_are_one_family_corrected_by_holm(confidence):
    """A score whose p-value alone would fail passes among its fellows; the words are tested upwards alone."""
    rng = np.random.default_rng(11)
    is_member = halves(150)
    blind = {name: rng.normal(size=300) + shift * is_member for name, shift in zip(BLIND, (-2, 0.28, 0), strict=True)}
    controls = {"control_a": rng.normal(size=300), "control_b": np.zeros(300)}
    found = judged(given(is_member, blind=blind, controls=controls), confidence=confidence)
    tested = {name: gate for name, gate in found.items() if gate.p_value is not None}
    assert set(tested) == {*BLIND, "length_law", "control_a"}
    assert found["bag_of_words"].p_value > 0.99  # far below a half, but it was taught to point up
    side = blind["zlib_ratio"][is_member], blind["zlib_ratio"][~is_member]
    assert found["zlib_ratio"].p_value == pytest.approx(auc_p_value(*side, alternative="two-sided"))
    corrected = holm(np.array([gate.p_value for gate in tested.values()]))
    assert [gate.p_holm for gate in tested.values()] == pytest.approx(list(corrected))
    for gate in tested.values():
        assert gate.status == ("failed" if gate.p_holm <= 1 - confidence else "passed")
    assert found["length"].p_value < 0.05


def test_a_tested_gate_fails_less_easily_among_more_gates():
    rng = np.random.default_rng(12)
    is_member = halves(100)
    values = rng.normal(size=200)
    values += (0.3 - (values[:100].mean() - values[100:].mean())) * is_member  # p of about 0.02 to 0.03
    alone = judged(given(is_member, blind={"reference_loss": values}))["reference_loss"]
    assert 0.005 < alone.p_value < 0.05
    assert alone.status == "failed"
    controls = {f"control_{i}": rng.normal(size=200) for i in range(9)}
    assert judged(given(is_member, blind={"reference_loss": values}, controls=controls))["reference_loss"].status == (
        "passed"
    )


def test_the_gates_say_which_model_never_saw_the_members():
    values = np.random.default_rng(0).normal(size=200)
    about = given(halves(), blind={"reference_loss": values}, controls={"control_a": values})
    for untouched, gates in (
        ("the reference", judged(about)),
        ("the base", judged(dataclasses.replace(about, untouched="the base"))),
    ):
        assert (
            gates["reference_loss"].summary == f"The attack loss on {untouched}, which was never tuned on the members"
        )
        assert gates["control_a"].summary == f"The attack a with {untouched} in the target's role"
        assert f"when {untouched} takes the target's role" in gates["reference_as_target"].summary


def test_gates_come_in_one_order():
    values = np.random.default_rng(0).normal(size=200)
    about = given(halves(), blind=dict.fromkeys(BLIND, values), controls={"control_a": values}, headline=values)
    assert list(judged(about)) == [
        *BLIND,
        "length_law",
        "reference_as_target",
        "control_a",
        "shuffled_labels",
        "near_duplicates",
        "ngram_overlap",
        "documents",
    ]


def test_clustered_scores_are_judged_by_documents():
    """Ten documents of thirty records a side whose scores agree: by records this is a difference, by documents none."""
    rng = np.random.default_rng(13)
    groups = np.arange(600) // 30
    is_member = halves(300)
    level = rng.normal(size=20)
    level[:10] += 0.5 - (level[:10].mean() - level[10:].mean())
    values = level[groups] + 0.1 * rng.normal(size=600)
    assert failed(judged(given(is_member, blind={LENGTH: values}))) == {"length", "length_law"}
    assert not failed(judged(given(is_member, blind={LENGTH: values}, groups=groups)))


# ---------------------------------------------------------------------------------------------
# The strongest blind classifier
# ---------------------------------------------------------------------------------------------


def test_blind_scores_are_turned_so_that_members_score_higher_but_not_the_trained_one():
    is_member = halves(10)
    rising = np.arange(20.0)  # members hold the low half
    assert oriented(rising, is_member, LENGTH).tolist() == (-rising).tolist()
    assert oriented(-rising, is_member, LENGTH).tolist() == (-rising).tolist()
    assert oriented(rising, is_member, BAG_OF_WORDS).tolist() == rising.tolist()
    gaps = np.where(np.arange(20) % 5 == 0, NAN, rising)
    np.testing.assert_array_equal(oriented(gaps, is_member, ZLIB), -gaps)


@pytest.mark.parametrize(
    ("shifts", "strongest"),
    [
        ({BAG_OF_WORDS: 1.0, LENGTH: 0.2, ZLIB: 0.0}, BAG_OF_WORDS),
        ({BAG_OF_WORDS: 0.2, LENGTH: -2.0, ZLIB: 1.0}, LENGTH),
        ({BAG_OF_WORDS: -3.0, LENGTH: 0.5, ZLIB: 0.0}, LENGTH),
        ({BAG_OF_WORDS: 0.2, LENGTH: 0.5, "reference_loss": -1.0}, "reference_loss"),
        ({BAG_OF_WORDS: NAN, LENGTH: 0.5}, LENGTH),
        ({BAG_OF_WORDS: NAN}, None),
        ({}, None),
    ],
)
def test_the_strongest_blind_classifier_is_the_one_that_separates_most(shifts, strongest):
    rng = np.random.default_rng(14)
    is_member = halves(200)
    blind = {name: rng.normal(size=400) + shift * is_member for name, shift in shifts.items()}
    assert strongest_blind(given(is_member, blind=blind)) == strongest


# ---------------------------------------------------------------------------------------------
# Blind scores
# ---------------------------------------------------------------------------------------------


def test_length_and_compression_are_those_of_the_facts(pool):
    texts = [*pool[:30], ""]
    known = facts(texts)
    known.n_bytes[-1] = 0
    found = blind_scores(Words.of(texts), known, np.arange(31) < 15, rng=np.random.default_rng(0))
    assert list(found) == list(BLIND)
    assert found["length"].tolist() == [len(text.encode()) for text in texts]
    assert found["zlib_ratio"][:-1] == pytest.approx(
        [len(zlib.compress(t.encode())) / len(t.encode()) for t in texts[:-1]]
    )
    assert math.isnan(found["zlib_ratio"][-1])


def bag(texts, is_member, *, groups=None, seed: int = 0):
    return bag_of_words_scores(Words.of(texts), is_member, groups=groups, rng=np.random.default_rng(seed))


def test_scores_of_the_words_are_ranks_within_folds_and_repeat_by_seed(pool):
    """Five folds of forty records: each holds the ranks 1/80, 3/80, …, 79/80 once."""
    is_member = np.arange(200) % 2 == 0
    found = bag(pool[:200], is_member)
    assert np.sort(found) == pytest.approx(np.repeat((np.arange(40) + 0.5) / 40, 5))
    np.testing.assert_array_equal(bag(pool[:200], is_member), found)
    assert (bag(pool[:200], is_member, seed=1) != found).any()


def test_a_record_is_never_scored_by_a_model_that_learnt_from_it():
    """Each text stands once on either side: learning a record by heart would score it high, its twin misleads."""
    rng = np.random.default_rng(15)
    fillers = [" ".join(f"{chr(97 + int(c))}o" for c in rng.integers(0, 26, 12)) for _ in range(200)]
    texts = [f"{filler} twin{chr(97 + i % 26)}{chr(97 + i // 26)}" for i, filler in enumerate(fillers[:100])] * 2
    is_member = np.arange(200) < 100
    found = bag(texts, is_member)
    assert auc(found[is_member], found[~is_member]) < 0.3


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 0, 1, 1, 2])])
def test_fewer_than_two_documents_on_a_side_have_no_score(groups):
    is_member = np.array([True] * (1 if groups is None else 3) + [False] * (5 if groups is None else 3))
    assert np.isnan(bag(["a b c", "a b d", "b c d", "c d e", "d e f", "a e f"], is_member, groups=groups)).all()


def test_texts_without_a_common_word_score_alike():
    texts = ["alpha beta", "gamma delta", "epsilon zeta", "eta theta", "", ""]
    assert bag(texts, np.array([True, False, True, False, True, False])).tolist() == [0.5] * 6


def documents_with_own_words(rng, n_documents: int, n_each: int):
    """Each document has two words of its own in every record, among words that all share."""
    common = ["house", "river", "letter", "garden", "night", "winter", "bread", "street", "music", "stone"]
    texts = []
    for document in range(n_documents):
        own = [f"own{chr(97 + document // 26)}{chr(97 + document % 26)}{x}" for x in "xy"]
        texts += [" ".join([*rng.choice(common, 10), *own]) for _ in range(n_each)]
    return texts, np.repeat(np.arange(n_documents), n_each)


def test_a_word_of_one_document_helps_nobody_whose_document_is_in_another_fold():
    """Documents are dealt to sides at random: nothing is to be learnt, unless folds cut through documents."""
    rng = np.random.default_rng(16)
    areas, leaky = [], []
    for _ in range(8):
        texts, groups = documents_with_own_words(rng, 40, 6)
        is_member = (rng.permutation(40) < 20)[groups]
        found = bag(texts, is_member, groups=groups)
        areas.append(auc(found[is_member], found[~is_member]))
        found = bag(texts, is_member)
        leaky.append(auc(found[is_member], found[~is_member]))
    assert np.mean(areas) < 0.55
    assert max(areas) < 0.7
    assert min(leaky) > 0.95


# ---------------------------------------------------------------------------------------------
# Fair splits
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fair_split_passes_as_often_as_stated(pool):
    """Sixty splits of 200 + 200 records with two model scores: 95 % hold, 85 % is three standard errors below."""
    rng = np.random.default_rng(17)
    is_member = halves(200)
    n_held = 0
    for _ in range(60):
        texts = [pool[i] for i in rng.choice(len(pool), 400, replace=False)]
        blind = blind_scores(Words.of(texts), facts(texts), is_member, rng=rng)
        blind["reference_loss"] = 0.01 * blind["length"] + rng.normal(size=400)
        controls = {"control_zlib": blind["zlib_ratio"] + 0.05 * rng.normal(size=400)}
        n_held += not failed(judged(given(is_member, blind=blind, controls=controls)))
    assert n_held >= 0.85 * 60


def test_a_fair_split_of_documents_passes_as_often_as_stated():
    """Forty splits of documents whose records share words and lengths; sides differ by documents, not by kind."""
    rng = np.random.default_rng(18)
    n_held = n_naive = 0
    for _ in range(40):
        texts, groups = documents_with_own_words(rng, 60, 5)
        lengths = rng.integers(0, 12, 60)[groups]
        texts = [text + " house" * int(n) for text, n in zip(texts, lengths, strict=True)]
        is_member = (rng.permutation(60) < 30)[groups]
        blind = blind_scores(Words.of(texts), facts(texts), is_member, groups=groups, rng=rng)
        n_held += not failed(judged(given(is_member, blind=blind, groups=groups)))
        n_naive += not failed(judged(given(is_member, blind={LENGTH: blind["length"]})))
    assert n_held >= stats.binom.ppf(0.001, 40, 0.95)
    assert n_naive < stats.binom.ppf(0.001, 40, 0.95)
