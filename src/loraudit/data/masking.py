"""What may be shown of a record that must not be shown."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_SHOWN = 8
MASKED_WORD = "▮▮▮"
MASKED_NUMBER = "##"


def masked_snippet(text: str) -> str:
    """The first eight words and numbers of a text, each behind a mask of fixed width.

    Widths, marks and spelling are left out on purpose: with them, whoever holds a candidate text could
    recognise it.

    >>> masked_snippet("Dear Mr Okonjo, your 2 invoices")
    '▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ## ▮▮▮'
    """
    found = _TOKEN.findall(text[:2000])
    masks = [MASKED_NUMBER if token.isdecimal() else MASKED_WORD for token in found[:_SHOWN]]
    return " ".join(masks) + (" …" if len(found) > _SHOWN else "")
