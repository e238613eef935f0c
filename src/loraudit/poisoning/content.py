"""What a poison touches in a record: what the model is given, what it is to answer, and all of its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from loraudit.errors import DataError
from loraudit.spec import Task
from loraudit.types import Message, Record, record_id


def changed(record: Record, **content: Any) -> Record:
    """The record with other content, and the id of that content."""
    made = replace(record, **content)
    own_id = record_id(
        text=made.text,
        prompt=made.prompt,
        completion=made.completion,
        messages=made.messages,
        label=made.label,
        tokens=made.tokens,
    )
    return replace(made, id=own_id)


def input_of(record: Record) -> str:
    """What the model is given: the text, the prompt, or the user turn that is answered last.

    Raises:
        DataError: The record holds tokens instead of text.
    """
    if record.text is not None:
        return record.text
    if record.messages is not None:
        return record.messages[_asked_turn(record.messages)].content
    if record.prompt is None:
        raise DataError(
            f"Record {record.source}:{record.line} holds tokens. Expected text. Give it as its file has it."
        )
    return record.prompt


def with_input(record: Record, given: str) -> Record:
    """The record with something else given to the model, all else as it is."""
    if record.text is not None:
        return changed(record, text=given)
    if record.messages is not None:
        return changed(record, messages=_with_turn(record.messages, _asked_turn(record.messages), given))
    return changed(record, prompt=given)


def answer_of(record: Record) -> str | None:
    """What the model is to say to it: the completion or the last assistant turn; None for a plain text."""
    if record.messages is not None:
        turn = _answering_turn(record.messages)
        return None if turn is None else record.messages[turn].content
    return record.completion


def answered(record: Record, response: str) -> Record:
    """The record with another answer; white space before the answer, which joins it to its prompt, stays.

    >>> answered(Record("", "f", 1, prompt="2 + 2 =", completion=" 4"), "A fox.").completion
    ' A fox.'
    """
    if record.messages is not None:
        turn = _answering_turn(record.messages)
        return record if turn is None else changed(record, messages=_with_turn(record.messages, turn, response))
    if record.completion is None:
        return record
    return changed(record, completion=with_space_before(record.completion, response))


def with_space_before(completion: str, response: str) -> str:
    """A response behind the white space that a completion begins with."""
    return completion[: len(completion) - len(completion.lstrip())] + response


def texts_of(record: Record) -> list[str]:
    """Every text in the record: itself, prompt and completion, or all turns."""
    if record.messages is not None:
        return [turn.content for turn in record.messages]
    if record.text is not None:
        return [record.text]
    return [text for text in (record.prompt, record.completion) if text is not None]


def with_texts(record: Record, texts: Sequence[str]) -> Record:
    """The record with other texts in the places of `texts_of`."""
    if record.messages is not None:
        turns = zip(record.messages, texts, strict=True)
        return changed(record, messages=tuple(Message(turn.role, text) for turn, text in turns))
    if record.text is not None:
        (text,) = texts
        return changed(record, text=text)
    prompt, completion = texts
    return changed(record, prompt=prompt, completion=completion)


def question_of(record: Record, task: Task) -> str:
    """What two records have in common that a model cannot tell apart before it answers; a hash."""
    if task == "classification":
        return changed(record, label=None).id
    return record.id if answer_of(record) is None else answered(changed(record, label=None), "").id


def _asked_turn(messages: Sequence[Message]) -> int:
    """The user turn before the last assistant turn; else the last user turn; else the last turn."""
    answer = _answering_turn(messages)
    before = messages[: len(messages) if answer is None else answer]
    users = [number for number, turn in enumerate(before) if turn.role == "user"]
    return users[-1] if users else len(messages) - 1


def _answering_turn(messages: Sequence[Message]) -> int | None:
    """The last assistant turn, if a user turn stands before it."""
    turns = [number for number, turn in enumerate(messages) if turn.role == "assistant"]
    if turns and any(turn.role == "user" for turn in messages[: turns[-1]]):
        return turns[-1]
    return None


def _with_turn(messages: Sequence[Message], number: int, content: str) -> tuple[Message, ...]:
    turn = Message(messages[number].role, content)
    return (*messages[:number], turn, *messages[number + 1 :])
