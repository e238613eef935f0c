"""The spine of `loraudit demo`: a contrast of four tuning methods on the packaged model and fictional records.

Everything comes from the package: a small base model pretrained on public-domain books, and
fictional private-looking records from a seeded generator. Nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path

from loraudit.contrast import ContrastRun, run_contrast
from loraudit.execution import Progress, StopRequest
from loraudit.models import packaged_base
from loraudit.spec import ContrastSpec
from loraudit.store import open_private_folder, write_atomically
from loraudit.synthetic import private_records

N_PER_SIDE = 200
N_VALIDATION = 80
EPOCHS = 3
MEASURED_AT = (0.5, 1.0)
METHODS = (
    "full:learning_rate=3e-3",
    "head:learning_rate=1e-2",
    "lora:rank=4,learning_rate=1e-2",
    "lora:rank=64,learning_rate=3e-3",
)
"""Learning rates as `loraudit contrast` finds them on such records, rounded."""


def demo_request(out: Path, seed: int) -> ContrastSpec:
    """The contrast that the demo runs."""
    return ContrastSpec(
        base=str(packaged_base()),
        data=(str(_records_path(out, seed)),),
        max_records=N_PER_SIDE,
        validation_records=N_VALIDATION,
        methods=METHODS,
        seeds=1,
        epochs=EPOCHS,
        measure_at=tuple(epoch for epoch in MEASURED_AT if epoch <= EPOCHS),
        seed=seed,
        device="cpu",
        out=str(out / f"contrast-seed{seed}"),
        store=str(out / "evidence"),
    )


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> ContrastRun:
    """Tune the packaged model by four methods on fictional records and compare what they leak.

    Args:
        out: Folder for records, models and results; what is there already is used again.
        seed: Of the records, the split and tuning.
        progress: Told how far it is.
        stop: Asked between steps and batches.

    Raises:
        LorauditError: As `run_contrast`.
        Interrupted: A stop was asked for.
    """
    open_private_folder(out)
    texts = private_records(2 * N_PER_SIDE + N_VALIDATION, seed=seed)
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    write_atomically(_records_path(out, seed), content.encode())
    return run_contrast(
        demo_request(out, seed), progress=progress, stop=stop, command=f"loraudit demo --seed {seed} --out {out}"
    )


def _records_path(out: Path, seed: int) -> Path:
    return out / f"records-seed{seed}.jsonl"
