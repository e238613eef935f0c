"""One study: JSON, the page, Markdown and the terminal state the same figures, failures and flaws."""

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

from loraudit.cli.study_result import show_study
from loraudit.policy import ends, percent, percent_interval
from loraudit.report import STUDY_FORMATS
from loraudit.spec import StudyFinding, StudyResult
from loraudit.types import Finding
from synthetic_study import Study

Read = dict[str, list[str]]
PLAIN = Study(methods=("full", "lora:4"), epochs=(1, 3), against=None)
TITLE = "leakage: every cell"
NUMBER = r"(?:\d+\.\d+|\d+) ?%? \[[^]]*\](?: %)?|refused"


@st.composite
def results(draw) -> tuple[StudyResult, list[StudyFinding]]:
    """Figures of the first grid are drawn; some cells failed, are absent or have a flaw."""
    cells = []
    for cell in PLAIN.cells():
        status = draw(st.sampled_from(["ok", "ok", "ok", "failed", "absent"]))
        flaw = draw(st.sampled_from([None, None, "1 validity gate failed."])) if status == "ok" else None
        changes = {"status": "ok", "error": None} if status == "ok" else PLAIN.empty(status)
        cells.append(cell.model_copy(update={**changes, "flaw": flaw}))
    finished = {cell.id for cell in cells if cell.status == "ok"}
    findings = []
    for one in PLAIN.findings():
        # from .01 on, where a number has three decimals everywhere
        low, value, high = sorted(draw(st.lists(st.integers(10, 1000), min_size=3, max_size=3)))
        drawn = Finding(value / 1000, low / 1000, high / 1000, 0.95, "m", 96, 7)
        refused = Finding(None, None, None, 0.95, "refused", 96, 7)
        found = refused if one.name.endswith("1pct") and value > 900 else drawn
        if one.cell in finished:
            findings.append(one.model_copy(update={"finding": found}))
    headlines = [one for one in findings if one.is_headline]
    made = PLAIN.result(cells=cells, headlines=headlines, n_findings=len(findings), published=[])
    return made, findings


def folded(words: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", words)).split())


def rows_in(table: str) -> Read:
    found: Read = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]:
        name, *cells = [folded(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        numbers = [match for cell in cells if (match := read_number(cell))]
        found[name] = numbers or [cell.partition(":")[0] for cell in cells if cell.startswith(("FAILED", "not carr"))]
    return found


def read_number(cell: str) -> str | None:
    found = re.match(NUMBER, cell)
    return found[0] if found else None


def read_json(result: StudyResult, findings: list[StudyFinding]) -> Read:
    content = json.loads(STUDY_FORMATS["json"](result, findings))
    found: Read = {}
    for cell in content["cells"]:
        if cell["grid"] != "leakage":
            continue
        said: list[str] = {"failed": ["FAILED"], "absent": ["not carried out"], "ok": []}[cell["status"]]
        for one in content["headlines"]:
            if one["cell"] == cell["id"]:
                finding = Finding(**one["finding"])
                if finding.value is None:
                    said.append("refused")
                elif one["name"].endswith("/auc"):
                    said.append(f"{finding.value:.3f} {ends(finding)}")
                else:
                    said.append(f"{percent(finding.value)} {percent_interval(finding)}")
        found[cell["id"]] = said
    return found


def read_html(result: StudyResult, findings: list[StudyFinding]) -> Read:
    page = STUDY_FORMATS["html"](result, findings)
    found = re.search(rf"<caption>{TITLE}</caption>(.*?)</table>", page, re.DOTALL)
    assert found
    return rows_in(found[1])


def read_markdown(result: StudyResult, findings: list[StudyFinding]) -> Read:
    rendered = MarkdownIt("commonmark").enable("table").render(STUDY_FORMATS["markdown"](result, findings))
    found = re.search(r"Grid <code>leakage</code></h2>\s*<table>(.*?)</table>", rendered, re.DOTALL)
    assert found
    return rows_in(found[1])


def terminal(result: StudyResult, findings: list[StudyFinding]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_study(result, findings)
    return shown.getvalue()


def read_terminal(result: StudyResult, findings: list[StudyFinding]) -> Read:
    """Numbers of a row stand in one line, or their intervals in the line below."""
    _, _, rest = terminal(result, findings).partition(f"\n{TITLE}\n")
    table, _, _ = rest.partition("\n\n")
    found: Read = {}
    for block in re.split(r"\n(?=[0-9a-f]{12} )", table)[1:]:
        name, said = block.split(maxsplit=1)
        intervals = iter(re.findall(r"\[[^]]*\](?: %)?|too few non-members", said))
        values = re.findall(r"\d+\.\d+(?: %)?|refused", re.sub(r"\[[^]]*\](?: %)?", "", said))
        pairs = [(value, next(intervals)) for value in values]
        numbers = [value if value == "refused" else f"{value} {interval}" for value, interval in pairs]
        found[name] = numbers or re.findall(r"FAILED|not carried out", said)
    return found


READERS = {"html": read_html, "markdown": read_markdown, "terminal": read_terminal}


def test_every_format_of_a_study_is_read_here():
    assert {*READERS, "json"} == {*STUDY_FORMATS, "terminal"}


@pytest.mark.parametrize("format_", READERS)
@settings(max_examples=10, deadline=None)
@given(drawn=results())
def test_every_format_states_the_same_figures_and_failures(format_, drawn):
    assert READERS[format_](*drawn) == read_json(*drawn)


@settings(max_examples=10, deadline=None)
@given(drawn=results())
def test_every_format_says_how_many_cells_are_not_valid_or_missing(drawn):
    result, findings = drawn
    flawed = sum(bool(cell.flaw) for cell in result.cells)
    n_failed = sum(cell.status == "failed" for cell in result.cells)
    markdown = STUDY_FORMATS["markdown"](result, findings).replace("\\", "")
    for words in (STUDY_FORMATS["html"](result, findings), markdown, terminal(result, findings)):
        plain = folded(words)
        assert folded(result.heading) in plain
        assert folded(result.sentence) in plain
        assert (f"Not valid as it stands: {flawed} of" in plain) == bool(flawed)
        assert (f"{n_failed} cell{'s' * (n_failed != 1)} failed" in plain) == bool(n_failed)
