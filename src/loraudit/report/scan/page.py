"""The HTML page of a scan."""

from __future__ import annotations

from loraudit.report.scan.tables import families_sheet, modules_sheet, probes_sheet
from loraudit.report.templating import facts, fill, words_of
from loraudit.spec import ScanResult


def render_scan_html(result: ScanResult) -> str:
    """One self-contained page: no script, nothing fetched."""
    return fill(
        "scan.html",
        result=result,
        is_flagged=bool(result.flagged_modules or result.flagged_probes),
        modules=modules_sheet(result),
        families=families_sheet(result),
        probes=probes_sheet(result),
        models=[
            (role, model, facts(model.details))
            for role, model in (("Target", result.target), ("Base", result.reference))
            if model is not None
        ],
        settings=_settings(result),
    )


def _settings(result: ScanResult) -> list[tuple[str, str]]:
    spec = result.spec
    settings: list[tuple[str, object]] = [
        ("Weights", result.weights_file),
        (
            "Modules flagged",
            f"corrected p at most {spec.level:g} over {result.n_tests} tests, and {spec.factor:g} times",
        ),
        ("Intervals", f"{100 * spec.confidence:g} %, two-sided"),
        ("Seed", spec.seed),
        ("Numerics", result.numerics or "no model was run"),
        ("Started", f"{result.started} (took {result.seconds:.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]
