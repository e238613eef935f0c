"""What is asked of a contrast: its methods, its folder, and the audit that every checkpoint gets."""

from __future__ import annotations

from pathlib import Path

from loraudit.auditing.memorizing.request import memorization_problems
from loraudit.auditing.request import shadow_count_problems
from loraudit.contrast.records import Split
from loraudit.data import fetch_files, missing_files
from loraudit.errors import ConfigError
from loraudit.finetuning import Arm, beyond_training, parse_arms
from loraudit.membership import ATTACKS, SHADOWS, needed_words
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.spec import (
    AuditSpec,
    ContrastSpec,
    MemorizationOptions,
    spec_hash,
)
from loraudit.store import EvidenceStore

_AS_IN_AN_AUDIT = {
    "base", "span", "append_eos", "max_length", "attacks", "headline", "resamples", "confidence", "attack_timeout",
    "seed", "device", "precision", "batch_tokens", "offline", "shadow", "pool", *MemorizationOptions.model_fields,
}  # fmt: skip
"""Fields that mean the same in a contrast and in the audit of one of its checkpoints."""

_GIVEN_ELSEWHERE = {
    "task": "A contrast trains language models. Leave it out.",
    "seed": "Give --seeds and --seed.",
    "checkpoints": "Give --measure-at.",
    "checkpoint_epochs": "Give --measure-at.",
}


def contrast_path(spec: ContrastSpec) -> Path:
    """The run folder: the one named, or `runs/contrast-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"contrast-{spec_hash(spec)[:12]}"


def check_request(spec: ContrastSpec) -> list[Arm]:
    """The methods; all that is wrong with the request's names and files is said at once. Files of the hub are fetched.

    Raises:
        ConfigError: Anything is.
        LorauditError: A file of the hub cannot be had.
    """
    problems = missing_files(spec.data)
    problems += shadow_count_problems(spec.shadow, spec.pool)
    problems += memorization_problems(spec)
    wrong = [epoch for epoch in spec.at_epochs if epoch > spec.epochs]
    if wrong:
        problems.append(f"--at-epochs {', '.join(map(str, wrong))} is beyond the {spec.epochs} epochs trained.")
    named = [ATTACKS[name] for name in (spec.headline, *spec.attacks) if name in ATTACKS]
    problems.extend(
        f"Attack '{attack.name}' needs more than a model and its base ({needed_words(attack)}). Expected attacks that "
        "look at these two, or at shadow models with --shadow; single models can be audited by it with: loraudit audit"
        for attack in named
        if not set(attack.needs) <= ({TARGET, REFERENCE, SHADOWS} if spec.shadow else {TARGET, REFERENCE})
    )
    arms: list[Arm] = []
    try:
        arms = _requested_arms(spec)
    except ConfigError as error:
        problems.append(str(error))
    problems += beyond_training(spec.measure_at, spec.epochs)
    if problems:
        raise ConfigError("\n".join(problems))
    fetch_files((*spec.data, *spec.pool), offline=spec.offline)
    return arms


def _requested_arms(spec: ContrastSpec) -> list[Arm]:
    shared = {
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "checkpoint_epochs": measured_epochs(spec),
        "span": spec.span,
        "append_eos": spec.append_eos,
        "max_length": spec.max_length,
        "keep_duplicates": spec.keep_duplicates,
        "seed": spec.seed,
    }
    return parse_arms(spec.methods, spec.settings, shared, seeds=spec.seeds, refused=_GIVEN_ELSEWHERE)


def measured_epochs(spec: ContrastSpec) -> tuple[float, ...]:
    """Epochs after which leakage is measured: those asked for, or denser at the start, where losses fall fastest."""
    if spec.measure_at:
        chosen = {*spec.measure_at, *map(float, spec.at_epochs), float(spec.epochs)}
    else:
        chosen = {0.25, 0.5, 1.0, float(spec.epochs), *map(float, spec.at_epochs)}
        step = 2.0
        while step < spec.epochs:
            chosen |= {epoch for epoch in (step, 1.5 * step) if epoch.is_integer() and epoch < spec.epochs}
            step *= 2
    return tuple(sorted(epoch for epoch in chosen if epoch <= spec.epochs))


def audit_request(spec: ContrastSpec, split: Split, folder: Path, store: EvidenceStore) -> AuditSpec:
    """The audit that every checkpoint gets, but for the model."""
    # A rate asked for that the records cannot resolve is refused; a default one only in words.
    asked = {*_AS_IN_AN_AUDIT, "fpr"} if "fpr" in spec.model_fields_set else _AS_IN_AN_AUDIT
    return AuditSpec(
        model="",
        members=(split.paths["members"],),
        nonmembers=(split.paths["nonmembers"],),
        out=str(folder),
        store=str(store.root),
        **{name: getattr(spec, name) for name in asked},
        **split.layout.model_dump(include={"group_field", "subgroup_field", "id_field"}),
    )
