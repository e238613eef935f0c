"""Standard output and error without credentials, whatever prints."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from loraudit.errors import scrubbed


class _Scrubbed:
    """A text stream that scrubs what is written to it, and is the stream it wraps in all else."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(scrubbed(text))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def scrubbed_streams() -> Iterator[None]:
    """Nothing that looks like a credential reaches the terminal, and what its encoding lacks is shown as its code."""
    kept = sys.stdout, sys.stderr
    for stream in kept:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (_Scrubbed(stream) for stream in kept)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept
