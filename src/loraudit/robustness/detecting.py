"""What detectors of poison say of one trained model: observed once, judged by each detector asked for."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
from scipy.special import softmax

from loraudit.capture import (
    Represented,
    classifier_representations,
    completion_loss,
    head_gradients,
    projected_gradients,
    prompt_representations,
)
from loraudit.data import encode, record_id
from loraudit.errors import DataError, LorauditError, StoreError
from loraudit.execution import Interrupted
from loraudit.models import Numerics, load_tokenizer, locate, packaged_base
from loraudit.models.loading import load_checkpoint
from loraudit.models.plan import context_length
from loraudit.poisoning import input_of, random_order
from loraudit.poisoning.detection import DETECTORS, Detector, Finds, Observed, blended_texts
from loraudit.poisoning.detection.blending import N_BLENDS
from loraudit.scoring import classify, word_drops
from loraudit.spec.poisoning import Task
from loraudit.types import BoolArray, FloatArray, IntArray, Record

GRADIENT_DIMENSIONS = 32


class LanguageModel(NamedTuple):
    """A causal language model that never saw the records.

    Attributes:
        module: In evaluation mode, on the device of the case.
        tokenizer: Its own.
        max_length: Tokens of its window.
    """

    module: Any
    tokenizer: Any
    max_length: int


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A model under suspicion, and what is known about its records to judge detectors by.

    Attributes:
        task: Classification or causal_lm.
        module: The trained model, with its adapter on.
        tokenizer: Its own.
        labels: Names of the classes in the order of the logits; empty for a language model.
        records: [N] as trained on.
        is_poisoned: [N].
        clean: Held-out records of every class without a trigger. Half of them are what triggered inputs are told from;
            the other half is what texts are blended with.
        triggered: Held-out records with the trigger.
        losses: [N, passes] as of `read_loss_history`; None where it was not kept.
        device: Where the module is.
        max_length: Tokens of its window.
        batch_size: Records in one pass.
        seed: Of projections and blends.
        language_model: Judges words; None for the packaged one.
    """

    task: Task
    module: Any
    tokenizer: Any
    labels: tuple[str, ...]
    records: Sequence[Record]
    is_poisoned: BoolArray
    clean: Sequence[Record]
    triggered: Sequence[Record]
    losses: FloatArray | None
    device: str
    max_length: int
    batch_size: int = 32
    seed: int = 0
    language_model: LanguageModel | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one detector said, with the truth it is to be held against.

    Attributes:
        detector: Its name.
        finds: Of which records it speaks.
        scores: [M] higher = more likely poisoned; NaN where undefined, throughout where it could not be asked.
        is_poisoned: [M] which training records are poisoned, or which inputs hold the trigger.
        seconds: Observing and scoring; what several detectors need is counted for each of them.
        note: Why it could not be asked, or what was cut; None where there is nothing to say.
        failure: How it broke down; None where it did not.
    """

    detector: str
    finds: Finds
    scores: FloatArray
    is_poisoned: BoolArray
    seconds: float
    note: str | None = None
    failure: str | None = None


def packaged_language_model(device: str) -> LanguageModel:
    """The small base that ships with loraudit: nothing is downloaded."""
    source = locate(str(packaged_base()), offline=True)
    module = load_checkpoint(source, Numerics(device.split(":", maxsplit=1)[0], "fp32"), device)
    return LanguageModel(module, load_tokenizer(source.folder), context_length(source.config) or 256)


def judge(case: Case, names: Sequence[str] = (), *, finds: Sequence[Finds] = get_args(Finds)) -> list[Judged]:
    """Each detector's word on the training records, on inputs, or on both, as it declares.

    A detector that cannot be asked is in the list with a note, one that breaks down with its failure; the others go on.

    Args:
        case: The model and its records.
        names: Of detectors; all that apply to the task where none is named.
        finds: Which records are judged.

    Raises:
        ConfigError: There is no detector of that name.
    """
    detectors = [DETECTORS[name] for name in names] or [d for d in DETECTORS.values() if case.task in d.tasks]
    sides: dict[Finds, Observer] = {"training records": TrainingObserver(case), "inputs": InputObserver(case)}
    return [
        _judged(detector, of, sides[of], case.task) for detector in detectors for of in detector.finds if of in finds
    ]


def _judged(detector: Detector, finds: Finds, side: Observer, task: Task) -> Judged:
    began, observed_before = time.perf_counter(), side.seconds(())
    nothing = np.full(len(side.is_poisoned), np.nan)
    if task not in detector.tasks:
        return Judged(detector.name, finds, nothing, side.is_poisoned, 0.0, f"It does not apply to {task}.")
    try:
        scores = detector(side.observe(detector.requires))
    except (Interrupted, StoreError):
        raise
    except LorauditError as error:
        return Judged(detector.name, finds, nothing, side.is_poisoned, time.perf_counter() - began, str(error))
    except Exception as error:  # a plug-in may fail in any way; its failure is its result
        why = f"{type(error).__name__}: {error}"
        return Judged(detector.name, finds, nothing, side.is_poisoned, time.perf_counter() - began, failure=why)
    fresh = side.seconds(()) - observed_before
    seconds = time.perf_counter() - began - fresh + side.seconds(detector.requires)
    return Judged(detector.name, finds, scores, side.is_poisoned, seconds, side.note(detector.requires))


@dataclass
class Observer(abc.ABC):
    """Observes what detectors need of some records, each thing once.

    Attributes:
        case: The model under suspicion.
    """

    case: Case
    _found: dict[str, Any] = field(default_factory=dict[str, Any])
    _seconds: dict[str, float] = field(default_factory=dict[str, float])
    _notes: dict[str, str] = field(default_factory=dict[str, str])

    @property
    @abc.abstractmethod
    def records(self) -> Sequence[Record]:
        """[M] that are observed."""

    @property
    @abc.abstractmethod
    def is_poisoned(self) -> BoolArray:
        """[M]."""

    @property
    def labels(self) -> IntArray:
        """[M] classes as trained; 0 where there are none."""
        return np.zeros(len(self.records), dtype=np.int64)

    @property
    def ways(self) -> dict[str, Callable[[], Any]]:
        """How each thing is observed."""
        return {"representations": self._representations, "word_drops": self._word_drops}

    def observe(self, needs: frozenset[str]) -> Observed:
        """What there is of it."""
        for name in sorted(needs):
            way = self.ways.get(name)
            if way is not None and name not in self._found:
                began = time.perf_counter()
                self._found[name] = way()
                self._seconds[name] = time.perf_counter() - began
        return Observed(self.labels, **{name: self._found[name] for name in needs if name in self._found})

    def seconds(self, needs: frozenset[str] | tuple[()]) -> float:
        """Spent on observing these things; on all so far where none is named."""
        return sum(value for name, value in self._seconds.items() if not needs or name in needs)

    def note(self, needs: frozenset[str]) -> str | None:
        """What is to be said of how they were observed."""
        return " ".join(text for name, text in self._notes.items() if name in needs) or None

    @cached_property
    def represented(self) -> Represented:
        """Of a classifier."""
        case = self.case
        return classifier_representations(
            case.module,
            case.tokenizer,
            self.records,
            device=case.device,
            max_length=case.max_length,
            batch_size=case.batch_size,
        )

    def _representations(self) -> FloatArray:
        case = self.case
        if case.task == "classification":
            if self.represented.n_cut:
                self._notes["representations"] = f"{self.represented.n_cut} texts were cut at the model's window."
            return self.represented.representations
        return prompt_representations(
            case.module,
            case.tokenizer,
            self.records,
            device=case.device,
            max_length=case.max_length,
            batch_size=case.batch_size,
        )

    def _word_drops(self) -> tuple[FloatArray, ...]:
        judge_of_words = self.case.language_model or packaged_language_model(self.case.device)
        found = word_drops(
            judge_of_words.module,
            judge_of_words.tokenizer,
            [input_of(record) for record in self.records],
            device=self.case.device,
            max_length=judge_of_words.max_length,
        )
        if found.n_cut:
            self._notes["word_drops"] = f"{found.n_cut} texts were cut at the language model's window."
        return found.log_perplexities


class TrainingObserver(Observer):
    """The records that the model was trained on."""

    @property
    def records(self) -> Sequence[Record]:
        """As trained on."""
        return self.case.records

    @property
    def is_poisoned(self) -> BoolArray:
        """As the manifest says."""
        return self.case.is_poisoned

    @property
    def labels(self) -> IntArray:
        """[N] positions among the case's labels."""
        if self.case.task != "classification":
            return np.zeros(len(self.records), dtype=np.int64)
        places = {name: place for place, name in enumerate(self.case.labels)}
        return np.array([places[str(record.label)] for record in self.records], dtype=np.int64)

    @property
    def ways(self) -> dict[str, Callable[[], Any]]:
        """A record that was trained on has a label, so a gradient, and a history where it was kept."""
        losses = self.case.losses
        known = {} if losses is None else {"loss_history": lambda: losses}
        return {**super().ways, "gradients": self._gradients, **known}

    def _gradients(self) -> FloatArray:
        case = self.case
        if case.task == "classification":
            return head_gradients(self.represented, self.labels, n_dimensions=GRADIENT_DIMENSIONS, seed=case.seed)
        encoded = [
            type(item)(item.ids[: case.max_length], item.is_audited[: case.max_length])
            for item in encode(self.records, case.tokenizer)
        ]
        return projected_gradients(
            case.module,
            [item.ids for item in encoded],
            completion_loss(encoded),
            device=case.device,
            n_dimensions=GRADIENT_DIMENSIONS,
            seed=case.seed,
            batch_size=max(1, case.batch_size // 4),
        )


class InputObserver(Observer):
    """Triggered inputs, and half of the clean ones; the other half is what they are blended with."""

    @cached_property
    def _halves(self) -> tuple[list[Record], list[Record]]:
        clean = self.case.clean
        order = random_order(clean, self.case.seed)
        return [clean[i] for i in order[1::2]], [clean[i] for i in order[::2]]

    @property
    def records(self) -> Sequence[Record]:
        """Triggered ones first."""
        return [*self.case.triggered, *self._halves[0]]

    @property
    def is_poisoned(self) -> BoolArray:
        """Which of them hold the trigger."""
        return np.arange(len(self.records)) < len(self.case.triggered)

    @property
    def ways(self) -> dict[str, Callable[[], Any]]:
        """Only a classifier has one prediction to be certain of."""
        if self.case.task != "classification":
            return super().ways
        return {**super().ways, "blended_predictions": self._blended_predictions}

    def _blended_predictions(self) -> FloatArray:
        case = self.case
        suspects = [input_of(record) for record in self.records]
        partners = sorted({input_of(record) for record in self._halves[1]}.difference(suspects))
        if not partners:
            raise DataError(
                f"None of the {len(case.clean)} clean records is left to blend with. Expected at least two held-out "
                "clean records with texts of their own. Give more of them with --test."
            )
        n_blends = min(N_BLENDS, len(partners))
        self._notes["blended_predictions"] = (
            f"Each text was blended with {n_blends} of {len(partners)} clean ones that are not judged."
        )
        blends = blended_texts(suspects, partners, n_blends=n_blends, seed=case.seed)
        flat = [Record(record_id(text=text), "blend", 0, text=text) for own in blends for text in own]
        logits = classify(
            case.module,
            case.tokenizer,
            flat,
            device=case.device,
            max_length=case.max_length,
            batch_size=case.batch_size,
        )
        return softmax(logits, axis=1).reshape(len(suspects), n_blends, -1)
