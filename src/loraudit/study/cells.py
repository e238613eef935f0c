"""From grids to cells: every combination of values is a request, and what it asks is its name."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.errors import ConfigError, counted, unknown_name
from loraudit.spec import CellKind, Grid, Request, StudySpec, make_request, spec_hash
from loraudit.spec.studies import label_of
from loraudit.study.kinds import REQUESTS

ID_DIGITS = 12
_PLACED_BY_THE_STUDY = ("out", "store", "spec")
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One request of a study.

    Attributes:
        id: The first 12 digits of the request's hash.
        grid: The first grid that asks it.
        kind: The command.
        labels: Axis → label of its value, in the order of the axes.
        request: What is asked; the study adds where it is kept.
    """

    id: str
    grid: str
    kind: CellKind
    labels: dict[str, str]
    request: Request

    @property
    def folder(self) -> str:
        """Of its run, below the study's `cells`."""
        return f"{self.kind}-{self.id}"

    @property
    def words(self) -> str:
        """Grid and labels, as people read them."""
        return _words(self.grid, self.labels)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Labels of one axis, and the fields that each sets."""

    name: str
    settings: dict[str, dict[str, Any]]


def expand(spec: StudySpec) -> list[Cell]:
    """The cells of all grids, in order; a request that several grids ask is one cell.

    Later settings win: the study's, the grid's, the axes'. A study-wide key that a grid's command lacks is let pass
    where the command of another grid has it; anywhere else it is an error.

    Raises:
        ConfigError: Everything that is wrong with any cell, a line each.
    """
    problems = _study_problems(spec)
    cells: dict[str, Cell] = {}
    for grid in spec.grids:
        own: dict[str, Cell] = {}
        for cell in _cells_of(grid, _study_wide(spec, grid), problems):
            twin = own.get(cell.id) or cells.get(cell.id)
            if twin is not None and (cell.id in own or _differing(twin, cell)):
                problems.append(_twins(twin, cell))
            own.setdefault(cell.id, cell)
        cells |= {name: cell for name, cell in own.items() if name not in cells}
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return list(cells.values())


def _differing(one: Cell, other: Cell) -> list[str]:
    first, second = one.request.model_dump(mode="json"), other.request.model_dump(mode="json")
    return [name for name in first if first[name] != second[name]]


def _twins(one: Cell, other: Cell) -> str:
    names = ", ".join(f"'{name}'" for name in _differing(one, other))
    how = f" but for {names}, which does not change what is found" if names else ""
    return f"{one.words} and {other.words} ask the same{how}. Expected one of them; leave the other out."


# --- settings -----------------------------------------------------------------------------------------


def _study_problems(spec: StudySpec) -> list[str]:
    names = [grid.name for grid in spec.grids]
    problems = [
        f"Grid name '{name}' stands {names.count(name)} times. Expected a name of its own for each grid."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    known = {key for grid in spec.grids for key in REQUESTS[grid.run].model_fields}
    problems += [
        f"Settings of the study: {unknown_name('key', key, known)}"
        if key not in _PLACED_BY_THE_STUDY
        else _placed(f"Settings of the study: '{key}'")
        for key in map(_key, spec.settings)
        if key not in known - set(_PLACED_BY_THE_STUDY)
    ]
    return [_shortened(problem) for problem in problems]


def _shortened(problem: str) -> str:
    """All four commands together have some hundred keys, which would hide what is wrong."""
    before, known, after = problem.partition(" Known: ")
    return before if known and after.count(",") > _SHOWN_NAMES else problem


def _placed(what: str) -> str:
    return f"{what} is given by the study. Expected it as --out or --store of the study; leave it out here."


def _key(name: str) -> str:
    return name.replace("-", "_")


def _study_wide(spec: StudySpec, grid: Grid) -> dict[str, Any]:
    fields = REQUESTS[grid.run].model_fields
    return {_key(name): value for name, value in spec.settings.items() if _key(name) in fields}


def _keyed(settings: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Settings by field name; what the study itself decides, and a field said twice, are problems."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if _key(name) in _PLACED_BY_THE_STUDY:
            problems.append(_placed(f"{where}: '{name}'"))
            continue
        if _key(name) in found:
            problems.append(f"{where}: '{name}' is given twice. Leave one out.")
        found[_key(name)] = value
    return found


# --- axes ---------------------------------------------------------------------------------------------


def _axes(grid: Grid, problems: list[str]) -> list[_Axis]:
    axes: list[_Axis] = []
    set_by: dict[str, str] = {}
    for name, values in grid.axes.items():
        where = f"Grid '{grid.name}', axis '{name}'"
        if not values:
            problems.append(f"{where} has no values. Expected at least one.")
            continue
        given = dict(values) if isinstance(values, dict) else _labelled(name, values, where, problems)
        settings = {str(label): _keyed(sets, where, problems) for label, sets in given.items()}
        for field in sorted({field for sets in settings.values() for field in sets}):
            if field in set_by:
                problems.append(
                    f"{where} sets '{field}', which axis '{set_by[field]}' sets too. Leave one of them out."
                )
            set_by.setdefault(field, name)
        axes.append(_Axis(name, settings))
    return axes


def _labelled(name: str, values: Sequence[Any], where: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """A list axis as labels with the one field that it is named after."""
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        label = label_of(value)
        if label in found:
            problems.append(f"{where}: value {label} is given twice. Leave one out.")
        found[label] = {name: value}
    return found


def _matches(entry: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a cell agrees with every axis that an entry names."""
    return all(labels.get(axis) in _labels_in(value) for axis, value in entry.items())


def _labels_in(value: object) -> list[str]:
    return [label_of(one) for one in value] if isinstance(value, list | tuple) else [label_of(value)]


def _constraint_problems(grid: Grid, axes: Collection[_Axis]) -> list[str]:
    known = {axis.name: axis.settings for axis in axes}
    problems: list[str] = []
    for what in ("exclude", "only"):
        for axis, value in ((axis, value) for entry in getattr(grid, what) for axis, value in entry.items()):
            where = f"Grid '{grid.name}', {what}: "
            if axis not in known:
                problems.append(where + str(unknown_name("axis", axis, known)))
                continue
            problems += [
                where + str(unknown_name(f"label of axis '{axis}'", label, known[axis]))
                for label in _labels_in(value)
                if label not in known[axis]
            ]
    return problems


# --- cells --------------------------------------------------------------------------------------------


def _cells_of(grid: Grid, study_wide: Mapping[str, Any], problems: list[str]) -> list[Cell]:
    n_before = len(problems)
    axes = _axes(grid, problems)
    own = _keyed(grid.settings, f"Grid '{grid.name}', settings", problems)
    wrong = _constraint_problems(grid, axes)
    problems += wrong
    if len(problems) > n_before + len(wrong):  # what its cells ask is not known
        return []
    exclude, only = ([], []) if wrong else (grid.exclude, grid.only)
    kept: list[tuple[dict[str, str], dict[str, Any]]] = []
    for choice in itertools.product(*(axis.settings.items() for axis in axes)):
        labels = {axis.name: label for axis, (label, _) in zip(axes, choice, strict=True)}
        if any(_matches(entry, labels) for entry in exclude):
            continue
        if only and not any(_matches(entry, labels) for entry in only):
            continue
        set_here = {name: value for _, sets in choice for name, value in sets.items()}
        kept.append((labels, {**study_wide, **own, **set_here}))
    if not kept:
        problems.append(f"Grid '{grid.name}' has no cell left after exclude and only. Loosen them, or leave it out.")
    return _made(grid, kept, problems)


def _made(grid: Grid, asked: Sequence[tuple[dict[str, str], dict[str, Any]]], problems: list[str]) -> list[Cell]:
    """Cells of those requests that are valid; of the others every problem, said once with the cells that have it."""
    cells: list[Cell] = []
    wrong: dict[str, list[dict[str, str]]] = {}
    for labels, values in asked:
        try:
            request = make_request(REQUESTS[grid.run], values)
        except ConfigError as error:
            for line in str(error).splitlines():
                wrong.setdefault(line, []).append(labels)
            continue
        cells.append(Cell(spec_hash(request)[:ID_DIGITS], grid.name, grid.run, labels, request))
    for line, having in wrong.items():
        if len(having) == len(asked):
            problems.append(f"Grid '{grid.name}': {line}")
        else:
            more = f" and {counted(len(having) - 1, 'more cell')}" if len(having) > 1 else ""
            problems.append(f"{_words(grid.name, having[0])}{more}: {line}")
    return cells


def _words(grid: str, labels: Mapping[str, str]) -> str:
    return f"Grid '{grid}'" + "".join(f", {axis}={label}" for axis, label in labels.items())


def cell_path(folder: Path, cell: Cell) -> Path:
    """The run folder of a cell of the study in `folder`."""
    return folder / "cells" / cell.folder
