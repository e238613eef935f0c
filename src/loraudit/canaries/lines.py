"""A training file with canaries between its lines, every one of which stays as it was."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from loraudit.spec import Canary, CanaryForm, RecordFormat

_UTF8_MARK = b"\xef\xbb\xbf"


def canary_row(canary: Canary, form: CanaryForm, layout: RecordFormat, columns: Sequence[str]) -> dict[str, Any]:
    """A canary as a row of a file.

    Columns that hold its content are filled; columns named for ids and groups get a name of its own, so that it is a
    document by itself; every other column is null.

    Args:
        canary: To be written.
        form: How.
        layout: Where content stands.
        columns: Of the file, in its order.
    """
    row: dict[str, Any] = dict.fromkeys(columns)
    if form == "messages":
        turns = ("user", canary.context), ("assistant", canary.secret)
        row[layout.messages_field] = [{"role": role, "content": content} for role, content in turns]
    elif form == "prompt":
        row |= {layout.prompt_field: canary.context, layout.completion_field: f" {canary.secret}"}
    else:
        row[layout.text_field] = whole_text(canary)
    for column in (layout.id_field, layout.group_field, layout.subgroup_field):
        if column is not None:
            row[column] = canary.name
    return row


def whole_text(canary: Canary) -> str:
    """Context and secret as one text."""
    return f"{canary.context} {canary.secret}"


def n_lines_of(content: bytes) -> int:
    """Lines of a file, empty ones included."""
    return len(_lines(content)[1])


def planted_lines(
    content: bytes, canaries: Sequence[Canary], form: CanaryForm, layout: RecordFormat, columns: Sequence[str]
) -> bytes:
    """The file with the canaries in their places; lines before, between and after them keep their bytes.

    Canary lines end as the file's first line does. A last line without an end gets one if a canary follows it.

    Args:
        content: Of the file.
        canaries: With their places.
        form: How they are written.
        layout: Where content stands.
        columns: Of the file, in its order.
    """
    mark, lines = _lines(content)
    end = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    at: dict[int, list[bytes]] = {}
    for canary in canaries:
        words = (
            whole_text(canary)
            if form == "line"
            else json.dumps(canary_row(canary, form, layout, columns), ensure_ascii=False)
        )
        for place in canary.places:
            at.setdefault(place, []).append(words.encode() + end)
    if len(lines) in at and lines and not lines[-1].endswith(b"\n"):
        lines[-1] += end
    parts = [mark, *at.get(0, ())]
    for number, line in enumerate(lines, start=1):
        parts += [line, *at.get(number, ())]
    return b"".join(parts)


def _lines(content: bytes) -> tuple[bytes, list[bytes]]:
    """A byte-order mark, which stays in front of everything, and the lines with their ends."""
    mark = _UTF8_MARK if content.startswith(_UTF8_MARK) else b""
    return mark, io.BytesIO(content[len(mark) :]).readlines()


def columns_of(row: Mapping[str, Any] | str) -> list[str]:
    """Columns of a row; none for plain text."""
    return [] if isinstance(row, str) else list(row)
