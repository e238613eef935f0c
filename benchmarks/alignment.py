"""How well and how fast copied and reworded passages are found: the published detector and the default one.

    python benchmarks/alignment.py --data data
    python benchmarks/alignment.py --data data --part chosen

FOLDER holds public data sets (docs/data.md): plagiarism_clough, plagiarism_pan25, paraphrase_mrpc, paraphrase_pan,
imdb, news_c50. The default detector's thresholds were chosen on part `chosen` of the sentence pairs, reviews and news;
part `reported`, the default, holds what was not looked at. The 55 answers of plagiarism_clough were in view when the
thresholds were chosen and have no second half. No paraphrase model is used: every candidate counts. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from loraudit.data import read_rows
from loraudit.memorization import Detector, Match, Span, worst
from loraudit.memorization.plagiarism import LEE2023, PAN2014, LayeredDetector, Lee2023Detector
from loraudit.memorization.plagiarism.folding import fold
from loraudit.memorization.plagiarism.measures import Passages, joined, measure_detections
from loraudit.memorization.plagiarism.substrings import grams
from loraudit.memorization.plagiarism.units import sentences, windows
from loraudit.statistics import Interval, clopper_pearson

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from slow_alignment import slow_lee2023

DETECTORS: dict[str, Detector] = {
    "lee2023, PAN 2014 settings": Lee2023Detector(PAN2014),
    "lee2023, Lee settings": Lee2023Detector(LEE2023),
    "default": LayeredDetector(),
}
LENGTHS = (30, 40, 50, 60, 70, 90, 120, 150, 200, 300)
JOIN_GAP = 100
N_RESAMPLES = 2000

Row = dict[str, Any]
Pair = tuple[str, str]


def rows_of(data: Path, name: str) -> list[Row]:
    return [row for _, row in read_rows(str(data / name)).rows if isinstance(row, dict)]


def in_part(rows: Sequence[Row], part: str, every: int) -> list[Row]:
    """Thresholds were chosen on every 4th or 10th row."""
    return [row for i, row in enumerate(rows) if (i % every == 0) == (part == "chosen")]


def table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for line in lines:
        print("| " + " | ".join(line) + " |", flush=True)


def stated(value: float, interval: Interval) -> str:
    return f"{value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def rate(n: int, of: int) -> str:
    return stated(n / of, clopper_pearson(n, of)) if of else "—"


def ends(draws: Sequence[float]) -> Interval:
    return Interval(*np.nanquantile(draws, [0.025, 0.975]).tolist())


# ---------------------------------------------------------------------------------------------
# Passages with known places
# ---------------------------------------------------------------------------------------------


def pan25(data: Path, rng: np.random.Generator) -> None:
    rows = rows_of(data, "plagiarism_pan25/pairs.jsonl.gz")
    cases = [
        Passages(_span(found, "this"), _span(found, "source"), number)
        for number, row in enumerate(rows)
        for found in row["features"]
        if found["type"] == "plagiarism"
    ]
    lines = []
    for name, detector in DETECTORS.items():
        found = [
            Passages(match.here, match.source, number)
            for number, row in enumerate(rows)
            for match in detector(row["suspicious"], row["source"])
        ]
        lines.append([name, "as found", *_pan_line(cases, found, rng)])
        lines.append([name, f"joined over {JOIN_GAP} characters", *_pan_line(cases, joined(found, gap=JOIN_GAP), rng)])
    table(
        f"PAN 2025 sample: {len(rows)} pairs of articles, {len(cases)} cases, all in one pair",
        ["detector", "detections", "n", "precision", "recall", "granularity", "plagdet"],
        lines,
    )


def _span(found: Row, side: str) -> Span:
    return found[f"{side}_offset"], found[f"{side}_offset"] + found[f"{side}_length"]


def _pan_line(cases: list[Passages], found: list[Passages], rng: np.random.Generator) -> list[str]:
    """Intervals: cases and detections resampled, which takes those of one pair of articles as independent."""
    whole = measure_detections(cases, found)
    recalls = np.array([measure_detections([case], found).recall for case in cases])
    n_hits = np.array([measure_detections([case], found).granularity for case in cases])
    precisions = np.array([measure_detections(cases, [one]).precision for one in found])
    draws = []
    for _ in range(N_RESAMPLES):
        some = rng.integers(0, len(cases), len(cases))
        precision = precisions[rng.integers(0, len(found), len(found))].mean() if len(found) else np.nan
        recall, is_hit = recalls[some].mean(), recalls[some] > 0
        granularity = n_hits[some][is_hit].mean() if is_hit.any() else 1.0
        score = 2 * precision * recall / max(precision + recall, 1e-12) / np.log2(1 + granularity)
        draws.append((precision, recall, granularity, score))
    columns = np.array(draws).T
    values = (whole.precision, whole.recall, whole.granularity, whole.plagdet)
    return [str(len(found)), *(stated(v, ends(column)) for v, column in zip(values, columns, strict=True))]


# ---------------------------------------------------------------------------------------------
# Whole texts
# ---------------------------------------------------------------------------------------------


def clough(data: Path) -> None:
    rows = rows_of(data, "plagiarism_clough/answers.jsonl.gz")
    sources = {row["task"]: row["text"] for row in rows if row["kind"] == "orig"}
    lines = []
    for name, detector in DETECTORS.items():
        kinds: dict[str, list[str]] = {}
        for row in rows:
            if row["kind"] != "orig":
                match = worst(detector(row["text"], sources[row["task"]]))
                kinds.setdefault(row["kind"], []).append(match.kind if match else "none")
        for kind in ("cut", "light", "heavy", "non"):
            found = kinds[kind]
            shares = ", ".join(f"{k} {found.count(k)}" for k in sorted(set(found)))
            lines.append([name, kind, str(len(found)), rate(sum(k != "none" for k in found), len(found)), shares])
    table(
        "Short answers (Clough and Stevenson 2011): answers with any match, by kind of answer",
        ["detector", "answer", "n", "share with a match", "worst match"],
        lines,
    )


def sentence_pairs(data: Path, part: str, rng: np.random.Generator) -> None:
    for title, name, every in (
        ("MRPC sentence pairs", "paraphrase_mrpc/train.jsonl.gz", 4),
        ("PAN-PC-10 sentence pairs", "paraphrase_pan/train.jsonl.gz", 10),
    ):
        rows = in_part(rows_of(data, name), part, every)
        labels = np.array([row["label"] == 1 for row in rows])
        lines = []
        for detector_name, detector in [*DETECTORS.items(), ("always", lambda *_: [None])]:
            is_found = np.array([bool(detector(row["text_a"], row["text_b"])) for row in rows])
            n_right, n_found = int((is_found & labels).sum()), int(is_found.sum())
            draws = [_f1(is_found[some], labels[some]) for some in rng.integers(0, len(rows), (N_RESAMPLES, len(rows)))]
            f1 = stated(_f1(is_found, labels), ends(draws))
            lines.append([detector_name, rate(n_right, n_found), rate(n_right, int(labels.sum())), f1])
        table(
            f"{title}: {len(rows)}, of which {int(labels.sum())} paraphrases",
            ["detector", "precision", "recall", "F1"],
            lines,
        )


def _f1(is_found: np.ndarray, labels: np.ndarray) -> float:
    return 2 * float((is_found & labels).sum()) / float(is_found.sum() + labels.sum())


# ---------------------------------------------------------------------------------------------
# Copies of known length
# ---------------------------------------------------------------------------------------------


def unrelated(data: Path, part: str, n: int, rng: np.random.Generator) -> dict[str, list[Pair]]:
    """Pairs of different documents: reviews, and news of different groups of near-duplicates."""
    reviews = [row["text"] for row in rows_of(data, "imdb/reviews.jsonl.xz")]
    reviews = reviews[:4000] if part == "chosen" else reviews[4000:]
    news = in_part(rows_of(data, "news_c50/passages.jsonl.gz"), part, 4)
    chosen = rng.permutation(len(reviews))[: 2 * n].tolist()
    pairs = {"imdb": [(reviews[a], reviews[b]) for a, b in zip(chosen[:n], chosen[n:], strict=True)], "news": []}
    while len(pairs["news"]) < n:
        a, b = (news[i] for i in rng.integers(0, len(news), 2).tolist())
        if a["dup_group"] != b["dup_group"] and a["doc"] != b["doc"]:
            pairs["news"].append((a["text"], b["text"]))
    return pairs


def copied_lengths(data: Path, part: str, n: int, rng: np.random.Generator) -> None:
    for title, pairs in unrelated(data, part, n, rng).items():
        lines = []
        for length in LENGTHS:
            planted = [_planted(*pair, length, rng) for pair in pairs if len(pair[1]) > length]
            found = [
                sum(_is_found(detector(here, source), at, origin) for here, source, at, origin in planted)
                for detector in DETECTORS.values()
            ]
            lines.append([f"{length} characters copied", str(len(planted)), *(rate(k, len(planted)) for k in found)])
        false = [sum(bool(detector(*pair)) for pair in pairs) for detector in DETECTORS.values()]
        lines.append(["nothing copied: false positives", str(len(pairs)), *(rate(k, len(pairs)) for k in false)])
        table(f"Copies put into unrelated text, {title}: share found", ["", "n", *DETECTORS], lines)


def _planted(host: str, source: str, length: int, rng: np.random.Generator) -> tuple[str, str, Span, Span]:
    start = int(rng.integers(0, len(source) - length))
    place = int(rng.integers(0, len(host) + 1))
    here = host[:place] + source[start : start + length] + host[place:]
    return here, source, (place, place + length), (start, start + length)


def _is_found(matches: list[Match], at: Span, origin: Span) -> bool:
    """Whether one match covers half of the copy and touches where it comes from."""
    return any(
        2 * (min(at[1], match.here[1]) - max(at[0], match.here[0])) >= at[1] - at[0]
        and min(origin[1], match.source[1]) > max(origin[0], match.source[0])
        for match in matches
    )


# ---------------------------------------------------------------------------------------------
# Speed
# ---------------------------------------------------------------------------------------------


def speed(data: Path, repeats: int) -> None:
    reviews = [row["text"] for row in rows_of(data, "imdb/reviews.jsonl.xz")[:200]]
    lines = []
    for n_characters, is_copy in product((1000, 5000, 20_000), (False, True)):
        source = " ".join(reviews[:100])[:n_characters]
        here = " ".join(reviews[100:])[:n_characters]
        if is_copy:
            here = here[:-300] + source[200:500]
        runs = {
            "plain Python": partial(slow_lee2023, here, source, LEE2023),
            "lee2023": partial(DETECTORS["lee2023, Lee settings"], here, source),
            "default": partial(DETECTORS["default"], here, source),
        }
        slow, fast, default = (_seconds(run, repeats) for run in runs.values())
        pairs = len(sentences(here)) * len(sentences(source))
        lines.append(
            [str(n_characters), "yes" if is_copy else "no", str(pairs),
             f"{slow * 1e3:.1f}", f"{fast * 1e3:.2f}", f"{slow / fast:.0f}",
             f"{default * 1e3:.2f}", f"{slow / default:.0f}"]
        )  # fmt: skip
    table(
        f"Processor milliseconds for a pair of texts (median of {repeats}; stemmed once, texts not yet cut)",
        [
            "characters",
            "300 copied",
            "sentence pairs",
            "plain Python",
            "lee2023",
            "times faster",
            "default",
            "times faster",
        ],
        lines,
    )


def short_pairs(data: Path, n: int, rng: np.random.Generator) -> None:
    """What `attribute` asks for again and again: one of many generated texts with one of many training texts."""
    reviews = [row["text"] for row in rows_of(data, "imdb/reviews.jsonl.xz") if len(row["text"]) >= 600]
    chosen = [reviews[i] for i in rng.permutation(len(reviews))[: 2 * n].tolist()]
    apart = [(here[:250], source[:600]) for here, source in zip(chosen[:n], chosen[n:], strict=True)]
    related = [(_reworded_and_copied(*pair, rng), pair[1]) for pair in apart]
    lines = []
    for name, detector in DETECTORS.items():
        for title, pairs in (("unrelated", apart), ("100 characters copied, 100 in another order", related)):
            n_matched = sum(bool(detector(*pair)) for pair in pairs)
            began = time.process_time()
            for pair in pairs:
                detector(*pair)
            seconds = (time.process_time() - began) / len(pairs)
            lines.append([name, title, str(len(pairs)), str(n_matched), f"{seconds * 1e3:.2f}"])
    table(
        "Processor milliseconds for 250 characters and 600 of a training text, both met before",
        ["detector", "texts", "pairs", "with a match", "ms per pair"],
        lines,
    )


def _reworded_and_copied(here: str, source: str, rng: np.random.Generator) -> str:
    words = source[300:400].split()
    return here[:50] + source[100:200] + " ".join(words[i] for i in rng.permutation(len(words)).tolist())


def _seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    taken = []
    for _ in range(repeats):
        for cached in (sentences, windows, fold, grams):
            cached.cache_clear()
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="public data sets (docs/data.md)")
    parser.add_argument("--part", choices=("chosen", "reported"), default="reported")
    parser.add_argument("--n", type=int, default=500, help="pairs of unrelated texts per source and length")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    pan25(given.data, rng)
    clough(given.data)
    sentence_pairs(given.data, given.part, rng)
    copied_lengths(given.data, given.part, given.n, rng)
    speed(given.data, given.repeats)
    short_pairs(given.data, 200, rng)


if __name__ == "__main__":
    main()
