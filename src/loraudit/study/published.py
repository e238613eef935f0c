"""Figures of the literature beside what a study measures."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.errors import unknown_name
from loraudit.spec import BesidePublished, CellResult, StudyFinding, StudySpec


def beside_published(
    spec: StudySpec, cells: Sequence[CellResult], findings: Sequence[StudyFinding]
) -> list[BesidePublished]:
    """Every published figure of the study with each cell that it belongs to, in the order of the spec.

    A figure that belongs to several finished cells stands beside each of them; one that belongs to none stands alone.

    Args:
        spec: Of the study.
        cells: All of it.
        findings: Of the finished ones.
    """
    by_name = {(one.cell, one.name): one.finding for one in findings}
    beside: list[BesidePublished] = []
    for figure in spec.published:
        agreeing = [
            cell
            for cell in cells
            if cell.grid == figure.grid
            and cell.status == "ok"
            and all(cell.labels.get(axis) == label for axis, label in figure.cell.items())
        ]
        beside += [
            BesidePublished(published=figure, cell=cell.id, finding=by_name.get((cell.id, figure.finding)))
            for cell in agreeing
        ] or [BesidePublished(published=figure)]
    return beside


def problems_of_published(spec: StudySpec, cells: Sequence[CellResult]) -> list[str]:
    """What is wrong with the published figures of a study, one sentence each: places that it does not have.

    Args:
        spec: Of the study.
        cells: All that it asks for, whether or not they are carried out.
    """
    grids = [grid.name for grid in spec.grids]
    problems: list[str] = []
    for figure in spec.published:
        if figure.grid not in grids:
            problems.append(f"Published figure of {figure.source}: {unknown_name('grid', figure.grid, grids)}")
            continue
        labels: dict[str, set[str]] = {}
        for cell in cells:
            for axis, label in cell.labels.items() if cell.grid == figure.grid else ():
                labels.setdefault(axis, set()).add(label)
        for axis, label in figure.cell.items():
            where = f"Published figure of {figure.source}, grid '{figure.grid}'"
            if axis not in labels:
                problems.append(f"{where}: {unknown_name('axis', axis, labels)}")
            elif label not in labels[axis]:
                problems.append(f"{where}, axis '{axis}': {unknown_name('label', label, labels[axis])}")
    return problems
