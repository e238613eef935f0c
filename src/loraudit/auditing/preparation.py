"""What a request needs before anything is scored: records, models, attacks, and how to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loraudit.auditing.columns import group_numbers
from loraudit.data import RecordSet, load_sides
from loraudit.errors import ConfigError
from loraudit.execution import Progress
from loraudit.membership import ATTACKS, Attack
from loraudit.models import ModelPlan, Numerics, load_tokenizer, plan_models, resolve_devices
from loraudit.models.numerics import device_kind
from loraudit.models.plan import DEFAULT_CONTEXT
from loraudit.policy import parse_limit, read_policy
from loraudit.scoring import ScoringOptions, choose_precision
from loraudit.spec import AttackResult, AuditSpec, spec_hash
from loraudit.statistics import detectable_auc, fewest_for_rate, unresolved_rate
from loraudit.store import EvidenceStore
from loraudit.types import BoolArray, IntArray, Record


class Sides(NamedTuple):
    """The records of both sides, members first."""

    members: RecordSet
    nonmembers: RecordSet

    @property
    def records(self) -> list[Record]:
        """All of them, members first."""
        return [*self.members.records, *self.nonmembers.records]

    @property
    def is_member(self) -> BoolArray:
        """[N] in the same order."""
        return np.arange(len(self.records)) < len(self.members.records)

    @property
    def groups(self) -> IntArray | None:
        """Document of each record as a number; None where no record names one."""
        return group_numbers([record.group for record in self.records])

    @property
    def n_copies(self) -> IntArray:
        """[N] how often each record stands in the files of its side."""
        sides = (self.members, self.nonmembers)
        return np.array([side.copies.get(record.id, 1) for side in sides for record in side.records])


def run_path(spec: AuditSpec) -> Path:
    """The run folder: the one named, or `runs/audit-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"audit-{spec_hash(spec)[:12]}"


def store_path(spec: AuditSpec) -> Path:
    """The evidence store: the one named, or `.loraudit` beside the run folder."""
    return Path(spec.store) if spec.store else run_path(spec).parent / ".loraudit"


def chosen_attacks(spec: AuditSpec) -> list[Attack]:
    """Headline first. All that is wrong with the request's names and files is said at once."""
    problems: list[str] = []
    chosen: dict[str, Attack] = {}
    for name in (spec.headline, *(spec.attacks or tuple(ATTACKS))):
        try:
            chosen[name] = ATTACKS[name]
        except ConfigError as error:
            problems.append(str(error))
    problems.extend(
        f"File '{path}' does not exist. Expected records; check the path."
        for path in (*spec.members, *spec.nonmembers)
        if not Path(path).is_file()
    )
    if spec.max_length and spec.stride and spec.stride >= spec.max_length:
        problems.append(f"Stride {spec.stride} is out of range. Expected less than --max-length {spec.max_length}.")
    try:
        limits = limits_of(spec)
    except ConfigError as error:
        limits = list(spec.fail_on)
        problems.append(str(error))
    for limit in limits:
        try:
            parse_limit(limit)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return list(chosen.values())


def limits_of(spec: AuditSpec) -> list[str]:
    """The limits asked for by flags and by the policy file, each once."""
    return list(dict.fromkeys([*(read_policy(spec.policy) if spec.policy else []), *spec.fail_on]))


def load_data(spec: AuditSpec) -> Sides:
    """Both sides' records; a rate asked for that they cannot resolve is refused."""
    members, nonmembers = load_sides(
        spec.members,
        spec.nonmembers,
        spec,
        on_overlap=spec.on_overlap,
        max_records=spec.max_records,
        seed=spec.seed,
    )
    if "fpr" in spec.model_fields_set:
        refused = [unresolved_rate(len(nonmembers.records), fpr) for fpr in spec.fpr]
        if any(refused):
            raise ConfigError("\n".join(reason for reason in refused if reason))
    return Sides(members, nonmembers)


def power_statement(sides: Sides, spec: AuditSpec) -> str:
    """What so many records can show, said before anything is scored."""
    n_members, n_nonmembers = len(sides.members.records), len(sides.nonmembers.records)
    groups = sides.groups
    if groups is not None:
        n_members, n_nonmembers = (len(np.unique(groups[side])) for side in (sides.is_member, ~sides.is_member))
    what = "records" if groups is None else "documents"
    area = detectable_auc(n_members, n_nonmembers, confidence=spec.confidence)
    words = f"With {n_members:,} member and {n_nonmembers:,} non-member {what} an AUC of {area:.3f} or more is seen "
    words += f"(80 % power, {100 * spec.confidence:g} % interval above 0.5)"
    blocked = [fpr for fpr in spec.fpr if n_nonmembers < fewest_for_rate(fpr, confidence=spec.confidence)]
    if blocked:
        needed = fewest_for_rate(max(blocked), confidence=spec.confidence)
        words += (
            f"; no TPR at {100 * max(blocked):g} % FPR or below can be shown to be above chance "
            f"(that takes {needed:,} non-members)"
        )
    return words + "."


def requested_models(spec: AuditSpec, store: EvidenceStore | None) -> ModelPlan:
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


def requested_tokenizer(spec: AuditSpec, plan: ModelPlan) -> Any:
    """The tokenizer of the audited model."""
    return load_tokenizer(plan.tokenizer_folder, allow_remote_code=spec.allow_remote_code)


def split_by_views(
    attacks: Sequence[Attack], plan: ModelPlan, spec: AuditSpec
) -> tuple[list[Attack], list[AttackResult]]:
    """The attacks whose views the models can give, and the others with the reason."""
    views = {view for stage_views, _ in plan.stages for view in stage_views}
    measured = [attack for attack in attacks if set(attack.needs) <= views]
    unmeasured = [
        AttackResult(
            **attack_facts(attack),
            status="not_measured",
            reason=f"needs {', '.join(sorted(set(attack.needs) - views))}; give the base model with --base",
        )
        for attack in attacks
        if attack not in measured
    ]
    if not measured or measured[0].name != spec.headline:
        raise ConfigError(
            f"The headline attack '{spec.headline}' needs a reference, and no base of '{spec.model}' is known. "
            "Give it with --base, or name an attack that looks at the target alone, such as "
            "--headline min_k_plus_plus."
        )
    return measured, unmeasured


def attack_facts(attack: Attack) -> dict[str, Any]:
    """What an attack says of itself."""
    return {
        "name": attack.name,
        "summary": attack.summary,
        "source": attack.source,
        "needs": list(attack.needs),
        "cost": attack.cost,
    }


def requested_window(spec: AuditSpec, plan: ModelPlan) -> tuple[int, int]:
    """Longest window and stride in tokens."""
    context = plan.context_length
    if spec.max_length and context and spec.max_length > context:
        raise ConfigError(
            f"Window length {spec.max_length} is longer than the model's context of {context} tokens. "
            f"Expected --max-length of at most {context}."
        )
    max_length = spec.max_length or min(context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    stride = spec.stride or max(1, max_length // 2)
    if stride >= max_length:
        raise ConfigError(f"Stride {stride} is out of range. Expected less than the window of {max_length} tokens.")
    return max_length, stride


def base_options(spec: AuditSpec, plan: ModelPlan) -> ScoringOptions:
    """How to score, in the precision asked for, or fp32 where that is still to be found out."""
    devices = resolve_devices(spec.device)
    precision = spec.precision if spec.precision not in (None, "auto") else "fp32"
    max_length, stride = requested_window(spec, plan)
    return ScoringOptions(
        devices,
        Numerics(device_kind(devices), precision),
        max_length,
        stride,
        spec.span,
        append_eos=spec.append_eos,
        batch_tokens=spec.batch_tokens,
    )


def scoring_options(
    spec: AuditSpec, plan: ModelPlan, sides: Sides, headline: Attack, store: EvidenceStore, progress: Progress
) -> tuple[ScoringOptions, dict[str, Any]]:
    """How to score, and what the result says about it."""
    options = base_options(spec, plan)
    asked = spec.precision or ("auto" if options.numerics.device == "cuda" else "fp32")

    def with_precision(precision: str) -> ScoringOptions:
        return replace(options, numerics=replace(options.numerics, precision=precision))

    facts: dict[str, Any] = {"devices": list(options.devices), "asked": asked}
    if asked == "auto":
        question = {
            "question": "precision",
            "headline": headline.name,
            "reference": plan.reference.fingerprint if plan.reference else None,
            **with_precision("auto").conditions(plan, plan.target.fingerprint),
        }
        answer = store.recall(question)
        if answer is None:
            progress.say("Probing whether bf16 changes the scores")
            answer = choose_precision(
                plan,
                sides.records,
                sides.is_member,
                headline,
                with_precision("fp32"),
                tokenizer=requested_tokenizer(spec, plan),
                rng=np.random.default_rng(spec.seed),
            ).facts()
            store.remember(question, answer)
        measured = (
            f" (Spearman {answer['spearman']:.5f}, |ΔAUC| {answer['auc_change']:.4f}, {answer['speedup']:.2f}× as "
            f"fast, {answer['n_records']} records)"
            if answer["spearman"] is not None
            else ""
        )
        progress.say(f"Precision {answer['precision']}: {answer['reason']}{measured}")
        facts["probe"] = answer
        asked = str(answer["precision"])
    chosen = with_precision(asked)
    facts["batching_noise_nats"] = chosen.numerics.batching_noise
    return chosen, {**chosen.numerics.conditions(), **facts}
