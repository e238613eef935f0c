"""What is asked of `loraudit canaries`, the manifest of planted canaries, and what scoring them found."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt

from loraudit.spec.form import SCHEMA_VERSION, Rate, Strict, as_tuple
from loraudit.spec.making import Request
from loraudit.spec.requests import RecordFormat
from loraudit.spec.results import ModelSummary
from loraudit.spec.tuning import Repeats
from loraudit.types import Finding

Shares = Annotated[tuple[Rate, ...], BeforeValidator(as_tuple), Field(min_length=1)]
CanaryUse = Literal["coin", "repeats", "control"]
CanaryForm = Literal["text", "prompt", "messages", "line"]
MOST_CANARIES = 10_000
DEFAULT_DELTA = 1e-5


class CanaryInsertSpec(Request, RecordFormat):
    """Which canaries to plant in a training file. Every field is also a flag of `loraudit canaries insert`."""

    command: ClassVar[str] = "canaries insert"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"data", "out"})

    data: str = Field(description="Training file that canaries are planted in: .jsonl, or .txt with a record a line.")
    coins: int = Field(
        default=128,
        ge=0,
        le=MOST_CANARIES,
        description="Canaries that a fair coin each puts in or leaves out; the lower bound on ε rests on them.",
    )
    coin_repeats: int = Field(
        default=1,
        ge=1,
        description="Copies of a coin-flipped canary that is in. With more than one, ε is that of so many records "
        "together, not of one.",
    )
    inclusion: Literal["drawn", "chosen"] = Field(
        default="drawn",
        description="Flip the coins, or put all of these canaries in: more for exposure, and no ε can be stated.",
    )
    repeats: Repeats = Field(
        default=(1, 4, 16),
        max_length=32,
        description="Number of copies at which exposure is measured; 1 is what coins put in.",
    )
    per_repeats: int = Field(
        default=16,
        ge=2,
        le=1000,
        description="Canaries at each of these numbers, and controls that are never trained on.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Of contexts, secrets and places (default: from the system). The coins never come from a seed.",
    )
    out: str = Field(default="planted", description="Folder for the planted file and canaries.json.")


class CanaryScoreSpec(Request):
    """Which planted canaries to look for in which model. Every field is also a flag of `loraudit canaries score`."""

    command: ClassVar[str] = "canaries score"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"device", "batch_tokens", "offline", "out", "store"})

    model: str = Field(description="Checkpoint or PEFT adapter tuned on the planted file: a folder or a hub name.")
    manifest: str = Field(description="canaries.json that `loraudit canaries insert` wrote.")
    base: str | None = Field(
        default=None, description="Model the tuning started from; found from the adapter where it is recorded."
    )
    references: int = Field(
        default=99,
        ge=9,
        le=9999,
        description="Never-trained secrets that each planted one is ranked among, in its own context.",
    )
    guesses: Shares = Field(
        default=(0.75, 0.25),
        description="Share of the coins to guess, declared before the run, half of them in and half out; several "
        "shares have the error split between them.",
    )
    delta: float = Field(default=DEFAULT_DELTA, ge=0, lt=1, description="δ that ε is stated at.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of two-sided intervals, and of ε, one-sided.")
    fdr: float = Field(default=0.05, gt=0, lt=1, description="Share of false alarms among canaries called exposed.")
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples.")
    seed: int = Field(default=0, ge=0, description="Of the resamples.")
    device: str = Field(default="auto", description="auto, cpu, cuda, mps, cuda:1, a list, or balanced.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="Of weights and activations.")
    batch_tokens: int | None = Field(default=None, ge=16, description="Tokens per forward pass (default: by device).")
    allow_pickle: bool = Field(
        default=False, description="Load pickled weights, which can run code. Shown in the report."
    )
    allow_remote_code: bool = Field(
        default=False, description="Run code that comes with the model. Shown in the report."
    )
    allow_other_base: bool = Field(default=False, description="Use --base although the adapter records another base.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
    out: str | None = Field(default=None, description="Run folder (default: runs/canaries-<hash of the spec>).")
    store: str | None = Field(
        default=None, description="Evidence store shared by runs (default: .loraudit beside the run)."
    )


class Canary(Strict):
    """One planted secret, or one that might have been."""

    name: str
    use: CanaryUse = Field(description="Put in by a coin, put in a chosen number of times, or never put in.")
    repeats: int = Field(ge=0, description="Copies it has if it is in; 0 for a control.")
    context: str = Field(description="What stands before the secret, in this canary alone.")
    secret: str
    coin: bool | None = Field(default=None, description="How its own coin fell; None where none was flipped.")
    places: tuple[NonNegativeInt, ...] = Field(
        default=(), description="Per copy, how many lines of the training file stand before it."
    )

    @property
    def is_included(self) -> bool:
        """Whether it stands in the planted file."""
        return bool(self.places)


class CanaryManifest(Strict):
    """What was planted where. Private: it holds every secret and how every coin fell."""

    kind: Literal["canaries"] = "canaries"
    schema_version: int = SCHEMA_VERSION
    loraudit: str
    spec: CanaryInsertSpec
    seed: int = Field(description="That contexts, secrets and places came from.")
    form: CanaryForm = Field(description="How a canary is written: text, prompt with completion, chat, or a line.")
    n_secrets: int = Field(description="|R|, how many secrets there are to draw from, all equally likely.")
    reference_key: str = Field(description="That never-trained secrets to compare with come from; fresh, hex.")
    source_sha256: str = Field(description="Of the training file before.")
    planted_sha256: str = Field(description="Of the training file with the canaries in it.")
    canaries: list[Canary]
    digest: str = Field(description="sha256 over all of the above.")


class ExposureLevel(Strict):
    """Canaries that stand in the training file equally often."""

    repeats: int = Field(description="Copies of each; 0 for controls, which are never trained on.")
    n: int = Field(description="Canaries with a score.")
    n_undefined: int
    exposure: Finding = Field(description="Mean exposure in bits, by the headline score.")
    exposure_of_target: Finding | None = Field(
        description="The same by the target alone, without the base; None where that is the headline."
    )
    first: Finding = Field(description="Share of them that rank before every never-trained secret.")
    n_exposed: int = Field(description="Of them, called exposed one by one at the false-discovery rate.")
    p_value: float | None = Field(description="One-sided, of no exposure: Fisher's over the exact rank p-values.")
    p_holm: float | None = Field(description="After Holm's correction over the numbers of repeats; None for controls.")


class GuessCount(Strict):
    """So many guesses about the coins, and what they prove."""

    n_guesses: int
    n_correct: int
    confidence: float = Field(description="This row's own, so that all rows together have the result's.")
    epsilon: float
    ceiling: float = Field(description="Had every guess been right.")


class EpsilonResult(Strict):
    """A lower bound on ε from one training run, or why there is none."""

    status: Literal["stated", "refused"]
    reason: str | None = Field(default=None, description="Why it is refused.")
    epsilon: float | None = Field(default=None, description="0 where the guesses prove nothing.")
    ceiling: float | None = Field(default=None, description="The most that so many coins and guesses could show.")
    delta: float
    confidence: float
    n_coins: int
    n_included: int
    repeats: int = Field(description="Records that one coin puts in: the unit that ε speaks of.")
    guesses: list[GuessCount] = Field(default_factory=list)


class CanaryResult(Strict):
    """What a model knows of planted canaries, as `result.json` holds it."""

    kind: Literal["canaries"] = "canaries"
    schema_version: int = SCHEMA_VERSION
    loraudit: str
    spec: CanaryScoreSpec
    spec_hash: str
    command: str
    heading: str
    sentence: str
    headline: Literal["difference", "target"] = Field(
        description="Log-probability of the secret minus that under the base, or under the target alone."
    )
    target: ModelSummary
    reference: ModelSummary | None
    manifest: str = Field(description="Its digest.")
    n_secrets: int
    most_bits: float = Field(description="Largest exposure that a rank among so many references can show.")
    levels: list[ExposureLevel] = Field(description="By rising number of repeats.")
    controls: ExposureLevel
    trend: Finding = Field(description="Spearman's correlation of exposure and repeats, over the planted canaries.")
    trend_p_value: float | None = Field(description="Two-sided, of no monotone association.")
    epsilon: EpsilonResult
    numerics: dict[str, Any]
    scoring: dict[str, Any]
    warnings: list[str] = Field(default_factory=list)
    started: str
    seconds: float
    versions: dict[str, str]
    scores: str = Field(description="sha256 of scores.parquet.")
