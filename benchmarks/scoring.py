"""Scoring side by side with the straightforward way, in one run on one machine.

    python benchmarks/scoring.py [--part equal_lengths ...] [--repeats 3] [--json results.json]

The straightforward way is what most published code does: two resident models, records padded to the
longest of all, the model's default forward with its cache and an attention mask, the full log-softmax
of every position, and `topk(1)`. Both ways use the same weights, the same records, the same precision
and batches of about the same number of tokens. Every part runs in a process of its own; the two ways
alternate inside it, and the ratio is that of their medians. Weights are random, of GPT-2 small's
size: speed does not depend on their values.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TARGETS = {
    "equal_lengths": "≥ 1.3",
    "mixed_lengths_uniform": "≥ 3",
    "mixed_lengths_log_uniform": "≥ 3",
    "bare_forward": "≤ 1.10",
    "memory_lora": "≤ 0.6",
    "bf16": "≥ 1.5",
    "bf16_scores": "≤ .005",
    "cached_audit": "≤ 20 s",
    "help": "≤ 0.5 s",
}
BATCH_TOKENS = 2048


def gpt2(folder: Path) -> Path:
    """A randomly initialised checkpoint of GPT-2 small's size."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    return folder


def other_gpt2(folder: Path) -> Path:
    """The same size with other values."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if not (folder / "config.json").exists():
        torch.manual_seed(1)
        GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    return folder


def lora(base: Path, folder: Path) -> Path:
    """A LoRA adapter of rank 16 on GPT-2's attention, with random values."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    if not (folder / "adapter_config.json").exists():
        torch.manual_seed(2)
        config = peft.LoraConfig(r=16, target_modules=["c_attn", "c_proj"], task_type="CAUSAL_LM", fan_in_fan_out=True)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.02)
        model.save_pretrained(folder)
    return folder


def windows(lengths: Sequence[int]) -> list[Any]:
    import numpy as np

    from loraudit.scoring import Sequence as Window

    rng = np.random.default_rng(0)
    return [Window(rng.integers(0, 50257, n).astype(np.int32), 1) for n in lengths]


def straightforward(models: Sequence[Any], records: Sequence[Any]) -> list[Any]:
    """Gold log-probabilities and top-1 hits by padding everything to the longest record."""
    import torch

    longest = max(len(record.ids) for record in records)
    size = max(1, BATCH_TOKENS // longest)
    kept: list[Any] = []
    for start in range(0, len(records), size):
        chunk = records[start : start + size]
        ids = torch.zeros(len(chunk), longest, dtype=torch.long)
        mask = torch.zeros(len(chunk), longest, dtype=torch.long)
        for row, record in enumerate(chunk):
            ids[row, : len(record.ids)] = torch.from_numpy(record.ids)
            mask[row, : len(record.ids)] = 1
        for model in models:
            with torch.no_grad():
                logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
                log_probs = torch.log_softmax(logits.float(), dim=-1)
                gold = log_probs.gather(2, ids[:, 1:, None])[..., 0]
                hit = log_probs.topk(1, dim=-1).indices[..., 0] == ids[:, 1:]
            kept.append((gold.numpy(), hit.numpy()))
    return kept


def load(folder: Path, precision: str = "fp32") -> Any:
    from loraudit.models import Numerics, locate
    from loraudit.models.loading import load_checkpoint

    return load_checkpoint(locate(str(folder)), Numerics("cpu", precision), "cpu")


def alternate(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way; they take turns, and a first round is thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            gc.collect()
            began = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def compare(lengths: Sequence[int], work: Path, repeats: int) -> dict[str, Any]:
    """Straightforward time over ours, for a fully tuned target and its base."""
    from loraudit.models import Resident
    from loraudit.models.resident import always
    from loraudit.scoring import Scorer

    base = gpt2(work / "base")
    models = [load(other_gpt2(work / "full")), load(base)]
    scorers = [Scorer(Resident(model, "cpu", {"target": always(model)}), batch_tokens=BATCH_TOKENS) for model in models]
    records = windows(lengths)
    seconds = alternate(
        {
            "straightforward": lambda: straightforward(models, records),
            "loraudit": lambda: [scorer.score(records, ["target"]) for scorer in scorers],
        },
        repeats,
    )
    return ratio(seconds, "straightforward", "loraudit") | {"tokens": 2 * sum(lengths)}


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    singles = sorted(a / b for a, b in zip(seconds[above], seconds[below], strict=True))
    return {
        "value": medians[above] / medians[below],
        "range": [singles[0], singles[-1]],
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "repeats": len(singles),
    }


def equal_lengths(work: Path, repeats: int) -> dict[str, Any]:
    return compare([128] * 48, work, repeats)


def mixed_lengths_uniform(work: Path, repeats: int) -> dict[str, Any]:
    import numpy as np

    return compare(np.random.default_rng(0).integers(16, 513, 32).tolist(), work, repeats)


def mixed_lengths_log_uniform(work: Path, repeats: int) -> dict[str, Any]:
    import numpy as np

    lengths = np.exp(np.random.default_rng(0).uniform(np.log(16), np.log(512), 32)).astype(int)
    return compare(lengths.tolist(), work, repeats)


def bare_forward(work: Path, repeats: int) -> dict[str, Any]:
    """Our pass over a bare forward to logits, no cache, on the same batches."""
    import torch

    from loraudit.models import Resident
    from loraudit.models.resident import always
    from loraudit.scoring import Scorer, plan_batches

    model = load(gpt2(work / "base"))
    scorer = Scorer(Resident(model, "cpu", {"target": always(model)}), batch_tokens=BATCH_TOKENS)
    records = windows([128] * 64)
    batches = [torch.from_numpy(batch.ids) for batch in plan_batches(records, batch_tokens=BATCH_TOKENS)]

    def bare() -> None:
        with torch.inference_mode():
            for ids in batches:
                _ = model(input_ids=ids, use_cache=False).logits

    return ratio(
        alternate({"loraudit": lambda: scorer.score(records, ["target"]), "bare": bare}, repeats), "loraudit", "bare"
    )


def bf16(work: Path, repeats: int) -> dict[str, Any]:
    """Our fp32 time over our bf16 time, and what `auto` decides on the packaged base."""
    from loraudit.models import Resident
    from loraudit.models.numerics import has_fast_bfloat16
    from loraudit.models.resident import always
    from loraudit.scoring import Scorer

    if not has_fast_bfloat16("cpu"):
        return {"value": None, "note": "this CPU has no bfloat16 matrix instructions; auto keeps fp32"}
    records = windows([128] * 64)
    scorers = {}
    for precision in ("fp32", "bf16"):
        model = load(gpt2(work / "base"), precision)
        scorers[precision] = Scorer(Resident(model, "cpu", {"target": always(model)}), batch_tokens=BATCH_TOKENS)
    ways = {name: lambda s=scorer: s.score(records, ["target"]) for name, scorer in scorers.items()}
    return ratio(alternate(ways, repeats), "fp32", "bf16")


def bf16_scores(work: Path, repeats: int) -> dict[str, Any]:
    """|ΔAUC| of the headline attack between bf16 and fp32, for a full and a LoRA target of the packaged base."""
    import numpy as np

    from loraudit.data import load_records
    from loraudit.finetuning import finetune
    from loraudit.membership import ATTACKS
    from loraudit.models import Numerics, load_tokenizer, packaged_base, plan_models
    from loraudit.scoring import ScoringOptions, choose_precision
    from loraudit.spec import Recipe, RecordFormat
    from loraudit.synthetic import private_records

    del repeats
    path = work / "records.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in private_records(256, seed=0)))
    records = load_records([str(path)], RecordFormat()).records
    base = str(packaged_base())
    is_member = np.arange(256) < 128
    found: dict[str, Any] = {}
    for method, rate in (("full", 1e-3), ("lora", 2e-3)):
        target = work / f"bf16-{method}"
        finetune(base, records[:128], Recipe(method=method, epochs=4, learning_rate=rate), target)
        choice = choose_precision(
            plan_models(str(target), base=base),
            records,
            is_member,
            ATTACKS["error_zone"],
            ScoringOptions(["cpu"], Numerics("cpu", "fp32"), 256, 128),
            tokenizer=load_tokenizer(Path(base)),
            rng=np.random.default_rng(0),
        )
        found[method] = choice.facts()
    changes = [facts["auc_change"] for facts in found.values() if facts["auc_change"] is not None]
    return {"value": max(changes) if changes else None, "note": json.dumps(found), "repeats": 1}


def memory_lora(work: Path, repeats: int) -> dict[str, Any]:
    """Peak memory above the imports: one copy with the adapter switched, over two resident models."""
    base = gpt2(work / "base")
    lora(base, work / "lora")
    peaks: dict[str, list[int]] = {"loraudit": [], "straightforward": []}
    for _ in range(repeats):
        for way, found in peaks.items():
            output = subprocess.run(
                [sys.executable, __file__, "--peak", way, "--work", str(work)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            found.append(int(output.strip().splitlines()[-1]))
    medians = {name: statistics.median(values) for name, values in peaks.items()}
    return {
        "value": medians["loraudit"] / medians["straightforward"],
        "MiB": {name: round(value / 2**20) for name, value in medians.items()},
        "repeats": repeats,
    }


def peak(way: str, work: Path) -> int:
    """Bytes of resident memory at the highest, above what the imports take."""
    import peft
    import torch
    import transformers

    from loraudit.models import Numerics, plan_models
    from loraudit.scoring import Scorer

    transformers.AutoModelForCausalLM  # noqa: B018 - imported lazily, and imports are not to be counted
    transformers.GPT2LMHeadModel  # noqa: B018
    records = windows([128] * 32)
    gc.collect()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if way == "loraudit":
        plan = plan_models(str(work / "lora"), base=str(work / "base"))
        (_, stage), *_ = plan.stages
        scorer = Scorer(stage(Numerics("cpu", "fp32"), "cpu"), batch_tokens=BATCH_TOKENS)
        scorer.score(records, ["target", "reference"])
    else:
        models = [
            transformers.AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32).eval()
            for _ in range(2)
        ]
        models[0] = peft.PeftModel.from_pretrained(models[0], str(work / "lora")).eval()
        straightforward(models, records)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def cached_audit(work: Path, repeats: int) -> dict[str, Any]:
    """`loraudit audit` on 20 000 records whose evidence is in the store: all attacks, 2 000 resamples."""
    import numpy as np

    from loraudit.auditing.preparation import base_options, requested_models
    from loraudit.data import load_records
    from loraudit.finetuning import finetune
    from loraudit.models import packaged_base
    from loraudit.spec import Recipe, RecordFormat, make_audit_spec
    from loraudit.store import EvidenceStore
    from loraudit.synthetic import private_records
    from loraudit.types import TokenTable

    n, n_tokens = 20_000, 128
    folder = work / "cached"
    folder.mkdir(exist_ok=True)
    texts = private_records(n, seed=0)
    paths = [folder / "members.jsonl", folder / "nonmembers.jsonl"]
    for path, rows in zip(paths, (texts[: n // 2], texts[n // 2 :]), strict=True):
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    base = str(packaged_base())
    records = [r for path in paths for r in load_records([str(path)], RecordFormat()).records]
    finetune(base, records[:16], Recipe(epochs=1, learning_rate=1e-3), folder / "target")
    spec = make_audit_spec(
        {
            "model": str(folder / "target"),
            "base": base,
            "members": str(paths[0]),
            "nonmembers": str(paths[1]),
            "out": str(folder / "run"),
            "store": str(folder / "store"),
            "device": "cpu",
        }
    )
    store = EvidenceStore(folder / "store")
    plan = requested_models(spec, store)
    options = base_options(spec, plan)
    rng = np.random.default_rng(0)
    for fingerprint in (plan.target.fingerprint, plan.reference.fingerprint if plan.reference else ""):
        evidence = store.folder(options.conditions(plan, fingerprint))
        for start in range(0, n, 128):
            ids = [r.id for r in records[start : start + 128]]
            shape = len(ids) * n_tokens
            log_prob = -rng.gamma(1.0, 3.0, shape).astype(np.float32)
            table = TokenTable(
                columns={
                    "log_prob": log_prob,
                    "is_top1": log_prob > -0.7,
                    "margin": rng.random(shape, dtype=np.float32),
                    "mean_log_prob": np.full(shape, -3, dtype=np.float32),
                    "var_log_prob": np.full(shape, 4, dtype=np.float32),
                    "rank_bucket": rng.integers(0, 12, shape).astype(np.uint8),
                },
                offsets=np.arange(len(ids) + 1) * n_tokens,
                is_audited=np.ones(shape, dtype=bool),
                n_windows=np.ones(len(ids), dtype=np.int32),
                status=["ok"] * len(ids),
            )
            evidence.add(ids, table)
    command = [sys.executable, "-m", "loraudit", "audit", "--spec", str(folder / "spec.json"), "--quiet", "--json"]
    (folder / "spec.json").write_text(spec.model_dump_json())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
        assert json.loads(result.stdout)["scoring"]["records_scored"] == 0
    return {"value": statistics.median(seconds), "range": [min(seconds), max(seconds)], "repeats": repeats, "unit": "s"}


def help_time(work: Path, repeats: int) -> dict[str, Any]:
    """`loraudit --help`, wall clock."""
    del work
    seconds = []
    for _ in range(5 * repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "loraudit", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - began)
    return {
        "value": statistics.median(seconds),
        "range": [min(seconds), max(seconds)],
        "repeats": len(seconds),
        "unit": "s",
    }


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "equal_lengths": equal_lengths,
    "mixed_lengths_uniform": mixed_lengths_uniform,
    "mixed_lengths_log_uniform": mixed_lengths_log_uniform,
    "bare_forward": bare_forward,
    "memory_lora": memory_lora,
    "bf16": bf16,
    "bf16_scores": bf16_scores,
    "cached_audit": cached_audit,
    "help": help_time,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--peak", choices=["loraudit", "straightforward"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak, arguments.work))
        return
    if arguments.run:
        print(json.dumps(PARTS[arguments.run](arguments.work, arguments.repeats)))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.part:
            command = [sys.executable, __file__, "--run", part, "--work", folder, "--repeats", str(arguments.repeats)]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[part] = json.loads(result.stdout.strip().splitlines()[-1])
            print(f"{part}: {found[part]}", flush=True)
    print("\n| part | measured | range | asked | details |\n|---|---|---|---|---|")
    for part, facts in found.items():
        value = "–" if facts["value"] is None else f"{facts['value']:.3g}{' s' if facts.get('unit') else ''}"
        spread = " to ".join(f"{x:.2f}" for x in facts.get("range", []))
        details = facts.get("note") or facts.get("seconds") or facts.get("MiB") or f"{facts['repeats']} repeats"
        print(f"| {part} | {value} | {spread} | {TARGETS[part]} | {details} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
