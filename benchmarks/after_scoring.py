"""How long everything after scoring takes: attacks, what is measured without the target, all figures.

    python benchmarks/after_scoring.py
    python benchmarks/after_scoring.py --records 20000 --resamples 2000 --repeats 3

Evidence is drawn at random (100 tokens a record, members slightly more likely); texts are the package's fictional
records, repeated with changed numbers. Times depend on the machine; the claim in docs/results.md is for two cores.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

from loraudit.auditing.columns import Columns
from loraudit.auditing.examination import examine
from loraudit.auditing.fusing import fuse
from loraudit.membership import ATTACKS, Folds, score_attacks, without_noise
from loraudit.spec import AuditSpec
from loraudit.synthetic import private_records
from loraudit.testing import FakeTarget, fake_facts
from loraudit.validity import Words, blind_scores, measure_overlap

N_TOKENS = 100


def evidence(n_records: int, rng: np.random.Generator) -> tuple[FakeTarget, FakeTarget]:
    reference = -rng.gamma(1.5, 2.0, (n_records, N_TOKENS))
    gain = rng.normal(0.05 * (np.arange(n_records) < n_records // 2)[:, None], 0.6, (n_records, N_TOKENS))
    target = np.minimum(reference + gain, -1e-4)
    return FakeTarget(list(target)), FakeTarget(list(reference))


def run(n_records: int, n_resamples: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    target, reference = evidence(n_records, rng)
    tables, facts = {"target": target.table(), "reference": reference.table()}, fake_facts(target)
    is_member = np.arange(n_records) < n_records // 2
    folds = Folds.draw(is_member, None, seed=seed)
    texts = private_records(n_records, seed=seed)
    both = {"target", "reference"}
    attacks = [a for name, a in ATTACKS.items() if not name.startswith("plugin_") and set(a.needs) <= both]
    seconds: dict[str, float] = {}

    began = time.perf_counter()
    scores = {
        name: without_noise(found.scores) for name, found in score_attacks(attacks, tables, facts, folds=folds).items()
    }
    seconds["attacks"] = time.perf_counter() - began

    began = time.perf_counter()
    swapped = score_attacks(
        attacks, {"target": tables["reference"], "reference": tables["reference"]}, facts, folds=folds
    )
    words = Words.of(texts)
    blind = blind_scores(words, facts, is_member, rng=rng)
    overlap = measure_overlap(words, is_member, rng=rng)
    seconds["without the target"] = time.perf_counter() - began

    columns = Columns(
        ids=[str(i) for i in range(n_records)],
        is_member=is_member,
        groups=None,
        subgroups=None,
        n_tokens=rng.integers(20, 200, n_records),
        n_copies=np.ones(n_records, dtype=np.int64),
        scores=scores,
        blind=blind | {f"reference_{a.name}": swapped[a.name].scores for a in attacks if "reference" not in a.needs},
        controls={a.name: swapped[a.name].scores for a in attacks if "reference" in a.needs},
        has_near_duplicate=overlap.has_near_duplicate,
        ngram_share=overlap.ngram_share,
        usual_share=overlap.usual_share,
    )
    spec = AuditSpec(model="m", members=("m",), nonmembers=("n",), resamples=n_resamples)
    began = time.perf_counter()
    examine(columns, spec, lambda _: "", with_fusion=False)
    seconds["figures"] = time.perf_counter() - began

    began = time.perf_counter()
    fuse(columns, spec, np.random.default_rng(seed))
    seconds["fusion"] = time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    runs = [run(asked.records, asked.resamples, asked.seed + i) for i in range(asked.repeats)]
    print(f"{asked.records:,} records, all attacks, {asked.resamples:,} resamples; median of {asked.repeats} runs\n")
    print("| part | seconds | range |\n|---|---|---|")
    for part in runs[0]:
        values = [one[part] for one in runs]
        print(f"| {part} | {median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")
    totals = [sum(one.values()) for one in runs]
    print(f"| together | {median(totals):.1f} | {min(totals):.1f} to {max(totals):.1f} |")


if __name__ == "__main__":
    main()
