"""What of a request and of words about it may leave this machine: no credentials, no folders of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from loraudit.errors import scrubbed, visible
from loraudit.spec import Request

_PLACE = re.compile(r"file:/|~|\.{1,2}[/\\]|/|\\|[A-Za-z]:[/\\]")
_BELOW = r"[/\\][^\s'\"`,;:|<>()\[\]{}]+"
_IN_WORDS = re.compile(r"(?<![\w.~/:<-])(?:file:/{1,3}|~[\w.-]*|[A-Za-z]:)?" + _BELOW)
"""A path from the root or from a home; not the fraction 1/400, not the rest of an address."""
_LONGEST = 500


class Places:
    """Folders and files of this machine that a request names, to be reduced to their last names.

    A report shows models and files as they were given, to the person who gave them. A tracking server and a public
    model page are read by others, whom the folders before a name do not concern.

    Args:
        named: Strings of the request; those that are no paths are passed over.

    Examples:
        >>> Places(["/data/clinic/notes v2.jsonl"]).out_of("Read '/data/clinic/notes v2.jsonl' and /tmp/x/y.csv.")
        "Read 'notes v2.jsonl' and y.csv."
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._names: dict[str, str] = {}
        for text in [*named, str(Path.home()), str(Path.cwd())]:
            if is_place(text) or _is_relative_place(text):
                name = last_name(text)
                self._names |= {text.rstrip("/\\"): name, str(Path(text).absolute()): name}
        self._names = {place: name for place, name in self._names.items() if len(place) > 1}

    @classmethod
    def of(cls, request: Request, *others: str | Path) -> Places:
        """Those that a request names, and others."""
        return cls([*_strings(request.model_dump(mode="json")), *map(str, others)])

    def out_of(self, words: str) -> str:
        """The words without credentials and with the last name of every place that is not relative."""
        words = scrubbed(words)
        for place in sorted(self._names, key=len, reverse=True):
            if is_place(place):
                found = rf"(?<![\w.~-]){re.escape(place)}({_BELOW})?(?![\w-])"
                words = re.sub(found, lambda hit, name=self._names[place]: _tail(hit[1]) if hit[1] else name, words)
        return _IN_WORDS.sub(lambda found: _tail(found[0]), words)

    def value(self, value: Any) -> Any:
        """A value of a request, whole, with every string in it as `out_of` gives it."""
        if isinstance(value, str):
            return scrubbed(last_name(value)) if is_place(value) else self.out_of(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def is_place(text: str) -> bool:
    """Whether a whole string is a path that says where on this machine something is.

    >>> is_place("/data/a.jsonl"), is_place("~/a"), is_place("org/model"), is_place("members.jsonl")
    (True, True, False, False)
    """
    return len(text) > 1 and _PLACE.match(text) is not None


def last_name(path: str) -> str:
    r"""The last part of a path of either kind.

    >>> last_name("/data/tuned/"), last_name("C:\\data\\tuned")
    ('tuned', 'tuned')
    """
    plain = path.removeprefix("file:").rstrip("/\\")
    kind = PureWindowsPath if "\\" in plain and os.sep not in plain else PurePosixPath
    return kind(plain).name or "…"


def asked(request: Request, places: Places) -> dict[str, str]:
    """The fields of a request that make it what it is, as short strings; those that say where it runs are left out."""
    fields = request.model_dump(mode="json", exclude=set(request.how_not_what))
    kept = {name: places.value(value) for name, value in fields.items() if value is not None and value != []}
    return {name: short(value if isinstance(value, str) else json.dumps(value)) for name, value in kept.items()}


def short(words: str, limit: int = _LONGEST) -> str:
    """Words on one line, cut where loggers would refuse them."""
    line = visible(words).replace("\n", " ")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _is_relative_place(text: str) -> bool:
    return ("/" in text or os.sep in text) and "\n" not in text and len(text) < 4096 and os.path.exists(text)  # noqa: PTH110


def _tail(path: str) -> str:
    """The last name in a path found in words, with the full stop that ended the sentence."""
    kept = path.rstrip(".")
    return last_name(kept) + path[len(kept) :]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
