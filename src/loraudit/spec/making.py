"""From raw values to a checked request, and what makes two requests the same."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import ValidationError

from loraudit.errors import ConfigError, NewerVersion
from loraudit.spec.form import SCHEMA_VERSION, Strict


class Request(Strict):
    """What every request on disk has: a command it belongs to, and fields that do not change what it asks."""

    command: ClassVar[str]
    """The command of the command line that takes it."""
    how_not_what: ClassVar[frozenset[str]]
    """Fields that change how it is carried out, judged or shown, never what it finds: not part of its identity."""
    added_later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after the first runs: while they hold their default a request keeps the hash it had."""
    known_by: ClassVar[frozenset[str]] = frozenset()
    """Keys that tell a resolved request of the first schema, which did not state its version."""


AnyRequest = TypeVar("AnyRequest", bound=Request)


def spec_hash(spec: Request) -> str:
    """Hex sha256 of what the spec asks; two specs with the same hash share a run folder."""
    defaults = {name: type(spec).model_fields[name].default for name in spec.added_later}
    unused = {name for name, default in defaults.items() if getattr(spec, name) == default}
    asked = {name: value for name, value in _asked(spec).items() if name not in unused}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def differing_fields(first: Request, second: Request) -> list[str]:
    """`field: first → second` for each field in which two requests of one kind differ."""
    one, two = _asked(first), _asked(second)
    return [f"{name}: {one[name]!r} → {two[name]!r}" for name in one if one[name] != two[name]]


def _asked(spec: Request) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude=set(spec.how_not_what))


def spec_content(spec: Request) -> str:
    """A request as `spec.json` holds it, with its schema version."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **spec.model_dump(mode="json")}, indent=2) + "\n"


def read_spec_file(path: Path, *, kind: str = "Spec") -> dict[str, Any]:
    """Keys of a TOML, YAML or JSON file; `kind` is what messages call it.

    Raises:
        ConfigError: The file cannot be read, is of another kind or is not a table of keys.
    """
    readers = {".toml": tomllib.loads, ".yaml": yaml.safe_load, ".yml": yaml.safe_load, ".json": json.loads}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{kind} file '{path}' is of an unknown kind. Expected .toml, .yaml or .json.")
    try:
        keys = reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{kind} file '{path}' cannot be read: {error.strerror}. Check the path.") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{kind} file '{path}' cannot be parsed: {error}. Mend it at that place.") from None
    if not isinstance(keys, dict):
        raise ConfigError(f"{kind} file '{path}' holds no keys. Expected lines such as: model = \"my-adapter\".")
    return {str(name).replace("-", "_"): value for name, value in keys.items()}


def refuse_newer(version: object, thing: str) -> None:
    """Refuse what a later version wrote.

    Args:
        version: Its schema version, if it states one.
        thing: What it is, for the message.

    Raises:
        NewerVersion: It is larger than this version's.
    """
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerVersion(
            f"{thing} was written by a newer loraudit (schema {version}, this one reads up to {SCHEMA_VERSION}). "
            "Run: pip install --upgrade loraudit"
        )


def make_request(kind: type[AnyRequest], values: Mapping[str, Any]) -> AnyRequest:
    """A request of this kind from raw values.

    Raises:
        ConfigError: Every problem, one line each, by flag name; or the request is of a newer version.
    """
    asked = dict(values)
    is_resolved = "schema_version" in asked or (kind.known_by and asked.keys() >= kind.known_by)
    if is_resolved:  # what a resolved request holds by default was not asked for
        defaults = {name: field.default for name, field in kind.model_fields.items()}
        asked = {
            name: value for name, value in asked.items() if name not in defaults or value != _plain(defaults[name])
        }
    refuse_newer(asked.pop("schema_version", None), "The spec")
    try:
        spec = kind.model_validate(asked)
    except ValidationError as error:
        raise ConfigError(explain(error, kind)) from None
    try:
        content = spec.model_dump_json()
    except ValueError:
        raise ConfigError("A name in the request is not valid Unicode. Expected UTF-8; rename that file.") from None
    try:
        os.fsencode(content)
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"The request holds '{content[error.start]}', which this system's encoding ({error.encoding}) cannot "
            "express. Run again with PYTHONUTF8=1 in the environment."
        ) from None
    return spec


def _plain(value: object) -> object:
    """A default as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def explain(error: ValidationError, kind: type[Strict], *, where: str = "") -> str:
    """Every problem of a request, one line each, by flag name.

    Args:
        error: What pydantic found.
        kind: Of the request.
        where: Put before each line.
    """
    known = {name.replace("_", "-") for name in kind.model_fields}
    command = kind.command if issubclass(kind, Request) else "tune"
    lines: list[str] = []
    for problem in error.errors():
        name = str(problem["loc"][0]).replace("_", "-") if problem["loc"] else "spec"
        if problem["type"] == "extra_forbidden":
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            lines.append(f"{where}Unknown key '{name}'.{hint} See: loraudit {command} --help")
        elif problem["type"] == "missing":
            lines.append(f"{where}'{name}' is missing. Give it as a flag or as a key of the spec file.")
        else:
            message = problem["msg"].removeprefix("Input should be ")
            lines.append(f"{where}'{name}' has the value {problem['input']!r}. Expected {message}.")
    return "\n".join(lines)
