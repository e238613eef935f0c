"""The public fakes: scripted log-probabilities in place of a model."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

import loraudit.testing
from loraudit.errors import ConfigError
from loraudit.membership import ATTACKS, SHADOWS_IN, SLOW_VIEWS, Attack, per_record
from loraudit.testing import FakeTarget, fake_facts, fake_scores
from loraudit.types import TOKEN_FIELDS, TokenTable

ROWS = [[-0.1, -2.0, -0.5], [-3.0], [], [-0.69, -0.70]]


def an_attack(score, *, name="mine", needs=("target",)) -> Attack:
    return Attack(name, score, needs, "nobody", "A test.", f"{len(needs)} F")


def test_the_example_in_the_documentation_holds():
    results = doctest.testmod(loraudit.testing)
    assert results.attempted >= 4
    assert results.failed == 0


def test_a_table_says_what_it_was_told():
    table = FakeTarget(ROWS).table()
    assert isinstance(table, TokenTable)
    assert len(table) == 4
    assert table.n_tokens.tolist() == [3, 1, 0, 2]
    assert table.offsets.tolist() == [0, 3, 4, 4, 6]
    np.testing.assert_allclose(table.columns["log_prob"], [-0.1, -2.0, -0.5, -3.0, -0.69, -0.70], rtol=1e-6)
    assert table.is_audited.all()
    assert table.n_windows.tolist() == [1, 1, 1, 1]
    assert list(table.status) == ["ok", "ok", "no_tokens", "ok"]


def test_its_columns_are_those_of_real_evidence():
    table = FakeTarget(ROWS, mean_log_prob=-2.0, var_log_prob=3.0).table()
    assert {name: column.dtype.type for name, column in table.columns.items()} == dict(TOKEN_FIELDS)
    assert {len(column) for column in table.columns.values()} == {6}
    assert set(table.columns["mean_log_prob"]) == {-2.0}
    assert set(table.columns["var_log_prob"]) == {3.0}
    np.testing.assert_array_equal(table.columns["rank_bucket"] == 0, table.columns["is_top1"])


def test_a_token_above_one_half_can_only_be_the_most_likely():
    assert FakeTarget(ROWS).table().columns["is_top1"].tolist() == [True, False, True, False, True, False]


def test_hits_can_be_scripted_too():
    target = FakeTarget([[-0.1, -5.0], [-1.0]], is_top1=[[False, True], [True]])
    assert target.table().columns["is_top1"].tolist() == [False, True, True]


def test_a_rectangle_of_it_is_what_an_attack_sees():
    table = FakeTarget([[-1.0, -2.0], [-3.0], [-4.0, -5.0]]).table()
    scores = table.rectangle(np.array([0, 2]), 2)
    np.testing.assert_array_equal(scores.log_prob, np.array([[-1, -2], [-4, -5]], dtype=np.float32))
    assert scores.is_top1.shape == scores.margin.shape == scores.rank_bucket.shape == (2, 2)


def test_a_table_is_made_anew_each_time():
    target = FakeTarget([[-1.0]])
    target.table().columns["log_prob"][0] = -9
    assert target.table().columns["log_prob"].tolist() == [-1.0]


def test_facts_count_bytes_per_token():
    facts = fake_facts(FakeTarget(ROWS))
    assert facts.n_bytes.tolist() == [12, 4, 0, 8]
    assert facts.n_zlib_bytes.tolist() == [6, 2, 1, 4]
    assert fake_facts(FakeTarget(ROWS), bytes_per_token=1).n_bytes.tolist() == [3, 1, 0, 2]


def test_scores_by_hand():
    target, reference = FakeTarget(ROWS), FakeTarget([[-1.1, -2.0, -1.5], [-2.0], [], [-0.69, -0.70]])
    chosen = [ATTACKS["loss"], ATTACKS["reference_difference"], ATTACKS["zlib"]]
    scores = fake_scores(chosen, target=target, reference=reference)
    assert list(scores) == ["loss", "reference_difference", "zlib"]
    np.testing.assert_allclose(scores["loss"], [-2.6 / 3, -3.0, math.nan, -0.695], rtol=1e-6)
    np.testing.assert_allclose(scores["reference_difference"], [2 / 3, -1.0, math.nan, 0.0], rtol=1e-6)
    np.testing.assert_allclose(scores["zlib"], [-2.6 / 6, -3.0 / 2, math.nan, -1.39 / 4], rtol=1e-6)


def test_an_attack_that_looks_at_the_target_alone_needs_no_reference():
    scores = fake_scores([ATTACKS["loss"]], target=FakeTarget([[-1.0, -3.0]]))
    assert scores["loss"].tolist() == [-2.0]


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_registered_attack_runs_on_fakes(name):
    rng = np.random.default_rng(0)
    rows = [(-rng.exponential(1, 8)).tolist() for _ in range(5)]
    better = [[value / 2 for value in row] for row in rows]
    reference = FakeTarget(rows)
    scores = fake_scores(
        [ATTACKS[name]],
        target=FakeTarget(better),
        reference=reference,
        shadows=[reference],
        others=dict.fromkeys([SHADOWS_IN, *SLOW_VIEWS], reference),
        gradient_norms=np.ones(len(better)),
    )
    assert scores[name].shape == (5,)
    assert not np.isnan(scores[name]).all()


def test_ones_own_attack_runs_on_fakes():
    worst = an_attack(per_record(lambda views: float(views.target.log_prob.min())))
    assert fake_scores([worst], target=FakeTarget(ROWS))["mine"].tolist()[:2] == [-2.0, -3.0]


def test_a_failing_attack_fails_the_test_with_its_own_words():
    def wrong_shape(_):
        return np.zeros(3)

    def raising(_):
        raise ValueError("no such view")

    attacks = [an_attack(wrong_shape, name="shape"), an_attack(raising, name="raise"), ATTACKS["loss"]]
    with pytest.raises(
        AssertionError,
        match=r"^shape: ValueError: returned shape \(3,\), expected \(1,\); raise: ValueError: no such view$",
    ):
        fake_scores(attacks, target=FakeTarget([[-1.0]]))


def test_an_attack_without_its_reference_fails_the_test():
    with pytest.raises(AssertionError, match=r"^reference_difference: KeyError: 'reference'$"):
        fake_scores([ATTACKS["reference_difference"]], target=FakeTarget([[-1.0]]))


def test_target_and_reference_must_hold_the_same_tokens():
    with pytest.raises(ValueError, match="the views hold different tokens"):
        fake_scores([ATTACKS["loss"]], target=FakeTarget([[-1.0]]), reference=FakeTarget([[-1.0, -2.0]]))


def test_no_records_at_all():
    target = FakeTarget([])
    assert len(target.table()) == 0
    assert fake_scores([ATTACKS["loss"]], target=target)["loss"].shape == (0,)


@pytest.mark.parametrize(
    "is_top1",
    [[[True]], [[True, False, True]], [[True, False], [True]], [], [[True], [True]]],
    ids=["too short", "too long", "a record too many", "no record", "one token each"],
)
def test_hits_of_another_shape_are_refused(is_top1):
    with pytest.raises(ConfigError, match=r"^is_top1 has another shape than log_probs\. Expected one truth value per"):
        FakeTarget([[-1.0, -2.0]], is_top1=is_top1)


def test_hits_of_the_same_number_of_tokens_in_other_records_are_refused():
    with pytest.raises(ConfigError, match="is_top1"):
        FakeTarget([[-1.0, -2.0], [-3.0]], is_top1=[[True], [True, False]])
