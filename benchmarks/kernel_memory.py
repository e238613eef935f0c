"""What the kernels of a whole grid take on a base of BERT-base's size: planned, and measured.

    python benchmarks/kernel_memory.py
    python benchmarks/kernel_memory.py --records 64 --memory 1

An encoder of 12 layers, width 768 and 110 million parameters with random weights, records of random tokens, f the
margin of two classes. Kernels of full tuning, head-only tuning, bias tuning and of LoRA of every rank on every linear
map come from one call within `--memory` GiB. Prints what was planned, what the process needed at most beyond the loaded
model, and the time.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from loraudit.capture import class_margin, kernel_parts, plan_kernels

RANKS = (1, 2, 4, 8, 16, 32, 64)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32, help="of each record")
    parser.add_argument("--draws", type=int, default=2, help="of A")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB that one part of the pass may take")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=2, attn_implementation="eager")).eval()
    rng = np.random.default_rng(0)
    rows = [rng.integers(1000, 30000, arguments.tokens) for _ in range(arguments.records)]
    with torch.no_grad():
        model(input_ids=torch.from_numpy(rows[0])[None])
    limits = {"memory_bytes": int(arguments.memory * 2**30), "ranks": RANKS, "draws": arguments.draws}
    plan = plan_kernels(model, [len(row) for row in rows], **limits)
    before, began = peak_gib(), time.perf_counter()
    kernel_parts(model, rows, class_margin(), device="cpu", **limits)
    seconds, peak = time.perf_counter() - began, peak_gib()
    print(f"{plan.n_parameters:,} parameters; {arguments.records} records of {arguments.tokens} tokens")
    print(
        f"planned: {plan.held_bytes / 2**30:.2f} GiB of gradients at a time and {plan.kernel_bytes / 2**30:.2f} GiB of "
        f"kernels, {plan.n_passes:.1f} passes over every record in {len(plan.chunks)} parts"
    )
    print(f"measured: {peak - before:.2f} GiB beyond the {before:.2f} of the process with its model; {seconds:,.0f} s")
    print(f"one kernel of full tuning by Jacobians would hold {4 * plan.n_parameters * len(rows) / 2**30:.0f} GiB")


if __name__ == "__main__":
    main()
