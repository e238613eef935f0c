"""What is asked of `loraudit study`, and what it found."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from loraudit.spec.engines import HOW_UNITS_ARE_CARRIED_OUT, EngineOptions
from loraudit.spec.form import SCHEMA_VERSION, Strict
from loraudit.spec.making import Request
from loraudit.types import Finding

CellKind = Literal["audit", "contrast", "robustness", "forecast"]
CellStatus = Literal["ok", "failed", "absent"]
"""absent: another shard's, or not carried out yet."""

AxisValues = list[Any] | dict[str, dict[str, Any]]
"""Values of the field that the axis is named after; or labels, each with the several fields it sets."""


_LONGEST_LABEL = 60


def label_of(value: object) -> str:
    """A value of an axis in a few words, the same in every run.

    >>> label_of(["full", "lora:8"]), label_of(True), label_of(0.5)
    ('full+lora:8', 'true', '0.5')
    """
    if isinstance(value, list | tuple):
        words = "+".join(label_of(part) for part in value) or "none"
    elif isinstance(value, str):
        words = value
    else:
        words = json.dumps(value, sort_keys=True, default=str)
    if len(words) <= _LONGEST_LABEL:
        return words
    digest = hashlib.sha256(words.encode()).hexdigest()[:6]
    return f"{words[: _LONGEST_LABEL - 8]}…{digest}"


Label = Annotated[str, BeforeValidator(label_of, json_schema_input_type=str | int | float | bool | list[Any])]


class Grid(Strict):
    """One command over every combination of values.

    A cell is one request of the command: the study's `settings`, then the grid's, then what its value of each axis
    sets; later ones win.
    """

    name: str = Field(min_length=1, description="Of the grid; no two of a study are the same.")
    run: CellKind = Field(description="The command.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Keys of that command's spec file, for every cell."
    )
    axes: dict[str, AxisValues] = Field(
        default_factory=dict,
        description="Axis → values of the field it is named after, or labels with the fields that each sets.",
    )
    exclude: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Cells left out: axis → label or list of labels; a cell that agrees with all of one entry.",
    )
    only: list[dict[str, Any]] = Field(
        default_factory=list, description="Where given, cells that agree with none of these are left out."
    )


class PublishedFigure(Strict):
    """A figure of the literature to stand beside what a cell measures.

    Attributes of the search: `grid`, `cell` (axis → label) and `finding`, the name of the measured one in
    `findings.parquet`.
    """

    grid: str = Field(description="Grid of the cells it stands beside.")
    cell: dict[str, Label] = Field(default_factory=dict, description="Axis → label; all cells of the grid where empty.")
    finding: str = Field(description="Name of the measured finding, as in findings.csv.")
    value: float = Field(description="As published.")
    source: str = Field(description="Where: paper, table, row.")
    note: str | None = Field(default=None, description="What differs from what is measured here.")


class StudySpec(Request, EngineOptions):
    """A grid of runs. The fields are keys of a study's TOML, YAML or JSON file."""

    command: ClassVar[str] = "study"
    how_not_what: ClassVar[frozenset[str]] = frozenset(
        {"description", "published", "out", "store", "against", *HOW_UNITS_ARE_CARRIED_OUT}
    )

    name: str = Field(min_length=1, description="Of the study.")
    description: str = Field(default="", description="What it is to find out, for its report.")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of the cells' spec files, for every grid; a key that a grid's command lacks is an error.",
    )
    grids: tuple[Grid, ...] = Field(min_length=1, description="One or more.")
    published: tuple[PublishedFigure, ...] = Field(
        default=(), description="Figures of the literature to print beside the measured ones."
    )
    against: str | None = Field(
        default=None, description="Folder of an earlier run of this study; figures that moved are flagged."
    )
    out: str | None = Field(default=None, description="Folder of the study (default: runs/study-<hash>).")
    store: str | None = Field(default=None, description="Evidence store of all cells (default: within the folder).")


class CellResult(Strict):
    """One cell of a study.

    Attributes:
        id: The first 12 digits of its request's hash; two grids that ask the same share it.
        grid: The first grid that asks it.
        kind: The command.
        labels: Axis → label of its value.
        folder: Its run folder, relative to the study's.
        status: Whether it has a result.
        error: Why not.
        sentence: What it found, in words.
        flaw: Which of its own validity gates or controls failed, or what its forecast refuses; None where all hold.
        warnings: Its own.
        seconds: Time it took.
        loraudit: Version that ran it.
        exit_code: What its own command would have ended with: 1 where a limit of its own does not hold.
    """

    id: str
    grid: str
    kind: CellKind
    labels: dict[str, str]
    folder: str
    status: CellStatus
    error: str | None = None
    sentence: str | None = None
    flaw: str | None = None
    warnings: list[str] = Field(default_factory=list)
    seconds: float | None = None
    loraudit: str | None = None
    exit_code: int = 0


class StudyFinding(Strict):
    """One figure of one cell, as `findings.parquet` holds it.

    Attributes:
        cell: Id of the cell.
        name: Where it stands in the cell's result, in words: `membership/error_zone/auc`.
        finding: The figure.
        is_headline: Whether the study's report shows it.
    """

    cell: str
    name: str
    finding: Finding
    is_headline: bool = False


class BesidePublished(Strict):
    """A published figure and the measured one.

    Attributes:
        published: The published one.
        cell: Id of the cell; None where no finished cell agrees.
        finding: The measured one; None likewise, or where the cell has none of the name.
    """

    published: PublishedFigure
    cell: str | None = None
    finding: Finding | None = None


class Regression(Strict):
    """A figure that is not what it was in an earlier run of the study.

    Attributes:
        cell: Id of the cell.
        name: Of the figure.
        before: In the earlier run.
        after: In this one; None where it is gone.
        kind: moved: another number. apart: the intervals do not meet either. gone: defined before, not now.
        versions: Of loraudit, before and after.
        matched_by: How the cell was found in the earlier run: by what it asks, or by its place in the grids.
    """

    cell: str
    name: str
    before: Finding
    after: Finding | None
    kind: Literal["moved", "apart", "gone"]
    versions: tuple[str, str]
    matched_by: Literal["id", "labels"] = "id"


class StudyResult(Strict):
    """`result.json` of a study.

    Attributes:
        heading: In a few words.
        sentence: What was found, in one sentence.
        cells: In the order of the grids.
        headlines: The figures that the report shows; all of them are in `findings.parquet`.
        n_findings: Rows of `findings.parquet`.
        published: Figures of the literature beside the measured ones.
        regressions: Figures that are not what they were in the run named by `against`.
        carried_out: Engine, workers, nodes and so on.
        n_units_repeated: Units given to a worker more than once because one died.
        seconds: From start to end of the last call; cells that were complete are not repeated.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["study"] = "study"
    loraudit: str
    spec: StudySpec
    spec_hash: str
    command: str
    started: str
    seconds: float
    heading: str
    sentence: str
    cells: list[CellResult]
    headlines: list[StudyFinding]
    n_findings: int
    published: list[BesidePublished] = Field(default_factory=list)
    regressions: list[Regression] = Field(default_factory=list)
    carried_out: dict[str, Any] = Field(default_factory=dict)
    n_units_repeated: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
