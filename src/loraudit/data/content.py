"""What one row says: a checked record, or why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from loraudit.data.streaming import Row
from loraudit.errors import type_name
from loraudit.spec import RecordFormat
from loraudit.types import Message, Record, record_id

_CONTENT_HASH = re.compile("[0-9a-f]{64}")
_COLUMN_NAME = re.compile(r"[^\W\d][\w.-]{0,39}")
_COLUMN_NAMES = {"group": "group", "own_id": "id", "subgroup": "subgroup", "label": "label"}


def record_of(
    row: Row | Record,
    path: str,
    line: int,
    layout: RecordFormat,
    label_field: str | None,
    rewritten_field: str | None = None,
) -> Record | str:
    """The record in a row, or why there is none.

    Args:
        row: As its file holds it, or a record at hand.
        path: That file.
        line: Of the row.
        layout: Where the content stands.
        label_field: Column of the label, where there is one.
        rewritten_field: Column of the same text in another style, which the row may lack.
    """
    if isinstance(row, Record):
        return _record_problem(row) or row
    if not isinstance(row, str | Mapping):
        return f"is {type_name(row)}, not a text, a row of columns or a record"
    if isinstance(row, str):
        if label_field is not None:
            return f"is plain text without the label column '{label_field}'; give .jsonl, .csv, .tsv or .parquet"
        return _check_text(row, "the text") or Record(record_id(text=row), path, line, text=row)
    labels: dict[str, str] = {}
    for attribute, column in (
        ("group", layout.group_field),
        ("own_id", layout.id_field),
        ("subgroup", layout.subgroup_field),
        ("label", label_field),
    ):
        if column is None:
            continue
        if row.get(column) is None:
            return f"lacks the {_COLUMN_NAMES[attribute]} column '{column}'"
        labels[attribute] = str(row[column])
        if problem := _check_text(labels[attribute], f"'{column}'"):
            return problem
    content = _content(row, layout)
    if isinstance(content, str):
        return content
    if rewritten_field is not None and row.get(rewritten_field):
        labels["rewritten"] = str(row[rewritten_field])
        if problem := _check_text(labels["rewritten"], f"'{rewritten_field}'"):
            return problem
    return Record(record_id(**content, label=labels.get("label")), path, line, **content, **labels)  # type: ignore[arg-type]


def _record_problem(record: Record) -> str | None:
    if not _CONTENT_HASH.fullmatch(record.id):
        return f"has the id '{record.id}', not the sha256 of its content"
    texts = {"the text": record.text, "the prompt": record.prompt, "the completion": record.completion}
    texts |= {f"turn {number}": turn.content for number, turn in enumerate(record.messages or (), start=1)}
    problems = (_check_text(text, name) for name, text in texts.items() if text is not None)
    return next((problem for problem in problems if problem), None)


def _content(row: Mapping[str, Any], layout: RecordFormat) -> dict[str, Any] | str:
    """What the row says: text, messages, or prompt and completion; or what is wrong with it."""
    if row.get(layout.text_field) is not None:
        text = row[layout.text_field]
        return _check_text(text, f"'{layout.text_field}'") or {"text": text}
    parts = layout.text_field.split("+")
    if len(parts) > 1 and layout.text_field not in row and any(part in row for part in parts):
        return _joined_columns(row, parts)
    if row.get(layout.messages_field) is not None:
        messages = _messages(row[layout.messages_field])
        return f"'{layout.messages_field}' {messages}" if isinstance(messages, str) else {"messages": messages}
    prompt, completion = row.get(layout.prompt_field), row.get(layout.completion_field)
    if prompt is not None and completion is not None:
        problem = _check_text(prompt, f"'{layout.prompt_field}'")
        problem = problem or _check_text(completion, f"'{layout.completion_field}'")
        return problem or {"prompt": prompt, "completion": completion}
    if layout.text_field in row:
        return f"'{layout.text_field}' is null"
    names = [str(name) for name in list(row)[:8]]
    columns = ", ".join(f"'{name}'" for name in names) or "none"
    if not all(_COLUMN_NAME.fullmatch(name) for name in names):  # without a header they are the first record
        columns = f"{len(row)} columns, whose names look like content (is the header line missing?)"
    return (
        f"has none of the columns '{layout.text_field}', '{layout.messages_field}' or "
        f"'{layout.prompt_field}' with '{layout.completion_field}'; it has {columns}. "
        "Name the column with --text-field"
    )


def _joined_columns(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any] | str:
    """A text of several columns, such as the question and the answer of a pair: a line each."""
    missing = [column for column in columns if row.get(column) is None]
    if missing:
        return f"lacks the column '{missing[0]}' of the text '{'+'.join(columns)}'"
    problems = (_check_text(row[column], f"'{column}'") for column in columns)
    problem = next((problem for problem in problems if problem), None)
    return problem or {"text": "\n".join(str(row[column]) for column in columns)}


def _check_text(value: object, name: str) -> str | None:
    if not isinstance(value, str):
        return f"{name} is {type_name(value)}, not a string"
    if "\x00" in value:
        return f"{name} holds a NUL character"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"{name} holds a character that is not valid Unicode (U+{ord(value[error.start]):04X})"
    return None


def _messages(value: object) -> tuple[Message, ...] | str:
    if isinstance(value, str):  # CSV and TSV can only hold a chat as JSON text
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return "is a string that is not JSON; expected a list of {role, content}"
    if not isinstance(value, list) or not value:
        return "is not a non-empty list of {role, content}"
    turns: list[Message] = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            return f"has no role in turn {number}; expected {{role, content}}"
        problem = _check_text(turn["role"], f"turn {number}: role")
        problem = problem or _check_text(turn.get("content"), f"turn {number}: content")
        if problem:
            return problem
        turns.append(Message(turn["role"], turn["content"]))
    return tuple(turns)
