"""Rules for what one pays with: card numbers, account numbers, wallets. All carry a checksum, so few are false."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from loraudit.memorization.matches import Span
from loraudit.memorization.personal.fields import Rule

# Zero-width, so that every digit that may begin a card is tried also where an earlier number runs into it.
_CARD = re.compile(
    r"(?<![0-9])(?<![0-9]\.)(?=(?P<number>[0-9]{13,19}+|[0-9]{4}(?P<a>[ -])[0-9]{4}(?P=a)[0-9]{4}(?P=a)[0-9]{1,7}+"
    r"|[0-9]{4}(?P<b>[ -])[0-9]{6}(?P=b)[0-9]{4,5}+)(?![0-9]|[.,][0-9]))"
)
_ISSUERS: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
    ("Visa", 4, 4, (13, 16, 19)),
    ("Mastercard", 51, 55, (16,)),
    ("Mastercard", 2221, 2720, (16,)),
    ("American Express", 34, 34, (15,)),
    ("American Express", 37, 37, (15,)),
    ("Diners Club", 300, 305, (14,)),
    ("Diners Club", 36, 36, (14,)),
    ("Diners Club", 38, 39, (14,)),
    ("Discover", 6011, 6011, (16, 19)),
    ("Discover", 644, 659, (16, 19)),
    ("JCB", 3528, 3589, (16, 19)),
    ("UnionPay", 62, 62, (16, 17, 18, 19)),
    ("Maestro", 50, 50, (13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", 56, 58, (13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", 63, 63, (13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", 67, 67, (13, 14, 15, 16, 17, 18, 19)),
)
"""Name, first and last prefix, lengths."""

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?=[ -]?[A-Z0-9])")
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_WALLET_58 = re.compile(r"(?<![A-Za-z0-9])[13][1-9A-HJ-NP-Za-km-z]{25,34}+(?![A-Za-z0-9])")
_WALLET_32 = re.compile(r"(?<![A-Za-z0-9])(?:bc1[a-z0-9]{8,87}+|BC1[A-Z0-9]{8,87}+)(?![A-Za-z0-9])")
_WALLET_HEX = re.compile(r"(?<![A-Za-z0-9])0x[0-9A-Fa-f]{40}+(?![A-Za-z0-9])")
_FEWEST_HEX_DIGITS = 8


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match["number"])
        if _has_issuer(digits) and passes_luhn(digits):
            yield match.span("number")


def _has_issuer(digits: str) -> bool:
    return any(
        first <= int(digits[: len(str(first))]) <= last and len(digits) in lengths
        for _, first, last, lengths in _ISSUERS
    )


def passes_luhn(digits: str) -> bool:
    """Whether the check digit is right (ISO/IEC 7812-1, annex B).

    >>> passes_luhn("4111111111111111"), passes_luhn("4111111111111112")
    (True, False)
    """
    doubled = "".join(str(int(c) * 2) if place % 2 else c for place, c in enumerate(reversed(digits)))
    return sum(int(c) for c in doubled) % 10 == 0


def _accounts(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        end = _end_of_account(text, match.start(), _IBAN_LENGTHS.get(match[0][:2], 0))
        if end and _passes_mod_97(re.sub(r"[ -]", "", text[match.start() : end])):
            yield match.start(), end


def _end_of_account(text: str, start: int, length: int) -> int | None:
    """End of the `length`-th capital or digit, past single blanks and dashes; None where another sign comes first."""
    n_seen, place = 0, start
    while n_seen < length and place < len(text):
        c = text[place]
        if c.isascii() and (c.isdigit() or c.isupper()):
            n_seen += 1
        elif c not in " -" or text[place - 1] in " -":
            return None
        place += 1
    is_whole = n_seen == length > 0 and not text[place : place + 1].isalnum()
    return place if is_whole else None


def _passes_mod_97(account: str) -> bool:
    return int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1


def _wallets(text: str) -> Iterator[Span]:
    for match in _WALLET_58.finditer(text):
        if _passes_base58(match[0]):
            yield match.span()
    for match in _WALLET_32.finditer(text):
        if _passes_bech32(match[0].lower()):
            yield match.span()
    for match in _WALLET_HEX.finditer(text):
        if len(set(match[0][2:].lower())) >= _FEWEST_HEX_DIGITS:
            yield match.span()


def _passes_base58(address: str) -> bool:
    number = 0
    for c in address:
        number = number * 58 + _BASE58.index(c)
    if number >= 1 << 200:
        return False
    data = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(data[:21]).digest()).digest()[:4] == data[21:]


def _passes_bech32(address: str) -> bool:
    human, data = address[:2], address[3:]
    if any(c not in _BECH32 for c in data):
        return False
    values = [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human] + [_BECH32.index(c) for c in data]
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum in {1, 0x2BC830A3}


CREDIT_CARD = Rule(
    kind="credit_card",
    summary=(
        "A number of 13 to 19 digits with the prefix and length of a card issuer and a right check digit, "
        "together or in the groups that stand on cards."
    ),
    source="ISO/IEC 7812-1 (Luhn check digit); issuers' published prefixes",
    find=_cards,
    examples=(
        "Card ‹4111 1111 1111 1111›, exp. 12/30",
        "2 ‹5555-5555-5555-4444›",
        "pay with ‹378282246310005›!",
        "Amex ‹3714 496353 98431›",
        "Diners: ‹3056 930902 5904›",
    ),
    not_examples=(
        "4111 1111 1111 1112",
        "Order 1234567890123456",
        "0.4111111111111111",
        "41111111111111111111111",
        "4111-1111 1111-1111",
    ),
    misses=(
        "Cards broken over lines or in other groups; one in ten random numbers with a fitting prefix and length "
        "passes the check."
    ),
)

IBAN = Rule(
    kind="iban",
    summary=(
        "An international bank account number of the length of its country and with remainder 1 modulo 97; in "
        "capitals, with or without single blanks or dashes."
    ),
    source="ISO 13616; lengths of the SWIFT IBAN registry; check of ISO 7064 MOD 97-10",
    find=_accounts,
    examples=(
        "IBAN: ‹GB82 WEST 1234 5698 7654 32› MY NAME",
        "Konto ‹DE89370400440532013000›.",
        "‹NL91-ABNA-0417-1643-00›",
        "à ‹FR14 2004 1010 0505 0001 3M02 606›",
    ),
    not_examples=(
        "GB83 WEST 1234 5698 7654 32",
        "ZZ82 WEST 1234 5698 7654 32",
        "DE8937040044053201300",
        "gb82west12345698765432",
        "DE89370400440532013000X",
    ),
    misses="Lower case, line breaks within the number, countries that joined the registry later.",
)

CRYPTO_WALLET = Rule(
    kind="crypto_wallet",
    summary=(
        "A Bitcoin address with a right checksum (base58check, bech32, bech32m), or 0x and 40 hexadecimal digits "
        "(Ethereum) of at least 8 different kinds."
    ),
    source="Bitcoin base58check; BIP 173 and BIP 350; Ethereum yellow paper, address form",
    find=_wallets,
    examples=(
        "Send to ‹1BitcoinEaterAddressDontSendf59kuE›.",
        "or ‹bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4›,",
        "ETH ‹0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed›",
    ),
    not_examples=(
        "1BitcoinEaterAddressDontSendf59kuF",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
        "0x0000000000000000000000000000000000000000",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed00",
    ),
    misses=(
        "Other coins, test networks, seed phrases. The checksum in the letter case of Ethereum addresses is not "
        "checked; transaction hashes are longer and are not taken."
    ),
)
