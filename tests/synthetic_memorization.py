"""A model that nobody tuned: what it gives away, worked out from seeded draws by plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loraudit.memorization import SEVERITY
from loraudit.spec import (
    Agreement,
    Capacity,
    CopiesRow,
    FieldKind,
    GeneratedPoint,
    GreedyPoint,
    LeakedRecord,
    MemorizationResult,
    NearPoint,
    Passage,
    SampledPoint,
    Strength,
    WithControls,
)
from loraudit.statistics import Interval, clopper_pearson, finding, mean_finding
from loraudit.types import Finding, FloatArray

UNIT = Interval(0.0, 1.0)
SIDES = ("members", "held_out", "base")
SIMILARITIES = ("nearest_by_edits", "nearest_by_meaning", "edits_to_suffix", "rouge_l_to_suffix", "bleu_above_75")
LEVELS = ((1, 1), (2, 3), (4, 15), (16, 63), (64, None))


def share(outcomes: FloatArray, side: str) -> Finding:
    """The share of ones with its exact interval; of none, the one-sided bound."""
    known = outcomes[~np.isnan(outcomes)]
    n, n_undefined = len(known), len(outcomes) - len(known)
    is_member = side != "held_out"
    counts = {
        "n_members": n if is_member else 0,
        "n_nonmembers": 0 if is_member else n,
        "n_undefined_members": n_undefined if is_member else 0,
        "n_undefined_nonmembers": 0 if is_member else n_undefined,
    }
    if not n:
        return finding(math.nan, Interval(math.nan, math.nan), "none", confidence=0.95, note="No record.", **counts)
    n_ones = int(known.sum())
    interval, method = clopper_pearson(n_ones, n), "Clopper-Pearson"
    if not n_ones:
        interval, method = Interval(0.0, 1 - 0.05 ** (1 / n)), f"exact one-sided upper bound for 0 of {n}"
    return finding(n_ones / n, interval, method, confidence=0.95, **counts)


@dataclass
class Extraction:
    """One tuned model and its records.

    Attributes:
        seed: Of the draws.
        n_members: Records a side.
        n_held_out: Likewise.
        pull: How much better members are known than held-out records, in nats per token.
        domain: How well the tuned model knows held-out records.
        has_base: Whether a base is known.
        has_generation: Whether beginnings were continued.
        has_copies: Whether some members stand more than once.
        has_text: Whether text was asked for.
        prefixes: Lengths of the beginning.
        words: Put into every name that a stranger could choose.
    """

    seed: int = 0
    n_members: int = 400
    n_held_out: int = 400
    pull: float = 1.1
    domain: float = 0.0
    has_base: bool = True
    has_generation: bool = True
    has_copies: bool = True
    has_text: bool = False
    prefixes: tuple[int, ...] = (16, 32, 50, 100)
    suffix: int = 50
    n_records: int = 10
    words: str = ""
    drawn: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.copies = rng.choice([1, 2, 4, 16, 64], self.n_members, p=[0.7, 0.12, 0.1, 0.05, 0.03])
        if not self.has_copies:
            self.copies = np.ones(self.n_members, dtype=int)
        ease = rng.normal(0, 0.9, self.n_members)
        bonus = self.pull * (0.3 + 0.5 * np.log2(self.copies)) if self.pull else 0.0
        self.drawn = {  # log of the mean loss per token
            "members": 0.9 - self.domain + 0.5 * ease - bonus + rng.normal(0, 0.4, self.n_members),
            "held_out": 0.9 - self.domain + rng.normal(0, 0.65, self.n_held_out),
            "base": 1.25 + 0.5 * ease + rng.normal(0, 0.3, self.n_members),
        }
        self.n_tokens = rng.integers(60, 400, self.n_members)
        self.rng = rng

    @property
    def sides(self) -> tuple[str, ...]:
        return SIDES if self.has_base else SIDES[:2]

    def log_prob(self, side: str, prefix: int, top_k: int = 0, temperature: float = 1.0) -> FloatArray:
        """[n] log-probability of the suffix; sharper decodings say likely tokens more often."""
        loss = np.exp(self.drawn[side] - 0.12 * math.log2(prefix / 16))
        sharper = temperature * (0.85 if top_k else 1.0)
        found = -self.suffix * loss * sharper * np.minimum(1, loss)
        if prefix == max(self.prefixes) and side != "held_out":
            found = np.where(self.n_tokens < prefix + self.suffix, np.nan, found)
        return found

    def three(self, of: Any) -> WithControls:
        """`of` of each side."""
        return WithControls(**{side: of(side) for side in self.sides})

    def mean(self, values: FloatArray, side: str, *, attainable: Interval | None = UNIT) -> Finding:
        return mean_finding(values, confidence=0.95, attainable=attainable, are_members=side != "held_out")

    def said(self, side: str, prefix: int) -> FloatArray:
        log_probs = self.log_prob(side, prefix)
        return np.where(np.isnan(log_probs), np.nan, log_probs > -6.0)

    def greedy(self) -> list[GreedyPoint]:
        return [
            GreedyPoint(prefix=p, extracted=self.three(lambda s, p=p: share(self.said(s, p), s)), n_close=p // 16)
            for p in self.prefixes
        ]

    def attempts(self, side: str, prefix: int, p: float, top_k: int, temperature: float) -> FloatArray:
        log_probs = self.log_prob(side, prefix, top_k, temperature)
        chances = np.exp(np.where(np.isnan(log_probs), 0, log_probs))
        with np.errstate(divide="ignore", over="ignore"):
            needed = np.maximum(1, np.ceil(math.log1p(-p) / np.log1p(-np.minimum(chances, 1 - 1e-12))))
        return np.where(np.isnan(log_probs), np.nan, needed)

    def sampled(self, prefix: int, top_k: int, temperature: float, n: int, p: float) -> SampledPoint:
        def of(side: str) -> Finding:
            needed = self.attempts(side, prefix, p, top_k, temperature)
            return share(np.where(np.isnan(needed), np.nan, needed <= n), side)

        return SampledPoint(prefix=prefix, top_k=top_k, temperature=temperature, n=n, p=p, extracted=self.three(of))

    def strength(self, side: str) -> FloatArray:
        return np.clip(np.exp(-np.exp(self.drawn[side])) * 1.4, 0, 1)

    def by_copies(self) -> list[CopiesRow]:
        if len(np.unique(self.copies)) < 2:
            return []
        rows = []
        prefix = self.prefixes[0]
        for low, high in LEVELS:
            where = (self.copies >= low) & (self.copies <= (high or 10**9))
            if where.any():
                words = str(low) if high == low else f"{low} or more" if high is None else f"{low} to {high}"
                rows.append(
                    CopiesRow(
                        copies=words,
                        n_members=int(where.sum()),
                        prefix=prefix,
                        greedy=share(self.said("members", prefix)[where], "members"),
                        sampled=self.mean(np.exp(self.log_prob("members", prefix))[where], "members"),
                        strength=self.mean(self.strength("members")[where], "members"),
                    )
                )
        return rows

    def generated(self, decoding: str, prefix: int) -> GeneratedPoint:
        n = {side: min(100, len(self.drawn[side])) for side in self.sides}
        likely = {side: np.exp(self.log_prob(side, prefix)[: n[side]] / 12) for side in self.sides}
        looseness = 1.0 if decoding == "greedy" else 0.7
        worst = {
            side: np.searchsorted([0.09, 0.16, 0.22, 0.4], np.nan_to_num(likely[side], nan=0.0) * looseness)
            for side in self.sides
        }
        kinds = {
            kind: self.three(lambda s, k=k: share((worst[s] == len(SEVERITY) - k).astype(float), s))
            for k, kind in enumerate(SEVERITY)
        }
        kinds["any"] = self.three(lambda s: share((worst[s] > 0).astype(float), s))
        kinds["suffix"] = self.three(lambda s: share(self.said(s, prefix)[: n[s]], s))
        return GeneratedPoint(
            decoding=f"{decoding}{self.words}",
            prefix=prefix,
            kinds=kinds,
            unseen={
                **{
                    kind: share((worst["held_out"] == len(SEVERITY) - k).astype(float), "members")
                    for k, kind in enumerate(SEVERITY)
                },
                "any": share((worst["held_out"] > 0).astype(float), "members"),
            },
            similarity={
                name: self.three(lambda s, k=k: self.mean(np.clip(likely[s] ** (1 / (1 + k)), 0, 1), s))
                for k, name in enumerate(SIMILARITIES)
            },
            longest_copied={
                side: float(np.round(400 * np.nanmax(likely[side]))) if side in likely else None for side in SIDES
            },
        )

    def near(self, prefix: int) -> NearPoint:
        chance = {side: np.exp(self.log_prob(side, prefix, 40))[:60] for side in self.sides}
        return NearPoint(
            prefix=prefix,
            decoding="top_k_40",
            budget=5,
            metric="levenshtein",
            exact=self.three(lambda s: self.mean(chance[s], s)),
            near=self.three(lambda s: self.mean(np.minimum(1, 1.4 * chance[s]), s)),
            missed=self.three(lambda s: self.mean(0.05 * chance[s], s)),
        )

    def fields(self) -> list[FieldKind]:
        found = []
        for k, kind in enumerate(("email", "phone", "person")):
            chance = 1 / 26
            top1 = {
                side: np.clip(chance + self.strength(side)[k::5] - 0.12 * k * (side != "members"), 0, 1)
                for side in self.sides
            }
            found.append(
                FieldKind(
                    kind=f"{kind}{self.words}",
                    n_candidates=26.0,
                    chance=chance,
                    top1=self.three(lambda s, top1=top1: self.mean(top1[s], s)),
                    bits=self.three(lambda s, top1=top1: self.mean(4.7 * top1[s], s, attainable=None)),
                )
            )
        return found

    def personal(self) -> dict[str, WithControls]:
        def of(side: str, k: int) -> Finding:
            return self.mean((self.strength(side)[:100] > 0.55 + 0.15 * k).astype(float), side)

        return {f"{kind}{self.words}": self.three(lambda s, k=k: of(s, k)) for k, kind in enumerate(("email", "phone"))}

    def capacity(self) -> Capacity | None:
        if not self.has_base:
            return None
        gained = np.maximum(0, np.exp(self.drawn["base"]) - np.exp(self.drawn["members"])) * self.n_tokens
        held_out = np.maximum(0, math.exp(1.25) - np.exp(self.drawn["held_out"])) * 200
        bits, trained = float(gained.sum() / math.log(2)), 1_179_648
        return Capacity(
            bits=bits,
            held_out_bits=float(held_out.sum() / math.log(2)),
            per_record=WithControls(
                members=self.mean(gained / math.log(2), "members", attainable=None),
                held_out=self.mean(held_out / math.log(2), "held_out", attainable=None),
            ),
            n_members=self.n_members,
            n_held_out=self.n_held_out,
            n_trained_parameters=trained,
            bits_per_parameter=bits / trained,
        )

    def passage(self, row: int) -> Passage | None:
        if not self.has_generation or row % 4 == 3:
            return None
        kind = SEVERITY[row % 4]
        here = f"my number is 555-01{row:02d} and I live at 4 Elm Street, call before noon{self.words}"
        return Passage(
            kind=kind,
            decoding="greedy",
            prefix=50,
            source=f"r{row:04x}{self.words}" if row % 2 else f"training data {row}{self.words}",
            n_sources=1 + int(self.copies[row] > 1) * 3,
            n_characters=len(here),
            score=1.0 if kind == "verbatim" else 0.83,
            personal=[f"phone{self.words}", "address"] if row % 2 == 0 else [],
            here=here if self.has_text else None,
            there=here.replace("call", "ring") if self.has_text else None,
        )

    def records(self) -> list[LeakedRecord]:
        needed = self.attempts("members", self.prefixes[0], 0.5, 0, 1.0)
        order = np.argsort(needed)[: self.n_records]
        strength = self.strength("members")
        return [
            LeakedRecord(
                id=f"m{row:06x}{self.words}",
                n_copies=int(self.copies[row]),
                n_tokens=int(self.n_tokens[row]),
                strength=float(strength[row]),
                greedy=[prefix for prefix in self.prefixes if self.said("members", prefix)[row] == 1],
                attempts=float(needed[row]) if math.isfinite(needed[row]) else None,
                bits=float(self.n_tokens[row] * 0.8) if self.has_base else None,
                passage=self.passage(place),
                snippet=f"xxxx xx xxxxxxx, 000 xx xxxx{self.words}",
            )
            for place, row in enumerate(order)
        ]

    def result(self, **changes: Any) -> MemorizationResult:
        attempts = [round(10 ** (k / 2)) for k in range(13)]
        decodings = [(k, t) for k in (0, 40) for t in (0.5, 0.7, 1.0)]
        names = {
            "exact_memorization": "Share of tokens that are the likeliest.",
            "extraction_strength": "What is said.",
        }
        values: dict[str, Any] = {
            "suffix": self.suffix,
            "strengths": [
                Strength(
                    name=name,
                    summary=summary,
                    mean=self.three(lambda s, k=k: self.mean(self.strength(s) ** (1 / (2 - k)), s)),
                )
                for k, (name, summary) in enumerate(names.items())
            ],
            "greedy": self.greedy(),
            "sampled": [
                self.sampled(prefix, *drawn, n, p)
                for prefix in self.prefixes
                for drawn in decodings
                for n in (1, 10, 100, 1000)
                for p in (0.1, 0.5, 0.9)
            ],
            "curve": [
                self.sampled(prefix, *drawn, n, 0.5)
                for prefix in self.prefixes
                for drawn in ((0, 1.0), (40, 1.0))
                for n in attempts
            ],
            "copies": self.by_copies(),
            "agreement": Agreement(n_checked=100, n_agree=99, n_close=1, smallest_margin=0.0021),
            "generated": [self.generated(d, p) for p in self.prefixes for d in ("greedy", "top_k_40")]
            if self.has_generation
            else [],
            "near": [self.near(50)] if 50 in self.prefixes else [],
            "fields": self.fields(),
            "personal": self.personal() if self.has_generation else {},
            "records": self.records(),
            "capacity": self.capacity(),
            "perplexity": self.three(lambda s: self.mean(np.exp(self.drawn[s]), s, attainable=None)),
            "detector": f"default{self.words}",
            "how": {f"records_prompted{self.words}": f"100 a side{self.words}", "embedder": None},
            "seconds": 71.4,
        }
        return MemorizationResult(**(values | changes))
