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


def user_secret() -> bytes:
    """32 random bytes kept in `$LORAUDIT_HOME/secret`, by default under `~/.config/loraudit`; made once.

    Raises:
        StoreError: It can neither be read nor made.
    """
    home = os.environ.get("LORAUDIT_HOME")
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folder = Path(home) if home else configuration / "loraudit"
    path = folder / "secret"
    if not path.exists():
        try:
            open_private_folder(folder)
            write_atomically(path, secrets.token_bytes(32))
        except StoreError as error:
            raise StoreError(f"{error} Or set LORAUDIT_HOME to a folder that can be written.") from None
    return path.read_bytes()


def run_key(spec_hash: str) -> bytes:
    """The key of one run."""
    return hmac.digest(user_secret(), spec_hash.encode(), "sha256")


def shown_ids(records: Sequence[Record], key: bytes) -> list[str]:
    """24 hex digits per record: HMAC-SHA256 of the content hash under the run's key."""
    return [hmac.digest(key, r.id.encode(), "sha256").hex()[:_SHOWN_HEX_DIGITS] for r in records]
