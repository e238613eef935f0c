"""The HTML page of a forecast."""

from __future__ import annotations

from typing import Any

from loraudit.report.figures.marks import swatch
from loraudit.report.forecast import drawings, heat, predictions, tables, words
from loraudit.report.forecast.beside import HOW, beside_arms, beside_figures, beside_sheet
from loraudit.report.forecast.grid import MOST_ROWS, arms_of, drawn
from loraudit.report.forecast.measured import Beside
from loraudit.report.robustness.further import attacks_sheet
from loraudit.report.robustness.tables import limits_sheet
from loraudit.report.templating import facts, fill, words_of
from loraudit.spec import ForecastResult, MeasuredComparison, PoisonResult


def render_forecast_html(result: ForecastResult, beside: Beside | None = None) -> str:
    """One self-contained page: no script, nothing fetched, no record text.

    Args:
        result: The forecast.
        beside: A robustness run to set it against, in place of what the result holds.
    """
    result = result if beside is None else beside.result
    arms = arms_of(result.methods)
    shown = drawn(result.methods)
    return fill(
        "forecast.html",
        result=result,
        words=words,
        most_rows=MOST_ROWS,
        refused_words=words.refused_words(result),
        refused=predictions.refused_sheet(result),
        refused_heading=words.refused_heading(result),
        records_words=words.records_words(result),
        fit_words=words.fit_words(result),
        drawn_words=words.drawn_words(len(shown), result),
        drawn=[(method.name, _safe(swatch(arms.get(method.name, 0)))) for method in shown],
        swatches=[_safe(swatch(index)) for index in range(len(arms))],
        limits=limits_sheet(result.limits) if result.limits else None,
        attacks=[_attacked(result, attack) for attack in result.attacks],
        harm_maps=[_mapped(one) for one in heat.harm_maps(result)],
        kernel_maps=[_mapped(one) for one in heat.kernel_maps(result)],
        beside=None if beside is None else _beside(beside),
        comparisons=[_compared(result, one, beside) for one in result.comparisons],
        spectra=[_safe(figure) for figure in drawings.spectrum_figures(result)],
        kernels=[tables.speed_sheet(result), tables.shape_sheet(result)],
        theory=tables.theory_sheet(result),
        twins=tables.twins_sheet(result),
        linearity=tables.linearity_sheet(result),
        carried_out=attacks_sheet(result.attacks),
        base_facts=facts(result.base.details),
        settings=_settings(result),
    )


def _attacked(result: ForecastResult, attack: PoisonResult) -> dict[str, Any]:
    sheets = predictions.prediction_sheets(result, attack)
    return {
        "attack": attack,
        "figures": [_safe(figure) for figure in drawings.dose_figures(result, attack)],
        "sheets": [(sheet, predictions.ends_of(result, attack, sheet)) for sheet in sheets],
    }


def _mapped(one: heat.HeatMap) -> dict[str, Any]:
    """The first panel apart from the others, which are folded."""
    first, *others = [(caption, _safe(figure)) for caption, figure in one.figures]
    return {"title": one.title, "first": first, "others": others}


def _beside(beside: Beside) -> dict[str, Any]:
    return {
        "match": beside.match,
        "left_out": beside.left_out,
        "key": [(name, _safe(swatch(index))) for name, index in beside_arms(beside).items()],
        "swatches": [_safe(swatch(index)) for index in range(len(beside.pairs))],
        "attacks": [
            (attack.name, [_safe(figure) for figure in figures])
            for attack in beside.result.attacks
            if (figures := beside_figures(beside, attack.name))
        ],
        "how": HOW,
    }


def _compared(result: ForecastResult, comparison: MeasuredComparison, beside: Beside | None) -> dict[str, Any]:
    arms = arms_of(result.methods) if beside is None else beside_arms(beside)
    return {
        "comparison": comparison,
        "figures": [_safe(figure) for figure in drawings.comparison_figures(comparison, arms)],
        "correlations": tables.correlation_sheet(comparison),
        "cells": tables.compared_cells_sheet(result, comparison)
        if beside is None
        else beside_sheet(beside, comparison.measure),
    }


def _settings(result: ForecastResult) -> list[tuple[str, str]]:
    spec = result.spec
    settings: list[tuple[str, Any]] = [
        ("Trained as", result.trained_as.replace("_", " ")),
        ("Fitted loss", spec.loss),
        ("LoRA", f"factor {spec.scaling}, A {spec.family}, {spec.draws} draws"),
        ("Heads", f"{spec.heads} draws, averaged, where the base has none"),
        ("Refused above", f"a one-step error of {spec.max_linear_error:g}"),
        *((name[:1].upper() + name[1:], value) for name, value in facts(result.numerics)),
        ("Resamples", f"{spec.resamples:,}, seed {spec.seed}"),
        ("Intervals", f"{100 * spec.confidence:g} %, two-sided"),
        ("Passes", f"{result.n_passes:,}"),
        ("Started", f"{result.started} (took {result.seconds:,.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]


def _safe(svg: str) -> Any:
    import markupsafe

    return markupsafe.Markup(svg)  # noqa: S704 - drawn by this package, words escaped
