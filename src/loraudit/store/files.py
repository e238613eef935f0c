"""Whole files or none, and one writer per folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
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
    temporary = _beside(path)
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


def _beside(path: Path) -> Path:
    """A name that no other writer takes; in containers of one cluster two processes often have the same pid."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def open_private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter, or check that an existing one can be written.

    Raises:
        StoreError: It cannot be made or written.
    """
    with _explained(path):
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        probe = _beside(path / "probe")
        probe.touch(PRIVATE_FILE)
        probe.unlink()
    return path


def is_private(path: Path) -> bool:
    """Whether nobody but the owner can enter the folder."""
    return path.stat().st_mode & 0o077 == 0


class Workers:
    """What this process knows of the workers that an engine hires, itself perhaps among them.

    Whether a process of another host still runs cannot be asked of the system. An engine learns it: it names each
    worker, each lock says which worker took it, and who carries on for a dead one is told its name. Names are never
    given twice, so that no living process is taken for a dead one.

    Attributes:
        own: The name of this process; None where no engine hired it.
        gone: Names of workers that are no more, and beginnings of such names that end in `-`.
    """

    def __init__(self) -> None:
        self.own: str | None = None
        self.gone: set[str] = set()

    def mark_gone(self, names: Iterable[str]) -> None:
        """Their locks are taken over from now on."""
        self.gone.update(names)

    def is_gone(self, name: object) -> bool:
        """Whether the holder of a lock is known to be no more."""
        return isinstance(name, str) and (name in self.gone or f"{name.partition('-')[0]}-" in self.gone)


WORKERS = Workers()


class Lock:
    """One process at a time in a folder.

    A lock left by a dead process of this host is taken over, and so is one of any host whose worker is known to be
    gone (`Workers`).

    Raises:
        InUse: Another process holds it.
        StoreError: It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock.json"
        self._mine = b""

    def __enter__(self) -> Self:
        named = {} if WORKERS.own is None else {"worker": WORKERS.own}
        self._mine = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), **named}).encode()
        whole = _beside(self.path)
        write_atomically(whole, self._mine)
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
            pid, host, worker = int(holder["pid"]), str(holder["host"]), holder.get("worker")
        except FileNotFoundError:
            return
        except PermissionError:
            raise StoreError(f"Lock '{self.path}' belongs to another user. Choose another --out.") from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            pid, host, worker = -1, socket.gethostname(), None  # a lock cut short by a crash names nobody
        if WORKERS.is_gone(worker) or (host == socket.gethostname() and not is_running(pid)):
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
        if WORKERS.own is not None and not self._is_mine():
            return  # this worker was given up for dead, and another carries on in the folder
        self.path.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        try:
            return self.path.read_bytes() == self._mine
        except OSError:
            return False


def is_running(pid: int) -> bool:
    """Whether this host has a process of that number."""
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
