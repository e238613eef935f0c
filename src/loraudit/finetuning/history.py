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
_PARTS = b"parts"
_LAST_STEP = b"last_step"


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
        n_predictions: Predictions that the training loss is a mean over.
        checkpoint: Folder of the weights at that moment, relative to the model's; None where none were kept.
    """

    step: int
    epoch: float
    training_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    ngram_score: float | None = None
    n_predictions: int = 0
    checkpoint: str | None = None

    @classmethod
    def read(cls, content: dict[str, Any]) -> Moment:
        """From what `asdict` gave."""
        return cls(**{entry.name: content[entry.name] for entry in fields(cls) if entry.name in content})


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
        known = [(m.validation_loss, m) for m in self.moments if m.step and m.validation_loss is not None]
        numbers = [(loss, m) for loss, m in known if not math.isnan(loss)]
        return min(numbers, key=lambda pair: pair[0], default=(0, None))[1]

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
        name = f"exposure-{step:09d}.part"
        if not self._rows and (step == 0 or (self.folder / name).exists()):
            return
        ends = [*(int(part.stem.removeprefix("exposure-")) for part in self._parts() if part.name != name), step]
        table = self._table().replace_schema_metadata({_PARTS: ",".join(map(str, ends))})
        write_atomically(self.folder / name, _parquet(table))
        self._rows = []

    def _table(self) -> pa.Table:
        counts = [len(row[1]) for row in self._rows]
        total = np.concatenate([np.zeros(0), *(row[2] for row in self._rows)])
        n_predictions = np.concatenate([np.zeros(0, dtype=np.int64), *(row[3] for row in self._rows)])
        records = np.concatenate([np.zeros(0, dtype=np.int64), *(row[1] for row in self._rows)])
        return pa.table(
            {
                "step": pa.array(
                    np.repeat(np.array([row[0] for row in self._rows], dtype=np.int64), counts), pa.int32()
                ),
                "record": pa.array(records, pa.int32()),
                "loss": pa.array(total / np.maximum(n_predictions, 1), pa.float32()),
                "n_predictions": pa.array(n_predictions, pa.int32()),
            }
        )

    def clear(self) -> None:
        """Forget what an earlier run logged."""
        for path in (*self._parts(), self.folder / EXPOSURE_FILE):
            path.unlink(missing_ok=True)

    def go_on_after(self, step: int) -> bool:
        """Drop what was logged after `step`; whether everything up to it is there."""
        parts = {int(part.stem.removeprefix("exposure-")): part for part in self._parts()}
        for last, part in parts.items():
            if last > step:
                part.unlink()
        return step == 0 or self._joined_until() == step or sorted(n for n in parts if n <= step) == self._ends(step)

    def _ends(self, step: int) -> list[int]:
        """The last steps of the parts that a log up to `step` is made of: the last part names them."""
        try:
            metadata = pq.read_schema(self.folder / f"exposure-{step:09d}.part").metadata or {}
        except (OSError, pa.ArrowException):
            return [-1]
        return [int(end) for end in metadata[_PARTS].decode().split(",")]

    def _joined_until(self) -> int | None:
        try:
            metadata = pq.read_schema(self.folder / EXPOSURE_FILE).metadata or {}
        except (OSError, pa.ArrowException):
            return None
        return int(metadata.get(_LAST_STEP, b"-1"))

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("exposure-*.part"))

    def join(self, step: int) -> None:
        """All parts as `exposure.parquet`: step, record, loss (nats per prediction), n_predictions."""
        parts = self._parts()
        if parts and self._joined_until() != step:
            tables = [pq.read_table(io.BytesIO(part.read_bytes())).replace_schema_metadata() for part in parts]
            whole = pa.concat_tables(tables).replace_schema_metadata({_LAST_STEP: str(step)})
            write_atomically(self.folder / EXPOSURE_FILE, _parquet(whole))
        for part in parts:
            part.unlink()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
