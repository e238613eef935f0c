"""One robustness run: JSON, the page, Markdown, JUnit and the terminal state the same verdicts and numbers."""

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

from loraudit.cli.robustness_result import show_robustness
from loraudit.policy import judge_robustness, percent, percent_interval, robustness_exit_code
from loraudit.policy.robustness import state
from loraudit.report import ROBUSTNESS_FORMATS
from loraudit.report.robustness.words import VERDICT_WORDS
from loraudit.spec import RobustnessResult
from loraudit.types import Finding
from synthetic_robustness import WAYS, Robustness

_KEPT: dict[int, RobustnessResult] = {}
Read = dict[tuple[str, str], tuple[str, str]]
RATE = r"\d+\.\d+ % \[-?\d+\.\d+, \d+\.\d+\] %"


def _plain(n_ways: int) -> RobustnessResult:
    if n_ways not in _KEPT:
        _KEPT[n_ways] = Robustness(WAYS[:n_ways], 2).result()
    return _KEPT[n_ways]


@st.composite
def results(draw) -> RobustnessResult:
    """Up to four methods whose verdicts and positive controls are drawn, with limits that hold or do not."""
    result = _plain(draw(st.integers(1, 4)))
    controls = []
    for control in result.controls:
        verdict = draw(st.sampled_from(list(VERDICT_WORDS)))
        update = {"verdict": verdict, "reasons": [f"It was {verdict}."]}
        if control.positive is not None:
            low, value, high = sorted(draw(st.lists(st.integers(0, 1000), min_size=3, max_size=3)))
            update["positive"] = Finding(value / 1000, low / 1000, high / 1000, 0.95, "m", 412, 0)
        controls.append(control.model_copy(update=update))
    heading, sentence = state(controls, result.matches, result.attacks)
    limits = draw(st.sampled_from([[], ["n_invalid > 0"], ["n_invalid > 99"]]))
    drawn = result.model_copy(update={"controls": controls, "heading": heading, "sentence": sentence})
    return drawn.model_copy(update={"limits": judge_robustness(drawn, limits)})


def folded(words: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", words)).split())


def rows_in(markup: str) -> Read:
    """Verdict and positive control of each attack and method, from the table that has such columns."""
    table = next(t for t in re.findall(r"<table>(.*?)</table>", markup, re.DOTALL) if "positive control</th>" in t)
    found: Read = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]:
        cells = [folded(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        method, attack, verdict, positive, *_ = cells
        found[attack, method] = verdict, positive
    return found


def read_json(result: RobustnessResult) -> Read:
    found: Read = {}
    for control in json.loads(ROBUSTNESS_FORMATS["json"](result))["controls"]:
        positive = "none" if control["positive"] is None else Finding(**control["positive"])
        words = positive if isinstance(positive, str) else f"{percent(positive.value)} {percent_interval(positive)}"
        found[control["attack"], control["method"]] = VERDICT_WORDS[control["verdict"]], words
    return found


def read_html(result: RobustnessResult) -> Read:
    return rows_in(ROBUSTNESS_FORMATS["html"](result))


def read_markdown(result: RobustnessResult) -> Read:
    return rows_in(MarkdownIt("commonmark").enable("table").render(ROBUSTNESS_FORMATS["markdown"](result)))


def terminal(result: RobustnessResult) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_robustness(result)
    return shown.getvalue()


def read_terminal(result: RobustnessResult) -> Read:
    lines = terminal(result).splitlines()
    start = lines.index("Controls and verdicts") + 2
    found: Read = {}
    for line in lines[start : start + len(result.controls)]:
        method, attack, verdict, rest = line.split(maxsplit=3)
        found[attack, method] = verdict, "none" if rest.startswith("none") else re.findall(RATE, rest)[0]
    return found


READERS = {"html": read_html, "markdown": read_markdown, "terminal": read_terminal}


def test_every_format_is_read_here():
    assert {*READERS, "json", "junit"} == {*ROBUSTNESS_FORMATS, "terminal"}


@pytest.mark.parametrize("format_", READERS)
@settings(max_examples=10, deadline=None)
@given(result=results())
def test_every_format_states_the_same_verdicts_and_controls(format_, result):
    assert READERS[format_](result) == read_json(result)


@settings(max_examples=10, deadline=None)
@given(result=results())
def test_every_format_leads_with_the_controls_that_fail_and_says_the_same(result):
    has_failed = any(control.verdict == "invalid" for control in result.controls)
    suite = ET.fromstring(ROBUSTNESS_FORMATS["junit"](result))  # noqa: S314 - our own words
    assert int(suite.get("skipped")) == sum(control.verdict == "invalid" for control in result.controls)
    assert (int(suite.get("failures")) > 0) == (robustness_exit_code(result) == 1)
    markdown = ROBUSTNESS_FORMATS["markdown"](result).replace("\\", "")
    for words in (ROBUSTNESS_FORMATS["html"](result), markdown, terminal(result), suite.findtext("system-out")):
        plain = folded(words)
        assert folded(result.heading) in plain
        named = [plain.find(lead) for lead in ("a control fails", "Not valid as it stands") if lead in plain]
        assert bool(named) == has_failed
        if has_failed:
            assert min(named) < plain.index(folded(result.heading))
