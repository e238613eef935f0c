"""The mark that an engine with workers on other hosts leaves in the shared folder.

It holds a random text, so that a worker can prove that it sees the same folder; and who wrote it, so that the next
engine there knows which workers ended with an engine that did not end well, and takes over their locks.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from pathlib import Path

from loraudit.errors import StoreError
from loraudit.store import is_running, open_private_folder, write_atomically

_PREFIX = ".engine-"
_SECONDS_TO_APPEAR = 5.0
"""Network folders show a new file to other hosts after a moment."""

_open: set[str] = set()
"""Of this process: its pid alone does not say whether a session of it goes on."""


class Session:
    """One engine's presence in the shared folder.

    Attributes:
        id: Random; the names of its workers begin with it and `-`.
        path: Of the mark.
        text: What the mark holds.
        left_over: Sessions of this host that did not end well and whose process is no more. On another host this
            cannot be told, so their locks stay until a person removes them, as the message of such a lock says.
    """

    def __init__(self, shared: Path) -> None:
        self.id = secrets.token_hex(8)
        self.left_over = _left_over(shared)
        self.path = open_private_folder(shared) / f"{_PREFIX}{self.id}.json"
        self.text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "nonce": secrets.token_hex(16)})
        write_atomically(self.path, self.text.encode())
        _open.add(self.id)

    def close(self, *, in_peace: bool) -> None:
        """Forget it, and those before it, unless workers were ended in the middle of a unit and left locks."""
        _open.discard(self.id)
        if in_peace:
            for session in [self.id, *self.left_over]:
                self.path.with_name(f"{_PREFIX}{session}.json").unlink(missing_ok=True)


def _left_over(shared: Path) -> list[str]:
    found = []
    for path in sorted(shared.glob(f"{_PREFIX}*.json")):
        session = path.stem.removeprefix(_PREFIX)
        try:
            mark = json.loads(path.read_text(encoding="utf-8"))
            pid, host = int(mark["pid"]), str(mark["host"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        is_ended = session not in _open if pid == os.getpid() else not is_running(pid)
        if host == socket.gethostname() and is_ended:
            found.append(session)
    return found


def check_shared(path: Path, text: str) -> None:
    """Find the driver's mark where the driver left it.

    Raises:
        StoreError: It is not there, so that what is written here would never be seen.
    """
    deadline = time.monotonic() + _SECONDS_TO_APPEAR
    while True:
        try:
            seen = path.read_text(encoding="utf-8")
        except OSError:
            seen = None
        if seen == text:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    raise StoreError(
        f"Folder '{path.parent}' of node {socket.gethostname()} is not the one of the machine that started the work. "
        "Expected a folder that all nodes share, under the same path. Name one with --out, or keep this node out."
    )
