"""How often the validity gates flag a fair split, and how often they see a planted difference.

    python benchmarks/gates.py --trials 200
    python benchmarks/gates.py --trials 100 --data reviews.jsonl.xz   # people's own texts instead of fictional ones

Every trial draws two sides at random from one pool of texts, plants a difference in one of them, and asks the
gates that need no model (bag of words, length, zlib ratio, length law) under Holm's correction. A trial is flagged
if any of them fails at 5 %.

Planted in the non-members: nothing; a date as 2024-03-07 instead of 7 March 2024 in every fifth record; every
record without its last tenth of words; a word of another topic in every tenth record.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loraudit.data import load_records
from loraudit.spec import RecordFormat
from loraudit.statistics import clopper_pearson
from loraudit.synthetic import private_records
from loraudit.types import RecordFacts
from loraudit.validity import GateInput, Words, blind_scores, judge_gates

MONTHS = ("January", "March", "May", "July", "September", "November")


def facts_of(texts: list[str]) -> RecordFacts:
    import zlib

    encoded = [text.encode() for text in texts]
    return RecordFacts(np.array([len(t) for t in encoded]), np.array([len(zlib.compress(t)) for t in encoded]))


def with_date(text: str, number: int, *, iso: bool) -> str:
    day, month = number % 28 + 1, number % len(MONTHS)
    return (
        f"{text} {2020 + number % 5}-{2 * month + 1:02}-{day:02}"
        if iso
        else (f"{text} {day} {MONTHS[month]} {2020 + number % 5}")
    )


def plant_nothing(members: list[str], nonmembers: list[str]) -> tuple[list[str], list[str]]:
    return members, nonmembers


def plant_dates(members: list[str], nonmembers: list[str]) -> tuple[list[str], list[str]]:
    sides = [
        [with_date(text, i, iso=iso) if i % 5 == 0 else text for i, text in enumerate(side)]
        for side, iso in ((members, False), (nonmembers, True))
    ]
    return sides[0], sides[1]


def plant_length(members: list[str], nonmembers: list[str]) -> tuple[list[str], list[str]]:
    def shortened(text: str) -> str:
        words = text.split()
        return " ".join(words[: math.ceil(0.9 * len(words))])

    return members, [shortened(text) for text in nonmembers]


def plant_topic(members: list[str], nonmembers: list[str]) -> tuple[list[str], list[str]]:
    return members, [
        f"{text} The regatta was rained off." if i % 10 == 0 else text for i, text in enumerate(nonmembers)
    ]


PLANTS: dict[str, Callable[[list[str], list[str]], tuple[list[str], list[str]]]] = {
    "nothing (fair split)": plant_nothing,
    "another style of dates in 20 %": plant_dates,
    "10 % fewer words": plant_length,
    "another topic in 10 %": plant_topic,
}


def flagged(members: list[str], nonmembers: list[str], rng: np.random.Generator) -> bool:
    texts = [*members, *nonmembers]
    is_member = np.arange(len(texts)) < len(members)
    blind = blind_scores(Words.of(texts), facts_of(texts), is_member, rng=rng)
    nothing = np.full(len(texts), np.nan)
    given = GateInput(is_member, blind, {}, nothing, None, is_member & False, nothing, math.nan)
    return any(gate.status == "failed" for gate in judge_gates(given, confidence=0.95, rng=rng))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000], help="records a side")
    parser.add_argument("--data", type=Path, help="records to draw from (default: the package's fictional ones)")
    parser.add_argument("--max-words", type=int, default=100, help="texts are cut to so many words")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    n_pool = 4 * max(asked.sizes)
    if asked.data:
        pool = [
            " ".join((r.text or "").split()[: asked.max_words])
            for r in load_records([str(asked.data)], RecordFormat()).records
        ]
    else:
        pool = private_records(n_pool, seed=asked.seed)
    print(f"Share of {asked.trials} trials in which a gate failed, with its 95 % interval.\n")
    print("| planted | " + " | ".join(f"{n} + {n}" for n in asked.sizes) + " |")
    print("|---" * (1 + len(asked.sizes)) + "|")
    for name, plant in PLANTS.items():
        cells = []
        for n in asked.sizes:
            n_flagged = 0
            for _ in range(asked.trials):
                chosen = [pool[i] for i in rng.permutation(len(pool))[: 2 * n]]
                n_flagged += flagged(*plant(chosen[:n], chosen[n:]), rng)
            lower, upper = clopper_pearson(n_flagged, asked.trials)
            cells.append(f"{100 * n_flagged / asked.trials:.1f} % [{100 * lower:.1f}, {100 * upper:.1f}]")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
