"""From measured runs to `scores.parquet` and `result.json` of a contrast."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loraudit.auditing.memorizing.examination import in_short
from loraudit.auditing.request import Sides
from loraudit.contrast.comparison import Comparison
from loraudit.contrast.records import Split
from loraudit.contrast.runs import Trained
from loraudit.contrast.words import verdict_words
from loraudit.errors import scrubbed
from loraudit.finetuning import Arm
from loraudit.membership import without_noise
from loraudit.spec import (
    N_TOKENS,
    SUMMED_LOSS,
    ArmResult,
    ArmRun,
    ContrastResult,
    ContrastSpec,
    TriedRate,
)
from loraudit.store import RunFolder, library_versions, shown_ids
from loraudit.store.finished_runs import Run
from loraudit.store.identity import run_key


def write_scores(folder: RunFolder, sides: Sides, trained: list[Trained], copies: np.ndarray) -> str:
    """`scores.parquet`: one row per record, method, seed and checkpoint; its sha256."""
    ids = pa.array(shown_ids(sides.records, run_key(folder.hash))).dictionary_encode()
    parts: list[pa.Table] = []
    for position, run in enumerate(trained):
        first = 0 if position == 0 else 1  # the untouched base is the same for all
        for step, epoch, scores in list(zip(run.measured.steps, run.measured.epochs, run.measured.scores, strict=True))[
            first:
        ]:
            n = len(sides.records)
            columns = {
                "id": ids,
                "is_member": pa.array(sides.is_member),
                "n_copies": pa.array(np.where(sides.is_member, copies, 0)),
                "arm": pa.array(["base" if step == 0 else run.arm.name] * n).dictionary_encode(),
                "seed": pa.array(np.full(n, run.seed), pa.int32()),
                "step": pa.array(np.full(n, step), pa.int32()),
                "epoch": pa.array(np.full(n, epoch), pa.float32()),
                SUMMED_LOSS: pa.array(without_noise(scores.losses)),
                N_TOKENS: pa.array(scores.n_tokens.astype(np.int32)),
                **{name: pa.array(values) for name, values in scores.attacks.items()},
            }
            parts.append(pa.table(columns))
    folder.write_table("scores.parquet", pa.concat_tables(parts).unify_dictionaries())
    return hashlib.sha256((folder.path / "scores.parquet").read_bytes()).hexdigest()


def whole_result(
    *,
    spec: ContrastSpec,
    folder: RunFolder,
    split: Split,
    sides: Sides,
    arms: list[Arm],
    searches: dict[str, tuple[float, list[TriedRate]]],
    trained: list[Trained],
    audits: dict[str, Run],
    comparison: Comparison,
    digest: str,
    **facts: Any,
) -> ContrastResult:
    """What a contrast found, as written to `result.json`."""
    first = next(iter(audits.values())).result
    matches = comparison.matches()
    heading, sentence = verdict_words(spec, matches)
    arm_results = [
        _arm_result(arm, searches[arm.name], trained, audits[arm.name], comparison, folder.path) for arm in arms
    ]
    warnings = [*split.notes]
    warnings += [
        f"{arm.name}, seed {run.seed}: stopped early, because {run.stopped_because}."
        for arm in arm_results
        for run in arm.runs
        if run.stopped_because
    ]
    warnings += [
        f"{arm.name} gets to the same validation loss after {arm.epoch:.2f} epochs, before it has seen every member: "
        "those still unseen count as members, which lowers its leakage there. A lower learning rate or more epochs "
        "for all methods moves the level."
        for arm in (matches[0].arms if matches[0].kind == "validation_loss" else ())
        if arm.epoch is not None and arm.epoch < 1
    ]
    single = [arm.name for arm in arms if arm.seeds == 1]
    if single:
        who = "per method" if len(single) == len(arms) else f"of {' and '.join(single)}"
        warnings.append(f"One training run {who}: how training falls out by chance is in no interval (--seeds).")
    result = ContrastResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        spec_hash=folder.hash,
        base=first.reference or first.target,
        n_members=len(sides.members.records),
        n_nonmembers=len(sides.nonmembers.records),
        n_validation=len(split.validation),
        data=list(split.files),
        base_validation_loss=float(trained[0].measured.validation[0]),
        heading=heading,
        sentence=sentence,
        arms=arm_results,
        matches=matches,
        exposure=comparison.exposure(matches),
        validity=first.validity,
        numerics=first.numerics,
        versions=library_versions(),
        scores=digest,
        warnings=warnings,
        **facts,
    )
    return ContrastResult.model_validate_json(scrubbed(result.model_dump_json()))


def _arm_result(
    arm: Arm,
    search: tuple[float, list[TriedRate]],
    trained: list[Trained],
    audit: Run,
    comparison: Comparison,
    folder: Path,
) -> ArmResult:
    mine = [run for run in trained if run.arm is arm]
    facts = mine[0].model.facts
    return ArmResult(
        name=arm.name,
        method=arm.recipe.method,
        recipe=facts["recipe"],
        learning_rate=search[0],
        search=search[1],
        n_trained_parameters=facts["n_trained_parameters"],
        n_parameters=facts["n_parameters"],
        runs=[
            ArmRun(
                seed=run.seed,
                model=str(run.model.path.relative_to(folder)),
                points=comparison.points(run.measured),
                n_steps=run.model.facts["n_steps"],
                stopped_because=run.model.facts["stopped_because"],
                epsilon=(run.model.facts["privacy"] or {}).get("epsilon"),
            )
            for run in mine
        ],
        audit=str(audit.path.relative_to(folder)),
        memorization=in_short(audit.result.memorization),
    )
