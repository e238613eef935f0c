"""What the report says of extraction: three columns, no claim beyond them, and no word of a record unasked."""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from markdown_it import MarkdownIt
from test_report_page import CONTROL, MARKUP, Page, figures, make_result, synthetic_scores

from loraudit.cli.result import show_result
from loraudit.errors import visible
from loraudit.report import render_html, render_markdown, render_model_card
from loraudit.report.memorization import extraction_verdict, short_sheet_of, statements
from loraudit.report.memorization.claims import claim, is_shown
from loraudit.report.memorization.columns import at_prefix, standing, stated_prefix
from loraudit.report.memorization.looks import against_unseen
from loraudit.report.memorization.numbers import interval_words, number_cell, share_cell, share_words
from loraudit.report.memorization.page import agreement_words
from loraudit.report.memorization.tables import capacity_sheet, copies_sheet, greedy_sheet, sampled_sheet
from loraudit.spec import Agreement, AuditResult, Gate, LeakedRecord, MemorizationResult, ValidityResult, WithControls
from loraudit.store.finished_runs import Run
from loraudit.types import Finding
from synthetic_memorization import Extraction, share

SCORES, IS_MEMBER = synthetic_scores(names=("error_zone",))
PLAIN = make_result(SCORES, IS_MEMBER, fpr=(0.1,))
ORDINARY = Extraction().result()
DOMAIN = Extraction(pull=0.0, domain=0.7).result()
NONE = Extraction(pull=0.0, n_members=300, n_held_out=300, domain=-1.0).result()


def with_memorization(found: MemorizationResult, **changes) -> AuditResult:
    return PLAIN.model_copy(update={"memorization": found} | changes)


def html_of(found: MemorizationResult, **changes) -> str:
    run = Run(Path("run"), with_memorization(found, **changes), pa.table({"is_member": IS_MEMBER, **SCORES}))
    return render_html(run)


def document(found: MemorizationResult) -> str:
    """The Markdown as HTML."""
    return MarkdownIt("commonmark").enable("table").render(render_markdown(with_memorization(found)))


def terminal(found: MemorizationResult, *, verbose: bool = False) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_result(with_memorization(found), verbose=verbose)
    return shown.getvalue()


@pytest.fixture(scope="module")
def ordinary() -> str:
    return html_of(ORDINARY)


# ---------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------


def test_the_page_is_whole_runs_nothing_and_loads_nothing(ordinary):
    page = Page(ordinary)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "form", "a"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert names.isdisjoint({"src", "href", "style", "action"})
    assert not re.search(r"url\(|@import|https?:", ordinary)


def test_a_result_without_such_measures_has_no_such_part():
    page = Page(html_of(None))
    assert "pulled out" not in page.text
    assert ".band" not in html_of(None)
    assert "pulled out" not in render_markdown(PLAIN)
    assert "pulled out" not in render_model_card(PLAIN)
    assert extraction_verdict(PLAIN) is None
    assert statements(PLAIN) == []


def test_the_statement_stands_above_every_table_with_counts_shares_intervals_and_the_bound_of_none(ordinary):
    (point,) = (point for point in ORDINARY.greedy if point.prefix == 50)
    members, held_out, base = point.extracted.members, point.extracted.held_out, point.extracted.base
    text = Page(ordinary).text
    said = (
        f"for {round(400 * members.value)} of 400 members ({100 * members.value:.1f} %, [{100 * members.lower:.1f}, "
        f"{100 * members.upper:.1f}] %). Beside that: {round(400 * held_out.value)} of 400 held-out records"
    )
    assert said in text
    assert base.value == 0
    assert f"by the base, before tuning, none of 400 members (at most {100 * (1 - 0.05 ** (1 / 400)):.2f} %)" in text
    assert ordinary.index("word for word for") < ordinary.index("<table")


def test_every_figure_is_drawn_with_its_bands(ordinary):
    drawn = figures(ordinary[ordinary.index("What can be pulled out</h2>") :])
    titles = [figure.findtext("{*}title") or figure.findtext("title") for figure in drawn]
    assert [title.split(",")[0] for title in titles] == [
        "Said word for word",
        "Said in n attempts",
        "Said in n attempts",
        "Said greedily",
        "Mean chance in one attempt",
        "Mean extraction strength",
        "greedy",
        "top_k_40",
    ]
    classes = [[element.get("class", "") for element in figure.iter()] for figure in drawn]
    assert [sum(css.startswith("band") for css in found) for found in classes] == [3, 3, 3, 1, 1, 1, 0, 0]
    assert all(any(css == "whisker sum" for css in found) for found in classes[-2:])


def test_bars_are_as_long_as_the_shares_they_stand_for(ordinary):
    svg = next(one for one in figures(ordinary) if one.get("aria-label", "").startswith("greedy, 50"))
    point = next(point for point in ORDINARY.generated if (point.decoding, point.prefix) == ("greedy", 50))
    wanted = [
        getattr(point.kinds[kind], side).value
        for side in ("members", "held_out", "base")
        for kind in ("verbatim", "near_verbatim", "paraphrase", "idea")
    ]
    widths = [float(rect.get("width", "")) for rect in svg.iter("rect")]
    shown = [value for value in wanted if value > 0]
    assert len(widths) == len(shown)
    scale = widths[0] / shown[0]
    assert widths == pytest.approx([scale * value for value in shown], abs=0.02)


def test_every_table_is_there_with_its_numbers(ordinary):
    text = Page(ordinary).text
    for words in (
        "Next 50 tokens said word for word, greedily",
        "How much of a record is memorized",
        "Said within n attempts with an even chance or better, 50 tokens given",
        "Said within n attempts, 100 tokens given",
        "Members by copies in the training set, 16 tokens given",
        "Worst passage of continuations, greedy, 50 tokens given",
        "Worst passage of continuations, top_k_40, 16 tokens given",
        "Likeness of continuations, greedy, 50 tokens given",
        "Mean chance of one attempt, near-verbatim",
        "Personal information told from other values",
        "Continuations with personal information of the training set",
        "Bits above the base",
        "Members that are the easiest to pull out",
        "teacher-forced greedy equals generation on 99 of 100; of the 1 others 1 part where a top-2 margin is within",
        "batching noise; the largest of the margins is 0.0021 nats",
        "119 undefined",
    ):
        assert words in text
    for record in ORDINARY.records:
        assert record.id in text
    assert f"{ORDINARY.capacity.bits:,.0f}" in text
    assert f"{ORDINARY.capacity.held_out_bits:,.0f}" in text
    assert f"{ORDINARY.capacity.bits_per_parameter:.3g}" in text


def values_of(row) -> list[str]:
    return [cell.value for cell in row.cells]


def values_beside(three: WithControls) -> list[str]:
    return [share_words(one.value) for one in (three.members, three.held_out, three.base)]


def test_tables_hold_each_number_under_its_own_title():
    for row, point in zip(greedy_sheet(ORDINARY).rows, ORDINARY.greedy, strict=True):
        assert values_of(row) == [*values_beside(point.extracted), str(point.n_close)]
    sheet = copies_sheet(ORDINARY)
    assert sheet.columns == ["said greedily", "mean chance in one attempt", "mean extraction strength", "members"]
    for row, level in zip(sheet.rows, ORDINARY.copies, strict=True):
        shares = [share_words(one.value) for one in (level.greedy, level.sampled, level.strength)]
        assert (row.name, values_of(row)) == (level.copies, [*shares, str(level.n_members)])
    held = ORDINARY.capacity.model_copy(update={"n_held_out": 321})
    members, held_out = capacity_sheet(ORDINARY.model_copy(update={"capacity": held})).rows
    assert (members.name, held_out.name) == ("members", "held-out")
    each = [f"{one.value:,.1f}" for one in (held.per_record.members, held.per_record.held_out)]
    assert values_of(members) == [f"{held.bits:,.0f}", each[0], f"{held.bits_per_parameter:.3g}", "400"]
    assert values_of(held_out) == [f"{held.held_out_bits:,.0f}", each[1], "", "321"]


def test_attempts_are_tabulated_at_an_even_chance_and_the_stated_prefix():
    at = {(p.prefix, p.top_k, p.temperature, p.n, p.p): p.extracted for p in ORDINARY.sampled}
    sheet = sampled_sheet(ORDINARY)
    assert [title.split(":")[0] for title in sheet.columns[::3]] == ["all tokens", "40 likeliest"]
    assert [row.name for row in sheet.rows] == ["1 attempt", "10 attempts", "100 attempts", "1,000 attempts"]
    for row, n in zip(sheet.rows, (1, 10, 100, 1000), strict=True):
        assert values_of(row) == [word for k in (0, 40) for word in values_beside(at[50, k, 1.0, n, 0.5])]


def test_the_short_table_has_the_most_attempts_and_the_stated_prefix():
    rows = {row.name: row for row in short_sheet_of(ORDINARY).rows}
    (greedy,) = [point for point in ORDINARY.greedy if point.prefix == 50]
    assert values_of(rows["word for word, greedily, 50 tokens given"]) == values_beside(greedy.extracted)
    (most,) = [p for p in ORDINARY.sampled if (p.prefix, p.top_k, p.temperature, p.n, p.p) == (50, 0, 1.0, 1000, 0.5)]
    assert values_of(rows["the same in 1,000 attempts"]) == values_beside(most.extracted)
    (traced,) = [point for point in ORDINARY.generated if (point.decoding, point.prefix) == ("greedy", 50)]
    near = ORDINARY.near[0].model_copy(update={"budget": 5, "prefix": 50, "near": greedy.extracted})
    other = near.model_copy(update={"prefix": 16, "near": most.extracted})
    assert most.extracted != greedy.extracted
    traced = traced.model_copy(update={"unseen": {"any": share(np.zeros(30), "held_out")}})
    short = short_sheet_of(ORDINARY.model_copy(update={"near": [other, near], "generated": [traced]}))
    (row,) = [row for row in short.rows if row.name.startswith("one attempt, up to 5 tokens off")]
    assert values_of(row) == values_beside(greedy.extracted)
    (row,) = [row for row in short.rows if row.name.startswith("traced to the training set, greedy")]
    assert values_of(row) == values_beside(against_unseen(traced))
    assert values_of(row)[1] == "0 %" != values_beside(traced.kinds["any"])[1]


def test_cells_count_the_records_that_are_defined():
    some = share(np.array([1.0, 0, 0, math.nan]), "held_out")
    cell = share_cell(some)
    assert (cell.value, cell.remark) == ("33.3 %", "1 of 3, 1 undefined")
    assert share_cell(some, is_count=False).remark == number_cell(some).remark == "n = 3, 1 undefined"
    none = share(np.zeros(30), "members")
    assert interval_words(none) == "at most 9.50 %"


def test_the_order_of_records_is_stated_as_it_is(ordinary):
    text = Page(ordinary).text
    assert "First up to ten with the worst passages, the worst first; then those that take the fewest attempts" in text
    assert "By rising attempts" not in text


def test_limits_of_the_measures_are_stated(ordinary):
    text = Page(ordinary).text
    assert "Records were prompted with their own beginnings, for the 50 tokens that follow." in text
    assert "The sums of bits have no interval" in text
    assert "Records were prompted" in document(ORDINARY)
    noted = ORDINARY.model_copy(update={"notes": ["Paraphrases were not checked."]})
    assert "Paraphrases were not checked." in Page(html_of(noted)).text
    assert "Paraphrases were not checked." in document(noted)
    assert "Continuations were traced" not in Page(html_of(Extraction(has_generation=False).result())).text


# ---------------------------------------------------------------------------------------------
# No claim stronger than the columns allow
# ---------------------------------------------------------------------------------------------


def test_members_above_both_controls_are_pulled_out():
    verdict = extraction_verdict(with_memorization(ORDINARY))
    assert (verdict.level, verdict.heading) == ("leaks", "Members can be pulled out word for word")
    assert "tuning put these records there" in verdict.statement.words
    assert "remove repeats" in verdict.act


def test_what_is_said_of_held_out_records_too_is_the_domain():
    verdict = extraction_verdict(with_memorization(DOMAIN))
    assert verdict.level == "detectable"
    assert "not clearly more than records the model never saw" in verdict.heading
    assert "What is said of members is said of held-out records too: the domain, not the records." in (
        verdict.statement.words
    )
    assert "tuning put" not in Page(html_of(DOMAIN)).text


def test_none_is_stated_as_its_bound():
    verdict = extraction_verdict(with_memorization(NONE))
    assert verdict.level == "not_seen"
    assert f"none of 300 members (at most {100 * (1 - 0.05 ** (1 / 300)):.2f} %)" in verdict.statement.words
    assert "0.00 %" not in verdict.statement.words


def of_counts(n_members: int, n_held_out: int, n_base: int | None, n: int = 400) -> WithControls:
    def found(count: int, side: str) -> Finding:
        return share((np.arange(n) < count).astype(float), side)

    return WithControls(
        members=found(n_members, "members"),
        held_out=found(n_held_out, "held_out"),
        base=None if n_base is None else found(n_base, "base"),
    )


@pytest.mark.parametrize(
    ("counts", "words", "shown"),
    [
        ((60, 2, 1), "tuning put these records there", True),
        ((60, 2, 55), "it is not shown that tuning put these records there", False),
        ((60, 2, None), "No base is known", True),
        ((60, 55, 1), "the domain, not the records", False),
        ((40, 60, 1), "the domain, not the records", False),
        ((5, 1, 0), "this many records do not tell the two apart", False),
        ((1, 0, 0), "this many records do not tell the two apart", False),
        ((0, 0, 0), "", False),
        ((0, 12, 0), "", False),
    ],
)
def test_a_claim_follows_from_the_three_columns(counts, words, shown):
    controls = of_counts(*counts)
    assert words in claim(controls)
    assert bool(claim(controls)) == bool(words)
    assert is_shown(controls) is shown


def test_standing_is_unknown_without_intervals():
    undefined = Finding(None, None, None, 0.95, "none", 0, 0)
    assert standing(undefined, of_counts(1, 1, 1).held_out) == "unknown"
    assert standing(of_counts(1, 1, 1).members, None) == "unknown"
    controls = WithControls(members=undefined, held_out=undefined)
    assert claim(controls) == "Without numbers of both sides, nothing can be said of the records."


def test_intervals_that_meet_do_not_tell_members_from_a_control():
    some, few, none = (
        Finding(*ends, 0.95, "exact", 9, 0) for ends in ((0.5, 0.2, 0.8), (0.1, 0.0, 0.3), (0.0, 0, 0.1))
    )
    assert standing(some, few) == "not_clearly", "above its interval, and yet its own reaches into it"
    assert standing(some, none) == "above"


def test_sampling_alone_can_show_a_leak():
    def weaker(point):
        return point.model_copy(update={"extracted": of_counts(0, 0, 0)})

    found = ORDINARY.model_copy(update={"greedy": [weaker(point) for point in ORDINARY.greedy]})
    verdict = extraction_verdict(with_memorization(found))
    assert (verdict.level, verdict.heading) == ("leaks", "Members can be pulled out by asking often")
    titles = [one.title for one in statements(with_memorization(found))]
    assert titles[0] == "Word for word"
    assert "By asking often" not in titles


def test_continuations_alone_can_show_a_leak():
    nothing = [p.model_copy(update={"extracted": of_counts(0, 0, 0)}) for p in ORDINARY.greedy]
    rarely = [p.model_copy(update={"extracted": of_counts(0, 0, 0)}) for p in ORDINARY.sampled]
    found = ORDINARY.model_copy(update={"greedy": nothing, "sampled": rarely})
    verdict = extraction_verdict(with_memorization(found))
    assert (verdict.level, verdict.heading) == ("leaks", "Continuations copy the training set")
    assert "34 of 100 continuations of members" in verdict.statement.words


def beside_unseen(found: MemorizationResult, unseen: int) -> MemorizationResult:
    """A model that says the same of whatever it is asked, and so many times what stands in records never seen."""
    return found.model_copy(
        update={
            "personal": {"email": of_counts(60, 60, 0)},
            "personal_unseen": {"email": of_counts(unseen, 0, 0).members},
            "fields": [],
        }
    )


def test_personal_information_that_is_said_whatever_is_asked_is_given_away():
    def said(found):
        return next(one.words for one in statements(with_memorization(found)) if one.title == "Personal information")

    assert "Continuations of members repeat email of the training set clearly more often" in said(
        beside_unseen(ORDINARY, 2)
    )
    assert "Of no kind do continuations of members repeat" in said(beside_unseen(ORDINARY, 55))
    before = ORDINARY.model_copy(update={"personal": {"email": of_counts(60, 60, 0)}})  # as results were
    assert "Of no kind do continuations of members repeat" in said(before)
    table = Page(html_of(beside_unseen(ORDINARY, 2))).text
    table = table[table.index("Continuations with personal information") :]
    assert "members', of held-out records" in table
    assert "n = 400" in table


def test_the_short_table_compares_with_records_never_seen():
    (point,) = (one for one in ORDINARY.generated if (one.decoding, one.prefix) == ("greedy", 50))
    unseen = point.model_copy(update={"unseen": {"any": of_counts(7, 0, 0).members}})
    found = ORDINARY.model_copy(update={"generated": [unseen]})
    (row,) = (one for one in short_sheet_of(found).rows if one.name.startswith("traced"))
    assert [cell.remark for cell in row.cells] == ["34 of 100", "7 of 400", "2 of 100"]


def test_a_failed_gate_takes_the_comparison_back():
    gate = Gate(name="length", kind="blind", status="failed", summary="s", reason="AUC 0.9")
    validity = ValidityResult(gates=[gate], strongest_blind="length")
    for found, level in ((ORDINARY, "detectable"), (NONE, "unknown")):
        verdict = extraction_verdict(with_memorization(found, validity=validity))
        assert verdict.level == level
        assert "so they cannot be compared" in verdict.statement.words


def test_the_stated_prefix_is_the_one_nearest_to_50_that_any_member_allows():
    assert stated_prefix(ORDINARY) == 50
    assert stated_prefix(Extraction(prefixes=(16, 32)).result()) == 32
    undefined = Finding(None, None, None, 0.95, "none", 0, 0)
    none = WithControls(members=undefined, held_out=undefined)
    short = [point.model_copy(update={"extracted": none}) for point in ORDINARY.greedy if point.prefix >= 50]
    assert stated_prefix(ORDINARY.model_copy(update={"greedy": [*ORDINARY.greedy[:2], *short]})) == 32
    assert {point.prefix for point in at_prefix(ORDINARY.near, 32)} == {50}
    assert at_prefix([], 50) == []


def test_the_short_table_is_of_one_prefix_length():
    assert [row.name for row in short_sheet_of(ORDINARY).rows][2] == "one attempt, up to 5 tokens off"
    near = [point.model_copy(update={"prefix": 100}) for point in ORDINARY.near]
    said = [point for point in ORDINARY.generated if point.prefix != 50]
    drawn = [point for point in ORDINARY.sampled if point.prefix != 50]
    found = ORDINARY.model_copy(update={"near": near, "generated": said, "sampled": drawn})
    assert [row.name for row in short_sheet_of(found).rows] == [
        "word for word, greedily, 50 tokens given",
        "mean extraction strength",
        "mean loss, nats per token",
    ]


def test_a_figure_says_the_prefix_length_that_it_was_drawn_at():
    curve = [point for point in ORDINARY.curve if point.prefix == 16]
    text = Page(html_of(ORDINARY.model_copy(update={"curve": curve}))).text
    assert "Share said with an even chance or better, 16 tokens given." in text


def test_records_too_short_for_any_prefix_are_no_finding():
    undefined = Finding(None, None, None, 0.95, "none", 0, 0, n_undefined_members=400)
    none = WithControls(members=undefined, held_out=undefined)
    greedy = [point.model_copy(update={"extracted": none}) for point in ORDINARY.greedy]
    sampled = [point.model_copy(update={"extracted": none}) for point in ORDINARY.sampled]
    found = ORDINARY.model_copy(update={"greedy": greedy, "sampled": sampled, "curve": [], "generated": []})
    verdict = extraction_verdict(with_memorization(found))
    assert (verdict.level, verdict.act) == ("unknown", "")
    assert (
        "No member has the 50 tokens that must follow a beginning of 16, 32, 50, 100 tokens."
        in Page(html_of(found)).text
    )


# ---------------------------------------------------------------------------------------------
# What is missing is left out or said
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"has_base": False},
        {"has_generation": False},
        {"has_copies": False},
        {"prefixes": (50,)},
        {"n_records": 0},
        {"has_base": False, "has_generation": False, "has_copies": False},
    ],
)
def test_parts_that_were_not_measured_leave_the_others(change):
    found = Extraction(**change).result()
    html = html_of(found)
    text = Page(html).text
    assert Page(html).open == []
    assert not re.search(r"\b(nan|inf|None)\b", text[text.index("What can be pulled out") :])
    assert figures(html)
    assert document(found)
    assert terminal(found, verbose=True)
    if not found.generated:
        assert "Worst passage of continuations" not in text
    if not found.copies:
        assert "Members by copies" not in text
    if found.capacity is None:
        assert "Bits above the base" not in text
        assert "base, before tuning" not in text.replace("under the base, before tuning", "")
        assert "No base is known" in text or "do not tell the two apart" in text
    if not found.records:
        assert "easiest to pull out" not in text


def test_no_measure_but_the_evidence_is_needed():
    found = ORDINARY.model_copy(
        update={"sampled": [], "curve": [], "generated": [], "near": [], "fields": [], "personal": {}, "copies": [],
                "records": [], "capacity": None, "agreement": None, "strengths": []}
    )  # fmt: skip
    html = html_of(found)
    assert Page(html).open == []
    assert "not checked: nothing was generated greedily" in Page(html).text
    assert "Next 50 tokens said word for word" in document(found)
    assert len(short_sheet_of(found).rows) == 2


def test_one_prefix_length_is_drawn_with_whiskers():
    html = html_of(Extraction(prefixes=(50,)).result())
    svg = next(one for one in figures(html) if one.get("aria-label", "").startswith("Said word for word"))
    css = [element.get("class", "") for element in svg.iter()]
    assert sum(one.startswith("whisker") for one in css) == 3
    assert not [one for one in css if one.startswith("band")]


@pytest.mark.parametrize(
    ("agreement", "words"),
    [
        (None, "not checked: nothing was generated greedily"),
        (Agreement(n_checked=0, n_agree=0, n_close=0, smallest_margin=None), "not checked"),
        (Agreement(n_checked=9, n_agree=9, n_close=0, smallest_margin=None), "equals generation on 9 of 9"),
        (Agreement(n_checked=9, n_agree=7, n_close=1, smallest_margin=0.5), "of the 2 others 1 part where"),
    ],
)
def test_agreement_is_counted(agreement, words):
    assert words in agreement_words(agreement)


def test_undefined_and_endless_numbers_are_words():
    record = ORDINARY.records[0].model_copy(update={"attempts": None, "strength": None, "bits": None, "greedy": []})
    field = ORDINARY.fields[0].model_copy(update={"chance": math.nan, "n_candidates": math.nan})
    found = ORDINARY.model_copy(update={"records": [record], "fields": [field]})
    text = Page(html_of(found)).text
    assert "no number suffices" in text
    assert "never" in text
    assert not re.search(r"\bnan\b", text)


def test_bits_that_no_record_has_are_undefined_and_not_none():
    undefined = Finding(None, None, None, 0.95, "none", 0, 0)
    held = ORDINARY.capacity
    none = held.model_copy(
        update={"bits": None, "bits_per_parameter": None, "n_members": 0,
                "per_record": held.per_record.model_copy(update={"members": undefined})}
    )  # fmt: skip
    no_other = held.model_copy(
        update={"held_out_bits": None, "n_held_out": 0,
                "per_record": held.per_record.model_copy(update={"held_out": undefined})}
    )  # fmt: skip
    for capacity in (none, no_other):
        text = document(ORDINARY.model_copy(update={"capacity": capacity}))
        table = text[text.index("Bits above the base") : text.index("Members that are")]
        assert table.count("undefined") == 2
    assert "No held-out record stands beside that." in text


def test_attempts_that_are_undefined_are_not_endless():
    record = ORDINARY.records[0].model_copy(update={"attempts": None, "attempts_defined": False})
    text = Page(html_of(ORDINARY.model_copy(update={"records": [record]}))).text
    assert "no number suffices" not in text
    table = text[text.index("Members that are the easiest to pull out") :]
    assert "undefined" in table
    before = record.model_dump(exclude={"attempts_defined"})  # as results were written before
    assert LeakedRecord.model_validate(before).attempts_defined


# ---------------------------------------------------------------------------------------------
# Record text, and names that others chose
# ---------------------------------------------------------------------------------------------


def test_text_stands_on_the_page_only_where_it_was_asked_for(ordinary):
    found = Extraction(has_text=True).result()
    shown = Page(html_of(found)).text
    assert "4 Elm Street" not in ordinary
    assert "holds no record text" in Page(ordinary).text
    assert "no text is shown (--include-text would)" in Page(ordinary).text
    assert "call before noon" in shown
    assert "ring before noon" in shown
    assert "This page holds record text (--include-text). Keep it as you keep the records." in shown
    assert "holds no record text" not in shown
    assert "4 Elm Street" not in document(found)
    assert "4 Elm Street" not in terminal(found, verbose=True)


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_words_cannot_change_the_shape_of_the_page(words):
    kept = {"svg", "text", "path", "polyline", "title", "desc", "rect"}
    plain, other = (
        Page(html_of(Extraction(words=w, has_text=True, prefixes=(50,), n_members=120).result())) for w in ("", words)
    )
    assert other.open == []
    assert [s for s in other.shape if s[0] not in kept] == [s for s in plain.shape if s[0] not in kept]
    assert {tag for tag, _ in other.shape} == {tag for tag, _ in plain.shape}
    shown = " ".join(words.split())
    for start in ("before noon", "top_k_40", "email", "default", "100 a side", "r0001", "xxxx", "training data 0"):
        assert f"{start}{shown}" in other.text


@pytest.mark.parametrize("words", [*MARKUP, "a | b `c` *d* [e](http://f) <b>", "line\nbreak"])
def test_hostile_words_are_only_words_in_markdown(words):
    def tags(rendered: str) -> list[str]:
        return re.findall(r"</?[a-z0-9]+", rendered)

    def rendered(put: str) -> str:
        return document(Extraction(words=put, prefixes=(50,), n_members=120).result())

    assert tags(rendered(words)) == tags(rendered("x"))


@pytest.mark.parametrize("shown", [html_of, document, lambda found: terminal(found, verbose=True)])
def test_control_characters_are_shown_as_their_code(shown):
    text = shown(Extraction(words=CONTROL, has_text=True, prefixes=(50,), n_members=120).result())
    assert not [c for c in text if not c.isprintable() and c not in "\n\t"]
    assert visible(CONTROL) in text.replace("\\\\", "\\")


# ---------------------------------------------------------------------------------------------
# The terminal and the model card
# ---------------------------------------------------------------------------------------------


def test_the_terminal_leads_with_the_statement_and_has_a_table_of_at_most_eight_lines():
    lines = terminal(ORDINARY).splitlines()
    start = lines.index("What can be pulled out")
    table = lines[start : lines.index("", start)]
    assert len(table) <= 8
    assert "Members can be pulled out word for word" in lines[:start]
    assert "By asking often." not in "\n".join(lines)
    assert "By asking often." in terminal(ORDINARY, verbose=True)


def test_the_model_card_holds_the_statement_and_the_short_table():
    card = render_model_card(with_memorization(ORDINARY))
    assert "### What can be pulled out" in card
    assert "**Members can be pulled out word for word.**" in card
    assert "| traced to the training set, greedy (held-out: to records never seen) |" in card
