"""The page of a search for canaries: one figure at the size of its words, and the table apart from it."""

from __future__ import annotations

import math
import re

from test_report_page import Page, figures

from loraudit.report import render_canaries_html
from loraudit.spec import CanaryResult, CanaryScoreSpec, EpsilonResult, ExposureLevel, ModelSummary
from loraudit.types import Finding

MOST_BITS = math.log2(20)


def level(repeats: int, bits: float) -> ExposureLevel:
    return ExposureLevel(
        repeats=repeats,
        n=6,
        n_undefined=0,
        exposure=Finding(bits, 0.7 * bits, min(MOST_BITS, 1.2 * bits), 0.95, "as if measured", 6, 0),
        exposure_of_target=None,
        first=Finding(0.5, 0.1, 0.9, 0.95, "as if measured", 6, 0),
        n_exposed=2,
        p_value=0.01,
        p_holm=0.02 if repeats else None,
    )


RESULT = CanaryResult(
    loraudit="0.1.0",
    spec=CanaryScoreSpec(model="m", manifest="canaries.json", references=19),
    spec_hash="ab" * 32,
    command="loraudit canaries score m canaries.json",
    heading="Planted secrets are exposed",
    sentence="From 4 copies on.",
    headline="target",
    target=ModelSummary(name="m", kind="adapter", fingerprint="f1" * 32),
    reference=None,
    manifest="cd" * 32,
    n_secrets=10**9,
    most_bits=MOST_BITS,
    levels=[level(1, 1.9), level(4, 4.1)],
    controls=level(0, 1.3),
    trend=Finding(0.6, 0.1, 0.9, 0.95, "as if measured", 12, 0),
    trend_p_value=0.02,
    epsilon=EpsilonResult(
        status="refused", reason="There were no coins.", delta=1e-5, confidence=0.95, n_coins=0, n_included=0, repeats=1
    ),
    numerics={"precision": "fp32", "devices": "cpu"},
    scoring={"modes": "head on audited positions"},
    started="2025-01-01T00:00:00+00:00",
    seconds=3.0,
    versions={"python": "3.11"},
    scores="ef" * 32,
)


def test_the_figure_is_about_as_wide_as_it_was_drawn_and_the_table_keeps_apart():
    html = render_canaries_html(RESULT)
    assert Page(html).open == []
    (figure,) = figures(html)
    (widest,) = re.findall(r"\.figures\.one \{[^}]*max-width: (\d+)rem", html)
    assert 1 <= 16 * int(widest) / float(figure.get("viewBox").split()[2]) < 1.1
    assert html.count('<div class="figures one">') == 1
    assert re.search(r'</figure></div>\s*<div class="after">\s*<div class="scroll"', html)
