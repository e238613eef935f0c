"""Which command a spec file belongs to, told from its keys: no file says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from loraudit.errors import unknown_name
from loraudit.spec.making import Request
from loraudit.spec.requests import AuditSpec
from loraudit.spec.schema import SCHEMAS

REQUESTS: Mapping[str, type[Request]] = {kind.command: kind for kind in SCHEMAS.values() if issubclass(kind, Request)}
"""Every request by its command."""


def request_named(command: str) -> type[Request]:
    """The request of a command.

    Raises:
        ConfigError: There is no such command, or it takes no spec.
    """
    if command not in REQUESTS:
        raise unknown_name("command", command, REQUESTS)
    return REQUESTS[command]


def kinds_of(values: Mapping[str, Any]) -> list[type[Request]]:
    """The requests that keys fit best, the likeliest first.

    A resolved request (`spec.json`) has all keys of its kind. In a file by hand those count that a kind does not have;
    where several have all of them, an audit goes first, then what lacks the fewest keys that it needs.

    >>> [kind.command for kind in kinds_of({"base": "b", "task": "t.jsonl"})]
    ['robustness', 'forecast', 'tune']
    """
    keys = values.keys() - {"schema_version"}
    strangers = {command: len(_strangers(kind, keys, values)) for command, kind in REQUESTS.items()}
    fitting = [kind for command, kind in REQUESTS.items() if strangers[command] == min(strangers.values())]
    return sorted(fitting, key=lambda kind: (kind is not AuditSpec, len(_missing(kind, keys))))


def _strangers(kind: type[Request], keys: Collection[str], values: Mapping[str, Any]) -> set[str]:
    """Keys that a kind does not have, or that a resolved request of the kind would have."""
    unknown = set(keys) - kind.model_fields.keys()
    return unknown | (kind.model_fields.keys() - set(keys)) if "schema_version" in values else unknown


def _missing(kind: type[Request], keys: Collection[str]) -> set[str]:
    return {name for name, field in kind.model_fields.items() if field.is_required() and name not in keys}
