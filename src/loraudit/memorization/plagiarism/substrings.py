"""What two texts have in common, character by character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loraudit.memorization.plagiarism.kept import Kept
from loraudit.types import BoolArray, IntArray

_BASE = 0x9E3779B97F4A7C15


class Common(NamedTuple):
    """A substring that stands in both texts.

    Attributes:
        here: Where it begins in the first text, characters.
        source: Where it begins in the second.
        length: Characters.
    """

    here: int
    source: int
    length: int


class Grams(NamedTuple):
    """The substrings of n characters of a text.

    Attributes:
        hashes: [max(0, L − n + 1)] in the order of the text.
        rising: The same, sorted.
    """

    hashes: NDArray[np.uint64]
    rising: NDArray[np.uint64]


def common_substrings(here: str, source: str, *, shortest: int, gap: int = 0, reach: int = 0) -> list[Common]:
    """The longest common substring, again and again, each character of `here` used once, in the order of `here`.

    Of several equally long the first in `here` is taken; its place in `source` is the first one.

    Args:
        here: A text.
        source: Another.
        shortest: Characters; shorter ones are not looked for. At least 1.
        gap: Characters between two that belong together in `here`, at most.
        reach: Characters of `here` from the first to the last of those that belong together; where it is certain that
            they reach less far, they may be left out.

    >>> common_substrings("one two three", "two, three, one", shortest=5)
    [Common(here=7, source=4, length=6)]
    """
    a, b = grams(here, shortest), grams(source, shortest)
    in_a = _far_reaching(stands_in(a.hashes, b.rising), shortest, gap, reach)
    if not in_a.any():
        return []
    in_b = stands_in(b.hashes, np.sort(a.hashes[in_a]))
    places, lengths = _longest_at(_islands(here, in_a, shortest), _islands(source, in_b, shortest), shortest)
    return [Common(i, source.find(here[i : i + n]), n) for i, n in _taken(places, lengths, shortest)]


def _taken(places: IntArray, lengths: IntArray, shortest: int) -> list[tuple[int, int]]:
    """Places and lengths of the longest that do not overlap, in order.

    Args:
        places: [P] ascending.
        lengths: [P] of the longest substring that begins there.
        shortest: Of those taken.
    """
    lengths = lengths.copy()
    taken: list[tuple[int, int]] = []
    while len(lengths) and (longest := int(lengths.max())) >= shortest:
        index = int(lengths.argmax())
        start = int(places[index])
        taken.append((start, longest))
        first, after = np.searchsorted(places, [start - longest, start + longest]).tolist()
        lengths[first:index] = np.minimum(lengths[first:index], start - places[first:index])
        lengths[index:after] = 0
    return sorted(taken)


@Kept
def grams(text: str, n: int) -> Grams:
    """The substrings of n characters of a text."""
    hashes = gram_hashes(text, n)
    return Grams(hashes, np.sort(hashes))


def stands_in(hashes: NDArray[np.uint64], rising: NDArray[np.uint64]) -> BoolArray:
    """[L] whether each is among the sorted ones."""
    if not len(rising):
        return np.zeros(len(hashes), dtype=bool)
    return rising[np.minimum(np.searchsorted(rising, hashes), len(rising) - 1)] == hashes


def _far_reaching(is_start: BoolArray, n: int, gap: int, reach: int) -> BoolArray:
    """[L] `is_start` without substrings of n characters that, with those at most `gap` away, do not reach so far."""
    starts = np.flatnonzero(is_start)
    if not len(starts) or reach <= n:
        return is_start
    first = np.flatnonzero(np.diff(starts, prepend=-n - gap - 1) > n + gap)
    last = np.append(first[1:], len(starts)) - 1
    is_far = starts[last] + n - starts[first] >= reach
    far = np.zeros(len(is_start), dtype=bool)
    far[starts[np.repeat(is_far, last - first + 1)]] = True
    return far


def _longest_at(here: _Islands, source: _Islands, shortest: int) -> tuple[IntArray, IntArray]:
    """[P] places with a common substring of at least `shortest`, and [P] the longest from there.

    The characters are laid behind each other and sorted as suffixes by doubling. In that order the neighbour from the
    other text has the longest common prefix (Manber and Myers 1993); its length is read off the ranks of powers of two.
    """
    n_here = len(here.codes)
    codes = np.concatenate([here.codes, source.codes])
    is_separator = codes < 0
    codes[is_separator] = -1 - np.arange(int(is_separator.sum()))
    ranks = _doubled_ranks(codes)
    longest = _longest_prefixes(ranks, np.arange(len(codes)) >= n_here)[:n_here]
    is_long: BoolArray = (longest >= shortest) & (here.codes >= 0)
    return here.places[is_long], longest[is_long]


def gram_hashes(text: str, n: int) -> NDArray[np.uint64]:
    """[max(0, L − n + 1)] hashes of the substrings of n characters; equal ones have equal hashes.

    Σ c_t B^(n−1−t) modulo 2⁶⁴, put together from substrings of 1, 2, 4, … characters (Karp and Rabin 1987).
    """
    power, factor, width = codes_of(text).astype(np.uint64) + np.uint64(1), _BASE, 1
    if len(power) < n:
        return np.empty(0, dtype=np.uint64)
    hashes, done = np.zeros(len(power) + 1, dtype=np.uint64), 0
    while True:
        if n & width:
            n_left = len(power) - done
            hashes = hashes[:n_left] * np.uint64(factor) + power[done:]
            done += width
        if done == n:
            return hashes
        power = power[:-width] * np.uint64(factor) + power[width:]
        factor = factor * factor % 2**64
        width *= 2


def codes_of(text: str) -> IntArray:
    """[L] code points."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def text_of(codes: IntArray) -> str:
    """The text of these code points."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


class _Islands(NamedTuple):
    """Parts of a text behind each other; after each stands a separator, with code and place −1.

    Attributes:
        codes: [C] characters.
        places: [C] where they stand in the text.
    """

    codes: IntArray
    places: IntArray


def _islands(text: str, is_start: BoolArray, n: int) -> _Islands:
    """Characters inside substrings of n characters that begin at `is_start`."""
    edges = np.zeros(len(text) + 1, dtype=np.int64)
    starts = np.flatnonzero(is_start)
    edges[starts] += 1
    edges[starts + n] -= 1
    places = np.flatnonzero(np.cumsum(edges[:-1]) > 0)
    breaks = np.append(np.flatnonzero(np.diff(places) > 1) + 1, len(places))
    return _Islands(np.insert(codes_of(text)[places], breaks, -1), np.insert(places, breaks, -1))


def _doubled_ranks(codes: IntArray) -> list[IntArray]:
    """For p = 0, 1, …, [n + 1] ranks of the substrings of 2ᵖ characters; all different in the last. Entry n is −1."""
    n = len(codes)
    ranks = [np.append(np.unique(codes, return_inverse=True)[1], -1)]
    while int(ranks[-1].max()) + 1 < n:
        last, width = ranks[-1], 2 ** (len(ranks) - 1)
        following = last[np.minimum(np.arange(n) + width, n)]
        keys = last[:-1] * (n + 1) + following + 1
        ranks.append(np.append(np.unique(keys, return_inverse=True)[1], -1))
    return ranks


def _longest_prefixes(ranks: Sequence[IntArray], is_source: BoolArray) -> IntArray:
    """[n] characters that each suffix has in common with the nearest suffix of the source, in sorted order."""
    n = len(is_source)
    order = np.argsort(ranks[-1][:-1])
    sources = np.where(is_source[order], np.arange(n), -1)
    before = np.maximum.accumulate(sources)
    after = n - 1 - np.maximum.accumulate(np.where(is_source[order], n - 1 - np.arange(n), -1)[::-1])[::-1]
    longest = np.zeros(n, dtype=np.int64)
    for neighbour, is_there in ((before, before >= 0), (after, after < n)):
        i, j = order[is_there], order[neighbour[is_there]]
        longest[i] = np.maximum(longest[i], _common_prefix(ranks, i, j))
    return longest


def _common_prefix(ranks: Sequence[IntArray], i: IntArray, j: IntArray) -> IntArray:
    """Characters that the suffixes at i and at j have in common, elementwise; i ≠ j."""
    n = len(ranks[0]) - 1
    length = np.zeros(len(i), dtype=np.int64)
    for p in range(len(ranks) - 1, -1, -1):
        at_i, at_j = np.minimum(i + length, n), np.minimum(j + length, n)
        length += (ranks[p][at_i] == ranks[p][at_j]) * 2**p
    return length
