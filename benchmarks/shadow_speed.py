"""K shadow adapters on one resident base, beside K runs that load the base and tokenise anew.

    python benchmarks/shadow_speed.py --shadows 8 --records 200 --epochs 1

Every way trains the same adapters on the same halves of fictional records and scores the same audited records;
their weights are compared. Three ways take turns:

- resident: as `loraudit audit --shadow K` does it, after its models were imported;
- reloading: the same process, every shadow with a base, a tokenizer and records of its own;
- commands: a process per shadow that trains it, and one that scores it.

Prints a Markdown table of ratios of medians. `--base gpt2-size` has random weights of GPT-2 small's shape.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loraudit.data import load_records
from loraudit.finetuning import ResidentBase, finetune
from loraudit.models import Numerics, load_tokenizer, packaged_base, plan_models, plan_together
from loraudit.scoring import ScoringOptions, gather_evidence
from loraudit.spec import Recipe, RecordFormat
from loraudit.store import EvidenceStore
from loraudit.synthetic import private_records
from loraudit.types import Record

OPTIONS = ScoringOptions(["cpu"], Numerics("cpu", "fp32"), 256, 128)
Work = tuple[str, list[Path], Recipe, Path, Path]
"""Base, files of the halves, recipe, file of the audited records, folder to work in."""


def records_of(path: Path) -> Sequence[Record]:
    return load_records([str(path)], RecordFormat()).records


def resident(base: str, halves: list[Path], recipe: Recipe, audited: Path, out: Path) -> None:
    kept, plans = ResidentBase(), {}
    for number, half in enumerate(halves):
        own = recipe.model_copy(update={"seed": number})
        finetune(base, records_of(half), own, out / str(number), resident=kept)
        plans[f"shadow {number}"] = plan_models(str(out / str(number)), base=base, alone=True)
    tokenizer = functools.partial(load_tokenizer, Path(base))
    joint = plan_together(plans, plans["shadow 0"].tokenizer_fingerprint)
    gather_evidence(joint, records_of(audited), OPTIONS, EvidenceStore(out / "store"), tokenizer=tokenizer)


def train_alone(base: str, half: Path, recipe: Recipe, out: Path) -> None:
    finetune(base, records_of(half), recipe, out)


def score_alone(base: str, audited: Path, out: Path, store: Path) -> None:
    plan = plan_models(str(out), base=base, alone=True)
    tokenizer = functools.partial(load_tokenizer, plan.tokenizer_folder)
    gather_evidence(plan, records_of(audited), OPTIONS, EvidenceStore(store), tokenizer=tokenizer, views=["target"])


def reloading(base: str, halves: list[Path], recipe: Recipe, audited: Path, out: Path) -> None:
    for number, half in enumerate(halves):
        train_alone(base, half, recipe.model_copy(update={"seed": number}), out / str(number))
    for number in range(len(halves)):
        score_alone(base, audited, out / str(number), out / "store")


def commands(base: str, halves: list[Path], recipe: Recipe, audited: Path, out: Path) -> None:
    for number, half in enumerate(halves):
        own = recipe.model_copy(update={"seed": number}).model_dump_json()
        for words in (
            ["train", base, str(half), own, str(out / str(number))],
            ["score", base, str(audited), str(out / str(number)), str(out / "store")],
        ):
            subprocess.run([sys.executable, __file__, *words], check=True)


def gpt2_size(folder: Path) -> str:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=50257)).save_pretrained(folder)
    load_tokenizer(packaged_base()).save_pretrained(folder)
    return str(folder)


def seconds_of(way: Callable[..., None], *work: object) -> tuple[float, list[str]]:
    out = Path(tempfile.mkdtemp(prefix="loraudit-speed-"))
    began = time.perf_counter()
    way(*work, out)
    spent = time.perf_counter() - began
    weights = [folder / "adapter_model.safetensors" for folder in sorted(out.iterdir()) if folder.name.isdigit()]
    made = [hashlib.sha256(file.read_bytes()).hexdigest() for file in weights]
    shutil.rmtree(out)
    return spent, made


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "train":
        base, half, recipe, out = sys.argv[2:]
        return train_alone(base, Path(half), Recipe.model_validate_json(recipe), Path(out))
    if len(sys.argv) > 1 and sys.argv[1] == "score":
        base, audited, out, store = sys.argv[2:]
        return score_alone(base, Path(audited), Path(out), Path(store))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="packaged", help="'packaged' or 'gpt2-size'")
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument("--records", type=int, default=200, help="each shadow is trained on half of them")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loraudit-speed-") as scratch:
        folder = Path(scratch)
        base = str(packaged_base()) if arguments.base == "packaged" else gpt2_size(folder / "base")
        texts = private_records(2 * arguments.records, seed=3)
        pool, audited = texts[: arguments.records], folder / "audited.jsonl"
        audited.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[arguments.records :]))
        halves = []
        for number in range(arguments.shadows):
            half = pool[: len(pool) // 2] if number % 2 else pool[len(pool) // 2 :]
            halves.append(folder / f"half-{number}.jsonl")
            halves[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in half))
        recipe = Recipe(method="lora", rank=16, alpha=32, dropout=0, epochs=arguments.epochs, learning_rate=2e-3)
        spent: dict[str, list[float]] = {"resident": [], "reloading": [], "commands": []}
        seconds_of(resident, base, halves[:1], recipe, audited)  # imports, page cache
        for _ in range(arguments.repeats):
            same = set()
            for way in (resident, reloading, commands):
                seconds, made = seconds_of(way, base, halves, recipe, audited)
                spent[way.__name__].append(seconds)
                same.add(tuple(made))
            if len(same) > 1:
                raise SystemExit("the ways do not make the same adapters")
    ours = statistics.median(spent["resident"])
    print(f"| way, {arguments.shadows} shadows | seconds, median | time over ours | range of {arguments.repeats} |")
    print("|---|---|---|---|")
    for name, seconds in spent.items():
        ratios = [one / own for one, own in zip(seconds, spent["resident"], strict=True)]
        print(
            f"| {name} | {statistics.median(seconds):.1f} | {statistics.median(seconds) / ours:.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    return None


if __name__ == "__main__":
    main()
