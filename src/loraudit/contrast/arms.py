"""The methods of a contrast, from the words they are asked for with."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from loraudit.errors import ConfigError, unknown_name
from loraudit.finetuning import METHODS, check_settings
from loraudit.spec import ContrastSpec, Recipe, explain

_MAIN_SETTING = {"lora": "rank", "last_k": "layers", "peft": "peft_config"}
_OF_THE_CONTRAST = (
    "task",
    "seed",
    "epochs",
    "batch_size",
    "checkpoints",
    "checkpoint_epochs",
    "span",
    "append_eos",
    "max_length",
    "keep_duplicates",
)
_NOT_IN_A_NAME = ("learning_rate", "seeds")
_LIST_SETTINGS = ("targets",)


@dataclass(frozen=True, slots=True)
class Arm:
    """One method.

    Attributes:
        name: As asked for, such as "lora:16".
        slug: The same as part of a file name.
        recipe: Of the first training run.
        has_rate: Whether its learning rate was given, so that none is searched.
        seeds: How many training runs it gets.
    """

    name: str
    slug: str
    recipe: Recipe
    has_rate: bool
    seeds: int


def parse_arms(spec: ContrastSpec) -> list[Arm]:
    """The methods asked for, in that order.

    Raises:
        ConfigError: Everything that is wrong with any of them.
    """
    problems: list[str] = []
    shared: dict[str, object] = {}
    for words in spec.settings:
        try:
            shared |= _shared_settings(words)
        except ConfigError as error:
            problems.append(str(error))
    arms: dict[str, Arm] = {}
    for words in spec.methods:
        try:
            arm = _parse(words, shared, spec)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if arm.slug in arms:
            problems.append(f"Methods '{arms[arm.slug].name}' and '{words}' have one name. Leave one out.")
        arms[arm.slug] = arm
    late = [f"{epoch:g}" for epoch in spec.measure_at if epoch > spec.epochs]
    if late:
        problems.append(f"--measure-at {', '.join(late)} lies beyond the {spec.epochs} epochs trained. Leave it out.")
    if not spec.methods:
        problems.append("No method was named. Give at least one with --methods, such as full.")
    if problems:
        raise ConfigError("\n".join(problems))
    return list(arms.values())


def _shared_settings(words: str) -> dict[str, object]:
    given = _settings(words, f"--set {words}", None)
    if "seeds" in given:
        raise ConfigError(
            f"'seeds' in --set {words} belongs to one method. Give --seeds for all of them, or seeds= behind one."
        )
    for key in given.keys() - Recipe.model_fields.keys():
        raise unknown_name("setting", key, Recipe.model_fields.keys() - set(_OF_THE_CONTRAST))
    return given


def _parse(words: str, shared: dict[str, object], spec: ContrastSpec) -> Arm:
    name, _, rest = words.partition(":")
    if name == "dp":
        raise ConfigError(
            "'dp' is a setting of any method, not a method. Give it behind one, such as lora:dp_epsilon=8."
        )
    method = METHODS[name]
    own = _settings(rest, f"method '{words}'", _MAIN_SETTING.get(name)) if rest else {}
    shown = _short_name(name, own)
    seeds = _whole_number(own.pop("seeds"), words) if "seeds" in own else spec.seeds
    # A setting for all methods goes to those that have it.
    special = {setting for other in METHODS.values() for setting in other.settings}
    common = {key: value for key, value in shared.items() if key not in special or key in method.settings}
    values = {
        **common,
        **own,
        "method": name,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "checkpoint_epochs": measured_epochs(spec),
        "span": spec.span,
        "append_eos": spec.append_eos,
        "max_length": spec.max_length,
        "keep_duplicates": spec.keep_duplicates,
        "seed": spec.seed,
    }
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, Recipe, where=f"Method '{words}': ")) from None
    try:
        check_settings(recipe)
    except ConfigError as error:
        raise ConfigError("\n".join(f"Method '{words}': {line}" for line in str(error).splitlines())) from None
    return Arm(shown, re.sub(r"[^\w.-]+", "-", shown).strip("-."), recipe, "learning_rate" in values, seeds)


def _whole_number(given: object, words: str) -> int:
    found = int(str(given)) if str(given).isdecimal() else 0
    if found < 1:
        raise ConfigError(f"'seeds={given}' in method '{words}' is no number of training runs. Expected 1 or more.")
    return found


def _short_name(method: str, own: dict[str, object]) -> str:
    """`lora:16` or `lora:16,dora=true`: the main setting by its value; a learning rate or seeds tell none apart."""
    main = _MAIN_SETTING.get(method, "")
    parts = [str(own[main])] if main in own else []
    parts += [
        f"{key}={'+'.join(value) if isinstance(value, list) else value}"
        for key, value in own.items()
        if key not in {main, *_NOT_IN_A_NAME}
    ]
    return ":".join([method, ",".join(parts)]) if parts else method


def measured_epochs(spec: ContrastSpec) -> tuple[float, ...]:
    """Epochs after which leakage is measured: those asked for, or denser at the start, where losses fall fastest."""
    if spec.measure_at:
        chosen = {*spec.measure_at, *map(float, spec.at_epochs), float(spec.epochs)}
    else:
        chosen = {0.25, 0.5, 1.0, float(spec.epochs), *map(float, spec.at_epochs)}
        step = 2.0
        while step < spec.epochs:
            chosen |= {epoch for epoch in (step, 1.5 * step) if epoch.is_integer() and epoch < spec.epochs}
            step *= 2
    return tuple(sorted(epoch for epoch in chosen if epoch <= spec.epochs))


def _settings(words: str, where: str, main: str | None) -> dict[str, object]:
    """`rank=8,dora=true`, or a single value of the method's main setting."""
    found: dict[str, object] = {}
    for part in words.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if main is None or found:
                raise ConfigError(f"'{part}' in {where} is no setting. Expected KEY=VALUE, such as weight_decay=0.1.")
            key, value = main, key
        key = key.replace("-", "_")
        if key in _OF_THE_CONTRAST:
            raise ConfigError(
                f"'{key}' in {where} is the same for all methods. Give it as a flag of its own"
                + (": --seeds and --seed." if key == "seed" else ".")
            )
        found[key] = value.split("+") if key in _LIST_SETTINGS else value
    return found
