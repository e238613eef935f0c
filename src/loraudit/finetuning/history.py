"""What happened while a model was tuned: losses along the way, and which record was seen at which step."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loraudit.store import write_atomically
from loraudit.types import FloatArray, IntArray

EXPOSURE_FILE = "exposure.parquet"


@dataclass(frozen=True, slots=True)
class Moment:
    """Where training stood when losses were taken.

    Attributes:
        step: Steps done; 0 is the untouched base.
        epoch: Passes done, with fractions.
        training_loss: Mean over the predictions trained on since the moment before, nats; None at step 0.
        validation_loss: Mean over the validation records' predictions, nats; None without any.
        validation_accuracy: Share of them whose gold token or label was the most likely.
        ngram_score: Share of n-grams of a sample of training records predicted word for word; None where not asked for.
        checkpoint: Folder of the weights at that moment, relative to the model's; None where none were kept.
    """

    step: int
    epoch: float
    training_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    ngram_score: float | None = None
    checkpoint: str | None = None

    @classmethod
    def read(cls, content: dict[str, Any]) -> Moment:
        """From what `asdict` gave."""
        return cls(**{entry.name: content.get(entry.name) for entry in fields(cls)})  # type: ignore[arg-type]


@dataclass
class History:
    """Moments so far, and the running mean since the last.

    Attributes:
        moments: In order of training.
        total: Summed loss since the last moment, nats.
        n_predictions: Predictions it sums over.
    """

    moments: list[Moment] = field(default_factory=list[Moment])
    total: float = 0.0
    n_predictions: int = 0

    def seen(self, total: float, n_predictions: int) -> None:
        """One more step's summed loss."""
        self.total += total
        self.n_predictions += n_predictions

    def add(self, moment: Moment) -> None:
        """A moment; the running mean begins anew."""
        self.moments.append(moment)
        self.total, self.n_predictions = 0.0, 0

    @property
    def running_loss(self) -> float | None:
        """Mean loss since the last moment."""
        return self.total / self.n_predictions if self.n_predictions else None

    @property
    def best(self) -> Moment | None:
        """The trained moment of the lowest validation loss, the earliest of equals; None without validation."""
        known = [m for m in self.moments if m.step and m.validation_loss is not None]
        return min(known, key=lambda m: m.validation_loss or math.inf, default=None)

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "moments": [asdict(moment) for moment in self.moments],
            "total": self.total,
            "n_predictions": self.n_predictions,
        }

    @classmethod
    def read(cls, content: dict[str, Any]) -> History:
        """From what `content` gave."""
        return cls([Moment.read(m) for m in content["moments"]], content["total"], content["n_predictions"])


class ExposureLog:
    """Which record was trained on at which step, and its loss just before that step.

    Rows wait in memory until `flush`, which writes them as one part; parts are joined at the end. A part that a
    killed run wrote beyond its last state is dropped when training goes on.

    Args:
        folder: For parts and the final file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[tuple[int, IntArray, FloatArray, IntArray]] = []

    def add(self, step: int, records: IntArray, total: FloatArray, n_predictions: IntArray) -> None:
        """One step.

        Args:
            step: Counted from 1.
            records: [n] position of each record among the training records.
            total: [n] its summed loss, nats.
            n_predictions: [n] predictions that sums over.
        """
        self._rows.append((step, records, total, n_predictions))

    def flush(self, step: int) -> None:
        """Write what waits as the part that ends with `step`."""
        if self._rows:
            write_atomically(self.folder / f"exposure-{step:09d}.part", _parquet(self._table()))
            self._rows = []

    def _table(self) -> pa.Table:
        counts = [len(records) for _, records, _, _ in self._rows]
        total = np.concatenate([row[2] for row in self._rows])
        n_predictions = np.concatenate([row[3] for row in self._rows])
        return pa.table(
            {
                "step": pa.array(np.repeat([row[0] for row in self._rows], counts), pa.int32()),
                "record": pa.array(np.concatenate([row[1] for row in self._rows]), pa.int32()),
                "loss": pa.array(total / np.maximum(n_predictions, 1), pa.float32()),
                "n_predictions": pa.array(n_predictions, pa.int32()),
            }
        )

    def drop_after(self, step: int) -> None:
        """Remove the parts that end later than `step`."""
        for part in self._parts():
            if int(part.stem.removeprefix("exposure-")) > step:
                part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("exposure-*.part"))

    def join(self) -> None:
        """All parts as `exposure.parquet`: step, record, loss (nats per prediction), n_predictions."""
        parts = self._parts()
        if parts:
            whole = pa.concat_tables([pq.read_table(io.BytesIO(part.read_bytes())) for part in parts])
            write_atomically(self.folder / EXPOSURE_FILE, _parquet(whole))
            for part in parts:
                part.unlink()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
