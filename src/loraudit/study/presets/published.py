"""Figures of the literature for the presets that stand beside them; each figure is written down once, in a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any


def published_of(
    name: str, labels: Mapping[str, str], words: Mapping[str, str], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The published figures of a preset, as keys of `PublishedFigure`; none where none is known.

    Args:
        name: Of the preset.
        labels: Its parts by kind.
        words: Its parts in words.
        settings: Of its study.
    """
    family, _, own = name.partition("/")
    if family == "ez-mia":
        return list(_of_membership(own, words))
    return list(_of_robustness(labels["task"], words, settings)) if family == "ttr" else []


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((files("loraudit.study.presets") / "published.toml").read_text(encoding="utf-8"))


def _of_membership(own: str, words: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    table = _table()["ez-mia"]
    for measure, value in table["figures"].get(own, {}).items():
        notes = [table["notes"][key] for key in (own, measure) if key in table["notes"]]
        yield {
            "grid": table["grid"],
            "finding": table["finding"].format(**words, measure=measure),
            "value": value,
            "source": table["source"].format(**words),
            **({"note": " ".join(notes)} if notes else {}),
        }


def _of_robustness(task: str, words: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    table = _table()["ttr"]
    collapsed = table["collapsed"].get(task, ())
    for attack, rows in table["figures"][task].items():
        measure, doses = table["measures"][attack], doses_of(settings["attack"], attack)
        for share, dose, row in zip(table["shares"][attack], doses, rows, strict=True):
            for arm, value in zip(table["arms"], row, strict=True):
                told = f"{arm} {share:g}" in collapsed and attack == "label_flip"
                place = {"epochs": settings["epochs"], "arm": arm, "measure": measure, "attack": attack, "dose": dose}
                yield {
                    "grid": table["grid"],
                    "finding": table["finding"].format(**place),
                    "value": value,
                    "source": table["source"].format(**{**words, **place}, share=f"{100 * share:g} %"),
                    "note": " ".join([table["note"], *([table["collapsed_note"]] if told else [])]),
                }


def doses_of(attacks: list[str], name: str) -> list[str]:
    """The doses of an attack as asked for, in the order written.

    >>> doses_of(["label_flip:doses=0.05+0.1", "fixed_string:doses=40+60"], "fixed_string")
    ['40', '60']
    """
    asked = next(words for words in attacks if words.partition(":")[0] == name)
    return asked.rpartition("doses=")[2].split("+")
