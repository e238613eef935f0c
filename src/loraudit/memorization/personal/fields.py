"""A piece of personal information in a text, and the rule that finds its kind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal

from loraudit.memorization.matches import Span

PersonalKind = Literal[
    "secret",
    "url_with_credentials",
    "crypto_wallet",
    "iban",
    "credit_card",
    "us_ssn",
    "email",
    "ip_address",
    "id_number",
    "date_of_birth",
    "street_address",
    "postal_code",
    "phone",
]
"""Kinds that the rules of this room find. Other finders, such as presidio's, may name more."""

Finder = Callable[[str], Iterator[Span]]
"""From a text to where fields of one kind stand in it, in any order; they may overlap."""

_NOT_WORD = re.compile(r"[\W_]+")
_AS_WRITTEN = {"secret", "url_with_credentials"}
_NUMBERS = {"iban", "credit_card", "us_ssn", "id_number", "postal_code"}


@dataclass(frozen=True, slots=True)
class PersonalField:
    """One piece of personal information in a text.

    Attributes:
        kind: Such as `email`; see `PersonalKind`.
        span: Where it stands, in characters.
        value: The text there. Left out of the printed form, so that no log shows it.
    """

    kind: str
    span: Span
    value: str = field(repr=False)

    @property
    def key(self) -> str:
        """The value without differences of spelling that do not change what it names.

        >>> PersonalField("phone", (0, 15), "+1 555-555-0100").key
        '+15555550100'
        """
        return normalised(self.kind, self.value)


PersonalFinder = Callable[[str], list[PersonalField]]
"""From a text to its fields, in order and without overlaps: `personal_fields`, or Presidio behind its signature."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """How fields of one kind are found.

    Attributes:
        kind: What it finds.
        summary: What counts, in words.
        source: The standard or publication that says so.
        find: The rule itself. Its time grows with the length of the text, not faster.
        examples: Made-up texts with one field each, which stands between ‹ and ›.
        not_examples: Made-up texts that look alike and hold no field of this kind.
        misses: What it does not find, or finds wrongly, as far as known.
    """

    kind: PersonalKind
    summary: str
    source: str
    find: Finder
    examples: tuple[str, ...]
    not_examples: tuple[str, ...]
    misses: str


def normalised(kind: str, value: str) -> str:
    """One spelling for all that name the same thing.

    Secrets stay as they are; e-mail addresses, dates and street addresses lose case and doubled separators; numbers
    lose their separators; IP addresses take their canonical form.

    Args:
        kind: Of the field.
        value: As it stands in the text.
    """
    text = unicodedata.normalize("NFKC", value).strip()
    if kind in _AS_WRITTEN:
        return text
    if kind == "ip_address":
        return _canonical_address(text)
    if kind == "email":
        return text.casefold()
    if kind == "crypto_wallet":  # base58 tells upper from lower case; bech32 and hexadecimal do not
        return text.lower() if text[:3].lower() == "bc1" or text[:2].lower() == "0x" else text
    if kind == "phone":
        digits = "".join(c for c in text if c.isdigit())
        return f"+{digits.removeprefix('00')}" if text.startswith(("+", "00")) else digits
    if kind in _NUMBERS:
        return _NOT_WORD.sub("", text).upper()
    return _NOT_WORD.sub(" ", text).strip().casefold()


def _canonical_address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:  # another finder's idea of an address
        return text.casefold()


def spans(pattern: re.Pattern[str], text: str, group: int | str = 0) -> Iterator[Span]:
    """Where a group of the pattern stands, for each of its matches."""
    for match in pattern.finditer(text):
        yield match.span(group)


def follows(words: re.Pattern[str], text: str, start: int, reach: int = 48) -> bool:
    """Whether the text right before `start` matches `words`, which end with an anchor.

    A window of fixed size keeps the time of a rule proportional to the length of the text.
    """
    return words.search(text[max(0, start - reach) : start]) is not None
