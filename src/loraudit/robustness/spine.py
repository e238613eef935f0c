"""A robustness run from top to bottom."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loraudit.errors import LorauditError, StoreError
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.finetuning import Arm, Bench, choose_rate, training_device
from loraudit.finetuning.base import window_length
from loraudit.models import locate
from loraudit.report import render_robustness_html, write_page
from loraudit.robustness.cells import Afterwards, Cell, Finished, Runner
from loraudit.robustness.examination import examine
from loraudit.robustness.measuring import Meter
from loraudit.robustness.outcomes import write_outcomes
from loraudit.robustness.persistence import Trial
from loraudit.robustness.request import check_request, measured_epochs, robustness_path, wanted_detectors
from loraudit.robustness.summary import whole_result, with_ids
from loraudit.robustness.suspecting import HOW_INPUTS_ARE_JUDGED, Suspicion
from loraudit.spec import RobustnessResult, RobustnessSpec, TriedRate
from loraudit.store import RunFolder, user_secret
from loraudit.tasks import Plan, TaskData, check_files, plan_attacks, split_task
from loraudit.types import Record


class RobustnessRun(NamedTuple):
    """A finished robustness run.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: RobustnessResult


def run_robustness(
    spec: RobustnessSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> RobustnessRun:
    """Tune one base by several methods on clean and on poisoned records, and compare what the poison does.

    Clean and poisoned runs are the same code; a poison changes records and nothing else. The same request again
    resumes: finished runs are read back, a half-trained one goes on from its last state.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between steps.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the data, the base or the machine do not allow it.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    check_files(spec)
    data = split_task(spec)
    arms, attacks = check_request(spec, data.task)
    plans = plan_attacks(spec, attacks, data, n_seeds=max(arm.seeds for arm in arms), control_dose=spec.control_dose)
    device = training_device(spec.device)
    folder = RunFolder(robustness_path(spec), spec)
    user_secret()
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            bench = Bench(spec.base, data.train, data.validation, device, spec.offline, progress, stop)
            meters = {arm.name: _meter(spec, bench, data, plans, arm) for arm in arms}
            warnings = _check_lengths(spec, data, plans, meters, max(arm.seeds for arm in arms))
            searches = {
                arm.name: choose_rate(
                    arm,
                    bench,
                    folder.path / "search",
                    candidates=spec.learning_rates,
                    epochs=spec.search_epochs,
                )
                for arm in arms
            }
            finished = _run_cells(spec, bench, data, folder.path, plans, arms, searches, meters)
            progress.say("Comparing the methods")
            outcomes = with_ids(folder, finished, meters)
            told = [run.more.get("detection", {}) for run in finished]
            examined = examine(outcomes, [plan.result() for plan in plans], spec, data.classes, told)
            folder.reopen()
            result = whole_result(
                spec=spec,
                folder=folder,
                data=data,
                plans=plans,
                arms=arms,
                searches=searches,
                finished=finished,
                examined=examined,
                warnings=[
                    *warnings,
                    *(f"{plan.name}: {words}" for plan in plans for words in plan.warnings),
                    *examined.warnings,
                ],
                outcomes=write_outcomes(folder, outcomes),
                command=command or f"loraudit robustness --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            write_page(folder.path, render_robustness_html(result))
            folder.write_result(result)
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return RobustnessRun(folder.path, result)


def _meter(spec: RobustnessSpec, bench: Bench, data: TaskData, plans: Sequence[Plan], arm: Arm) -> Meter:
    source = locate(spec.base, offline=spec.offline)
    window = window_length(arm.recipe, source.config)
    return Meter(data, plans, arm.recipe, bench.resident.tokenizer(source), window, bench.device)


def _check_lengths(
    spec: RobustnessSpec, data: TaskData, plans: Sequence[Plan], meters: Mapping[str, Meter], n_seeds: int
) -> list[str]:
    """Refuse, before the first step, texts that would be refused by a later run; of cut ones say how many.

    Clean texts of a language model may be longer than the window: every token of them is read by some window.

    Raises:
        DataError: Texts are longer than the window, and may not be cut.
    """
    meter = min(meters.values(), key=lambda meter: meter.max_length)
    sets: dict[str, Sequence[Record]] = {} if data.task == "causal_lm" else {"test records": data.test}
    for plan in plans:
        changes = [
            change
            for seed, dose in plan.largest_by_seed(spec.seed, n_seeds)
            for change in plan.poisoned(data.train, dose, seed).changes
        ]
        poisoned = {change.poisoned.id: change.poisoned for change in changes}
        sets[f"records poisoned by {plan.name}"] = list(poisoned.values())
        sets |= {f"test records ({name})": records for name, records in plan.test_sets().items()}
    found = {what: meter.refuse_long(records, what, on_long=spec.on_long) for what, records in sets.items()}
    return [
        f"{n_cut} of {len(sets[what])} {what} are longer than the window of {meter.max_length} tokens and are cut"
        f"{'' if what == 'test records' else ', some within or behind the trigger'}."
        for what, n_cut in found.items()
        if n_cut
    ]


def _run_cells(
    spec: RobustnessSpec,
    bench: Bench,
    data: TaskData,
    folder: Path,
    plans: Sequence[Plan],
    arms: Sequence[Arm],
    searches: Mapping[str, tuple[float, list[TriedRate]]],
    meters: Mapping[str, Meter],
) -> list[Finished]:
    """Every training run, seed by seed: stopped early, every method has been run as often as the others."""
    runner = Runner(bench, folder / "runs", measured_epochs(spec), spec.keep_models)
    found: list[Finished] = []
    for k in range(max(arm.seeds for arm in arms)):
        for arm in (arm for arm in arms if k < arm.seeds):
            meter = meters[arm.name]
            for cell in cells_of(arm, searches[arm.name][0], plans, spec.seed + k, is_first=k == 0):
                looks = _looks(spec, bench, data, meter, cell) if k == 0 else {}
                found.append(runner.run(cell, meter, asked=sorted(looks), afterwards=list(looks.values())))
    order = {arm.name: position for position, arm in enumerate(arms)}
    return sorted(found, key=lambda run: order[run.cell.arm.name])


def _looks(spec: RobustnessSpec, bench: Bench, data: TaskData, meter: Meter, cell: Cell) -> dict[str, Afterwards]:
    """What is done with the weights of a poisoned run of the first seed, by words that say what."""
    if cell.plan is None or cell.is_control:
        return {}
    found: dict[str, Afterwards] = {}
    detectors = wanted_detectors(spec.detect)
    if detectors:
        how = f"detect {' '.join(detectors)}, {HOW_INPUTS_ARE_JUDGED}"
        found[how] = Suspicion(bench, data, meter, detectors, spec.seed)
    if spec.persistence and cell.plan.is_backdoor and cell.dose == cell.plan.doses[-1]:
        found[f"persistence {' '.join(spec.persistence)}"] = Trial(bench, spec.persistence, data.labels, meter)
    return found


def cells_of(arm: Arm, rate: float, plans: Sequence[Plan], seed: int, *, is_first: bool) -> list[Cell]:
    """The runs of one method with one seed: clean, each attack at each dose, and with the first seed the controls."""
    cells = [Cell(arm, rate, None, 0.0, seed)]
    for plan in plans:
        cells += [Cell(arm, rate, plan, dose, seed) for dose in plan.doses]
        if is_first and plan.control_dose is not None:
            cells.append(Cell(arm, rate, plan, plan.control_dose, seed, is_control=True))
    return cells
