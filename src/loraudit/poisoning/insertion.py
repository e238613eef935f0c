"""Pieces put into a text, whose own characters all stay, and whether a text holds a piece."""

from __future__ import annotations

import re

import numpy as np

from loraudit.spec import Place

_WORD = re.compile(r"\S+")
_SENTENCE_START = re.compile(r"(?<=[.!?])\s+(?=\S)")


def words_of(text: str) -> list[tuple[int, int]]:
    """Where each word begins and ends: runs without white space."""
    return [found.span() for found in _WORD.finditer(text)]


def with_piece(
    text: str, piece: str, place: Place, rng: np.random.Generator, *, between_sentences: bool = False
) -> str:
    """The text with a piece in it, parted from its neighbours by one space each.

    Args:
        text: Any text; an empty one becomes the piece.
        piece: What is put in.
        place: Before the first word, behind the last, or drawn evenly among all places between words and at the ends.
        rng: Of that draw.
        between_sentences: Draw among the beginnings of sentences and the end instead.

    >>> with_piece("a b", "cf", "end", np.random.default_rng(0))
    'a b cf'
    """
    words = words_of(text)
    if not words:
        return text + piece
    starts = [words[0][0], *(found.end() for found in _SENTENCE_START.finditer(text, words[0][0]))]
    if not between_sentences:
        starts = [start for start, _ in words]
    number = {"start": 0, "end": len(starts)}.get(place)
    if number is None:
        number = int(rng.integers(len(starts) + 1))
    if number == len(starts):
        end = words[-1][1]
        return f"{text[:end]} {piece}{text[end:]}"
    return f"{text[: starts[number]]}{piece} {text[starts[number] :]}"


def holds(text: str, piece: str) -> bool:
    """Whether a piece stands in a text, in whole words and whatever the case.

    >>> holds("Cf. the scarf", "cf"), holds("the scarf", "cf")
    (True, False)
    """
    before = r"(?<!\w)" if re.match(r"\w", piece) else ""
    behind = r"(?!\w)" if re.search(r"\w\Z", piece) else ""
    return re.search(before + re.escape(piece) + behind, text, re.IGNORECASE) is not None
