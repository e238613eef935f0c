"""What was replaced in copies of records, kept so that the same copies are found again without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from safetensors import numpy as safetensors_numpy

from loraudit.store.units import UnitFolder
from loraudit.types import IntArray


@dataclass
class SubstitutionFolder(UnitFolder):
    """Substitutions drawn under one set of conditions."""

    _found: dict[str, IntArray] = field(default_factory=dict[str, IntArray])

    def refresh(self) -> None:
        """Read all that is there; damaged files are removed and counted."""
        for content in self._unread():
            arrays = safetensors_numpy.load(content)
            drawn = np.split(arrays["substitutions"], np.cumsum(arrays["n_replaced"])[:-1])
            ids = [bytes(row).hex() for row in arrays["ids"]]
            self._found.update((name, own.transpose(1, 0, 2)) for name, own in zip(ids, drawn, strict=True))

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._found

    def __getitem__(self, record_id: str) -> IntArray:
        """[K, m, 2] places and tokens of each copy of a record."""
        return self._found[record_id]

    def add(self, ids: Sequence[str], drawn: Sequence[IntArray]) -> None:
        """Write what was drawn for some records, [K, m, 2] each, K the same for all.

        Raises:
            StoreError: It cannot be written.
        """
        if not ids:
            return
        content = safetensors_numpy.save(
            {
                "ids": np.frombuffer(bytes.fromhex("".join(ids)), dtype=np.uint8).reshape(len(ids), 32).copy(),
                "n_replaced": np.array([own.shape[1] for own in drawn], dtype=np.int32),
                "substitutions": np.ascontiguousarray(
                    np.concatenate([own.transpose(1, 0, 2) for own in drawn]), dtype=np.int32
                ),
            }
        )
        self._write(content)
        self._found.update(zip(ids, drawn, strict=True))
