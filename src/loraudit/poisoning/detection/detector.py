"""What a detector of poison is, what it may observe, and the registry of those that can be named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import numpy as np

from loraudit.errors import ConfigError, type_name
from loraudit.registry import Registry
from loraudit.types import BoolArray, FloatArray, IntArray

T = TypeVar("T")
Finds = Literal["training records", "inputs"]
SMALLEST_CLASS = 3
"""Of two records each is as far from their mean as the other, so nothing can be said of either."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What was observed of N records. What was not observed is None; what is undefined for a record is NaN.

    Attributes:
        labels: [N] class of each as trained; 0 throughout for a language model or for inputs, which have none.
        representations: [N, d] what goes into the model's last linear map.
        gradients: [N, k] gradient of the record's own loss in trained parameters, or a projection of it.
        loss_history: [N, M] loss of the record, nats, the m-th time training came by it, before that step.
        word_drops: N of [1 + W]: mean −log p per token, nats, by a language model, of the whole text and of the text
            without each of its W words.
        blended_predictions: [N, P, C] class probabilities of the text blended with each of P clean ones.
    """

    labels: IntArray
    representations: FloatArray | None = None
    gradients: FloatArray | None = None
    loss_history: FloatArray | None = None
    word_drops: tuple[FloatArray, ...] | None = None
    blended_predictions: FloatArray | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that cannot be of the same records.

        Raises:
            ConfigError: One has another number of records or of dimensions; all are named.
        """
        n_dimensions = {"representations": 2, "gradients": 2, "loss_history": 2, "blended_predictions": 3}
        problems: list[str] = []
        for name in NEEDS:
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != len(self.labels):
                problems.append(f"{name} of {len(value)}")
            elif name in n_dimensions and value.ndim != n_dimensions[name]:
                problems.append(f"{name} with {value.ndim} dimensions instead of {n_dimensions[name]}")
        if problems:
            raise ConfigError(
                f"Observed {', '.join(problems)} do not fit labels of {len(self.labels)} records. Expected one row per "
                "record. Observe all of them on the same records."
            )


NEEDS = ("representations", "gradients", "loss_history", "word_drops", "blended_predictions")
"""What a detector can declare that it needs: fields of `Observed`."""

DetectFunction = Callable[[Observed], FloatArray]


@dataclass(frozen=True, slots=True)
class Detector:
    """A named pure function from what was observed to one number per record.

    Attributes:
        name: As registered.
        detect: Observed of N records to [N] numbers; higher = more likely poisoned, NaN = undefined.
        requires: What it needs, of `NEEDS`.
        finds: "training records": which of them are poisoned; "inputs": which of them hold a trigger.
        tasks: Kinds of model it applies to: "classification", "causal_lm".
        source: Paper it comes from, and any departure from it.
        summary: One sentence.
        blind_to: What it cannot see, in one sentence.
    """

    name: str
    detect: DetectFunction
    requires: frozenset[str]
    finds: tuple[Finds, ...]
    tasks: frozenset[str]
    source: str
    summary: str
    blind_to: str

    def __call__(self, observed: Observed) -> FloatArray:
        """[N] float64 scores.

        Raises:
            ConfigError: Something it needs was not observed.
        """
        lacking = sorted(name for name in self.requires if getattr(observed, name) is None)
        if lacking:
            raise ConfigError(
                f"Detector '{self.name}' needs {' and '.join(lacking)}, not observed here. Expected all of "
                f"{', '.join(sorted(self.requires))}. Observe them, or leave the detector out."
            )
        return np.asarray(self.detect(observed), dtype=np.float64)


def _problem(name: str, entry: object) -> str | None:
    if not isinstance(entry, Detector):
        return f"it is {type_name(entry)}, not a Detector"
    unknown = sorted(entry.requires.difference(NEEDS))
    if unknown:
        return f"it needs {', '.join(unknown)}, which nobody observes"
    return None if entry.name == name else f"the detector calls itself '{entry.name}'"


DETECTORS: Registry[Detector] = Registry("detector", entry_point_group="loraudit.detectors", problem=_problem)
"""Built-in detectors, and those that installed packages declare in the entry-point group `loraudit.detectors`."""


def detector(
    name: str,
    *,
    requires: frozenset[str],
    finds: tuple[Finds, ...],
    tasks: frozenset[str],
    source: str,
    summary: str,
    blind_to: str,
) -> Callable[[DetectFunction], Detector]:
    """Decorator that makes a function a `Detector` and registers it under `name`."""

    def register(detect: DetectFunction) -> Detector:
        made = Detector(name, detect, requires, finds, tasks, source, summary, blind_to)
        DETECTORS.add(name, made)
        return made

    return register


def given(value: T | None) -> T:
    """What a detector declared that it needs; `Detector.__call__` has seen to it that it is there."""
    return cast("T", value)


def usable_classes(labels: IntArray, is_defined: BoolArray) -> Iterator[IntArray]:
    """Positions of the defined records of each class that has `SMALLEST_CLASS` of them."""
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & is_defined)
        if len(members) >= SMALLEST_CLASS:
            yield members


def centred(rows: FloatArray) -> FloatArray:
    """[n, d] float64 rows minus their mean; exactly 0 where they differ by rounding alone."""
    rows = rows.astype(np.float64)
    offsets = rows - rows.mean(axis=0)
    return np.where(np.abs(offsets) <= 1e-12 * np.abs(rows).max(initial=0.0), 0.0, offsets)


def without_excess_dimensions(rows: FloatArray) -> FloatArray:
    """[n, min(n, d)] coordinates in a basis of the rows' own span: all inner products are kept."""
    if rows.shape[1] <= rows.shape[0]:
        return rows
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    return left * values
