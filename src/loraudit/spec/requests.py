"""What is asked of an audit, from the command line, the Python API or a spec file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from loraudit.spec.form import Names, Paths, Rate, Strict, as_tuple
from loraudit.spec.making import Request, make_request
from loraudit.spec.memorizing import MemorizationOptions

DEFAULT_FPRS = (0.1, 0.01, 0.001)

Device = str
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class RecordFormat(Strict):
    """Where the text stands in a file's rows. Shared by every command that reads records."""

    text_field: str = Field(
        default="text", description="Column of the text; of several, such as question+answer, each gives a line."
    )
    prompt_field: str = Field(default="prompt", description="Column of the prompt, for prompt + completion rows.")
    completion_field: str = Field(default="completion", description="Column of the completion.")
    messages_field: str = Field(default="messages", description="Column of a chat's messages.")
    group_field: str | None = Field(
        default=None, description="Column naming the document a record belongs to; intervals are clustered by it."
    )
    id_field: str | None = Field(
        default=None, description="Column of your own record ids; one id with two contents is refused."
    )
    subgroup_field: str | None = Field(
        default=None, description="Column to compare exposure by, such as a language or a source."
    )
    text_unit: Literal["line", "paragraph", "file"] = Field(
        default="line", description="What one record of a plain-text file is."
    )
    on_bad_record: Literal["error", "skip"] = Field(
        default="error", description="Stop at unreadable records, or skip and count them."
    )


class AuditSpec(Request, RecordFormat, MemorizationOptions):
    """What to audit and how. Every field is also a flag of `loraudit audit` and a key of a spec file."""

    command: ClassVar[str] = "audit"
    how_not_what: ClassVar[frozenset[str]] = frozenset(
        {"device", "batch_tokens", "offline", "out", "store", "attack_timeout", "fail_on", "policy", "include_text"}
    )
    added_later: ClassVar[frozenset[str]] = frozenset(
        {
            "reference",
            "reference_data",
            "reference_prompts",
            "reference_epochs",
            "reference_learning_rate",
            "shadow",
            "shadow_on",
            "pool",
            "gradients",
            "slow",
            "neighbours",
            "recall_shots",
            "recall_prefix",
            "training_data",
            *MemorizationOptions.model_fields,
        }
    )
    known_by: ClassVar[frozenset[str]] = frozenset(
        {"text_field", "on_overlap", "resamples", "confidence", "allow_other_base", "out", "store"}
    )

    model: str = Field(description="Fine-tuned checkpoint or PEFT adapter: a folder or a hub name.")
    members: Paths = Field(
        description="Records the model was tuned on (.jsonl, .csv, .tsv, .parquet, .txt; also packed)."
    )
    nonmembers: Paths = Field(description="Records of the same kind it was not tuned on.")
    base: str | None = Field(
        default=None, description="Model the tuning started from; found from the adapter where it is recorded."
    )

    reference: Literal["base", "distilled", "public"] = Field(
        default="base",
        description="What the target is compared with: its base; its base tuned on samples of the target; or its base "
        "tuned on --reference-data.",
    )
    reference_data: Names = Field(
        default=(),
        description="Records of the same domain, none of them audited: what the public reference is tuned on, or "
        "where the prompts of the distilled one begin.",
    )
    reference_prompts: int = Field(default=10_000, ge=1, description="Samples the distilled reference is tuned on.")
    reference_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs of the reference and of shadows (default: the target's own recipe, else 4).",
    )
    reference_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate of the reference and of shadows (default: the target's own recipe, else 0.0001).",
    )
    shadow: int = Field(
        default=0,
        ge=0,
        description="Train this many shadow models by the target's recipe, for attacks that see what a comparison "
        "with the base hides; on halves of --pool, or of the non-members, each scored only by shadows that never "
        "saw it.",
    )
    shadow_on: Literal["others", "audited"] = Field(
        default="others",
        description="Train shadows on records they do not score, or on random halves of members and non-members "
        "together, so that half of them have seen each record (for lira_online; no outside attacker can).",
    )
    pool: Names = Field(
        default=(),
        description="Records of the same domain, none of them audited, that shadows are trained on; and, with --slow, "
        "the prefix of recall is taken from.",
    )

    span: Literal["trained", "all"] = Field(
        default="trained", description="Audit what training predicts (completions, assistant turns) or every token."
    )
    append_eos: bool = Field(default=False, description="End every record with the end-of-text token, if training did.")
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context, at most 2048)."
    )
    stride: int | None = Field(
        default=None, ge=1, description="New tokens per further window of a long record (default: half a window)."
    )
    max_records: int | None = Field(
        default=None, ge=1, description="Audit at most this many records a side, drawn at random by --seed."
    )
    on_overlap: Literal["error", "drop"] = Field(
        default="error", description="Stop when a record is on both sides, or drop it from both and count it."
    )

    attacks: Names = Field(
        default=(), description="Attacks to run (default: all that the evidence allows; see `loraudit attacks`)."
    )
    gradients: bool = Field(
        default=False,
        description="Run attacks that read gradients too, which takes a forward and a backward pass per record "
        "(naming one with --attacks does the same).",
    )
    slow: bool = Field(
        default=False,
        description="Run the attacks on altered copies of the records too, which take many more passes: neighbourhood, "
        "spv_mia, recall.",
    )
    neighbours: int = Field(default=10, ge=1, description="Altered copies of each record, with --slow.")
    recall_shots: int = Field(default=7, ge=1, description="Non-members that stand before each record in recall.")
    recall_prefix: Names = Field(
        default=(),
        description="Records that the target was not trained on, none of them audited, for the prefix of recall "
        "(default: from --pool; without one, non-members are set aside and not audited).",
    )
    training_data: Names = Field(
        default=(), description="Records beside the members that the model was tuned on, to trace continuations to."
    )
    headline: str = Field(default="error_zone", description="The attack the verdict rests on, declared before the run.")
    fpr: Annotated[tuple[Rate, ...], BeforeValidator(as_tuple)] = Field(
        default=DEFAULT_FPRS, description="False-positive rates at which to state the true-positive rate."
    )
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    fdr: float = Field(default=0.05, gt=0, lt=1, description="Share of false alarms among the records called exposed.")
    attack_timeout: float = Field(
        default=600, gt=0, description="Seconds one attack may take; a plug-in that hangs is reported as failed."
    )
    seed: int = Field(default=0, ge=0, description="Seed of every random choice.")

    fail_on: Names = Field(
        default=(),
        description="Limit that must not hold, such as 'membership.tpr_at_fpr_1pct.upper95 > 0.05'; "
        "exit code 1 where it holds or is not measured.",
    )
    policy: str | None = Field(default=None, description="TOML, YAML or JSON file of such limits, under fail-on.")

    device: Device = Field(
        default="auto",
        description="auto, cpu, cuda, mps, cuda:1, a list such as cuda:0,cuda:1 (one copy on each), or balanced.",
    )
    precision: Precision | None = Field(
        default=None,
        description="fp32, bf16, fp16, or auto: the fastest that a probe shows to leave the scores alone "
        "(default: fp32 on CPU and MPS, auto on CUDA).",
    )
    batch_tokens: int | None = Field(default=None, ge=16, description="Tokens per forward pass (default: by device).")
    allow_pickle: bool = Field(
        default=False, description="Load pickled weights, which can run code. Shown in the report."
    )
    allow_remote_code: bool = Field(
        default=False, description="Run code that comes with the model. Shown in the report."
    )
    allow_other_base: bool = Field(default=False, description="Use --base although the adapter records another base.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")

    include_text: bool = Field(
        default=False,
        description="Put record text into the report, each token shaded by what it gives away, and into text.parquet.",
    )
    out: str | None = Field(default=None, description="Run folder (default: runs/audit-<hash of the spec>).")
    store: str | None = Field(
        default=None, description="Evidence store shared by runs (default: .loraudit beside the run)."
    )


def make_audit_spec(values: Mapping[str, Any]) -> AuditSpec:
    """An `AuditSpec` from raw values.

    Raises:
        ConfigError: Every problem, one line each, by flag name; or the request is of a newer version.
    """
    return make_request(AuditSpec, values)
