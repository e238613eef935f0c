"""All rules over one text, without overlaps."""

from __future__ import annotations

from loraudit.memorization.personal.contacts import EMAIL, IP_ADDRESS, PHONE
from loraudit.memorization.personal.credentials import SECRET, URL_WITH_CREDENTIALS
from loraudit.memorization.personal.fields import PersonalField, Rule
from loraudit.memorization.personal.identity import DATE_OF_BIRTH, ID_NUMBER, US_SSN
from loraudit.memorization.personal.payments import CREDIT_CARD, CRYPTO_WALLET, IBAN
from loraudit.memorization.personal.places import POSTAL_CODE, STREET_ADDRESS

RULES: tuple[Rule, ...] = (
    SECRET,
    URL_WITH_CREDENTIALS,
    CRYPTO_WALLET,
    IBAN,
    CREDIT_CARD,
    US_SSN,
    EMAIL,
    IP_ADDRESS,
    ID_NUMBER,
    DATE_OF_BIRTH,
    STREET_ADDRESS,
    POSTAL_CODE,
    PHONE,
)
"""Every rule, the most specific first."""


def personal_fields(text: str) -> list[PersonalField]:
    """Personal information in a text, by the rules of `RULES`; in the order of the text, without overlaps.

    Where two would overlap the longer one stays; of two equally long ones that of the earlier rule. Rules find forms,
    not persons: what they miss and take wrongly stands with each of them.

    >>> [(field.kind, field.value) for field in personal_fields("Call +1 555-555-0100 or write to ada@example.com.")]
    [('phone', '+1 555-555-0100'), ('email', 'ada@example.com')]
    """
    found = [PersonalField(rule.kind, span, text[slice(*span)]) for rule in RULES for span in rule.find(text)]
    return without_overlaps(found, len(text))


def without_overlaps(fields: list[PersonalField], n_characters: int) -> list[PersonalField]:
    """The longest fields that do not overlap, in the order of the text; of equally long ones the first given.

    Args:
        fields: Any, the preferred first.
        n_characters: Length of their text.
    """
    is_taken = bytearray(n_characters)
    kept: list[PersonalField] = []
    for one in sorted(fields, key=lambda one: one.span[0] - one.span[1]):
        start, end = one.span
        if is_taken.find(1, start, end) < 0:
            is_taken[start:end] = b"\1" * (end - start)
            kept.append(one)
    return sorted(kept, key=lambda one: one.span)
