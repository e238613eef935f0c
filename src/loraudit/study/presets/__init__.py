"""Published experiments, and some of our own, as studies by name: what `loraudit study ez-mia/xsum-gpt2-full` asks.

A preset is data. Each family is a TOML file of parts (data, model, method); a preset is one choice of each. Where
records and base come from and how many are used stands in the study's own settings, so that `--set base=…`,
`--set data=…` and `--set max_records=…` replace them. What is published stands once, in `published.toml`.
"""

from __future__ import annotations

import copy
import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from loraudit.errors import unknown_name
from loraudit.study.presets.published import published_of

FAMILIES = {"ez-mia": "ez_mia", "leaner": "leaner", "ttr": "ttr"}
"""File of each family."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One preset before it is put together.

    Attributes:
        name: Such as `ez-mia/xsum-gpt2-full`.
        family: Its family's file.
        parts: The chosen parts by their kind, in order: data, model, method.
        labels: Their names, likewise.
    """

    name: str
    family: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str]

    @property
    def words(self) -> dict[str, str]:
        """Each part in words, and what a part says of itself in words (targets, arm)."""
        own = {key: value for part in self.parts.values() for key, value in part.items() if isinstance(value, str)}
        return {**own, **{kind: str(part["words"]) for kind, part in self.parts.items()}}


def preset_names() -> list[str]:
    """Names of all presets, by family."""
    return list(_choices())


def preset_line(name: str) -> str:
    """What a preset is, in one line.

    Raises:
        ConfigError: There is none of that name.
    """
    choice = _chosen(name)
    return str(choice.family["line"]).format(**choice.words)


def preset(name: str) -> dict[str, Any]:
    """Keys of a study's file, free to be changed.

    Raises:
        ConfigError: There is none of that name.
    """
    choice = _chosen(name)
    values: dict[str, Any] = copy.deepcopy(choice.family["study"])
    for part in choice.parts.values():
        values["settings"] = _merged(values["settings"], part.get("settings", {}))
    differs = [str(part["differs"]) for part in choice.parts.values() if "differs" in part]
    return {
        "name": name,
        "description": " ".join([str(choice.family["description"]).strip(), *differs]),
        **_filled(values, choice.words),
        "published": published_of(name, choice.labels, choice.words, values["settings"]),
    }


def _chosen(name: str) -> Choice:
    known = _choices()
    if name not in known:
        raise unknown_name("preset", name, known)
    return known[name]


@cache
def _choices() -> dict[str, Choice]:
    return {choice.name: choice for family, file in FAMILIES.items() for choice in _of_family(family, _read(file))}


def _read(file: str) -> dict[str, Any]:
    return tomllib.loads((files("loraudit.study.presets") / f"{file}.toml").read_text(encoding="utf-8"))


def _of_family(name: str, family: Mapping[str, Any]) -> Iterator[Choice]:
    kinds: list[str] = family["parts"]
    for labels in itertools.product(*(family[kind] for kind in kinds)):
        parts = {kind: family[kind][label] for kind, label in zip(kinds, labels, strict=True)}
        yield Choice(f"{name}/{'-'.join(labels)}", family, parts, dict(zip(kinds, labels, strict=True)))


def _merged(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Later settings win; those of the recipe (KEY=VALUE, under `settings`) add up."""
    recipe = [*settings.get("settings", ()), *more.get("settings", ())]
    return {**settings, **more, **({"settings": recipe} if recipe else {})}


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Words of the parts where the family's file has their names in braces."""
    if isinstance(value, str):
        return value.format(**words)
    if isinstance(value, Mapping):
        return {key: _filled(one, words) for key, one in value.items()}
    return [_filled(one, words) for one in value] if isinstance(value, list) else value
