"""The HTML page of a comparison."""

from __future__ import annotations

from typing import Any

from loraudit.report.contrast import drawings, making, tables
from loraudit.report.contrast.extraction import FIRST_MODELS, extraction_sheets
from loraudit.report.contrast.words import (
    NO_COMMON_LOSS,
    NO_GATES,
    match_title,
    not_said,
    runs_words,
    short_title,
    spread_words,
    validity_statement,
)
from loraudit.report.figures.marks import swatch
from loraudit.report.templating import facts, fill, words_of
from loraudit.report.tuned import edge_words, recipe_sheet, search_sheet
from loraudit.report.words import NOT_VALID, STATUS_WORDS
from loraudit.spec import ContrastResult, Match


def render_contrast_html(result: ContrastResult) -> str:
    """One self-contained page: no script, nothing fetched, no record text."""
    main = result.match("validation_loss")
    others = [match for match in result.matches if match is not main]
    recipes, shared = recipe_sheet(result.arms)
    _, highest = drawings.loss_range(result)
    return fill(
        "contrast.html",
        result=result,
        validity=validity_statement(result),
        not_valid=NOT_VALID,
        no_gates=NO_GATES,
        no_common_loss=NO_COMMON_LOSS,
        status_words=STATUS_WORDS,
        runs_words=runs_words(result),
        spread_words=spread_words(result),
        swatches=[_safe(swatch(index)) for index in range(len(result.arms))],
        hero=_hero(result),
        leaving=drawings.leaving(result) if highest is not None else [],
        highest=highest,
        fpr=drawings.stated_fpr(result),
        main=_matched(result, main),
        attacks=[] if main is None else tables.attack_sheets(result, main),
        others=[_matched(result, match) for match in others],
        match_figures=[
            _safe(svg)
            for svg in drawings.match_figures(result, [(short_title(match), match) for match in result.matches])
        ],
        epoch_figures=[_safe(svg) for svg in drawings.epoch_figures(result)],
        exposure_figures=[_safe(svg) for svg in drawings.exposure_figures(result)],
        exposure=tables.exposure_sheet(result),
        extraction=extraction_sheets(result),
        first_models=FIRST_MODELS,
        search=search_sheet(result.arms),
        edge=edge_words(result.arms),
        recipes=recipes,
        shared=shared,
        runs=making.runs_sheet(result),
        notes=tables.notes_of(result),
        base_facts=facts(result.base.details),
        settings=_settings(result),
        not_said=not_said(result),
    )


def _hero(result: ContrastResult) -> list[dict[str, Any]]:
    """AUC, and a true-positive rate, against validation loss; each drawn for a wide and for a narrow window."""
    fpr = drawings.stated_fpr(result)
    figures = [{"wide": drawings.WIDE, "fpr": None}]
    if fpr is not None:
        figures.append({"wide": drawings.BESIDE, "fpr": fpr})
    return [
        {
            "wide": _safe(drawings.risk_figure(result, one["wide"], fpr=one["fpr"])),
            "narrow": _safe(drawings.risk_figure(result, drawings.PANEL, fpr=one["fpr"])),
        }
        for one in figures
    ]


def _matched(result: ContrastResult, match: Match | None) -> dict[str, Any] | None:
    if match is None:
        return None
    return {
        "title": match_title(match),
        "description": match.description,
        "sheet": tables.match_sheet(result, match),
        "differences": tables.differences_sheet(result, match) if match.differences else None,
    }


def _settings(result: ContrastResult) -> list[tuple[str, str]]:
    spec = result.spec
    settings: list[tuple[str, Any]] = [
        ("Headline attack", f"{spec.headline}, declared before the run"),
        ("Span audited", "what training predicts" if spec.span == "trained" else "every token"),
        ("Window", "the model's context, at most 2048 tokens" if spec.max_length is None else spec.max_length),
        *((name[:1].upper() + name[1:], value) for name, value in facts(result.numerics)),
        ("Resamples", f"{spec.resamples:,}, seed {spec.seed}"),
        ("Intervals", f"{100 * spec.confidence:g} %, two-sided"),
        ("Started", f"{result.started} (took {result.seconds:,.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("scores.parquet", f"sha256 {result.scores}"),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]


def _safe(svg: str) -> Any:
    import markupsafe

    return markupsafe.Markup(svg)  # noqa: S704 - drawn by this package, words escaped
