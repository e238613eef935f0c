"""Fine-tuning speed beside Hugging Face's Trainer, on the same batches.

    python benchmarks/training.py

The packaged base and fictional records; fp32, batch 16, AdamW, linear decay, clipping at 1. Both train on the
same records in the same order; ours also writes its log of exposures and losses per record. Each repeat runs one
after the other, in alternating order; only the time between the first and the last step counts. Prints steps per
second, their ratio with its range, and the largest difference between the two loss curves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from loraudit.data import record_id
from loraudit.finetuning import finetune
from loraudit.finetuning.base import make_trainable
from loraudit.finetuning.examples import epoch_order, make_examples
from loraudit.models import load_tokenizer, locate, packaged_base
from loraudit.spec import Recipe
from loraudit.synthetic import private_records
from loraudit.types import Record

METHODS = {
    "full": {"learning_rate": 1e-3},
    "head": {"learning_rate": 1e-3},
    "lora": {"learning_rate": 2e-3, "dropout": 0.0},
}


class Clock:
    """Progress that remembers when the first and the last step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def stage(self, name: str, total: int, unit: str) -> None:
        pass

    def advance(self, n: int) -> None:  # noqa: ARG002
        self.times.append(time.perf_counter())

    def say(self, message: str) -> None:
        pass


class Rows(torch.utils.data.Dataset):
    """The examples in the order of training."""

    def __init__(self, examples: list[Any], order: np.ndarray) -> None:
        self.examples, self.order = examples, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> Any:
        return self.examples[self.order[i]].ids


def collate(rows: list[np.ndarray]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = labels[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Curve(transformers.TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


class InOrder(transformers.Trainer):
    def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def with_trainer(recipe: Recipe, records: list[Record], folder: Path) -> Curve:
    source = locate(str(packaged_base()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = make_trainable(source, recipe, "cpu", (), None).module
    examples = make_examples(records, load_tokenizer(source.folder), recipe, 256)
    curve = Curve()
    decay = {"decay": [], "rest": []}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decay["decay" if parameter.ndim >= 2 else "rest"].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": part} for part in decay.values() if part], lr=recipe.learning_rate, weight_decay=0.0, fused=True
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=recipe.seed,
        remove_unused_columns=False,
    )
    trainer = InOrder(
        module,
        arguments,
        data_collator=collate,
        train_dataset=Rows(examples, epoch_order(np.ones(len(examples), dtype=int), recipe.seed, 0)),
        callbacks=[curve],
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return curve


def ours(recipe: Recipe, records: list[Record], folder: Path) -> tuple[list[float], list[float]]:
    """Times of steps, and the loss of each."""
    import pyarrow.parquet as pq

    clock = Clock()
    finetune(str(packaged_base()), records, recipe, folder, progress=clock)
    log = pq.read_table(folder / "training" / "exposure.parquet").to_pydict()
    step, loss, n = (np.array(log[name]) for name in ("step", "loss", "n_predictions"))
    return clock.times, [float((loss[step == s] * n[step == s]).sum() / n[step == s].sum()) for s in np.unique(step)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    texts = private_records(arguments.records, seed=0)
    records = [Record(record_id(text=text), "f", i, text=text) for i, text in enumerate(texts)]
    print("| method | steps | loraudit, steps/s | Trainer, steps/s | ratio | range | largest loss difference |")
    print("|---|---|---|---|---|---|---|")
    for method, settings in METHODS.items():
        recipe = Recipe(method=method, epochs=1, batch_size=16, **settings)
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        gap = 0.0
        for repeat in range(arguments.repeats):
            curves: dict[str, list[float]] = {}
            for who in ("ours", "theirs") if repeat % 2 == 0 else ("theirs", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    if who == "ours":
                        times, curves[who] = ours(recipe, records, Path(folder))
                    else:
                        found = with_trainer(recipe, records, Path(folder))
                        times, curves[who] = found.times, found.losses
                rates[who].append((len(times) - 1) / (times[-1] - times[0]))
            gap = max(gap, float(np.abs(np.array(curves["ours"]) - np.array(curves["theirs"])).max()))
        ratios = [one / two for one, two in zip(rates["ours"], rates["theirs"], strict=True)]
        print(
            f"| {method} | {len(curves['ours'])} | {statistics.median(rates['ours']):.2f} "
            f"| {statistics.median(rates['theirs']):.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {gap:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
