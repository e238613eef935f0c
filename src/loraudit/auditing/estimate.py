"""What an audit would take, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.auditing.copies.altered import altered_tokens, requested_slow
from loraudit.auditing.copies.facts import estimate_slow
from loraudit.auditing.copies.slow import measurable
from loraudit.auditing.memorizing.estimate import MemorizationWork, estimate_memorization
from loraudit.auditing.memorizing.sources import further_records
from loraudit.auditing.preparation import (
    base_options,
    requested_models,
    requested_tokenizer,
    split_by_views,
    with_decodings,
)
from loraudit.auditing.references.shadows import estimate_shadows, requested_shadows
from loraudit.auditing.references.wanted import Work, estimate_work, requested_reference
from loraudit.auditing.request import (
    Sides,
    chosen_attacks,
    load_data,
    power_statement,
    reads_gradients,
    run_path,
    store_path,
)
from loraudit.capture import gradient_folder
from loraudit.data import encode
from loraudit.membership import needed_models
from loraudit.models import ModelPlan
from loraudit.scoring import ScoringOptions, estimate_cost, plan_units
from loraudit.spec import AuditSpec
from loraudit.store import EvidenceStore, RunFolder

_PASSES_OF_TRAINING = 3
"""Forward passes that a forward and a backward pass cost together: the second costs twice the first."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an audit would take.

    Attributes:
        n_members: Records.
        n_nonmembers: Records.
        n_tokens: Tokens to send through a model, all views together.
        n_units: Units of work still missing.
        n_cached: Records whose evidence is complete.
        memory_bytes: Peak of weights and activations, roughly.
        seconds: From the speed of a matrix product on this machine, roughly.
        stages: Models resident one after another.
        power: What so many records can show.
        reference: What must be made first for the target to be compared with; None where nothing must.
        shadows: What shadow models take that are still to be made; None where none are.
        n_gradient_tokens: Tokens to send through the target forward and backward, beside `n_tokens`.
        slow: What slow attacks take beside the records' own evidence; None where nothing.
        memorization: What the memorization measures take beside it; None where none were asked for.
    """

    n_members: int
    n_nonmembers: int
    n_tokens: int
    n_units: int
    n_cached: int
    memory_bytes: int
    seconds: float
    stages: list[str]
    power: str
    reference: Work | None = None
    shadows: Work | None = None
    n_gradient_tokens: int = 0
    slow: str | None = None
    memorization: MemorizationWork | None = None


def estimate_audit(spec: AuditSpec) -> Estimate:
    """What the audit would take, without loading a model or writing a result.

    Raises:
        LorauditError: As `run_audit`, for everything that can be found out beforehand.
    """
    attacks = chosen_attacks(spec)
    if run_path(spec).is_dir():
        RunFolder(run_path(spec), spec)
    store = EvidenceStore(store_path(spec)) if store_path(spec).is_dir() else None
    sides = load_data(spec)
    further_records(spec, sides)
    plan = requested_models(spec, store)
    wanted = requested_reference(spec, plan, sides)
    measured, _ = split_by_views(attacks, plan, spec)
    altered = requested_slow(spec, sides, measured)
    options = base_options(spec, plan)
    tokenizer = requested_tokenizer(spec, plan)
    tokens = altered_tokens(altered, sides.records, spec, options, tokenizer) if altered else None
    measurable(measured, (), tokens, spec)
    shadows = requested_shadows(spec, plan, sides)
    shadow_work = estimate_shadows(shadows, spec)
    views = needed_models(measured)
    prints = {"target": plan.target.fingerprint}
    if plan.reference:
        prints["reference"] = plan.reference.fingerprint
    if altered or spec.memorization:
        views = list(prints)
    stages = [" and ".join(stage_views) for stage_views, _ in plan.stages]
    work = None
    if wanted is not None:
        made = wanted.kept(spec)
        work = None if made else estimate_work(wanted, spec)
        stages = ["target", "reference"]
        if spec.reference == "distilled" or spec.memorization:  # for the gates; what was there before tuning
            views, stages = [*views, "base"], [*stages, "base"]
            prints["base"] = prints["reference"]
        prints["reference"] = made.reference.fingerprint if made and made.reference else ""
    slow = estimate_slow(altered, tokens, plan, sides, options, store, list(prints.values()))
    for number, wanted_shadow in enumerate(shadows.wanted if shadows else ()):
        kept = wanted_shadow.kept(spec)
        views, stages = [*views, f"shadow/{number}"], [*stages, f"shadow {number + 1}"]
        prints[f"shadow/{number}"] = kept.reference.fingerprint if kept and kept.reference else ""
    works = [one for one in (work, shadow_work) if one is not None]
    conditions = _conditions(spec, plan, options, {view: prints[view] for view in views})
    n_cached = _n_cached(sides, store, conditions) if store and not works else 0
    encoded = encode(sides.records, tokenizer, span=spec.span, append_eos=spec.append_eos)
    lengths = [len(item.ids) for item in encoded]
    share_missing = 1 - n_cached / len(sides.records)
    n_units = len(plan_units(lengths, batch_tokens=options.tokens_at_once))
    n_tokens = int(sum(lengths) * len(views) * share_missing) + (slow.n_tokens if slow else 0)
    lacking = _without_gradient(sides, store, plan, options) if reads_gradients(measured) else []
    n_gradient_tokens = sum(lengths[i] for i in lacking)
    memorization = estimate_memorization(spec, plan, sides, encoded, options, tokenizer)
    n_first = sum(one.n_sampled_tokens + _PASSES_OF_TRAINING * one.n_training_tokens for one in works) + (
        memorization.n_tokens if memorization else 0
    )
    cost = estimate_cost(plan, options, n_tokens + n_first + _PASSES_OF_TRAINING * n_gradient_tokens)
    return Estimate(
        n_members=len(sides.members.records),
        n_nonmembers=len(sides.nonmembers.records),
        n_tokens=n_tokens,
        n_units=int(np.ceil(n_units * share_missing)) * len(stages) + (slow.n_units if slow else 0),
        n_cached=n_cached,
        memory_bytes=cost.memory_bytes + max((one.training_bytes for one in works), default=0),
        seconds=cost.seconds,
        stages=stages,
        power=power_statement(sides, spec),
        reference=work,
        shadows=shadow_work,
        n_gradient_tokens=n_gradient_tokens,
        slow=slow.words if slow else None,
        memorization=memorization,
    )


def _conditions(
    spec: AuditSpec, plan: ModelPlan, options: ScoringOptions, fingerprints: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What the evidence of each view is kept under; that of shadow models holds nothing for memorization."""
    own = with_decodings(options) if spec.memorization else options
    return [
        (options if view.startswith("shadow/") else own).conditions(plan, fingerprint)
        for view, fingerprint in fingerprints.items()
    ]


def _without_gradient(sides: Sides, store: EvidenceStore | None, plan: ModelPlan, options: ScoringOptions) -> list[int]:
    """Records whose gradient norm is not there yet."""
    if store is None:
        return list(range(len(sides.records)))
    folder = gradient_folder(plan, options, store)
    folder.refresh()
    return [i for i, record in enumerate(sides.records) if folder.lacks(record.id)]


def _n_cached(sides: Sides, store: EvidenceStore, conditions: Sequence[dict[str, Any]]) -> int:
    folders = [store.folder(condition) for condition in conditions]
    for folder in folders:
        folder.refresh()
    return sum(not any(folder.lacks(record.id) for folder in folders) for record in sides.records)
