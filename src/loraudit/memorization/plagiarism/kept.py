"""What was made of a text, kept for the next time the same text comes, within a bounded number of characters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar, TypeVarTuple

KEPT_CHARACTERS = 2**22
"""Characters of the texts that one function keeps answers of; an answer takes 5 to 20 bytes per character."""

_PER_TEXT = 64
"""What a text counts beside its characters: however short, its answer is a handful of arrays."""

Rest = TypeVarTuple("Rest")
Made = TypeVar("Made")


class Kept(Generic[*Rest, Made]):
    """A pure function of a text whose answers are kept; those longest unused go first. Threads may share it.

    A training text is aligned with many generated ones, so its forms are worth keeping; a limit in characters, unlike
    one in texts, holds thousands of short ones and bounds the memory of long ones.

    Args:
        make: From a text, and what else matters, to the answer.
        characters: Of all texts whose answers are kept, at most, each counted as 64 more than it has. The answer for a
            longer text is never kept.
    """

    def __init__(self, make: Callable[[str, *Rest], Made], characters: int = KEPT_CHARACTERS) -> None:
        self.make = make
        self.characters = characters
        self.n_characters = 0
        self._answers: OrderedDict[tuple[str, *Rest], Made] = OrderedDict()
        self._changing = threading.Lock()

    def __call__(self, text: str, *rest: *Rest) -> Made:
        """The answer, made or kept."""
        key = (text, *rest)
        with self._changing:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        made = self.make(text, *rest)
        with self._changing:
            if key not in self._answers and _size(text) <= self.characters:
                self._answers[key] = made
                self.n_characters += _size(text)
            while self.n_characters > self.characters:
                (oldest, *_), _ = self._answers.popitem(last=False)
                self.n_characters -= _size(oldest)
        return made

    def cache_clear(self) -> None:
        """Forget all."""
        with self._changing:
            self._answers.clear()
            self.n_characters = 0


def _size(text: str) -> int:
    return len(text) + _PER_TEXT
