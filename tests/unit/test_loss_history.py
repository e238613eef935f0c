"""The loss of each record, pass by pass, from what training logged."""

import numpy as np
import pytest

from loraudit.errors import StoreError
from loraudit.finetuning import finetune, read_loss_history
from loraudit.finetuning.losses import _passes
from loraudit.spec import Recipe
from small_tuning import exposure, labelled, rows

RECIPE = Recipe(method="full", task="classification", epochs=3, learning_rate=3e-3, batch_size=4)


@pytest.fixture(scope="module")
def trained(base, texts, tmp_path_factory):
    records = labelled(texts[:10])
    out = tmp_path_factory.mktemp("tuned") / "out"
    return finetune(str(base), records, RECIPE, out), records


def test_each_pass_has_each_record_once(trained):
    model, records = trained
    losses = read_loss_history(model.path, records)
    assert losses.shape == (10, 3)
    assert np.allclose(losses.mean(axis=0), model.training_losses, atol=1e-5)
    log = exposure(model.path)
    for i in range(10):
        assert np.allclose(losses[i], log["loss"][log["record"] == i])  # the log is in the order of the steps


def test_a_repeated_record_has_its_row_each_time(trained):
    model, records = trained
    losses = read_loss_history(model.path, [*records, records[2]])
    assert np.array_equal(losses[10], losses[2])


def test_windows_of_a_record_count_by_their_predictions(base, texts, tmp_path):
    records = rows(texts[:5], words=12)
    recipe = Recipe(method="full", epochs=2, learning_rate=1e-3, batch_size=3, max_length=8)
    model = finetune(str(base), records, recipe, tmp_path / "out")
    losses = read_loss_history(model.path, records)
    log = exposure(model.path)
    half = len(log["step"]) // 2
    assert half > 5  # a record has several windows
    for i in range(5):
        for n_pass, part in enumerate((slice(0, half), slice(half, None))):
            mine = log["record"][part] == i
            expected = np.average(log["loss"][part][mine], weights=log["n_predictions"][part][mine])
            assert losses[i, n_pass] == pytest.approx(expected)


def test_passes_of_drawn_batches_go_by_the_steps():
    facts = {"privacy": {"sample_rate": 0.25}, "n_exposures_per_epoch": 99}
    assert _passes(facts, np.array([1, 2, 4, 5, 8, 9])).tolist() == [0, 0, 0, 1, 1, 2]


def test_other_records_are_refused(trained):
    model, records = trained
    with pytest.raises(StoreError, match=r"was trained on 10 records, not on the 4 distinct ones given. Expected the"):
        read_loss_history(model.path, records[:4])


def test_a_missing_log_is_said(tmp_path):
    with pytest.raises(StoreError, match=r"exposure.parquet' cannot be read: FileNotFoundError. Expected the log of"):
        read_loss_history(tmp_path, [])
