"""Files that are there and right, or redone: the name of each is the sha256 of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loraudit.store.files import write_atomically


@dataclass
class UnitFolder:
    """A folder of units.

    Attributes:
        path: The folder.
        n_damaged: Units found damaged and removed, so that they are redone.
    """

    path: Path
    n_damaged: int = 0
    _read: set[str] = field(default_factory=set[str])

    def _unread(self) -> Iterator[bytes]:
        """Units that have appeared since the last look; damaged ones are removed and counted."""
        for file in sorted(self.path.glob("*.unit")):
            if file.name in self._read:
                continue
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:32] != file.stem:
                file.unlink()
                self.n_damaged += 1
                continue
            self._read.add(file.name)
            yield content

    def _write(self, content: bytes) -> None:
        """Keep one unit.

        Raises:
            StoreError: It cannot be written.
        """
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.unit"
        write_atomically(self.path / name, content)
        self._read.add(name)
