"""Everything of a forecast that is known before the base runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from loraudit.capture import Functional, class_against_rest, class_margin, token_margin
from loraudit.errors import ConfigError
from loraudit.finetuning import training_device
from loraudit.finetuning.base import window_length
from loraudit.forecast.grid import Candidate, candidates
from loraudit.forecast.probes import Probe, make_probe
from loraudit.forecast.request import check_request
from loraudit.models import load_tokenizer, locate
from loraudit.models.locate import Source
from loraudit.spec import ForecastSpec, Recipe, RobustnessResult
from loraudit.store import read_robustness, refused_folder
from loraudit.tasks import Plan, TaskData, check_files, plan_attacks, split_task
from loraudit.types import IntArray


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

    def functional(self, places: IntArray | slice = slice(None)) -> Functional:
        """f, as the probe's words say it.

        Args:
            places: Of the probe's rows that go through the model; by default all.
        """
        if self.probe.answers is not None:
            return token_margin(*self.probe.answers[:, places])
        if self.probe.positive is not None:
            return class_against_rest(self.probe.positive)
        return class_margin()


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
        raise refused_folder(Path(spec.measured), "a finished robustness run after --measured")
    return found
