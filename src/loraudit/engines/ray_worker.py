"""A worker on a node of a Ray cluster: an actor's class, which needs no Ray itself."""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraudit.engines.seat import Answer, Seat, answered
from loraudit.engines.sessions import check_shared
from loraudit.engines.stopping import stop_of_worker
from loraudit.store import WORKERS, lend_secret, library_versions

MUST_AGREE = ("loraudit", "python", "ray")


def versions_here() -> dict[str, str]:
    """Of what carries out and makes numbers."""
    return {**library_versions(), "ray": importlib.metadata.version("ray")}


def said(versions: dict[str, str]) -> str:
    """Those that must agree, in words."""
    return ", ".join(f"{name} {versions.get(name, 'missing')}" for name in MUST_AGREE)


class RayWorker:
    """Its first call is `check_in`, which has the same arguments in every version."""

    def __init__(self) -> None:
        self._seat: Seat | None = None

    def check_in(self, known: dict[str, Any]) -> Answer:
        """Take a name, and prove that the shared folder is the driver's.

        Args:
            known: `name` of the worker; `mark` and `text` of the session; `threads`; `secret` of the user or None.

        Returns:
            An answer with `host` and `versions` of this node; or with a `StoreError`.
        """

        def check() -> dict[str, Any]:
            found = {"host": socket.gethostname(), "versions": versions_here()}
            check_shared(Path(known["mark"]), known["text"])
            WORKERS.own = known["name"]
            if known["secret"] is not None:
                lend_secret(known["secret"])
            self._seat = Seat(known["threads"])
            return found

        return answered(-1, check)

    def take(self, work: bytes) -> Answer:
        """Unpack the work."""
        return self._checked_in().take(work)

    def carry_out(self, position: int, unit: bytes, gone: Sequence[str]) -> Answer:
        """Carry out one unit; locks of the workers that are gone are taken over."""
        WORKERS.mark_gone(gone)
        return self._checked_in().carry_out(position, unit)

    def _checked_in(self) -> Seat:
        assert self._seat is not None, "it was asked before it had checked in"  # noqa: S101 - a bug, not a state
        return self._seat

    def ask_to_stop(self) -> None:
        """Called beside the unit that is in hand."""
        stop_of_worker().ask()
