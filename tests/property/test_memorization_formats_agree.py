"""One statement about extraction, many readers: page, Markdown, model card and terminal say the same of any result."""

from __future__ import annotations

import contextlib
import html
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_formats_agree import as_run, folded, results

from loraudit.cli.result import show_result
from loraudit.report import FORMATS
from loraudit.report.contrast import cell_words
from loraudit.report.memorization import extraction_verdict, short_sheet_of, statements
from loraudit.report.memorization.columns import standing
from loraudit.spec import AuditResult
from synthetic_memorization import Extraction

MADE = [
    Extraction(
        seed, 120, 80, pull, domain, has_base, has_generation, has_copies, prefixes=prefixes, n_records=3
    ).result()
    for seed, (pull, domain, has_base, has_generation, has_copies, prefixes) in enumerate(
        [
            (1.1, 0.0, True, True, True, (16, 50)),
            (0.0, 0.8, True, True, False, (50,)),
            (0.0, -1.0, True, False, False, (16, 32)),
            (2.0, 0.0, False, False, True, (50, 100)),
            (0.3, 0.3, False, True, True, (32,)),
        ]
    )
]
EXAMPLES = settings(max_examples=8, deadline=None)


def words_of(markup: str) -> str:
    return folded(html.unescape(re.sub(r"<[^>]*>", " ", markup)))


def on_terminal(result: AuditResult) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_result(result, verbose=True)
    return folded(shown.getvalue())


def in_markdown(result: AuditResult, format_: str) -> str:
    return words_of(MarkdownIt("commonmark").enable("table").render(FORMATS[format_](as_run(result))))


READERS = {
    "html": lambda result: words_of(FORMATS["html"](as_run(result))),
    "markdown": lambda result: in_markdown(result, "markdown"),
    "model-card": lambda result: in_markdown(result, "model-card"),
    "terminal": on_terminal,
}


@pytest.mark.parametrize("format_", READERS)
@EXAMPLES
@given(result=results(), found=st.sampled_from(MADE))
def test_every_format_says_the_same_of_extraction(format_, result, found):
    whole = result.model_copy(update={"memorization": found})
    verdict = extraction_verdict(whole)
    words = READERS[format_](whole)
    assert verdict.heading in words
    assert folded(verdict.statement.words) in words
    assert verdict.act in words
    if format_ != "model-card":
        for said in statements(whole):
            assert folded(said.words) in words
    if format_ in {"model-card", "terminal"}:
        for row in short_sheet_of(found).rows:
            assert row.name in words
            assert all(cell.value in words for cell in row.cells)
    assert "What can be pulled out" not in READERS[format_](result)


@EXAMPLES
@given(result=results(), found=st.sampled_from(MADE))
def test_tuning_is_blamed_only_where_members_are_above_held_out_and_base(result, found):
    whole = result.model_copy(update={"memorization": found})
    verdict = extraction_verdict(whole)
    if "tuning put these records there" in verdict.statement.words and "not shown" not in verdict.statement.words:
        three = [point.extracted for point in found.greedy]
        assert any(standing(one.members, one.held_out) == standing(one.members, one.base) == "above" for one in three)


def test_cells_of_the_short_table_hold_interval_and_n():
    for found in MADE:
        for row in short_sheet_of(found).rows:
            assert all(re.search(r"\d+ of \d+|n = \d+", cell_words(cell)) for cell in row.cells if cell.value)
