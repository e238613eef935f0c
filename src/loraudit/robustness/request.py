"""What is asked of a robustness run: its methods, its attacks, its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from loraudit.errors import ConfigError, DataError
from loraudit.finetuning import Arm, beyond_training, parse_arms
from loraudit.poisoning import POISONS, Attack, parse_attack
from loraudit.poisoning.detection import DETECTORS
from loraudit.policy import read_policy
from loraudit.policy.robustness import ROBUSTNESS_EXAMPLE, parse_robustness_limit
from loraudit.spec import PoisonSettings, RobustnessSpec, Task, spec_hash

DEFAULT_ATTACKS: dict[Task, tuple[str, ...]] = {
    "classification": ("label_flip", "rare_words"),
    "causal_lm": ("word_trigger",),
}
FLIP_DOSES = (0.05, 0.1, 0.2, 0.3)
BACKDOOR_DOSES = (4.0, 12.0, 36.0, 108.0)
ALL_DETECTORS = "all"
_GIVEN_ELSEWHERE = (
    "task",
    "seed",
    "checkpoints",
    "checkpoint_epochs",
    "keep_duplicates",
    "select",
    "patience",
    "ngram_limit",
)


class Asked(NamedTuple):
    """A request taken apart.

    Attributes:
        arms: The methods.
        attacks: As asked for; a target or response for all of them is filled in where a poison has one.
    """

    arms: list[Arm]
    attacks: list[Attack]


def robustness_path(spec: RobustnessSpec) -> Path:
    """The run folder: the one named, or `runs/robustness-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"robustness-{spec_hash(spec)[:12]}"


def measured_epochs(spec: RobustnessSpec) -> tuple[float, ...]:
    """Epochs after which everything is measured: those asked for, or half an epoch and every whole one."""
    chosen = set(spec.measure_at) or {0.5, *map(float, range(1, spec.epochs + 1))}
    return tuple(sorted(chosen | {float(spec.epochs)}))


def check_request(spec: RobustnessSpec, task: Task) -> Asked:
    """Methods and attacks; all that is wrong with names, settings and limits is said at once.

    Args:
        spec: The request.
        task: What the records allow to be trained.

    Raises:
        ConfigError: Anything is wrong.
    """
    problems = beyond_training(spec.measure_at, spec.epochs)
    arms: list[Arm] = []
    try:
        arms = _requested_arms(spec, task)
    except ConfigError as error:
        problems.append(str(error))
    attacks: list[Attack] = []
    for words in spec.attack or DEFAULT_ATTACKS[task]:
        try:
            attack = parse_attack(words)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if attack.slug in {other.slug for other in attacks}:
            problems.append(f"Attack '{attack.name}' was named twice. Leave one out.")
        attacks.append(replace(attack, settings=_filled(attack.settings, spec, task)))
    try:
        wanted_detectors(spec.detect)
    except ConfigError as error:
        problems.append(str(error))
    limits = list(spec.fail_on)
    try:
        limits += read_policy(spec.policy, example=ROBUSTNESS_EXAMPLE) if spec.policy else []
    except ConfigError as error:
        problems.append(str(error))
    for limit in limits:
        try:
            parse_robustness_limit(limit)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return Asked(arms, attacks)


def wanted_detectors(names: Sequence[str]) -> list[str]:
    """Their names; `all` stands for all of them.

    Raises:
        ConfigError: There is none of that name.
    """
    if ALL_DETECTORS in names:
        return list(DETECTORS)
    return [DETECTORS[name].name for name in names]


def check_files(spec: RobustnessSpec) -> None:
    """Refuse files that are not there.

    Raises:
        DataError: All of them.
    """
    missing = [path for path in (*spec.task, *spec.test) if not Path(path).is_file()]
    if missing:
        raise DataError(
            "\n".join(f"File '{path}' does not exist. Expected records; check the path." for path in missing)
        )


def _requested_arms(spec: RobustnessSpec, task: Task) -> list[Arm]:
    shared: dict[str, object] = {
        "task": task,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "max_length": spec.max_length,
        "on_long": spec.on_long if task == "classification" else "error",
        "keep_duplicates": False,
        "seed": spec.seed,
    }
    return parse_arms(spec.methods, spec.settings, shared, seeds=spec.seeds, refused=_GIVEN_ELSEWHERE)


def _filled(settings: PoisonSettings, spec: RobustnessSpec, task: Task) -> PoisonSettings:
    poison = POISONS[settings.poison]
    if task == "classification" and poison.goal == "backdoor" and settings.target is None:
        return settings.model_copy(update={"target": spec.target})
    default = PoisonSettings.model_fields["response"].default
    if task == "causal_lm" and poison.goal == "backdoor" and settings.response == default:
        return settings.model_copy(update={"response": spec.response})
    return settings
