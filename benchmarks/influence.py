"""Whether the kernels of a base say which records will be memorised, and how much by each method.

    python benchmarks/influence.py --data reviews.jsonl.xz --out runs/influence

Trains the packaged base on 300 film reviews (first 600 characters) by full and head-only tuning and LoRA of rank 4 and
16 with `loraudit contrast`, one seed, three epochs, and measures what can be extracted; then `loraudit influence`
predicts every record's fit from the base alone. Prints Spearman's correlations of both with intervals and n, beside
those of base loss, length and self-influence, and the table across methods. Started again it resumes the training.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

from loraudit.contrast import run_contrast
from loraudit.influence import run_influence
from loraudit.models import packaged_base
from loraudit.report import render_influence_markdown
from loraudit.spec import ContrastSpec, InfluenceSpec, make_request

CHARACTERS = 600
METHODS = ("full", "head", "lora:4", "lora:16")


def write_reviews(source: Path, path: Path, n_records: int) -> None:
    """The beginnings of the first reviews that are long enough, one per line."""
    kept: list[str] = []
    with lzma.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            if len(text) >= CHARACTERS and len(kept) < n_records:
                kept.append(text[:CHARACTERS])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in kept), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="xz-compressed lines of JSON with a text each")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--members", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--probed", type=int, default=128, help="members, and as many non-members, that are predicted")
    parser.add_argument("--max-linear-error", type=float, default=0.3)
    parser.add_argument("--memory", type=float, default=8.0, help="GiB for captured gradients and their products")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    arguments = parser.parse_args()
    records = arguments.out / "reviews.jsonl"
    if not records.exists():
        write_reviews(arguments.data, records, 2 * arguments.members + 100)
    contrast = run_contrast(
        make_request(
            ContrastSpec,
            {
                "base": str(packaged_base()),
                "data": str(records),
                "max_records": arguments.members,
                "validation_records": 100,
                "methods": list(arguments.methods),
                "seeds": 1,
                "epochs": arguments.epochs,
                "memorization": True,
                "prefix_tokens": [50],
                "suffix_tokens": 50,
                "generations": 20,
                "decodings": ["greedy"],
                "device": "cpu",
                "offline": True,
                "out": str(arguments.out / "contrast"),
            },
        )
    )
    print(contrast.result.sentence, flush=True)
    run = run_influence(
        make_request(
            InfluenceSpec,
            {
                "contrast": str(contrast.path),
                "max_records": arguments.probed,
                "max_linear_error": arguments.max_linear_error,
                "memory": arguments.memory,
                "device": "cpu",
                "offline": True,
                "out": str(arguments.out / f"influence-{arguments.probed}"),
            },
        )
    )
    print(render_influence_markdown(run))
    print(f"contrast {contrast.result.seconds:,.0f} s, influence {run.result.seconds:,.0f} s")


if __name__ == "__main__":
    main()
