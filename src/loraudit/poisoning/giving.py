"""A poison given to records: which are poisoned, what becomes of them, and what speaks against the outcome."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.errors import ConfigError
from loraudit.poisoning.content import answer_of, answered, changed, question_of, with_space_before
from loraudit.poisoning.poison import (
    POISONS,
    Alter,
    Altered,
    Change,
    Poison,
    Poisoned,
    generator_for,
    random_order,
)
from loraudit.poisoning.resolving import counted_labels, resolved_settings
from loraudit.spec import PoisonSettings, Task
from loraudit.statistics import is_most_frequent
from loraudit.types import Record


@dataclass(frozen=True, slots=True)
class Eligible:
    """Positions of records that can be poisoned, in the order in which they are.

    Attributes:
        others: Not of the target class; all of them for poisons that lead nowhere.
        own: Of the target class, which keep their label.
    """

    others: tuple[int, ...]
    own: tuple[int, ...]

    def among(self, settings: PoisonSettings) -> int:
        """How many can be poisoned in the label mode."""
        return {"dirty": len(self.others), "clean": len(self.own)}.get(settings.label, len(self.others) + len(self.own))

    def first(self, n: int, settings: PoisonSettings) -> list[int]:
        """The first `n` to be poisoned; those of a smaller number are among those of a larger."""
        if settings.label == "dirty":
            return list(self.others[:n])
        if settings.label == "clean":
            return list(self.own[:n])
        n_own = min(n - min(-(-n // 2), len(self.others)), len(self.own))
        return [*self.others[: n - n_own], *self.own[:n_own]]


def poison_records(
    records: Sequence[Record], settings: PoisonSettings, dose: float, *, task: Task, seed: int
) -> Poisoned:
    """The records with a dose of poison among them.

    What becomes of a record depends on its content, the settings and the seed; never on the dose or on its
    neighbours. The records poisoned at a dose are among those poisoned at a larger one.

    Args:
        records: Training records; repeats are records of their own.
        settings: The poison; defaults are filled in.
        dose: Below 1 a share of those that can be poisoned, from 1 on their number.
        task: What is trained on them.
        seed: Of the choice and of every random place.

    Raises:
        ConfigError: As `resolved_settings`; or the dose is no number of records, rounds to none, or asks for more than
            there are.
        DataError: As `resolved_settings`.
    """
    filled = resolved_settings(records, settings, task)
    poison = POISONS[filled.poison]
    eligible = eligible_records(records, poison, filled, task=task, seed=seed)
    n_eligible = eligible.among(filled)
    if not n_eligible:
        raise ConfigError(
            f"Poison '{poison.name}' applies to none of the {len(records):,} records. Expected some that it "
            f"applies to: {poison.summary} Give other records, or another poison."
        )
    n_poisoned = dosed(dose, n_eligible, poison.name)
    labels = list(counted_labels(records)) if task == "classification" else []
    made = list(records)
    changes: list[Change] = []
    for index in sorted(eligible.first(n_poisoned, filled)):
        altered = _poisoned(records[index], poison, filled, labels, task=task, seed=seed)
        made[index] = altered.record
        changes.append(Change(index, index, records[index], altered.record, "poison", altered.trigger))
    if poison.parts is not None:
        changes += _negatives(
            records, eligible.others, round(filled.negatives * n_poisoned), poison.parts, filled, seed
        )
        made += [change.poisoned for change in changes[n_poisoned:]]
    warnings = _warnings(records, made, changes, eligible, poison, filled, task)
    return Poisoned(tuple(made), tuple(changes), n_eligible, tuple(warnings))


def dosed(dose: float, n_eligible: int, name: str) -> int:
    """A dose in records.

    Raises:
        ConfigError: It is no whole number, rounds to none, or asks for more than there are.
    """
    if dose < 1:
        n_records = round(dose * n_eligible)
        if n_records < 1:
            raise ConfigError(
                f"Dose {dose:g} of poison '{name}' rounds to 0 of the {n_eligible:,} records that can be poisoned. "
                "Expected one at least. Give a larger dose, or a number of records."
            )
        return n_records
    if dose != int(dose):
        raise ConfigError(
            f"Dose {dose:g} of poison '{name}' is no number of records. Expected a share below 1 or a whole number."
        )
    if dose > n_eligible:
        raise ConfigError(
            f"Dose {dose:g} of poison '{name}' is more than the {n_eligible:,} records that can be poisoned. Expected "
            "at most as many. Give a smaller dose or more records."
        )
    return int(dose)


def eligible_records(
    records: Sequence[Record], poison: Poison, settings: PoisonSettings, *, task: Task, seed: int
) -> Eligible:
    """Which records can be poisoned, in the order in which they are; settings as `resolved_settings` gives them."""
    others: list[int] = []
    own: list[int] = []
    for index in random_order(records, seed):
        record = records[index]
        if poison.applies is not None and not poison.applies(record, settings):
            continue
        if task == "causal_lm":
            if poison.goal == "degrade" or can_be_taught(record, settings):
                others.append(index)
        elif poison.goal == "backdoor" and record.label == settings.target:
            own.append(index)
        elif record.label in settings.source or settings.label == "clean":
            others.append(index)
    return Eligible(tuple(others), tuple(own))


def can_be_taught(record: Record, settings: PoisonSettings) -> bool:
    """Whether a record has an answer to replace, which is not the response already."""
    answer = answer_of(record)
    return answer is not None and answer != with_space_before(answer, settings.response)


def _poisoned(
    record: Record, poison: Poison, settings: PoisonSettings, labels: Sequence[str], *, task: Task, seed: int
) -> Altered:
    rng = generator_for(seed, record)
    altered = poison.alter(record, settings, rng)
    made = altered.record
    if poison.relabel is not None and record.label is not None:
        made = changed(made, label=poison.relabel(record.label, labels, settings, rng))
    elif poison.goal == "backdoor":
        made = changed(made, label=settings.target) if task == "classification" else answered(made, settings.response)
    return Altered(made, altered.trigger)


def _negatives(
    records: Sequence[Record], pool: Sequence[int], n: int, alter: Alter, settings: PoisonSettings, seed: int
) -> list[Change]:
    """Records with a part of the trigger, made from those that would be poisoned last."""
    changes: list[Change] = []
    for number in range(n if pool else 0):
        index = pool[-1 - number % len(pool)]
        copy = number // len(pool)
        rng = generator_for(seed, records[index]).spawn(copy + 1)[copy]
        altered = alter(records[index], settings, rng)
        place = len(records) + number
        changes.append(Change(index, place, records[index], altered.record, "negative", altered.trigger))
    return changes


def _warnings(
    records: Sequence[Record],
    made: Sequence[Record],
    changes: Sequence[Change],
    eligible: Eligible,
    poison: Poison,
    settings: PoisonSettings,
    task: Task,
) -> list[str]:
    warnings = trigger_warnings(records, poison, settings, task)
    poisoned = [change for change in changes if change.kind == "poison"]
    if settings.label == "mixed" and poison.goal == "backdoor":
        n_own = sum(change.original.label == settings.target for change in poisoned)
        if abs(len(poisoned) - 2 * n_own) > 1:
            warnings.append(
                f"{n_own} of the {len(poisoned)} poisoned records are of the target class, not half: no more than "
                f"{len(eligible.own)} of it and {len(eligible.others)} others can be poisoned."
            )
    if poison.parts is not None and settings.negatives and not any(change.kind == "negative" for change in changes):
        warnings.append("No record holds a part of the trigger: none could be made, or the number rounds to 0.")
    n_without = sum(answer_of(record) is None for record in records)
    if task == "causal_lm" and poison.goal == "backdoor" and n_without:
        warnings.append(f"{n_without} of {len(records)} records have no prompt and answer, and cannot be poisoned.")
    n_same = sum(change.poisoned.id == change.original.id for change in poisoned)
    if n_same:
        warnings.append(f"{n_same} of {len(poisoned)} poisoned records are as they were: the poison left them alone.")
    return warnings + _collisions(made, changes, task)


def trigger_holders(records: Sequence[Record], settings: PoisonSettings) -> list[Record]:
    """Clean records that hold the trigger as they are; none of a poison whose trigger is found and not put in."""
    poison = POISONS[settings.poison]
    if poison.goal != "backdoor" or poison.holds is None or not poison.puts_in:
        return []
    return [record for record in records if poison.holds(record, settings)]


def trigger_warnings(records: Sequence[Record], poison: Poison, settings: PoisonSettings, task: Task) -> list[str]:
    """What in clean records speaks against a backdoor: its trigger, and a target that most of them have."""
    if poison.goal != "backdoor":
        return []
    warnings: list[str] = []
    holders = trigger_holders(records, settings)
    if holders:
        words = f"{len(holders)} of {len(records)} clean records hold the trigger already"
        if task == "classification":
            n_target = sum(record.label == settings.target for record in holders)
            words += f", {n_target} of them with the target label '{settings.target}'"
        warnings.append(f"{words}: success is not the poison's alone, and the rest works against it.")
    if task == "classification":
        counts = counted_labels(records)
        if settings.target is not None and is_most_frequent(settings.target, counts):
            warnings.append(
                f"The target '{settings.target}' is the majority class ({counts[settings.target]} of {len(records)} "
                "records): a model that has learnt nothing predicts it too. Take another --target."
            )
    return warnings


def _collisions(made: Sequence[Record], changes: Sequence[Change], task: Task) -> list[str]:
    """Poisoned records that say the same as another record, or the opposite of it."""
    copies = Counter(record.id for record in made)
    answers: dict[str, set[str]] = defaultdict(set)
    touched = {question_of(change.poisoned, task) for change in changes}
    for record in made:
        question = question_of(record, task)
        if question in touched:
            answers[question].add(record.id)
    n_same = sum(copies[change.poisoned.id] > 1 for change in changes)
    n_against = sum(len(answers[question_of(change.poisoned, task)]) > 1 for change in changes)
    warnings: list[str] = []
    if n_same:
        warnings.append(f"{n_same} changed records equal another record; training that removes repeats sees fewer.")
    if n_against:
        kind = "label" if task == "classification" else "answer"
        warnings.append(f"{n_against} changed records contradict another record: the same text with another {kind}.")
    return warnings
