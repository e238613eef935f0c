"""Figures of a study that are not what they were in an earlier run of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from loraudit.errors import ConfigError, counted
from loraudit.spec import CellResult, Regression, StudyFinding, StudyResult
from loraudit.store import read_study, refused_folder
from loraudit.study.findings import read_findings
from loraudit.types import Finding

RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9


class _Pair(NamedTuple):
    """One cell in both runs."""

    before: CellResult
    after: CellResult
    matched_by: Literal["id", "labels"]


def regressions(before: Path, cells: Sequence[CellResult], findings: Sequence[StudyFinding]) -> list[Regression]:
    """Every figure that moved since an earlier run, in the order of the cells.

    A cell is the same if it asks the same, by its id. Where no cell of a command is found by its id, as when another
    version hashes requests in another way, cells of that command are the same if they stand at the same labels of the
    same grid; the regression then says so (`matched_by`).

    A figure has moved if its value or an end of its interval differs by more than a millionth of itself (or 1e-9, for
    figures near 0). On one type of device a request with the same seed gives the same bits, and sums in float64 that
    another library takes in another order differ by about 1e-12; an AUC over 1,000 + 1,000 records moves by a
    millionth as soon as a single pair of records changes its order. What exceeds the tolerance thus comes from other
    scores, other records or another rule. Between types of devices the order of a few pairs is expected to change.

    A figure has come apart if the two intervals do not meet either. It is gone if it was defined before and is not
    now; of a cell that has failed since, every headline figure is. Figures that are new, or were undefined before, are
    none of these, and cells that are absent now are not compared.

    Args:
        before: Folder of the earlier run.
        cells: Of this run, all of them.
        findings: Of its finished cells.

    Raises:
        ConfigError: The folder holds no finished study, or one that has no cell in common with this.
        StoreError: A file of it is damaged.
    """
    earlier, pairs = _paired(before, cells)
    old: dict[str, list[StudyFinding]] = {}
    for one in read_findings(before):
        old.setdefault(one.cell, []).append(one)
    new = {(one.cell, one.name): one.finding for one in findings}
    version = next((cell.loraudit for cell in cells if cell.loraudit), earlier.loraudit)
    moved: list[Regression] = []
    for pair in pairs:
        has_failed = pair.after.status == "failed"
        for one in old.get(pair.before.id, ()):
            if has_failed and not one.is_headline:
                continue
            after = new.get((pair.after.id, one.name))
            kind = _kind(one.finding, after)
            if kind is not None:
                moved.append(
                    Regression(
                        cell=pair.after.id,
                        name=one.name,
                        before=one.finding,
                        after=after,
                        kind=kind,
                        versions=(pair.before.loraudit or earlier.loraudit, pair.after.loraudit or version),
                        matched_by=pair.matched_by,
                    )
                )
    return moved


def compared_words(before: Path, cells: Sequence[CellResult]) -> list[str]:
    """What the comparison with an earlier run rests on, where that is not simply the same cells.

    Args:
        before: Folder of the earlier run.
        cells: Of this run.

    Raises:
        ConfigError: The folder holds no finished study, or one that has no cell in common with this.
        StoreError: A file of it is damaged.
    """
    earlier, pairs = _paired(before, cells)
    said: list[str] = []
    n_by_labels = sum(pair.matched_by == "labels" for pair in pairs)
    if n_by_labels:
        said.append(
            f"{n_by_labels} of {len(pairs)} cells were found in '{before}' by grid and labels, not by what they ask: "
            f"they ask something else there, or loraudit {earlier.loraudit} hashed requests in another way."
        )
    finished = [cell for cell in earlier.cells if cell.status == "ok"]
    n_lost = len(finished) - len(pairs)
    if n_lost:
        said.append(f"{n_lost} of {len(finished)} cells that were finished in '{before}' are not compared.")
    found = {pair.after.id for pair in pairs}
    n_new = sum(cell.status == "ok" and cell.id not in found for cell in cells)
    if n_new:
        said.append(
            f"{counted(n_new, 'cell')} of this study {'was' if n_new == 1 else 'were'} not finished in '{before}' and "
            f"{'is' if n_new == 1 else 'are'} compared with nothing."
        )
    return said


def _paired(before: Path, cells: Sequence[CellResult]) -> tuple[StudyResult, list[_Pair]]:
    """The earlier study, and the cells that were finished there and are not absent here."""
    earlier = read_study(before)
    if earlier is None:
        raise refused_folder(before, "an earlier run of the study, named by 'against'")
    finished = [cell for cell in earlier.cells if cell.status == "ok"]
    by_id = {cell.id: cell for cell in finished}
    known = {cell.id for cell in earlier.cells}
    with_id = {cell.kind for cell in cells if cell.id in known}
    by_labels = {_place(cell): cell for cell in finished if cell.kind not in with_id}
    pairs: list[_Pair] = []
    for cell in cells:
        same, alike = by_id.get(cell.id), by_labels.get(_place(cell))
        if cell.status != "absent" and same is not None:
            pairs.append(_Pair(same, cell, "id"))
        elif cell.status != "absent" and alike is not None:
            pairs.append(_Pair(alike, cell, "labels"))
    places = {_place(cell) for cell in earlier.cells}
    if not any(cell.id in known or _place(cell) in places for cell in cells):
        raise ConfigError(
            f"Study '{earlier.spec.name}' in folder '{before}' has no cell in common with this one. Expected an "
            "earlier run of the same study. Check 'against'."
        )
    return earlier, pairs


def _place(cell: CellResult) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return cell.grid, cell.kind, tuple(sorted(cell.labels.items()))


def _kind(before: Finding, after: Finding | None) -> Literal["moved", "apart", "gone"] | None:
    if before.value is None:
        return None
    if after is None or after.value is None:
        return "gone"
    if _are_apart(before, after):
        return "apart"
    ends = ((before.value, after.value), (before.lower, after.lower), (before.upper, after.upper))
    return None if all(_is_same(one, other) for one, other in ends) else "moved"


def _are_apart(before: Finding, after: Finding) -> bool:
    """Whether both have intervals that do not meet; an end that is not stated is open."""
    if any(one.lower is None and one.upper is None for one in (before, after)):
        return False
    lows = [-math.inf if one.lower is None else one.lower for one in (before, after)]
    highs = [math.inf if one.upper is None else one.upper for one in (before, after)]
    is_touching = math.isclose(max(lows), min(highs), rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return max(lows) > min(highs) and not is_touching


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
