"""Rules for where a person lives: street addresses and postal codes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from loraudit.memorization.matches import Span
from loraudit.memorization.personal.fields import Rule, follows, spans

_NAME = r"(?:[^\W\d_a-zß-öø-ÿ][^\W\d_]{0,24}+(?:['’-][^\W\d_]{1,20}+)*+\.?|[0-9]{1,3}(?:st|nd|rd|th))"
_TYPE = (
    r"(?:Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Boulevard|Blvd\b\.?|Lane|Ln\b\.?|Drive|Dr\b\.?|Court|Ct\b\.?|Place|Pl\b\.?|Square|Sq\b\.?|"
    r"Terrace|Way|Crescent|Parkway|Pkwy\b\.?|Highway|Hwy\b\.?|Circle|Alley|Quay|Mews|Gardens|Hill|Row|Walk)"
)
_UNIT = r"(?:,? (?:Apt\.?|Apartment|Suite|Ste\.?|Unit|Flat|Floor|#) ?#?[0-9A-Z][0-9A-Z-]{0,5})?"
_ENGLISH = re.compile(
    rf"(?<![\w.,/$€£:-])(?P<number>[0-9]{{1,5}}[A-Za-z]?)(?:-[0-9]{{1,4}})?,? (?:(?:N|S|E|W|NE|NW|SE|SW)\.? )?"
    rf"(?:(?!{_TYPE}(?!\w) (?![A-Z])){_NAME} ){{1,3}}?{_TYPE}(?!\w){_UNIT}"
)
_STREET_FIRST = re.compile(
    r"(?<!\w)(?:[^\W\d_][^\W\d_]{1,30}(?:straße|strasse|str\.|gasse|weg|platz|allee|straat|laan)"
    r"|(?:Calle|Avenida|Via|Viale|Piazza|Plaza|Rua)(?: (?:de|del|della|di|da|la|los|las|dos)){0,2}"
    r" [^\W\d_]{2,24}(?: [^\W\d_]{2,24})?),?"
    r" [0-9]{1,4}[a-z]?(?![\w.]?\w|%)"
)
_FRENCH = re.compile(
    r"(?<![\w.,])[0-9]{1,4}(?: ?bis| ?ter)?,? (?:rue|avenue|boulevard|place|allée|chemin|impasse|quai)"
    r"(?: (?:de|du|des|la|le|les)){0,2} ?(?:[dl]['’])?"
    r"[^\W\d_a-z][^\W\d_]{1,24}+(?:[ -][^\W\d_a-z][^\W\d_]{1,24}+){0,3}+"
)
_BOX = re.compile(r"(?<!\w)(?:P\. ?O\.|PO|Post Office) Box [0-9]{1,6}(?!\w)")
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}")
_LIVING_WORDS = re.compile(
    r"(?i:\b(?:at|lives?|lived|resid\w+|address(?:ed)?(?: is)?|home|ship(?:ped)? to|deliver\w* to|visit|near))"
    r"[ :,\t\n]{1,3}\Z"
)
_AFTER_YEAR = re.compile(r",? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)|, [^\W\d_a-z]")

_UK = re.compile(
    r"(?<![\w-])(?:GIR 0AA|[A-PR-UWYZ](?:[0-9]{1,2}|[A-HK-Y][0-9]{1,2}|[0-9][A-HJKPSTUW]|[A-HK-Y][0-9][ABEHMNPRVWXY])"
    r" [0-9][ABD-HJLNP-UW-Z]{2})(?![\w-])"
)
_CANADA = re.compile(r"(?<![\w-])[ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z] [0-9][ABCEGHJ-NPRSTV-Z][0-9](?![\w-])")
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|"
    "SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR"
)
_US = re.compile(rf"(?<![\w-])(?:{_STATES})\.?,? (?P<code>[0-9]{{5}}(?:-[0-9]{{4}})?)(?![\w-]|[.,][0-9])")
_CODE = re.compile(r"(?<![\w.,$€£])(?:[A-Z]{1,2}-)?[0-9]{3,6}(?:[ -][0-9]{2,4}|[ -]?[A-Z]{2})?(?![\w-]|[.,][0-9])")
_CODE_WORDS = re.compile(
    r"(?i:\bzip(?:[ -]?code)?|\bpost(?:al)?[ -]?code|\bplz"
    r"|\bpostleitzahl|\bcode postal|\bcódigo postal|\bcap|\bpin ?code)"
    r"(?i: is| was)?[ .:#=\t]{1,3}\Z"
)


def _streets(text: str) -> Iterator[Span]:
    for match in _ENGLISH.finditer(text):
        number = match["number"]
        if _YEAR.fullmatch(number) and not _is_house(text, match):
            continue  # "in 1996 Wall Street fell"
        if not number.startswith("0"):
            yield match.span()
    for pattern in (_STREET_FIRST, _FRENCH, _BOX):
        yield from spans(pattern, text)


def _is_house(text: str, match: re.Match[str]) -> bool:
    """Whether a number that could be a year is more likely one of a house."""
    if match[0][4] == ",":
        return False
    return (
        follows(_LIVING_WORDS, text, match.start(), reach=24)
        or _AFTER_YEAR.search(match[0] + text[match.end() : match.end() + 3]) is not None
    )


def _postal_codes(text: str) -> Iterator[Span]:
    yield from spans(_UK, text)
    yield from spans(_CANADA, text)
    yield from spans(_US, text, "code")
    for match in _CODE.finditer(text):
        if follows(_CODE_WORDS, text, match.start(), reach=24):
            yield match.span()


STREET_ADDRESS = Rule(
    kind="street_address",
    summary=(
        "A house number, one to three capitalised words and a street word (Street, Ave., Road …), with unit; a "
        "German, Dutch, Spanish or Italian street with the number behind it; a French one with the number before; "
        "a post office box. A number that may be a year counts only after at, lives, address and the like or "
        "before a comma and a capital."
    ),
    source="USPS Publication 28 (street suffixes); UPU S42 (order of address parts)",
    find=_streets,
    examples=(
        "She lives at ‹12 North Elm Street, Apt 4B› now.",
        "‹742 Evergreen Terrace›, Springfield",
        "Ship to ‹1999 Oak Ave.›",
        "‹221B Example Rd›",
        "wohnt in der ‹Musterstraße 12a›.",
        "‹12 bis, rue de la Paix›",
        "Write to ‹P.O. Box 1234›.",
        "Vive en ‹Calle Mayor 15›",
    ),
    not_examples=(
        "In 1996 Wall Street fell.",
        "for all of 1997, Wall Street, they say",
        "on 42nd Street",
        "Elm Street is quiet.",
        "12 months on the road",
        "5 people drive home",
        "He scored 20 in the Street.",
    ),
    misses=(
        "Addresses without a street word or without a number, other languages, more than three words of a name. "
        "Titles of films and shows that are addresses (a number, a name and Lane) are taken."
    ),
)

POSTAL_CODE = Rule(
    kind="postal_code",
    summary=(
        "A British or Canadian code in its full form; five or nine digits after a US state; or a code right after "
        "zip, postcode, PLZ and the like."
    ),
    source="UK BS 7666; Canada Post addressing guidelines; USPS Publication 28",
    find=_postal_codes,
    examples=(
        "Springfield, IL ‹62701-1234›",
        "London ‹EC1A 1BB›, UK",
        "Ottawa ON ‹K1A 0B1›",
        "ZIP code: ‹90210›",
        "PLZ ‹10115› Berlin",
    ),
    not_examples=(
        "There were 62701 people.",
        "IL 62701.50 dollars",
        "OK 12,345 of them",
        "B52 bombers",
        "the postcode of 12 towns",
    ),
    misses="A code with only its town beside it (10115 Berlin); British codes in lower case or without the blank.",
)
