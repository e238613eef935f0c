"""What is asked of a study: a file or a preset, and what flags change of it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loraudit.errors import ConfigError, unknown_name
from loraudit.spec import Grid, PublishedFigure, StudySpec, make_request, read_spec_file, spec_hash

_PARTS = {"grids": (Grid, "Grid"), "published": (PublishedFigure, "Published figure")}
_SUFFIXES = (".toml", ".yaml", ".yml", ".json")


def study_path(spec: StudySpec) -> Path:
    """The folder: the one named, or `runs/study-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"study-{spec_hash(spec)[:12]}"


def store_path(spec: StudySpec) -> Path:
    """The evidence store of all cells: the one named, or `store` within the folder."""
    return Path(spec.store) if spec.store else study_path(spec) / "store"


def read_study(study: str, overrides: Mapping[str, Any] | None = None) -> StudySpec:
    """A study from its file, or from a preset.

    Paths in the file are relative to the current folder, as in every spec file.

    Args:
        study: A TOML, YAML or JSON file; or the name of a preset.
        overrides: Keys that win over it; `settings` are added to the study's own.

    Raises:
        ConfigError: There is no such file or preset, or everything that is wrong with what it holds.
    """
    values, more = _raw(study), dict(overrides or {})
    settings = values.get("settings", {})
    if isinstance(settings, Mapping):  # anything else is refused below
        values["settings"] = {**settings, **more.pop("settings", {})}
    values |= more
    problems = [line for name in _PARTS for line in _part_problems(name, values.get(name, ()))]
    # What is wrong within is said above, with the name of the grid.
    rest = {name: value for name, value in values.items() if name not in _PARTS or not problems}
    try:
        spec = make_request(StudySpec, {**rest, "grids": [_ANY_GRID]} if problems else rest)
    except ConfigError as error:
        raise ConfigError("\n".join([*problems, str(error)])) from None
    if problems:
        raise ConfigError("\n".join(problems))
    return spec


_ANY_GRID = {"name": "grid", "run": "audit"}
"""Stands in for grids that are wrong, while the other keys are looked at."""


def parse_settings(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE as keys of cells' spec files; values as TOML has them, and bare words as they are.

    >>> parse_settings(["seeds=2", "methods=['full', 'lora:8']", "device=cpu"])
    {'seeds': 2, 'methods': ['full', 'lora:8'], 'device': 'cpu'}

    Raises:
        ConfigError: All of them that are no KEY=VALUE.
    """
    found: dict[str, Any] = {}
    problems: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            problems.append(f"--set '{word}' is no setting. Expected KEY=VALUE, such as seeds=2.")
            continue
        try:
            found[key.strip().replace("-", "_")] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip().replace("-", "_")] = value
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _raw(study: str) -> dict[str, Any]:
    path = Path(study)
    if path.is_file() or path.suffix.lower() in _SUFFIXES:
        return read_spec_file(path, kind="Study")
    from loraudit.study.presets import preset, preset_names

    if study in preset_names():
        return dict(preset(study))
    nearest = difflib.get_close_matches(study, preset_names(), n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(repr(name) for name in nearest)}?" if nearest else ""
    raise ConfigError(
        f"Study '{study}' is neither a file nor a preset.{hint} Expected a .toml, .yaml or .json file, or a name of: "
        "loraudit study --list-presets"
    )


def _part_problems(name: str, parts: object) -> list[str]:
    """Every problem of grids or published figures, with the name and the key that has it."""
    kind, thing = _PARTS[name]
    if not isinstance(parts, list | tuple):
        return [f"'{name}' has the value {parts!r}. Expected a list of tables, such as [[{name}]] in TOML."]
    if name == "grids" and not parts:
        return ["'grids' is missing or empty. Expected one or more, such as [[grids]] in TOML."]
    lines: list[str] = []
    for number, part in enumerate(parts, start=1):
        called = part.get("name") or part.get("finding") if isinstance(part, Mapping) else None
        where = f"{thing} {number}" + (f" ('{called}')" if called else "")
        try:
            kind.model_validate(part)
        except ValidationError as error:
            lines += [f"{where}: {_line(problem, kind)}" for problem in error.errors()]
    return lines


def _line(problem: Any, kind: type[Grid] | type[PublishedFigure]) -> str:
    key = ".".join(map(str, problem["loc"])) or "it"
    if problem["type"] == "extra_forbidden":
        return str(unknown_name("key", key, kind.model_fields))
    if problem["type"] == "missing":
        return f"'{key}' is missing. {kind.model_fields[key].description}"
    return f"'{key}' has the value {problem['input']!r}. Expected {problem['msg'].removeprefix('Input should be ')}."
