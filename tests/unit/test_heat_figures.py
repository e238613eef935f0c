"""Heat maps and scatters: numbers in the cells, tones in order, places in proportion."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.report.figures.heat import N_TONES, HeatCell, Tones, heat_figure
from loraudit.report.figures.scales import dose_axis, linear_axis, percent_axis
from loraudit.report.figures.scatter import ScatterPoint, scatter_figure


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own words


def heat(cells, rows=None, columns=None) -> ET.Element:
    rows = rows or [str(k) for k in range(len(cells))]
    columns = columns or [str(k) for k in range(len(cells[0]))]
    words = {"title": "A & B", "row_title": "c", "column_title": "rank", "description": "How."}
    return parsed(heat_figure(cells, rows, columns, Tones(0.0, 1.0), **words))


def corners(path: ET.Element) -> tuple[float, float, float, float]:
    numbers = [float(one) for one in path.get("d").replace("M", "").replace("z", "").replace("H", " ").replace("V", " ")
               .replace(",", " ").split()]  # fmt: skip
    left, top, right, bottom, _ = numbers
    return left, top, right, bottom


@given(st.lists(st.floats(-2, 3), min_size=2, max_size=30), st.booleans())
def test_a_larger_number_never_has_a_lighter_tone(values, is_log):
    tones = Tones(0.01, 1.0, is_log=is_log)
    found = [tones.tone(value) for value in sorted(values)]
    assert found == sorted(found)
    assert set(found) <= set(range(N_TONES))


@given(st.lists(st.floats(-2, 3), min_size=2, max_size=30))
def test_a_turned_scale_has_the_tones_turned(values):
    found = [Tones(1.0, 0.0).tone(value) for value in sorted(values)]
    assert found == sorted(found, reverse=True)


def test_tones_have_ends_of_their_own_and_ratios_where_they_are_logarithmic():
    assert [Tones(0, 6).tone(value) for value in range(7)] == [0, 1, 2, 3, 4, 5, 5]
    assert [Tones(1, 1e6, is_log=True).tone(10.0**k) for k in range(7)] == [0, 1, 2, 3, 4, 5, 5]
    assert Tones(1, 1e6, is_log=True).tone(0.0) == 0
    assert Tones(2.0, 2.0).tone(2.0) == 3
    assert Tones(2.0, 2.0, is_log=True).tone(2.0) == 3


def test_every_cell_has_its_number_in_its_place():
    cells = [[HeatCell(0.1, "10", "5–15"), HeatCell(0.95, "95")], [HeatCell(None, "refused"), HeatCell(None, "")]]
    figure = heat(cells, rows=["one", "two"], columns=["1", "8"])
    assert figure.get("aria-label") == figure.findtext("title") == "A & B"
    paths = list(figure.iter("path"))
    assert [path.get("class") for path in paths] == ["heat heat-0", "heat heat-5", "heat none"]
    words = {t.text: (float(t.get("x")), float(t.get("y"))) for t in figure.iter("text") if t.text}
    for path, word in zip(paths, ("10", "95", "refused"), strict=True):
        left, top, right, bottom = corners(path)
        x, y = words[word]
        assert left < x < right
        assert top < y < bottom
    assert corners(paths[0])[0] == corners(paths[2])[0] < corners(paths[1])[0]
    assert corners(paths[0])[1] == corners(paths[1])[1] < corners(paths[2])[1]
    assert words["8"][0] == words["95"][0]
    assert words["two"][1] == words["refused"][1]


def test_a_grid_of_one_cell_is_as_wide_as_its_words():
    figure = heat([[HeatCell(1.0, "1")]], rows=["a long name of a row"])
    width = float(figure.get("viewBox").split()[2])
    assert all(0 <= float(text.get("x")) <= width for text in figure.iter("text"))
    assert width >= 300


def test_a_scatter_puts_marks_where_their_numbers_are_and_grey_dots_below():
    x, y = linear_axis("predicted", 0, 1, n_ticks=2), linear_axis("measured", 0, 1, n_ticks=2)
    points = [ScatterPoint(0.0, 0.0, 1), ScatterPoint(1.0, 1.0, None), ScatterPoint(0.5, 1.0, 2)]
    figure = parsed(scatter_figure(points, x, y, title="T", description="D"))
    marks = [one.get("class") for one in figure.iter("path")]
    assert marks == ["mark other", "mark arm-1", "mark arm-2"]
    (diagonal,) = (corner(one) for one in figure.iter("polyline") if one.get("class") == "chance")
    across, up = (corner(one) for one in figure.iter("polyline") if one.get("class") == "axis")
    assert diagonal == [across[0], (across[1][0], up[1][1])]


def corner(line: ET.Element) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]


def test_axes_that_do_not_meet_have_no_diagonal():
    x, y = linear_axis("", 0.0, 0.2), linear_axis("", 0.6, 0.9)
    figure = parsed(scatter_figure([ScatterPoint(0.1, 0.7, 0)], x, y, title="T", description="D"))
    assert [one for one in figure.iter("polyline") if one.get("class") == "chance"] == []


def test_a_percent_axis_never_leaves_what_a_share_can_be():
    axis = percent_axis("accuracy", 0.87, 1.0)
    assert (axis.first <= 0.87, axis.last) == (True, 1.0)
    assert all(label.endswith(" %") for _, label in axis.ticks)


@pytest.mark.parametrize("doses", [[0, 8.0], [0.05, 0.1, 0.2, 0.4], [1, 10, 100, 1000, 10_000]])
def test_a_dose_axis_keeps_a_place_for_the_clean_arm_below_the_doses(doses):
    axis, clean_at = dose_axis("dose", doses, str)
    assert axis.ticks[0] == (clean_at, "clean")
    assert 0 < axis.first < clean_at < min(one for one in doses if one > 0)
    assert axis.last >= max(doses)
    assert 1 <= len(axis.ticks) <= 8
