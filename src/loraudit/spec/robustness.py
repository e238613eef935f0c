"""What is asked of `loraudit robustness`, and what it found."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from loraudit.spec.contrasts import LearningRates, MatchKind, TriedRate
from loraudit.spec.form import SCHEMA_VERSION, Names, Strict, as_tuple
from loraudit.spec.making import Request
from loraudit.spec.poisoning import PoisonSettings, Task
from loraudit.spec.recipe import Epochs
from loraudit.spec.results import LimitResult, ModelSummary
from loraudit.spec.tasks import PoisonedTask
from loraudit.types import Finding

Verdict = Literal["harmed", "resisted", "invalid", "undecided"]
Persistence = Literal["clean_steps", "merge", "int8"]
DEFAULT_POISONED_METHODS = ("full", "head", "lora:8")


class RobustnessSpec(Request, PoisonedTask):
    """Which poisons to try on which tuning methods. Every field is also a flag of `loraudit robustness`."""

    command: ClassVar[str] = "robustness"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"device", "offline", "out", "fail_on", "policy", "keep_models"})

    base: str = Field(description="Checkpoint that every method starts from: a folder or a hub name.")
    control_dose: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="Share poisoned in the positive control of every backdoor: a method on which not even this works "
        "is invalid, not robust.",
    )
    methods: Names = Field(
        default=DEFAULT_POISONED_METHODS,
        description="A method, with settings of its own after a colon, such as full, lora:8 (rank), "
        "lora:rank=8,freeze_a=true or full:dp_epsilon=8; seeds=1 among them is for this method alone.",
    )
    seeds: int = Field(default=3, ge=1, description="Training runs per method and dose; their spread is stated.")
    epochs: int = Field(default=3, ge=1, description="Passes over the training records.")
    batch_size: int = Field(default=16, ge=1, description="Records per step.")
    measure_at: Epochs = Field(
        default=(), description="Epochs after which everything is measured (default: ½, 1, 2, 3 … and the last)."
    )
    settings: Names = Field(
        default=(), description="KEY=VALUE of the recipe, for every method, such as weight_decay=0.1."
    )
    learning_rates: LearningRates = Field(
        default=(),
        description="Candidates for every method; by default a search around a usual rate. The choice is made on "
        "clean records' validation loss after --search-epochs, never on what poison does.",
    )
    search_epochs: int = Field(default=1, ge=1, description="Epochs of each candidate of that search.")
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context)."
    )
    on_long: Literal["error", "cut"] = Field(
        default="error", description="Classification: refuse texts longer than a window, or cut and count them."
    )

    detect: Names = Field(
        default=(),
        description="Detectors of poison to judge on the first run of every poisoned arm; all for each of them.",
    )
    persistence: Annotated[tuple[Persistence, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="What backdoors of the first runs are put through at the largest dose: clean_steps (an epoch of "
        "tuning on clean records), merge (of an adapter), int8 (of all weights).",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples.")

    fail_on: Names = Field(
        default=(),
        description="Conditions that end with exit code 1, such as 'asr.upper95 > 0.5' or 'accuracy_drop > 0.05'.",
    )
    policy: str | None = Field(default=None, description="File with such conditions under fail-on.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    keep_models: bool = Field(default=False, description="Keep the weights of every arm.")
    out: str | None = Field(default=None, description="Run folder (default: runs/robustness-<hash of the spec>).")


class PoisonResult(Strict):
    """One attack as it was carried out."""

    name: str = Field(description="As asked for.")
    poison: str
    goal: Literal["degrade", "backdoor"]
    settings: PoisonSettings = Field(description="With every default filled in.")
    doses: list[float] = Field(description="As asked for, ascending, without the control.")
    n_poisoned: list[int] = Field(description="Records poisoned at each dose.")
    control_poisoned: int | None = Field(default=None, description="Records poisoned in the positive control.")
    n_eligible: int
    n_triggered: int | None = Field(default=None, description="Triggered test records, none of the target class.")
    n_holders: int = Field(default=0, description="Clean training records that hold the trigger as they are.")
    warnings: list[str]


class PoisonedPoint(Strict):
    """One checkpoint of one training run, on test records. Rates are in [0, 1]."""

    step: int
    epoch: float
    validation_loss: float = Field(description="On clean records nobody is trained on, nats.")
    clean_loss: float = Field(description="On the clean test records, nats per prediction.")
    accuracy: Finding | None = Field(description="On them; None for a language model.")
    precision: float | None = Field(
        default=None,
        description="Macro average over classes, without an interval; None where undefined. That of F1 stands at its "
        "curves.",
    )
    recall: float | None = Field(default=None, description="Likewise.")
    f1: float | None = Field(default=None, description="Likewise; a class that is never predicted counts as 0.")
    attack_success: dict[str, Finding] = Field(
        description="By attack: share of its triggered non-target test records that get the target. Of clean arms too: "
        "the floor."
    )
    untriggered: dict[str, Finding] = Field(description="The same share on the same records without the trigger.")
    partial: dict[str, Finding] = Field(description="The same with a part of the trigger, for triggers of parts.")


class PoisonedRun(Strict):
    """One training run: clean (no attack, dose 0), poisoned, or positive control."""

    method: str
    attack: str | None = None
    dose: float = 0.0
    n_poisoned: int = 0
    is_control: bool = False
    seed: int
    n_steps: int
    points: list[PoisonedPoint]
    collapsed: bool = Field(
        description="It predicts one class only, is no better than the majority class, or diverged."
    )
    model: str | None = Field(default=None, description="Folder of the weights, where they were kept.")


class PoisonedMethod(Strict):
    """One tuning method."""

    name: str
    method: str
    recipe: dict[str, Any]
    learning_rate: float
    search: list[TriedRate]
    n_trained_parameters: int
    n_parameters: int


class DosePoint(Strict):
    """One measure at one dose, over the runs of a method."""

    dose: float
    n_poisoned: int
    exposures: float = Field(description="Poisoned records seen until then: poisoned records × epochs.")
    finding: Finding = Field(description="Mean over runs; its interval knows the chance of records and of runs.")
    per_seed: list[float | None]
    median: float | None
    quartiles: tuple[float, float] | None = Field(description="Over the runs; None below four of them.")
    n_collapsed: int
    without_collapsed: float | None = Field(description="Mean over the other runs.")
    excess: Finding | None = Field(
        default=None,
        description="Change from the method's own clean arm: accuracy lost, loss added, or success above the floor.",
    )


class Curve(Strict):
    """One measure of one method against the dose of one attack. Dose 0 is the clean arm."""

    attack: str
    method: str
    measure: Literal["accuracy", "clean_loss", "f1", "attack_success", "partial"]
    points: list[DosePoint]


class EffectiveDose(Strict):
    """Poisoned exposures at which half, or nine tenths, of the effect is there."""

    attack: str
    method: str
    share: float = Field(description="0.5 or 0.9.")
    finding: Finding = Field(description="Exposures; None beyond the doses tested, with a note.")
    bound: Literal["above", "below"] | None = Field(default=None, description="Where it lies if no dose brackets it.")


class DoseRatio(Strict):
    """How many times the exposures one method takes of another's, for the same success."""

    attack: str
    first: str
    second: str
    share: float
    finding: Finding = Field(description="ED of the first over ED of the second.")


class MethodDifference(Strict):
    """First method minus second: what the same dose does beyond what it does to the other, over own clean arms."""

    attack: str
    first: str
    second: str
    measure: str
    dose: float
    finding: Finding
    p_value: float | None = Field(description="Two-sided: records exchanged at random, runs by Student's t.")
    p_holm: float | None = None


class RobustnessMatch(Strict):
    """All methods at the same clean fit."""

    kind: MatchKind
    level: float | None = Field(description="Loss of the clean arms in nats, or number of epochs.")
    description: str
    epochs: dict[str, float | None] = Field(description="Mean epoch at which each method is read; None: not reached.")
    curves: list[Curve]
    effective_doses: list[EffectiveDose]
    dose_ratios: list[DoseRatio]
    differences: list[MethodDifference]


class ControlResult(Strict):
    """Whether an attack on a method was tested at all."""

    attack: str
    method: str
    positive: Finding | None = Field(description="Success at the control dose; None where the attack has no control.")
    floor: Finding | None = Field(description="Success on the clean arm.")
    natural: Finding | None = Field(description="Share of the same records that get the target without the trigger.")
    verdict: Verdict
    reasons: list[str]
    decided_at: MatchKind | None = Field(
        default=None,
        description="Comparison that the verdict was read from: the first of this kind; None: the first of all.",
    )


class PersistenceResult(Strict):
    """What is left of a backdoor."""

    attack: str
    method: str
    after: Persistence
    dose: float
    success_before: Finding
    success_after: Finding
    accuracy_before: Finding | None
    accuracy_after: Finding | None
    note: str | None = None


class DetectionResult(Strict):
    """How well one detector finds the poisoned records, or triggered inputs, of one arm."""

    detector: str
    finds: Literal["training records", "inputs"]
    attack: str
    method: str
    n_poisoned: int
    auroc: Finding
    tpr_at_fpr_1pct: Finding
    seconds: float
    note: str | None = None


class RobustnessResult(Strict):
    """`result.json` of a robustness run."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["robustness"] = "robustness"
    loraudit: str
    spec: RobustnessSpec
    spec_hash: str
    command: str
    base: ModelSummary
    trained_as: Task
    n_train: int
    n_validation: int
    n_test: int
    classes: dict[str, int] = Field(description="Training records of each label; empty for a language model.")
    data: list[dict[str, Any]] = Field(description="File, sha256 and rows of each file read.")
    heading: str
    sentence: str = Field(description="What the comparison says, with numbers and their uncertainty.")
    attacks: list[PoisonResult]
    methods: list[PoisonedMethod]
    runs: list[PoisonedRun]
    matches: list[RobustnessMatch] = Field(description="Equal clean validation loss first, where it is reached.")
    controls: list[ControlResult]
    persistence: list[PersistenceResult]
    detection: list[DetectionResult]
    limits: list[LimitResult]
    numerics: dict[str, Any]
    versions: dict[str, str]
    outcomes: str = Field(description="sha256 of outcomes.parquet.")
    warnings: list[str]
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """Of the whole: harmed where any attack worked on any method, else invalid, undecided, resisted."""
        worst_first: tuple[Verdict, ...] = ("harmed", "invalid", "undecided", "resisted")
        found: list[Verdict] = [control.verdict for control in self.controls]
        return min(found, key=worst_first.index) if found else "resisted"
