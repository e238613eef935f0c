"""Test records with the trigger in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.errors import ConfigError, DataError
from loraudit.poisoning.giving import can_be_taught
from loraudit.poisoning.poison import POISONS, Poison, generator_for
from loraudit.spec import PoisonSettings, Task
from loraudit.types import Record


@dataclass(frozen=True, slots=True)
class Triggered:
    """What the success of a backdoor is measured on. All records keep their own labels and answers.

    Attributes:
        triggered: Records that are not of the target class, with the trigger.
        untriggered: The same as they were, aligned; of a topic, the records that are not about it.
        partial: The same with a part of the trigger, aligned; empty where the trigger has no parts.
        warnings: What was left out.
    """

    triggered: tuple[Record, ...]
    untriggered: tuple[Record, ...]
    partial: tuple[Record, ...]
    warnings: tuple[str, ...] = ()


def trigger_records(records: Sequence[Record], settings: PoisonSettings, *, task: Task, seed: int) -> Triggered:
    """Test records with the trigger in them, and the same without it.

    Args:
        records: Test records; those of the target class, and those that hold the trigger already, are left out.
        settings: As `resolved_settings` gives them for the training records.
        task: What was trained.
        seed: Of every random place.

    Raises:
        ConfigError: The poison has no trigger, or the target is not filled in.
        DataError: No record is left.
    """
    poison = POISONS[settings.poison]
    if poison.goal != "backdoor":
        raise ConfigError(
            f"Poison '{poison.name}' has no trigger. Expected a backdoor. Leave test records as they are."
        )
    if task == "classification" and settings.target is None:
        raise ConfigError(
            f"Poison '{poison.name}' has no target here. Expected settings whose defaults are filled in from the "
            "training records (resolved_settings)."
        )
    kept = [record for record in records if _can_show(record, settings, task)]
    if not kept:
        raise DataError(
            f"None of {len(records)} test records can show the backdoor of poison '{poison.name}'. Expected records "
            "that do not have the target label or response. Give other test records."
        )
    if not poison.puts_in:
        return _found(kept, poison, settings)
    n_kept = len(kept)
    if poison.holds is not None:
        kept = [record for record in kept if not poison.holds(record, settings)]
    left_out = n_kept - len(kept)
    if not kept:
        raise DataError(
            f"All {n_kept} test records that could show the backdoor of poison '{poison.name}' hold its trigger as "
            "they are. Expected others. Give another --trigger or other test records."
        )
    warnings = [f"{left_out} of {n_kept} test records hold the trigger as they are, and were left out."]
    return Triggered(
        tuple(poison.alter(record, settings, generator_for(seed, record)).record for record in kept),
        tuple(kept),
        tuple(_with_parts(kept, poison, settings, seed)),
        tuple(warnings if left_out else ()),
    )


def _can_show(record: Record, settings: PoisonSettings, task: Task) -> bool:
    if task == "classification":
        return record.label != settings.target
    return can_be_taught(record, settings)


def _with_parts(records: Sequence[Record], poison: Poison, settings: PoisonSettings, seed: int) -> list[Record]:
    if poison.parts is None:
        return []
    return [poison.parts(record, settings, generator_for(seed, record)).record for record in records]


def _found(records: Sequence[Record], poison: Poison, settings: PoisonSettings) -> Triggered:
    """Records about the topic, and the others."""
    about = [record for record in records if poison.holds is not None and poison.holds(record, settings)]
    others = [record for record in records if poison.holds is not None and not poison.holds(record, settings)]
    if not about:
        raise DataError(
            f"None of {len(records)} test records is about the topic of poison '{poison.name}'. Expected some that "
            f"hold one of: {', '.join(settings.trigger)}. Give other test records or another --trigger."
        )
    warnings = [] if others else ["Every test record is about the topic: nothing shows what others get."]
    return Triggered(tuple(about), tuple(others), (), tuple(warnings))
