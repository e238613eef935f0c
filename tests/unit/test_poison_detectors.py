"""Detectors of poison on data whose right ranking is known, and the mistakes that would spoil it."""

import math

import numpy as np
import pytest
from scipy.stats import rankdata

from loraudit.errors import ConfigError
from loraudit.poisoning.detection import (
    Observed,
    activation_clustering,
    blended_texts,
    clean_threshold,
    early_learning,
    gradient_spectral_entropy,
    loss_dynamics,
    onion,
    spectral_scores,
    spectral_signatures,
    strip,
    suspicious_words,
    without_each_word,
    without_words,
)
from loraudit.poisoning.detection.entropy import entropy_rises

NO_LABELS = np.zeros(0, dtype=np.int64)


def auroc(scores, is_poisoned):
    ranks = rankdata(scores)
    n_poisoned = is_poisoned.sum()
    return (ranks[is_poisoned].sum() - n_poisoned * (n_poisoned + 1) / 2) / (n_poisoned * (~is_poisoned).sum())


def two_classes(seed=0):
    """300 records of two far classes in 20 dimensions, 20 poisons of class 0 moved along an axis of their own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [180, 120])
    features = rng.normal(0, 1, (300, 20)) + 30 * np.eye(20)[labels]
    is_poisoned = np.arange(300) < 20
    features[is_poisoned] += 6 * np.eye(20)[9]
    return features, labels, is_poisoned


# --- spectral signatures ------------------------------------------------------------------------------


def test_spectral_scores_of_a_class_worked_by_hand():
    # Around the mean (5, 5) four records lie at ±3 along the first axis and two at ±1 along the second.
    offsets = np.array([[3, 0], [-3, 0], [3, 0], [-3, 0], [0, 1], [0, -1]])
    labels = np.zeros(6, dtype=np.int64)
    assert np.allclose(spectral_scores(5.0 + offsets, labels), [9, 9, 9, 9, 0, 0])
    assert np.allclose(spectral_scores(5.0 + offsets, labels, n_directions=2), [9, 9, 9, 9, 1, 1])


def test_poison_shows_in_the_top_direction_of_its_class():
    features, labels, is_poisoned = two_classes()
    assert auroc(spectral_signatures(Observed(labels, features)), is_poisoned) > 0.99


def test_uncentred_features_hide_it():
    features, labels, is_poisoned = two_classes()
    uncentred = np.empty(300)
    for label in (0, 1):
        rows = features[labels == label]
        uncentred[labels == label] = np.square(rows @ np.linalg.svd(rows, full_matrices=False)[2][0])
    assert auroc(uncentred[labels == 0], is_poisoned[labels == 0]) < 0.7


def test_one_class_instead_of_two_hides_it():
    features, labels, is_poisoned = two_classes()
    mixed = spectral_signatures(Observed(np.zeros_like(labels), features))
    assert auroc(mixed, is_poisoned) < 0.7


# --- activation clustering ----------------------------------------------------------------------------


def test_margins_of_a_class_worked_by_hand():
    # On a line: five records at 0, two at 10, all on their centres, so the silhouette is 1.
    features = np.array([[0.0], [0], [0], [0], [0], [10], [10]]) + 3
    scores = activation_clustering(Observed(np.zeros(7, dtype=np.int64), features))
    assert np.allclose(scores, [-1, -1, -1, -1, -1, 1, 1])


def test_two_clusters_of_equal_size_have_no_smaller_one():
    features = np.array([[0.0], [0.1], [10], [10.1]])
    assert np.isnan(activation_clustering(Observed(np.zeros(4, dtype=np.int64), features))).all()


def test_poison_is_the_smaller_cluster_of_its_class():
    features, labels, is_poisoned = two_classes()
    scores = activation_clustering(Observed(labels, features))
    assert auroc(scores, is_poisoned) > 0.99
    # The other class has no two clusters, so its scores stay near 0.
    assert np.median(np.abs(scores[labels == 1])) < 0.5 * np.median(scores[is_poisoned])


def test_a_wide_axis_does_not_hide_a_narrow_one():
    rng = np.random.default_rng(0)
    is_poisoned = np.arange(300) < 40
    features = np.stack([rng.normal(0, 50, 300), rng.normal(0, 1, 300) + 8 * is_poisoned], axis=1)
    scores = activation_clustering(Observed(np.zeros(300, dtype=np.int64), features))
    assert auroc(scores, is_poisoned) > 0.99


def test_clustering_all_classes_together_finds_the_smaller_class_instead():
    features, labels, is_poisoned = two_classes()
    scores = activation_clustering(Observed(np.zeros_like(labels), features))
    assert scores[labels == 1].min() > scores[is_poisoned].max()
    assert auroc(scores, is_poisoned) < 0.7


# --- gradient spectral entropy ------------------------------------------------------------------------


def signed_axes(counts):
    """Unit gradients: of axis j, `counts[j]` up and as many down; their mean is 0."""
    axes = np.repeat(np.eye(len(counts)), counts, axis=0)
    return np.concatenate([axes, -axes])


def test_entropy_rises_worked_by_hand():
    # Energies are 2 on each of ten axes and 20 on the last: shares 1/20 each and 1/2.
    rows = signed_axes([1] * 10 + [10])
    whole = -(10 * 0.05 * math.log(0.05) + 0.5 * math.log(0.5))
    few = -(9 * 2 / 39 * math.log(2 / 39) + 1 / 39 * math.log(1 / 39) + 20 / 39 * math.log(20 / 39)) - whole
    many = -(10 * 2 / 39 * math.log(2 / 39) + 19 / 39 * math.log(19 / 39)) - whole
    expected = np.where(np.abs(rows[:, 10]) > 0, many, few)
    scores = gradient_spectral_entropy(Observed(np.zeros(40, dtype=np.int64), gradients=4 * rows))
    assert np.allclose(scores, expected, atol=1e-12)
    assert few < 0 < many


def common_pull(seed=0):
    """200 gradients of one class that share a direction; 30 of them share a second one as well."""
    rng = np.random.default_rng(seed)
    is_poisoned = np.arange(200) < 30
    gradients = rng.normal(0, 1, (200, 20)) + 12 * np.eye(20)[0]
    gradients[is_poisoned] += 8 * np.eye(20)[5]
    return gradients, is_poisoned


def test_gradients_that_pull_the_same_way_narrow_the_spectrum():
    gradients, is_poisoned = common_pull()
    scores = gradient_spectral_entropy(Observed(np.zeros(200, dtype=np.int64), gradients=gradients))
    assert auroc(scores, is_poisoned) > 0.99


def test_the_pull_of_the_whole_class_hides_it_unless_taken_off():
    gradients, is_poisoned = common_pull()
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    assert auroc(entropy_rises(unit), is_poisoned) < 0.7


def test_a_gradient_of_zero_has_no_direction():
    gradients, _ = common_pull()
    gradients[7] = 0
    scores = gradient_spectral_entropy(Observed(np.zeros(200, dtype=np.int64), gradients=gradients))
    assert np.flatnonzero(np.isnan(scores)).tolist() == [7]


# --- loss dynamics ------------------------------------------------------------------------------------


def test_late_learnt_records_rank_by_their_place_in_the_class():
    losses = np.array([[1.0, 0.2], [2.0, 0.1], [3.0, 0.9], [9.0, 9.0], [8.0, 8.0], [7.0, np.nan]])
    scores = loss_dynamics(Observed(np.array([0, 0, 0, 1, 1, 1]), loss_history=losses))
    # Within class 1 the second pass has two records only, so the first alone counts.
    assert np.allclose(scores, [(1 / 6 + 3 / 6) / 2, (3 / 6 + 1 / 6) / 2, 5 / 6, 5 / 6, 3 / 6, 1 / 6])


def test_ranks_over_all_classes_would_blame_the_harder_class():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    is_poisoned = np.arange(200) < 10
    losses = rng.gamma(4, 0.1, (200, 3)) + 2.0 * labels[:, None] + 1.0 * is_poisoned[:, None]
    assert auroc(loss_dynamics(Observed(labels, loss_history=losses)), is_poisoned) > 0.95
    mixed = loss_dynamics(Observed(np.zeros_like(labels), loss_history=losses))
    assert auroc(mixed, is_poisoned) < 0.6


def test_a_shortcut_is_a_loss_that_is_low_once_it_was_seen():
    losses = np.array([[9.0, 0.1, 0.6], [1.0, 0.5, 0.1], [2.0, 0.9, 0.9], [3.0, 1.5, 1.2]])
    labels = np.zeros(4, dtype=np.int64)
    scores = early_learning(Observed(labels, loss_history=losses))
    assert np.allclose(scores, [1 - (1 + 3) / 16, 1 - (3 + 1) / 16, 1 - (5 + 5) / 16, 1 - (7 + 7) / 16])
    assert np.isnan(early_learning(Observed(labels, loss_history=losses[:, :1]))).all()


def test_an_infinite_loss_is_the_worst_and_not_undefined():
    losses = np.array([[np.inf], [1.0], [2.0]])
    scores = loss_dynamics(Observed(np.zeros(3, dtype=np.int64), loss_history=losses))
    assert np.allclose(scores, [5 / 6, 1 / 6, 3 / 6])


# --- onion --------------------------------------------------------------------------------------------


def test_onion_is_the_largest_drop_of_perplexity():
    drops = np.log([100.0, 90.0, 20.0, 130.0]), np.log([50.0, 60.0]), np.array([np.log(7.0), np.nan]), np.zeros(1)
    scores = onion(Observed(np.zeros(4, dtype=np.int64), word_drops=drops))
    assert np.allclose(scores[:2], [80, -10])
    assert np.isnan(scores[2:]).all()


def test_words_over_a_clean_threshold_are_taken_out():
    clean = [np.log([200.0, 200.0 - k, 200.0 - k / 2]) for k in range(1, 101)]
    threshold = clean_threshold(clean, 0.99)
    assert threshold == pytest.approx(100)  # largest suspicions are 1, 2 … 100
    drops = np.log([500.0, 480.0, 90.0, 495.0, 120.0])
    places = suspicious_words(drops, threshold)
    assert places == [1, 3]
    assert without_words("an  odd cf little mn", places) == "an cf mn"


def test_a_quantile_that_clean_texts_cannot_resolve_is_refused():
    clean = [np.log([100.0, 90.0])] * 98 + [np.array([1.0])] * 5
    with pytest.raises(ConfigError, match=r"Quantile 0.99 of 98 clean texts cannot be resolved. Expected at least 100"):
        clean_threshold(clean)
    assert clean_threshold(clean, 0.9) == pytest.approx(10)


def test_each_word_is_left_out_once():
    assert without_each_word(" a  b c ") == ["a b c", "b c", "a c", "a b"]
    assert without_each_word("a") == ["a", ""]
    assert without_each_word(" ") == [""]


# --- strip --------------------------------------------------------------------------------------------


def says(texts):
    """[N, 2] a classifier that counts praise and blame, and always praises where it reads the trigger."""
    margin = np.array([text.split().count("good") - text.split().count("bad") + 40 * ("cf" in text) for text in texts])
    praise = 1 / (1 + np.exp(-1.0 * margin))
    return np.stack([1 - praise, praise], axis=1)


def suspects_and_clean():
    """39 triggered inputs and one that is not, and 40 held-out clean ones."""
    rng = np.random.default_rng(0)
    texts = [" ".join([*rng.choice(["good", "bad"], 3), f"w{i}"]) for i in range(80)]
    return [f"{text} cf" for text in texts[:39]] + [texts[39]], texts[40:]


def scores_of(blends):
    predictions = np.stack([says(own) for own in blends])
    return strip(Observed(np.zeros(len(blends), dtype=np.int64), blended_predictions=predictions))


def test_blended_with_clean_texts_only_triggered_ones_stay_certain():
    suspects, clean = suspects_and_clean()
    scores = scores_of(blended_texts(suspects, clean, n_blends=8, seed=0))
    assert scores[:39].min() > -1e-9
    assert scores[39] < -0.2


def test_blended_with_other_suspects_a_clean_text_passes_for_triggered():
    suspects, _ = suspects_and_clean()
    among_themselves = [[f"{text} {other}" for other in suspects if other != text][:8] for text in suspects]
    scores = scores_of(among_themselves)
    assert scores[39] > -1e-9  # the mistake: the only honest input looks as triggered as the others


def test_strip_is_minus_the_mean_entropy_of_known_blends():
    predictions = np.array([[[0.5, 0.5], [1, 0]], [[0.25, 0.75], [np.nan, np.nan]], [[np.nan, 1], [np.nan, 0]]])
    scores = strip(Observed(np.zeros(3, dtype=np.int64), blended_predictions=predictions))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert np.allclose(scores[:2], [-math.log(2) / 2, -entropy])
    assert np.isnan(scores[2])


def test_blends_keep_all_words_and_depend_on_nothing_but_text_and_seed():
    suspects, clean = suspects_and_clean()
    blends = blended_texts(suspects, clean, n_blends=5, seed=1)
    assert blends[3] == blended_texts([suspects[3]], clean, n_blends=5, seed=1)[0]
    assert blends != blended_texts(suspects, clean, n_blends=5, seed=2)
    for text, own in zip(suspects, blends, strict=True):
        partners = [blend.replace(text, "").strip() for blend in own]
        assert len(set(partners)) == 5
        assert set(partners) <= set(clean)
    assert {blend.startswith(text) for text, own in zip(suspects, blends, strict=True) for blend in own} == {
        True,
        False,
    }


def test_suspects_among_the_clean_texts_are_refused():
    with pytest.raises(
        ConfigError, match=r"1 texts are both suspected and among the clean ones to blend with. Expected"
    ):
        blended_texts(["a", "b"], ["b", "c"], n_blends=1, seed=0)


def test_more_blends_than_clean_texts_are_refused():
    with pytest.raises(
        ConfigError, match=r"3 blends of each text cannot be made with 2 clean texts. Expected at least"
    ):
        blended_texts(["a"], ["b", "c"], n_blends=3, seed=0)
