"""Whole files or none, and one writer per folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from loraudit.errors import InUse, StoreError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


@contextlib.contextmanager
def _explained(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        size = "" if n_bytes is None else f" ({n_bytes:,} bytes)"
        raise StoreError(
            f"'{path}'{size} cannot be written: {error.strerror or error}. "
            "Free space or name another folder with --out and --store; what was finished is kept."
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or as it was; readable by its owner only.

    Raises:
        StoreError: The disk is full, or the folder is gone or read-only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _explained(path, len(content)):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def open_private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter, or check that an existing one can be written.

    Raises:
        StoreError: It cannot be made or written.
    """
    with _explained(path):
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.touch(PRIVATE_FILE)
        probe.unlink()
    return path


def is_private(path: Path) -> bool:
    """Whether nobody but the owner can enter the folder."""
    return path.stat().st_mode & 0o077 == 0


class Lock:
    """One process at a time in a folder; a lock left by a dead process of this host is taken over.

    Raises:
        InUse: Another process holds it.
        StoreError: It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock.json"

    def __enter__(self) -> Self:
        mine = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        whole = self.path.with_name(f".lock.{os.getpid()}.json")
        write_atomically(whole, mine.encode())
        try:
            for _ in range(2):
                try:
                    with _explained(self.path):
                        # A link appears with its content; a file made and then filled could be read while empty.
                        os.link(whole, self.path)
                except StoreError as error:
                    if not isinstance(error.__cause__, FileExistsError):
                        raise
                    self._remove_if_stale()
                    continue
                return self
        finally:
            whole.unlink(missing_ok=True)
        raise StoreError(f"'{self.path}' keeps coming back. Another run is starting in this folder; try again.")

    def _remove_if_stale(self) -> None:
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            pid, host = int(holder["pid"]), str(holder["host"])
        except FileNotFoundError:
            return
        except PermissionError:
            raise StoreError(f"Lock '{self.path}' belongs to another user. Choose another --out.") from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            pid, host = -1, socket.gethostname()  # a lock cut short by a crash names nobody
        if host == socket.gethostname() and not _is_running(pid):
            self.path.unlink(missing_ok=True)
            return
        raise InUse(
            f"Run folder '{self.path.parent}' is in use by process {pid} on {host}. "
            f"Wait for it, or delete '{self.path}' if that process is gone.",
            folder=str(self.path.parent),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
