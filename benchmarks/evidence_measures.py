"""How long the memorization measures take that need evidence alone, and how a plain Python loop compares.

    OMP_NUM_THREADS=1 python benchmarks/evidence_measures.py

Synthetic evidence: records of 100 to 200 tokens, five decodings (full softmax at temperature 0.7 and 1, top-k 40 at
0.7, 1 and 1.5), documents of four records. Measured: exact memorization, minimal prefix, extraction strength, runs of
hits, greedy extraction at sixteen prefixes and suffixes, log p of one suffix under each decoding with the attempts it
takes and the probability of 1, 10, … 10^6, a curve of shares over the same numbers with intervals, and bits above the
base. The loop does the same, without intervals, for the first records; the ratio is per record, and both must agree.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import numpy as np

from loraudit.memorization import (
    FULL_SOFTMAX,
    attempts_needed,
    bits_above_base,
    exact_memorization,
    extraction_strength,
    greedy_extraction,
    hit_runs,
    minimal_prefix,
    probability_within,
    share_of,
    suffix_log_prob,
)
from loraudit.types import TokenTable

DECODINGS = (FULL_SOFTMAX, (0, 0.7), (40, 0.7), (40, 1.0), (40, 1.5))
PREFIXES = SUFFIXES = (10, 16, 32, 50)
PREFIX, SUFFIX, P = 50, 50, 0.5
ATTEMPTS = tuple(10**i for i in range(7))
MARGIN = 0.1


def synthetic(n_records: int, rng: np.random.Generator) -> tuple[TokenTable, TokenTable]:
    """Evidence of a target and of its base; in a tenth of the records nearly every token hits."""
    lengths = rng.integers(100, 201, n_records)
    n = int(lengths.sum())
    is_known = np.repeat(rng.random(n_records) < 0.1, lengths)
    log_probs = -(np.where(is_known, 0.05, 2.5) * rng.exponential(size=n)).astype(np.float32)
    hits = rng.random(n) < np.where(is_known, 0.995, 0.4)
    log_sum_exps = {(k, t): 0.3 * log_probs / np.float32(t) for k, t in DECODINGS if (k, t) != FULL_SOFTMAX}
    for (k, _), column in log_sum_exps.items():
        if k:
            column[log_probs < -8] = np.inf
    common = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "is_audited": np.ones(n, dtype=bool),
        "n_windows": np.ones(n_records, dtype=np.int32),
        "status": ["ok"] * n_records,
    }
    margins = rng.exponential(size=n).astype(np.float32)
    target = TokenTable(
        {"log_prob": log_probs, "is_top1": hits, "margin": margins}, **common, log_sum_exps=log_sum_exps
    )
    shifted = (log_probs - 0.3 * rng.standard_normal(n)).astype(np.float32)
    return target, TokenTable({"log_prob": shifted, "is_top1": hits, "margin": margins}, **common)


def measured(target: TokenTable, base: TokenTable) -> dict[str, np.ndarray]:
    found = {
        "exact memorization": exact_memorization(target),
        "minimal prefix": minimal_prefix(target),
        "extraction strength": extraction_strength(target),
        "runs of hits": hit_runs(target),
        "bits above base": bits_above_base(target, base),
        "bits of the suffix": bits_above_base(target, base, prefix=PREFIX, suffix=SUFFIX),
    }
    for prefix, suffix in itertools.product(PREFIXES, SUFFIXES):
        greedy = greedy_extraction(target, prefix=prefix, suffix=suffix, margin_below=MARGIN)
        found[f"greedy {prefix} {suffix}"], found[f"small {prefix} {suffix}"] = greedy
    for decoding in DECODINGS:
        log_p_z = suffix_log_prob(target, decoding, prefix=PREFIX, suffix=SUFFIX)
        found[f"log p {decoding}"] = log_p_z
        found[f"attempts {decoding}"] = attempts_needed(log_p_z, P)
        found[f"within {decoding}"] = probability_within(log_p_z[:, None], ATTEMPTS)
    return found


def stated(found: dict[str, np.ndarray], groups: np.ndarray) -> int:
    """Every share with its interval."""
    names = [name for name in found if name.startswith("greedy")]
    shares = [share_of(found[name], confidence=0.95, groups=groups) for name in names]
    for decoding in DECODINGS:
        needed = found[f"attempts {decoding}"]
        said = [np.where(np.isnan(needed), np.nan, needed <= n) for n in ATTEMPTS]
        shares += [share_of(one, confidence=0.95, groups=groups) for one in said]
    return len(shares)


def looped(target: TokenTable, base: TokenTable) -> dict[str, np.ndarray]:
    """The same, one record and one token after another."""
    found: dict[str, list[object]] = {}

    def add(name: str, value: object) -> None:
        found.setdefault(name, []).append(value)

    for i in range(len(target)):
        where = range(int(target.offsets[i]), int(target.offsets[i + 1]))
        hits = [bool(target.columns["is_top1"][t]) for t in where]
        margins = [float(target.columns["margin"][t]) for t in where]
        log_probs = [float(target.columns["log_prob"][t]) for t in where]
        of_base = [float(base.columns["log_prob"][t]) for t in where]
        add("exact memorization", sum(hits) / len(hits))
        a = len(hits)
        while a and hits[a - 1]:
            a -= 1
        add("minimal prefix", a)
        add("extraction strength", 1 - a / len(hits))
        run, runs = 0, []
        for hit in reversed(hits):
            run = run + 1 if hit else 0
            runs.append(run)
        for value in reversed(runs):
            add("runs of hits", value)
        end = PREFIX + SUFFIX
        add("bits above base", max(0.0, sum(log_probs) - sum(of_base)) / math.log(2))
        add("bits of the suffix", max(0.0, sum(log_probs[PREFIX:end]) - sum(of_base[PREFIX:end])) / math.log(2))
        for prefix, suffix in itertools.product(PREFIXES, SUFFIXES):
            add(f"greedy {prefix} {suffix}", float(all(hits[prefix : prefix + suffix])))
            add(f"small {prefix} {suffix}", any(margin < MARGIN for margin in margins[prefix : prefix + suffix]))
        for decoding in DECODINGS:
            log_p = 0.0
            for t in range(PREFIX, end):
                lse = 0.0 if decoding == FULL_SOFTMAX else float(target.log_sum_exps[decoding][where[t]])
                log_p += min(0.0, log_probs[t] / decoding[1] - lse)
            p_z = math.exp(log_p)
            add(f"log p {decoding}", log_p)
            add(f"attempts {decoding}", max(1.0, math.ceil(math.log1p(-P) / math.log1p(-p_z))) if p_z else math.inf)
            add(f"within {decoding}", [-math.expm1(n * math.log1p(-p_z)) for n in ATTEMPTS])
    return {name: np.array(values, dtype=float) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--looped", type=int, default=1_000, help="records for the loop")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    target, base = synthetic(asked.records, np.random.default_rng(asked.seed))
    began = time.perf_counter()
    found = measured(target, base)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    n_shares = stated(found, np.arange(asked.records) // 4)
    stating = time.perf_counter() - began
    few = target.rows(0, asked.looped), base.rows(0, asked.looped)
    began = time.perf_counter()
    slow = looped(*few)
    looping = time.perf_counter() - began
    for name, values in measured(*few).items():
        np.testing.assert_allclose(values, slow[name], rtol=1e-9, atol=1e-12, err_msg=name)
    ratio = (looping / asked.looped) / (seconds / asked.records)
    print(f"{asked.records:,} records, {int(target.offsets[-1]):,} tokens, {len(DECODINGS)} decodings")
    print(f"measures of each record      {seconds:8.2f} s")
    print(f"{n_shares} shares with intervals     {stating:8.2f} s")
    print(f"loop over {asked.looped:,} records      {looping:8.2f} s, {ratio:.0f} times as long per record")


if __name__ == "__main__":
    main()
