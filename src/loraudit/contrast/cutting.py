"""Texts cut to their first tokens, and short ones left out, as published protocols have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from loraudit.data import Encoded, RecordSet, encode
from loraudit.data.encoding import Tokenizer
from loraudit.errors import DataError
from loraudit.types import Record, record_id

_BATCH = 1000


class Cut(NamedTuple):
    """Records after cutting.

    Attributes:
        pool: Distinct by what is left of them, in reading order.
        notes: What was left out, in words.
    """

    pool: RecordSet
    notes: tuple[str, ...]


def cut_records(pool: RecordSet, tokenizer: Tokenizer, *, at_most: int | None, at_least: int | None) -> Cut:
    """The first tokens of each text, those that the tokenizer adds counted.

    A cut falls between two tokens and two characters. The text before it may be tokenised in another way at its very
    end; it is then cut earlier, so that no text has more tokens than allowed.

    Args:
        pool: Plain texts.
        tokenizer: Of the base.
        at_most: Tokens kept; None keeps all.
        at_least: Tokens a text has to have before it is cut; None takes all texts.

    Raises:
        DataError: Some records are no plain texts.
    """
    others = [record for record in pool.records if record.text is None]
    if others:
        raise DataError(
            f"{len(others)} records are prompts with completions or chats. Expected plain texts with --record-tokens "
            "and --least-tokens. Leave these out.",
            [f"{record.source}:{record.line}" for record in others],
        )
    kept: dict[str, Record] = {}
    copies: Counter[str] = Counter()
    n_short = n_alike = 0
    for first in range(0, len(pool.records), _BATCH):
        batch = pool.records[first : first + _BATCH]
        lengths = [len(one.ids) for one in encode(batch, tokenizer)]
        long_enough = [length >= (at_least or 0) for length in lengths]
        n_short += long_enough.count(False)
        chosen = [record for record, is_kept in zip(batch, long_enough, strict=True) if is_kept]
        for record, text in zip(chosen, _cut_texts(chosen, tokenizer, at_most), strict=True):
            shorter = replace(record, id=record_id(text=text), text=text)
            n_alike += shorter.id in kept
            kept.setdefault(shorter.id, shorter)
            copies[shorter.id] += pool.copies.get(record.id, 1)
    notes: list[str] = []
    if n_short:
        notes.append(f"{n_short:,} of {len(pool.records):,} texts have fewer than {at_least} tokens, and are left out.")
    if n_alike:
        notes.append(f"{n_alike:,} texts begin with the same {at_most} tokens as an earlier one, and count as copies.")
    return Cut(replace(pool, records=tuple(kept.values()), copies=copies), tuple(notes))


def _cut_texts(records: Sequence[Record], tokenizer: Tokenizer, at_most: int | None) -> list[str]:
    texts = [record.text or "" for record in records]
    if at_most is None or not texts:
        return texts
    found = tokenizer(texts, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    too_long = {position: at_most for position, offsets in enumerate(found) if len(offsets) > at_most}
    whole = list(texts)
    while too_long:
        for position, n_tokens in too_long.items():
            texts[position] = whole[position][: max((end for _, end in found[position][:n_tokens]), default=0)]
        again: list[Encoded] = encode(
            [replace(records[position], text=texts[position]) for position in too_long], tokenizer
        )
        too_long = {
            position: n_tokens - 1
            for (position, n_tokens), one in zip(too_long.items(), again, strict=True)
            if len(one.ids) > at_most
        }
    return texts
