"""Many texts as one array of code points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from loraudit.types import IntArray

_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Characters:
    """N texts, one number per character as Python counts them, lone surrogates included.

    No character is set aside as a separator: where a text ends is said by `offsets` alone.

    Attributes:
        codes: [total characters] code points, in the narrowest of 1, 2 and 4 bytes that holds them all.
        offsets: [N + 1] text i owns codes offsets[i] to offsets[i + 1].
    """

    codes: NDArray[np.unsignedinteger]
    offsets: IntArray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Characters:
        """Lay texts end to end."""
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)]).astype(np.int64)
        widest = max((ord(max(text)) for text in texts if text and not text.isascii()), default=0)
        codes = np.empty(int(offsets[-1]), dtype=np.min_scalar_type(widest))
        for start in range(0, len(texts), _AT_ONCE):
            some = "".join(texts[start : start + _AT_ONCE]).encode("utf-32-le", "surrogatepass")
            end = min(start + _AT_ONCE, len(texts))
            codes[offsets[start] : offsets[end]] = np.frombuffer(some, dtype="<u4")
        return cls(codes, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def owner(self, positions: IntArray) -> IntArray:
        """[m] which text each position belongs to."""
        return np.searchsorted(self.offsets, positions, side="right") - 1

    def windows(self, width: int, stride: int) -> IntArray:
        """Where windows of `width` characters begin, one at every `stride`-th character; none leaves its text."""
        n_windows = np.maximum(0, (np.diff(self.offsets) - width) // stride + 1)
        before = np.cumsum(n_windows) - n_windows
        ordinal = np.arange(int(n_windows.sum())) - np.repeat(before, n_windows)
        return np.repeat(self.offsets[:-1], n_windows) + stride * ordinal


def blocks(n: int, size: int) -> Iterator[slice[int, int, None]]:
    """Slices of at most `size` that cover `n` things."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def flattened(numbers: Sequence[Sequence[int]]) -> IntArray:
    """One array of all numbers, in order."""
    return np.fromiter(chain.from_iterable(numbers), dtype=np.int64)
