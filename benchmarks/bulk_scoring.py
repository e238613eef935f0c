"""Records per second, memory and overhead of `loraudit score`, as the number of records grows.

    python benchmarks/bulk_scoring.py [--records 20000] [--times 4] [--model tiny|packaged|gpt2] [--json results.json]

Records of some sixty tokens are made up and scored under a LoRA adapter with random values and under its base: the
packaged one, one of GPT-2 small's size, or a tiny one for many records, the last two with random weights (speed does
not depend on their values). First so many records, then several times as many, each in a process of its own. Memory is
what the system says is resident: when the first unit is done (the model is there), at most at the end of any later
unit, and the peak of the process, which loading the model or the first unit may set. The same adapter then scores the
first 2048 of these records from memory, already tokenised, with `scoring.score_resident`: reading, tokenising,
statistics, attacks and writing are the overhead over that, in seconds of processor time, which other work on the
machine lengthens less than it lengthens the run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHORT = 160
ALONE = 2048


def write_records(path: Path, n_records: int) -> None:
    """Distinct short records; no more than five thousand texts are made up."""
    from loraudit.synthetic import private_records

    texts = private_records(min(n_records, 5000), seed=3)
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_records):
            text = f"{number} {texts[number % len(texts)]}"[:SHORT]
            file.write(json.dumps({"text": text}) + "\n")


def make_base(kind: str, folder: Path) -> Path:
    """The packaged base, or a random checkpoint with the packaged tokenizer."""
    from loraudit.models import packaged_base

    if kind == "packaged":
        return packaged_base()
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config() if kind == "gpt2" else GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=256)
    GPT2LMHeadModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(packaged_base()).save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path) -> Path:
    """A LoRA of rank 16 on every linear layer, with random values."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    config = peft.LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.02)
    model.save_pretrained(folder)
    return folder


def score(model: str, records: str, out: str) -> dict[str, Any]:
    """One bulk run in this process."""
    import psutil

    from loraudit.bulk import run_score, spine
    from loraudit.bulk.unit import ScoreUnit
    from loraudit.spec import ScoreSpec, make_request

    spent = {"units": 0.0, "loading": 0.0}
    resident: list[int] = []

    class Timed(ScoreUnit):
        def __call__(self, unit: Any) -> Any:
            began = time.process_time()
            try:
                return super().__call__(unit)
            finally:
                spent["units"] += time.process_time() - began
                resident.append(psutil.Process().memory_info().rss)

        def _load(self) -> Any:
            began = time.process_time()
            try:
                return super()._load()
            finally:
                spent["loading"] += time.process_time() - began

    spine.ScoreUnit = Timed
    result = run_score(
        make_request(ScoreSpec, {"model": model, "records": records, "out": out, "device": "cpu"})
    ).result
    assert result is not None
    marks = [json.loads(path.read_text("utf-8")) for path in (Path(out) / "marks").iterdir()]
    return {
        "records": result.n_records,
        "tokens": sum(mark["n_model_tokens"] for mark in marks),
        "seconds": result.seconds,
        "processor_seconds": spent["units"] - spent["loading"],
        "resident_first": resident[0],
        "resident_later": max(resident[1:], default=resident[0]),
        "part_bytes": result.part_bytes,
        "index_bytes": (Path(out) / "index.safetensors").stat().st_size,
    }


def alone(model: str, records: str, _: str) -> dict[str, Any]:
    """The model by itself, on records that are tokens already."""
    from loraudit.data import encode, load_records
    from loraudit.models import Numerics, load_tokenizer, plan_models
    from loraudit.scoring import ScoringOptions, score_resident
    from loraudit.spec import RecordFormat

    own = load_records([records], RecordFormat()).records[:ALONE]
    plan = plan_models(model)
    encoded = encode(own, load_tokenizer(plan.tokenizer_folder))
    length = min(2048, plan.context_length or 2048)
    options = ScoringOptions(["cpu"], Numerics("cpu", "fp32"), length, length // 2)
    ((views, load),) = plan.stages
    resident = load(options.numerics, "cpu")
    score_resident(resident, encoded[:64], options, "target")  # the first call is always slow
    began = time.process_time()
    for view in views:
        score_resident(resident, encoded, options, view)
    seconds = time.process_time() - began
    return {"records": len(own), "tokens": len(views) * sum(len(e.ids) for e in encoded), "processor_seconds": seconds}


def in_own_process(step: str, *words: object) -> dict[str, Any]:
    """Carry out one step elsewhere: what it says, and the peak of its memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [sys.executable, __file__, "--step", step, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=4, help="how many times as many the second time")
    parser.add_argument("--model", choices=["tiny", "packaged", "gpt2"], default="packaged")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step, *words = arguments.step
        found = {"score": score, "alone": alone}[step](*words)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**found, "peak_bytes": peak}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter = make_adapter(make_base(arguments.model, folder / "base"), folder / "adapter")
        rows: list[dict[str, Any]] = []
        for n_records in (arguments.records, arguments.times * arguments.records):
            write_records(folder / f"{n_records}.jsonl", n_records)
            rows.append(in_own_process("score", adapter, folder / f"{n_records}.jsonl", folder / f"run-{n_records}"))
        by_itself = in_own_process("alone", adapter, folder / f"{arguments.records}.jsonl", "-")
    print(
        "| records | tokens, both views | s | records/s | tokens/s | MiB, first unit | later, at most | peak "
        "| bytes per record | index bytes |"
    )
    print("|" + "---|" * 10)
    for row in rows:
        rates = row["records"] / row["seconds"], row["tokens"] / row["seconds"]
        print(
            f"| {row['records']:,} | {row['tokens']:,} | {row['seconds']:,.1f} | {rates[0]:,.1f} | {rates[1]:,.0f} "
            f"| {row['resident_first'] / 2**20:,.0f} | {row['resident_later'] / 2**20:,.0f} "
            f"| {row['peak_bytes'] / 2**20:,.0f} | {row['part_bytes'] / row['records']:.0f} | {row['index_bytes']:,} |"
        )
    growth = rows[1]["resident_later"] / rows[0]["resident_later"]
    print(f"\n{arguments.times} times the records: {growth:.3f} times the memory while scoring.")
    per_token = rows[1]["processor_seconds"] / rows[1]["tokens"]
    bare = by_itself["processor_seconds"] / by_itself["tokens"]
    print(
        f"score_resident alone: {1 / bare:,.0f} tokens per processor second on {by_itself['records']:,} records, units "
        f"{1 / per_token:,.0f}: {per_token / bare:.2f} times the time."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"scored": rows, "alone": by_itself}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
