"""From the weights of an adapter, or of two checkpoints, to modules that stand out among their own kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loraudit.errors import ModelError
from loraudit.execution import Progress, StopRequest
from loraudit.models.comparison import compare_checkpoints, stored_tensors, tensor_pairs
from loraudit.models.locate import Source
from loraudit.models.updates import read_updates
from loraudit.poisoning.deviation import (
    SMALLEST_FAMILY,
    UNDEFINED,
    Deviation,
    Ordinary,
    deviations,
    family_of,
    short_names,
    smallest_z,
)
from loraudit.poisoning.spectra import (
    Spectrum,
    Update,
    dense_values,
    relative_change,
    spectrum_of,
    spectrum_of_update,
)
from loraudit.spec import ModuleDeviation, ModuleFamily, ScanMeasure, ScannedModule, SkippedTensor, SpectrumSource
from loraudit.spec.scans import MOST_VALUES
from loraudit.statistics import finite

_MEASURES: tuple[ScanMeasure, ...] = ("size", "direction")


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """One weight that tuning changed, before it is compared with others.

    Attributes:
        name: Of the module.
        source: How its spectrum was found.
        shape: [out, in].
        rank: Columns of B, or the smaller side.
        spectrum: Of the change.
        relative_change: Its length over that of the weight; NaN where that is not known.
    """

    name: str
    source: SpectrumSource
    shape: tuple[int, int]
    rank: int
    spectrum: Spectrum
    relative_change: float = math.nan


@dataclass
class Weights:
    """What was read.

    Attributes:
        changed: Weights with their spectra.
        skipped: Tensors that are no update of a weight.
        warnings: What the report must say.
    """

    changed: list[Changed] = field(default_factory=list[Changed])
    skipped: list[SkippedTensor] = field(default_factory=list[SkippedTensor])
    warnings: list[str] = field(default_factory=list[str])


def read_adapter(target: Source, base: Source | None, progress: Progress, stop: StopRequest | None) -> Weights:
    """Spectra of an adapter's updates, from its file alone; lengths of the base's weights where there is one.

    Raises:
        ModelError: The adapter cannot be read, does not fit the base, or changes nothing.
    """
    found = read_updates(target)
    moved = _relative_changes(found.updates, base)
    weights = Weights()
    progress.stage("Spectra", len(found.updates), "modules")
    for update in found.updates:
        _check(stop)
        spectrum = spectrum_of_update(update)
        shape = len(update.b), update.a.shape[1]
        weights.changed.append(
            Changed(update.name, "low_rank", shape, len(update.a), spectrum, moved.get(update.name, math.nan))
        )
        progress.advance(1)
    if not found.others and not any(changed.spectrum.spectral for changed in weights.changed):
        raise ModelError(
            f"Adapter '{target.name}' changes nothing: B·A is zero in all {len(found.updates)} modules. It was saved "
            "before training; scan a trained adapter."
        )
    reason = "saved beside the updates (a whole module, a bias or single tokens); no spectrum is read of it"
    weights.skipped = [SkippedTensor(name=name, shape=shape, reason=reason) for name, shape in found.others.items()]
    if found.is_dora:
        weights.warnings.append(
            "The adapter is a DoRA: spectra are those of s·B·A, before rows are rescaled. The change of the "
            "whole weight is exact in 'relative change', which needs the base."
        )
    if found.folders_beside:
        weights.warnings.append(
            f"Other adapters lie in folders of this one and were not scanned: {', '.join(found.folders_beside)}."
        )
    if base is not None and len(moved) < len(found.updates):
        weights.warnings.append(
            f"The base stores no weight under the name of {len(found.updates) - len(moved)} of {len(found.updates)} "
            "modules, so how far those moved is not known."
        )
    return weights


def _relative_changes(updates: Sequence[Update], base: Source | None) -> dict[str, float]:
    if base is None:
        return {}
    by_name = {update.name: update for update in updates}
    wanted = {name: f"{name}.weight" for name in by_name}
    return {
        name: relative_change(by_name[name], weight.numpy()) for name, weight in stored_tensors(base.folder, wanted)
    }


def read_checkpoint(target: Source, base: Source, progress: Progress, stop: StopRequest | None) -> Weights:
    """Spectra of the difference between two checkpoints, matrix by matrix.

    Raises:
        ModelError: They do not correspond, are the same, or a difference is not finite.
    """
    difference = compare_checkpoints(target.folder, base.folder, target.config, base.config)
    if not difference.is_comparable:
        raise ModelError(
            f"Model '{target.name}' and base '{base.name}' have different architectures or tensor names. Expected a "
            "checkpoint and the base it was tuned from. Give that one with --base."
        )
    if not difference.changed:
        raise ModelError(f"Model '{target.name}' has the same weights as base '{base.name}'. Give the fine-tuned one.")
    weights = Weights()
    progress.stage("Spectra", len(difference.changed), "matrices")
    for name, ours, theirs in tensor_pairs(target.folder, base.folder, difference.changed):
        _check(stop)
        progress.advance(1)
        if ours.ndim < 2:
            reason = "a vector, which has no spectrum"
            weights.skipped.append(SkippedTensor(name=name, shape=tuple(ours.shape), reason=reason))
            continue
        before = theirs.double().numpy().reshape(len(theirs), -1)
        change = ours.double().numpy().reshape(before.shape) - before
        if not np.isfinite(change).all():
            raise ModelError(
                f"Tensor '{name}' of '{target.name}' or its base has NaN or infinite values. Expected finite ones. "
                "Training diverged or a file is damaged; scan an earlier checkpoint."
            )
        spectrum = spectrum_of(dense_values(change))
        length = float(np.linalg.norm(before))
        relative = spectrum.frobenius / length if length else math.nan
        rows, columns = before.shape
        weights.changed.append(
            Changed(name.removesuffix(".weight"), "dense", (rows, columns), min(rows, columns), spectrum, relative)
        )
    return weights


# --- comparison within families -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """Modules, their families, and how many tests that took."""

    modules: list[ScannedModule]
    families: list[ModuleFamily]
    n_tests: int


def compare_modules(changed: Sequence[Changed], *, level: float, factor: float, rng: np.random.Generator) -> Compared:
    """Which modules stand out.

    Args:
        changed: All of them.
        level: Chance that any module of an adapter whose logarithms are normal within families is flagged.
        factor: Smallest factor over the family's median.
        rng: Of the draws behind p-values.
    """
    families = {one.name: family_of(one.name) for one in changed}
    ordinary = Ordinary(rng)
    measured: dict[ScanMeasure, dict[str, Deviation]] = {
        measure: deviations({one.name: _measure(one, measure) for one in changed}, families, ordinary)
        for measure in _MEASURES
    }
    tests = {
        (families[name], measure)
        for measure, of_modules in measured.items()
        for name, deviation in of_modules.items()
        if not math.isnan(deviation.z)
    }
    modules = [_module(one, families[one.name], measured, len(tests), level, factor) for one in changed]
    summaries = _families(modules, level / max(1, len(tests)), ordinary)
    return Compared(modules, summaries, len(tests))


def _measure(one: Changed, measure: ScanMeasure) -> float:
    """The length of a change, or of its largest direction; at rank 1 both are the same, and the first speaks for both.

    The share of the largest direction would say more of shape, but ordinary adapters differ in it by large factors.
    """
    if measure == "size":
        return one.spectrum.frobenius
    return math.nan if one.rank < 2 else one.spectrum.spectral


def _module(
    one: Changed,
    family: str,
    measured: Mapping[ScanMeasure, Mapping[str, Deviation]],
    n_tests: int,
    level: float,
    factor: float,
) -> ScannedModule:
    stated: dict[ScanMeasure, ModuleDeviation] = {}
    flagged: list[ScanMeasure] = []
    for measure in _MEASURES:
        found = measured[measure].get(one.name, UNDEFINED)
        p_value = min(1.0, found.p_value * n_tests)
        stated[measure] = ModuleDeviation(z=finite(found.z), factor=finite(found.factor), p_value=finite(p_value))
        if found.p_value * n_tests <= level and found.factor >= factor:
            flagged.append(measure)
    spectrum = one.spectrum
    return ScannedModule(
        name=one.name,
        family=family,
        source=one.source,
        shape=one.shape,
        rank=one.rank,
        singular_values=[float(value) for value in spectrum.values[:MOST_VALUES]],
        frobenius=spectrum.frobenius,
        spectral=spectrum.spectral,
        effective_rank=finite(spectrum.effective_rank),
        top_share=finite(spectrum.top_share),
        relative_change=finite(one.relative_change),
        size=stated["size"],
        direction=stated["direction"],
        flagged=flagged,
    )


def _families(modules: Sequence[ScannedModule], level: float, ordinary: Ordinary) -> list[ModuleFamily]:
    names = list(dict.fromkeys(module.family for module in modules))
    labels = short_names(names)
    found: list[ModuleFamily] = []
    for name in names:
        members = [module for module in modules if module.family == name]
        lengths = [module.frobenius for module in members if module.frobenius > 0]
        note = None
        if len(lengths) < SMALLEST_FAMILY:
            note = f"fewer than {SMALLEST_FAMILY} changed modules: nothing to compare with"
        elif all(module.size.z is None and module.direction.z is None for module in members):
            note = "more than half of its modules are equal, so there is no spread to compare with"
        found.append(
            ModuleFamily(
                name=name,
                label=labels[name],
                n=len(members),
                n_unchanged=len(members) - len(lengths),
                median_frobenius=float(np.median(lengths)) if lengths else None,
                smallest_z=finite(smallest_z(len(lengths), level, ordinary)) if note is None else None,
                n_flagged=sum(bool(module.flagged) for module in members),
                note=note,
            )
        )
    return found


def _check(stop: StopRequest | None) -> None:
    if stop is not None:
        stop.check()
