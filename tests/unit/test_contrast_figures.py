"""What figures of a comparison are made of: axes, marks, names that do not cover each other, lines cut at the frame."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_figures import HOSTILE, of_class, parsed, points, texts

from loraudit.report.figures.forest import ForestRow, forest_figure
from loraudit.report.figures.labels import Box, place, shortened, spread, width_of
from loraudit.report.figures.lines import Guide, Line, Look, Measured, clipped, line_figure
from loraudit.report.figures.marks import N_COLOURS, arm_css, mark, swatch
from loraudit.report.figures.scales import dose_axis, doubling_axis, linear_axis, rate_axis

UNIT = linear_axis("y", 0, 1)
EXAMPLES = settings(deadline=None, max_examples=100)

# ---------------------------------------------------------------------------------------------
# Axes
# ---------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans(), st.booleans(), st.integers(2, 10))
def test_a_linear_axis_holds_its_range_and_its_ticks(low, span, is_reversed, is_tight, n_ticks):
    axis = linear_axis("x", low, low + span, is_reversed=is_reversed, is_tight=is_tight, n_ticks=n_ticks)
    for value in (low, low + span, *(tick for tick, _ in axis.ticks)):
        assert -1e-6 <= axis.share(value) <= 1 + 1e-6
    assert len(axis.ticks) <= n_ticks + 3
    shares = [axis.share(tick) for tick, _ in axis.ticks]
    assert shares == sorted(shares, reverse=is_reversed)
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)


def test_ticks_are_round_and_written_with_the_digits_they_need():
    assert [label for _, label in linear_axis("x", 0.5, 1.0, n_ticks=5).ticks] == [
        "0.5",
        "0.6",
        "0.7",
        "0.8",
        "0.9",
        "1.0",
    ]
    assert [label for _, label in linear_axis("x", 3.401, 3.437, n_ticks=4, is_tight=True).ticks] == [
        "3.41", "3.42", "3.43",
    ]  # fmt: skip
    assert [label for _, label in linear_axis("x", 0, 10, n_ticks=5).ticks] == ["0", "2", "4", "6", "8", "10"]


def test_a_rate_axis_begins_below_chance_and_takes_zero_at_its_edge():
    axis = rate_axis("TPR", [0.0, 0.2, 0.9], 0.01)
    assert axis.share(0.01) > 0
    assert axis.share(0.0) == 0
    assert axis.share(1.0) == 1
    assert [label for _, label in axis.ticks] == ["1 %", "2 %", "5 %", "10 %", "20 %", "50 %", "100 %"]


@pytest.mark.parametrize(
    ("doses", "labels"),
    [
        ([9], ["9"]),
        ([0, 9, 9], ["9"]),
        ([4, 8], ["4", "8"]),
        ([8.0, 8.1, 8.2, 19], ["8", "19"]),
        ([8, 32, 128, 512], ["10", "30", "100", "300"]),
    ],
)
def test_doses_are_written_at_round_numbers_or_where_they_were_tested(doses, labels):
    axis, clean_at = dose_axis("dose", doses, lambda dose: f"{dose:g}")
    assert [label for _, label in axis.ticks] == ["clean", *labels]
    assert all(axis.holds(dose) for dose in (clean_at, *doses) if dose)


def test_an_axis_of_doses_holds_other_numbers_and_still_writes_the_doses():
    axis, _ = dose_axis("dose", [9], lambda dose: f"{dose:g}", also=[6.5, 9.7])
    assert [label for _, label in axis.ticks] == ["clean", "9"]
    assert axis.holds(6.5)
    assert axis.holds(9.7)


def test_doublings_are_equally_far_apart():
    axis = doubling_axis("times", [1, 4, 16])
    shares = [axis.share(v) for v in (1, 4, 16)]
    assert shares[1] - shares[0] == pytest.approx(shares[2] - shares[1])
    assert [label for _, label in axis.ticks] == ["1", "4", "16"]
    assert doubling_axis("times", [7]).share(7) == pytest.approx(0.5)


# ---------------------------------------------------------------------------------------------
# Marks
# ---------------------------------------------------------------------------------------------


def test_sixty_four_arms_differ_in_colour_or_shape():
    shown = {(arm_css(k), mark(k, 0, 0, 5)) for k in range(64)}
    assert len(shown) == 64
    assert len({mark(k, 0, 0, 5) for k in range(N_COLOURS)}) == N_COLOURS


@pytest.mark.parametrize("index", range(8))
def test_shapes_are_about_equally_large(index):
    """Area by the shoelace formula, against the circle's."""
    if index == 0:
        return
    xy = np.array([[float(v) for v in pair.split(",")] for pair in mark(index, 0, 0, 10)[1:-1].split("L")])
    x, y = xy.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert 0.6 < area / (math.pi * 100) < 1.2


def test_a_swatch_is_xml():
    assert parsed(swatch(3)).get("class") == "swatch"


# ---------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_spread_keeps_names_apart_inside_and_in_order(wanted):
    places = spread(wanted, 15, 0, 300)
    for (a, at_a), (b, at_b) in itertools.combinations(zip(wanted, places, strict=True), 2):
        assert abs(at_a - at_b) >= 15 - 1e-6
        if a != b:
            assert (at_a < at_b) == (a < b)
    assert min(places) >= -1e-6
    assert max(places) <= 300 + 1e-6


@EXAMPLES
@given(st.lists(st.floats(20, 280), min_size=2, max_size=6, unique=True))
def test_spread_leaves_alone_what_is_far_enough_apart(wanted):
    if min(abs(a - b) for a, b in itertools.combinations(wanted, 2)) >= 16:
        assert spread(wanted, 15, 0, 300) == pytest.approx(wanted)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(20, 580), st.floats(20, 380)), min_size=1, max_size=8))
def test_names_do_not_cover_each_other_and_stay_inside(ends):
    frame = Box(0, 0, 600, 400)
    names = [(f"lora:{k}", end) for k, end in enumerate(ends)]
    lines = [[(0.0, 400.0), end] for end in ends]
    spots = place(names, lines, ends, frame)
    for spot in spots:
        assert frame.overlap(spot.box) == pytest.approx(spot.box.overlap(spot.box))
    for a, b in itertools.combinations(spots, 2):
        assert a.box.overlap(b.box) == 0


def test_names_of_arms_that_end_at_one_point_are_led_back_to_it():
    ends = [(300.0, 200.0)] * 6
    spots = place([(f"arm{k}", end) for k, end in enumerate(ends)], [], ends, Box(0, 0, 600, 400))
    assert any(spot.leader is not None for spot in spots)
    for spot in spots:
        assert spot.leader is None or spot.leader[0] == (300.0, 200.0)


def test_a_name_without_any_room_is_still_written():
    (spot,) = place([("a very long name indeed", (5.0, 5.0))], [], [], Box(0, 0, 10, 10))
    assert spot.box.right - spot.box.left == width_of("a very long name indeed")


def test_names_are_cut_and_made_visible():
    assert shortened("lora:64", 14) == "lora:64"
    assert shortened("lora:rank=8,dora=true", 12) == "lora:rank=8…"
    assert shortened("a\x1b[2J\nb", 20) == "a\\x1b[2J b"


# ---------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(st.tuples(st.floats(-2, 3), st.floats(-2, 3)), min_size=1, max_size=12))
def test_cut_lines_stay_inside_and_keep_what_was_inside(line):
    parts = clipped(line)
    for part in parts:
        for point in part:
            assert all(-1e-6 <= value <= 1 + 1e-6 for value in point)
    kept = {(round(x, 9), round(y, 9)) for part in parts for x, y in part}
    for x, y in line:
        if 0 <= x <= 1 and 0 <= y <= 1:
            assert (round(x, 9), round(y, 9)) in kept


def test_a_line_that_leaves_and_comes_back_is_drawn_in_two_parts():
    parts = clipped([(0.2, 0.5), (1.5, 0.5), (1.5, 0.7), (0.2, 0.7)])
    assert [part[-1][0] for part in parts] == [1.0, 0.2]
    assert clipped([(2.0, 2.0), (3.0, 3.0)]) == []
    assert clipped([]) == []


def simple(names, **changes):
    lines = [Line(name, k, [(0, 0.1 * k), (0.5, 0.5), (1, 0.6 + 0.1 * k)]) for k, name in enumerate(names)]
    look = Look(370, 340, **changes)
    return line_figure(lines, UNIT, UNIT, look, title="t", description="d", guides=[Guide(0.5, "guessing")])


@pytest.mark.parametrize("are_names_right", [True, False])
def test_every_line_is_named_once_and_the_guide_too(are_names_right):
    figure = parsed(simple(["a", "b", "c"], are_names_right=are_names_right))
    words = texts(figure)
    for name in ("a", "b", "c", "guessing"):
        assert words.count(name) == 1


@pytest.mark.parametrize("are_names_right", [True, False])
def test_hostile_names_are_words(are_names_right):
    figure = parsed(simple([HOSTILE, "b\x1b[2J"], are_names_right=are_names_right, most_letters=60))
    assert HOSTILE in texts(figure)
    assert "b\\x1b[2J" in texts(figure)


def test_whiskers_reach_from_end_to_end_and_no_further_than_the_frame():
    line = Line("a", 0, [(0, 0.5), (1, 0.5)], stated=[Measured(0.5, 0.5, 0.25, 0.75), Measured(0.9, 0.5, -3.0, 9.0)])
    figure = parsed(line_figure([line], UNIT, UNIT, Look(370, 340), title="t", description="d"))
    axis = points(of_class(figure, "axis")[-1])
    bottom, top = axis[0, 1], 28
    ends = [[float(v) for v in whisker.get("d").split("M")[1].split(",")[1].split("V")]
            for whisker in of_class(figure, "whisker arm-0")]  # fmt: skip
    height = bottom - top
    caps = [whisker.get("d").count("h6") for whisker in of_class(figure, "whisker arm-0")]
    assert caps == [2, 0], "an end beyond the frame is an arrow"
    assert ends[0] == pytest.approx([bottom - 0.25 * height, bottom - 0.75 * height], abs=0.02)
    assert ends[1] == pytest.approx([bottom, top], abs=0.02)


@pytest.mark.parametrize("x", [0.2, 0.5, 0.9])
def test_the_words_of_a_level_line_keep_clear_of_whiskers_and_lines(x):
    crossing = Line("a", 0, [(x - 0.1, 0.3), (x + 0.1, 0.7)], stated=[Measured(x, 0.5, 0.05, 0.95)])
    look, guides = Look(370, 340), [Guide(0.5, "guessing")]
    figure = parsed(line_figure([crossing], UNIT, UNIT, look, title="t", description="d", guides=guides))
    (words,) = [text for text in figure.iter("text") if text.text == "guessing"]
    right, left = float(words.get("x")), float(words.get("x")) - width_of("guessing")
    (whisker,) = of_class(figure, "whisker arm-0")
    at = float(whisker.get("d")[1:].split(",")[0])
    assert not left - 2 <= at <= right + 2
    assert words.get("text-anchor") == "end"


def test_a_figure_without_any_line_is_still_a_figure():
    assert parsed(line_figure([], UNIT, UNIT, Look(370, 340), title="t", description="d")) is not None
    assert parsed(line_figure([Line("a", 0, [])], UNIT, UNIT, Look(370, 340), title="t", description="d")) is not None


def test_long_lines_do_not_get_a_mark_at_every_point_but_at_the_last():
    line = Line("a", 0, [(k / 100, k / 100) for k in range(101)])
    figure = parsed(line_figure([line], UNIT, UNIT, Look(370, 340), title="t", description="d"))
    marks = of_class(figure, "mark small arm-0")
    assert 10 <= len(marks) <= 13


# ---------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------


def test_rows_have_their_number_or_words():
    rows = [
        ForestRow("full", 0, 0.8, 0.7, 0.9, "0.800"),
        ForestRow("head", 1, None, None, None, "not reached"),
        ForestRow("lora:4", 2, 0.5, None, None, "0.500"),
    ]
    figure = parsed(forest_figure(rows, UNIT, heading="After 3 epochs", chance=0.5, description="d"))
    assert {"full", "head", "lora:4", "0.800", "not reached", "0.500", "After 3 epochs"} <= set(texts(figure))
    assert len(of_class(figure, "whisker arm-0")) == 1
    assert not of_class(figure, "whisker arm-2")
    assert not of_class(figure, "mark arm-1")
    assert len(of_class(figure, "mark arm-2")) == 1


def test_a_heading_that_stands_beside_the_figure_is_its_title_and_is_not_drawn():
    rows = [ForestRow("a", 0, 0.5, 0.4, 0.6, "")]
    figure = parsed(forest_figure(rows, UNIT, heading="AUC", chance=0.5, description="d", has_heading=False))
    assert figure.get("aria-label") == figure.findtext("title") == "AUC"
    assert "AUC" not in texts(figure)


def test_a_wider_interval_is_a_longer_whisker():
    rows = [ForestRow("a", 0, 0.5, 0.4, 0.6, ""), ForestRow("b", 1, 0.5, 0.2, 0.8, "")]
    figure = parsed(forest_figure(rows, UNIT, heading="h", chance=0.5, description="d"))

    def length(index):
        (whisker,) = of_class(figure, f"whisker arm-{index}")
        start, end = whisker.get("d").split("M")[1].split("H")
        return float(end) - float(start.split(",")[0])

    assert length(1) == pytest.approx(3 * length(0), rel=0.01)
