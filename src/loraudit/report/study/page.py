"""The HTML page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loraudit.report.sheets import Sheet
from loraudit.report.study import drawings, tables, words
from loraudit.report.study.cells import link_of
from loraudit.report.study.measures import Measure, measures_of
from loraudit.report.templating import facts, fill, words_of
from loraudit.spec import Regression, StudyFinding, StudyResult

MOST_ROWS = 12
"""Of a table that is not folded."""
_OPEN_FIGURES = 12


def render_study_html(result: StudyResult, findings: Sequence[StudyFinding]) -> str:
    """One self-contained page: no script, nothing fetched, no record text; links lead to the cells' own reports.

    Args:
        result: The study.
        findings: All figures of its cells.
    """
    measures = measures_of(result)
    headlines, others = split_regressions(result)
    grids = [_grid(sheet, measures) for sheet in tables.figure_sheets(result, measures)]
    n_drawn = sum(grid["n_drawn"] for grid in grids)
    return fill(
        "study.html",
        result=result,
        words=words,
        most_rows=MOST_ROWS,
        links={cell.id: link for cell in result.cells if (link := link_of(cell)) is not None},
        cells_words=words.cells_words(result),
        brackets_words=words.brackets_words(result),
        empty_words=words.empty_words(result),
        flaw_heading=words.flaw_heading(result),
        flaws=tables.flaw_sheet(result),
        grids=grids,
        undrawn_words=words.undrawn_words(measures, n_drawn),
        ends=tables.ends_sheet(measures),
        published=tables.published_sheet(result),
        regressions_words=words.regressions_words(result, headlines),
        moved=tables.regression_sheet(result, headlines, tables.MOVED),
        moved_too=tables.regression_sheet(result, others[: tables.MOST_MOVED], tables.MOVED_TOO),
        n_moved_too=len(others),
        empty=tables.empty_sheet(result),
        cells=tables.cells_sheet(result, findings),
        settings=settings_of(result),
    )


def split_regressions(result: StudyResult) -> tuple[list[Regression], list[Regression]]:
    """Those of headline figures, with all that are gone, and the others."""
    shown = {(one.cell, one.name) for one in result.headlines}
    headlines: list[Regression] = []
    others: list[Regression] = []
    for one in result.regressions:
        is_headline = (one.cell, one.name) in shown or one.after is None
        (headlines if is_headline else others).append(one)
    return headlines, others


def _grid(sheet: Sheet, measures: Sequence[Measure]) -> dict[str, Any]:
    """A grid's table and its figures; beyond a few they are folded."""
    name = sheet.title.removesuffix(tables.EVERY_CELL)
    figures: list[tuple[str, str, Any]] = []
    n_drawn = 0
    for measure in measures:
        panels = drawings.panels_of(measure) if measure.grid == name else []
        figures += [(measure.title, panel.caption, _safe(panel.svg)) for panel in panels]
        n_drawn += bool(panels)
    return {
        "name": name,
        "sheet": sheet,
        "n_drawn": n_drawn,
        "first": figures[:_OPEN_FIGURES],
        "more": figures[_OPEN_FIGURES:],
    }


def settings_of(result: StudyResult) -> list[tuple[str, str]]:
    """How the study was carried out, as names and values."""
    spec = result.spec
    settings: list[tuple[str, Any]] = [
        *((name[:1].upper() + name[1:], value) for name, value in facts(result.carried_out)),
        ("Units given out again", f"{result.n_units_repeated:,}, because a worker died"),
        *([("Compared with", spec.against)] if spec.against is not None else []),
        ("Started", f"{result.started} (took {result.seconds:,.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]


def _safe(svg: str) -> Any:
    import markupsafe

    return markupsafe.Markup(svg)  # noqa: S704 - drawn by this package, words escaped
