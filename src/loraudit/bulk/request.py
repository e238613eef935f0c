"""What is asked of a bulk run, before any record is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraudit.auditing.preparation import base_options, requested_models
from loraudit.bulk.blocks import BLOCK_BYTES, BLOCK_RECORDS
from loraudit.engines import positions_of_shard
from loraudit.errors import ConfigError
from loraudit.membership import ATTACKS, AnyAttack, FittedAttack, needed_words
from loraudit.models import ModelPlan
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.scoring import ScoringOptions
from loraudit.spec import AuditSpec, RecordFormat, ScoreSpec, spec_hash
from loraudit.store import EvidenceStore

_AS_IN_AN_AUDIT = {
    "model", "base", "span", "append_eos", "max_length", "stride", "device", "precision", "batch_tokens",
    "allow_pickle", "allow_remote_code", "allow_other_base", "offline", *RecordFormat.model_fields,
}  # fmt: skip
"""Fields that mean the same here and in an audit."""

_RULES = 1
"""Of the columns and of how blocks are cut; a part made by other rules is made again."""


def score_path(spec: ScoreSpec) -> Path:
    """The run folder: the one named, or `runs/score-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"score-{spec_hash(spec)[:12]}"


def store_path(spec: ScoreSpec) -> Path:
    """The store: the one named, or `store` within the run folder."""
    return Path(spec.store) if spec.store else score_path(spec) / "store"


def check_request(spec: ScoreSpec) -> None:
    """Whether names and files can be what they are asked to be; all that is wrong is said at once.

    Raises:
        ConfigError: Anything is.
    """
    problems = [
        f"File '{path}' does not exist. Expected records; check the path."
        for path in spec.records
        if not Path(path).is_file()
    ]
    twice = [path for number, path in enumerate(spec.records) if path in spec.records[:number]]
    problems.extend(f"File '{path}' is given twice. Expected each once. Leave one out." for path in twice)
    for name in spec.attacks:
        try:
            attack = ATTACKS[name]
        except ConfigError as error:
            problems.append(str(error))
            continue
        if reason := why_not(attack):
            problems.append(f"Attack '{name}' {reason}")
    if "," in spec.device:
        problems.append(
            f"Device '{spec.device}' is a list. Expected one device, of every worker. Give each a GPU of its "
            "own with --workers and --worker-gpus 1."
        )
    if spec.max_length and spec.stride and spec.stride >= spec.max_length:
        problems.append(f"Stride {spec.stride} is out of range. Expected less than --max-length {spec.max_length}.")
    try:
        positions_of_shard(spec.shard, 1)
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def why_not(attack: AnyAttack) -> str | None:
    """Why an attack cannot be run on millions of records, a block at a time; None where it can."""
    audit = "Leave it out, or audit a sample of the records with: loraudit audit"
    if not set(attack.needs) <= {TARGET, REFERENCE}:
        return f"needs more than what target and base say of a record ({needed_words(attack)}). {audit}"
    if isinstance(attack, FittedAttack):
        return (
            "learns from the other records first, so a record's score would depend on how the records are cut. "
            f"Expected attacks that look at one record. {audit}"
        )
    return None


def chosen_attacks(spec: ScoreSpec, plan: ModelPlan) -> list[AnyAttack]:
    """The attacks asked for, or all that the models' views allow.

    Raises:
        ConfigError: One asked for needs a base, and none is known.
    """
    if not spec.attacks:
        return [a for a in ATTACKS.values() if why_not(a) is None and set(a.needs) <= set(views_of(plan))]
    attacks = [ATTACKS[name] for name in dict.fromkeys(spec.attacks)]
    problems = [
        f"Attack '{attack.name}' needs a reference, and no base of '{spec.model}' is known. Give it with --base, or "
        "leave the attack out."
        for attack in attacks
        if not set(attack.needs) <= set(views_of(plan))
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return attacks


def views_of(plan: ModelPlan) -> list[str]:
    """Target, and reference where a base is known."""
    return list(plan.fingerprints)


def audit_request(spec: ScoreSpec) -> AuditSpec:
    """The audit that says the same of models, tokens and machine."""
    return AuditSpec(
        members=spec.records, nonmembers=spec.records, **{name: getattr(spec, name) for name in _AS_IN_AN_AUDIT}
    )


def models_and_options(
    spec: ScoreSpec, store: EvidenceStore | None, *, is_worker: bool
) -> tuple[ModelPlan, ScoringOptions]:
    """What to load and how to score; the same in every worker but for the device.

    Args:
        spec: The request.
        store: Remembers how two checkpoints differ.
        is_worker: Whether the model is going to run here: the head of a cluster need not have its workers' devices.

    Raises:
        ModelError: The models cannot be used.
        ConfigError: Window or device do not fit them.
        EnvironmentFault: A hub name cannot be resolved, or the machine has no such device.
    """
    request = audit_request(spec)
    plan = requested_models(request, store)
    here = request if is_worker or spec.engine == "local" else request.model_copy(update={"device": "cpu"})
    return plan, base_options(here, plan)


def asked_of_parts(
    spec: ScoreSpec, plan: ModelPlan, options: ScoringOptions, attacks: Sequence[AnyAttack], *, names_sources: bool
) -> dict[str, Any]:
    """All that decides what a part holds, but its records and the kind of device."""
    conditions = {view: options.conditions(plan, fingerprint) for view, fingerprint in plan.fingerprints.items()}
    for one in conditions.values():
        del one["numerics"]
    return {
        "rules": _RULES,
        "conditions": conditions,
        "precision": spec.precision,
        "attacks": [attack.name for attack in attacks],
        "columns": [spec.group_field, spec.subgroup_field, spec.id_field],
        "keep_evidence": spec.keep_evidence,
        "names_sources": names_sources,
    }


def asked_of_index(spec: ScoreSpec) -> dict[str, Any]:
    """All that decides where blocks begin, but the content of the files."""
    layout = {name: getattr(spec, name) for name in RecordFormat.model_fields}
    block = min(BLOCK_RECORDS, spec.records_per_unit or BLOCK_RECORDS)
    return {"rules": _RULES, "files": list(spec.records), "layout": layout, "block": [block, BLOCK_BYTES]}
