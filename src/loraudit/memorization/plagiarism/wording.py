"""Paraphrases and ideas: units that say the same in partly other words, also where there is only one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from loraudit.errors import ConfigError
from loraudit.memorization.plagiarism.extension import extend, without_overlaps
from loraudit.memorization.plagiarism.similarity import Compared, WordWeights, compare
from loraudit.memorization.plagiarism.units import stem, windows
from loraudit.types import BoolArray, FloatArray, IntArray

FUNCTION_WORD_WEIGHT = 0.1
"""Of a content word's weight (ours)."""

_MANY = 100
_FUNCTION_WORDS = """
a about above after again against all also am an and any are aren't as at be because been before being below between
both but by can can't could couldn't did didn't do does doesn't doing don't down during each few for from further had
hadn't has hasn't have haven't having he her here hers herself him himself his how i if in into is isn't it it's its
itself just may me might more most must my myself no nor not now of off on once one only or other our ours ourselves out
over own s said same shall she should so some such t than that that's the their theirs them themselves then there these
they this those through to too two under until up upon us very was wasn't we were weren't what when where which while
who whom whose why will with within without won't would wouldn't you your yours yourself
"""


@dataclass(frozen=True, slots=True)
class WordingParameters:
    """What counts as the same in other words. Chosen on one half of public texts (benchmarks/alignment.py).

    Attributes:
        window: Words of a piece where a sentence is more than twice as long, as in text without full stops.
        cosine: Two units can be alike with a cosine over it,
        dice: and a Dice coefficient of their content words over it,
        fewest_shared: and so many content words in common.
        strong_cosine: A case holds at least one pair over this,
        strong_dice: and over this, where each side is one unit only;
        strong_dice_of_many: where the units form a hundred pairs or more, among which chance finds likelier ones;
            in between it grows with the logarithm of their number.
        gap: Units between neighbouring seeds of a case, at most.
        validation: The cosine of the two passages of a case is over it.
        shortest: Characters of a case on both sides, at least.
        idea_ratio: In an idea one side is so many times as long as the other.

    Raises:
        ConfigError: `window` is not positive, or `gap` is negative.
    """

    window: int = 25
    cosine: float = 0.20
    dice: float = 0.25
    fewest_shared: int = 2
    strong_cosine: float = 0.35
    strong_dice: float = 0.35
    strong_dice_of_many: float = 0.50
    gap: int = 4
    validation: float = 0.34
    shortest: int = 30
    idea_ratio: float = 3.0

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("gap", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"The wording's {name} {getattr(self, name)} is too small. Expected {least} or more. "
                    f"Set {name}={least}."
                )


@cache
def _function_stems() -> frozenset[str]:
    return frozenset(stem(word) for word in _FUNCTION_WORDS.split())


def damped_idf(n_holding: FloatArray, n_units: int, words: Sequence[str]) -> WordWeights:
    """ln(e + N / df), a tenth of it for function words, which the Dice coefficient leaves out.

    It is never 0, and nearly flat over few units, so that two texts of one sentence can be compared; over many units
    rare words weigh more, as usual.
    """
    function_words = _function_stems()
    is_content = np.array([word not in function_words for word in words], dtype=bool)
    return WordWeights(np.log(np.e + n_units / n_holding) * np.where(is_content, 1, FUNCTION_WORD_WEIGHT), is_content)


def reworded(here: str, source: str, parameters: WordingParameters) -> tuple[Compared, IntArray]:
    """The texts' units compared, and [C, 4] cases that do not overlap here.

    Args:
        here: The text under suspicion.
        source: The source.
        parameters: What counts.
    """
    compared = compare(
        windows(here, parameters.window),
        windows(source, parameters.window),
        damped_idf,
        cosine=parameters.cosine,
        dice=parameters.dice,
        fewest_shared=parameters.fewest_shared,
    )
    if not len(compared.seeds):
        return compared, np.empty((0, 4), dtype=np.int64)
    cases = extend(compared, gap=parameters.gap, validation=parameters.validation)
    cases = cases[_is_strong(compared, cases, parameters)]
    return compared, without_overlaps(compared, cases)


def _strong_dice(n_pairs: int, parameters: WordingParameters) -> float:
    share = min(1.0, math.log(max(n_pairs, 1), _MANY))
    return parameters.strong_dice + share * (parameters.strong_dice_of_many - parameters.strong_dice)


def _is_strong(compared: Compared, cases: IntArray, parameters: WordingParameters) -> BoolArray:
    """[C] whether a case holds a strong pair."""
    dice = _strong_dice(len(compared.here) * len(compared.source), parameters)
    here, source = compared.seeds[(compared.likeness > [parameters.strong_cosine, dice]).all(axis=1)].T
    found = [bool(((here >= a) & (here <= b) & (source >= c) & (source <= d)).any()) for a, b, c, d in cases.tolist()]
    return np.array(found, dtype=bool)
