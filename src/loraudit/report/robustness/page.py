"""The HTML page of a robustness run."""

from __future__ import annotations

from typing import Any

from loraudit.policy.robustness import invalid_words
from loraudit.report.figures.marks import swatch
from loraudit.report.robustness import drawings, further, tables
from loraudit.report.robustness.words import (
    HOW_JUDGED,
    NO_MATCH,
    collapse_words,
    invalid_heading,
    match_title,
    not_said,
    records_words,
    runs_words,
    seeds_of,
    sentence_beside,
)
from loraudit.report.templating import facts, fill, words_of
from loraudit.report.tuned import edge_words, recipe_sheet, search_sheet
from loraudit.spec import RobustnessMatch, RobustnessResult


def render_robustness_html(result: RobustnessResult) -> str:
    """One self-contained page: no script, nothing fetched, no record text."""
    main = result.matches[0] if result.matches else None
    recipes, shared = recipe_sheet(result.methods)
    return fill(
        "robustness.html",
        result=result,
        invalid=invalid_words(result.controls),
        invalid_heading=invalid_heading(result),
        no_match=NO_MATCH,
        how_judged=HOW_JUDGED,
        records_words=records_words(result),
        runs_words=runs_words(result),
        n_seeds=max(seeds_of(result).values(), default=result.spec.seeds),
        collapse_words=collapse_words(result),
        sentence=sentence_beside(result),
        swatches=[_safe(swatch(index)) for index in range(len(result.methods))],
        limits=tables.limits_sheet(result.limits) if result.limits else None,
        main=None if main is None else _matched(result, main, is_main=True),
        others=[_matched(result, match, is_main=False) for match in result.matches[1:]],
        controls=tables.controls_sheet(result),
        worst=None if main is None else tables.worst_sheet(result, main),
        persistence=further.persistence_sheet(result),
        detection=further.detection_sheet(result),
        attacks=further.attacks_sheet(result.attacks),
        search=search_sheet(result.methods),
        edge=edge_words(result.methods),
        recipes=recipes,
        shared=shared,
        runs=further.runs_sheet(result),
        base_facts=facts(result.base.details),
        settings=_settings(result),
        not_said=not_said(result),
    )


def _matched(result: RobustnessResult, match: RobustnessMatch, *, is_main: bool) -> dict[str, Any]:
    """Everything about one match; its figures only where it is the main one."""
    return {
        "title": match_title(match),
        "description": match.description,
        "attacks": [
            {
                "attack": attack,
                "figures": [_safe(svg) for svg in drawings.dose_figures(result, match, attack)] if is_main else [],
                "sheets": tables.dose_sheets(result, match, attack),
            }
            for attack in result.attacks
        ],
        "clean_figures": [_safe(svg) for svg in drawings.clean_figures(result, match)] if is_main else [],
        "clean": tables.clean_sheet(result, match),
        "effective": tables.effective_sheet(result, match),
        "ratios": tables.ratios_sheet(match),
        "differences": tables.differences_sheet(result, match),
    }


def _settings(result: RobustnessResult) -> list[tuple[str, str]]:
    spec = result.spec
    settings: list[tuple[str, Any]] = [
        ("Trained as", result.trained_as.replace("_", " ")),
        ("Positive control", f"{100 * spec.control_dose:g} % of the records that can be poisoned"),
        *((name[:1].upper() + name[1:], value) for name, value in facts(result.numerics)),
        ("Resamples", f"{spec.resamples:,}, seed {spec.seed}"),
        ("Intervals", f"{100 * spec.confidence:g} %, two-sided"),
        ("Started", f"{result.started} (took {result.seconds:,.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("outcomes.parquet", f"sha256 {result.outcomes}"),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]


def _safe(svg: str) -> Any:
    import markupsafe

    return markupsafe.Markup(svg)  # noqa: S704 - drawn by this package, words escaped
