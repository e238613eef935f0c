"""Continuing prompts side by side with the straightforward way, in one process on one machine.

    python benchmarks/generation.py [--repeats 3] [--prompts 64] [--new-tokens 50] [--json results.json]

The straightforward way is a loop of `model.generate` over single prompts. Both continue the same prompts greedily with
the model that ships with the package, in full precision; they alternate, and a ratio is that of two runs side by side.
`stop_at_divergence` asks only whether a text that is not memorized is repeated. `mixed` has prompts of 20 to 83 tokens,
each of another length, and is compared with the loop, with batches of equal length alone and with padding on the left.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from loraudit.generation import GREEDY, Sampling, near_verbatim_masses, sample
from loraudit.models import Numerics, Resident, packaged_base, plan_models
from loraudit.synthetic import private_records

Way = Callable[[], Any]


def texts(n: int, n_tokens: int) -> list[list[int]]:
    """Fictional records as tokens, joined so that each has as many as asked for."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(packaged_base())
    ids = tokenizer("\n".join(private_records(n * 4, seed=0)))["input_ids"]
    while len(ids) < n * n_tokens:
        ids = ids + ids
    return [ids[i * n_tokens : (i + 1) * n_tokens] for i in range(n)]


def library(resident: Resident, prompts: list[list[int]], n_new: int, batch_size: int = 1) -> list[list[int]]:
    """`model.generate` on batches padded on the left."""
    settings = transformers.GenerationConfig(do_sample=False, max_new_tokens=n_new, eos_token_id=None, pad_token_id=0)
    found = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        longest = max(map(len, batch))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
        with torch.inference_mode():
            said = resident.module.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        found.extend(said[:, longest:].tolist())
    return found


def ours(resident: Resident, prompts: list[list[int]], n_new: int, **options: Any) -> list[list[int]]:
    return [ids.tolist() for ids in sample(resident, prompts, Sampling(n_new, temperature=GREEDY), seed=0, **options)]


def by_length(resident: Resident, prompts: list[list[int]], n_new: int) -> list[list[int]]:
    """Ours with batches of one length only."""
    return [said for prompt in prompts for said in ours(resident, [prompt], n_new)]


def compare(name: str, plain: Way, other: Way, repeats: int) -> dict[str, Any]:
    """Ratios of seconds, the straightforward way first."""
    ratios, seconds = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        plain()
        middle = time.perf_counter()
        other()
        seconds.append(time.perf_counter() - middle)
        ratios.append((middle - began) / seconds[-1])
    row = {"name": name, "ratio": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)}
    print(f"{name:28} {row['ratio']:6.2f} x   ({row['min']:.2f} to {row['max']:.2f}, {repeats} repeats)")
    return row | {"seconds": float(np.median(seconds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=50)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    n, n_new, repeats = asked.prompts, asked.new_tokens, asked.repeats
    transformers.utils.logging.set_verbosity_error()
    resident = plan_models(str(packaged_base())).load_target(Numerics("cpu", "fp32"), "cpu")
    whole = texts(n, 50 + n_new)
    prompts, suffixes = [text[:50] for text in whole], [text[50:] for text in whole]
    mixed = [text[: 20 + i] for i, text in enumerate(texts(n, 20 + n))]
    expected = library(resident, prompts, n_new)
    print(f"same tokens as the library: {sum(map(list.__eq__, ours(resident, prompts, n_new), expected))} of {n}")
    rows = [
        compare(
            "equal lengths",
            lambda: library(resident, prompts, n_new),
            lambda: ours(resident, prompts, n_new),
            repeats,
        ),
        compare(
            "stop_at_divergence",
            lambda: library(resident, prompts, n_new),
            lambda: ours(resident, prompts, n_new, expected=suffixes),
            repeats,
        ),
        compare(
            "library batched / ours",
            lambda: library(resident, prompts, n_new, 64),
            lambda: ours(resident, prompts, n_new),
            repeats,
        ),
        compare("mixed", lambda: library(resident, mixed, n_new), lambda: ours(resident, mixed, n_new), repeats),
        compare(
            "mixed, one length a batch",
            lambda: by_length(resident, mixed, n_new),
            lambda: ours(resident, mixed, n_new),
            repeats,
        ),
        compare(
            "mixed, padded / ours", lambda: library(resident, mixed, n_new, 64), lambda: ours(resident, mixed, n_new),
            repeats,
        ),
    ]  # fmt: skip
    began = time.perf_counter()
    near = near_verbatim_masses(resident, prompts[:8], suffixes[:8], (40, 1.0), 5)
    print(f"near-verbatim search: {(time.perf_counter() - began) / len(near):.2f} s a record (beam 32, 5 edits)")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
