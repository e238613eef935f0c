"""Full, head-only and LoRA tuning on real text, at matched fit: prepares the records and runs `loraudit contrast`.

    python benchmarks/real_text.py --data reviews.jsonl.xz --out runs/imdb

The data set is the Large Movie Review Dataset (Maas et al. 2011), reviews of 128 to 300 words as one
JSON object per line with a `text` column; docs/data.md gives its source and sha256. Reviews are drawn at random and
cut to their first `--words` words before they are used anywhere. Prints the command it runs, and the tables of
docs/results.md. Interrupted, the same command goes on.

    python benchmarks/real_text.py --data reviews.jsonl.xz --out runs/imdb --part full head:seeds=1

On few cores two small trainings side by side are faster than one after the other. `--part` trains and measures some
of the methods in a folder of their own, with one thread; start one for each core. Afterwards the whole command takes
their models and scores over (each is checked against the request before it is used) and compares all methods.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import torch

from loraudit.cli.console import Bar
from loraudit.contrast import run_contrast
from loraudit.data import read_rows
from loraudit.models import packaged_base
from loraudit.policy import percent, percent_interval
from loraudit.spec import ContrastResult, ContrastSpec, Match, MatchedArm, make_request
from loraudit.statistics import rate_metric
from loraudit.types import Finding

METHODS = ("full", "head:seeds=1", "lora:4,seeds=1", "lora:16", "lora:64,seeds=1")
N_VALIDATION = 500


def write_records(data: Path, out: Path, n_per_side: int, words: int, seed: int) -> Path:
    """Reviews cut to their first words, as one file."""
    rows = [row for _, row in read_rows(str(data)).rows if isinstance(row, dict)]
    chosen = np.random.default_rng(seed).permutation(len(rows))[: 2 * n_per_side + N_VALIDATION]
    texts = [" ".join(rows[i]["text"].split()[:words]) for i in chosen]
    path = out / "reviews.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reviews, one JSON object per line")
    parser.add_argument("--base", default="packaged", help="'packaged' or a checkpoint folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=2000, help="records per side")
    parser.add_argument("--words", type=int, default=100, help="words kept of each text")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--mixed-precision", default="bf16", help="of training: fp32, bf16 or fp16")
    parser.add_argument("--precision", default="bf16", help="of scoring: fp32, bf16 or fp16")
    parser.add_argument("--part", nargs="+", help="only these methods, with one thread")
    parser.add_argument("--measure-at", type=float, nargs="+", default=[0.5, 1, 2, 3, 5, 10])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    values = {
        "base": str(packaged_base()) if arguments.base == "packaged" else arguments.base,
        "data": str(write_records(arguments.data, arguments.out, arguments.n, arguments.words, seed=0)),
        "methods": list(arguments.part or arguments.methods),
        # Dropout regularises: only LoRA would have it, and its steps would take half as long again.
        "settings": [f"mixed_precision={arguments.mixed_precision}", "dropout=0"],
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
        "measure_at": arguments.measure_at,
        "at_epochs": sorted({epoch for epoch in (1, 3, arguments.epochs) if epoch <= arguments.epochs}),
        "validation_records": N_VALIDATION,
        "precision": arguments.precision,
        "store": str(arguments.out / ".loraudit"),
        "out": str(arguments.out / "contrast"),
    }
    if arguments.part:
        torch.set_num_threads(1)
        values["out"] = str(arguments.out / "parts" / re.sub(r"\W+", "-", " ".join(arguments.part)))
    else:
        take_over(arguments.out / "parts", arguments.out / "contrast")
    print("$ loraudit contrast", shlex.join(_flags(values)), flush=True)
    run = run_contrast(make_request(ContrastSpec, values), progress=Bar())
    print("\n".join(tables(run.result)))


def take_over(parts: Path, whole: Path) -> None:
    """Models, scores and searches of the parts, where the whole has none of that name."""
    for kind in ("models", "scores", "search"):
        for found in sorted(parts.glob(f"*/{kind}/*")):
            there = whole / kind / found.name
            if there.exists():
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if found.is_dir() else shutil.copy)(found, there)


def _flags(values: dict[str, object]) -> list[str]:
    words = [str(values["base"])]
    for key, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            if key != "base":
                words += [f"--{'set' if key == 'settings' else key.replace('_', '-')}", str(one)]
    return words


def tables(result: ContrastResult) -> list[str]:
    """One table per match, the attacks at equal validation loss, and the learning rates tried."""
    lines: list[str] = [result.sentence]
    for match in result.matches:
        lines += ["", match.description, "", *_match_table(match, result.spec.headline)]
    first = result.matches[0]
    lines += ["", f"Every attack. {first.description}", "", *_attack_table(first)]
    lines += ["", "| method | learning rates tried (validation loss) |", "|---|---|"]
    for arm in result.arms:
        tried = ", ".join(f"{t.learning_rate:.2g} ({t.validation_loss or float('nan'):.3f})" for t in arm.search)
        lines.append(f"| {arm.name} | {tried} |")
    return lines


def _match_table(match: Match, headline: str) -> list[str]:
    lines = [
        "| method | epoch | validation loss | AUC | runs | TPR at 1 % FPR | TPR at 0.1 % FPR |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in match.arms:
        if not arm.is_reached:
            lines.append(f"| {arm.name} | not reached | | | | | |")
            continue
        found = arm.attacks[headline]
        lines.append(
            f"| {arm.name} | {arm.epoch:.2f} | {arm.validation_loss:.3f} | {area(found['auc'].finding)} "
            f"| {', '.join(f'{value:.3f}' for value in found['auc'].per_seed if value is not None)} "
            f"| {rate(found[rate_metric(0.01)].finding)} | {rate(found[rate_metric(0.001)].finding)} |"
        )
    for difference in match.differences:
        found = difference.metrics["auc"]
        p = "" if difference.p_holm is None else f", p {p_words(difference.p_holm)}"
        lines.append(f"| {difference.first} − {difference.second} | | | {area(found)}{p} | | | |")
    return lines


def _attack_table(match: Match) -> list[str]:
    arms: list[MatchedArm] = [arm for arm in match.arms if arm.is_reached]
    names = [name for name in arms[0].attacks if not name.startswith("plugin_")]
    lines = [f"| attack | {' | '.join(arm.name for arm in arms)} |", "|---" * (len(arms) + 1) + "|"]
    lines += [f"| `{name}` | {' | '.join(area(arm.attacks[name]['auc'].finding) for arm in arms)} |" for name in names]
    return lines


def p_words(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def area(finding: Finding) -> str:
    if finding.value is None:
        return "undefined"
    return f"{finding.value:.3f} [{finding.lower or 0:.3f}, {finding.upper or 0:.3f}]"


def rate(finding: Finding) -> str:
    return "refused" if finding.value is None else f"{percent(finding.value)} {percent_interval(finding)}"


if __name__ == "__main__":
    main()
