"""Attacks as they are carried out: settings filled in, doses counted, triggered test records made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loraudit.errors import ConfigError
from loraudit.poisoning import (
    POISONS,
    Attack,
    Poisoned,
    Triggered,
    answered,
    poison_records,
    trigger_holders,
    trigger_records,
)
from loraudit.poisoning.giving import dosed, eligible_records
from loraudit.poisoning.resolving import resolved_settings
from loraudit.spec import PoisonedTask, PoisonResult, PoisonSettings, Task
from loraudit.tasks.records import TaskData
from loraudit.types import Record

FLIP_DOSES = (0.05, 0.1, 0.2, 0.3)
BACKDOOR_DOSES = (4.0, 12.0, 36.0, 108.0)


def triggered(attack: str) -> str:
    """Name of the set of records with the trigger: 1 where the model gives the target, and the loss of the target."""
    return f"triggered:{attack}"


def untriggered(attack: str) -> str:
    """Name of the same records without it."""
    return f"untriggered:{attack}"


def partial(attack: str) -> str:
    """Name of the same with a part of the trigger."""
    return f"partial:{attack}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One attack on one task.

    Attributes:
        asked: As asked for, its settings filled in.
        task: What is trained.
        doses: Ascending.
        n_poisoned: At each of them.
        control_dose: Of the positive control; None where there is none.
        control_poisoned: Records poisoned there.
        n_eligible: Records that can be poisoned.
        tested: What success is measured on; None where the attack is no backdoor.
        n_holders: Clean training records that hold the trigger as they are.
        warnings: What speaks against it.
    """

    asked: Attack
    task: Task
    doses: tuple[float, ...]
    n_poisoned: tuple[int, ...]
    control_dose: float | None
    control_poisoned: int | None
    n_eligible: int
    tested: Triggered | None
    n_holders: int
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """As asked for."""
        return self.asked.name

    @property
    def settings(self) -> PoisonSettings:
        """Of the poison, filled in."""
        return self.asked.settings

    @property
    def is_backdoor(self) -> bool:
        """Whether it has a trigger."""
        return POISONS[self.settings.poison].goal == "backdoor"

    @property
    def largest_dose(self) -> float:
        """Of all, the positive control among them."""
        if self.control_dose is None or (self.control_poisoned or 0) < self.n_poisoned[-1]:
            return self.doses[-1]
        return self.control_dose

    def largest_by_seed(self, first: int, n_seeds: int) -> list[tuple[int, float]]:
        """The largest dose of every seed: the positive control is run with the first alone."""
        return [(first, self.largest_dose), *((first + k, self.doses[-1]) for k in range(1, n_seeds))]

    def poisoned(self, records: Sequence[Record], dose: float, seed: int) -> Poisoned:
        """The training records with this dose among them."""
        return poison_records(records, self.settings, dose, task=self.task, seed=seed)

    def test_sets(self) -> dict[str, list[Record]]:
        """Test records with the trigger, without it and with a part of it, by the names above.

        Those of a language model are completed by what it was taught to say.
        """
        if self.tested is None:
            return {}
        sets = {
            triggered(self.name): self.tested.triggered,
            untriggered(self.name): self.tested.untriggered,
            partial(self.name): self.tested.partial,
        }
        if self.task == "causal_lm":
            sets = {name: [answered(r, self.settings.response) for r in records] for name, records in sets.items()}
        return {name: list(records) for name, records in sets.items() if records}

    def result(self) -> PoisonResult:
        """As `result.json` holds it."""
        return PoisonResult(
            name=self.name,
            poison=self.settings.poison,
            goal=POISONS[self.settings.poison].goal,
            settings=self.settings,
            doses=list(self.doses),
            n_poisoned=list(self.n_poisoned),
            control_poisoned=self.control_poisoned,
            n_eligible=self.n_eligible,
            n_triggered=None if self.tested is None else len(self.tested.triggered),
            n_holders=self.n_holders,
            warnings=list(self.warnings),
        )


def plan_attacks(
    spec: PoisonedTask,
    attacks: Sequence[Attack],
    data: TaskData,
    *,
    n_seeds: int = 1,
    control_dose: float | None = None,
) -> list[Plan]:
    """Every attack on this task.

    Args:
        spec: The request.
        attacks: As asked for.
        data: The task.
        n_seeds: That any method is run with.
        control_dose: Share poisoned in the positive control of a backdoor; None for no control.

    Raises:
        ConfigError: An attack does not apply, or a dose is more than there is; all of that is said at once.
        DataError: No test record can show a backdoor.
    """
    plans: list[Plan] = []
    problems: list[str] = []
    for attack in attacks:
        try:
            plans.append(_plan(spec, attack, data, n_seeds, control_dose))
        except ConfigError as error:
            problems.append(f"Attack '{attack.name}': {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return plans


def _plan(spec: PoisonedTask, attack: Attack, data: TaskData, n_seeds: int, control_dose: float | None) -> Plan:
    settings = resolved_settings(data.train, attack.settings, data.task)
    poison = POISONS[settings.poison]
    is_backdoor = poison.goal == "backdoor"
    n_eligible = eligible_records(data.train, poison, settings, task=data.task, seed=spec.seed).among(settings)
    warnings: list[str] = []
    doses = tuple(dict.fromkeys(attack.doses or spec.doses))
    if not doses:
        wanted = BACKDOOR_DOSES if is_backdoor else FLIP_DOSES
        doses = tuple(dose for dose in wanted if dose < 1 or dose <= n_eligible)
        if len(doses) < len(wanted):
            warnings.append(
                f"Of the usual doses {', '.join(f'{dose:g}' for dose in wanted)} only those up to the {n_eligible} "
                "records that can be poisoned are tried."
            )
    if not doses:
        raise ConfigError(
            f"{n_eligible} records can be poisoned, fewer than the smallest usual dose. Give more records or --doses."
        )
    doses = tuple(sorted(doses, key=lambda dose: dosed(dose, n_eligible, poison.name)))
    counts = tuple(dosed(dose, n_eligible, poison.name) for dose in doses)
    tested = None
    control: float | None = None
    if is_backdoor:
        tested = trigger_records(data.test, settings, task=data.task, seed=spec.seed)
        warnings += tested.warnings
        control = control_dose
    n_control = None if control is None else dosed(control, n_eligible, poison.name)
    asked = replace(attack, settings=settings)
    n_holders = len(trigger_holders(data.train, settings))
    plan = Plan(asked, data.task, doses, counts, control, n_control, n_eligible, tested, n_holders, ())
    for seed, dose in plan.largest_by_seed(spec.seed, n_seeds):
        poisoned = plan.poisoned(data.train, dose, seed)
        if data.labels and {record.label for record in poisoned.records} < set(data.labels):
            raise ConfigError(
                f"Dose {dose:g} leaves no training record of some label with seed {seed}. Expected all "
                f"{len(data.labels)} labels to stay. Give a smaller dose."
            )
        warnings += poisoned.warnings if seed == spec.seed else []
    return replace(plan, warnings=tuple(warnings))
