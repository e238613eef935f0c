"""The spine of `loraudit demo`: tune the packaged model twice and audit both targets.

Everything comes from the package: a small base model pretrained on public-domain books, and
fictional private-looking records from a seeded generator. Nothing is downloaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from loraudit.auditing import run_audit
from loraudit.data import load_records
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.finetuning import TrainedModel, finetune, trained_before
from loraudit.spec import AuditSpec, Recipe, RecordFormat
from loraudit.statistics import paired_auc_difference
from loraudit.statistics.auc import AucDifference
from loraudit.store import open_private_folder, write_atomically
from loraudit.store.run_folder import Run
from loraudit.synthetic import private_records

N_PER_SIDE = 400
N_VALIDATION = 100
RECIPES = {
    "full": Recipe(method="full", epochs=3, learning_rate=1e-3),
    "lora": Recipe(method="lora", epochs=3, learning_rate=2e-3, rank=8, alpha=16),
}


def packaged_base() -> Path:
    """Folder of the base model that ships with loraudit."""
    return Path(str(files("loraudit") / "assets" / "base"))


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo shows.

    Attributes:
        runs: The audit of each target, by tuning method.
        trained: Each target, with its losses.
        gap: AUC of the headline attack on the full target minus that on the LoRA target, same records.
    """

    runs: dict[str, Run]
    trained: dict[str, TrainedModel]
    gap: AucDifference


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> DemoResult:
    """Tune a full and a LoRA target on the same fictional records and audit both.

    Args:
        out: Folder for data, targets and run folders; targets already there are used again.
        seed: Of the records and of tuning.
        progress: Told how far it is.
        stop: Asked between steps and batches.

    Raises:
        LorauditError: As `run_audit`.
        Interrupted: A stop was asked for.
    """
    progress = progress or Silent()
    open_private_folder(out)
    files_by_side = _write_records(out, seed)
    base = packaged_base()
    runs: dict[str, Run] = {}
    trained: dict[str, TrainedModel] = {}
    for name, unseeded in RECIPES.items():
        recipe = unseeded.model_copy(update={"seed": seed})
        target = out / f"target-{name}-seed{seed}"
        members = load_records([files_by_side["members"]], RecordFormat()).records
        trained[name] = trained_before(str(base), members, recipe, target) or finetune(
            str(base),
            members,
            recipe,
            target,
            validation=load_records([files_by_side["validation"]], RecordFormat()).records,
            progress=progress,
            stop=stop,
        )
        spec = AuditSpec(
            model=str(target),
            base=str(base),
            members=(files_by_side["members"],),
            nonmembers=(files_by_side["nonmembers"],),
            seed=seed,
            device="cpu",
            out=str(out / f"audit-{name}-seed{seed}"),
        )
        runs[name] = run_audit(spec, progress=progress, stop=stop, command=f"loraudit demo --seed {seed}")
    return DemoResult(runs, trained, _gap(runs["full"], runs["lora"]))


def _write_records(out: Path, seed: int) -> dict[str, str]:
    texts = private_records(2 * N_PER_SIDE + N_VALIDATION, seed=seed)
    sides = {
        "members": texts[:N_PER_SIDE],
        "nonmembers": texts[N_PER_SIDE : 2 * N_PER_SIDE],
        "validation": texts[2 * N_PER_SIDE :],
    }
    paths: dict[str, str] = {}
    for side, rows in sides.items():
        path = out / f"{side}-seed{seed}.jsonl"
        write_atomically(path, "".join(json.dumps({"text": text}) + "\n" for text in rows).encode())
        paths[side] = str(path)
    return paths


def _gap(full: Run, lora: Run) -> AucDifference:
    headline = full.result.membership.headline
    one, two = full.column(headline), lora.column(headline)
    is_member = full.scores.column("is_member").to_numpy(zero_copy_only=False).astype(bool)
    both = ~np.isnan(one) & ~np.isnan(two)
    return paired_auc_difference(
        (one[both & is_member], one[both & ~is_member]), (two[both & is_member], two[both & ~is_member])
    )
