"""Figures: well-formed SVG with true proportions, whatever the scores."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.report.figures import histogram_figure, percent_tick, roc_figure
from loraudit.report.figures.labels import width_of
from loraudit.statistics import roc_curve

NAN, INF = math.nan, math.inf
HOSTILE = """<script>alert(1)</script>"'&{{7*7}}"""


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own words


def two_sides(n_members: int = 200, n_nonmembers: int = 200, *, shift: float = 1.0):
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(shift, 1, n_members), rng.normal(0, 1, n_nonmembers)])
    return scores, np.arange(len(scores)) < n_members


def of_class(figure: ET.Element, css: str) -> list[ET.Element]:
    return [element for element in figure.iter() if element.get("class") == css]


def points(element: ET.Element) -> np.ndarray:
    return np.array([[float(v) for v in pair.split(",")] for pair in element.get("points").split()])


def texts(figure: ET.Element) -> list[str]:
    return [element.text for element in figure.iter("text")]


def numbers(figure: ET.Element) -> list[float]:
    """Every coordinate."""
    found = [
        float(element.get(name))
        for element in figure.iter()
        for name in ("x", "y", "width", "height")
        if element.get(name)
    ]
    return found + [value for line in figure.iter("polyline") for value in points(line).ravel()]


# ---------------------------------------------------------------------------------------------
# ROC
# ---------------------------------------------------------------------------------------------


def test_roc_figure_is_xml_with_words_for_those_who_cannot_see_it():
    scores, is_member = two_sides()
    figure = parsed(roc_figure({"error_zone": scores}, is_member, "error_zone"))
    assert figure.tag == "svg"
    assert figure.get("role") == "img"
    assert figure.get("aria-label") == figure.findtext("title") == "ROC curve of error_zone, logarithmic axes"
    assert figure.findtext("desc")
    assert {"false-positive rate", "true-positive rate"} <= set(texts(figure))


def test_roc_figure_draws_every_attack_and_the_headline_thick():
    scores, is_member = two_sides()
    all_scores = {"a": scores, "b": -scores, "c": scores**2}
    figure = parsed(roc_figure(all_scores, is_member, "b", compared=["a", "b", "c"]))
    assert {"a", "b", "c"} <= set(texts(figure))
    assert texts(figure).count("b") == 1
    curves = [e for e in figure.iter("polyline") if e.get("class").startswith("curve")]
    assert len([c for c in curves if c.get("class") == "curve headline"]) == 2  # the curve and its mark in the legend
    assert len(curves) == 6


def test_roc_curve_is_drawn_where_it_is():
    """Inverting the axes gives rates of the curve, up to what is below the smallest rate or within a pixel."""
    scores, is_member = two_sides()
    svg = parsed(roc_figure({"a": scores}, is_member, "a"))
    drawn = max(of_class(svg, "curve headline"), key=lambda line: len(points(line)))
    axes = np.concatenate([points(line) for line in of_class(svg, "axis")])
    low, high = axes.min(axis=0), axes.max(axis=0)
    share = (points(drawn) - low) / (high - low)
    share[:, 1] = 1 - share[:, 1]
    smallest = 1e-3  # 200 non-members: the power of ten below 1/200
    rates = smallest ** (1 - share)
    curve = roc_curve(scores[is_member], scores[~is_member])
    known = np.stack([np.maximum(curve.fpr, smallest), np.maximum(curve.tpr, smallest)], axis=1)
    for rate in rates:
        assert np.abs(np.log10(known) - np.log10(rate)).max(axis=1).min() < 0.01
    np.testing.assert_allclose(rates[-1], [1, 1], rtol=0.01)


@pytest.mark.parametrize(
    ("n_nonmembers", "left_tick"), [(50, "1 %"), (200, "0.1 %"), (5000, "0.01 %"), (200_000, "0.01 %")]
)
def test_roc_axis_begins_at_what_the_sample_can_hold(n_nonmembers, left_tick):
    scores, is_member = two_sides(20, n_nonmembers)
    figure = parsed(roc_figure({"a": scores}, is_member, "a"))
    ticks = [text for text in texts(figure) if text.endswith(" %")]
    assert ticks[0] == left_tick
    assert ticks[-1] == "100 %"


def test_the_title_of_the_roc_axis_keeps_clear_of_its_ticks():
    scores, is_member = two_sides(20, 200_000)
    figure = parsed(roc_figure({"a": scores}, is_member, "a"))
    (title,) = [text for text in figure.iter("text") if text.text == "true-positive rate"]
    ticks = [text for text in figure.iter("text") if text.get("text-anchor") == "end"]
    assert "0.01 %" in [tick.text for tick in ticks]
    assert min(float(tick.get("x")) - width_of(tick.text) for tick in ticks) > float(title.get("x")) + 4


def test_unresolved_rates_are_shaded_up_to_one_in_n():
    scores, is_member = two_sides(50, 200)
    figure = parsed(roc_figure({"a": scores}, is_member, "a"))
    (shade,) = of_class(figure, "unresolved")
    axis = points(of_class(figure, "axis")[0])
    width = axis[:, 0].max() - axis[:, 0].min()
    # 1/200 on an axis from 1/1000 to 1: (log 1000 - log 200)/log 1000.
    assert float(shade.get("width")) / width == pytest.approx(1 - math.log10(200) / 3, abs=1e-3)


def test_attacks_without_scores_on_a_side_are_left_out_of_the_curves():
    scores, is_member = two_sides()
    empty = np.where(is_member, scores, NAN)
    figure = parsed(roc_figure({"a": scores, "empty": empty}, is_member, "a", compared=["empty"]))
    assert len(of_class(figure, "curve other-0")) == 1  # the legend alone
    assert parsed(roc_figure({"a": np.full(400, NAN)}, is_member, "a")) is not None


def test_large_samples_do_not_make_large_figures():
    scores, is_member = two_sides(20_000, 20_000)
    assert len(roc_figure({"a": scores}, is_member, "a")) < 60_000


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_samples_are_drawn(n):
    scores, is_member = two_sides(n, n)
    figure = parsed(roc_figure({"a": scores}, is_member, "a"))
    assert all(math.isfinite(number) for number in numbers(figure))


def test_a_run_without_nonmembers_is_drawn():
    figure = parsed(roc_figure({"a": np.arange(3.0)}, np.ones(3, dtype=bool), "a"))
    assert all(math.isfinite(number) for number in numbers(figure))
    assert len(of_class(figure, "curve headline")) == 1  # the legend alone
    (shade,) = of_class(figure, "unresolved")
    axis = points(of_class(figure, "axis")[0])
    assert float(shade.get("width")) == pytest.approx(axis[:, 0].max() - axis[:, 0].min())  # nothing is resolved


def test_infinite_scores_have_a_curve():
    scores, is_member = two_sides()
    scores[[0, 1, 250, 251]] = INF
    svg = roc_figure({"a": scores}, is_member, "a")
    assert all(math.isfinite(number) for number in numbers(parsed(svg)))
    highest = np.where(np.isinf(scores), 1e9, scores)
    assert svg == roc_figure({"a": highest}, is_member, "a")


# ---------------------------------------------------------------------------------------------
# Histogram
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [False, True])
def test_histogram_is_xml_with_words_for_those_who_cannot_see_it(small):
    scores, is_member = two_sides()
    figure = parsed(histogram_figure("loss", scores, is_member, small=small))
    assert figure.get("aria-label") == figure.findtext("title") == "Scores of loss"
    assert figure.findtext("desc")
    assert "score of loss" in texts(figure)
    assert ("members" in texts(figure)) == (not small)


def test_bars_are_shares_of_their_own_side():
    """Nine members and one non-member at 0, one member at 1: .9 .1 and 1."""
    values, is_member = np.array([0.0] * 9 + [1.0, 0.0]), np.arange(11) < 10
    figure = parsed(histogram_figure("a", values, is_member, small=True))
    heights = {
        side: [float(bar.get("height")) for bar in of_class(figure, f"bar {side}")] for side in ("member", "nonmember")
    }
    tallest = heights["nonmember"][0]
    assert heights["nonmember"] == [tallest]
    assert heights["member"] == pytest.approx([0.9 * tallest, 0.1 * tallest], abs=0.02)
    assert "100 %" in texts(figure)


def test_every_record_is_in_a_bar_even_the_outermost():
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy(2000)
    is_member = np.arange(2000) < 1000
    figure = parsed(histogram_figure("a", values, is_member, small=True))
    by_side = {
        side: sum(float(bar.get("height")) for bar in of_class(figure, f"bar {side}"))
        for side in ("member", "nonmember")
    }
    assert by_side["member"] == pytest.approx(by_side["nonmember"], rel=0.01)


def test_the_legend_stands_above_every_bar():
    scores, is_member = two_sides()
    figure = parsed(histogram_figure("loss", scores, is_member))
    (bottom,) = {float(e.get("y")) for e in figure.iter("text") if e.text in {"members", "non-members"}}
    tops = [float(bar.get("y")) for side in ("member", "nonmember") for bar in of_class(figure, f"bar {side}")
            if bar.tag == "rect"]  # fmt: skip
    assert bottom + 4 < min(tops)


def test_undefined_scores_are_left_out_and_none_at_all_gives_no_figure():
    scores, is_member = two_sides()
    holes = np.append(scores, [NAN, NAN])
    sides = np.append(is_member, [True, False])
    assert histogram_figure("a", holes, sides) == histogram_figure("a", scores, is_member)
    assert histogram_figure("a", np.full(400, NAN), is_member) == ""


@pytest.mark.parametrize(
    "values",
    [
        [0.5] * 6,
        [1e17] * 6,
        [0.0, 0.0, 0.0, 1e-300, 0.0, 0.0],
        [INF] * 6,
        [-INF, -INF, INF, INF, -INF, INF],
        [INF, 1.0, 2.0, -INF, 1.5, 1.0],
        [NAN, 1.0, NAN, NAN, NAN, 2.0],
        [1.0, 2.0, 3.0, NAN, NAN, NAN],
        [-1e300, 1e300, 0.0, 1.0, 2.0, 3.0],
    ],
    ids=str,
)
@pytest.mark.parametrize("small", [False, True])
def test_odd_scores_are_drawn(values, small):
    figure = parsed(histogram_figure("a", np.array(values), np.arange(6) < 3, small=small))
    assert all(math.isfinite(number) for number in numbers(figure))
    assert of_class(figure, "bar member") + of_class(figure, "bar nonmember")


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(st.floats(-1e9, 1e9), st.sampled_from([NAN, INF, -INF]), st.integers(-2, 2).map(float)),
        min_size=2,
        max_size=30,
    ),
    st.integers(1, 29),
)
def test_every_figure_is_finite_xml(values, n_members):
    is_member = np.arange(len(values)) < min(n_members, len(values) - 1)
    svgs = [
        histogram_figure("a", np.array(values), is_member),
        roc_figure({"a": np.array(values)}, is_member, "a"),
    ]
    for svg in filter(None, svgs):
        assert "nan" not in re.sub(r"<title>.*?</desc>", "", svg)
        assert all(math.isfinite(number) for number in numbers(parsed(svg)))


# ---------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------


def test_hostile_names_are_words_not_markup():
    scores, is_member = two_sides()
    for svg, plain in (
        (roc_figure({HOSTILE: scores}, is_member, HOSTILE), roc_figure({"a": scores}, is_member, "a")),
        (histogram_figure(HOSTILE, scores, is_member), histogram_figure("a", scores, is_member)),
    ):
        assert [element.tag for element in parsed(svg).iter()] == [element.tag for element in parsed(plain).iter()]
        assert HOSTILE in parsed(svg).findtext("title")
        assert any(HOSTILE in text for text in texts(parsed(svg)))


def test_control_characters_in_names_leave_valid_xml():
    scores, is_member = two_sides()
    name, shown = "a\x1b[31m\x07\u202e", "a\\x1b[31m\\x07\\x202e"
    for svg in (roc_figure({name: scores}, is_member, name), histogram_figure(name, scores, is_member)):
        figure = parsed(svg)
        assert not [c for c in svg if not c.isprintable()]
        assert shown in figure.findtext("title")
        assert any(shown in text for text in texts(figure))


@pytest.mark.parametrize(("share", "words"), [(1.0, "100 %"), (0.125, "12.5 %"), (0.00123, "0.123 %"), (0.0, "0 %")])
def test_ticks(share, words):
    assert percent_tick(share) == words
