"""Every figure of every cell, by name: `findings.parquet`, and the same as `findings.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from loraudit.errors import ConfigError, StoreError
from loraudit.spec import AuditResult, CellKind, ContrastResult, ForecastResult, RobustnessResult, StudyFinding
from loraudit.store import write_atomically
from loraudit.study.headlines import headline_names
from loraudit.study.naming import named_findings
from loraudit.types import Finding

AnyCellResult = AuditResult | ContrastResult | RobustnessResult | ForecastResult
FINDINGS_NAME = "findings.parquet"
CSV_NAME = "findings.csv"
_NUMBERS = {
    "value": pa.float64(),
    "lower": pa.float64(),
    "upper": pa.float64(),
    "confidence": pa.float64(),
    "method": pa.string(),
    "n_members": pa.int64(),
    "n_nonmembers": pa.int64(),
    "n_undefined_members": pa.int64(),
    "n_undefined_nonmembers": pa.int64(),
    "n_false_positives": pa.int64(),
    "note": pa.string(),
}
"""What is kept of a finding: all but the seconds it took, which differ from run to run."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class NamedCell(Protocol):
    """A cell by what its figures are filed under."""

    @property
    def id(self) -> str:
        """First digits of its request's hash."""
        ...

    @property
    def grid(self) -> str:
        """The first grid that asks it."""
        ...

    @property
    def kind(self) -> CellKind:
        """The command."""
        ...

    @property
    def labels(self) -> dict[str, str]:
        """Axis → label of its value."""
        ...


def findings_of(kind: CellKind, result: AnyCellResult) -> list[tuple[str, Finding, bool]]:
    """Every figure of a cell's result: its name, itself, and whether the study's report shows it.

    Args:
        kind: The command that made the result.
        result: Of that command.
    """
    headlines = set(headline_names(kind, result))
    return [(name, finding, name in headlines) for name, finding in named_findings(result)]


def study_findings(cell: str, kind: CellKind, result: AnyCellResult) -> list[StudyFinding]:
    """The same as a study keeps them.

    Args:
        cell: Its id.
        kind: The command that made the result.
        result: Of that command.
    """
    return [
        StudyFinding(cell=cell, name=name, finding=finding, is_headline=is_headline)
        for name, finding, is_headline in findings_of(kind, result)
    ]


def write_findings(folder: Path, cells: Sequence[NamedCell], findings: Sequence[StudyFinding]) -> None:
    """Write `findings.parquet` and `findings.csv`: one row per figure, in the order of the cells.

    The same cells and figures give the same bytes: what differs between two runs of one request, the seconds, is
    left out, and what JSON cannot hold (NaN, infinity) is as empty as it is when a result is read back.

    Args:
        folder: Of the study.
        cells: In the order of the grids.
        findings: Of these cells, within each in the order of its result.

    Raises:
        StoreError: They cannot be written.
    """
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.labels))
    by_cell: dict[str, list[StudyFinding]] = {cell.id: [] for cell in cells}
    for one in findings:
        by_cell[one.cell].append(one)
    rows = [_row(cell, one, axes) for cell in cells for one in by_cell.pop(cell.id, ())]
    text = pa.string()
    schema = pa.schema(
        [
            *((name, text) for name in ("cell", "grid", "kind", *(f"axis_{axis}" for axis in axes), "name")),
            *_NUMBERS.items(),
            ("is_headline", pa.bool_()),
        ]
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd", write_page_checksum=True)
    write_atomically(folder / FINDINGS_NAME, buffer.getvalue())
    write_atomically(folder / CSV_NAME, _as_csv(schema.names, rows).encode("utf-8"))


def _row(cell: NamedCell, one: StudyFinding, axes: Sequence[str]) -> dict[str, Any]:
    kept = {name: _finite(getattr(one.finding, name)) for name in _NUMBERS}
    labels = {f"axis_{axis}": cell.labels.get(axis) for axis in axes}
    named = {"cell": cell.id, "grid": cell.grid, "kind": cell.kind, **labels, "name": one.name}
    return {**named, **kept, "is_headline": one.is_headline}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_csv(titles: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Lines end as RFC 4180 asks; words that a spreadsheet would take for a formula get an apostrophe."""
    made = io.StringIO()
    writer = csv.writer(made)  # with another line end, the writer would leave a carriage return in words unquoted
    writer.writerow(titles)
    writer.writerows([_plain(row[title]) for title in titles] for row in rows)
    return made.getvalue()


def _plain(value: Any) -> Any:
    """One cell of the CSV.

    >>> _plain("=1+1"), _plain(-0.5), _plain(True)
    ("'=1+1", '-0.5', 'true')
    """
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else repr(value)


def read_findings(folder: Path) -> list[StudyFinding]:
    """Every figure of a finished study, as `write_findings` wrote them.

    Raises:
        ConfigError: The folder holds none.
        StoreError: The file is damaged.
    """
    path = folder / FINDINGS_NAME
    try:
        content = path.read_bytes()
    except OSError:
        raise ConfigError(
            f"Folder '{folder}' holds no figures of a study. Expected {FINDINGS_NAME}. Run the study to its end first; "
            "the same command resumes."
        ) from None
    try:
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
        return [
            StudyFinding(
                cell=row["cell"],
                name=row["name"],
                finding=Finding(**{name: row[name] for name in _NUMBERS}),
                is_headline=row["is_headline"],
            )
            for row in table.to_pylist()
        ]
    except (ValueError, KeyError, OSError, pa.ArrowException) as error:
        raise StoreError(f"'{path}' is damaged: {error}. Run the study again; finished cells are kept.") from None
