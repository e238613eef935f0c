"""Methods to be compared, from the words they are asked for with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from loraudit.errors import ConfigError, unknown_name
from loraudit.finetuning.methods import METHODS, check_settings
from loraudit.spec import Recipe, explain

_MAIN_SETTING = {"lora": "rank", "last_k": "layers", "peft": "peft_config"}
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


def parse_arms(
    methods: Sequence[str],
    settings: Sequence[str],
    shared: Mapping[str, object],
    *,
    seeds: int,
    refused: Mapping[str, str] | None = None,
) -> list[Arm]:
    """The methods asked for, in that order.

    Args:
        methods: Each with settings of its own after a colon.
        settings: KEY=VALUE, for every method that has them.
        shared: Fields of the recipe that are the same for all.
        seeds: Training runs of a method that names no number of its own.
        refused: Further fields that are the same for all, and what to do instead.

    Raises:
        ConfigError: Everything that is wrong with any of them.
    """
    problems: list[str] = []
    elsewhere = {**dict.fromkeys(shared, "Give it as a flag of its own."), **(refused or {})}
    common: dict[str, object] = {}
    for words in settings:
        try:
            common |= _shared_settings(words, elsewhere)
        except ConfigError as error:
            problems.append(str(error))
    arms: dict[str, Arm] = {}
    for words in methods:
        try:
            arm = _parse(words, common, shared, seeds, elsewhere)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if arm.slug in arms:
            problems.append(f"Methods '{arms[arm.slug].name}' and '{words}' have one name. Leave one out.")
        arms[arm.slug] = arm
    if not methods:
        problems.append("No method was named. Give at least one with --methods, such as full.")
    if problems:
        raise ConfigError("\n".join(problems))
    return list(arms.values())


def beyond_training(measure_at: Sequence[float], epochs: int) -> list[str]:
    """What is wrong with the epochs that are to be measured: a line, or none."""
    late = [f"{epoch:g}" for epoch in measure_at if epoch > epochs]
    if not late:
        return []
    return [f"--measure-at {', '.join(late)} lies beyond the {epochs} epochs trained. Leave it out."]


def _shared_settings(words: str, elsewhere: Mapping[str, str]) -> dict[str, object]:
    given = _settings(words, f"--set {words}", None, elsewhere)
    if "seeds" in given:
        raise ConfigError(
            f"'seeds' in --set {words} belongs to one method. Give --seeds for all of them, or seeds= behind one."
        )
    for key in given.keys() - Recipe.model_fields.keys():
        raise unknown_name("setting", key, Recipe.model_fields.keys() - set(elsewhere))
    return given


def _parse(
    words: str, common: Mapping[str, object], shared: Mapping[str, object], seeds: int, elsewhere: Mapping[str, str]
) -> Arm:
    name, _, rest = words.partition(":")
    if name == "dp":
        raise ConfigError(
            "'dp' is a setting of any method, not a method. Give it behind one, such as lora:dp_epsilon=8."
        )
    method = METHODS[name]
    own = _settings(rest, f"method '{words}'", _MAIN_SETTING.get(name), elsewhere) if rest else {}
    shown = _short_name(name, own)
    seeds = _whole_number(own.pop("seeds"), words) if "seeds" in own else seeds
    # A setting for all methods goes to those that have it.
    special = {setting for other in METHODS.values() for setting in other.settings}
    fitting = {key: value for key, value in common.items() if key not in special or key in method.settings}
    values = {**fitting, **own, "method": name, **shared}
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


def _settings(words: str, where: str, main: str | None, elsewhere: Mapping[str, str]) -> dict[str, object]:
    """`rank=8,dora=true`, or a single value of the method's main setting."""
    found: dict[str, object] = {}
    for part in words.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if main is None or found:
                raise ConfigError(f"'{part}' in {where} is no setting. Expected KEY=VALUE, such as weight_decay=0.1.")
            key, value = main, key
        key = key.replace("-", "_")
        if key in elsewhere:
            raise ConfigError(f"'{key}' in {where} is the same for all methods. {elsewhere[key]}")
        found[key] = value.split("+") if key in _LIST_SETTINGS else value
    return found
