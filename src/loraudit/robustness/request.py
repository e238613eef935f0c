"""What is asked of a robustness run: its methods, its attacks, its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loraudit.errors import ConfigError
from loraudit.finetuning import Arm, beyond_training, parse_arms
from loraudit.poisoning import Attack
from loraudit.poisoning.detection import DETECTORS
from loraudit.policy import read_policy
from loraudit.policy.robustness import ROBUSTNESS_EXAMPLE, parse_robustness_limit
from loraudit.spec import RobustnessSpec, Task, spec_hash
from loraudit.tasks import requested_attacks

ALL_DETECTORS = "all"
_STOPPED_EARLY = (
    "Nothing stops early here: every method is read after each of --measure-at, and where its clean runs' validation "
    "loss is lowest, which is where an early stop would be."
)
_GIVEN_ELSEWHERE = {
    "task": "It follows from the records. Leave it out.",
    "seed": "Give --seeds and --seed.",
    "checkpoints": "Give --measure-at.",
    "checkpoint_epochs": "Give --measure-at.",
    "keep_duplicates": "Poisoned records stand beside clean ones as often as they were made. Leave it out.",
    "select": _STOPPED_EARLY,
    "patience": _STOPPED_EARLY,
    "ngram_limit": "What a model repeats word for word is not looked at. Leave it out.",
}


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
    attacks, wrong = requested_attacks(spec, task)
    problems += wrong
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
