"""What a request asks of a task: its files and its attacks."""

from __future__ import annotations

from dataclasses import replace

from loraudit.data import fetch_files, missing_files
from loraudit.errors import ConfigError, DataError
from loraudit.poisoning import POISONS, Attack, parse_attack
from loraudit.spec import PoisonedTask, PoisonSettings, Task

DEFAULT_ATTACKS: dict[Task, tuple[str, ...]] = {
    "classification": ("label_flip", "rare_words"),
    "causal_lm": ("word_trigger",),
}


def check_files(spec: PoisonedTask) -> None:
    """Refuse files that are not there; fetch those of the hub.

    Raises:
        DataError: All of them.
        EnvironmentFault: The hub cannot be asked, or refuses.
    """
    files = (*spec.task, *spec.test)
    missing = missing_files(files)
    if missing:
        raise DataError("\n".join(missing))
    fetch_files(files, offline=spec.offline)


def requested_attacks(spec: PoisonedTask, task: Task) -> tuple[list[Attack], list[str]]:
    """Attacks as asked for, a target or response for all of them filled in where a poison has one; and problems.

    Args:
        spec: The request.
        task: What the records allow to be trained.
    """
    attacks: list[Attack] = []
    problems: list[str] = []
    for words in spec.attack or DEFAULT_ATTACKS[task]:
        try:
            attack = parse_attack(words)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if attack.slug in {other.slug for other in attacks}:
            problems.append(f"Attack '{attack.name}' was named twice. Leave one out.")
        attacks.append(replace(attack, settings=_filled(attack.settings, spec, task)))
    return attacks, problems


def _filled(settings: PoisonSettings, spec: PoisonedTask, task: Task) -> PoisonSettings:
    poison = POISONS[settings.poison]
    if task == "classification" and poison.goal == "backdoor" and settings.target is None:
        return settings.model_copy(update={"target": spec.target})
    default = PoisonSettings.model_fields["response"].default
    if task == "causal_lm" and poison.goal == "backdoor" and settings.response == default:
        return settings.model_copy(update={"response": spec.response})
    return settings
