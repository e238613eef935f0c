"""Confidence calibrated by non-members: against slow loops, and what a label may change."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.membership import ATTACKS, Attack, FittedAttack, Folds, score_attacks
from loraudit.membership.quantile import (
    RIDGE,
    LinearRidge,
    features_of_reference,
    features_of_text,
    quantile_regression,
    quantile_regression_text,
)
from loraudit.membership.shadow import confidence
from loraudit.types import TOKEN_FIELDS, RecordFacts, TokenScores, TokenTable, Views

BOTH = (quantile_regression, quantile_regression_text)


def scores_of(log_prob, rng) -> TokenScores:
    shape = log_prob.shape
    return TokenScores(
        log_prob.astype(np.float32),
        log_prob > -1.0,
        np.ones(shape, np.float32),
        (-2 + 0.1 * rng.standard_normal(shape)).astype(np.float32),
        rng.uniform(0.5, 2.0, shape).astype(np.float32),
        np.zeros(shape, np.uint8),
    )


def views_of(n, *, gain=0.0, n_tokens=20, seed=0, noise=0.3) -> Views:
    """Records that differ in how hard they are; `gain` [N] is what the target has on top."""
    rng = np.random.default_rng(seed)
    hard = -3 + 0.7 * rng.standard_normal((n, 1)) + 0.6 * rng.standard_normal((n, n_tokens))
    target = hard + 0.5 + np.broadcast_to(gain, n)[:, None] + noise * rng.standard_normal((n, 1))
    said = {"target": np.minimum(target, -1e-3), "reference": np.minimum(hard, -1e-3)}
    n_bytes = np.maximum(1, (n_tokens * (4 + 0.3 * rng.standard_normal(n))).astype(int))
    facts = RecordFacts(n_bytes, np.maximum(1, (0.6 * n_bytes + rng.integers(0, 9, n)).astype(int)))
    return Views({name: scores_of(log_prob, rng) for name, log_prob in said.items()}, facts)


def tables_of(views) -> dict[str, TokenTable]:
    n, n_tokens = views.target.log_prob.shape
    ends = np.arange(n + 1) * n_tokens
    return {
        name: TokenTable(
            {field: getattr(scores, field).ravel() for field in TOKEN_FIELDS},
            ends,
            np.ones(n * n_tokens, bool),
            np.ones(n, int),
            ["ok"] * n,
        )
        for name, scores in views.items()
    }


def scored(attack, views, is_member, *, groups=None, seed=0):
    folds = Folds.draw(is_member, groups, seed=seed)
    found = score_attacks([attack], tables_of(views), views.facts, folds=folds)[attack.name]
    assert found.error is None
    return found.scores


def auc(scores, is_member):
    members, nonmembers = scores[is_member], scores[~is_member]
    return stats.mannwhitneyu(members, nonmembers).statistic / (len(members) * len(nonmembers))


# --- slow and obvious ---------------------------------------------------------------------------------


def slow_features(views, row, *, with_reference):
    n_tokens = views.target.log_prob.shape[1]
    n_bytes, n_zlib = int(views.facts.n_bytes[row]), int(views.facts.n_zlib_bytes[row])
    found = [math.log(n_tokens), math.log(n_bytes), math.log(n_zlib), n_zlib / n_bytes, n_bytes / n_tokens]
    if with_reference:
        log_probs = [float(x) for x in views.reference.log_prob[row]]
        mean = sum(log_probs) / n_tokens
        lowest = sorted(log_probs)[: max(1, n_tokens // 5)]
        found += [
            slow_confidence(log_probs),
            mean,
            math.sqrt(sum((x - mean) ** 2 for x in log_probs) / n_tokens),
            sum(lowest) / len(lowest),
            sum(-float(x) for x in views.reference.mean_log_prob[row]) / n_tokens,
            sum(math.sqrt(float(x)) for x in views.reference.var_log_prob[row]) / n_tokens,
            sum(bool(x) for x in views.reference.is_top1[row]) / n_tokens,
        ]
    return found


def slow_confidence(log_probs):
    p = math.exp(sum(log_probs) / len(log_probs))
    return math.log(p) - math.log(1 - p)


def slow_ridge(rows, values):
    """Weights by least squares with one more row per feature, which asks it to be 0."""
    rows, values = np.array(rows), np.array(values)
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale < 1e-9] = math.inf
    x = np.vstack([(rows - centre) / scale, math.sqrt(RIDGE) * np.eye(rows.shape[1])])
    y = np.concatenate([values - values.mean(), np.zeros(rows.shape[1])])
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    return lambda row: values.mean() + float(((np.array(row) - centre) / scale) @ weights)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.booleans())
def test_scores_equal_the_loop(seed, with_reference):
    views = views_of(40, seed=seed, gain=np.repeat([0.4, 0.0], 20))
    is_member = np.repeat([True, False], 20)
    attack = quantile_regression if with_reference else quantile_regression_text
    folds = Folds.draw(is_member, None, seed=seed)
    expected = []
    for i in range(40):
        known = [j for j in range(40) if not is_member[j] and folds.of_record[j] != folds.of_record[i]]

        def gained(j):
            own = slow_confidence([float(x) for x in views.target.log_prob[j]])
            return own - slow_confidence([float(x) for x in views.reference.log_prob[j]]) * with_reference

        rows = {j: slow_features(views, j, with_reference=with_reference) for j in [*known, i]}
        mean = slow_ridge([rows[j] for j in known], [gained(j) for j in known])
        residuals = [abs(gained(j) - mean(rows[j])) for j in known]
        floor = 1e-3 * math.sqrt(sum(r**2 for r in residuals) / len(residuals))
        log_scale = slow_ridge([rows[j] for j in known], [math.log(max(r, floor)) for r in residuals])
        seen = [log_scale(rows[j]) for j in known]
        own = min(max(log_scale(rows[i]), min(seen)), max(seen)) + (np.euler_gamma + math.log(2)) / 2
        expected.append((gained(i) - mean(rows[i])) / math.exp(own))
    np.testing.assert_allclose(scored(attack, views, is_member, seed=seed), expected, rtol=1e-5, atol=1e-7)


def test_features_are_what_their_names_say():
    views = views_of(5)
    np.testing.assert_allclose(
        features_of_reference(views), [slow_features(views, i, with_reference=True) for i in range(5)], rtol=1e-5
    )
    np.testing.assert_allclose(features_of_text(views), features_of_reference(views)[:, :5])


def test_a_feature_that_is_one_number_for_all_says_nothing():
    x = np.column_stack([np.arange(9.0), np.full(9, 0.1 + 0.2)])
    predict = LinearRidge(x, 2 * x[:, 0])
    moved = x + np.array([0.0, 5.0])
    np.testing.assert_array_equal(predict(moved), predict(x))


# --- what it sees -------------------------------------------------------------------------------------


def test_it_sees_what_the_loss_and_the_difference_hide():
    n = 600
    is_member = np.arange(2 * n) < n
    views = views_of(2 * n, gain=0.5 * is_member, seed=1)
    areas = {a.name: auc(scored(a, views, is_member), is_member) for a in (*BOTH, ATTACKS["loss"])}
    assert areas["quantile_regression"] > 0.8
    assert areas["quantile_regression"] > areas["loss"] + 0.1


def test_records_whose_scatter_is_wide_are_not_taken_for_members():
    """Half of the non-members, known by their density, scatter five times as far as the others."""
    n = 1500
    is_member = np.arange(2 * n) < n
    rng = np.random.default_rng(3)
    is_wide = rng.random(2 * n) < 0.5
    views = views_of(2 * n, gain=0.6 * is_member + np.where(is_wide, 1.5, 0.1) * rng.standard_normal(2 * n), noise=0)
    facts = RecordFacts(views.facts.n_bytes, np.where(is_wide, 30, 60))
    views = Views(views.scores, facts)
    scores = scored(quantile_regression, views, is_member)
    plain = confidence(views.target) - confidence(views.reference)

    def found(values):
        return np.mean(values[is_member] > np.quantile(values[~is_member], 0.99))

    assert found(scores) > 2 * found(plain)


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_both_sides_score_alike_where_the_target_leaks_nothing(attack):
    n = 60
    is_member = np.arange(2 * n) < n
    areas = [auc(scored(attack, views_of(2 * n, seed=k), is_member, seed=k), is_member) for k in range(60)]
    expected = math.sqrt((2 * n + 1) / (12 * n * n))
    assert abs(np.mean(areas) - 0.5) < 4 * expected / math.sqrt(60)
    assert np.std(areas) == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_shuffled_labels_tell_nothing(attack):
    n, areas = 60, []
    views = views_of(2 * n, gain=0.8 * (np.arange(2 * n) < n))
    rng = np.random.default_rng(0)
    for seed in range(60):
        shuffled = rng.permutation(np.arange(2 * n) < n)
        areas.append(auc(scored(attack, views, shuffled, seed=seed), shuffled))
    assert abs(np.mean(areas) - 0.5) < 4 * math.sqrt((2 * n + 1) / (12 * n * n)) / math.sqrt(60)


def test_a_target_that_is_the_reference_scores_every_record_zero():
    views = views_of(50)
    same = Views({"target": views.reference, "reference": views.reference}, views.facts)
    assert (scored(quantile_regression, same, np.arange(50) < 25) == 0).all()


# --- what a label may change --------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(BOTH), st.booleans())
def test_the_label_of_a_record_changes_nothing_about_its_own_score(seed, attack, is_grouped):
    rng = np.random.default_rng(seed)
    views = views_of(40, seed=seed)
    is_member = rng.random(40) < 0.5
    groups = rng.integers(0, 12, 40) if is_grouped else None
    row = int(rng.integers(40))
    flipped = is_member.copy()
    flipped[row] = not flipped[row]
    before, after = (scored(attack, views, labels, groups=groups, seed=seed) for labels in (is_member, flipped))
    assert before[row] == after[row] or np.isnan([before[row], after[row]]).all()
    own = Folds.draw(is_member, groups, seed=seed).of_record
    np.testing.assert_array_equal(before[own == own[row]], after[own == own[row]])


def spy(seen) -> FittedAttack:
    """Remembers by their bytes which records each model learned from and scored."""

    def fit(population):
        learned = {int(b) for views in population for b in views.facts.n_bytes}

        def score(views):
            seen.extend((learned, int(b)) for b in views.facts.n_bytes)
            return np.zeros(len(views.target))

        return score

    return FittedAttack("spy", fit, ("target",), "s", "s", "c", "nonmembers")


@pytest.mark.parametrize("groups", [None, np.arange(30) // 4])
def test_who_scores_a_record_has_learned_from_no_member_and_none_of_its_document(groups):
    views, is_member, seen = views_of(30), np.arange(30) % 3 == 0, []
    views = Views(views.scores, RecordFacts(np.arange(30), np.ones(30, int)))
    scored(spy(seen), views, is_member, groups=groups)
    assert sorted(row for _, row in seen) == list(range(30))
    documents = np.arange(30) if groups is None else groups
    for learned, row in seen:
        assert learned
        assert not is_member[list(learned)].any()
        assert documents[row] not in documents[list(learned)]


def test_folds_are_drawn_without_the_labels_and_hold_equally_many_documents():
    groups = np.repeat(np.arange(23), 3)
    one, two = (Folds.draw(labels, groups, seed=4) for labels in (np.arange(69) < 30, np.arange(69) % 2 == 0))
    np.testing.assert_array_equal(one.of_record, two.of_record)
    assert (one.of_record.reshape(23, 3) == one.of_record[::3, None]).all()
    assert sorted(np.bincount(one.of_record[::3])) == [4, 4, 5, 5, 5]
    assert not np.array_equal(Folds.draw(one.is_known, groups, seed=5).of_record, one.of_record)
    assert set(Folds.draw(np.array([True, False, False]), None, seed=0).of_record) == {0, 1, 2}
    assert len(list(Folds.draw(np.zeros(0, bool), None, seed=0))) == 0


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_where_nobody_can_be_learned_from_scores_are_undefined(attack):
    views = views_of(4)
    assert np.isnan(scored(attack, views, np.ones(4, bool))).all()
    one_known = scored(attack, views, np.array([True, True, True, False]))
    assert np.isnan(one_known).tolist() == [False, False, False, True]


def test_without_labels_such_an_attack_learns_from_all_records():
    views = views_of(30)
    found = score_attacks(BOTH, tables_of(views), views.facts)
    for attack in BOTH:
        np.testing.assert_allclose(found[attack.name].scores, attack.score(views), rtol=1e-6)


def test_an_attack_that_fails_or_hangs_on_one_fold_is_reported_and_the_others_finish():
    views, is_member = views_of(30), np.arange(30) < 15
    n_fits = []

    def fail_later(population):
        n_fits.append(1)
        if len(n_fits) > 2:
            raise ZeroDivisionError("on purpose")
        return lambda views: np.zeros(len(views.target))

    def wrong_shape(_):
        return lambda views: np.zeros(len(views.target) + 1)

    broken, stuck, misshapen = (
        FittedAttack(name, fit, ("target",), "s", "s", "c", "nonmembers")
        for name, fit in (("broken", fail_later), ("stuck", lambda _: time.sleep(5)), ("misshapen", wrong_shape))
    )
    found = score_attacks(
        [broken, stuck, misshapen, quantile_regression, ATTACKS["loss"]],
        tables_of(views),
        views.facts,
        folds=Folds.draw(is_member, None, seed=0),
        timeout=0.5,
    )
    assert found["broken"].error == "ZeroDivisionError: on purpose"
    assert found["stuck"].error == "gave no result within 0.5 s"
    assert "expected" in (found["misshapen"].error or "")
    assert all(np.isnan(found[name].scores).all() for name in ("broken", "stuck", "misshapen"))
    np.testing.assert_array_equal(found["quantile_regression"].scores, scored(quantile_regression, views, is_member))
    assert list(found) == ["broken", "stuck", "misshapen", "quantile_regression", "loss"]


def test_gradient_norm_refuses_facts_without_gradients():
    gradient_norm = ATTACKS["gradient_norm"]
    assert isinstance(gradient_norm, Attack)
    views = views_of(3)
    with pytest.raises(ValueError, match="the gradients were not measured"):
        gradient_norm.score(views)
    norms = np.array([2.0, np.nan, 0.5])
    measured = Views(views.scores, RecordFacts(views.facts.n_bytes, views.facts.n_zlib_bytes, norms))
    np.testing.assert_array_equal(gradient_norm.score(measured), [-2.0, np.nan, -0.5])


def test_twenty_thousand_records_take_seconds():
    n = 20_000
    views = views_of(n, n_tokens=40)
    folds = Folds.draw(np.arange(n) < n // 2, None, seed=0)
    began = time.perf_counter()
    score_attacks(BOTH, tables_of(views), views.facts, folds=folds)
    assert time.perf_counter() - began < 20  # about one second on a quiet machine
