"""How well found passages cover the true ones: precision, recall, granularity and plagdet of the PAN competitions.

References:
    Potthast, Stein, Barrón-Cedeño and Rosso 2010, An evaluation framework for plagiarism detection, COLING, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loraudit.memorization.matches import Span


class Passages(NamedTuple):
    """A true case, or a detection: a passage here and where it comes from.

    Attributes:
        here: In the text under suspicion.
        source: In the source.
        pair: Number of the pair of texts; passages of different pairs have nothing in common.
    """

    here: Span
    source: Span
    pair: int = 0


@dataclass(frozen=True, slots=True)
class Plagdet:
    """What the PAN competitions rank detectors by.

    Attributes:
        precision: Mean over detections of the share of their characters that lie in cases they detect; NaN without
            detections.
        recall: Mean over cases of the share of their characters that detections of them cover; NaN without cases.
        granularity: Mean number of detections of a detected case; 1 without any, as PAN counts it.
        plagdet: F1 / log2(1 + granularity); NaN without cases, 0 where nothing right is found.
        n_cases: Number of cases.
        n_detections: Number of detections.
    """

    precision: float
    recall: float
    granularity: float
    plagdet: float
    n_cases: int
    n_detections: int


def measure_detections(cases: Sequence[Passages], detections: Sequence[Passages]) -> Plagdet:
    """Macro-averaged measures over all cases and detections.

    A detection detects a case if they share a character here and one in the source. Characters of both sides count:
    those of a case are all it holds here and in the source.

    Args:
        cases: The true ones.
        detections: The found ones.

    >>> measure_detections([Passages((0, 10), (0, 10))], [Passages((5, 15), (0, 10))]).recall
    0.75
    """
    found = [[_common(case, detection) for detection in detections] for case in cases]
    recalls = [_share(case, [common for common in row if common]) for case, row in zip(cases, found, strict=True)]
    precisions = [_share(detection, [row[d] for row in found if row[d]]) for d, detection in enumerate(detections)]
    n_hits = [sum(common is not None for common in row) for row in found]
    n_detected = sum(n > 0 for n in n_hits)
    granularity = sum(n_hits) / n_detected if n_detected else 1.0
    precision, recall = _mean(precisions), _mean(recalls)
    return Plagdet(
        precision, recall, granularity, _plagdet(precision, recall, granularity), len(cases), len(detections)
    )


def _plagdet(precision: float, recall: float, granularity: float) -> float:
    if math.isnan(recall):
        return math.nan
    if not recall or not precision:
        return 0.0
    return 2 * precision * recall / (precision + recall) / math.log2(1 + granularity)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _common(case: Passages, detection: Passages) -> tuple[Span, Span] | None:
    """What both have in common on either side; None unless they meet on both."""
    if case.pair != detection.pair:
        return None
    here, source = (
        (max(a[0], b[0]), min(a[1], b[1])) for a, b in ((case.here, detection.here), (case.source, detection.source))
    )
    return (here, source) if here[0] < here[1] and source[0] < source[1] else None


def _share(whole: Passages, parts: Sequence[tuple[Span, Span] | None]) -> float:
    """Share of the characters of both sides that the parts cover."""
    known = [part for part in parts if part is not None]
    n_covered = _n_covered([here for here, _ in known]) + _n_covered([source for _, source in known])
    n_characters = whole.here[1] - whole.here[0] + whole.source[1] - whole.source[0]
    return n_covered / n_characters if n_characters else math.nan


def _n_covered(spans: Sequence[Span]) -> int:
    """Characters in at least one of the spans."""
    n_covered, reached = 0, -1
    for start, end in sorted(spans):
        n_covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return n_covered


def joined(detections: Sequence[Passages], *, gap: int) -> list[Passages]:
    """Detections that follow each other as one: at most `gap` characters lie between them, here and in the source.

    Args:
        detections: Of any number of pairs.
        gap: Characters.

    >>> joined([Passages((0, 5), (20, 25)), Passages((7, 9), (15, 18))], gap=4)
    [Passages(here=(0, 9), source=(15, 25), pair=0)]
    """
    found: list[Passages] = []
    for detection in sorted(detections, key=lambda d: (d.pair, d.here, d.source)):
        for index in range(len(found) - 1, -1, -1):
            other = found[index]
            if other.pair == detection.pair and all(
                a[0] <= b[1] + gap and b[0] <= a[1] + gap
                for a, b in ((other.here, detection.here), (other.source, detection.source))
            ):
                found[index] = Passages(
                    (min(other.here[0], detection.here[0]), max(other.here[1], detection.here[1])),
                    (min(other.source[0], detection.source[0]), max(other.source[1], detection.source[1])),
                    other.pair,
                )
                break
        else:
            found.append(detection)
    return found
