"""Rules for what one reaches a person by: e-mail, telephone, network address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from loraudit.memorization.matches import Span
from loraudit.memorization.personal.fields import Rule, follows

_LATIN = "A-Za-z0-9\u00c0-\u024f"
_EMAIL = re.compile(
    rf"(?<![{_LATIN}_.+%-])(?P<local>[{_LATIN}_.+%-]{{1,64}}+)@"
    rf"(?P<domain>[{_LATIN}-]{{1,63}}+(?:\.[{_LATIN}-]{{1,63}}+){{1,8}}+)"
)
_TOP_LEVEL = re.compile(r"[^\W\d_]{2,63}|xn--[A-Za-z0-9-]{2,59}")

_GAP = r"[ .\-/\u00a0\u2010-\u2013]"
_STEP = rf"{_GAP}?\(?[0-9]|\){_GAP}?[0-9]"
_INTERNATIONAL = re.compile(rf"(?:(?<![0-9+])\+|(?<![\w+])00)\(?[1-9](?:{_STEP}){{6,16}}+(?![0-9])")
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.$€£-])(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}(?P<gap>[.-]))[2-9][0-9]{2}"
    r"(?(gap)(?P=gap)|[ .-])[0-9]{4}(?![\w-]|[.][0-9])"
)
_TRUNK = re.compile(rf"(?<![\w.,$€£:/-])\(?0[1-9][0-9]{{0,4}}+\)?(?:{_GAP}[0-9]{{2,8}}+){{1,5}}+(?![\w:,%/-]|[.][0-9])")
_AFTER_WORD = re.compile(rf"(?<![\w.,$€£-])\(?[0-9](?:{_STEP}){{6,14}}+(?![\w%]|[.,][0-9])")
_TELEPHONE_WORDS = re.compile(
    r"(?i:\b(?:tele)?(?:phone|fax|fon)s?|\btel|\bmobile|\bcell|\bwhatsapp|\bcall(?: me| us)?|\bhandy|\btéléphone|"
    r"\bteléfono|\bring|\btext me|\bsms|\bdial(?:ed|led|ing)?|\bhotline|\bhelpline)"
    r"(?i: (?:number|no|nr|is|at|on|me|us|was))*[ .:#=(\-\t]{0,4}\Z"
)
_OFFICE_WORDS = re.compile(
    r"(?i:\b(?:newsroom|news ?desk|bureau|desk|office|switchboard|reception|contact|inquiries|enquiries"
    r"|information line))(?i: is| at)?[ ,.:#=(\-\t]{1,4}\Z"
)
_NO_TELEPHONE = re.compile(r"(?i:\bisbn(?:-1[03])?|\bissn|\bean|\bserial(?: number)?|\bversion|\bdoi)[ :.#]{0,3}\Z")
_DATE_LIKE = re.compile(
    r"(?<![0-9])(?:[0-3]?[0-9][ ./-][01]?[0-9][ ./-](?:1[5-9]|20)[0-9]{2}"
    r"|(?:1[5-9]|20)[0-9]{2}[./-][01]?[0-9][./-][0-3]?[0-9]"
    r"|(?:1[5-9]|20)[0-9]{2}[ \-/\u2013](?:1[5-9]|20)[0-9]{2})(?![0-9])"
)

_ADDRESS_V4 = re.compile(r"(?<![\w.])[0-9]{1,3}+(?:\.[0-9]{1,3}+){3}+(?![\w]|\.[0-9])")
_ADDRESS_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,40}+(?:[0-9.]{3,15}+)?(?!\w)")
_VERSION_WORDS = re.compile(
    r"(?i:\bv|\bversions?|\brelease|\bsections?|\bsec|\bchapters?|\bparagraphs?|\bclause|\bbuild|§)[ .:]{0,2}\Z"
)


def _emails(text: str) -> Iterator[Span]:
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        # Dashes and dots that lead up to an address belong to the text before it.
        start = match.start("local") + match["local"].rfind("..") + (2 if ".." in match["local"] else 1)
        local, labels = text[start : match.end("local")], match["domain"].split(".")
        start += len(local) - len(local.lstrip("-.+%"))
        is_formed = start < match.end("local") and not local.endswith(".") and _TOP_LEVEL.fullmatch(labels[-1])
        if is_formed and all(label.strip("-") == label for label in labels):
            yield start, match.end()


def _telephones(text: str) -> Iterator[Span]:
    for pattern, least, most in ((_INTERNATIONAL, 8, 17), (_NORTH_AMERICAN, 10, 11), (_TRUNK, 9, 12)):
        for match in pattern.finditer(text):
            if least <= _n_digits(match[0]) <= most and _may_be_telephone(text, match):
                yield match.span()
    for match in _AFTER_WORD.finditer(text):
        if _n_digits(match[0]) <= 15 and _may_be_telephone(text, match):
            start, is_grouped = match.start(), not match[0].isdigit()
            if follows(_TELEPHONE_WORDS, text, start, reach=32) or (
                is_grouped and follows(_OFFICE_WORDS, text, start, reach=32)
            ):
                yield match.span()


def _n_digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _may_be_telephone(text: str, match: re.Match[str]) -> bool:
    number = match[0]
    is_bracketed_well = number.count("(") == number.count(")") <= 1
    return is_bracketed_well and not _DATE_LIKE.search(number) and not follows(_NO_TELEPHONE, text, match.start())


def _network_addresses(text: str) -> Iterator[Span]:
    for match in _ADDRESS_V4.finditer(text):
        if _is_host(match[0], IPv4Address) and not follows(_VERSION_WORDS, text, match.start(), reach=16):
            yield match.span()
    if text.count(":") < 2:
        return
    for match in _ADDRESS_V6.finditer(text):
        written = match[0].rstrip(".")
        if not written.endswith("::"):
            written = written.rstrip(":")
        is_long_enough = written.count(":") >= 2 and any(c.isdigit() for c in written)
        if is_long_enough and _is_host(written, IPv6Address):
            yield match.start(), match.start() + len(written)


def _is_host(written: str, kind: type[IPv4Address | IPv6Address]) -> bool:
    try:
        address = kind(written)
    except AddressValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast) and written != "255.255.255.255"


EMAIL = Rule(
    kind="email",
    summary=(
        "A mailbox: a local part of Latin letters, digits and . _ + % - before @, then a domain with a top level "
        "of letters."
    ),
    source="RFC 5321 §4.1.2, without quoted local parts and address literals",
    find=_emails,
    examples=(
        "Write to ‹ada.lovelace+books@mail.example.com›.",
        "mailto:‹j_müller@straße.example› (work)",
        "邮箱‹li@example.org›谢谢",
        "<‹x@a.example.co.uk›>",
        "--‹ada@example.com›",
        "Thanks...‹ada@example.com›",
    ),
    not_examples=(
        "Follow @ada on the site.",
        "The price is 5@20 each.",
        "..@example.com and ada.@example.com",
        "git@localhost",
        "ada@example.c0m1",
        "ada (at) example.com",
    ),
    misses=(
        "Disguised forms (ada at example dot com), quoted local parts, local parts in other scripts; of o'neil@… "
        "only what follows the apostrophe. A full stop without a space after it is taken into the domain."
    ),
)

PHONE = Rule(
    kind="phone",
    summary=(
        "A number of 8 to 15 digits after + or 00; a North American number with brackets, dots or dashes; a national "
        "one of 9 to 12 digits in groups, from 0; or 7 to 15 digits right after a word such as phone, tel, fax, call, "
        "and in groups after office, desk, newsroom and the like."
    ),
    source="ITU-T E.164 (length), E.123 (notation); North American Numbering Plan (area and exchange begin with 2-9)",
    find=_telephones,
    examples=(
        "Reach me at ‹+1 (555) 555-0100› today.",
        "‹(555) 555-0142› is her desk",
        "Office: ‹555-555-0199›, ask for Ada",
        "Rufen Sie ‹030 1234567› an.",
        "Bureau ‹01 23 45 67 89›",
        "London ‹020 7946 0018›",
        "‹0044 20 7946 0018›",
        "call ‹555-0123› before noon",
        "Tel.: ‹5555550123›",
        "‹+49 30 901820›",
        "Tel‹+44 20 7946 0018›",
        "Example newsroom ‹61-2 5550-1800›",
        "Office: ‹(852) 5550 6441›",
    ),
    not_examples=(
        "It was signed on 01-02-2003.",
        "Between 1996-1999 and 2003.",
        "ISBN 978-0-306-40615-7",
        "ISBN 0-306-40615-2",
        "There are 12345678 of them.",
        "It cost $555.555.0100 or so.",
        "On 01.02.2003 12.30 it rained.",
        "the phone of 1996",
        "a score of 555-555",
        "He was +5 on the day and +12 in all.",
        "2003-02-01 10:15",
        "call 1996-1997 the good years",
        "the office 12345678 times",
        "office 1996-1999",
    ),
    misses=(
        "Words for digits and vanity numbers (1-800-FLOWERS); local numbers without a telephone word before them; a "
        "blank after the plus; North American ones with blanks only; extensions. Lists of two-digit numbers from 0 "
        "look like French numbers."
    ),
)

IP_ADDRESS = Rule(
    kind="ip_address",
    summary=(
        "An IPv4 or IPv6 address that is not loopback, multicast, broadcast or unspecified; not after version, "
        "section and the like."
    ),
    source="RFC 791; RFC 4291 §2.2; RFC 5737 and 3849 for the examples",
    find=_network_addresses,
    examples=(
        "Logged in from ‹192.0.2.44›.",
        "host ‹2001:db8::8a2e:370:7334› answered",
        "via ‹::ffff:192.0.2.128›, port 80",
        "[‹2001:db8:0:1:1:1:1:1›]:443",
    ),
    not_examples=(
        "version 1.2.3.4 is out",
        "at 12:30:45 sharp",
        "127.0.0.1 and ::1",
        "999.1.1.1",
        "1.2.3.4.5",
        "std::vector and a::b",
        "§ 1.2.3.4",
    ),
    misses=(
        "Four-part version numbers without such a word are taken for addresses; an IPv6 address without any "
        "decimal digit is missed."
    ),
)
