"""The report of a robustness run: controls first, every number with its interval, and names are only words."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from test_report_page import MARKUP, Page, figures

from loraudit.cli.robustness_result import show_robustness
from loraudit.errors import visible
from loraudit.policy import percent, percent_interval
from loraudit.policy.robustness import FAILED, poisoned_points, state
from loraudit.report import ROBUSTNESS_FORMATS, render_robustness_html, render_robustness_markdown
from loraudit.report.robustness.words import not_said, runs_words
from loraudit.spec import RobustnessResult
from loraudit.types import Finding
from synthetic_robustness import WAYS, Robustness

ORDINARY = Robustness().result(fail_on=["asr.upper95 > 0.5", "n_invalid > 5"])
SOUND = Robustness((WAYS[0], WAYS[2])).result()
MANY = Robustness(WAYS, 5).result()
LANGUAGE = Robustness(WAYS[:2], 1, is_language_model=True).result()
UNDEFINED = Finding(None, None, None, 0.95, "undefined", 0, 0, note="nobody was asked")


@functools.cache
def page_of(name: str) -> Page:
    return Page(render_robustness_html({"ordinary": ORDINARY, "many": MANY, "language": LANGUAGE}[name]))


def terminal(result: RobustnessResult, *, verbose: bool = False) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_robustness(result, verbose=verbose)
    return shown.getvalue()


def document(result: RobustnessResult) -> str:
    """The Markdown as HTML."""
    return MarkdownIt("commonmark").enable("table").render(render_robustness_markdown(result))


def changed(result: RobustnessResult, **changes: Any) -> RobustnessResult:
    return result.model_copy(update=changes)


def drawn(html: str, title: str) -> Any:
    """The first figure with this beginning of its title."""
    return next(figure for figure in figures(html) if (figure.get("aria-label") or "").startswith(title))


def of_class(figure: Any, css: str) -> list[Any]:
    return [element for element in figure.iter() if element.get("class") == css]


# --- an ordinary page ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ordinary", "many", "language"])
def test_the_page_is_well_formed_and_runs_and_loads_nothing(name):
    page = page_of(name)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "a"})
    names = {one for _, attributes in page.tags for one in attributes}
    assert names.isdisjoint({"src", "href", "srcset", "style", "action", "data", "id"})
    regions = [a["aria-label"] for _, a in page.tags if a.get("role") == "region"]
    assert len(regions) == len(set(regions))


def test_controls_that_fail_come_first_then_the_verdict_then_numbers():
    html = render_robustness_html(ORDINARY)
    order = (
        "Not everything was tested: a control fails",
        ORDINARY.heading,
        "Limits",
        "<figure",
        "Controls and verdicts<",
    )
    places = [html.index(words) for words in order]
    assert places == sorted(places)
    text = " ".join(render_robustness_markdown(ORDINARY).split())
    assert text.index("a control fails") < text.index("opens a backdoor") < text.index("Controls and verdicts")
    shown = terminal(ORDINARY)
    assert shown.index("a control fails") < shown.index("opens a backdoor") < shown.index("Controls and verdicts")


def test_a_run_whose_controls_hold_says_nothing_of_failing_ones():
    for text in (render_robustness_html(SOUND), render_robustness_markdown(SOUND), terminal(SOUND)):
        assert "control fails" not in text
        assert "Not valid as it stands" not in text


def test_a_run_in_which_nothing_was_tested_is_not_valid():
    controls = [one.model_copy(update={"verdict": "invalid"}) for one in ORDINARY.controls]
    for text in (
        render_robustness_html(changed(ORDINARY, controls=controls)),
        terminal(changed(ORDINARY, controls=controls)),
    ):
        assert "Not valid as it stands" in text


@pytest.mark.parametrize(
    "shown",
    [
        lambda r: Page(render_robustness_html(r)).text,
        lambda r: Page(document(r)).text,
        functools.partial(terminal, verbose=True),
    ],
)
def test_every_number_of_every_dose_stands_with_its_interval_and_n(shown):
    text = " ".join(shown(ORDINARY).split())
    for match in ORDINARY.matches:
        for curve in match.curves:
            for point in poisoned_points(curve):
                found = point.finding
                if curve.measure == "clean_loss":
                    whole = f"{found.value:.3f}", f"[{found.lower:.3f}, {found.upper:.3f}]"
                else:
                    whole = percent(found.value), percent_interval(found)
                assert [words for words in (*whole, f" {point.n_poisoned:,} ") if words not in text] == []
    for pair in ORDINARY.matches[0].differences:
        assert f"{pair.first} − {pair.second}" in text
    for words in ("> 1,536", "not bracketed", "HARMED", "INVALID", "412", "872", "merging the adapter", "spectral"):
        assert words in text


@pytest.mark.parametrize(
    "words",
    ["1 of 90 training runs collapsed", "COLLAPSED", "1 of 3", "79.3 %", "diverged", "chosen", "0.352 nats", "ED50",
     "topics.jsonl", "ab" * 32, "cd" * 32, "f1" * 32, ORDINARY.spec_hash, ORDINARY.command, "3 texts were longer",
     "trigger cf, mn, bb", "which records were drawn, and how training fell out", "FAILS", "holds", "1,450",
     "3 runs per method and dose say little", "is no bound on what it resists", "spectral", "AUROC", "undefined"],
)  # fmt: skip
def test_what_was_done_and_what_it_does_not_say_is_on_the_page(words):
    assert words in page_of("ordinary").text


def test_more_runs_have_quartiles():
    assert re.search(r"\(\d+\.\d %–\d+\.\d %\)", page_of("many").text)
    assert not re.search(r"\(\d+\.\d %–\d+\.\d %\)", page_of("ordinary").text)


def test_a_language_model_has_loss_and_no_accuracy():
    text = page_of("language").text
    assert "loss added" in text
    assert "accuracy lost" not in text
    assert "the chance of training is in no interval" in text


def test_formats_are_listed_and_give_the_result_back():
    assert list(ROBUSTNESS_FORMATS) == ["html", "json", "junit", "markdown"]
    again = RobustnessResult.model_validate_json(ROBUSTNESS_FORMATS["json"](ORDINARY))
    assert again == ORDINARY
    assert ROBUSTNESS_FORMATS["html"](again) == render_robustness_html(ORDINARY)


def test_junit_fails_exactly_where_the_exit_code_does():
    suite = ET.fromstring(ROBUSTNESS_FORMATS["junit"](ORDINARY))  # noqa: S314 - our own words
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["9", "1", "0", "1"]
    assert "Exit code: 1" in suite.findtext("system-out")
    broken = Finding(None, None, None, 0.95, FAILED, 0, 0, note="ValueError: no")
    detection = [SOUND.detection[0].model_copy(update={"auroc": broken})]
    suite = ET.fromstring(ROBUSTNESS_FORMATS["junit"](changed(SOUND, detection=detection)))  # noqa: S314
    assert suite.get("errors") == "1"
    assert "Exit code: 7" in suite.findtext("system-out")


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [ORDINARY, MANY, LANGUAGE], ids=["ordinary", "many", "language"])
def test_every_coordinate_is_finite_and_inside_its_figure(result):
    for figure in figures(render_robustness_html(result)):
        if figure.get("class") == "swatch":
            continue
        assert figure.findtext("title")
        assert figure.findtext("desc")
        width, height = (float(v) for v in figure.get("viewBox").split()[2:])
        for line in figure.iter("polyline"):
            points = np.array([[float(v) for v in pair.split(",")] for pair in line.get("points").split()])
            assert np.isfinite(points).all()
            assert (points >= -0.5).all()
            assert (points <= [width + 0.5, height + 0.5]).all()
        for word in figure.iter("text"):
            assert 0 <= float(word.get("x")) <= width
            assert 0 <= float(word.get("y")) <= height


def test_the_dose_curve_shows_means_bands_seeds_floor_and_where_half_of_the_effect_is():
    figure = drawn(render_robustness_html(ORDINARY), "Attack success against the dose of rare_words")
    for arm, has_ring in ((0, True), (1, False), (2, True)):
        assert len(of_class(figure, f"mean arm-{arm}")) == 1
        assert len(of_class(figure, f"band arm-{arm}")) == 1
        assert len(of_class(figure, f"seed arm-{arm}")) == 3
        assert len(of_class(figure, f"mark hollow arm-{arm}")) == has_ring
    words = [text.text for text in figure.iter("text")]
    assert "clean" in words
    assert "floor 3.45 %" in words
    assert len(of_class(figure, "chance")) == 1


def test_a_dose_beyond_those_tested_is_written_with_its_sign():
    figure = drawn(render_robustness_html(ORDINARY), "ED50")
    assert "> 1,536" in [text.text for text in figure.iter("text")]
    assert len(of_class(figure, "whisker arm-1")) == 0


def test_a_single_dose_has_its_number_on_every_axis():
    """Neither 1, 3 nor any other round number lies in [9, 9]."""
    match = ORDINARY.matches[0]
    curves = [
        curve.model_copy(
            update={
                "points": [
                    point.model_copy(update={"exposures": 9.0 if point.n_poisoned else 0.0})
                    for point in (curve.points[0], curve.points[2])
                ]
            }
        )
        for curve in match.curves
    ]
    doses = [one.model_copy(update={"finding": UNDEFINED, "bound": None}) for one in match.effective_doses]
    update = {"curves": curves, "effective_doses": doses, "dose_ratios": []}
    html = render_robustness_html(changed(ORDINARY, matches=[match.model_copy(update=update)]))
    for title in ("Attack success against", "Accuracy against", "ED50"):
        assert "9" in [t.text for t in drawn(html, title).iter("text") if t.get("class") == "tick"]


def test_the_whole_width_of_doses_has_few_labels():
    for figure in figures(render_robustness_html(MANY)):
        if (figure.get("aria-label") or "").startswith("Attack success"):
            ticks = [t.text for t in figure.iter("text") if t.get("class") == "tick" and "%" not in (t.text or "")]
            assert 2 <= len(ticks) <= 7


# --- results that went wrong ------------------------------------------------------------------


def without_numbers(result: RobustnessResult) -> RobustnessResult:
    """Every dose undefined."""
    matches = []
    for match in result.matches:
        curves = [
            curve.model_copy(
                update={
                    "points": [
                        point.model_copy(
                            update={"finding": UNDEFINED, "excess": UNDEFINED, "per_seed": [None] * 3, "median": None}
                        )
                        for point in curve.points
                    ]
                }
            )
            for curve in match.curves
        ]
        doses = [one.model_copy(update={"finding": UNDEFINED, "bound": None}) for one in match.effective_doses]
        pairs = [one.model_copy(update={"finding": UNDEFINED, "p_holm": None}) for one in match.differences]
        matches.append(match.model_copy(update={"curves": curves, "effective_doses": doses, "differences": pairs}))
    controls = [one.model_copy(update={"positive": UNDEFINED, "floor": UNDEFINED}) for one in result.controls]
    return changed(result, matches=matches, controls=controls)


def not_reached(result: RobustnessResult) -> RobustnessResult:
    """The first method never gets to the common fit."""
    match = result.matches[0]
    curves = [curve for curve in match.curves if curve.method != "full"]
    doses = [one for one in match.effective_doses if one.method != "full"]
    update = {"curves": curves, "effective_doses": doses, "epochs": {**match.epochs, "full": None}}
    return changed(result, matches=[match.model_copy(update=update)])


NO_CURVES = {"curves": [], "effective_doses": [], "dose_ratios": []}
BARE = {"matches": [], "controls": [], "persistence": [], "detection": [], "attacks": [], "runs": [], "methods": []}
WRONG = {
    "without numbers": without_numbers(ORDINARY),
    "not reached": not_reached(ORDINARY),
    "no matches": changed(ORDINARY, matches=[]),
    "bare": changed(ORDINARY, **BARE),
    "no curves": changed(
        ORDINARY,
        matches=[ORDINARY.matches[0].model_copy(update={"curves": [], "effective_doses": [], "dose_ratios": []})],
    ),
    "runs without points": changed(ORDINARY, runs=[run.model_copy(update={"points": []}) for run in ORDINARY.runs]),
}


@pytest.mark.parametrize("result", WRONG.values(), ids=WRONG)
def test_what_went_wrong_is_still_shown(result):
    page = Page(render_robustness_html(result))
    assert page.open == []
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    assert document(result)
    assert ORDINARY.heading in terminal(result, verbose=True)


def test_a_method_that_never_gets_there_is_said_not_to():
    for shown in (lambda r: Page(render_robustness_html(r)).text, document, terminal):
        assert "not reached" in shown(WRONG["not reached"])
    assert "compared at no common fit" in Page(render_robustness_html(WRONG["no matches"])).text


def below_tables(markup: str) -> list[tuple[list[str], list[str]]]:
    """Cells of each table, and the notes that follow it before anything else does."""
    found = re.findall(r"<table>(.*?)</table>\s*(?:</div>)?\s*(?:<ul[^>]*>(.*?)</ul>)?", markup, re.DOTALL)
    parts = [(re.findall(r"<td.*?</td>", table, re.DOTALL), re.findall(r"<li>.*?</li>", ul)) for table, ul in found]
    return [([" ".join(Page(one).text.split()) for one in own], [Page(one).text for one in ul]) for own, ul in parts]


@pytest.mark.parametrize("shown", [render_robustness_html, document])
def test_a_note_stands_below_the_table_that_it_belongs_to(shown):
    tables = below_tables(shown(ORDINARY))
    reason = "One of the doses lies beyond those tested."
    noted = [(cells, notes) for cells, notes in tables if any(reason in note for note in notes)]
    assert len(noted) == len(ORDINARY.matches)
    for cells, notes in noted:
        (number,) = [note.partition(":")[0].lower() for note in notes if reason in note]
        assert number == "note 1"
        marked = [cell for cell in cells if cell.endswith(number)]
        assert len(marked) == sum(cell.startswith("not bracketed") for cell in cells) > 0
    text = Page(shown(ORDINARY)).text
    assert reason not in text[text.index("What this does not say") :]


@pytest.mark.parametrize("shown", [render_robustness_html, document])
def test_a_note_of_all_numbers_of_a_column_names_the_column_and_not_every_number(shown):
    tables = below_tables(shown(WRONG["without numbers"]))
    noted = [(cells, notes) for cells, notes in tables if any(note.endswith("nobody was asked") for note in notes)]
    assert any(notes == ["accuracy, accuracy lost: nobody was asked"] for _, notes in noted)
    for cells, notes in noted:
        assert len(notes) == 1
        assert not [cell for cell in cells if "note" in cell]


@pytest.mark.parametrize("shown", [render_robustness_html, document])
def test_what_was_not_tested_is_listed_once(shown):
    invalid = [one.model_copy(update={"verdict": "invalid", "reasons": ["It collapsed."]}) for one in ORDINARY.controls]
    heading, sentence = state(invalid, ORDINARY.matches, ORDINARY.attacks)
    text = Page(shown(changed(ORDINARY, controls=invalid, heading=heading, sentence=sentence))).text
    assert "6 of 6 pairs of attack and method were not tested" in text
    assert heading in text
    assert text.count("were not tested") == 1
    for result in (ORDINARY, SOUND):
        text = " ".join(Page(shown(result)).text.split())
        assert "Not tested, for the reasons given" not in text
        assert "At a clean validation loss of 0.352 nats" in text


def test_settings_that_are_empty_are_left_out_of_the_recipe():
    empty = {"checkpoint_epochs": [], "peft_config": {}, "select": "last"}
    methods = [one.model_copy(update={"recipe": one.recipe | empty}) for one in ORDINARY.methods]
    for shown in (render_robustness_html, document):
        text = Page(shown(changed(ORDINARY, methods=methods))).text
        assert "select" in text
        assert "checkpoint epochs" not in text
        assert "peft config" not in text


# --- names come from people and files -------------------------------------------------------


@functools.cache
def hostile(words: str) -> RobustnessResult:
    """A result in which strings that a stranger could choose hold `words`."""
    plain = Robustness((WAYS[0], WAYS[2]), 2).result()
    content = plain.model_dump_json()
    loaded = RobustnessResult.model_validate_json(content)

    def renamed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(renamed, value))
        names = {"rare_words", "lora:8", "sports", "spectral", "bert-base", "topics.jsonl"}
        return value + words if isinstance(value, str) and value in names else value

    def deep(value: Any) -> Any:
        if isinstance(value, dict):
            return {deep(key): deep(part) for key, part in value.items()}
        if isinstance(value, list):
            return [deep(part) for part in value]
        return renamed(value)

    made = deep(loaded.model_dump(mode="json"))
    made |= {"heading": f"heading{words}", "sentence": f"sentence{words}", "warnings": [f"warning{words}"]}
    made |= {"command": f"command{words}", "versions": {f"library{words}": "1"}, "limits": [
        {"limit": f"limit{words}", "status": "exceeded", "measured": 1.0, "reason": f"reason{words}"}]}  # fmt: skip
    for one in made["controls"]:
        one["reasons"] = [f"because{words}"]
    for one in made["attacks"]:
        one["warnings"] = [f"flaw{words}"]
    for one in made["matches"]:
        one["description"] = f"description{words}"
    for one in made["runs"]:
        one["model"] = f"folder{words}"
    for one in (*made["detection"], *made["persistence"]):
        one["note"] = f"note{words}"
    return RobustnessResult.model_validate(made)


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_cannot_change_the_shape_of_the_page(words):
    plain, other = (Page(render_robustness_html(hostile(w))) for w in ("", words))
    assert other.open == []
    kept = {"svg", "text", "path", "polyline", "title", "desc", "rect"}  # names move labels, and leaders with them
    assert [s for s in other.shape if s[0] not in kept] == [s for s in plain.shape if s[0] not in kept]
    assert {tag for tag, _ in other.shape} == {tag for tag, _ in plain.shape}


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_are_shown_as_they_are_written(words):
    text = Page(render_robustness_html(hostile(words))).text
    shown = " ".join(words.split())
    for start in ("rare_words", "lora:8", "bert-base", "heading", "sentence", "warning", "command", "library", "limit",
                  "reason", "because", "flaw", "description", "folder", "note", "topics.jsonl", "sports"):  # fmt: skip
        assert f"{start}{shown}" in text


@pytest.mark.parametrize("words", [*MARKUP, "a | b `c` *d* [e](http://f) <b>", "line\nbreak", "\\| \\` \\"])
def test_hostile_names_are_only_words_in_markdown(words):
    def tags(rendered: str) -> list[str]:
        return re.findall(r"</?[a-z0-9]+", rendered)

    rendered = document(hostile(words))
    assert tags(rendered) == tags(document(hostile("x")))


@pytest.mark.parametrize(
    "shown", [render_robustness_html, render_robustness_markdown, functools.partial(terminal, verbose=True)]
)
def test_control_characters_are_shown_as_their_code(shown):
    words = "\x1b[31mred\x07\x9b2J\u202egnp"
    text = shown(hostile(words))
    assert not [c for c in text if not c.isprintable() and c not in "\n\t"]
    assert visible(words) in text.replace("\\\\", "\\").replace("\\[", "[")


# --- intervals without an upper end ------------------------------------------------------------------


def test_an_interval_without_an_upper_end_is_printed_as_one():
    match = SOUND.matches[0]
    doses = [
        one.model_copy(update={"finding": Finding(40.0, 25.0, None, 0.95, "m", 0, 412), "bound": None})
        for one in match.effective_doses
    ]
    beyond = doses[0].model_copy(update={"finding": Finding(None, 30.0, None, 0.95, "m", 0, 412), "bound": "above"})
    ratios = [
        one.model_copy(update={"finding": Finding(0.4, 0.0, 0.6, 0.95, "m", 0, 412), "share": 0.9})
        for one in match.dose_ratios[:1]
    ]
    open_ratio = ratios[0].model_copy(update={"finding": Finding(2.5, 1.7, None, 0.95, "m", 0, 412), "share": 0.5})
    update = {"effective_doses": [beyond, *doses[1:]], "dose_ratios": [*ratios, open_ratio]}
    result = changed(SOUND, matches=[match.model_copy(update=update)])
    html = Page(render_robustness_html(result)).text
    for text in (html, Page(document(result)).text, terminal(result, verbose=True)):
        flat = " ".join(text.split())
        assert "40 [25, ∞)" in flat
        assert re.search(r"> [\d,]+ \[30, ∞\)", flat)
        assert "2.50 [1.70, ∞)" in flat
        assert "0.40 [0.00, 0.60]" in flat
    sentence = state(SOUND.controls, result.matches, SOUND.attacks)[1]
    assert "takes 2.5 [1.7, ∞) times the exposures of" in sentence
    ed50 = drawn(render_robustness_html(result), "ED50")
    (whisker,) = [one.get("d") for one in ed50.iter() if (one.get("class") or "").startswith("whisker")]
    assert whisker.endswith("l4,3l-4,3")


# --- runs --------------------------------------------------------------------------------------------


def test_methods_with_seeds_of_their_own_are_counted_as_they_were_run():
    assert runs_words(ORDINARY).startswith("Numbers are means over 3 training runs. ")
    runs = [run for run in ORDINARY.runs if run.method != "head" or run.seed == 0]
    words = runs_words(changed(ORDINARY, runs=runs))
    assert words.startswith("Numbers are means over 3 training runs of full, lora:8 and 1 training run of head. ")
    assert words.endswith("Those of methods with one run hold the records' alone.")
    assert "1 run per method and dose say little" in " ".join(not_said(changed(ORDINARY, runs=runs)))
    alone = [run for run in ORDINARY.runs if run.seed == 0]
    assert runs_words(changed(ORDINARY, runs=alone)).startswith("One run per method and dose: ")
    assert runs_words(changed(ORDINARY, runs=[])).startswith("Numbers are means over 3 ")


@pytest.mark.parametrize("end", ["", "."])
def test_the_words_of_a_comparison_end_with_one_point(end):
    match = SOUND.matches[0].model_copy(update={"description": f"At some level{end}"})
    result = changed(SOUND, matches=[match, match])
    for text in (render_robustness_html(result), render_robustness_markdown(result)):
        assert "At some level." in text
        assert "At some level.." not in text
