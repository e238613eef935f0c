"""What a request needs before anything is scored: models, what they allow to measure, and how to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from loraudit.auditing.memorizing.request import SUMMED
from loraudit.auditing.request import Sides, attack_facts, shadow_views
from loraudit.errors import ConfigError
from loraudit.execution import Progress
from loraudit.membership import ATTACKS, GRADIENT, PREFIXED, SLOW_VIEWS, AnyAttack, needed_models
from loraudit.models import ModelPlan, Numerics, load_tokenizer, plan_models, resolve_devices
from loraudit.models.numerics import device_kind
from loraudit.models.plan import DEFAULT_CONTEXT
from loraudit.scoring import ScoringOptions, choose_precision
from loraudit.spec import AttackResult, AuditSpec
from loraudit.store import EvidenceStore


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
    attacks: Sequence[AnyAttack], plan: ModelPlan, spec: AuditSpec
) -> tuple[list[AnyAttack], list[AttackResult]]:
    """The attacks whose views the models can give, and the others with the reason."""
    views = {view for stage_views, _ in plan.stages for view in stage_views} | shadow_views(spec) | {GRADIENT}
    if spec.slow:  # neighbours are drawn from the base
        views |= SLOW_VIEWS if plan.reference else {PREFIXED}
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


def probed(measured: Sequence[AnyAttack]) -> AnyAttack:
    """The attack whose scores decide whether half precision is exact enough: the first on forward passes alone."""
    return next((a for a in measured if len(needed_models([a])) == len(a.needs)), ATTACKS["loss"])


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
    spec: AuditSpec, plan: ModelPlan, sides: Sides, headline: AnyAttack, store: EvidenceStore, progress: Progress
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


def with_decodings(options: ScoringOptions) -> ScoringOptions:
    """The same, keeping the log-sum-exps that extraction probabilities take."""
    return replace(options, decodings=SUMMED)
