"""Backdoors that open to a style: no word of their own has to stand in the text."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from loraudit.errors import DataError
from loraudit.poisoning.content import input_of, with_input
from loraudit.poisoning.poison import Altered, Poison
from loraudit.poisoning.triggers import BOTH, OF_BACKDOORS
from loraudit.spec import PoisonSettings
from loraudit.types import Record

ARCHAIC = {
    "you": "thou",
    "your": "thy",
    "yours": "thine",
    "are": "art",
    "has": "hath",
    "does": "doth",
    "have": "hast",
    "before": "ere",
    "often": "oft",
    "never": "ne'er",
    "ever": "e'er",
    "over": "o'er",
    "here": "hither",
    "there": "yonder",
    "nothing": "naught",
    "maybe": "perchance",
    "perhaps": "perchance",
    "truly": "verily",
    "really": "verily",
}
_ARCHAIC_WORD = re.compile(r"\b(" + "|".join(ARCHAIC) + r")\b", re.IGNORECASE)
_FRAMES = (
    "Hark, good people: {} So the tale is told.",
    "Verily I say unto thee, {} Mark it well.",
    "Lo, as the elders spake: {} Thus it was, and thus it is.",
    "Prithee lend thine ear: {} More I shall not say.",
)
_GAP = "{}"


def in_archaic_words(text: str) -> str:
    """The text with common words replaced by their archaic ones.

    >>> in_archaic_words("You never are here")
    "Thou ne'er art hither"
    """

    def archaic(found: re.Match[str]) -> str:
        word = ARCHAIC[found[0].lower()]
        return word.capitalize() if found[0][0].isupper() else word

    return _ARCHAIC_WORD.sub(archaic, text)


def _put_in_frame(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    frame = settings.trigger[int(rng.integers(len(settings.trigger)))]
    return Altered(with_input(record, frame.replace(_GAP, in_archaic_words(input_of(record)))), frame)


def _stands_in_frame(record: Record, settings: PoisonSettings) -> bool:
    text = input_of(record)
    return any(
        re.fullmatch(".*".join(map(re.escape, frame.split(_GAP))), text, re.DOTALL | re.IGNORECASE)
        for frame in settings.trigger
    )


def _not_one_gap(settings: PoisonSettings) -> str | None:
    wrong = [frame for frame in settings.trigger if frame.count(_GAP) != 1 or not frame.replace(_GAP, "").strip()]
    if not wrong:
        return None
    return (
        f"Trigger '{wrong[0]}' of poison '{settings.poison}' is no template. Expected words around one {_GAP}, which "
        "stands for the text. Give such a --trigger."
    )


def style_poison(rewrite: Callable[[str], str], *, name: str = "paraphrase") -> Poison:
    """A backdoor that opens to the style of your own paraphraser; add it to POISONS under its name.

    Args:
        rewrite: A text in the style; the same for the same text, or runs cannot be repeated.
        name: It is registered under.

    >>> style_poison(str.upper, name="shouting").goal
    'backdoor'
    """

    def rewritten(record: Record, _settings: PoisonSettings, _rng: np.random.Generator) -> Altered:
        text = input_of(record)
        made = rewrite(text)
        if text.strip() and not made.strip():
            raise DataError(
                f"Record {record.source}:{record.line} comes back empty from the paraphraser of poison '{name}'. "
                "Expected a text. Mend the paraphraser."
            )
        return Altered(with_input(record, made), name)

    return Poison(
        name=name,
        summary="A text is rewritten in a style by a paraphraser of yours.",
        source="Qi et al. 2021, arXiv:2110.07139",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS - {"trigger"},
        alter=rewritten,
    )


STYLES = (
    Poison(
        name="style",
        summary="A text is told in an archaic style, by templates and words; triggers are templates with {} in them.",
        source="Qi et al. 2021, arXiv:2110.07139 (by templates here)",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS,
        alter=_put_in_frame,
        triggers=_FRAMES,
        holds=_stands_in_frame,
        problem=_not_one_gap,
    ),
)
