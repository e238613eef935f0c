"""A forecast from top to bottom: task → rows → kernels of the base → every method's fit of clean and poisoned data."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loraudit.errors import LorauditError, StoreError, scrubbed
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.forecast.keeping import KeptHeads
from loraudit.forecast.measuring import Measured, measure
from loraudit.forecast.predicting import Predicted, predict
from loraudit.forecast.preparation import Prepared, prepare
from loraudit.forecast.request import forecast_path
from loraudit.forecast.words import heading_of, sentence_of
from loraudit.models.fingerprint import fingerprint
from loraudit.models.plan import summary_of
from loraudit.policy import judge_forecast, read_policy
from loraudit.policy.forecast import FORECAST_EXAMPLE
from loraudit.report import render_forecast_html, write_page
from loraudit.report.forecast import set_beside, unit_of
from loraudit.spec import ForecastResult, ForecastSpec
from loraudit.store import RunFolder, library_versions
from loraudit.tasks import Plan


class ForecastRun(NamedTuple):
    """A finished forecast.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: ForecastResult


def run_forecast(
    spec: ForecastSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> ForecastRun:
    """Predict what poisoned data does to a base under every tuning method of a grid, without training any.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between batches.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the data, the base or the machine do not allow it.
        Interrupted: A stop was asked for.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    prepared = prepare(spec)
    folder = RunFolder(forecast_path(spec), spec)
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            weights = fingerprint(prepared.source.folder)
            files = [one["sha256"] for one in prepared.data.files]
            kept = KeptHeads(folder.path, {"weights": weights, "files": files, "device": prepared.device})
            measured = measure(spec, prepared, kept, progress, stop)
            progress.say("Predicting every method and dose")
            predicted = predict(spec, prepared.grid, prepared.probe, measured)
            result = _result(
                spec,
                prepared,
                measured,
                predicted,
                weights=weights,
                spec_hash=folder.hash,
                command=command or f"loraudit forecast --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            write_page(folder.path, render_forecast_html(result))
            folder.write_result(result)
            kept.clear()
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return ForecastRun(folder.path, result)


def _result(
    spec: ForecastSpec, prepared: Prepared, measured: Measured, predicted: Predicted, *, weights: str, **facts: Any
) -> ForecastResult:
    data, probe = prepared.data, prepared.probe
    summary = summary_of(prepared.source, "base", weights, n_parameters=measured.counts["all"])
    result = ForecastResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        base=summary,
        trained_as=data.task,
        functional=probe.functional,
        n_train=len(data.train),
        n_validation=len(probe.validation.rows),
        n_test=len(data.test),
        classes=data.classes,
        data=list(data.files),
        heading=heading_of(predicted.methods, predicted.curves),
        sentence=sentence_of(
            predicted.methods, predicted.curves, predicted.clean_loss, predicted.base_loss, unit_of(spec)
        ),
        attacks=[plan.result() for plan in prepared.plans],
        methods=predicted.methods,
        clean_loss=predicted.clean_loss,
        base_loss=predicted.base_loss,
        curves=predicted.curves,
        comparisons=[],
        limits=[],
        numerics={"device": prepared.device, "weights": "fp32", "n_rows": len(probe.rows), "heads": measured.n_heads},
        versions=library_versions(),
        n_passes=measured.n_passes,
        warnings=[*data.warnings, *probe.warnings, *_of_plans(prepared.plans), *predicted.warnings],
        **facts,
    )
    if prepared.measured is not None:
        result = set_beside(result, prepared.measured, name=str(spec.measured)).result
    conditions = [*spec.fail_on, *(read_policy(spec.policy, example=FORECAST_EXAMPLE) if spec.policy else [])]
    judged = result.model_copy(update={"limits": judge_forecast(result, conditions)})
    return ForecastResult.model_validate_json(scrubbed(judged.model_dump_json()))


def _of_plans(plans: Sequence[Plan]) -> list[str]:
    return [f"{plan.name}: {words}" for plan in plans for words in plan.warnings]
