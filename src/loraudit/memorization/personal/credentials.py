"""Rules for what opens a door: keys, tokens, passwords."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from loraudit.memorization.matches import Span
from loraudit.memorization.personal.fields import Rule, follows

_KNOWN = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}+"
    r"|gh[pousr]_[A-Za-z0-9]{36,255}+"
    r"|github_pat_[A-Za-z0-9_]{22,255}+"
    r"|glpat-[A-Za-z0-9_-]{20,64}+"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,250}+"
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,250}+"
    r"|sk-[A-Za-z0-9_-]{20,250}+"
    r"|AIza[A-Za-z0-9_-]{35}+"
    r"|hf_[A-Za-z0-9]{30,64}+"
    r"|npm_[A-Za-z0-9]{36}+"
    r"|SG\.[A-Za-z0-9_-]{16,32}+\.[A-Za-z0-9_-]{32,64}+"
    r"|eyJ[A-Za-z0-9_-]{8,4096}+\.[A-Za-z0-9_-]{8,8192}+\.[A-Za-z0-9_-]{8,1024}+"
    r")(?![A-Za-z0-9_-])"
)
# The body ends at the next row of five dashes, so every character is read once.
_KEY_BLOCK = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----)){0,16384}+-----END (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_ASSIGNED = re.compile(r"(?<=[=:\s\"'])(?<![\w/+.~-])[A-Za-z0-9_/+.~-]{12,256}+={0,2}+(?![A-Za-z0-9])")
_KEY_WORDS = re.compile(
    r"(?i:(?:api|access|secret|private|auth|account|encryption|signing)[ _-]?(?:key|token)"
    r"|client[ _-]?secret|token|secret|bearer|apikey)"
    r"(?i:[ _-](?:key|id|is))?[\"']?(?:[ \t]{0,2}(?::|=>|=)[ \t]{0,2}|(?<=earer) | is )[\"']?\Z"
)
_PASSWORD = re.compile(r"(?<=[=:\s\"'])(?<![^\s\"'=:])[^\s\"'<>]{6,128}+")
_PASSWORD_WORDS = re.compile(
    r"(?i:\b(?:\w{1,16}_)?(?:password|passwd|passphrase|pwd|kennwort|passwort|contraseña))"
    r"[\"']?[ \t]{0,2}(?::|=)[ \t]{0,2}[\"']?\Z"
)
_LEAST_BITS = 3.0
# Most texts hold none of these; looking for them first takes a tenth of the time of the patterns.
_OF_KEYS = ("key", "token", "secret", "bearer")
_OF_PASSWORDS = ("passw", "passphrase", "pwd", "kennwort", "contraseña")

_URL = re.compile(
    r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}+://[^\s/:@\"'<>]{1,128}+:[^\s/@\"'<>]{1,256}+@(?:[\w-]{1,63}+(?:\.[\w-]{1,63}+){0,8}+|\[[0-9A-Fa-f:.]{2,45}+\])(?::[0-9]{1,5}+)?"
)
_PLACEHOLDER = re.compile(r"(?i:[<\[{$*].*|x{3,}|\*{3,}|password|your[_-]?\w*|changeme\W*)")


def _secrets(text: str) -> Iterator[Span]:
    for pattern in (_KNOWN, _KEY_BLOCK):
        for match in pattern.finditer(text):
            yield match.span()
    lowered = text.lower()
    if any(word in lowered for word in _OF_KEYS):
        for match in _ASSIGNED.finditer(text):
            if _looks_random(match[0]) and follows(_KEY_WORDS, text, match.start()):
                yield match.span()
    if any(word in lowered for word in _OF_PASSWORDS):
        yield from _passwords(text)


def _passwords(text: str) -> Iterator[Span]:
    for match in _PASSWORD.finditer(text):
        if follows(_PASSWORD_WORDS, text, match.start()):
            value = match[0].rstrip(",;.)")
            if _has_digit_or_sign(value) and not _PLACEHOLDER.fullmatch(value):
                yield match.start(), match.start() + len(value)


def _looks_random(value: str) -> bool:
    has_both = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return has_both and bits_per_character(value) >= _LEAST_BITS


def _has_digit_or_sign(value: str) -> bool:
    return len(value) >= 6 and not value.isalpha()


def bits_per_character(value: str) -> float:
    """Shannon entropy of the characters of a text, bits.

    >>> bits_per_character("aaaa"), bits_per_character("abab")
    (0.0, 1.0)
    """
    counts = Counter(value).values()
    return math.log2(len(value)) - sum(n * math.log2(n) for n in counts) / len(value)


def _urls(text: str) -> Iterator[Span]:
    if "://" not in text:
        return
    for match in _URL.finditer(text):
        yield match.span()


SECRET = Rule(
    kind="secret",
    summary=(
        "A token with a known prefix (AWS, GitHub, GitLab, Slack, Stripe, OpenAI, Google, Hugging Face, npm, "
        "SendGrid, JSON web tokens); a block of a private key; 12 or more signs with letters, digits and at least "
        "3 bits a sign after api key, token, secret and : or =; six or more signs that are not letters alone "
        "after password and : or =."
    ),
    source=(
        "providers' published token forms; RFC 7468 (PEM); RFC 7519 (JWT); entropy as in Meli et al. 2019, NDSS "
        "(10.14722/ndss.2019.23418)"
    ),
    find=_secrets,
    examples=(
        "id ‹AKIAIOSFODNN7EXAMPLE› here",
        "export T=‹ghp_" + "a1B2" * 9 + "›",
        "key: ‹sk-" + "Ab3dEf6h" * 3 + "›.",
        'api_key = "‹9f8e7d6c5b4a39281706›"',
        "password: ‹hunter2!x›,",
        "‹-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE\n-----END RSA PRIVATE KEY-----› end",
        "‹-----BEGIN PRIVATE KEY-----›",
    ),
    not_examples=(
        "the sk-learning of it",
        "The secret: nothing remains forever.",
        "password: required",
        "token = aaaaaaaaaaaa1111",
        "AKIA is a prefix",
        "-----BEGIN PUBLIC KEY-----",
        "password: <your-password>",
        "a secret 1234567890abcdef of his",
    ),
    misses=(
        "Tokens of other providers without such a word before them; passwords in running text (my password is …); "
        "a key block whose end is missing or more than 16384 signs away counts with its first line only."
    ),
)

URL_WITH_CREDENTIALS = Rule(
    kind="url_with_credentials",
    summary="A URL with a user and a password before its host; up to the port.",
    source="RFC 3986 §3.2.1",
    find=_urls,
    examples=(
        "clone ‹https://ada:hunter2@git.example.com›/repo.git",
        "‹postgres://app:s3cr3t@192.0.2.7:5432›/db",
        "‹ftp://u:p@localhost›",
    ),
    not_examples=(
        "https://example.com/a:b@c",
        "https://ada@example.com/",
        "see http://example.com:8080/x",
        "a:b@example.com",
    ),
    misses=(
        "Passwords that hold / or @ unescaped; keys in the query of a URL (the rule for secrets finds those with "
        "a known prefix)."
    ),
)
