"""The part of the audit's page about extraction."""

from __future__ import annotations

import math
from typing import Any

from loraudit.report.memorization import drawings, spoken, tables
from loraudit.report.memorization.columns import at_prefix, stated_prefix
from loraudit.report.memorization.records import passage_pairs, records_sheet
from loraudit.report.memorization.words import extraction_verdict, statements
from loraudit.report.templating import facts
from loraudit.spec import Agreement, AuditResult, MemorizationResult


def memorization_part(result: AuditResult) -> dict[str, Any] | None:
    """What the template needs; None where a result holds no measures of memorization."""
    found = result.memorization
    if found is None:
        return None
    main = spoken.main_generated(found)
    rest = [point for point in found.generated if point not in main]
    return {
        "verdict": extraction_verdict(result),
        "statements": statements(result),
        "prefix": stated_prefix(found),
        "suffix": found.suffix,
        "lines": _lines(found),
        "kinds": [_safe(svg) for svg in drawings.kinds_figures(found)],
        "copies_figures": [_safe(svg) for svg in drawings.copies_figures(found)],
        "greedy": tables.greedy_sheet(found),
        "strengths": tables.strengths_sheet(found),
        "sampled": tables.sampled_sheet(found),
        "all_sampled": tables.sampled_sheets(found),
        "copies": tables.copies_sheet(found),
        "generated": spoken.generated_sheets(found, main),
        "similarity": spoken.similarity_sheets(found, main),
        "other_generated": [*spoken.generated_sheets(found, rest), *spoken.similarity_sheets(found, rest)],
        "near": spoken.near_sheet(found),
        "fields": spoken.fields_sheet(found),
        "personal": spoken.personal_sheet(found),
        "capacity": tables.capacity_sheet(found),
        "records": records_sheet(found),
        "pairs": passage_pairs(found),
        "settings": how_facts(found),
    }


def _lines(found: MemorizationResult) -> list[tuple[Any, str]]:
    """Figures over prefix lengths and attempts, each with what it shows."""
    greedy = "Share said word for word by the likeliest tokens."
    points = at_prefix(found.curve, stated_prefix(found))
    drawn = f"Share said with an even chance or better, {points[0].prefix} tokens given." if points else ""
    figures = [(drawings.greedy_figure(found), greedy), *((svg, drawn) for svg in drawings.curve_figures(found))]
    return [(_safe(svg), words) for svg, words in figures if svg]


def has_passage_text(result: AuditResult) -> bool:
    """Whether the page shows text of passages."""
    return result.memorization is not None and bool(passage_pairs(result.memorization))


def how_facts(found: MemorizationResult) -> list[tuple[str, str]]:
    """How the measures were made, as names and words."""
    return [
        ("suffix", f"{found.suffix} tokens"),
        ("evidence against generation", agreement_words(found.agreement)),
        ("detector of passages", found.detector),
        *facts(found.how),
        ("took", f"{found.seconds:,.0f} s"),
    ]


def agreement_words(agreement: Agreement | None) -> str:
    """Whether what is said of the evidence holds of generation."""
    if agreement is None or not agreement.n_checked:
        return "not checked: nothing was generated greedily"
    n_differ = agreement.n_checked - agreement.n_agree
    said = f"teacher-forced greedy equals generation on {agreement.n_agree:,} of {agreement.n_checked:,}"
    if not n_differ:
        return said
    margin = agreement.smallest_margin
    apart = "" if margin is None or not math.isfinite(margin) else f"; the largest of the margins is {margin:.2g} nats"
    close = f"{agreement.n_close:,} part where a top-2 margin is within batching noise"
    return f"{said}; of the {n_differ:,} others {close}{apart}"


def _safe(svg: str) -> Any:
    import markupsafe

    return markupsafe.Markup(svg)  # noqa: S704 - drawn by this package, words escaped
