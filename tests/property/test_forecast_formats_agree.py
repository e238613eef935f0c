"""One forecast: JSON, the page, Markdown, JUnit and the terminal state the same predictions and refusals."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from loraudit.cli.forecast_result import show_forecast
from loraudit.policy import forecast_exit_code, judge_forecast, percent, percent_interval
from loraudit.report import FORECAST_FORMATS
from loraudit.spec import ForecastResult
from loraudit.types import Finding
from synthetic_forecast import Forecast

Read = dict[str, list[str]]
TITLE = "rare_words: predicted attack success by poisoned records"
RATE = r"\d+\.\d+ % \[\d+\.\d+, \d+\.\d+\] %"
PLAIN = Forecast(ranks=(1, 8, 64), refused=()).result()


@st.composite
def results(draw) -> ForecastResult:
    """Predicted successes are drawn; some methods are refused, and limits hold or do not."""
    refused = draw(st.sets(st.sampled_from([one.name for one in PLAIN.methods]), max_size=6))
    methods = [
        one.model_copy(update={"refused": f"{one.name} is off by 70 %." if one.name in refused else None})
        for one in PLAIN.methods
    ]
    curves = []
    for curve in PLAIN.curves:
        if curve.method in refused:
            continue
        points = []
        for point in curve.points:
            low, value, high = sorted(draw(st.lists(st.integers(0, 1000), min_size=3, max_size=3)))
            found = Finding(value / 1000, low / 1000, high / 1000, 0.95, "m", 96, 0)
            drawn = found if point.attack_success is not None else None
            points.append(point.model_copy(update={"attack_success": drawn}))
        curves.append(curve.model_copy(update={"points": points}))
    result = PLAIN.model_copy(update={"methods": methods, "curves": curves})
    limits = draw(st.sampled_from([[], ["refused > 0"], ["refused > 99"]]))
    return result.model_copy(update={"limits": judge_forecast(result, limits)})


def folded(words: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", words)).split())


def rows_in(markup: str) -> Read:
    """Successes of each method, from the table under its title."""
    place = markup.find(f">{TITLE}<")
    if place < 0:
        return {}
    table = re.search(r"<table>(.*?)</table>", markup[place:], re.DOTALL)
    found: Read = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table[1], re.DOTALL)[1:]:
        name, *cells = [folded(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        found[name] = [cell for cell in cells if re.fullmatch(RATE, cell)] or cells[:1]
    return found


def read_json(result: ForecastResult) -> Read:
    content = json.loads(FORECAST_FORMATS["json"](result))
    found: Read = {one["name"]: ["refused"] for one in content["methods"] if one["refused"]}
    for curve in content["curves"]:
        if curve["attack"] == "rare_words":
            points = [Finding(**point["attack_success"]) for point in curve["points"]]
            found[curve["method"]] = [f"{percent(one.value)} {percent_interval(one)}" for one in points]
    return found if content["curves"] else {}


def read_html(result: ForecastResult) -> Read:
    return rows_in(FORECAST_FORMATS["html"](result))


def read_markdown(result: ForecastResult) -> Read:
    rendered = MarkdownIt("commonmark").enable("table").render(FORECAST_FORMATS["markdown"](result))
    return rows_in(rendered)


def terminal(result: ForecastResult) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_forecast(result)
    return shown.getvalue()


def read_terminal(result: ForecastResult) -> Read:
    lines = terminal(result).splitlines()
    if TITLE not in lines:
        return {}
    start = lines.index(TITLE) + 2
    found: Read = {}
    for line in lines[start : start + len(result.methods)]:
        name, rest = line.split(maxsplit=1)
        found[name] = re.findall(RATE, rest) or [rest.strip()]
    return found


READERS = {"html": read_html, "markdown": read_markdown, "terminal": read_terminal}


def test_every_format_is_read_here():
    assert {*READERS, "json", "junit"} == {*FORECAST_FORMATS, "terminal"}


@pytest.mark.parametrize("format_", READERS)
@settings(max_examples=10, deadline=None)
@given(result=results())
def test_every_format_states_the_same_predictions_and_refusals(format_, result):
    assert READERS[format_](result) == read_json(result)


@settings(max_examples=10, deadline=None)
@given(result=results())
def test_every_format_says_what_is_refused_and_the_exit_code_agrees(result):
    refused = [one for one in result.methods if one.refused]
    suite = ET.fromstring(FORECAST_FORMATS["junit"](result))  # noqa: S314 - our own words
    assert int(suite.get("skipped")) == len(refused)
    assert (int(suite.get("failures")) > 0) == (forecast_exit_code(result) == 1)
    markdown = FORECAST_FORMATS["markdown"](result).replace("\\", "")
    for words in (FORECAST_FORMATS["html"](result), markdown, terminal(result), suite.findtext("system-out")):
        plain = folded(words)
        assert folded(result.heading) in plain
        assert folded(result.sentence) in plain
        assert ("is off by 70 %" in plain) == bool(refused)
