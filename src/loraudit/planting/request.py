"""What `loraudit canaries score` needs before anything is scored: the manifest, its texts, the models, how to score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from loraudit.canaries import reference_secrets
from loraudit.data import record_id
from loraudit.errors import DataError
from loraudit.models import ModelPlan, Numerics, load_tokenizer, plan_models, resolve_devices
from loraudit.models.numerics import device_kind
from loraudit.models.plan import DEFAULT_CONTEXT
from loraudit.scoring import ScoringOptions
from loraudit.spec import Canary, CanaryForm, CanaryManifest, CanaryScoreSpec, spec_hash
from loraudit.store import EvidenceStore, read_manifest
from loraudit.types import Message, Record


class Sought(NamedTuple):
    """What is looked for in the model.

    Attributes:
        manifest: What was planted.
        records: For each canary its secret and, behind it, K others in the same context; only secrets are audited.
    """

    manifest: CanaryManifest
    records: list[Record]


def run_path(spec: CanaryScoreSpec) -> Path:
    """The run folder: the one named, or `runs/canaries-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"canaries-{spec_hash(spec)[:12]}"


def store_path(spec: CanaryScoreSpec) -> Path:
    """The evidence store: the one named, or `.loraudit` beside the run folder."""
    return Path(spec.store) if spec.store else run_path(spec).parent / ".loraudit"


def sought_secrets(spec: CanaryScoreSpec) -> Sought:
    """The planted secrets and those they are compared with.

    Raises:
        ConfigError: There is no such manifest.
        DataError: It cannot be used, or holds nothing that could be ranked.
    """
    manifest = read_manifest(Path(spec.manifest))
    uses = {canary.is_included for canary in manifest.canaries}
    if uses != {True, False}:
        what = "no canary that is in" if True not in uses else "no control that is left out"
        raise DataError(
            f"Manifest '{spec.manifest}' holds {what} the planted file. Expected both. Plant canaries anew, with the "
            "numbers that are usual."
        )
    records = [
        secret_record(canary, secret, manifest.form, source=spec.manifest, line=number)
        for number, canary in enumerate(manifest.canaries, start=1)
        for secret in [
            canary.secret,
            *reference_secrets(manifest.reference_key, canary.name, canary.secret, spec.references),
        ]
    ]
    return Sought(manifest, records)


def secret_record(canary: Canary, secret: str, form: CanaryForm, *, source: str, line: int) -> Record:
    """A secret in a canary's context, written as the planted one was, with nothing audited but the secret.

    In a chat that is the assistant's turn, with what the template ends a turn with.

    Args:
        canary: Whose context it is.
        secret: Planted, or one to compare with.
        form: How canaries were written.
        source: For messages.
        line: For messages.
    """
    if form == "messages":
        turns = Message("user", canary.context), Message("assistant", secret)
        return Record(record_id(messages=turns), source, line, messages=turns)
    completion = f" {secret}"
    content = record_id(prompt=canary.context, completion=completion)
    return Record(content, source, line, prompt=canary.context, completion=completion)


def requested_plan(spec: CanaryScoreSpec, store: EvidenceStore | None) -> ModelPlan:
    """Target and reference; `store` remembers how two checkpoints differ."""
    return plan_models(
        spec.model,
        base=spec.base,
        memory=store,
        offline=spec.offline,
        allow_pickle=spec.allow_pickle,
        allow_remote_code=spec.allow_remote_code,
        allow_other_base=spec.allow_other_base,
    )


def requested_options(spec: CanaryScoreSpec, plan: ModelPlan) -> ScoringOptions:
    """How secrets are scored."""
    devices = resolve_devices(spec.device)
    max_length = min(plan.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    return ScoringOptions(
        devices,
        Numerics(device_kind(devices), spec.precision),
        max_length,
        max(1, max_length // 2),
        batch_tokens=spec.batch_tokens,
    )


def tokenizer_of(spec: CanaryScoreSpec, plan: ModelPlan) -> Any:
    """The tokenizer of the model."""
    return load_tokenizer(plan.tokenizer_folder, allow_remote_code=spec.allow_remote_code)
