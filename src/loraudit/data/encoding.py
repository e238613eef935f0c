"""Records to token ids and the mask of tokens that training predicts.

The tokenizer and its chat template are used as training used them: one call per record, never
decoded text tokenised again, never a token added to the vocabulary.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from loraudit.errors import DataError
from loraudit.types import BoolArray, IntArray, Record, RecordFacts, Tokens, record_id

ASSISTANT = "assistant"


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    is_fast: bool
    chat_template: Any
    eos_token_id: int | None

    def __call__(self, text: list[str], **options: Any) -> Any:
        """Token ids, and offsets where asked for."""
        ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """A chat as text or token ids."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One record as token ids.

    Attributes:
        ids: [L] int32.
        is_audited: [L] tokens whose prediction counts; the first token has no prediction.
    """

    ids: IntArray
    is_audited: BoolArray


def audited_text(record: Record, span: str) -> str:
    """The text whose tokens are audited: completion or assistant turns, or everything."""
    if record.text is not None:
        return record.text
    if record.messages is not None:
        return "\n".join(m.content for m in record.messages if span == "all" or m.role == ASSISTANT)
    return (record.prompt or "") + (record.completion or "") if span == "all" else record.completion or ""


def record_facts(records: Sequence[Record], span: str) -> RecordFacts:
    """Bytes and zlib bytes of each record's audited text."""
    texts = [audited_text(record, span).encode() for record in records]
    return RecordFacts(
        np.array([len(text) for text in texts], dtype=np.int64),
        np.array([len(zlib.compress(text)) for text in texts], dtype=np.int64),
    )


def encode(
    records: Sequence[Record], tokenizer: Tokenizer, *, span: str = "trained", append_eos: bool = False
) -> list[Encoded]:
    """Tokenise records as training did.

    Plain text and prompt + completion go through the tokenizer with the special tokens it adds by
    itself; chats through its chat template; token ids stay as they are. A token that holds any character
    of the completion or of an assistant turn is audited.

    Args:
        records: Any mix of forms.
        tokenizer: Of the audited model.
        span: "trained", "all", or "answer": of a chat, the words of the last assistant turn without what the template
            writes around them; of all else as "trained".
        append_eos: Add the end-of-text token, audited, where the record does not end with it.

    Raises:
        DataError: The tokenizer has no chat template, or a template that cannot be followed turn by
            turn; every such record is listed.
    """
    texts: list[str] = []
    spans: list[list[tuple[int, int]]] = []
    problems: list[str] = []
    masks: dict[int, tuple[IntArray, BoolArray]] = {}
    for position, record in enumerate(records):
        text, audited = "", []
        try:
            if record.tokens is not None:
                ids, is_audited = record.tokens.ids, record.tokens.is_audited
                mask = np.array(is_audited, dtype=bool) if span != "all" else np.ones(len(ids), dtype=bool)
                masks[position] = np.array(ids, dtype=np.int32), mask
            elif record.messages is None:
                text = record.text if record.text is not None else f"{record.prompt}{record.completion}"
                audited = [(len(record.prompt or "") if span != "all" else 0, len(text))]
            elif span == "trained" and _marks_generation(tokenizer):
                masks[position] = _template_mask(record, tokenizer)
            else:
                text, audited = _render(record, tokenizer, span)
        except Exception as error:  # templates are programs of strangers and may fail in any way
            problems.append(f"{record.source}:{record.line}: {error}")
        texts.append(text)
        spans.append(audited)
    if problems:
        raise DataError(f"{len(problems)} chats cannot be rendered with the model's chat template.", problems)

    encoded = {i: Encoded(ids, mask) for i, (ids, mask) in masks.items()}
    for is_chat in (False, True):
        where = [i for i, r in enumerate(records) if (r.messages is not None) is is_chat and i not in masks]
        rows = _tokenise(tokenizer, [texts[i] for i in where], add_special_tokens=not is_chat) if where else []
        for i, row in zip(where, rows, strict=True):
            if span == "all" or records[i].text is not None:
                mask = np.ones(len(row.ids), dtype=bool)
            elif row.reach is not None:
                mask = _overlaps(row.reach, row.is_added, spans[i])
            else:
                mask = _agreeing(tokenizer, row.ids, texts[i], spans[i], add_special_tokens=not is_chat)
            encoded[i] = Encoded(row.ids, mask)
    ordered = [encoded[i] for i in range(len(records))]
    return [_with_eos(item, tokenizer.eos_token_id) for item in ordered] if append_eos else ordered


def token_record(item: Encoded, *, source: str, line: int) -> Record:
    """A record that is these tokens, for training or scoring what is not to be tokenised again.

    Args:
        item: The tokens.
        source: Where they are from, for messages.
        line: Its number there.
    """
    tokens = Tokens(tuple(item.ids.tolist()), tuple(item.is_audited.tolist()))
    return Record(record_id(tokens=tokens), source, line, tokens=tokens)


def token_texts(tokenizer: Any, ids: Sequence[int]) -> dict[int, str]:
    """The text each token adds behind another one; a token of part of a character shows as "\ufffd"."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    before = str(tokenizer.decode(anchor))
    pairs = tokenizer.batch_decode([[*anchor, token] for token in ids], clean_up_tokenization_spaces=False)
    return {
        token: pair[len(before) :] if pair.startswith(before) else str(tokenizer.decode([token]))
        for token, pair in zip(ids, pairs, strict=True)
    }


class _Row(NamedTuple):
    """One tokenised text.

    Attributes:
        ids: [L].
        reach: [L, 2] first and last-plus-one character of each token, None where the tokenizer cannot tell.
        is_added: [L] tokens that the tokenizer put around the text.
    """

    ids: IntArray
    reach: IntArray | None
    is_added: BoolArray


def _tokenise(tokenizer: Tokenizer, texts: list[str], *, add_special_tokens: bool) -> list[_Row]:
    options: dict[str, Any] = {"add_special_tokens": add_special_tokens, "verbose": False}
    if not tokenizer.is_fast:
        rows = tokenizer(texts, **options)["input_ids"]
        return [_Row(np.asarray(ids, dtype=np.int32), None, np.zeros(len(ids), dtype=bool)) for ids in rows]
    output = tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True, **options)
    columns = output["input_ids"], output["offset_mapping"], output["special_tokens_mask"]
    made: list[_Row] = []
    for ids, offsets, added in zip(*columns, strict=True):
        is_added = np.asarray(added, dtype=bool)
        made.append(_Row(np.asarray(ids, dtype=np.int32), _reach(offsets, is_added), is_added))
    return made


def _reach(offsets: Sequence[tuple[int, int]], is_added: BoolArray) -> IntArray:
    """Characters of each token, blanks included that the tokenizer trims from its offsets.

    A token is taken to begin no later than where the one before it ended, so that every character
    belongs to some token.
    """
    reach = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    ended = 0
    for token in np.flatnonzero(~is_added):
        start, end = reach[token]
        reach[token] = min(start, ended), end if end > start else max(end, ended + 1)
        ended = max(ended, int(reach[token, 1]))
    return reach


def _overlaps(reach: IntArray, is_added: BoolArray, spans: list[tuple[int, int]]) -> BoolArray:
    """Tokens that hold a character of a span, and what the tokenizer adds behind a text that ends in one."""
    starts, ends = reach.T
    mask = np.zeros(len(reach), dtype=bool)
    for start, end in spans:
        mask |= (ends > start) & (starts < end) & ~is_added
    own = np.flatnonzero(~is_added)
    if len(own) and mask[own[-1]]:
        mask[own[-1] + 1 :] = True
    return mask


def _agreeing(
    tokenizer: Tokenizer, ids: IntArray, text: str, spans: list[tuple[int, int]], *, add_special_tokens: bool
) -> BoolArray:
    """The same without offsets: a span starts where the tokens of the text before it stop agreeing."""

    def n_agreeing(end: int) -> tuple[int, bool]:
        """How many leading tokens the text up to `end` shares with the whole, and whether those are all it has."""
        (row, *_) = _tokenise(tokenizer, [text[:end]], add_special_tokens=add_special_tokens)
        shared = min(len(row.ids), len(ids))
        differs = np.flatnonzero(row.ids[:shared] != ids[:shared])
        n_shared = int(differs[0]) if len(differs) else shared
        return n_shared, n_shared == len(row.ids)

    mask = np.zeros(len(ids), dtype=bool)
    for start, end in spans:
        first, _ = n_agreeing(start)
        last, is_whole = (len(ids), True) if end == len(text) else n_agreeing(end)
        mask[first : last + (not is_whole)] = True  # a token that reaches beyond the span belongs to it
    return mask


def _marks_generation(tokenizer: Tokenizer) -> bool:
    return "{% generation" in str(tokenizer.chat_template or "").replace("{%-", "{%")


def _turns(record: Record) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in record.messages or ()]


def _template_mask(record: Record, tokenizer: Tokenizer) -> tuple[IntArray, BoolArray]:
    output = tokenizer.apply_chat_template(
        _turns(record), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids = np.asarray(output["input_ids"], dtype=np.int32)
    return ids, np.asarray(output["assistant_masks"], dtype=bool)


def _render(record: Record, tokenizer: Tokenizer, span: str) -> tuple[str, list[tuple[int, int]]]:
    """A chat as text, and where in it the audited turns stand."""
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template; give prompt and completion columns instead")
    turns = _turns(record)
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    if span == "all":
        return text, [(0, len(text))]
    if span == "answer":
        return text, _answer(turns, text, tokenizer)
    spans: list[tuple[int, int]] = []
    for number, turn in enumerate(turns):
        if turn["role"] != ASSISTANT:
            continue
        before = ""
        if number:  # few templates can render an empty chat
            before = str(tokenizer.apply_chat_template(turns[:number], tokenize=False, add_generation_prompt=True))
        after = str(tokenizer.apply_chat_template(turns[: number + 1], tokenize=False))
        if not (text.startswith(after) and after.startswith(before)):
            raise ValueError(
                f"the template changes earlier turns when turn {number + 1} is added, so the trained tokens "
                "cannot be located; audit the whole chat with --span all"
            )
        spans.append((len(before), len(after)))
    return text, spans


def _answer(turns: list[dict[str, str]], text: str, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Where the words of the last assistant turn stand in a rendered chat; nowhere without such a turn."""
    numbers = [number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    if not numbers:
        return []
    words = turns[numbers[-1]]["content"].strip()  # as many templates write it
    before = ""
    if numbers[-1]:
        before = str(tokenizer.apply_chat_template(turns[: numbers[-1]], tokenize=False, add_generation_prompt=True))
    start = text.find(words, len(before)) if text.startswith(before) else text.rfind(words)
    if start < 0:
        raise ValueError("the template changes what the assistant says, so its words cannot be located")
    return [(start, start + len(words))]


def _with_eos(item: Encoded, eos_token_id: int | None) -> Encoded:
    if eos_token_id is None:
        raise DataError("--append-eos was asked for, but the tokenizer has no end-of-text token. Leave it out.")
    if len(item.ids) and item.ids[-1] == eos_token_id:
        return Encoded(item.ids, np.append(item.is_audited[:-1], True))
    return Encoded(np.append(item.ids, np.int32(eos_token_id)), np.append(item.is_audited, True))
