"""The published alignment in plain Python, one sentence pair after the other: judge of the fast path, and its rival."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import cache

import snowballstemmer

from loraudit.memorization import Match
from loraudit.memorization.plagiarism.units import sentences

ROUNDING = 1e-9
_FOLDED = {
    **dict.fromkeys("‘’‚‛′`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
    "…": "...",
}
_stemmer = snowballstemmer.stemmer("english")


@cache
def _stem(word):
    return _stemmer.stemWord(word)


def slow_common_substrings(here, source, shortest):
    """(here, source, length) of the longest common substring, again and again, characters of `here` used once."""
    is_free, found = [True] * len(here), []
    while True:
        longest, start = 0, 0
        above = [0] * (len(source) + 1)
        for i, character in enumerate(here):
            row = [0] * (len(source) + 1)
            for j, other in enumerate(source):
                if is_free[i] and character == other:
                    row[j + 1] = above[j] + 1
                    if row[j + 1] > longest:
                        longest, start = row[j + 1], i - row[j + 1] + 1
            above = row
        longest, start = _first_of(here, source, is_free, longest, start)
        if longest < max(1, shortest):
            return sorted(found)
        found.append((start, source.find(here[start : start + longest]), longest))
        is_free[start : start + longest] = [False] * longest


def _first_of(here, source, is_free, longest, start):
    """The first place in `here` of a common substring of this length."""
    for i in range(start + 1 if longest else 0):
        if all(is_free[i : i + longest]) and here[i : i + longest] in source:
            return longest, i
    return longest, start


def slow_lee2023(here, source, parameters):
    """Matches of `Lee2023Detector(parameters)`."""
    spans, other_spans = _spans(here), _spans(source)
    bags = [_bag(here[a:b]) for a, b in spans]
    other_bags = [_bag(source[a:b]) for a, b in other_spans]
    df = Counter(word for bag in bags + other_bags for word in bag)
    n = len(bags) + len(other_bags)
    rows = [{w: c * math.log(n / df[w]) for w, c in bag.items()} for bag in bags]
    others = [{w: c * math.log(n / df[w]) for w, c in bag.items()} for bag in other_bags]
    seeds = []
    for i, row in enumerate(rows):
        for j, other in enumerate(others):
            shared = len(bags[i].keys() & other_bags[j].keys())
            dice = 2 * shared / (len(bags[i]) + len(other_bags[j]))
            if _cosine(row, other) > parameters.cosine + ROUNDING and dice > parameters.dice:
                seeds.append((i, j))

    def cases(gap):
        found = _without_overlaps(_validated(seeds, gap, rows, others, parameters.validation), rows, others)
        texts = [((spans[a][0], spans[b][1]), (other_spans[c][0], other_spans[d][1])) for a, b, c, d in found]
        return [
            (case, pair)
            for case, pair in zip(found, texts, strict=True)
            if min(end - start for start, end in pair) >= parameters.shortest_case
        ]

    def matches(kind, chosen):
        return [Match(kind, *pair, _fragment_cosine(case, rows, others)) for case, pair in chosen]

    first = cases(parameters.gap)
    verbatim = [
        Match("verbatim", (i + a, i + a + k), (j + b, j + b + k), 1.0)
        for _, ((i, i_end), (j, j_end)) in first
        for a, b, k in slow_common_substrings(here[i:i_end], source[j:j_end], parameters.longest_chance + 1)
    ]
    if verbatim:
        return verbatim
    second = cases(parameters.summary_gap)
    n_here = sum(a[1] - a[0] for _, (a, _) in second)
    n_source = sum(b[1] - b[0] for _, (_, b) in second)
    if n_here and n_source >= parameters.summary_ratio * n_here:
        return matches("idea", second)
    return matches("paraphrase", first)


def _spans(text):
    units = sentences(text)
    return list(zip(units.starts.tolist(), units.ends.tolist(), strict=True))


def _bag(sentence):
    return Counter(_stem(word) for word in re.findall(r"\w+(?:['’]\w+)*", sentence.lower()))


def _cosine(a, b):
    product = sum(weight * b[word] for word, weight in a.items() if word in b)
    norms = math.sqrt(sum(x * x for x in a.values())) * math.sqrt(sum(x * x for x in b.values()))
    return product / norms if norms else 0.0


def _total(rows):
    total = Counter()
    for row in rows:
        for word, weight in row.items():
            total[word] += weight
    return total


def _fragment_cosine(case, rows, others):
    a, b, c, d = case
    return _cosine(_total(rows[a : b + 1]), _total(others[c : d + 1]))


def _clusters(seeds, gap):
    for side in (0, 1):
        ordered = sorted(seeds, key=lambda seed: seed[side])
        for k in range(1, len(ordered)):
            if ordered[k][side] - ordered[k - 1][side] > gap + 1:
                return _clusters(ordered[:k], gap) + _clusters(ordered[k:], gap)
    return [seeds] if seeds else []


def _validated(seeds, gap, rows, others, threshold):
    if gap < 0:
        return []
    found = []
    for part in _clusters(seeds, gap):
        here, source = [i for i, _ in part], [j for _, j in part]
        case = (min(here), max(here), min(source), max(source))
        if _fragment_cosine(case, rows, others) > threshold + ROUNDING:
            found.append(case)
        else:
            found += _validated(part, gap - 1, rows, others, threshold)
    return found


def _without_overlaps(cases, rows, others):
    kept = []
    for case in sorted(cases):
        if not kept or case[0] > kept[-1][1]:
            kept.append(case)
        elif _quality(case, kept[-1], rows, others) > _quality(kept[-1], case, rows, others) + ROUNDING:
            kept[-1] = case
    return kept


def _quality(case, other, rows, others):
    best = {
        i: max(_cosine(rows[i], others[j]) for j in range(case[2], case[3] + 1)) for i in range(case[0], case[1] + 1)
    }
    shared = [value for i, value in best.items() if other[0] <= i <= other[1]]
    alone = [value for i, value in best.items() if not other[0] <= i <= other[1]]
    o = sum(shared) / len(shared)
    return o + (1 - o) * (sum(alone) / len(alone) if alone else 0)


def slow_fold(text):
    """Text and origins of `fold(text)`, character by character."""
    written, origins = [], []
    for i, character in enumerate(text):
        form = _FOLDED.get(character, unicodedata.normalize("NFD", character))
        form = " " if character.isspace() else form
        if form == " " and i and text[i - 1].isspace():
            continue
        written.append(form)
        origins += [i] * len(form)
    return "".join(written), origins
