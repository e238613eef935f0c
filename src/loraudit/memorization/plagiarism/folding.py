"""A text without the differences that no reader sees, and where each of its characters stood."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from loraudit.memorization.matches import Span
from loraudit.memorization.plagiarism.kept import Kept
from loraudit.memorization.plagiarism.substrings import codes_of, text_of
from loraudit.types import IntArray

_ALIKE = {
    "'": "‘’‚‛′`´",
    '"': "“”„‟″«»",
    "-": "‐‑‒–—―−",
    "...": "…",
    "": "\u00ad\u200b\u200c\u200d\u2060\ufeff",
}
_FOLDED = {character: plain for plain, characters in _ALIKE.items() for character in characters}


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A text in which white space, quotes, dashes and accents are written in one way.

    Attributes:
        text: L characters, capitals kept.
        lower: The same in lower case, L characters as well.
        origins: [L] the character of the original text that each comes from, ascending.
    """

    text: str
    lower: str
    origins: IntArray

    def original(self, start: int, end: int) -> Span:
        """Where characters [start, end) stood in the original text; at least one character."""
        return int(self.origins[start]), int(self.origins[end - 1]) + 1


@Kept
def fold(text: str) -> Folded:
    r"""The text with one blank for a run of white space, plain quotes and dashes, accents apart, no invisible marks.

    >>> fold("a\n  “b”").text
    'a "b"'
    """
    codes = codes_of(text)
    forms = {character: _form(character) for character in set(text)}
    is_blank = np.isin(codes, [ord(character) for character, form in forms.items() if form == " "])
    lengths = np.ones(len(text), dtype=np.int64)
    lengths[1:][is_blank[1:] & is_blank[:-1]] = 0
    kept = text if lengths.all() else text_of(codes[lengths > 0])
    for character, form in forms.items():
        if len(form) != 1:
            lengths[codes == ord(character)] = len(form)
    plain = kept.translate({ord(character): form for character, form in forms.items() if form != character})
    lower = plain.lower()
    if len(lower) != len(plain):
        lower = "".join(map(_lower, plain))
    return Folded(plain, lower, np.repeat(np.arange(len(text)), lengths))


@lru_cache(maxsize=2**12)
def _form(character: str) -> str:
    if character.isspace():
        return " "
    return _FOLDED.get(character) or ("" if character in _FOLDED else unicodedata.normalize("NFD", character))


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character
