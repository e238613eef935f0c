"""How the next token is chosen: settings, their names in words, and those of the field as presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from loraudit.errors import ConfigError, unknown_name
from loraudit.types import FloatArray, IntArray

GREEDY = 0.0
"""The temperature at which the most likely token is taken each time."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"temperature": GREEDY},
    "top_k_40": {"top_k": 40},
    "nucleus": {"top_p": 0.95},
    "decaying": {"first_temperature": 10.0, "decay_tokens": 20},
}
"""Decodings by name.

`greedy` is that of discoverable extraction (Carlini et al. 2023, arXiv:2202.07646). `top_k_40` at temperature 1 is that
of Carlini et al. 2021 (arXiv:2012.07805, §4.1) and of probabilistic extraction (Hayes et al. 2025, arXiv:2410.19482).
`nucleus` has the p at which Holtzman et al. 2020 (arXiv:1904.09751) report text closest to what people write.
`decaying` is an adversary's: Carlini et al. 2021, §5.1.1, begin at temperature 10, for variety, and come down to 1 over
the first 20 tokens, so as not to step off a memorized path later. They do not say along which curve; here it is a
straight line.
"""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a continuation is drawn: among the `top_k` likeliest tokens, at the temperature, from the nucleus.

    The filters apply in that order, each to what the one before has left, with probabilities that sum to 1 again. It is
    what transformers does: there the temperature comes before top-k, which it cannot change. A penalty on repetition
    would hide what was memorized; there is none.

    Attributes:
        new_tokens: Longest continuation.
        temperature: Divides the logits; 0 takes the most likely token each time.
        top_p: Tokens are drawn among the most likely ones that together reach this probability (nucleus sampling,
            Holtzman et al. 2020, arXiv:1904.09751), after the temperature; 1 allows all.
        top_k: Tokens are drawn among exactly so many of the most likely ones; 0 allows all.
        first_temperature: Of the first token, from where it goes down in a straight line; None for a constant one.
        decay_tokens: After how many tokens `temperature` is reached.

    Raises:
        ConfigError: A value is out of range.
    """

    new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    first_temperature: float | None = None
    decay_tokens: int = 0

    def __post_init__(self) -> None:
        decays = self.first_temperature is not None
        allowed = {
            "new_tokens": (self.new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < np.inf, "0 (greedy) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "first_temperature": (
                self.first_temperature is None or 0 < self.temperature <= self.first_temperature < np.inf,
                "a temperature above 0 that it goes down to",
            ),
            "decay_tokens": (
                self.decay_tokens >= 1 if decays else self.decay_tokens == 0,
                "at least 1 together with a first_temperature, and none without",
            ),
        }
        for name, (is_allowed, words) in allowed.items():
            if not is_allowed:
                raise ConfigError(f"Sampling with {name} {getattr(self, name)} is not possible. Expected {words}.")

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn at random."""
        return self.temperature == GREEDY

    @property
    def name(self) -> str:
        """The preset it is, or its settings in words that `parse_decoding` reads.

        >>> Sampling(50, top_k=40).name, Sampling(50, temperature=0.7, top_k=40).name
        ('top_k_40', 'temperature=0.7,top_k=40')
        """
        for name, settings in PRESETS.items():
            if Sampling(self.new_tokens, **settings) == self:
                return name
        changed = [f"{key}={getattr(self, key):g}" for key in _KINDS if getattr(self, key) != _DEFAULTS[key]]
        return ",".join(changed) or "temperature=1"

    def temperatures(self, n_said: IntArray) -> FloatArray:
        """Temperature of the next token by how many tokens of the continuation are there already, same shape."""
        if self.first_temperature is None:
            return np.full(n_said.shape, self.temperature)
        left = np.clip(1 - n_said / self.decay_tokens, 0, 1)
        return self.temperature + (self.first_temperature - self.temperature) * left


_KINDS: Mapping[str, type[int] | type[float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "first_temperature": float,
    "decay_tokens": int,
}
_DEFAULTS = {field.name: field.default for field in fields(Sampling)}


def parse_decoding(words: str, new_tokens: int) -> Sampling:
    """The decoding that words such as `greedy`, `top_k=40,temperature=0.7` or `top_k_40,temperature=0.7` stand for.

    Args:
        words: The name of a preset, settings as `name=value`, or a preset and settings that change it, by commas.
        new_tokens: Longest continuation.

    Raises:
        ConfigError: A name is unknown or stands twice, or a value is no number or out of range.
    """
    parts = [part.strip() for part in words.split(",")]
    settings: dict[str, Any] = {}
    if "=" not in parts[0]:
        if parts[0] not in PRESETS:
            raise unknown_name("decoding", parts[0], [*PRESETS, *(f"{key}=…" for key in _KINDS)])
        settings.update(PRESETS[parts.pop(0)])
    given: set[str] = set()
    for part in parts:
        key, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(
                f"Decoding '{words}' has '{part}' where a setting should stand. Expected name=value, with a preset "
                "only in front, such as top_k=40,temperature=0.7."
            )
        if key not in _KINDS:
            raise unknown_name("decoding setting", key, _KINDS)
        if key in given:
            raise ConfigError(f"Decoding '{words}' sets {key} twice. Expected each setting once. Remove one.")
        given.add(key)
        settings[key] = _number(words, key, text)
    return Sampling(new_tokens, **settings)


def _number(words: str, key: str, text: str) -> float:
    kind = _KINDS[key]
    try:
        return kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise ConfigError(f"Decoding '{words}' sets {key} to '{text}'. Expected {expected}.") from None
