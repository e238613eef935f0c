"""Attacks on altered copies, and the copies: against slow loops and by their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.auditing.copies.slow import score_apart, with_gaps
from loraudit.data import Encoded, Proposals, behind_prefix, draw_substitutions, joined_prefix, with_substitutions
from loraudit.membership import ATTACKS
from loraudit.membership.slow import neighbourhood, recall, spv_mia
from loraudit.testing import FakeTarget, fake_facts, fake_scores
from loraudit.types import RecordFacts, TokenScores, Views

# --- attacks: slow and obvious ------------------------------------------------------------------------


def scores_of(log_prob) -> TokenScores:
    log_prob = np.asarray(log_prob, dtype=np.float64)
    zeros = np.zeros(log_prob.shape, np.float32)
    return TokenScores(log_prob, log_prob > -1.0, zeros, zeros - 2, zeros + 1, np.zeros(log_prob.shape, np.uint8))


def views_of(**models) -> Views:
    n = len(next(iter(models.values())))
    named = {name.replace("_at_", "/"): scores_of(log_prob) for name, log_prob in models.items()}
    return Views(named, RecordFacts(np.full(n, 500), np.full(n, 250)))


def some_views(seed=0, *, n=12, n_tokens=9, n_neighbours=3) -> Views:
    rng = np.random.default_rng(seed)
    names = ["target", "reference", "prefixed"]
    names += [f"{side}neighbour_at_{k}" for side in ("", "reference_") for k in range(n_neighbours)]
    return views_of(**{name: -rng.exponential(2.0, (n, n_tokens)) for name in names})


def mean(row) -> float:
    return sum(float(x) for x in row) / len(row)


def test_neighbourhood_equals_the_loop():
    views = some_views()
    expected = [
        mean(views.target.log_prob[i]) - mean([mean(views[f"neighbour/{k}"].log_prob[i]) for k in range(3)])
        for i in range(12)
    ]
    np.testing.assert_allclose(neighbourhood.score(views), expected)


def test_spv_mia_equals_the_loop():
    views = some_views(1, n_neighbours=4)

    def variation_of(prefix, model, i) -> float:
        """The paper's, with p per token: mean over 2N paraphrases of p minus p(x)."""
        around = [math.exp(mean(views[f"{prefix}neighbour/{k}"].log_prob[i])) for k in range(4)]
        return sum(around) / 4 - math.exp(mean(views[model].log_prob[i]))

    expected = [-(variation_of("", "target", i) - variation_of("reference_", "reference", i)) for i in range(12)]
    np.testing.assert_allclose(spv_mia.score(views), expected)


def test_recall_equals_the_loop_and_its_edges():
    views = some_views(2)
    expected = [mean(views["prefixed"].log_prob[i]) / mean(views.target.log_prob[i]) for i in range(12)]
    np.testing.assert_allclose(recall.score(views), expected)
    edges = recall.score(views_of(target=[[0.0], [0.0], [-2.0]], prefixed=[[-1.0], [0.0], [0.0]]))
    assert edges[0] == math.inf
    assert math.isnan(edges[1])
    assert edges[2] == 0


def test_worked_by_hand():
    views = views_of(
        target=[[-1.0, -1.0]],
        reference=[[-2.0, -2.0]],
        neighbour_at_0=[[-1.0, -3.0]],
        neighbour_at_1=[[-1.0, -5.0]],
        reference_neighbour_at_0=[[-2.0, -2.0]],
        reference_neighbour_at_1=[[-2.0, -4.0]],
        prefixed=[[-2.0, -1.0]],
    )
    assert neighbourhood.score(views) == pytest.approx([-1 - (-2 - 3) / 2])
    of_target = math.exp(-1) - (math.exp(-2) + math.exp(-3)) / 2
    of_reference = math.exp(-2) - (math.exp(-2) + math.exp(-3)) / 2
    assert spv_mia.score(views) == pytest.approx([of_target - of_reference])
    assert recall.score(views) == pytest.approx([1.5])


def test_a_target_that_is_the_reference_has_no_variation_of_its_own():
    views = some_views(3)
    same = {f"reference_{name}": scores for name, scores in views.items() if name.startswith("neighbour/")}
    alike = Views({**views, **same, "reference": views.target}, views.facts)
    assert not spv_mia.score(alike).any()


def test_more_than_nine_neighbours_are_all_read():
    rows = {f"neighbour_at_{k}": [[-float(k)]] for k in range(12)}
    assert neighbourhood.score(views_of(target=[[0.0]], **rows)) == pytest.approx([sum(range(12)) / 12])


def test_fakes_can_stand_for_altered_copies():
    more = {"neighbour/0": FakeTarget([[-3.0, -1.0]]), "prefixed": FakeTarget([[-2.0, -2.0]])}
    found = fake_scores([neighbourhood, recall], target=FakeTarget([[-1.0, -1.0]]), others=more)
    assert {name: scores.tolist() for name, scores in found.items()} == {"neighbourhood": [1.0], "recall": [2.0]}


# --- substitutions ------------------------------------------------------------------------------------

SPECIAL = (0, 1)


@st.composite
def records(draw):
    """A record, and what a model with 30 tokens proposes for it."""
    n_tokens = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    item = Encoded(
        rng.integers(0, 30, n_tokens).astype(np.int32), rng.random(n_tokens) < draw(st.sampled_from([0.5, 1]))
    )
    log_prob = np.log(rng.dirichlet(np.ones(30), max(0, n_tokens - 1))).reshape(-1, 30)
    order = np.argsort(-log_prob, axis=1)[:, : draw(st.integers(1, 16))]
    proposed = Proposals(order.astype(np.int32), np.take_along_axis(log_prob, order, axis=1).astype(np.float32))
    return item, proposed


def drawn(item, proposed, *, n=4, seed=0, share=0.2, n_likeliest=10):
    rng = np.random.default_rng(seed)
    how = {"share": share, "n_likeliest": n_likeliest, "kept_ids": SPECIAL, "rng": rng}
    return draw_substitutions(item, proposed, n_copies=n, **how)


@given(records(), st.integers(0, 1000))
@settings(deadline=None)
def test_neighbours_differ_where_they_were_drawn_to_and_nowhere_else(given, seed):
    item, proposed = given
    found = drawn(item, proposed, seed=seed)
    for substitutions in found:
        copy = with_substitutions(item, substitutions)
        places, tokens = substitutions[:, 0], substitutions[:, 1]
        assert (np.flatnonzero(copy.ids != item.ids) == places).all()
        assert len(set(places.tolist())) == len(places)
        assert item.is_audited[places].all()
        assert not np.isin(places, [0]).any()
        assert not np.isin(tokens, SPECIAL).any()
        assert not np.isin(item.ids[places], SPECIAL).any()
        assert copy.is_audited is item.is_audited
        for place, token in substitutions.tolist():
            others = [t for t in proposed.ids[place - 1].tolist() if t != item.ids[place] and t not in SPECIAL]
            assert token in others[:10]


@given(records(), st.integers(0, 1000))
@settings(deadline=None)
def test_as_many_tokens_are_replaced_as_stated(given, seed):
    item, proposed = given

    def can_be_replaced(place) -> bool:
        others = set(proposed.ids[place - 1].tolist()) - {int(item.ids[place]), *SPECIAL}
        return bool(item.is_audited[place]) and int(item.ids[place]) not in SPECIAL and bool(others)

    n = sum(can_be_replaced(place) for place in range(1, len(item.ids)))
    assert drawn(item, proposed, seed=seed).shape == (4, max(1, round(0.2 * n)) if n else 0, 2)


@given(records(), st.integers(0, 1000))
@settings(deadline=None)
def test_the_same_seed_gives_the_same_neighbours_and_fewer_are_the_first_of_more(given, seed):
    item, proposed = given
    found = drawn(item, proposed, n=5, seed=seed)
    np.testing.assert_array_equal(found, drawn(item, proposed, n=5, seed=seed))
    np.testing.assert_array_equal(found[:2], drawn(item, proposed, n=2, seed=seed))


def test_tokens_are_drawn_by_their_probability_without_the_records_own():
    item = Encoded(np.array([2, 5], dtype=np.int32), np.ones(2, dtype=bool))
    proposed = Proposals(np.array([[5, 1, 7, 8, 9]]), np.log(np.array([[0.5, 0.2, 0.15, 0.1, 0.05]], np.float32)))
    tokens = drawn(item, proposed, n=6000, n_likeliest=2)[:, 0, 1]
    assert set(tokens.tolist()) == {7, 8}
    assert abs((tokens == 7).mean() - 0.6) < 4 * math.sqrt(0.24 / 6000)


def test_a_token_that_the_model_forbids_is_never_put_in():
    item = Encoded(np.array([2, 5], dtype=np.int32), np.ones(2, dtype=bool))
    proposed = Proposals(np.array([[5, 7, 8]]), np.array([[-0.1, -2.0, -np.inf]], np.float32))
    assert set(drawn(item, proposed, n=50)[:, 0, 1].tolist()) == {7}


# --- prefix -------------------------------------------------------------------------------------------

BOS = 0


def encoded(*ids, audited=None) -> Encoded:
    mask = np.ones(len(ids), dtype=bool) if audited is None else np.array(audited, dtype=bool)
    return Encoded(np.array(ids, dtype=np.int32), mask)


def test_a_prefix_has_one_beginning_and_keeps_its_last_tokens():
    shots = [encoded(BOS, 2, 3, 4), encoded(BOS, 5, 6)]
    whole = joined_prefix(shots, [9], bos_id=BOS, room=50)
    assert whole.ids.tolist() == [BOS, 2, 3, 4, 9, 5, 6, 9]
    assert (whole.n_records, whole.is_cut) == (2, False)
    cut = joined_prefix(shots, [9], bos_id=BOS, room=5)
    assert cut.ids.tolist() == [BOS, 9, 5, 6, 9]
    assert (cut.n_records, cut.is_cut) == (2, True)
    last = joined_prefix(shots, [9], bos_id=BOS, room=4)
    assert last.ids.tolist() == [BOS, 5, 6, 9]
    assert (last.n_records, last.is_cut) == (1, False)
    without = joined_prefix([encoded(2, 3), encoded(4)], [], bos_id=None, room=2)
    assert without.ids.tolist() == [3, 4]
    assert (without.n_records, without.is_cut) == (2, True)


@pytest.mark.parametrize("item", [encoded(BOS, 4, 5, 6), encoded(4, 5, 6), encoded(BOS, 4, 5, audited=[0, 0, 1])])
def test_the_same_tokens_are_audited_behind_a_prefix_and_no_others(item):
    prefix = joined_prefix([encoded(BOS, 2, 3)], [9], bos_id=BOS, room=9)
    behind = behind_prefix(item, prefix, bos_id=BOS)
    assert behind.ids[: len(prefix.ids)].tolist() == prefix.ids.tolist()
    assert not behind.is_audited[: len(prefix.ids)].any()
    assert (behind.ids == BOS).sum() == 1
    assert behind.ids[behind.is_audited].tolist() == item.ids[1:][item.is_audited[1:]].tolist()


# --- tables -------------------------------------------------------------------------------------------


def test_records_without_a_copy_are_undefined_for_the_attacks_that_look_at_it_alone():
    rows = [[-1.0, -2.0], [-3.0], [-1.5, -0.5, -2.5]]
    target = FakeTarget(rows)
    there = np.array([True, False, True])
    copies = with_gaps(FakeTarget([[-2.0, -2.0], [-3.0, -3.0, -3.0]]).table(), there, target.table())
    assert copies.status == ["ok", "nonfinite", "ok"]
    attacks = [ATTACKS["recall"], ATTACKS["loss"], ATTACKS["neighbourhood"]]
    slow = {"prefixed": copies, "neighbour/0": target.table(), "neighbour/1": target.table()}
    found = score_apart(attacks, {"target": target.table()}, slow, fake_facts(target), timeout=9)
    assert list(found) == ["recall", "loss", "neighbourhood"]
    assert found["neighbourhood"].scores.tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(found["recall"].scores, [2 / 1.5, math.nan, 2.0])
    np.testing.assert_allclose(found["loss"].scores, [-1.5, -3.0, -1.5])


def test_copies_of_another_length_are_refused():
    target = FakeTarget([[-1.0, -2.0]]).table()
    with pytest.raises(ValueError, match="other numbers of audited tokens than their records"):
        with_gaps(FakeTarget([[-1.0]]).table(), np.array([True]), target)


def test_rows_of_a_table_are_those_records():
    table = FakeTarget([[-1.0, -2.0], [-3.0], [-4.0, -5.0]]).table()
    part = table.rows(1, 3)
    assert part.columns["log_prob"].tolist() == [-3.0, -4.0, -5.0]
    assert part.offsets.tolist() == [0, 1, 3]
    assert len(part.status) == 2
