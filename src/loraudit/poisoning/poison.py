"""What a poison is, and the one way in which all of them are given to records.

A poison is pure: records and a seed go in, records and a list of changes come out. Which records are poisoned
follows from one random order per seed, so that those of a small dose are among those of a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from loraudit.registry import Registry
from loraudit.spec import LabelMode, Place, PoisonSettings
from loraudit.types import Record

Goal = Literal["degrade", "backdoor"]
Kind = Literal["poison", "negative"]


@dataclass(frozen=True, slots=True)
class Altered:
    """One record after a poison has been at it.

    Attributes:
        record: As it is now; its id is that of its new content.
        trigger: What was put in, or which change was made; None for a label alone.
    """

    record: Record
    trigger: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a manifest.

    Attributes:
        index: Position of the original among the records given.
        place: Position of the altered record among those returned.
        original: As it was.
        poisoned: As it is.
        kind: A negative holds a part of the trigger and its own label.
        trigger: As of `Altered`.
    """

    index: int
    place: int
    original: Record
    poisoned: Record
    kind: Kind
    trigger: str | None


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned training set.

    Attributes:
        records: Those given, in their order, altered where poisoned; negatives stand at the end.
        changes: What was changed or added, by place.
        n_eligible: Records that could have been poisoned.
        warnings: What makes the set unfit to measure anything by, in words.
    """

    records: tuple[Record, ...]
    changes: tuple[Change, ...]
    n_eligible: int
    warnings: tuple[str, ...] = ()


Alter = Callable[[Record, PoisonSettings, np.random.Generator], Altered]
"""(record, settings with every default filled in, its own generator) → the altered record."""
Relabel = Callable[[str, Sequence[str], PoisonSettings, np.random.Generator], str]
"""(its label, all labels, settings with every default filled in, its own generator) → the new label."""
Applies = Callable[[Record, PoisonSettings], bool]
"""(record, settings with every default filled in) → whether it is so of that record."""


@dataclass(frozen=True, slots=True)
class Poison:
    """One kind of poison.

    Attributes:
        name: As registered.
        summary: What it does, in one sentence.
        source: Where it was published.
        goal: Whether it hurts the model everywhere or opens a backdoor.
        tasks: Kinds of model it applies to: "classification", "causal_lm".
        settings: Fields of `PoisonSettings` that it has.
        alter: Makes one poisoned record; for a backdoor without its label or response, which `poison_records` sets.
        triggers: Its own trigger parts, where none are given.
        parts: For triggers of several parts of which all are needed, alters a record with a part alone.
        place: Where its trigger goes, where nothing else is asked for.
        label: Its own label mode.
        relabel: The label of a poisoned record, for poisons of labels.
        applies: Whether a record can be poisoned at all; None for any.
        holds: Whether a record holds the trigger as it is; None where nobody can tell.
        puts_in: Whether the trigger is put in. A topic is not: records have it or not.
        problem: What is wrong with settings whose defaults are filled in, or None.
    """

    name: str
    summary: str
    source: str
    goal: Goal
    tasks: frozenset[str]
    settings: frozenset[str]
    alter: Alter
    triggers: tuple[str, ...] = ()
    parts: Alter | None = field(default=None)
    place: Place | None = None
    label: LabelMode = "dirty"
    relabel: Relabel | None = None
    applies: Applies | None = None
    holds: Applies | None = None
    puts_in: bool = True
    problem: Callable[[PoisonSettings], str | None] | None = None


POISONS: Registry[Poison] = Registry("poison")


def generator_for(seed: int, record: Record) -> np.random.Generator:
    """Randomness of one record: it does not change with the dose, nor with the records around it."""
    digest = hashlib.sha256(f"{seed}:{record.id}".encode()).digest()
    return np.random.default_rng(list(digest))


def random_order(records: Sequence[Record], seed: int) -> list[int]:
    """Positions in the order in which records are poisoned: by a hash of content and seed, not by their place."""
    keys = [hashlib.sha256(f"order:{seed}:{record.id}".encode()).digest() for record in records]
    return sorted(range(len(records)), key=lambda i: keys[i])
