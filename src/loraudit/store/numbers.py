"""One number per record, kept like evidence: in units that are there and right, or redone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from safetensors import numpy as safetensors_numpy

from loraudit.store.units import UnitFolder
from loraudit.types import FloatArray


@dataclass
class NumberFolder(UnitFolder):
    """Numbers of records under one set of conditions."""

    _known: dict[str, float] = field(default_factory=dict[str, float])

    def refresh(self) -> None:
        """Read units that have appeared; damaged ones are removed and counted."""
        for content in self._unread():
            arrays = safetensors_numpy.load(content)
            ids = [bytes(row).hex() for row in arrays["ids"]]
            self._known.update(zip(ids, arrays["values"].tolist(), strict=True))

    def lacks(self, record_id: str) -> bool:
        """Whether the record has no number yet."""
        return record_id not in self._known

    def add(self, ids: Sequence[str], values: FloatArray) -> None:
        """Write one unit; undefined numbers are NaN.

        Raises:
            StoreError: It cannot be written.
        """
        keys = np.frombuffer(bytes.fromhex("".join(ids)), dtype=np.uint8).reshape(len(ids), 32).copy()
        content = safetensors_numpy.save({"ids": keys, "values": np.asarray(values, dtype=np.float64)})
        self._write(content)
        self._known.update(zip(ids, np.asarray(values, dtype=np.float64).tolist(), strict=True))

    def values(self, ids: Sequence[str]) -> FloatArray:
        """[N] the number of each record; NaN where it is undefined or not there."""
        return np.array([self._known.get(record_id, np.nan) for record_id in ids], dtype=np.float64)
