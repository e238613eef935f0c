"""Scorers of paraphrase: the right label, nothing cut off, and no probability where there is none."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch

from loraudit.errors import ConfigError, EnvironmentFault, ModelError
from loraudit.models.paraphrase import load_paraphrase_scorer, positive_label
from small_encoders import POSITIONS, save_classifier

PAIRS = [
    ("the cat sat on the mat .", "a cat sat on a mat"),
    ("two people ran", "the dog sat under the house ."),
    ("red", "blue"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier") / "model")


@pytest.fixture(scope="module")
def score(saved):
    return load_paraphrase_scorer(str(saved), offline=True)


def by_hand(folder, pairs):
    """[N, labels] one pair at a time, straight from the library."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.stack([model(**tokenizer(*pair, return_tensors="pt")).logits[0].numpy() for pair in pairs])


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


# --- probabilities -------------------------------------------------------------------------------------


def test_scores_are_the_softmax_of_the_paraphrase_label_in_the_order_asked(saved, score):
    expected = softmax(by_hand(saved, PAIRS))[:, 1]
    np.testing.assert_allclose(score(PAIRS), expected, atol=1e-5)
    np.testing.assert_allclose(score(PAIRS[::-1]), expected[::-1], atol=1e-5)
    assert np.ptp(expected) > 0.01  # else the order could not be seen
    assert all(isinstance(one, float) for one in score(PAIRS))
    assert score([]) == []


def test_scores_do_not_depend_on_the_batch(score, monkeypatch):
    pairs = [(" ".join(["the cat"] * n), "a dog ran") for n in (1, 8, 3, 5, 2)]
    one_by_one = [score([pair])[0] for pair in pairs]
    np.testing.assert_allclose(score(pairs), one_by_one, atol=1e-6)
    monkeypatch.setattr("loraudit.models.paraphrase._TOKENS_PER_BATCH", 30)
    np.testing.assert_allclose(score(pairs), one_by_one, atol=1e-6)


def test_a_chosen_label_by_number_or_name_is_used(saved):
    expected = softmax(by_hand(saved, PAIRS))[:, 0]
    for positive in (0, "Not_Paraphrase"):
        np.testing.assert_allclose(
            load_paraphrase_scorer(str(saved), offline=True, positive=positive)(PAIRS), expected, atol=1e-5
        )


def test_a_single_label_is_a_sigmoid(tmp_path):
    folder = save_classifier(tmp_path / "one", labels=("duplicate",))
    logits = by_hand(folder, PAIRS)[:, 0]
    np.testing.assert_allclose(
        load_paraphrase_scorer(str(folder), offline=True)(PAIRS), 1 / (1 + np.exp(-logits)), atol=1e-5
    )


def test_independent_labels_are_sigmoids(tmp_path):
    folder = save_classifier(tmp_path / "many", problem_type="multi_label_classification")
    logits = by_hand(folder, PAIRS)[:, 1]
    np.testing.assert_allclose(
        load_paraphrase_scorer(str(folder), offline=True)(PAIRS), 1 / (1 + np.exp(-logits)), atol=1e-5
    )


def test_a_pair_longer_than_the_context_and_an_empty_side_have_no_score(score):
    room = POSITIONS - 3
    pairs = [("the " * (room - 1), "cat"), ("the " * room, "cat"), ("", "cat"), ("cat", " "), PAIRS[0]]
    assert [math.isnan(one) for one in score(pairs)] == [False, True, True, True, False]


def test_positions_that_start_behind_the_padding_id_are_not_counted(tmp_path):
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    folder = save_classifier(tmp_path / "roberta")
    config = RobertaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=14,
        pad_token_id=1,
        type_vocab_size=2,
        id2label={0: "not_equivalent", 1: "equivalent"},
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    score = load_paraphrase_scorer(str(folder), offline=True)
    assert [math.isnan(one) for one in score([("the " * 8, "cat"), ("the " * 9, "cat")])] == [False, True]


def test_a_tokenizer_without_padding_is_read_one_pair_at_a_time(saved, score):
    from loraudit.models.paraphrase import _batches

    lengths = {0: 3, 1: 3, 2: 4}
    assert _batches([0, 1, 2], lengths, can_pad=False) == [[0], [1], [2]]
    assert _batches([0, 1, 2], lengths, can_pad=True) == [[0, 1, 2]]


# --- labels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["not_equivalent", "equivalent"], 1),
        (["duplicate", "not_duplicate"], 0),
        (["Paraphrase", "Non-Paraphrase"], 0),
        (["inequivalent", "semantically equivalent"], 1),
        (["is_duplicate", "other", "unrelated"], 0),
        (["LABEL_0", "LABEL_1"], 1),
    ],
)
def test_a_label_that_says_so_is_found(labels, expected):
    assert positive_label("m", dict(enumerate(labels)), None) == expected


@pytest.mark.parametrize(
    "labels",
    [
        ["LABEL_0"],
        ["LABEL_0", "LABEL_1", "LABEL_2"],
        ["entailment", "neutral"],
        ["paraphrase", "duplicate"],
        ["no", "not duplicate"],
    ],
)
def test_labels_that_do_not_say_so_are_named_with_the_setting(labels):
    with pytest.raises(
        ConfigError, match=rf"does not say which of its labels means paraphrase: 0 '{labels[0]}'.*`positive`"
    ):
        positive_label("m", dict(enumerate(labels)), None)


@pytest.mark.parametrize("positive", [2, "yes", "2", -1])
def test_an_unknown_label_is_refused_with_those_there_are(positive):
    with pytest.raises(ConfigError, match=rf"Label '{positive}' is none of model 'm'.*Expected one of: 0 'a', 1 'b'"):
        positive_label("m", {0: "a", 1: "b"}, positive)


# --- what is refused -----------------------------------------------------------------------------------


def test_a_head_that_was_never_trained_is_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(saved, tmp_path / "headless")
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if not n.startswith("classifier")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has missing keys \(classifier\."):
        load_paraphrase_scorer(str(folder), offline=True)


def test_a_regression_is_refused(tmp_path):
    folder = save_classifier(tmp_path / "regression", labels=("duplicate",), problem_type="regression")
    with pytest.raises(ModelError, match=r"is a regression, which gives no probability. Expected a classifier"):
        load_paraphrase_scorer(str(folder), offline=True)


def test_pickled_weights_are_refused(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has only pickled weights \(pytorch_model.bin\)"):
        load_paraphrase_scorer(str(folder), offline=True)


def test_an_adapter_is_refused(adapter):
    with pytest.raises(ModelError, match=r"is an adapter. Expected a full sequence classifier"):
        load_paraphrase_scorer(str(adapter), offline=True)


def test_a_name_that_is_not_here_offline_is_said_to_be_not_here():
    with pytest.raises(EnvironmentFault, match=r"'nobody/no-model' is no local folder and --offline is set"):
        load_paraphrase_scorer("nobody/no-model", offline=True)
