"""What the slow attacks add to `error_zone`, on targets tuned for three epochs, and what they cost.

    python benchmarks/slow_attacks.py --out runs/slow                            # fictional records
    python benchmarks/slow_attacks.py --data reviews.jsonl.xz --out runs/slow    # film reviews as well

`--data` is the Large Movie Review Dataset as docs/data.md describes it. Each text is cut to its first `--words` words,
so that there is room for a prefix in the context of the packaged base. That base is tuned by full fine-tuning and by
LoRA on `--n` records drawn at random and audited on these and as many others, by the commands that are printed. The
prefix of recall is of further records. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from loraudit.cli import main as loraudit
from loraudit.data import read_rows
from loraudit.models import packaged_base
from loraudit.policy import percent, percent_interval
from loraudit.spec import AuditResult
from loraudit.statistics import compare_scores, rate_metric
from loraudit.store import read_run
from loraudit.store.finished_runs import Run
from loraudit.synthetic import private_records
from loraudit.types import Finding

SHOWN = ("error_zone", "loss", "reference_difference", "neighbourhood", "spv_mia", "recall")
TARGETS = {
    "full": ("--method", "full", "--learning-rate", "1e-3"),
    "LoRA, rank 16": ("--method", "lora", "--rank", "16", "--alpha", "32", "--learning-rate", "2e-3"),
}
PAIRS = (("spv_mia", "error_zone"), ("spv_mia", "loss"), ("neighbourhood", "loss"), ("recall", "loss"))
EPOCHS = 3
N_PREFIX = 7


def texts_of(data: Path | None, n: int, words: int, seed: int) -> dict[str, list[str]]:
    """Per data set, `n` distinct texts in random order."""
    found = {"fictional": private_records(2 * n, seed=seed)}
    if data is not None:
        rows = [row["text"] for _, row in read_rows(str(data)).rows if isinstance(row, dict)]
        found["reviews"] = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[: 2 * n]]
    return {
        name: list(dict.fromkeys(" ".join(text.split()[:words]) for text in texts))[:n] for name, texts in found.items()
    }


def called(*words: str) -> None:
    """`loraudit …`, printed first."""
    print("\n$ loraudit", shlex.join(words), flush=True)
    kept, sys.argv = sys.argv, ["loraudit", *words]
    try:
        loraudit()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="reviews, one JSON object per line; left out: fictional records alone"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=300, help="records per side")
    parser.add_argument("--words", type=int, default=50, help="words kept of each text")
    parser.add_argument("--neighbours", type=int, default=5)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--reference", default="base", help="base, or distilled: the published reference of spv_mia")
    parser.add_argument(
        "--reference-prompts", type=int, default=10_000, help="samples a distilled reference is tuned on"
    )
    parser.add_argument("--only", choices=("fictional", "reviews"), help="one set of records, for a process of its own")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    lines = [
        "| records | target | attack | AUC | TPR at 1 % FPR | n | passes | tokens read |",
        "|---|---|---|---|---|---|---|---|",
    ]
    differences = [
        "| records | target | " + " | ".join(f"{one} − {other}" for one, other in PAIRS) + " |",
        "|---|---|" + "---|" * len(PAIRS),
    ]
    n = arguments.n
    for name, texts in texts_of(arguments.data, 2 * n + N_PREFIX, arguments.words, arguments.seed).items():
        if arguments.only not in (None, name):
            continue
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        cuts = {"members": texts[:n], "nonmembers": texts[n : 2 * n], "prefix": texts[2 * n :]}
        paths = {side: folder / f"{side}.jsonl" for side in cuts}
        for side, path in paths.items():
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in cuts[side]), encoding="utf-8")
        for target, recipe in TARGETS.items():
            model = folder / target.replace(", ", "-").replace(" ", "-")
            data = ("--data", str(paths["members"]), "--validation-share", "0", "--epochs", str(EPOCHS))
            machine = ("--mixed-precision", arguments.precision, "--device", "cpu", "--seed", str(arguments.seed))
            called("tune", str(packaged_base()), *data, *recipe, *machine, "-q", "-o", str(model))
            run = folder / f"audit-{model.name}-{arguments.reference}"
            sides = ("--members", str(paths["members"]), "--nonmembers", str(paths["nonmembers"]))
            slow = ("--slow", "--neighbours", str(arguments.neighbours), "--recall-prefix", str(paths["prefix"]))
            reference = () if arguments.reference == "base" else ("--reference", arguments.reference)
            if arguments.reference == "distilled":
                reference += ("--reference-prompts", str(arguments.reference_prompts))
            how = ("--base", str(packaged_base()), "--device", "cpu", "--precision", arguments.precision)
            began = time.process_time()
            called("audit", str(model), *sides, *how, *slow, *reference, "-q", "-o", str(run))
            finished = Run(*read_run(run))
            result = finished.result
            n_read = int(result.scoring["tokens"]) + sum(result.slow.n_tokens.values() if result.slow else ())
            print(f"{n_read:,} tokens read in this run; {time.process_time() - began:.0f} s of one core in all")
            differences.append(f"| {name} | {target} | " + " | ".join(differences_of(finished)) + " |")
            lines += [f"| {name} | {target} {row}" for row in rows_of(result, arguments.neighbours)]
    print("\n" + "\n".join(lines) + "\n\n" + "\n".join(differences))


def rows_of(result: AuditResult, n: int) -> list[str]:
    """One row per attack, with the tokens that its passes read."""
    once = result.members.n_tokens + result.nonmembers.n_tokens
    prefix = (
        result.slow.n_prefix_tokens * (result.members.n_records + result.nonmembers.n_records) if result.slow else 0
    )
    passes = {"loss": 1, "neighbourhood": 2 + n, "spv_mia": 3 + 2 * n}
    rows: list[str] = []
    for attack in SHOWN:
        found = result.membership.attack(attack).findings
        area, rate = found["auc"], found[rate_metric(0.01)]
        n_passes = passes.get(attack, 2)
        n_tokens = n_passes * once + prefix * (attack == "recall")
        rows.append(
            f"| `{attack}` | {area.value:.3f} [{area.lower:.3f}, {area.upper:.3f}] | {in_percent(rate)} "
            f"| {area.n_members} + {area.n_nonmembers} | {n_passes} | {n_tokens:,} |"
        )
    return rows


def differences_of(run: Run) -> list[str]:
    """Paired differences in AUC, on the records that both define."""
    is_member = run.scores.column("is_member").to_numpy(zero_copy_only=False)
    cells: list[str] = []
    for one, other in PAIRS:
        rng = np.random.default_rng(0)
        found = compare_scores(
            run.column(one),
            run.column(other),
            is_member,
            fprs=(),
            n_resamples=100,
            confidence=0.95,
            rng=rng,
            groups=None,
        ).auc
        cells.append(f"{found.value:+.3f} [{found.interval.lower:+.3f}, {found.interval.upper:+.3f}]")
    return cells


def in_percent(rate: Finding) -> str:
    return "refused" if rate.value is None else f"{percent(rate.value)} {percent_interval(rate)}"


if __name__ == "__main__":
    main()
