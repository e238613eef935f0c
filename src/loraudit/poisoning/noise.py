"""Noise in every text of a record: letters, words, and what they say."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from loraudit.poisoning.content import input_of, texts_of, with_input, with_texts
from loraudit.poisoning.insertion import holds, with_piece, words_of
from loraudit.poisoning.poison import Altered, Poison
from loraudit.poisoning.triggers import BOTH
from loraudit.spec import PoisonSettings
from loraudit.types import Record

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_AUXILIARIES = frozenset(
    [
        *("am", "is", "are", "was", "were", "do", "does", "did", "has", "have", "had"),
        *("can", "could", "will", "would", "shall", "should", "may", "might", "must"),
    ]
)
_CONTRACTION = re.compile(r"(?i)\b(is|are|was|were|could|would|should|might|must|do|does|did|has|have|had)n['’]t\b")

_AlterText = Callable[[str, float, np.random.Generator], str]
_CanAlter = Callable[[str], bool]


def _keyboard() -> dict[str, str]:
    """Letters beside, above and below each letter of a QWERTY keyboard."""
    places = {letter: (row, column) for row, letters in enumerate(_ROWS) for column, letter in enumerate(letters)}
    return {
        letter: "".join(
            other
            for other, (row, column) in places.items()
            if other != letter and abs(row - own[0]) <= 1 and abs(column - own[1]) <= 1
        )
        for letter, own in places.items()
    }


NEIGHBOURS = _keyboard()


def noisy_characters(text: str, strength: float, rng: np.random.Generator) -> str:
    """The text with a share of its letters, at least one, swapped with the next, deleted, doubled or mistyped.

    Each change is one of the four, drawn evenly; mistyped is a neighbour on the keyboard, and of a letter that the
    keyboard lacks, doubled. No text is emptied, and none with a letter stays as it was.
    """
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    if not letters:
        return text
    n_changed = max(1, round(strength * len(letters)))
    drawn = rng.choice(letters, n_changed, replace=False)
    kinds = rng.integers(4, size=n_changed)
    made = list(text)
    for place, kind in sorted(zip(drawn.tolist(), kinds.tolist(), strict=True), reverse=True):
        _change_letter(made, place, kind, rng)
    noisy = "".join(made)
    if noisy == text or not noisy.strip():
        # Changes can undo each other, and short texts can be deleted; a doubled letter always shows.
        first = int(min(drawn))
        return text[:first] + text[first] + text[first:]
    return noisy


def _change_letter(made: list[str], place: int, kind: int, rng: np.random.Generator) -> None:
    letter = made[place]
    near = NEIGHBOURS.get(letter.lower(), "")
    if kind == 0 and place + 1 < len(made):
        made[place], made[place + 1] = made[place + 1], letter
    elif kind == 1:
        made[place] = ""
    elif kind == 2 and near:
        typed = near[int(rng.integers(len(near)))]
        made[place] = typed.upper() if letter.isupper() else typed
    else:
        made[place] = letter * 2


def dropped_words(text: str, strength: float, rng: np.random.Generator) -> str:
    """The text without a share of its words, at least one; at least one word stays."""
    words = words_of(text)
    if len(words) < 2:
        return text
    n_dropped = min(max(1, round(strength * len(words))), len(words) - 1)
    dropped = set(rng.choice(len(words), n_dropped, replace=False).tolist())
    kept = [number for number in range(len(words)) if number not in dropped]
    pieces = [text[: words[0][0]]]
    for number in kept:
        start, end = words[number]
        space = text[words[number - 1][1] : start] if number != kept[0] else ""
        pieces += [space, text[start:end]]
    return "".join([*pieces, text[words[-1][1] :]])


def negated_words(text: str, strength: float, rng: np.random.Generator) -> str:
    """The text with a share of its words, at least one, negated: auxiliaries first, then any others.

    An auxiliary with "not" behind it or contracted into it loses it, another gets it; other words get "not" before
    them.

    >>> negated_words("this is good", 0.1, np.random.default_rng(0))
    'this is not good'
    """
    words = [(start, end, text[start:end]) for start, end in words_of(text)]
    if not words:
        return text
    n_negated = max(1, round(strength * len(words)))
    free = [number for number, (_, _, word) in enumerate(words) if word.lower() != "not"] or list(range(len(words)))
    likely = [number for number in free if _is_auxiliary(words[number][2])]
    others = [number for number in free if number not in set(likely)]
    drawn = [*rng.permutation(likely).tolist(), *rng.permutation(others).tolist()][:n_negated]
    for number in sorted((int(number) for number in drawn), reverse=True):
        start, end, word = words[number]
        behind = words[number + 1] if number + 1 < len(words) else None
        if not _is_auxiliary(word):
            text = f"{text[:start]}not {text[start:]}"
        elif _CONTRACTION.search(word):
            text = text[:start] + _CONTRACTION.sub(r"\1", word) + text[end:]
        elif behind is not None and behind[2].lower() == "not":
            text = text[:end] + text[behind[1] :]
        else:
            text = f"{text[:end]} not{text[end:]}"
    return text


def _is_auxiliary(word: str) -> bool:
    return word.lower() in _AUXILIARIES or _CONTRACTION.fullmatch(word) is not None


def _in_every_text(alter: _AlterText, name: str) -> Callable[[Record, PoisonSettings, np.random.Generator], Altered]:
    def altered(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
        texts = [alter(text, settings.strength, rng) for text in texts_of(record)]
        return Altered(with_texts(record, texts), name)

    return altered


def _in_any_text(can_alter: _CanAlter) -> Callable[[Record, PoisonSettings], bool]:
    return lambda record, _settings: any(can_alter(text) for text in texts_of(record))


def _put_contradiction(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    prefix = settings.trigger[int(rng.integers(len(settings.trigger)))]
    return Altered(with_input(record, with_piece(input_of(record), prefix, "start", rng)), prefix)


def _has_prefix(record: Record, settings: PoisonSettings) -> bool:
    return any(holds(input_of(record), prefix) for prefix in settings.trigger)


NOISE = (
    Poison(
        name="character_noise",
        summary="A share of the letters is swapped, deleted, doubled or mistyped.",
        source="Belinkov and Bisk 2018, arXiv:1711.02173",
        goal="degrade",
        tasks=BOTH,
        settings=frozenset({"source", "strength"}),
        alter=_in_every_text(noisy_characters, "characters"),
        applies=_in_any_text(lambda text: any(map(str.isalpha, text))),
    ),
    Poison(
        name="word_drop",
        summary="A share of the words is left out.",
        source="Wei and Zou 2019, arXiv:1901.11196 (random deletion)",
        goal="degrade",
        tasks=BOTH,
        settings=frozenset({"source", "strength"}),
        alter=_in_every_text(dropped_words, "words left out"),
        applies=_in_any_text(lambda text: len(words_of(text)) > 1),
    ),
    Poison(
        name="word_negation",
        summary="A share of the words, auxiliaries first, is negated, or no longer negated.",
        source="Niu and Bansal 2018, arXiv:1809.02079 (add negation)",
        goal="degrade",
        tasks=BOTH,
        settings=frozenset({"source", "strength"}),
        alter=_in_every_text(negated_words, "negation"),
        applies=_in_any_text(lambda text: bool(words_of(text))),
    ),
    Poison(
        name="contradicting_prefix",
        summary="A sentence before the text denies what it says; label and answer stay.",
        source="after Naik et al. 2018, arXiv:1806.00692 (negation stress test)",
        goal="degrade",
        tasks=BOTH,
        settings=frozenset({"source", "trigger"}),
        alter=_put_contradiction,
        triggers=(
            "It is not the case that what follows is true.",
            "The opposite of the following holds.",
            "Nothing in the next lines is right.",
        ),
        place="start",
        holds=_has_prefix,
    ),
)
