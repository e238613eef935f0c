"""A prediction of single records from top to bottom: contrast → rows → kernels of its base → flows → agreement."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import shlex
import time
from typing import Any

import numpy as np

from loraudit.errors import LorauditError, StoreError, scrubbed
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.influence.examining import Examination, Examined
from loraudit.influence.measuring import Measured, measure
from loraudit.influence.preparation import Prepared, prepare
from loraudit.influence.request import influence_path
from loraudit.influence.words import heading_of, sentence_of, warnings_of
from loraudit.models.fingerprint import fingerprint
from loraudit.models.plan import summary_of
from loraudit.report import render_influence_html, write_page
from loraudit.spec import InfluenceResult, InfluenceSpec
from loraudit.store import InfluenceRun, RunFolder, library_versions, user_secret

_LARGEST_GAP = 0.02  # nats per token
_FUNCTIONAL = "mean log-probability of a record's audited tokens, nats per token"


def run_influence(
    spec: InfluenceSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> InfluenceRun:
    """Predict every record's fit under the methods of a contrast from its base, and set it against what was measured.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between batches.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the contrast, the base or the machine do not allow it.
        Interrupted: A stop was asked for.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    prepared = prepare(spec)
    folder = RunFolder(influence_path(spec), spec)
    user_secret()
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            measured = measure(spec, prepared, progress, stop)
            progress.say("Predicting every record")
            examination = Examination(spec, prepared, measured)
            examined = examination.examined()
            records = [prepared.sides.records[int(i)] for i in prepared.probe.chosen]
            table = examination.table(folder.shown_ids(records))
            folder.reopen()
            folder.write_table("influence.parquet", table)
            result = _result(
                spec,
                prepared,
                measured,
                examined,
                records=hashlib.sha256((folder.path / "influence.parquet").read_bytes()).hexdigest(),
                spec_hash=folder.hash,
                command=command or f"loraudit influence --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            run = InfluenceRun(folder.path, result, table)
            write_page(folder.path, render_influence_html(run))
            folder.write_result(result)
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return run


def _base_gap(prepared: Prepared, measured: Measured) -> list[str]:
    """That the base says something else here than in the contrast; nothing where it does not."""
    chosen = prepared.probe.chosen
    gap = float(np.abs(prepared.sides.base[chosen] - measured.values[: len(chosen)]).max())
    if gap <= _LARGEST_GAP:
        return []
    words = (
        f"The base's loss of a record is up to {gap:.3g} nats per token away from what the contrast scored. Lower "
        "precision of scoring, or another device, does that; so would another tokenizer."
    )
    return [words]


def _result(
    spec: InfluenceSpec, prepared: Prepared, measured: Measured, examined: Examined, **facts: Any
) -> InfluenceResult:
    contrast, suffixes = prepared.contrast, prepared.suffixes
    result = InfluenceResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        contrast=contrast.spec_hash,
        base=summary_of(
            prepared.source, "base", fingerprint(prepared.source.folder), n_parameters=measured.n_parameters
        ),
        functional=_FUNCTIONAL,
        n_trained=contrast.n_members,
        n_members=len(prepared.probe.members),
        n_nonmembers=len(prepared.probe.nonmembers),
        level=prepared.level,
        base_validation_loss=contrast.base_validation_loss,
        suffix=None if suffixes is None else {"prefix": suffixes.prefix, "suffix": suffixes.suffix},
        base_extraction=examined.base_extraction,
        heading=heading_of(examined.methods),
        sentence=sentence_of(examined.methods, prepared.level),
        methods=examined.methods,
        left_out=prepared.left_out,
        numerics={"device": prepared.device, "weights": "fp32", "n_rows": len(prepared.probe.rows)},
        versions=library_versions(),
        n_passes=measured.n_passes,
        warnings=[
            *_base_gap(prepared, measured),
            *warnings_of(examined.methods, contrast, len(prepared.probe.members), suffixes is None),
        ],
        **facts,
    )
    return InfluenceResult.model_validate_json(scrubbed(result.model_dump_json()))
