"""All cells together: figures, what they are beside the literature and beside an earlier run, one result, one page."""

from __future__ import annotations

import importlib.metadata
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.errors import ConfigError, scrubbed
from loraudit.report import write_page
from loraudit.spec import BesidePublished, CellResult, Regression, StudyFinding, StudyResult, StudySpec
from loraudit.store import RunFolder, library_versions
from loraudit.study.carrying import CellOutcome, complete_result
from loraudit.study.cells import Cell, cell_path
from loraudit.study.kinds import AnyResult, exit_code_of, sentence_of


@dataclass(frozen=True, slots=True)
class Facts:
    """How the cells were carried out.

    Attributes:
        command: How the study was started.
        started: UTC, ISO 8601.
        began: Of the performance counter, in seconds.
        carried_out: What the engine says of itself; empty where nothing was left to do.
        n_repeated: Units that were given away again.
    """

    command: str
    started: str
    began: float
    carried_out: dict[str, Any]
    n_repeated: int


def assemble(
    spec: StudySpec, folder: RunFolder, cells: Sequence[Cell], outcomes: Sequence[CellOutcome], facts: Facts
) -> StudyResult:
    """Read every cell's result and write `findings.parquet`, `findings.csv`, `report.html` and, last, `result.json`.

    Args:
        spec: The study.
        folder: Of it.
        cells: All of them, in order.
        outcomes: Of those that this call carried out.
        facts: How.

    Raises:
        StoreError: Something cannot be written.
    """
    from loraudit.report.study import render_study_html
    from loraudit.study.findings import study_findings, write_findings
    from loraudit.study.published import beside_published
    from loraudit.study.regressions import compared_words, regressions

    by_id = {outcome.id: outcome for outcome in outcomes}
    found: list[CellResult] = []
    findings: list[StudyFinding] = []
    warnings: list[str] = []
    for cell in cells:
        result, damage = complete_result(cell, cell_path(folder.path, cell))
        outcome = by_id.get(cell.id)
        warnings += [*(outcome.warnings if outcome else ()), *([damage] if damage else ())]
        found.append(_cell_result(cell, result, outcome))
        if result is not None:
            findings += study_findings(cell.id, cell.kind, result)
    beside = beside_published(spec, found, findings)
    moved: list[Regression] = []
    if spec.against:  # read first: it may be what stands in this folder
        moved = regressions(Path(spec.against), found, findings)
        warnings += compared_words(Path(spec.against), found)
    folder.reopen()
    write_findings(folder.path, found, findings)
    made = StudyResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        spec_hash=folder.hash,
        command=facts.command,
        started=facts.started,
        seconds=round(time.perf_counter() - facts.began, 2),
        heading=heading_of(found),
        sentence=sentence_over(spec, found, findings, beside, moved),
        cells=found,
        headlines=[one for one in findings if one.is_headline],
        n_findings=len(findings),
        published=beside,
        regressions=moved,
        carried_out=facts.carried_out,
        n_units_repeated=facts.n_repeated,
        versions=library_versions(),
        warnings=list(dict.fromkeys(warnings)),
    )
    made = StudyResult.model_validate_json(scrubbed(made.model_dump_json()))
    write_page(folder.path, render_study_html(made, findings))
    folder.write_result(made)
    return made


def check_beside(spec: StudySpec, cells: Sequence[Cell]) -> None:
    """Refuse published figures and an earlier run that have no place beside these cells.

    Raises:
        ConfigError: All that is wrong.
        StoreError: The earlier run is damaged.
    """
    from loraudit.study.published import problems_of_published
    from loraudit.study.regressions import compared_words

    unfinished = [_cell_result(cell, None, None) for cell in cells]
    problems = problems_of_published(spec, unfinished)
    if spec.against:
        try:
            compared_words(Path(spec.against), unfinished)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _cell_result(cell: Cell, result: AnyResult | None, outcome: CellOutcome | None) -> CellResult:
    known: dict[str, Any] = {
        "id": cell.id,
        "grid": cell.grid,
        "kind": cell.kind,
        "labels": cell.labels,
        "folder": f"cells/{cell.folder}",
    }
    if result is None:
        failed = outcome is not None and outcome.status == "failed"
        error = outcome.error if outcome else None
        return CellResult(**known, status="failed" if failed else "absent", error=error)
    from loraudit.study.flaws import flaw_of

    return CellResult(
        **known,
        status="ok",
        sentence=sentence_of(result),
        flaw=flaw_of(cell.kind, result),
        warnings=result.warnings,
        seconds=result.seconds,
        loraudit=result.loraudit,
        exit_code=exit_code_of(result),
    )


def heading_of(cells: Sequence[CellResult]) -> str:
    """How many cells there are and how they ended."""
    n_of = Counter(cell.status for cell in cells)
    if n_of["ok"] == len(cells):
        return {1: "The cell is finished", 2: "Both cells are finished"}.get(
            len(cells), f"All {len(cells)} cells are finished"
        )
    missing = [f"{n_of[status]} {status}" for status in ("failed", "absent") if n_of[status]]
    return f"{n_of['ok']} of {len(cells)} cells are finished, {' and '.join(missing)}"


def sentence_over(
    spec: StudySpec,
    cells: Sequence[CellResult],
    findings: Sequence[StudyFinding],
    beside: Sequence[BesidePublished],
    moved: Sequence[Regression],
) -> str:
    """What there is, in one sentence; what single cells found stands with them."""
    n_of = Counter(cell.kind for cell in cells)
    kinds = ", ".join(f"{n} {kind}{'s' * (n > 1 and kind != 'robustness')}" for kind, n in n_of.items())
    parts = [f"{spec.name}: {kinds} in {len(spec.grids)} grid{'s' * (len(spec.grids) > 1)}, {len(findings):,} figures"]
    if spec.published:
        n_met = sum(one.finding is not None for one in beside)
        parts.append(f"{n_met} of {len(beside)} published figures have a measured one beside them")
    if spec.against:
        parts.append(f"{len(moved) or 'no'} figure{'s' * (len(moved) != 1)} differ from those in '{spec.against}'")
    limits = sum(cell.exit_code == 1 for cell in cells)
    if limits:
        parts.append(f"in {limits} cell{'s' * (limits > 1)} a limit does not hold")
    return "; ".join(parts) + "."
