"""The HTML page of a search for canaries."""

from __future__ import annotations

from typing import Any

from loraudit.canaries import chance_bits
from loraudit.canaries.words import controls_stand_out, epsilon_words
from loraudit.report.canaries.tables import exposure_sheet, guesses_sheet, level_name
from loraudit.report.canaries.words import headline_words, not_said, trend_words
from loraudit.report.figures.forest import ForestRow, forest_figure
from loraudit.report.figures.scales import linear_axis
from loraudit.report.templating import facts, fill, words_of
from loraudit.spec import CanaryResult


def render_canaries_html(result: CanaryResult) -> str:
    """One self-contained page: no script, nothing fetched, no context and no secret."""
    return fill(
        "canaries.html",
        result=result,
        is_invalid=controls_stand_out(result.controls),
        headline_words=headline_words(result),
        trend=trend_words(result),
        epsilon_words=epsilon_words(result.epsilon),
        exposure=exposure_sheet(result),
        guesses=guesses_sheet(result),
        figure=_figure(result),
        models=[
            (role, model, facts(model.details))
            for role, model in (("Target", result.target), ("Base", result.reference))
            if model is not None
        ],
        settings=_settings(result),
        not_said=not_said(result),
    )


def _figure(result: CanaryResult) -> Any:
    import markupsafe

    rows = [
        ForestRow(
            level_name(level) if level.repeats else "controls",
            0 if level.repeats else 1,
            level.exposure.value,
            level.exposure.lower,
            level.exposure.upper,
            "undefined" if level.exposure.value is None else f"{level.exposure.value:.2f}",
        )
        for level in (result.controls, *result.levels)
    ]
    axis = linear_axis("mean exposure, bits", 0.0, result.most_bits, is_tight=True)
    svg = forest_figure(
        rows,
        axis,
        heading="Exposure by number of copies",
        chance=chance_bits(result.spec.references),
        description="One row per number of copies: mean exposure and its interval. Dashed: never trained on.",
        width=560,
    )
    return markupsafe.Markup(svg)  # noqa: S704 - drawn by this package, words escaped


def _settings(result: CanaryResult) -> list[tuple[str, str]]:
    spec = result.spec
    settings: list[tuple[str, Any]] = [
        ("Manifest", f"digest {result.manifest}"),
        ("References", f"{spec.references} to each secret, at most {result.most_bits:.2f} bits"),
        ("Guesses", f"{', '.join(f'{100 * share:g} %' for share in spec.guesses)} of the coins, declared beforehand"),
        ("Intervals", f"{100 * spec.confidence:g} %, two-sided"),
        ("Resamples", f"{spec.resamples:,}, seed {spec.seed}"),
        ("Precision", f"{result.numerics['precision']}, vocabulary sums in float32"),
        ("Device", result.numerics["devices"]),
        ("How scored", result.scoring["modes"] or "all evidence was cached"),
        ("Started", f"{result.started} (took {result.seconds:.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("scores.parquet", f"sha256 {result.scores}"),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]
