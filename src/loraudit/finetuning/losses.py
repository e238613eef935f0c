"""What training noted of each record: its loss, pass by pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loraudit.errors import StoreError
from loraudit.finetuning.folder import TRAINING_FOLDER
from loraudit.finetuning.history import EXPOSURE_FILE
from loraudit.models.recorded import RECIPE_FILE
from loraudit.types import FloatArray, IntArray, Record


def read_loss_history(folder: Path, records: Sequence[Record]) -> FloatArray:
    """Loss of each record in each pass over the training set, just before the steps that trained on it.

    Windows and copies of a record count by their predictions.

    Args:
        folder: That `finetune` left.
        records: Trained on, in the order they were given; a repeated one has the same row each time.

    Returns:
        [N, passes] nats per prediction; NaN where a pass did not come by the record. Under differential privacy, whose
        batches are drawn anew at each step, a pass is as many steps as it takes on average.

    Raises:
        StoreError: There is no log, it cannot be read, or it is of other records.
    """
    facts, log = _read(folder)
    order = {name: place for place, name in enumerate(dict.fromkeys(record.id for record in records))}
    if int(facts["n_records"]) != len(order):
        raise StoreError(
            f"'{folder}' was trained on {facts['n_records']} records, not on the {len(order)} distinct ones given. "
            "Expected the records that its training was given. Name the folder of their run."
        )
    passes = _passes(facts, log["step"])
    n_passes = int(passes.max(initial=-1)) + 1
    cells = log["record"].astype(np.int64) * n_passes + passes
    n_cells = len(order) * n_passes
    counts = np.bincount(cells, log["n_predictions"], n_cells)
    totals = np.bincount(cells, log["loss"].astype(np.float64) * log["n_predictions"], n_cells)
    means = np.divide(totals, counts, out=np.full(n_cells, np.nan), where=counts > 0)
    return means.reshape(len(order), n_passes)[[order[record.id] for record in records]]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, IntArray]]:
    path = folder / TRAINING_FOLDER / EXPOSURE_FILE
    try:
        facts = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        table = pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"'{path}' cannot be read: {type(error).__name__}. Expected the log of a training run. Train again, or "
            "leave out detectors that need the loss history."
        ) from None
    return facts, {name: table[name].to_numpy() for name in table.column_names}


def _passes(facts: dict[str, Any], steps: IntArray) -> IntArray:
    """[rows] the pass that each row of the log belongs to, from 0."""
    privacy = facts.get("privacy")
    if privacy:
        return np.floor((steps - 1) * float(privacy["sample_rate"]) + 1e-9).astype(np.int64)
    return np.arange(len(steps)) // int(facts["n_exposures_per_epoch"])
