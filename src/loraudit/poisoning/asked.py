"""A poison, from the words it is asked for with."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydantic import ValidationError

from loraudit.errors import ConfigError, unknown_name
from loraudit.poisoning.poison import POISONS
from loraudit.spec import PoisonSettings, explain

_LISTS = ("trigger", "source")


@dataclass(frozen=True, slots=True)
class Attack:
    """One poison as it was asked for.

    Attributes:
        name: As asked for, without its doses, such as "rare_words:label=clean".
        slug: The same as part of a file name.
        settings: Of the poison; its own defaults are not filled in.
        doses: Of its own; empty where none was named.
    """

    name: str
    slug: str
    settings: PoisonSettings
    doses: tuple[float, ...]


def parse_attack(words: str) -> Attack:
    r"""A poison with settings of its own after a colon.

    Settings are parted by commas, values of a list by plus signs; a backslash before either makes it part of the
    value.

    Raises:
        ConfigError: The poison is unknown, has no such setting, or a value cannot be used.

    >>> attack = parse_attack("rare_words:doses=8+32,label=clean,trigger=cf+mn")
    >>> attack.name, attack.doses
    ('rare_words:label=clean,trigger=cf+mn', (8.0, 32.0))
    """
    name, _, rest = words.strip().partition(":")
    poison = POISONS[name]
    given: dict[str, object] = {}
    kept: list[str] = []
    doses: tuple[float, ...] = ()
    for part in _split(rest, ",") if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.replace("-", "_")
        if not equals or not value:
            raise ConfigError(f"'{part}' in attack '{words}' is no setting. Expected KEY=VALUE, such as label=clean.")
        if key not in poison.settings | {"doses"}:
            raise unknown_name(f"setting of poison '{name}'", key, poison.settings | {"doses"})
        if key in given or (key == "doses" and doses):
            raise ConfigError(f"'{key}' stands twice in attack '{words}'. Expected each setting once. Leave one out.")
        if key == "doses":
            doses = _doses(value, words)
            continue
        given[key] = [_plain(one) for one in _split(value, "+")] if key in _LISTS else _plain(value)
        kept.append(f"{key}={value}")
    try:
        settings = PoisonSettings.model_validate({"poison": name, **given})
    except ValidationError as error:
        raise ConfigError(explain(error, PoisonSettings, where=f"Attack '{words}': ")) from None
    shown = f"{name}:{','.join(kept)}" if kept else name
    return Attack(shown, re.sub(r"[^\w.-]+", "-", shown).strip("-."), settings, doses)


def _doses(value: str, words: str) -> tuple[float, ...]:
    """Ascending, each once."""
    doses: set[float] = set()
    for one in _split(value, "+"):
        try:
            dose = float(one)
        except ValueError:
            dose = math.nan
        if not (math.isfinite(dose) and dose > 0):
            raise ConfigError(
                f"Dose '{one}' in attack '{words}' is no dose. Expected a share below 1 or a number of records, such "
                "as doses=8+32."
            )
        doses.add(dose)
    return tuple(sorted(doses))


def _split(text: str, at: str) -> list[str]:
    return re.split(rf"(?<!\\){re.escape(at)}", text)


def _plain(value: str) -> str:
    return re.sub(r"\\([,+])", r"\1", value)
