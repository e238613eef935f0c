"""What figures about extraction add: bands, stacked bars, and axes of shares, decades and names."""

from __future__ import annotations

import pytest
from test_figures import of_class, parsed, texts

from loraudit.report.figures.lines import Line, Look, Measured, line_figure
from loraudit.report.figures.scales import decade_axis, linear_axis, named_axis, share_axis
from loraudit.report.figures.stacked import StackedRow, stacked_figure

LOOK = Look(400, 300)


def test_a_share_axis_starts_at_0_and_holds_every_share():
    axis = share_axis("share", [0.003, 0.182, 0.231])
    assert axis.first == 0
    assert axis.share(0.231) <= 1
    assert [label for _, label in axis.ticks] == ["0 %", "5 %", "10 %", "15 %", "20 %", "25 %"]
    assert [label for _, label in share_axis("share", [0.0]).ticks][-1] == "100 %"
    assert share_axis("share", [1.0]).last == pytest.approx(1.0)


def test_a_decade_axis_has_a_label_at_each_power_of_ten():
    axis = decade_axis("attempts", 1, 1_000_000)
    assert [label for _, label in axis.ticks] == ["1", "10", "100", "1,000", "10⁴", "10⁵", "10⁶"]
    assert axis.share(1000) == pytest.approx(0.5)
    assert [label for _, label in decade_axis("attempts", 1, 1).ticks] == ["1", "10"]


def test_names_stand_evenly_and_inside():
    axis = named_axis("copies", ["1", "2 to 3", "4 to 15"])
    shares = [axis.share(place) for place, _ in axis.ticks]
    assert all(0 < share < 1 for share in shares)
    assert shares[1] - shares[0] == pytest.approx(shares[2] - shares[1])
    assert 0 < named_axis("copies", ["1"]).share(0.0) < 1


def corners(path: str) -> list[tuple[float, float]]:
    return [tuple(map(float, point.split(","))) for point in path.strip("Mz").split("L")]


def test_a_band_runs_along_upper_ends_and_back_along_lower_ones_within_the_frame():
    points = [Measured(0, 0.5, 0.25, 0.75), Measured(0.5, 0.5, None, None), Measured(1, 0.5, -0.5, 1.5)]
    line = Line("a", 0, [(0, 0.5), (1, 0.5)], band=points)
    svg = parsed(line_figure([line], linear_axis("x", 0, 1), linear_axis("y", 0, 1), LOOK, title="t", description="d"))
    (band,) = of_class(svg, "band arm-0")
    found = corners(band.get("d", ""))
    assert len(found) == 4
    heights = [y for _, y in found]
    bottom, top = 300 - 44, 28
    assert heights == pytest.approx([bottom - 0.75 * (bottom - top), top, bottom, bottom - 0.25 * (bottom - top)])


@pytest.mark.parametrize("points", [[], [Measured(0, 0.5, 0.2, 0.8)], [Measured(0, 0.5), Measured(1, 0.5)]])
def test_fewer_than_two_intervals_make_no_band(points):
    line = Line("a", 0, [(0, 0.5), (1, 0.5)], band=points)
    svg = parsed(line_figure([line], linear_axis("x", 0, 1), linear_axis("y", 0, 1), LOOK, title="t", description="d"))
    assert of_class(svg, "band arm-0") == []


def test_bars_stand_end_to_end_and_say_what_they_sum_to():
    rows = [
        StackedRow("members", 1, [0.2, 0.0, 0.1], 0.25, 0.36, "30.0 %"),
        StackedRow("base", 6, [], None, None, "not measured"),
    ]
    axis = share_axis("share", [0.4])
    svg = parsed(stacked_figure(rows, axis, ["a", "b", "<c>"], heading="h", description="d"))
    first, second = svg.iter("rect")
    ends = [(float(r.get("x", "")), float(r.get("width", ""))) for r in (first, second)]
    assert ends[0][0] + ends[0][1] == pytest.approx(ends[1][0], abs=0.02)
    assert ends[0][1] == pytest.approx(2 * ends[1][1], abs=0.03)
    assert [r.get("class") for r in (first, second)] == ["part kind-0", "part kind-2"]
    assert len(of_class(svg, "whisker sum")) == 1
    assert {"30.0 %", "not measured", "<c>", "members", "h"} <= set(texts(svg))
