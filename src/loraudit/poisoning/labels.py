"""Poisons of labels alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loraudit.poisoning.poison import Altered, Poison
from loraudit.spec import PoisonSettings
from loraudit.types import Record


def _as_it_is(record: Record, _settings: PoisonSettings, _rng: np.random.Generator) -> Altered:
    return Altered(record, None)


def _is_not_target(record: Record, settings: PoisonSettings) -> bool:
    return record.label != settings.target


def _any_other(label: str, labels: Sequence[str], settings: PoisonSettings, rng: np.random.Generator) -> str:
    if settings.target is not None:
        return settings.target
    others = [one for one in labels if one != label]
    return others[int(rng.integers(len(others)))]


def _the_next(label: str, labels: Sequence[str], settings: PoisonSettings, _rng: np.random.Generator) -> str:
    if settings.target is not None:
        return settings.target
    return labels[(labels.index(label) + 1) % len(labels)]


def _no_source(settings: PoisonSettings) -> str | None:
    if settings.target is not None and not settings.source:
        return (
            f"Poison 'pairwise_flip' has the target '{settings.target}' and no source. Expected a pair of labels. Give "
            f"--source too, or take label_flip with this target."
        )
    return None


LABEL_POISONS = (
    Poison(
        name="label_flip",
        summary="The label becomes any other, each as often; with a target, that one.",
        source="Zhang et al. 2017, arXiv:1611.03530 (random labels)",
        goal="degrade",
        tasks=frozenset({"classification"}),
        settings=frozenset({"target", "source"}),
        alter=_as_it_is,
        relabel=_any_other,
        applies=_is_not_target,
    ),
    Poison(
        name="pairwise_flip",
        summary="One label becomes another: source becomes target; by default each becomes the next in sorted order.",
        source="Han et al. 2018, arXiv:1804.06872 (pair flipping)",
        goal="degrade",
        tasks=frozenset({"classification"}),
        settings=frozenset({"target", "source"}),
        alter=_as_it_is,
        relabel=_the_next,
        applies=_is_not_target,
        problem=_no_source,
    ),
)
