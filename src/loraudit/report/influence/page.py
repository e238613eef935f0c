"""The HTML page of a prediction of single records."""

from __future__ import annotations

from typing import Any

from loraudit.report.figures.marks import swatch
from loraudit.report.influence import drawings, tables, words
from loraudit.report.templating import facts, fill, words_of
from loraudit.spec import InfluenceResult
from loraudit.store import InfluenceRun


def render_influence_html(run: InfluenceRun) -> str:
    """One self-contained page: no script, nothing fetched, no record text."""
    result = run.result
    return fill(
        "influence.html",
        result=result,
        words=words,
        records_words=words.records_words(result),
        extraction_words=words.extraction_words(result),
        swatches=[_safe(swatch(place)) for place in range(len(result.methods))],
        across=tables.across_sheet(result),
        extraction=tables.extraction_sheet(result),
        saturating=tables.agreement_sheets(result, "squared"),
        first_order=tables.agreement_sheets(result, "log"),
        gains=[(caption, _safe(figure)) for caption, figure in drawings.gain_figures(run)],
        owns=[(caption, _safe(figure)) for caption, figure in drawings.own_figures(run)],
        linearity=tables.linearity_sheet(result),
        left_out=tables.left_out_sheet(result),
        base_facts=facts(result.base.details),
        settings=_settings(result),
    )


def _settings(result: InfluenceResult) -> list[tuple[str, str]]:
    spec = result.spec
    settings: list[tuple[str, Any]] = [
        ("Contrast", result.contrast),
        ("LoRA", f"{spec.draws} draws of A"),
        ("Extractable", f"from a probability of {spec.extractable:g}"),
        ("Refused above", f"a one-step error of {spec.max_linear_error:g}"),
        *((name[:1].upper() + name[1:], value) for name, value in facts(result.numerics)),
        ("Seed", spec.seed),
        ("Started", result.started),
        ("Versions", result.versions),
        ("influence.parquet", result.records),
        ("Spec hash", result.spec_hash),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]


def _safe(markup: str) -> Any:
    """Figures that this package made, which escape their own words."""
    import markupsafe

    return markupsafe.Markup(markup)  # noqa: S704 - drawn by this package, words escaped
