"""Where a logger has put a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and where it is now.

    Attributes:
        where: Tracking server, folder or page, without credentials.
        entries: Ids of the tracker's entries, the run's own first, then those of its cells.
        n_updated: Entries that were there before; None where only the tracker knows.
        files: Names of files sent with them.
        next_step: What is left to the user; None where nothing is.
    """

    where: str
    entries: tuple[str, ...]
    n_updated: int | None
    files: tuple[str, ...]
    next_step: str | None = None
