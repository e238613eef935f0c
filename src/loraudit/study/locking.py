"""One call at a time in the folder of a study; parts of an array job beside each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from loraudit.store import Lock, open_private_folder


@contextlib.contextmanager
def locked(folder: Path, shard: str | None) -> Iterator[None]:
    """Held while a study, or part `i/n` of it, is carried out.

    Parts of one division may run at the same time; the whole study, or parts of another division, may not run
    beside them: two calls would carry out the same cells.

    Raises:
        InUse: Another process is at the same cells.
        StoreError: The folder cannot be written.
    """
    parts = open_private_folder(folder / "parts")
    own = folder if shard is None else open_private_folder(parts / shard.replace("/", "-of-"))
    with Lock(own):
        # The own lock comes first: of two calls that look for each other, one at least sees the other.
        for other in _others(folder, parts, shard):
            with Lock(other):
                pass
        yield


def _others(folder: Path, parts: Path, shard: str | None) -> list[Path]:
    """Folders whose lock, if it is held, keeps this call out."""
    of_parts = [path for path in sorted(parts.iterdir()) if path.is_dir()]
    if shard is None:
        return of_parts
    division = f"-of-{shard.split('/')[1]}"
    return [folder, *(path for path in of_parts if not path.name.endswith(division))]
