"""Everything of a prediction of single records that is known before the base runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loraudit.capture.parameters import counted_parameters
from loraudit.errors import ConfigError
from loraudit.finetuning import training_device
from loraudit.influence.measured import ContrastScores, MeasuredArm, MeasuredSuffixes, Sides
from loraudit.influence.methods import Kernelled, kernelled
from loraudit.influence.probes import Probe, choose, encoded_records, make_probe
from loraudit.influence.request import asked_base, asked_contrast
from loraudit.models import Numerics, load_tokenizer
from loraudit.models.loading import load_checkpoint
from loraudit.models.locate import Source
from loraudit.models.numerics import device_kind
from loraudit.models.plan import DEFAULT_CONTEXT, context_length
from loraudit.spec import ContrastResult, InfluenceSpec, LeftOutMethod, Match


class Prepared(NamedTuple):
    """A request with everything that is known before the base runs.

    Attributes:
        contrast: The finished contrast.
        match: Its match at equal validation loss.
        level: That loss.
        sides: Its records.
        methods: That have a kernel and reach the level.
        arms: What was measured of each, by name.
        left_out: Methods that have none.
        suffixes: What can be extracted, where that was measured.
        probe: Rows.
        n_tokens: [N] audited tokens of every record.
        source: The base.
        module: The base, in fp32.
        device: Where it is.
    """

    contrast: ContrastResult
    match: Match
    level: float
    sides: Sides
    methods: list[Kernelled]
    arms: Mapping[str, MeasuredArm]
    left_out: list[LeftOutMethod]
    suffixes: MeasuredSuffixes | None
    probe: Probe
    n_tokens: np.ndarray
    source: Source
    module: Any
    device: str


def prepare(spec: InfluenceSpec) -> Prepared:
    """Everything that shows before the base runs.

    Raises:
        LorauditError: Anything is wrong.
    """
    contrast, match = asked_contrast(spec)
    source = asked_base(spec, contrast)
    scores = ContrastScores(Path(spec.contrast), contrast)
    device = training_device(spec.device)
    module = load_checkpoint(source, Numerics(device_kind([device]), "fp32"), device)
    known = {one.kind for one in counted_parameters(module) if one.is_map}
    methods: list[Kernelled] = []
    arms: dict[str, MeasuredArm] = {}
    left_out: list[LeftOutMethod] = []
    for arm in contrast.arms:
        found = kernelled(arm, known)
        measured = scores.at(match, arm)
        if isinstance(found, str):
            left_out.append(LeftOutMethod(name=arm.name, why=found))
        elif measured is None:
            left_out.append(LeftOutMethod(name=arm.name, why=f"it does not reach {match.level:.3f} nats"))
        else:
            methods.append(found)
            arms[arm.name] = measured
    if not methods:
        reasons = "\n".join(f"{one.name}: {one.why}." for one in left_out)
        raise ConfigError(
            f"No method of contrast '{spec.contrast}' can be predicted. Expected full, head, bitfit or plain LoRA "
            f"among them. Run a contrast with one.\n{reasons}"
        )
    sides, suffixes = scores.sides, scores.suffixes()
    encoded, n_tokens = encoded_records(sides.records, load_tokenizer(source.folder), contrast.spec)
    is_usable = (n_tokens > 0) & np.isfinite(sides.base)
    for one in arms.values():
        is_usable &= np.isfinite(one.values)
    longest = min(context_length(source.config) or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    probe = make_probe(
        encoded,
        choose(is_usable, sides.is_member, spec.max_records, spec.seed),
        sides.is_member,
        window=contrast.spec.max_length or longest,
        suffixes=None if suffixes is None else (suffixes.prefix, suffixes.suffix),
        has_suffix=np.zeros(len(n_tokens), dtype=bool) if suffixes is None else np.isfinite(suffixes.base),
    )
    level = float(match.level or 0.0)
    return Prepared(
        contrast, match, level, sides, methods, arms, left_out, suffixes, probe, n_tokens, source, module, device
    )
