"""What a backward pass and a regression on non-members add: `gradient_norm` and `quantile_regression` beside others.

    python benchmarks/gradient_quantile.py --n 400 --out runs/fictional
    python benchmarks/gradient_quantile.py --data reviews.jsonl.xz --out runs/reviews

Without `--data` the records are the package's fictional ones; with it, reviews drawn at random and cut to their first
`--words` words (docs/data.md gives source and sha256). The packaged base is tuned by LoRA (by both with `--methods lora
full`), and every target is audited by the command that is printed. Targets and audits that are there already are used
again. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from single_targets import area, rate, write_sides

from loraudit import run_audit
from loraudit.cli.console import Bar
from loraudit.data import load_records
from loraudit.finetuning import finetune, trained_before
from loraudit.models import packaged_base
from loraudit.spec import Recipe, RecordFormat, make_audit_spec
from loraudit.statistics import rate_metric
from loraudit.synthetic import private_records

SHOWN = (
    "error_zone",
    "loss",
    "reference_difference",
    "quantile_regression",
    "quantile_regression_text",
    "gradient_norm",
)
N_VALIDATION = 200


def write_fictional(out: Path, n_per_side: int, seed: int) -> dict[str, str]:
    """Members, non-members and validation records as JSONL files of fictional texts."""
    texts = private_records(2 * n_per_side + N_VALIDATION, seed=seed)
    cuts = {"members": n_per_side, "nonmembers": n_per_side, "validation": N_VALIDATION}
    paths: dict[str, str] = {}
    for side, size in cuts.items():
        own, texts = texts[:size], texts[size:]
        path = out / f"{side}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in own), encoding="utf-8")
        paths[side] = str(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="reviews, one JSON object per line; fictional records without it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1000, help="records per side")
    parser.add_argument("--words", type=int, default=100, help="words kept of each review")
    parser.add_argument("--methods", nargs="+", choices=("lora", "full"), default=["lora"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--full-rate", type=float, default=1e-3)
    parser.add_argument("--lora-rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    base, n, epochs, seed = str(packaged_base()), arguments.n, arguments.epochs, arguments.seed
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.data:
        paths = write_sides(arguments.data, arguments.out, n, arguments.words, seed)
    else:
        paths = write_fictional(arguments.out, n, seed)
    adapter = {"rank": arguments.rank, "alpha": 2 * arguments.rank, "learning_rate": arguments.lora_rate}
    recipes = {
        "lora": (f"LoRA r{arguments.rank}", Recipe(method="lora", epochs=epochs, seed=seed, **adapter)),
        "full": ("full", Recipe(method="full", epochs=epochs, seed=seed, learning_rate=arguments.full_rate)),
    }
    members, validation = (load_records([paths[s]], RecordFormat()).records for s in ("members", "validation"))
    lines = ["| target | attack | AUC | TPR at 1 % FPR | seconds |", "|---|---|---|---|---|"]
    for method in arguments.methods:
        name, recipe = f"{recipes[method][0]}, {epochs} epochs", recipes[method][1]
        folder = arguments.out / name.replace(", ", "-").replace(" ", "-")
        trained = trained_before(base, members, recipe, folder) or finetune(
            base, members, recipe, folder, validation=validation, progress=Bar()
        )
        keys = {"base": base, "members": paths["members"], "nonmembers": paths["nonmembers"]}
        keys["out"] = str(arguments.out / f"gradients-{folder.name}")
        flags = [part for key, value in keys.items() for part in (f"--{key}", value)]
        print("\n$ loraudit audit", shlex.join([str(folder), "--gradients", *flags]), flush=True)
        run = run_audit(make_audit_spec({"model": str(folder), "gradients": True, **keys}), progress=Bar())
        print(run.result.scoring["gradients"])
        for gate in run.result.validity.gates if run.result.validity else ():
            if "quantile" in gate.name or gate.status == "failed":
                print(gate.name, gate.status, gate.reason)
        target = f"{name} (validation loss {trained.validation_losses[-1]:.3f})"
        for attack in SHOWN:
            found = run.result.membership.attack(attack)
            lines.append(
                f"| {target} | `{attack}` | {area(found.findings['auc'])} | {rate(found.findings[rate_metric(0.01)])} "
                f"| {found.seconds:.2f} |"
            )
            target = ""
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
