"""Whether a forecast ranks tuning methods and doses as training does: predicted against measured, cell by cell.

    python benchmarks/forecast.py --encoder MiniLM --data shared/data --out runs/forecast --heads 3 --predicted-on 80
    python benchmarks/forecast.py --data shared/data --out runs/forecast

Twelve LoRAs (rank 1, 8, 64; variance of A 1/3 and 3; alpha 8 and 64), full and head-only tuning are trained with
`loraudit robustness` on 200 records, clean and with two doses each of label flips and of a backdoor: 48 cells
of LoRA, 56 in all. An encoder judges film reviews (SST-2); the packaged base does not learn that, and tells news of the
world from sports (AG News, the first 48 tokens of each). All learn at one rate, for variance and alpha do nothing that
a rate cannot undo.
`loraudit forecast` predicts the same cells from the base. Prints Spearman's correlation of both, beside those of the
published entropies and of speed alone, then across methods at each dose apart, for doses alone order cells too; and
what each took. Started again it resumes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.forecast import run_forecast
from loraudit.models import packaged_base
from loraudit.robustness import run_robustness
from loraudit.spec import ForecastResult, ForecastSpec, RobustnessSpec, make_request
from loraudit.statistics import rank_correlation
from loraudit.types import Finding, FloatArray

RANKS, VARIANCES, ALPHAS = (1, 8, 64), (1 / 3, 3.0), (8, 64)
ATTACKS = ["label_flip:doses=0.2+0.4", "fixed_string:doses=4+16"]
RATE = 5e-4


def two_topics(data: Path, out: Path) -> Path:
    """News of the world (0) and sports (1), as a file."""
    path = out / "news.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    with gzip.open(data / "agnews" / "cased.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["label"] in {0, 1}]
    kept = [json.dumps({name: row[name] for name in ("text", "label", "dup_group")}) for row in rows]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def number(finding: Finding) -> str:
    if finding.value is None:
        return finding.note or "undefined"
    ends = ["…" if end is None else f"{end:.2f}" for end in (finding.lower, finding.upper)]
    return f"{finding.value:.2f} [{ends[0]}, {ends[1]}]"


def print_within_doses(result: ForecastResult) -> None:
    """Across methods at one dose, where no rule of doses helps; the settings' own formulas over the same LoRAs."""
    theories = {method.name: method.theory for method in result.methods}
    formulas = {"H1′": "h1_published", "H2′": "h2_published", "ασ": "speed_adam"}
    columns = ["methods", "forecast", "predicted", "measured", "LoRAs", "forecast", *formulas]
    print(f"\n| measure, attack, dose | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for one in result.comparisons:
        by_dose: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for cell in one.cells:
            by_dose.setdefault((cell["attack"], cell["dose"]), []).append(cell)
        for (attack, dose), cells in by_dose.items():
            predicted, of_runs = (np.array([cell[side] for cell in cells]) for side in ("predicted", "measured"))
            loras = [k for k, cell in enumerate(cells) if theories[cell["method"]] is not None]
            by_formula = [
                correlation(np.array([getattr(theories[cells[k]["method"]], name) for k in loras]), of_runs[loras])
                for name in formulas.values()
            ]
            means = f"{predicted.mean():.3f} | {of_runs.mean():.3f}"
            print(
                f"| {one.measure}, {attack}, {dose:g} | {len(cells)} | {correlation(predicted, of_runs)} | {means} | "
                f"{len(loras)} | {correlation(predicted[loras], of_runs[loras])} | {' | '.join(by_formula)} |"
            )


def correlation(first: FloatArray, second: FloatArray) -> str:
    found = rank_correlation(np.asarray(first, dtype=np.float64), second)
    return f"{found.value:.2f} [{found.interval.lower:.2f}, {found.interval.upper:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="folder of an encoder (default: the packaged base)")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds sst2 and agnews (docs/data.md)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--heads", type=int, default=3, help="draws of the head that the forecast averages")
    parser.add_argument("--predicted-on", type=int, default=300, help="test records of the forecast")
    arguments = parser.parse_args()
    if arguments.encoder is None:
        news = two_topics(arguments.data, arguments.out)
        task = {"task": [str(news)], "group_field": "dup_group", "max_length": 48, "on_long": "cut"}
    else:
        task = {"task": [str(arguments.data / "sst2" / "train.jsonl.gz")], "group_field": "group"}
    loras = [
        f"lora:rank={rank},alpha={alpha},init_variance={variance:.12g},dropout=0,learning_rate={RATE}"
        for rank in RANKS
        for variance in VARIANCES
        for alpha in ALPHAS
    ]
    shared: dict[str, Any] = {
        "base": str(arguments.encoder or packaged_base()),
        **task,
        "max_records": 200,
        "test_records": 300,
        "attack": ATTACKS,
        "offline": True,
        "device": "cpu",
    }
    measured = run_robustness(
        make_request(
            RobustnessSpec,
            {
                **shared,
                "methods": [f"full:learning_rate={RATE / 10}", f"head:learning_rate={RATE}", *loras],
                "seeds": arguments.seeds,
                "epochs": 8,
                "measure_at": [1, 2, 4, 8] if arguments.encoder is None else [2, 4, 8],
                "settings": ["mixed_precision=bf16"],
                "out": str(arguments.out / "measured"),
            },
        )
    )
    forecast = run_forecast(
        make_request(
            ForecastSpec,
            {
                **shared,
                "test_records": arguments.predicted_on,
                "heads": arguments.heads,
                "draws": 2,
                "methods": ["full", "head", "lora"],
                "ranks": RANKS,
                "variances": [float(f"{variance:.12g}") for variance in VARIANCES],
                "alphas": ALPHAS,
                "measured": str(measured.path),
                "out": str(arguments.out / "predicted"),
            },
        )
    )
    result = forecast.result
    print(f"{len(measured.result.runs)} runs: {measured.result.seconds:,.0f} s; forecast: {result.seconds:,.0f} s\n")
    print("| measure | cells | predicted | " + " | ".join(result.comparisons[0].baselines) + " |")
    print("|---|---|---|" + "---|" * len(result.comparisons[0].baselines))
    for one in result.comparisons:
        cells = " | ".join(map(number, one.baselines.values()))
        print(f"| {one.measure} | {len(one.cells)} | {number(one.spearman)} | {cells} |")
    print_within_doses(result)
    for warning in (*measured.result.warnings, *result.warnings):
        print(f"- {warning}")


if __name__ == "__main__":
    main()
