"""A text as units that can be compared: sentences, or windows of words where there are no sentences."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from loraudit.memorization.matches import Span
from loraudit.memorization.plagiarism.kept import Kept
from loraudit.types import FloatArray, IntArray

SHORTEST_SENTENCE = 3
"""Words; a shorter sentence joins the next."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+|\n\s*?\n")
_INITIAL = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|[Mm]rs?|[Mm]s|[Dd]r|[Pp]rof|[Ss]t|[Jj]r|[Ss]r|[Nn]o|vs|e\.g|i\.e|cf|[Ff]ig|[Ee]q)$"
)
_LONGEST_ABBREVIATION = 6
_STEMMER: Any = importlib.import_module("snowballstemmer").stemmer("english")  # the package has no types
_STEMMING = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """A text cut into n units of words.

    Attributes:
        starts: [n] where each unit begins in the text, characters.
        ends: [n] where it ends.
        numbers: The V different stems of this text, numbered 0, 1, … in this order.
        offsets: [n + 1] unit i owns entries offsets[i] to offsets[i + 1], one for each stem that stands in it.
        columns: [E] the number of the stem, rising within a unit.
        counts: [E] how often it stands in the unit, float64.
        n_holding: [V] how many units hold each stem.
    """

    starts: IntArray
    ends: IntArray
    numbers: dict[str, int]
    offsets: IntArray
    columns: IntArray
    counts: FloatArray
    n_holding: IntArray

    def __len__(self) -> int:
        return len(self.starts)

    def span(self, first: int, last: int) -> Span:
        """Characters from the beginning of unit `first` to the end of unit `last`."""
        return int(self.starts[first]), int(self.ends[last])


@Kept
def sentences(text: str) -> Units:
    """The text's sentences, lower-cased and stemmed; those of fewer than three words join the next.

    A sentence ends at `!`, `?` or `…` before white space, at an empty line, and at `.` before white space unless a
    lower-case letter follows it or an initial or common abbreviation stands before it. The last sentence, if short,
    joins the one before. (The published code splits with a trained model of NLTK.)
    """
    words = list(_WORD.finditer(text))
    cuts = _sentence_ends(text)
    return _units(words, _cuts_of_words(words, cuts, SHORTEST_SENTENCE))


@Kept
def windows(text: str, n_words: int) -> Units:
    """Sentences as `sentences` gives them; any of more than twice `n_words` is cut into pieces of about `n_words`."""
    words = list(_WORD.finditer(text))
    cuts = _cuts_of_words(words, _sentence_ends(text), SHORTEST_SENTENCE)
    finer = [0]
    for first, last in pairwise(cuts):
        n_pieces = max(1, round((last - first) / n_words)) if last - first > 2 * n_words else 1
        finer += [first + (last - first) * piece // n_pieces for piece in range(1, n_pieces + 1)]
    return _units(words, finer)


def _sentence_ends(text: str) -> list[int]:
    ends: list[int] = []
    for found in _END.finditer(text):
        if found[0][0] == ".":
            following = text[found.end() : found.end() + 40].lstrip()[:1]
            before = text[max(0, found.start() - _LONGEST_ABBREVIATION) : found.start()]
            if following.islower() or (len(found[0]) == 1 and _INITIAL.search(before)):
                continue
        ends.append(found.end())
    return ends


def _cuts_of_words(words: Sequence[re.Match[str]], ends: Sequence[int], shortest: int) -> list[int]:
    """Numbers of the words at which units begin, closed by the number of words; [0] for no word."""
    cuts = [0]
    for cut in np.searchsorted([word.start() for word in words], ends).tolist():
        if cut - cuts[-1] >= shortest:
            cuts.append(cut)
    if len(words) - cuts[-1] < shortest and len(cuts) > 1:
        cuts.pop()
    if words:
        cuts.append(len(words))
    return cuts


def _units(words: Sequence[re.Match[str]], cuts: Sequence[int]) -> Units:
    written = [word[0] for word in words]
    numbers: dict[str, int] = {}
    number_of = {word: numbers.setdefault(stem(word.lower()), len(numbers)) for word in dict.fromkeys(written)}
    stems = np.array([number_of[word] for word in written], dtype=np.int64)
    units = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    keys, counts = np.unique(units * len(numbers) + stems, return_counts=True)
    rows, columns = np.divmod(keys, max(1, len(numbers)))
    starts = np.array([words[cut].start() for cut in cuts[:-1]], dtype=np.int64)
    ends = np.array([words[cut - 1].end() for cut in cuts[1:]], dtype=np.int64)
    offsets = np.searchsorted(rows, np.arange(len(cuts)))
    n_holding = np.bincount(columns, minlength=len(numbers))
    return Units(starts, ends, numbers, offsets, columns, counts.astype(np.float64), n_holding)


@lru_cache(maxsize=2**17)
def stem(word: str) -> str:
    """A word in lower case without its ending (Porter's second English stemmer).

    >>> stem("alignments")
    'align'
    """
    with _STEMMING:  # the stemmer keeps the word it works on
        return str(_STEMMER.stemWord(word))
