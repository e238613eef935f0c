"""Audit targets tuned on real text: full fine-tuning and LoRA, side by side.

    python benchmarks/single_targets.py --data reviews.jsonl.xz --base packaged --out runs/imdb

The data set is the Large Movie Review Dataset (Maas et al. 2011), reviews of 128 to 300 words as one
JSON object per line with a `text` column; docs/data.md gives its source and sha256. Members,
non-members and validation records are drawn at random, and each text is cut to its first `--words`
words before it is used anywhere. Every target is audited by the same command a user would run, which
is printed. Targets and audits that are there already are used again. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import numpy as np

from loraudit import run_audit
from loraudit.cli.console import Bar
from loraudit.data import load_records, read_rows
from loraudit.finetuning import finetune, trained_before
from loraudit.models import packaged_base
from loraudit.policy.verdict import percent, percent_interval
from loraudit.spec import Recipe, RecordFormat, make_audit_spec
from loraudit.statistics import rate_metric
from loraudit.types import Finding

SHOWN = ("error_zone", "reference_difference", "window_vote", "min_k_plus_plus", "loss")


def write_sides(data: Path, out: Path, n_per_side: int, words: int, seed: int) -> dict[str, str]:
    """Members, non-members and validation records as JSONL files of short texts."""
    rows = [row for _, row in read_rows(str(data)).rows if isinstance(row, dict)]
    order = np.random.default_rng(seed).permutation(len(rows))
    cuts = {"members": n_per_side, "nonmembers": n_per_side, "validation": 500}
    paths: dict[str, str] = {}
    start = 0
    for side, size in cuts.items():
        texts = [" ".join(rows[i]["text"].split()[:words]) for i in order[start : start + size]]
        start += size
        path = out / f"{side}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        paths[side] = str(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reviews, one JSON object per line")
    parser.add_argument("--base", default="packaged", help="'packaged' or a checkpoint folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=2000, help="records per side")
    parser.add_argument("--words", type=int, default=100, help="words kept of each text")
    parser.add_argument("--full-epochs", type=int, default=3)
    parser.add_argument("--full-rate", type=float, default=1e-3)
    parser.add_argument("--lora-epochs", type=int, nargs="+", default=[3])
    parser.add_argument("--lora-rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    base = str(packaged_base()) if arguments.base == "packaged" else arguments.base
    arguments.out.mkdir(parents=True, exist_ok=True)
    paths = write_sides(arguments.data, arguments.out, arguments.n, arguments.words, arguments.seed)
    recipes = {
        f"full, {arguments.full_epochs} epochs": Recipe(
            method="full", epochs=arguments.full_epochs, learning_rate=arguments.full_rate, seed=arguments.seed
        )
    }
    for epochs in arguments.lora_epochs:
        recipes[f"LoRA r{arguments.rank}, {epochs} epochs"] = Recipe(
            method="lora",
            epochs=epochs,
            learning_rate=arguments.lora_rate,
            rank=arguments.rank,
            alpha=2 * arguments.rank,
            seed=arguments.seed,
        )
    members, validation = (load_records([paths[s]], RecordFormat()).records for s in ("members", "validation"))
    lines = [
        "| target | validation loss | attack | AUC | TPR at 1 % FPR | TPR at 0.1 % FPR |",
        "|---|---|---|---|---|---|",
    ]
    for name, recipe in recipes.items():
        folder = arguments.out / name.replace(", ", "-").replace(" ", "-")
        trained = trained_before(base, members, recipe, folder) or finetune(
            base, members, recipe, folder, validation=validation, progress=Bar()
        )
        keys = {"base": base, "members": paths["members"], "nonmembers": paths["nonmembers"]}
        keys["out"] = str(arguments.out / f"audit-{folder.name}")
        flags = [part for key, value in keys.items() for part in (f"--{key}", value)]
        print("\n$ loraudit audit", shlex.join([str(folder), *flags]), flush=True)
        run = run_audit(make_audit_spec({"model": str(folder), **keys}), progress=Bar())
        for attack in SHOWN:
            findings = run.result.membership.attack(attack).findings
            lines.append(
                f"| {name} | {trained.validation_losses[-1]:.3f} | `{attack}` | {area(findings['auc'])} "
                f"| {rate(findings[rate_metric(0.01)])} | {rate(findings[rate_metric(0.001)])} |"
            )
    print("\n" + "\n".join(lines))


def area(finding: Finding) -> str:
    return f"{finding.value:.3f} [{finding.lower:.3f}, {finding.upper:.3f}]"


def rate(finding: Finding) -> str:
    return "refused" if finding.value is None else f"{percent(finding.value)} {percent_interval(finding)}"


if __name__ == "__main__":
    main()
