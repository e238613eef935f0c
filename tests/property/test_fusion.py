"""The fusion of scores: what a slow, obvious version gives, nothing learned where there is nothing, and no leak."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression

from loraudit.statistics import Fusion, Interval, auc, auc_interval, disjoint_folds, widened

NAN = math.nan
FEW = 4  # documents a side that tests of small samples ask for


def halves(n: int) -> np.ndarray:
    return np.arange(2 * n) < n


def folds_of(is_member, groups=None, seed: int = 0, n_folds: int = 5):
    return disjoint_folds(is_member, groups, rng=np.random.default_rng(seed), n_folds=n_folds)


def fusion_of(columns, is_member, groups=None, seed: int = 0, **options) -> Fusion:
    return Fusion.of(columns, is_member, groups=groups, folds=folds_of(is_member, groups, seed), **options)


def area(scores, is_member) -> float:
    return auc(scores[is_member], scores[~is_member])


def planted(n: int = 300, *, n_columns: int = 6, shift: float = 1.0, seed: int = 0):
    """Scores that share a part, the first few records undefined here and there, and who is a member."""
    rng = np.random.default_rng(seed)
    is_member = halves(n)
    common = rng.normal(size=2 * n)
    columns = {
        f"score_{i}": common + rng.normal(size=2 * n) + shift * is_member * i / n_columns for i in range(n_columns)
    }
    columns["score_1"][rng.random(2 * n) < 0.1] = NAN
    columns["score_2"] = np.round(columns["score_2"])  # many ties
    columns["score_3"] = columns["score_3"] ** 5  # heavy tails
    columns["score_4"][:3] = math.inf
    columns["score_4"][-2:] = -math.inf
    return columns, is_member


# ---------------------------------------------------------------------------------------------
# Slow and obvious
# ---------------------------------------------------------------------------------------------


def slow_quantile(value: float, known: list[float]) -> float:
    if math.isnan(value):
        return 0.0
    place = sum(other < value for other in known) + sum(other == value for other in known) / 2
    return float(stats.norm.ppf((place + 0.5) / (len(known) + 1)))


def slow_fusion(columns, is_member, folds):
    """One fold, one column and one record at a time, with scikit-learn's default solver."""
    fused = np.full(len(is_member), NAN)
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        features = []
        for values in columns.values():
            known = [values[row] for row in train if not math.isnan(values[row])]
            placed = np.array([slow_quantile(value, known) for value in values])
            features.append((placed - placed[train].mean()) / placed[train].std())
            if np.isnan(values).any():
                features.append(np.isnan(values).astype(float))
        matrix = np.array(features).T
        model = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-10, max_iter=10_000)
        model.fit(matrix[train], is_member[train])
        fused[test] = model.decision_function(matrix[test])
    return fused


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_obvious_loop(seed):
    columns, is_member = planted(60, seed=seed)
    groups = np.random.default_rng(seed).integers(0, 40, len(is_member)) + 40 * is_member
    folds = folds_of(is_member, groups, seed)
    fused = Fusion.of(columns, is_member, groups=groups, folds=folds, fewest=FEW).scores()
    assert fused == pytest.approx(slow_fusion(columns, is_member, folds), abs=2e-5)


def test_fewer_scores_are_fused_as_if_there_were_no_others():
    columns, is_member = planted(120)
    folds = folds_of(is_member)
    names = ["score_1", "score_5"]
    some = Fusion.of(columns, is_member, folds=folds).scores(names)
    alone = Fusion.of({name: columns[name] for name in names}, is_member, folds=folds).scores()
    assert np.array_equal(some, alone, equal_nan=True)


# ---------------------------------------------------------------------------------------------
# Folds
# ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.integers(1, 6), min_size=5, max_size=30),
    nonmembers=st.lists(st.integers(1, 6), min_size=5, max_size=30),
    both=st.lists(st.integers(1, 3), max_size=3),
    seed=st.integers(0, 5),
)
def test_folds_are_whole_documents_and_hold_about_as_many_of_each_side(members, nonmembers, both, seed):
    groups, sides, number = [], [], 0
    for sizes, labels in ((members, [True]), (nonmembers, [False]), (both, [True, False])):
        for size in sizes:
            for label in labels:
                groups += [number] * size
                sides += [label] * size
            number += 1
    groups, is_member = np.array(groups), np.array(sides)
    folds = folds_of(is_member, groups, seed)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    assert np.array_equal(folds, folds_of(is_member, groups, seed))
    if not both:
        for side in (is_member, ~is_member):
            counts = np.bincount(folds[side], minlength=5)
            assert counts.max() - counts.min() <= np.bincount(groups[side]).max()


def test_without_documents_folds_differ_by_one_record():
    is_member = np.arange(257) < 131
    folds = folds_of(is_member)
    for side in (is_member, ~is_member):
        counts = np.bincount(folds[side], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds, folds_of(is_member, seed=1))


# ---------------------------------------------------------------------------------------------
# Nothing is learned where there is nothing, and nothing leaks
# ---------------------------------------------------------------------------------------------


def test_labels_that_mean_nothing_give_one_half():
    """60 scores of a hundred records a side: learned and tested on the same records they would give 0.9."""
    n_trials, n_holding, areas = 60, 0, []
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        is_member = halves(100)
        columns = {f"score_{i}": rng.normal(size=200) for i in range(60)}
        fused = fusion_of(columns, is_member, seed=seed).scores()
        ends = auc_interval(fused[is_member], fused[~is_member], error_factor=1.5)
        areas.append(area(fused, is_member))
        n_holding += ends.lower <= 0.5 <= ends.upper
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)
    assert n_holding >= stats.binom.ppf(0.001, n_trials, 0.95)


@pytest.mark.parametrize("per_document", [4, 10])
def test_noise_that_names_the_document_is_not_learned(per_document):
    """With folds across documents the model knows every document's side, and the AUC comes out far above 0.5."""
    honest, careless = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n_documents = 200
        groups = np.repeat(np.arange(n_documents), per_document)
        is_member = groups < n_documents // 2
        columns = {f"score_{i}": rng.normal(size=n_documents)[groups] for i in range(60)}
        honest.append(area(fusion_of(columns, is_member, groups, seed).scores(), is_member))
        alone = folds_of(is_member, None, seed)
        careless.append(area(Fusion.of(columns, is_member, groups=groups, folds=alone).scores(), is_member))
    assert np.mean(honest) == pytest.approx(0.5, abs=0.03)
    assert np.mean(careless) > 0.7


def test_a_record_s_own_label_never_moves_its_score():
    columns, is_member = planted(100)
    folds = folds_of(is_member)
    before = Fusion.of(columns, is_member, folds=folds, fewest=FEW).scores()
    row = 17
    changed = is_member.copy()
    changed[row] = not changed[row]
    after = Fusion.of(columns, changed, folds=folds, fewest=FEW).scores()
    assert np.array_equal(before[folds == folds[row]], after[folds == folds[row]])
    assert not np.array_equal(before, after)


def test_two_halves_of_the_truth_are_put_together():
    rng = np.random.default_rng(1)
    is_member = halves(500)
    noise = rng.normal(size=1000)
    columns = {"sum": 0.5 * is_member + noise, "noise": noise + 0.2 * rng.normal(size=1000)}
    fused = fusion_of(columns, is_member).scores()
    assert area(columns["noise"], is_member) == pytest.approx(0.5, abs=0.05)
    assert area(fused, is_member) > area(columns["sum"], is_member) + 0.2


def test_a_score_that_points_the_wrong_way_is_turned():
    columns, is_member = planted(200, shift=2.0)
    turned = {name: -values for name, values in columns.items()}
    first, second = (area(fusion_of(c, is_member).scores(), is_member) for c in (columns, turned))
    assert first == pytest.approx(second, abs=1e-3)
    assert first > 0.8


def test_perfect_scores_give_a_perfect_fusion():
    is_member = halves(100)
    fused = fusion_of({"a": is_member * 1.0, "b": np.linspace(1, 0, 200)}, is_member).scores()
    assert area(fused, is_member) == 1.0
    assert np.isfinite(fused).all()


# ---------------------------------------------------------------------------------------------
# The same question, the same answer
# ---------------------------------------------------------------------------------------------


def test_the_same_twice_and_whatever_the_order_of_the_columns():
    columns, is_member = planted()
    first = fusion_of(columns, is_member)
    again = fusion_of(dict(reversed(columns.items())), is_member)
    assert first.names == again.names
    assert np.array_equal(first.scores(), again.scores())
    assert first.order(5) == again.order(5)


def test_only_the_order_of_a_score_s_values_counts():
    """No outlier moves anything: any rising function of a score is as good."""
    columns, is_member = planted()
    bent = {name: np.sign(values) * np.abs(values) ** 3 for name, values in columns.items()}
    bent["score_0"] = np.exp(columns["score_0"])
    assert np.array_equal(fusion_of(columns, is_member).scores(), fusion_of(bent, is_member).scores())


def test_records_in_another_order_keep_their_scores():
    columns, is_member = planted()
    folds = folds_of(is_member)
    order = np.random.default_rng(3).permutation(len(is_member))
    fused = Fusion.of(columns, is_member, folds=folds).scores()
    shuffled = {name: values[order] for name, values in columns.items()}
    assert Fusion.of(shuffled, is_member[order], folds=folds[order]).scores() == pytest.approx(fused[order], abs=3e-6)


def test_equal_records_of_a_fold_are_ties():
    columns, is_member = planted()
    folds = folds_of(is_member)
    twin, other = np.flatnonzero(folds == 2)[[0, -1]]
    for values in columns.values():
        values[other] = values[twin]
    fused = Fusion.of(columns, is_member, folds=folds).scores()
    assert fused[twin] == fused[other]


# ---------------------------------------------------------------------------------------------
# Undefined, constant, few
# ---------------------------------------------------------------------------------------------


def test_constant_and_undefined_columns_change_nothing():
    columns, is_member = planted()
    more = columns | {"same": np.ones(len(is_member)), "nothing": np.full(len(is_member), NAN)}
    fusion = fusion_of(more, is_member)
    assert fusion.names == tuple(sorted(columns))
    assert np.array_equal(fusion.scores(), fusion_of(columns, is_member).scores())


def test_a_record_without_any_score_stays_undefined():
    columns, is_member = planted()
    for values in columns.values():
        values[[4, 400]] = NAN
    fusion = fusion_of(columns, is_member)
    assert np.flatnonzero(np.isnan(fusion.scores())).tolist() == [4, 400]
    columns["score_5"][10] = NAN
    alone = fusion_of(columns, is_member).scores(["score_5"])
    assert np.flatnonzero(np.isnan(alone)).tolist() == [4, 10, 400]


def test_being_undefined_can_be_what_tells():
    rng = np.random.default_rng(0)
    is_member = halves(200)
    values = np.where(is_member & (rng.random(400) < 0.5), NAN, 1.0)
    fused = fusion_of({"gaps": values, "noise": rng.normal(size=400)}, is_member).scores()
    assert area(fused, is_member) > 0.65


def test_a_score_that_is_undefined_in_all_training_records_of_a_fold():
    columns, is_member = planted()
    folds = folds_of(is_member)
    columns["rare"] = np.where(folds == 0, np.arange(len(folds)), NAN)
    fused = Fusion.of(columns, is_member, folds=folds).scores()
    assert np.isfinite(fused).all()


@pytest.mark.parametrize(
    ("n_members", "n_nonmembers", "is_fused"), [(100, 100, True), (99, 300, False), (300, 99, False)]
)
def test_fewer_than_a_hundred_a_side_are_refused_in_words(n_members, n_nonmembers, is_fused):
    is_member = np.arange(n_members + n_nonmembers) < n_members
    columns = {"a": np.random.default_rng(0).normal(size=len(is_member))}
    fusion = fusion_of(columns, is_member)
    assert (fusion.reason is None) == is_fused
    assert np.isnan(fusion.scores()).all() == (not is_fused)
    if not is_fused:
        assert fusion.order(5) == []
        assert fusion.reason == (
            f"{n_members} records of members and {n_nonmembers} of non-members have a score; weights learned from "
            "fewer than 100 a side would show little of what the scores hold"
        )


def test_documents_are_counted_not_records_and_only_those_with_a_score():
    columns, is_member = planted(400)
    groups = np.arange(800) // 5
    assert "80 documents of members and 80 of non-members" in (fusion_of(columns, is_member, groups).reason or "")
    for values in columns.values():
        values[50:400] = NAN
    assert "50 records of members and 400 of non-members" in (fusion_of(columns, is_member).reason or "")


@pytest.mark.parametrize("columns", [{}, {"same": np.ones(400)}, {"none": np.full(400, NAN)}])
def test_without_anything_to_fuse_it_says_so(columns):
    fusion = fusion_of(columns, halves(200))
    assert fusion.reason == "no score takes more than one value"
    assert np.isnan(fusion.scores()).all()


# ---------------------------------------------------------------------------------------------
# What each adds
# ---------------------------------------------------------------------------------------------


def test_the_order_begins_with_what_tells_most_and_goes_on_with_what_is_new():
    rng = np.random.default_rng(0)
    is_member = halves(500)
    one, two = (shift * is_member + rng.normal(size=1000) for shift in (1.0, 0.6))
    columns = {
        "one": one,
        "one_again": one + 0.5 * rng.normal(size=1000),
        "one_doubled": 2 * one,
        "two": two,
        "noise": rng.normal(size=1000),
    }
    fusion = fusion_of(columns, is_member)
    order = fusion.order(5)
    assert order[:2] == ["one", "two"]
    assert "one_doubled" not in order
    assert fusion.order(2) == order[:2]
    whole, without = fusion.scores(), fusion.scores([name for name in fusion.names if name != "two"])
    assert area(whole, is_member) > area(without, is_member) + 0.02


def test_wider_intervals_stay_within_what_the_number_can_be():
    assert widened(0.2, Interval(0.1, 0.4), 2.0, lowest=0.0) == pytest.approx((0.0, 0.6))
    assert widened(-0.9, Interval(-1.0, -0.8), 2.0, lowest=-1.0) == pytest.approx((-1.0, -0.7))
    assert all(map(math.isnan, widened(0.2, Interval(NAN, NAN), 1.5, lowest=0.0)))
