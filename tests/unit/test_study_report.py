"""The report of a study: what is not valid stands first, no cell is passed over, and every name is only words."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from test_report_page import MARKUP, Page, figures
from typer.testing import CliRunner

from loraudit.cli import app
from loraudit.cli.study_result import show_study
from loraudit.errors import ConfigError, NewerVersion, StoreError, visible
from loraudit.policy import percent, percent_interval
from loraudit.report import STUDY_FORMATS, render_study_html, render_study_markdown
from loraudit.report.sheets import plain_rows
from loraudit.report.study import ends_sheet, figure_sheets, measures_of
from loraudit.report.study.cells import figure_cell, link_of, n_words
from loraudit.report.study.drawings import MOST_PANELS, panels_of, plan_of
from loraudit.spec import SCHEMA_VERSION, StudyFinding, StudyResult
from loraudit.store import read_run, read_study
from loraudit.study.findings import write_findings
from loraudit.types import Finding
from synthetic_study import ERROR, FLAW, Study, number

PLAIN = Study()
STUDIES: dict[str, tuple[StudyResult, list[StudyFinding]]] = {
    "ordinary": (PLAIN.result(), PLAIN.findings()),
    "alone": (
        Study(methods=("full",), epochs=(3,), seeds=(0,), against=None).result(published=[]),
        Study(methods=("full",), epochs=(3,), seeds=(0,)).findings(),
    ),
    "many": (Study(epochs=tuple(range(1, 30))).result(), Study(epochs=tuple(range(1, 30))).findings()),
    "empty": (
        PLAIN.result(cells=[], headlines=[], published=[], regressions=[], n_findings=0, carried_out={}, warnings=[]),
        [],
    ),
    "nothing": (
        PLAIN.result(
            cells=[cell.model_copy(update=PLAIN.empty("failed")) for cell in PLAIN.cells()], headlines=[], published=[]
        ),
        [],
    ),
}


@functools.cache
def html_of(name: str) -> str:
    return render_study_html(*STUDIES[name])


def terminal(result: StudyResult, findings: list[StudyFinding], *, verbose: bool = False) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_study(result, findings, verbose=verbose)
    return shown.getvalue()


def document(result: StudyResult, findings: list[StudyFinding]) -> str:
    """The Markdown as HTML."""
    return MarkdownIt("commonmark").enable("table").render(render_study_markdown(result, findings))


def flat(words: str) -> str:
    return " ".join(words.split())


def drawn_as(html: str, title: str) -> Any:
    """The first figure with this beginning of its title."""
    return next(figure for figure in figures(html) if (figure.get("aria-label") or "").startswith(title))


def of_class(figure: Any, css: str) -> list[Any]:
    return [element for element in figure.iter() if element.get("class") == css]


# --- the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_is_well_formed_and_runs_and_loads_nothing(name):
    page = Page(html_of(name))
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form"})
    names = {one for _, attributes in page.tags for one in attributes}
    assert names.isdisjoint({"src", "srcset", "style", "action", "data", "id"})
    regions = [a["aria-label"] for _, a in page.tags if a.get("role") == "region"]
    assert len(regions) == len(set(regions))
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(headings))


@pytest.mark.parametrize("name", STUDIES)
def test_every_coordinate_of_a_study_lies_inside_its_figure(name):
    for figure in figures(html_of(name)):
        if figure.get("class") == "swatch":
            continue
        assert figure.findtext("title")
        assert figure.findtext("desc")
        width, height = (float(v) for v in figure.get("viewBox").split()[2:])
        for line in figure.iter("polyline"):
            points = np.array([[float(v) for v in pair.split(",")] for pair in line.get("points").split()])
            assert np.isfinite(points).all()
            assert (points >= -3.5).all()
            assert (points <= [width + 3.5, height + 3.5]).all()
        for word in figure.iter("text"):
            assert 0 <= float(word.get("x")) <= width
            assert 0 <= float(word.get("y")) <= height
        for path in figure.iter("path"):
            assert "nan" not in path.get("d")


def test_what_is_not_valid_stands_before_the_finding_and_what_is_missing_before_the_figures():
    page = flat(Page(html_of("ordinary")).text)
    markdown = flat(Page(document(*STUDIES["ordinary"])).text)
    for text in (page, markdown, flat(terminal(*STUDIES["ordinary"]))):
        words = ("Not valid as it stands: 1 of 21 finished cells", "LoRA of rank 4", "1 cell failed", "leakage")
        assert text.index(words[0]) < text.index(words[1]) < text.index(words[2])
        assert "24 cells of 4 grids: 21 finished, 1 failed, 2 not carried out." in text
    for text in (page, markdown):
        assert FLAW in text
        assert ERROR in text
        assert "1 cell failed and 2 cells were not carried out. Run the same command again" in text


def test_a_study_in_which_everything_holds_does_not_speak_of_what_does_not():
    for text in (html_of("alone"), document(*STUDIES["alone"]), terminal(*STUDIES["alone"])):
        for words in ("Not valid as it stands", "NOT VALID", "FAILED", "not carried out", "earlier run", "Published"):
            assert words not in Page(text).text


def test_a_study_without_cells_or_without_results_says_so():
    assert "The study has no cells." in Page(html_of("empty")).text
    page = Page(html_of("nothing")).text
    assert "24 cells failed" in page
    assert page.count("No figure of this grid could be drawn.") == 4


def test_every_cell_is_in_a_table_and_finished_ones_lead_to_their_own_report():
    result, _ = STUDIES["ordinary"]
    page = Page(html_of("ordinary"))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    for cell in result.cells:
        link = f"./{cell.folder}/report.html"
        assert cell.id in page.text
        assert (link in links) == (cell.status == "ok")
        markdown = render_study_markdown(*STUDIES["ordinary"])
        assert (f"]({link})" in markdown) == (cell.status == "ok")
    rows = [row.name for sheet in figure_sheets(result, measures_of(result)) for row in sheet.rows]
    assert set(rows) == {cell.id for cell in result.cells}


@pytest.mark.parametrize(
    ("folder", "link"),
    [
        ("cells/audit-1", "./cells/audit-1/report.html"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29/report.html"),
        ("//evil.example/x", "./evil.example/x/report.html"),
        ("cells/a b?#", "./cells/a%20b%3F%23/report.html"),
        ("../elsewhere", None),
        ("", None),
    ],
)
def test_a_link_names_a_place_below_the_study_and_nothing_else(folder, link):
    assert link_of(PLAIN.cells()[0].model_copy(update={"folder": folder})) == link


def test_the_page_states_how_it_was_carried_out_and_how_to_repeat_it():
    text = flat(Page(html_of("ordinary")).text)
    for words in (
        "Engine ray",
        "Nodes 2",
        "Units given out again 1, because a worker died",
        "loraudit study tiny.toml",
    ):
        assert words in text
    assert STUDIES["ordinary"][0].spec_hash in text


# --- figures ----------------------------------------------------------------------------------------------


def measure(title: str, name: str = "ordinary") -> Any:
    return next(one for one in measures_of(STUDIES[name][0]) if one.title.startswith(title))


def test_the_axis_with_the_most_values_runs_along_and_the_others_are_series_and_panels():
    plan = plan_of(measure("AUC: error_zone"))
    assert (plan.along, plan.series, plan.panels) == ("epochs", "tuning", ["seed"])
    contrasted = plan_of(measure("AUC: error_zone, at the same validation loss"))
    assert (contrasted.along, contrasted.series) == ("method", "base")
    poisoned = plan_of(measure("Attack success above the clean arm"))
    assert (poisoned.along, poisoned.series) == ("records", "method")
    assert plan_of(measure("AUC: error_zone", "alone")).along is None


def test_measures_are_named_without_what_tells_their_cells_apart():
    titles = [one.title for one in measures_of(STUDIES["ordinary"][0])]
    assert titles == [
        "AUC: error_zone",
        "TPR at 1 % FPR: error_zone",
        "Said word for word: prefix 50, of members",
        "Said word for word: prefix 50, of held-out records",
        "AUC: error_zone, at the same validation loss",
        "TPR at 1 % FPR: error_zone, at the same validation loss",
        "Attack success above the clean arm: rare_words, dose 512, at the same validation loss",
        "ED50, exposures: rare_words, at the same validation loss",
        "Accuracy lost: label_flip, dose 0.4, at the same validation loss",
        "Predicted attack success: rare_words, dose 64",
        "Predicted accuracy: rare_words, dose 64",
    ]


def test_methods_and_doses_of_an_axis_are_one_measure_and_not_one_each():
    """A grid over methods, or over doses, is one column with the axis in its own."""
    cells, headlines = [], []
    for method, dose in (("full", 8), ("lora:4", 8), ("full", 32), ("lora:4", 32)):
        cell = PLAIN.cell("by method", "robustness", {"methods": method, "doses": dose})
        name = f"validation_loss/{method}/attack_success/rare_words/dose={dose}/excess"
        cells.append(cell)
        headlines.append(StudyFinding(cell=cell.id, name=name, finding=number(0.5, 0.1), is_headline=True))
    (found,) = measures_of(PLAIN.result(cells=cells, headlines=headlines))
    assert found.dimensions == ["methods", "doses"]
    assert found.title == "Attack success above the clean arm: rare_words, at the same validation loss"
    (sheet,) = figure_sheets(PLAIN.result(cells=cells, headlines=headlines), [found])
    assert sheet.columns[:2] == ["methods", "doses"]
    assert "method" not in sheet.columns


def test_marks_of_cells_that_are_not_valid_are_hollow():
    shown = drawn_as(html_of("ordinary"), "AUC: error_zone, seed 1")
    assert len([e for e in shown.iter() if (e.get("class") or "").startswith("mark hollow")]) == 1
    assert not of_class(drawn_as(html_of("ordinary"), "AUC: error_zone, seed 0"), "mark hollow arm-0")
    cells = [
        cell.model_copy(update={"flaw": "x"}) if cell.kind == "contrast" else cell
        for cell in STUDIES["ordinary"][0].cells
    ]
    marked = render_study_html(PLAIN.result(cells=cells), PLAIN.findings())
    names = [e.text or "" for e in drawn_as(marked, "AUC: error_zone, at the same").iter("text")]
    assert len([name for name in names if name.startswith("not valid · ")]) == 6


def test_every_stated_interval_is_drawn():
    found = measure("AUC: error_zone")
    known = [point for point in found.points if point.places["seed"] == "0"]
    whiskers = [
        e for e in drawn_as(html_of("ordinary"), "AUC: error_zone, seed 0").iter() if "whisker" in e.get("class", "")
    ]
    assert len(whiskers) == len(known)


def test_a_panel_without_a_number_says_so():
    panels = panels_of(measure("TPR at 1 % FPR: error_zone"))
    assert [(panel.caption, bool(panel.svg)) for panel in panels] == [("seed 0", True), ("seed 1", False)]
    assert "No cell has a number here." in Page(html_of("ordinary")).text


def test_a_row_of_a_long_name_still_says_which_of_its_series_it_is_and_the_caption_what_rows_are():
    methods = tuple(f"lora:rank={rank},learning_rate=0.0003,dropout=0.1" for rank in (4, 8, 16))
    result = Study(methods=methods, epochs=(1,), seeds=(0, 1), against=None).result()
    found = next(one for one in measures_of(result) if plan_of(one).along == "tuning")
    (panel,) = panels_of(found)
    assert panel.caption == "Rows: tuning · seed"
    (svg,) = figures(panel.svg)
    names = [e.text or "" for e in svg.iter("text") if "name" in (e.get("class") or "").split()]
    assert [name.rpartition("… · ")[2] for name in names] == ["0", "1"] * 3
    assert all(len(name) == 30 for name in names)


def test_a_measure_with_very_many_values_is_drawn_within_bounds():
    study = Study(methods=tuple(f"m{k}" for k in range(12)), epochs=(1, 3), seeds=tuple(range(30)))
    result = study.result()
    found = measures_of(result)[0]
    panels = panels_of(found)
    assert 0 < len(panels) <= MOST_PANELS
    text = Page(render_study_html(result, study.findings())).text
    assert "more figures of grid leakage" in text


def test_rows_too_many_to_draw_are_left_to_the_table():
    study = Study(methods=tuple(f"m{k}" for k in range(50)), epochs=(1,), seeds=(0,))
    result = study.result()
    assert panels_of(measures_of(result)[0]) == []
    assert (
        "could not be drawn: no cell has a number of it, or there are too many rows."
        in Page(render_study_html(result, study.findings())).text
    )


# --- numbers ----------------------------------------------------------------------------------------------


def test_numbers_are_written_as_the_cells_own_reports_write_them():
    share = number(0.0312, 0.01)
    assert figure_cell("share", share).value == percent(0.0312)
    assert figure_cell("share", share).interval == percent_interval(share)
    assert figure_cell("number", number(0.6123, 0.01)).value == "0.612"
    assert figure_cell("points", number(0.05, 0.01)).value == "+5.0 points"
    assert figure_cell("change", number(-0.05, 0.01, low=-1)).value == "-0.050"
    assert figure_cell("count", Finding(36.4, 20.0, None, 0.95, "m", 9, 0)).interval == "[20, ∞)"
    assert figure_cell("number", Finding(123456.0, 1e5, 2e5, 0.95, "m", 9, 0)).value == "123,456"
    assert figure_cell("number", Finding(0.5, None, None, 0.95, "m", 9, 0)).interval == "no interval"
    assert figure_cell("share", number(None, 0)).value == "refused"
    assert figure_cell("number", Finding(None, None, None, 0.95, "m", 9, 0)).value == "undefined"
    assert figure_cell("count", Finding(None, 180.0, None, 0.95, "m", 9, 0)).value == "not bracketed"
    assert figure_cell("number", None).value == ""
    both = [number(0.1, 0.1, n=(1000, 900)), number(0.1, 0.1, n=(1000, 900)), number(0.1, 0.1, n=(0, 7)), None]
    assert n_words(both) == "1,000 + 900; 7"
    assert n_words([Finding(0.1, 0.0, 0.2, 0.95, "m", 9, 8, 1, 2)]) == "9 + 8 (3 undefined)"


def test_the_ends_of_a_measure_are_stated_with_the_number_of_cells_they_were_chosen_among():
    result, _ = STUDIES["ordinary"]
    sheet = ends_sheet(measures_of(result))
    assert sheet is not None
    rows = {row.name: [cell.value for cell in row.cells] for row in sheet.rows}
    area = rows["AUC: error_zone"]
    assert (area[1], area[2], area[4], area[5], area[7]) == (
        "0.781", "tuning full, epochs 10, seed 1", "0.511", "tuning lora:4, epochs 1, seed 0", "15"
    )  # fmt: skip
    dose = rows["ED50, exposures: rare_words, at the same validation loss"]
    assert (dose[1], dose[4], dose[7]) == ("28", "287", "5"), "little poison for half the effect is the harm"
    accuracy = rows["Predicted accuracy: rare_words, dose 64"]
    assert (accuracy[1], accuracy[4]) == ("85.0 %", "87.5 %")
    assert "is not widened for the choice" in flat(Page(html_of("ordinary")).text)
    assert ends_sheet(measures_of(STUDIES["alone"][0])) is not None
    assert ends_sheet([]) is None


def test_a_measure_that_is_the_same_in_all_cells_has_no_ends_and_ties_are_counted():
    cells = [PLAIN.cell("leakage", "audit", {"seed": seed}) for seed in range(3)]

    def rows(*values: float) -> list[list[str]]:
        headlines = [
            StudyFinding(cell=cell.id, name="membership/loss/auc", finding=number(value, 0.1), is_headline=True)
            for cell, value in zip(cells, values, strict=True)
        ]
        sheet = ends_sheet(measures_of(PLAIN.result(cells=cells, headlines=headlines)))
        assert sheet is not None
        return plain_rows(sheet)

    assert rows(0.5, 0.5, 0.5) == [["AUC: loss", "leakage", "all 3 are equal: no ends", *[""] * 6]]
    ((_, _, _, worst, _, _, best, *_),) = rows(0.5, 0.7, 0.5)
    assert (worst, best) == ("seed 1", "seed 0, as 1 other")


def test_what_is_said_of_a_cell_that_holds_depends_on_what_its_command_checks():
    result, _ = STUDIES["ordinary"]
    kinds = {cell.id: cell.kind for cell in result.cells}
    said: dict[str, set[str]] = {}
    for sheet in figure_sheets(result, measures_of(result)):
        for row in sheet.rows:
            said.setdefault(kinds[row.name], set()).add(row.cells[-1].value if row.remark is None else "")
    assert said["forecast"] == {"no gates"}
    assert said["robustness"] == {"no control failed"}
    assert said["contrast"] == {"no gate failed"}
    assert {"no gate failed", "NOT VALID"} <= said["audit"]


def test_the_title_of_a_panel_is_written_once():
    for figure in figures(html_of("ordinary")):
        if title := figure.findtext("title"):
            assert title not in [text.text for text in figure.iter("text")]


def test_published_figures_stand_beside_measured_ones_whatever_came_out():
    for text in (html_of("ordinary"), document(*STUDIES["ordinary"]), terminal(*STUDIES["ordinary"])):
        words = flat(Page(text).text)
        assert "holds the published" in words
        assert "not measured" in words
        assert "no finished cell" in words
    spec = PLAIN.spec()
    far = [one.model_copy(update={"value": value}) for one, value in zip(spec.published, (0.99, 0.9), strict=False)]
    moved = PLAIN.published(spec.model_copy(update={"published": tuple(far)}), PLAIN.cells(), PLAIN.findings())
    assert "lies below the published" in Page(render_study_html(PLAIN.result(published=moved), [])).text
    near = [one.model_copy(update={"value": 0.0}) for one in spec.published[:1]]
    moved = PLAIN.published(spec.model_copy(update={"published": tuple(near)}), PLAIN.cells(), PLAIN.findings())
    assert "lies above the published" in Page(render_study_html(PLAIN.result(published=moved), [])).text


def test_figures_that_moved_are_flagged_and_a_study_that_moved_not_at_all_says_so():
    for text in (html_of("ordinary"), document(*STUDIES["ordinary"])):
        words = flat(Page(text).text)
        assert "4 figures changed since the earlier run (2 moved, 1 moved apart, 1 gone)" in words
        for one in (
            "MOVED APART (cell found by grid and labels)",
            "GONE",
            "0.0.9 → 0.1.0",
            "Other figures that changed",
        ):
            assert one in words
    still = PLAIN.result(regressions=[])
    assert "No figure differs from the earlier run" in Page(render_study_html(still, PLAIN.findings())).text


def test_undefined_figures_of_a_cell_are_counted():
    rows = re.findall(r"<tr>(.*?)</tr>", html_of("ordinary").partition("Every cell's own report")[2], re.DOTALL)
    cells = [[flat(Page(one).text) for one in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows[1:]]
    by_id = {row[0]: row for row in cells}
    first, second = STUDIES["ordinary"][0].cells[:2]
    assert by_id[first.id][-3:] == ["5", "0", "12"]
    assert by_id[second.id][-3:] == ["5", "1", "12"]
    assert f"Warning: {second.warnings[0]}" in by_id[second.id][5]


# --- hostile words ----------------------------------------------------------------------------------------


def tags_of(markup: str) -> list[str]:
    return [tag for tag, _ in Page(markup).tags]


@pytest.mark.parametrize("words", [*MARKUP, "a | b `c` *d* [e](http://f) <b>", "line\nbreak", "\\| \\` \\", "a/b=c%2F"])
def test_hostile_labels_are_only_words_everywhere(words):
    hostile, tame = Study(words=words), Study(words="x")
    html = render_study_html(hostile.result(), hostile.findings())
    assert tags_of(html) == tags_of(render_study_html(tame.result(), tame.findings()))
    assert flat(visible(f"tiny grid{words}")) in flat(Page(html).text)
    assert flat(visible(f"lora:64{words}")) in flat(Page(html).text)
    made = document(hostile.result(), hostile.findings())
    assert tags_of(made) == tags_of(document(tame.result(), tame.findings()))
    shown = terminal(hostile.result(), hostile.findings(), verbose=True)
    assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_label_that_is_a_formula_is_code_in_markdown(formula):
    cells = [cell.model_copy(update={"labels": {formula: formula}}) for cell in PLAIN.cells()[:1]]
    made = render_study_markdown(PLAIN.result(cells=cells), PLAIN.findings())
    found = [cell.strip() for line in made.splitlines() if line.startswith("|") for cell in line.split("|")]
    assert f"`{formula}`" in found
    assert not [cell for cell in found if cell.startswith(formula)]


# --- loraudit report --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    result, findings = STUDIES["ordinary"]
    (tmp_path / "result.json").write_text(result.model_dump_json(indent=2) + "\n", "utf-8")
    write_findings(tmp_path, result.cells, findings)
    return tmp_path


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_report_renders_the_page_of_a_study_and_shows_its_tables(folder):
    shown = invoke("report", str(folder))
    assert shown.exit_code == 0, shown.output
    assert "LoRA of rank 4 leaks least" in shown.output
    assert "All cells" not in shown.output
    assert "All cells" in invoke("report", str(folder), "--verbose").output
    assert (folder / "report.html").read_text(encoding="utf-8") == html_of("ordinary")
    assert json.loads(invoke("report", str(folder), "--json").stdout)["kind"] == "study"


@pytest.mark.parametrize("name", STUDY_FORMATS)
def test_a_study_has_every_format(name, folder):
    assert invoke("report", str(folder), "--format", name).output == STUDY_FORMATS[name](*STUDIES["ordinary"])
    assert invoke("report", str(folder), "--format", name, "--output", str(folder / "out")).output == ""
    assert (folder / "out").read_text(encoding="utf-8") == STUDY_FORMATS[name](*STUDIES["ordinary"])


def test_a_format_that_a_study_lacks_is_refused_with_where_to_find_it(folder):
    shown = invoke("report", str(folder), "--format", "junit")
    assert isinstance(shown.exception, ConfigError)
    assert str(shown.exception).startswith("A study has no junit report. Expected --format html, json, markdown; the")


def test_a_study_without_its_figures_is_refused(folder):
    (folder / "findings.parquet").unlink()
    shown = invoke("report", str(folder))
    assert isinstance(shown.exception, ConfigError)
    assert "holds no figures of a study" in str(shown.exception)


def test_a_study_is_read_back_as_it_was_written(folder):
    assert read_study(folder) == STUDIES["ordinary"][0]
    assert read_study(folder / "nothing") is None


def test_commands_for_audits_refuse_a_study_politely(folder):
    (folder / "scores.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds a study, which this does not take\. Expected an audit"):
        read_run(folder)


def test_a_study_that_is_newer_or_damaged_is_said_to_be(folder):
    (folder / "result.json").write_text(json.dumps({"kind": "study", "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(NewerVersion, match="was written by a newer loraudit"):
        read_study(folder)
    (folder / "result.json").write_text('{"kind": "study"}')
    with pytest.raises(StoreError, match="is damaged"):
        read_study(folder)
