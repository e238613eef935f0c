"""Ids that do not identify: a keyed hash of the content hash, under a key that is never exported.

A plain content hash would let anyone who holds a candidate text look it up in a shared result.
The key of a run is derived from a secret of the user and the run's spec, so that the same
request gives the same ids on the same account and nobody else can compute them.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from loraudit.errors import StoreError
from loraudit.store.files import open_private_folder, write_atomically
from loraudit.types import Record

_SHOWN_HEX_DIGITS = 24
_SECRET_BYTES = 32


_lent: list[bytes] = []


def lend_secret(secret: bytes) -> None:
    """Ids of this process are those of whoever hired it; a worker on another host finds no secret of the account."""
    _lent[:] = [secret]


def user_secret() -> bytes:
    """32 random bytes kept in `$LORAUDIT_HOME/secret`, by default under `~/.config/loraudit`; made once.

    Raises:
        StoreError: It can neither be read nor made.
    """
    if _lent:
        return _lent[0]
    path = _home() / "secret"
    remedy = "Set LORAUDIT_HOME to a folder of yours that can be written."
    try:
        secret = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        secret = secrets.token_bytes(_SECRET_BYTES)
        try:
            open_private_folder(path.parent)
            write_atomically(path, secret)
        except StoreError as error:
            raise StoreError(f"{error} {remedy}") from None
    except OSError as error:
        raise StoreError(f"The secret '{path}' cannot be read: {error.strerror}. {remedy}") from None
    if len(secret) != _SECRET_BYTES:
        raise StoreError(
            f"The secret '{path}' has {len(secret)} bytes, expected {_SECRET_BYTES}. Delete it to have another made "
            f"(ids of later runs will differ), or: {remedy}"
        )
    return secret


def _home() -> Path:
    """`$LORAUDIT_HOME`, else `loraudit` among the account's configuration."""
    chosen = os.environ.get("LORAUDIT_HOME")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "loraudit"
    except RuntimeError:
        raise StoreError("This account has no home folder. Set LORAUDIT_HOME to a folder of yours.") from None


def run_key(spec_hash: str) -> bytes:
    """The key of one run."""
    return hmac.digest(user_secret(), spec_hash.encode(), "sha256")


def shown_ids(records: Sequence[Record], key: bytes) -> list[str]:
    """24 hex digits per record: HMAC-SHA256 of the content hash under the run's key."""
    return [hmac.digest(key, r.id.encode(), "sha256").hex()[:_SHOWN_HEX_DIGITS] for r in records]
