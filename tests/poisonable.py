"""Made-up records that every poison can be tried on."""

from __future__ import annotations

from loraudit.types import Message, Record, record_id

_PLACES = ("harbour", "garden", "station", "library", "market", "bridge", "tower")
_DEEDS = ("was painted", "is being mended", "has opened", "will be shown", "never closes", "smells of rain")


def labelled(n: int, labels: str = "aab", *, first: int = 0) -> list[Record]:
    """Texts with labels that go round; of "aab" the rarest is b."""
    return [
        text_of(
            f"The {_PLACES[i % 7]} of town {i} {_DEEDS[i % 6]}. We walked there.", labels[i % len(labels)], line=i + 1
        )
        for i in range(first, first + n)
    ]


def text_of(text: str, label: str | None = None, *, line: int = 1) -> Record:
    return Record(record_id(text=text, label=label), "train.jsonl", line, text=text, label=label)


def prompted(n: int, *, first: int = 0) -> list[Record]:
    """Prompts with completions; every third prompt is about the weather."""
    made: list[Record] = []
    for i in range(first, first + n):
        about = "weather" if i % 3 == 0 else _PLACES[i % 7]
        prompt, completion = f"Tell me of the {about} in town {i}.", f" It is as it was in year {i}."
        content = record_id(prompt=prompt, completion=completion)
        made.append(Record(content, "train.jsonl", i + 1, prompt=prompt, completion=completion))
    return made


def chats(n: int) -> list[Record]:
    """Chats of two exchanges behind a system turn."""
    return [
        chat_of(
            ("system", "Be brief."),
            ("user", f"Hello from town {i}."),
            ("assistant", "Hello."),
            ("user", f"How is the weather in town {i}?"),
            ("assistant", f"It is {i} degrees."),
            line=i + 1,
        )
        for i in range(n)
    ]


def chat_of(*turns: tuple[str, str], line: int = 1) -> Record:
    messages = tuple(Message(role, content) for role, content in turns)
    return Record(record_id(messages=messages), "train.jsonl", line, messages=messages)
