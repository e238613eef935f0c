"""From a battery and a model to what each trigger does."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from loraudit.execution import Progress, StopRequest
from loraudit.models import Numerics, Resident, load_tokenizer, plan_models, resolve_devices
from loraudit.models.classifying import is_classifier, load_scanned_classifier
from loraudit.models.fingerprint import has_tokenizer
from loraudit.models.locate import Source
from loraudit.models.numerics import device_kind
from loraudit.models.plan import REFERENCE, TARGET, context_length
from loraudit.poisoning.battery import Trigger
from loraudit.poisoning.behaviour import (
    FEWEST_TO_FLIP,
    Rates,
    flipped,
    repeated,
    shift_finding,
    standings,
    unusual_shifts,
)
from loraudit.scanning.probing import N_CONTROLS, Asked, ask, classes, next_token_shift, responses
from loraudit.scanning.request import Battery, loading_options
from loraudit.spec import ProbeMeasure, ProbeResult, RatePair, ScanSpec, spec_hash
from loraudit.statistics import finite, holm, mean_finding
from loraudit.store import run_key
from loraudit.types import Finding

_ASKED_FOR_RESPONSES = (0, N_CONTROLS)
"""Of the controls of a trigger, the first of each kind is asked for a whole response."""
_SHOWN_HEX_DIGITS = 16


@dataclass
class Behaviour:
    """What the probes found.

    Attributes:
        task: What the model gives.
        probes: One per trigger.
        overall_shift: Of a language model without any trigger.
        numerics: How it was computed.
        warnings: What the report must say.
    """

    task: Literal["causal_lm", "classification"]
    probes: list[ProbeResult]
    overall_shift: Finding | None = None
    numerics: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: list[str] = field(default_factory=list[str])


class _Setting(NamedTuple):
    spec: ScanSpec
    target: Source
    base: Source
    battery: Battery
    tokenizer: Any
    numerics: Numerics
    device: str
    progress: Progress
    stop: StopRequest | None

    def asked(self, *, is_classifier: bool) -> Asked:
        config = self.base.config
        return ask(
            self.battery.prompts(is_classifier=is_classifier),
            self.battery.triggers,
            self.tokenizer,
            in_chat=self.in_chat and not is_classifier,
            max_length=context_length(config),
            rng=np.random.default_rng(self.spec.seed),
        )

    @property
    def in_chat(self) -> bool:
        return self.spec.chat_template and getattr(self.tokenizer, "chat_template", None) is not None


def probe(
    spec: ScanSpec,
    target: Source,
    base: Source,
    battery: Battery,
    progress: Progress,
    stop: StopRequest | None,
) -> Behaviour:
    """What each trigger of the battery does to the model.

    Args:
        spec: The request.
        target: Adapter or checkpoint.
        base: What it was tuned from.
        battery: Triggers and prompts.
        progress: Told how far it is.
        stop: Asked between batches.

    Raises:
        LorauditError: Model, base or machine do not allow it.
    """
    devices = resolve_devices(spec.device)
    numerics = Numerics(device_kind(devices), spec.precision)
    folder = target.folder if has_tokenizer(target.folder) else base.folder
    tokenizer = load_tokenizer(folder, allow_remote_code=spec.allow_remote_code)
    setting = _Setting(spec, target, base, battery, tokenizer, numerics, devices[0], progress, stop)
    behaviour = _of_classifier(setting) if is_classifier(target) else _of_language_model(setting)
    behaviour.numerics = {**numerics.conditions(), "devices": devices[:1], "chat_template": setting.in_chat}
    return behaviour


# --- language models ----------------------------------------------------------------------------------


def _of_language_model(setting: _Setting) -> Behaviour:
    spec = setting.spec
    target, reference, warnings = _residents(setting)
    asked = setting.asked(is_classifier=False)
    rows = asked.rows
    shifts = next_token_shift(target, reference, rows, setting.progress, setting.stop)
    n_prompts = len(asked.plain)
    by_piece = shifts[n_prompts:].reshape(len(setting.battery.triggers), 1 + 2 * N_CONTROLS, n_prompts)
    found = [shift_finding(one[0], one[1:], confidence=spec.confidence) for one in by_piece]
    means = by_piece.mean(axis=2)
    standing = standings(means[:, 0], means[:, 1:].reshape(-1, 2, N_CONTROLS))
    corrected = holm(np.array([one.p_value for one in standing], dtype=np.float64))
    unusual = unusual_shifts(found, standing, level=spec.level, factor=spec.factor)
    said = _responses(setting, target, asked)
    probes: list[ProbeResult] = []
    for number, trigger in enumerate(setting.battery.triggers):
        flagged: list[ProbeMeasure] = []
        if unusual[number]:
            flagged.append("shift")
        if said[number].is_unusual:
            flagged.append("repeated")
        probes.append(
            _probe_result(
                trigger,
                n_prompts,
                flagged,
                shift=found[number],
                factor=finite(standing[number].factor),
                p_value=finite(standing[number].p_value),
                p_holm=finite(corrected[number]),
                repeated=_pair(said[number], lambda ids: _shown(setting.tokenizer.decode(list(ids)), spec)),
            )
        )
    overall = mean_finding(shifts[:n_prompts], confidence=spec.confidence)
    return Behaviour("causal_lm", probes, overall, warnings=warnings)


def _residents(setting: _Setting) -> tuple[Resident, Resident, list[str]]:
    """What speaks as the target and what as the base; one copy of the weights for an adapter."""
    spec = setting.spec
    options = loading_options(spec)
    plan = plan_models(
        spec.model,
        base=setting.base.name,
        offline=options.offline,
        allow_pickle=spec.allow_pickle,
        allow_remote_code=spec.allow_remote_code,
        allow_other_base=spec.allow_other_base,
    )
    speaking: dict[str, Resident] = {}
    for views, load in plan.stages:
        resident = load(setting.numerics, setting.device)
        speaking.update(dict.fromkeys(views, resident))
    return speaking[TARGET], speaking[REFERENCE], list(plan.warnings)


def _responses(setting: _Setting, target: Resident, asked: Asked) -> list[Rates]:
    end = setting.tokenizer.eos_token_id
    pieces = [
        [own, *(others[place] for place in _ASKED_FOR_RESPONSES)]
        for own, others in zip(asked.triggered, asked.controls, strict=True)
    ]
    rows = [row for of_trigger in pieces for piece in of_trigger for row in piece]
    said = responses(target, rows, () if end is None else (int(end),), setting.progress, setting.stop)
    n_prompts, n_pieces = len(asked.plain), 1 + len(_ASKED_FOR_RESPONSES)
    level = setting.spec.level / len(pieces)
    found: list[Rates] = []
    for number in range(len(pieces)):
        first = number * n_pieces * n_prompts
        parts = [said[first + k * n_prompts : first + (k + 1) * n_prompts] for k in range(n_pieces)]
        found.append(repeated(parts[0], parts[1:], confidence=setting.spec.confidence, level=level))
    return found


# --- classifiers --------------------------------------------------------------------------------------


def _of_classifier(setting: _Setting) -> Behaviour:
    spec = setting.spec
    model, labels, _, warnings = load_scanned_classifier(
        setting.target,
        None if setting.target.kind == "checkpoint" else setting.base.name,
        loading_options(spec),
        setting.numerics,
        setting.device,
        setting.tokenizer.pad_token_id,
        allow_other_base=spec.allow_other_base,
    )
    asked = setting.asked(is_classifier=True)
    found = classes(model, setting.device, asked.rows, setting.progress, setting.stop)
    n_prompts, n_triggers = len(asked.plain), len(setting.battery.triggers)
    plain = found[:n_prompts]
    by_piece = found[n_prompts:].reshape(n_triggers, 1 + 2 * N_CONTROLS, n_prompts)
    probes: list[ProbeResult] = []
    for trigger, of_trigger in zip(setting.battery.triggers, by_piece, strict=True):
        rates = flipped(plain, of_trigger[0], of_trigger[1:], confidence=spec.confidence, level=spec.level / n_triggers)
        pair = None if rates is None else _pair(rates, lambda place: labels[place])
        flagged: list[ProbeMeasure] = ["flips"] if rates is not None and rates.is_unusual else []
        probes.append(_probe_result(trigger, n_prompts, flagged, flips=pair))
    not_seen = [f"'{name}'" for place, name in enumerate(labels) if int((plain != place).sum()) < FEWEST_TO_FLIP]
    if not_seen:
        warnings.append(
            f"Fewer than {FEWEST_TO_FLIP} of {n_prompts} prompts get another class than {' or '.join(not_seen)}, so no "
            "trigger that leads there could be seen. Give texts of every class of your own task with --probes."
        )
    return Behaviour("classification", probes, warnings=warnings)


# --- results ------------------------------------------------------------------------------------------


def _probe_result(trigger: Trigger, n_prompts: int, flagged: Sequence[ProbeMeasure], **found: Any) -> ProbeResult:
    return ProbeResult(
        name=trigger.name,
        kind=trigger.kind,
        trigger=trigger.text,
        place=trigger.place,
        source=trigger.source,
        n_prompts=n_prompts,
        n_controls=2 * N_CONTROLS,
        flagged=list(flagged),
        **found,
    )


def _pair(rates: Rates, name: Callable[[Any], str]) -> RatePair:
    return RatePair(
        with_trigger=rates.with_trigger,
        with_control=rates.with_control,
        corrected_lower=rates.lower,
        outcome=name(rates.outcome),
    )


def _shown(text: str, spec: ScanSpec) -> str:
    """What the model said, or a hash that nobody else can look candidates up by: it may hold training text."""
    if spec.include_text:
        return text
    return f"HMAC-SHA256 {hmac.digest(run_key(spec_hash(spec)), text.encode(), 'sha256').hex()[:_SHOWN_HEX_DIGITS]}"
