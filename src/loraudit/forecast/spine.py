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

from loraudit.capture import Functional, class_against_rest, class_margin, token_margin
from loraudit.errors import ConfigError, LorauditError, StoreError, scrubbed
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.finetuning import training_device
from loraudit.finetuning.base import window_length
from loraudit.forecast.grid import Candidate, candidates
from loraudit.forecast.measuring import Measured, measure
from loraudit.forecast.predicting import Predicted, predict
from loraudit.forecast.probes import Probe, make_probe
from loraudit.forecast.request import check_request, forecast_path
from loraudit.forecast.words import heading_of, sentence_of
from loraudit.models import load_tokenizer, locate
from loraudit.models.fingerprint import fingerprint
from loraudit.models.locate import Source
from loraudit.models.plan import summary_of
from loraudit.policy import judge_forecast, read_policy
from loraudit.policy.forecast import FORECAST_EXAMPLE
from loraudit.report import render_forecast_html, write_page
from loraudit.report.forecast import set_beside
from loraudit.spec import ForecastResult, ForecastSpec, Recipe, RobustnessResult
from loraudit.store import RunFolder, library_versions, read_robustness
from loraudit.tasks import Plan, TaskData, check_files, plan_attacks, split_task


class ForecastRun(NamedTuple):
    """A finished forecast.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: ForecastResult


class Prepared(NamedTuple):
    """A request with everything that is known before the base runs.

    Attributes:
        data: The task.
        plans: Its attacks.
        grid: Tuning methods.
        probe: Rows.
        source: The base.
        tokenizer: Its own.
        device: Where it runs.
        measured: Robustness run that the prediction is set against.
    """

    data: TaskData
    plans: list[Plan]
    grid: list[Candidate]
    probe: Probe
    source: Source
    tokenizer: Any
    device: str
    measured: RobustnessResult | None

    def functional(self) -> Functional:
        """f, as the probe's words say it."""
        if self.probe.answers is not None:
            return token_margin(*self.probe.answers)
        if self.probe.positive is not None:
            return class_against_rest(self.probe.positive)
        return class_margin()


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
            measured = measure(spec, prepared, prepared.functional(), progress, stop)
            progress.say("Predicting every method and dose")
            predicted = predict(spec, prepared.grid, prepared.probe, measured)
            result = _result(
                spec,
                prepared,
                measured,
                predicted,
                spec_hash=folder.hash,
                command=command or f"loraudit forecast --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            write_page(folder.path, render_forecast_html(result))
            folder.write_result(result)
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return ForecastRun(folder.path, result)


def prepare(spec: ForecastSpec) -> Prepared:
    """Everything that shows before the base runs.

    Raises:
        LorauditError: Anything is wrong.
    """
    check_files(spec)
    data = split_task(spec)
    attacks = check_request(spec, data.task)
    plans = plan_attacks(spec, attacks, data)
    device = training_device(spec.device)
    source = locate(spec.base, offline=spec.offline)
    if source.kind != "checkpoint":
        raise ConfigError(
            f"Base '{spec.base}' is an adapter. Expected a full checkpoint, whose tuning is to be predicted."
        )
    tokenizer = load_tokenizer(source.folder)
    window = window_length(Recipe(task=data.task, max_length=spec.max_length), source.config)
    probe = make_probe(
        data, plans, tokenizer, max_length=window, on_long=spec.on_long, seed=spec.seed, target=spec.target
    )
    return Prepared(data, plans, candidates(spec, data.task), probe, source, tokenizer, device, _measured(spec))


def _measured(spec: ForecastSpec) -> RobustnessResult | None:
    if spec.measured is None:
        return None
    found = read_robustness(Path(spec.measured))
    if found is None:
        raise StoreError(
            f"Folder '{spec.measured}' holds no finished robustness run. Expected one of: loraudit robustness. Check "
            "--measured."
        )
    return found


def _result(
    spec: ForecastSpec, prepared: Prepared, measured: Measured, predicted: Predicted, **facts: Any
) -> ForecastResult:
    data, probe = prepared.data, prepared.probe
    summary = summary_of(
        prepared.source, "base", fingerprint(prepared.source.folder), n_parameters=measured.counts["all"]
    )
    result = ForecastResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        base=summary,
        trained_as=data.task,
        functional=probe.functional,
        n_train=len(data.train),
        n_test=len(data.test),
        classes=data.classes,
        data=list(data.files),
        heading=heading_of(predicted.methods, predicted.curves),
        sentence=sentence_of(predicted.methods, predicted.curves, predicted.clean_loss, predicted.base_loss),
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
