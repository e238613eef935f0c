"""One comparison, four readers: JSON, the page, Markdown and the terminal state the same numbers at the same fit."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from loraudit.cli.contrast_result import show_contrast
from loraudit.report import CONTRAST_FORMATS
from loraudit.spec import ContrastResult, MatchedArm
from loraudit.types import Finding
from synthetic_contrast import WAYS, Contrast, validity

NOT_REACHED = "not reached"
NUMBER = re.compile(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]|not reached")


@st.composite
def results(draw) -> ContrastResult:
    """Up to six methods whose matched AUCs are drawn, some of them not reached."""
    ways = WAYS[: draw(st.integers(1, 6))]
    result = _plain(len(ways), draw(st.sampled_from([1, 3])))
    match = result.matches[0]
    arms: list[MatchedArm] = []
    for arm in match.arms:
        if draw(st.integers(0, 4)) == 0:
            update = {"is_reached": False, "n_reached": 0, "epoch": None, "validation_loss": None, "attacks": {}}
            arms.append(arm.model_copy(update=update))
            continue
        low, value, high = sorted(draw(st.lists(st.integers(0, 1000), min_size=3, max_size=3)))
        found = Finding(value / 1000, low / 1000, high / 1000, 0.95, "m", 1000, 1000)
        seeded = arm.attacks["error_zone"]["auc"].model_copy(update={"finding": found})
        headline = arm.attacks["error_zone"] | {"auc": seeded}
        arms.append(arm.model_copy(update={"attacks": arm.attacks | {"error_zone": headline}}))
    drawn = match.model_copy(update={"arms": arms})
    gates = draw(st.sampled_from([None, validity(), validity(failed=True)]))
    return result.model_copy(update={"matches": [drawn, *result.matches[1:]], "validity": gates})


_KEPT: dict[tuple[int, int], ContrastResult] = {}


def _plain(n_ways: int, n_seeds: int) -> ContrastResult:
    if (n_ways, n_seeds) not in _KEPT:
        _KEPT[n_ways, n_seeds] = Contrast(WAYS[:n_ways], n_seeds, repeats=(), n_epochs=3, per_epoch=1).result()
    return _KEPT[n_ways, n_seeds]


def folded(words: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", words)).split())


def rows_in(markup: str) -> dict[str, str]:
    """The first number with an interval of each row of the first table that has such a column."""
    table = next(t for t in re.findall(r"<table>(.*?)</table>", markup, re.DOTALL) if "trained parameters" in t)
    found: dict[str, str] = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]:
        name, *cells = (folded(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL))
        found[name] = NUMBER.findall(" ".join(cells))[0]
    return found


def read_json(result: ContrastResult) -> dict[str, str]:
    found: dict[str, str] = {}
    for arm in json.loads(CONTRAST_FORMATS["json"](result))["matches"][0]["arms"]:
        auc = arm["attacks"].get("error_zone", {}).get("auc", {}).get("finding")
        shown = NOT_REACHED if auc is None else "{value:.3f} [{lower:.3f}, {upper:.3f}]".format(**auc)
        found[arm["name"]] = shown
    return found


def read_html(result: ContrastResult) -> dict[str, str]:
    return rows_in(CONTRAST_FORMATS["html"](result))


def read_markdown(result: ContrastResult) -> dict[str, str]:
    return rows_in(MarkdownIt("commonmark").enable("table").render(CONTRAST_FORMATS["markdown"](result)))


def read_terminal(result: ContrastResult) -> dict[str, str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_contrast(result)
    lines = shown.getvalue().splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("method"))
    found: dict[str, str] = {}
    for line in lines[start + 1 : start + 1 + len(result.arms)]:
        found[line.split()[0]] = NUMBER.findall(" ".join(line.split()))[0]
    return found


READERS = {"html": read_html, "markdown": read_markdown, "terminal": read_terminal}


def test_every_format_is_read_here():
    assert {*READERS, "json"} == {*CONTRAST_FORMATS, "terminal"}


@pytest.mark.parametrize("format_", READERS)
@settings(max_examples=20, deadline=None)
@given(result=results())
def test_every_format_states_the_same_matched_numbers(format_, result):
    assert READERS[format_](result) == read_json(result)


@settings(max_examples=20, deadline=None)
@given(result=results())
def test_every_format_says_not_valid_exactly_if_a_gate_failed(result):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_contrast(result)
    has_failed = bool(result.validity and result.validity.failed)
    for words in (CONTRAST_FORMATS["html"](result), CONTRAST_FORMATS["markdown"](result), shown.getvalue()):
        assert ("Not valid as it stands" in words) == has_failed
