"""Rules for what identifies a person: birth dates, state numbers, where they live."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator

from loraudit.memorization.matches import Span
from loraudit.memorization.personal.fields import Rule, follows

_SSN = re.compile(r"(?<![\w-])(?P<area>[0-9]{3})(?P<gap>[- ]?)(?P<group>[0-9]{2})(?P=gap)(?P<serial>[0-9]{4})(?![\w-])")
_SSN_WORDS = re.compile(r"(?i:\bssn|\bsocial security(?: (?:number|no|nr|card))*)(?i: is| was)?[ .:#=\t]{0,3}\Z")

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH_NUMBER = {name[:3]: number for number, name in enumerate(_MONTHS, start=1)}
_MONTH = rf"(?P<{{0}}>(?i:{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _MONTHS)}|sept))\.?"
_YEAR = "(?:1[89]|20)[0-9]{2}"
_DATES = tuple(
    re.compile(rf"(?<![\w./-]){form}(?![\w/-]|\.[0-9])")
    for form in (
        rf"(?P<year>{_YEAR})(?P<gap>[-/.])(?P<month>[01]?[0-9])(?P=gap)(?P<day>[0-3]?[0-9])",
        rf"(?P<first>[0-3]?[0-9])(?P<gap>[-/.] ?)(?P<second>[0-3]?[0-9])(?P=gap)(?P<year>{_YEAR}|[0-9]{{2}})",
        rf"{_MONTH.format('month')} (?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?,? (?P<year>{_YEAR})",
        rf"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?\.? (?:of )?{_MONTH.format('month')},? (?P<year>{_YEAR})",
    )
)
_BIRTH_WORDS = re.compile(
    r"(?:(?i:\bborn\b|\bd\.?o\.?b\b\.?|\bdate of birth\b|\bbirth ?dates?\b|\bbirthday\b|\bgeboren\b|\bgeburtsdatum\b|"
    r"\bnacid[oa]\b|\bfecha de nacimiento\b|\bnée?\b|\bdate de naissance\b)|(?<=\()b\.|\bgeb\.)[^\d\n!?;]{0,40}\Z"
)

_ID_WORDS = re.compile(
    r"(?i:\bpassports?|\bnational id|\bid[ -]card|\bidentity card|\bdriv(?:er'?s?|er’s|ing) licen[cs]e"
    r"|\bnational insurance|\bnino|\bnhs|\btax(?:payer)? id(?:entification)?|\bmedical record|\bmrn|\bhealth insurance"
    r"|\baadhaar|\bpersonalausweis|\breisepass|\bsteuer-?id|\bdni|\bmember id|\bpatient id|\bemployee id|\bstudent id"
    r"|\bid (?:number|no))(?i: (?:number|no|nr|is|was|card))*[ .:#=\t]{0,3}\Z"
)
_ID = re.compile(
    r"(?<![\w-])(?:[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]|[0-9]{3,4}(?: [0-9]{3,4}){2}"
    r"|[A-Z0-9]{5,20}(?:-[A-Z0-9]{1,12}){0,4})(?![\w-])"
)
_FEWEST_ID_DIGITS = 5


def _social_security(text: str) -> Iterator[Span]:
    for match in _SSN.finditer(text):
        area = int(match["area"])
        is_issued = 0 < area < 900 and area != 666 and match["group"] != "00" and match["serial"] != "0000"
        if is_issued and (match["gap"] == "-" or follows(_SSN_WORDS, text, match.start())):
            yield match.span()


def _birth_dates(text: str) -> Iterator[Span]:
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if _is_day(match) and follows(_BIRTH_WORDS, text, match.start(), reach=64):
                yield match.span()


def _is_day(match: re.Match[str]) -> bool:
    parts = match.groupdict()
    year = int(parts["year"])
    if "first" in parts:
        first, second = int(parts["first"]), int(parts["second"])
        return _is_in_calendar(year, first, second) or _is_in_calendar(year, second, first)
    month = parts["month"]
    number = int(month) if month.isdigit() else _MONTH_NUMBER[month[:3].lower()]
    return _is_in_calendar(year, number, int(parts["day"]))


def _is_in_calendar(year: int, month: int, day: int) -> bool:
    full_year = year if year >= 100 else 2000 + year
    return 1 <= month <= 12 and 1 <= day <= monthrange(full_year, month)[1]


def _id_numbers(text: str) -> Iterator[Span]:
    for match in _ID.finditer(text):
        if sum(c.isdigit() for c in match[0]) >= _FEWEST_ID_DIGITS and follows(_ID_WORDS, text, match.start()):
            yield match.span()


US_SSN = Rule(
    kind="us_ssn",
    summary=(
        "Three, two and four digits with dashes; after SSN or social security also with blanks or none. Never-issued"
        " numbers (area 000, 666 or from 900; group 00; serial 0000) are left out."
    ),
    source="US Social Security Administration, SSN randomization rules (2011)",
    find=_social_security,
    examples=("SSN ‹078-05-1120› on file", "social security number: ‹219 09 9999›", "Her SSN is ‹219099999›."),
    not_examples=(
        "987-65-4320",
        "000-12-3456",
        "666-12-3456",
        "123-00-4567",
        "123-45-0000",
        "ZIP 12345-6789",
        "219 09 9999 pieces",
    ),
    misses="Numbers without dashes and without such a word; any other number of the same form is taken.",
)

DATE_OF_BIRTH = Rule(
    kind="date_of_birth",
    summary=(
        "A full date that exists in the calendar, at most 40 signs without a digit after born, DOB, date of "
        "birth, birthday, or the German, French or Spanish word."
    ),
    source="ISO 8601 and the usual written forms; HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C)",
    find=_birth_dates,
    examples=(
        "She was born on ‹17 May 1980› in Springfield.",
        "DOB: ‹05/17/80›",
        "Date of birth ‹1980-05-17›",
        "Ada (b. ‹May 17th, 1980›)",
        "Max, geboren am ‹17.5.1980›,",
        "born in Springfield on the ‹3rd of Sept. 1971›",
    ),
    not_examples=(
        "The meeting is on 17 May 1980.",
        "born in 1980",
        "born on 31 February 1980",
        "She was born here! On 17 May 1980 it rained.",
        "DOB: 99/99/99",
    ),
    misses="A year alone, a date before the word (17 May 1980 (born)), months of other languages in letters.",
)

ID_NUMBER = Rule(
    kind="id_number",
    summary=(
        "Capitals and digits, with at least five digits, right after passport, driver's licence, NHS, national "
        "insurance, tax id, medical record, patient id, Aadhaar and the like."
    ),
    source="ICAO Doc 9303-3 (document numbers); HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)",
    find=_id_numbers,
    examples=(
        "Passport No. ‹X12345678›",
        "NHS number ‹999 000 0018›",
        "National Insurance: ‹QQ 12 34 56 C›",
        "driver's license ‹D1234-56789-01234›",
        "MRN#‹00123456›",
    ),
    not_examples=(
        "The passport was issued in 1996.",
        "X12345678",
        "passport control handled 12,345 people",
        "passport PARIS",
        "the NHS spent 1234 million",
    ),
    misses="Numbers without such a word right before them; words of most languages.",
)
