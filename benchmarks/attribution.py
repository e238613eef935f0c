"""How long it takes to find where generated texts come from, and whether everything planted is found.

    python benchmarks/attribution.py --data reviews.jsonl.xz
    python benchmarks/attribution.py --data reviews.jsonl.xz --documents 5000 --texts 200 --loop-texts 5

Documents are pieces of 600 characters of people's texts. Half of the generated texts (250 characters, of other people's
texts) hold a passage of 30 to 200 characters copied from a document chosen at random; the others are as they are. The
loop asks for every place of a text and every document whether the next 30 characters stand in it (`in`), lengthens what
does, and scores every document by BM25 from counts of words made beforehand. Both must give the same passages, sources
and nearest documents.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import resource
import time
from collections import Counter
from pathlib import Path

from loraudit.data import read_rows
from loraudit.memorization import TrainingIndex, attribute
from loraudit.memorization.plagiarism import LayeredDetector

WORD = re.compile(r"(?u)\b\w\w+\b")
MIN_CHARACTERS = 30


def pieces(texts: list[str], size: int) -> list[str]:
    return [text[start : start + size] for text in texts for start in range(0, max(1, len(text) - size + 1), size)]


def planted(documents: list[str], others: list[str], n: int, rng: random.Random) -> list[tuple[str, int, int]]:
    """Generated texts, each with the row that it copies from (−1 for none) and how many characters."""
    made = []
    for number in range(n):
        text = rng.choice(others)
        if number % 2:
            made.append((text, -1, 0))
            continue
        row = rng.randrange(len(documents))
        length = min(rng.randint(MIN_CHARACTERS, 200), len(documents[row]))
        start, at = rng.randrange(len(documents[row]) - length + 1), rng.randrange(len(text) - length + 1)
        made.append((text[:at] + documents[row][start : start + length] + text[at + length :], row, length))
    return made


def loop_spans(text: str, documents: list[str]) -> dict[tuple[int, int], int]:
    """Maximal passages and the number of documents they stand in."""
    ends: dict[int, int] = {}
    for start in range(len(text) - MIN_CHARACTERS + 1):
        window = text[start : start + MIN_CHARACTERS]
        for document in documents:
            if window in document:
                end = ends.get(start, start + MIN_CHARACTERS)
                while end < len(text) and text[start : end + 1] in document:
                    end += 1
                ends[start] = end
    spans, farthest = {}, 0
    for start, end in sorted(ends.items()):
        if end > farthest:
            spans[start, end] = sum(text[start:end] in document for document in documents)
            farthest = end
    return spans


def loop_bm25(text: str, counts: list[Counter[str]], frequencies: Counter[str], mean_length: float) -> float:
    """The best score of any document (Lucene's BM25)."""
    best = 0.0
    words = WORD.findall(text.lower())
    idf = {w: math.log(1 + (len(counts) - frequencies[w] + 0.5) / (frequencies[w] + 0.5)) for w in words}
    for count in counts:
        norm = 1.5 * (0.25 + 0.75 * count.total() / mean_length)
        best = max(best, sum(idf[w] * count[w] / (count[w] + norm) for w in words if w in count))
    return best


def seconds_of(work) -> tuple[float, object]:
    began = time.perf_counter()
    outcome = work()
    return time.perf_counter() - began, outcome


def compare(index: TrainingIndex, texts: list[str], documents: list[str]) -> tuple[float, int]:
    """Seconds per text of the loop, and how many texts the two agree on."""
    different = list(index.documents)
    counts = [Counter(WORD.findall(document.lower())) for document in different]
    frequencies = Counter(word for count in counts for word in count)
    mean_length = sum(count.total() for count in counts) / len(counts)
    n_agreed = 0
    seconds = 0.0
    for text, found in zip(texts, attribute(texts, index, detector=lambda *_: []), strict=True):
        began = time.perf_counter()
        spans = loop_spans(text, documents)
        best = loop_bm25(text, counts, frequencies, mean_length)
        seconds += time.perf_counter() - began
        copies = {hit.match.here: hit.sources.n for hit in found.hits if hit.found_by == "copy"}
        n_agreed += copies == spans and math.isclose(best, found.words.score, rel_tol=1e-5)
    return seconds / len(texts), n_agreed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="records with a text each")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--document-characters", type=int, default=600)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--text-characters", type=int, default=250)
    parser.add_argument("--loop-texts", type=int, default=10, help="texts that the loop is timed on")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    people = [str(row["text"]) for _, row in read_rows(str(asked.data)).rows]
    rng.shuffle(people)
    n_held = max(1, len(people) // 10)
    documents = pieces(people[n_held:], asked.document_characters)[: asked.documents]
    others = [t for t in pieces(people[:n_held], asked.text_characters) if len(t) == asked.text_characters]
    generated = planted(documents, others, asked.texts, rng)
    texts = [text for text, _, _ in generated]
    n_characters = sum(map(len, documents))
    print(f"{len(documents):,} documents, {n_characters / 1e6:.1f} M characters; {len(texts):,} generated texts\n")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, index = seconds_of(lambda: TrainingIndex.of(documents))
    assert isinstance(index, TrainingIndex)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print("| what | value |\n|---|---|")
    print(f"| build | {seconds:.1f} s, at most {peak:.0f} MB more |")
    print(f"| passages kept | {index.spans.n_bytes / n_characters:.2f} bytes per character |")
    print(f"| words kept | {index.words.n_bytes / n_characters:.2f} bytes per character |")

    index.words.nearest(texts[0], 10)
    per_text = 1000 / len(texts)
    seconds_spans, _ = seconds_of(lambda: [index.spans.find(texts[i : i + 64]) for i in range(0, len(texts), 64)])
    seconds_words, _ = seconds_of(lambda: [index.words.nearest(text, 10) for text in texts])
    seconds_all, found = seconds_of(lambda: attribute(texts, index, detector=lambda *_: []))
    assert isinstance(found, list)
    fast = (seconds_spans + seconds_words) / len(texts)
    print(f"| passages | {seconds_spans * per_text:.2f} ms per text |")
    print(f"| BM25 | {seconds_words * per_text:.2f} ms per text |")
    print(f"| passages and BM25 | {1000 * fast:.2f} ms per text |")
    print(f"| whole attribution without a detector | {seconds_all * per_text:.2f} ms per text |")
    seconds_detected, _ = seconds_of(lambda: attribute(texts, index, detector=LayeredDetector()))
    print(f"| whole attribution with the default detector | {seconds_detected * per_text:.2f} ms per text |")
    slow, n_agreed = compare(index, texts[: asked.loop_texts], documents)
    print(f"| the loop | {1000 * slow:.0f} ms per text: {slow / fast:,.0f} times as long (n = {asked.loop_texts}) |")
    print(f"| same answer as the loop | {n_agreed} of {asked.loop_texts} texts |")

    n_planted = sum(row >= 0 for _, row, _ in generated)
    n_found = n_true = n_spans = n_by_chance = 0
    for (text, row, length), attribution in zip(generated, found, strict=True):
        copies = [hit for hit in attribution.hits if hit.found_by == "copy"]
        n_by_chance += row < 0 and bool(copies)
        n_found += row >= 0 and any(
            hit.match.n_characters >= min(length, MIN_CHARACTERS)
            and documents[row] in {documents[source] for source in hit.sources.rows}
            for hit in copies
        )
        for hit in copies:
            for source, start in zip(hit.sources.rows, hit.starts, strict=True):
                n_spans += 1
                n_true += text[slice(*hit.match.here)] == documents[source][start : start + hit.match.n_characters]
    print(f"| planted copies found, with their source | {n_found} of {n_planted} |")
    print(f"| reported passages that stand where it says | {n_true} of {n_spans} |")
    print(
        f"| texts without a planted copy that share {MIN_CHARACTERS} characters "
        f"| {n_by_chance} of {asked.texts - n_planted} |"
    )


if __name__ == "__main__":
    main()
