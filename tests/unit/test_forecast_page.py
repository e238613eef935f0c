"""The report of a forecast: what is refused stands first, every number has its interval, and grids stay readable."""

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

from loraudit.cli.forecast_result import show_forecast
from loraudit.policy import percent, percent_interval
from loraudit.policy.forecast import accuracy_lost, largest_dose, predicted_curve
from loraudit.report import FORECAST_FORMATS, render_forecast_html, render_forecast_markdown
from loraudit.report.forecast.grid import MOST_LINES, drawn, line_names, panels
from loraudit.spec import ForecastResult
from synthetic_forecast import REFUSED, Forecast

ORDINARY = Forecast(is_compared=True).result(fail_on=["asr.value > 0.5", "refused > 5"])
SOUND = Forecast(others=("full", "head"), refused=()).result()
GRID = Forecast(
    ranks=(1, 4, 8, 64),
    variances=(0.01, 1 / 3, 2.0),
    alphas=(16.0, 64.0),
    targets=("all", "mlp"),
    refused=("bitfit", "lora:64,c=2,alpha=16,targets=all"),
).result()
LANGUAGE = Forecast(attacks=("rare_words",), is_language_model=True).result()
BARE = SOUND.model_copy(update={"curves": [], "methods": [], "attacks": [], "clean_loss": None})
NOTHING = Forecast(others=("full",), refused=("full", *(f"lora:{r}" for r in (1, 4, 8, 64)))).result(clean_loss=None)
RESULTS = {
    "ordinary": ORDINARY, "sound": SOUND, "grid": GRID, "language": LANGUAGE, "bare": BARE, "nothing": NOTHING,
    "unreached": Forecast(unreached=("head",)).result(),
}  # fmt: skip


@functools.cache
def html_of(name: str) -> str:
    return render_forecast_html(RESULTS[name])


def terminal(result: ForecastResult, *, verbose: bool = False) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_forecast(result, verbose=verbose)
    return shown.getvalue()


def document(result: ForecastResult) -> str:
    """The Markdown as HTML."""
    return MarkdownIt("commonmark").enable("table").render(render_forecast_markdown(result))


def flat(words: str) -> str:
    return " ".join(words.split())


def drawn_as(html: str, title: str) -> Any:
    """The first figure with this beginning of its title."""
    return next(figure for figure in figures(html) if (figure.get("aria-label") or "").startswith(title))


def of_class(figure: Any, css: str) -> list[Any]:
    return [element for element in figure.iter() if element.get("class") == css]


# --- an ordinary page ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESULTS)
def test_the_page_is_well_formed_and_runs_and_loads_nothing(name):
    page = Page(html_of(name))
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "a"})
    names = {one for _, attributes in page.tags for one in attributes}
    assert names.isdisjoint({"src", "href", "srcset", "style", "action", "data", "id"})
    regions = [a["aria-label"] for _, a in page.tags if a.get("role") == "region"]
    assert len(regions) == len(set(regions))
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


@pytest.mark.parametrize("name", RESULTS)
def test_every_coordinate_is_finite_and_inside_its_figure(name):
    for figure in figures(html_of(name)):
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
        for path in figure.iter("path"):
            assert "nan" not in path.get("d")


def test_heading_and_refusals_come_before_limits_and_curves():
    words = (ORDINARY.heading, "Nothing is predicted of 1 of 7 methods", "asr.value", "Predicted harm by dose")
    places = [html_of("ordinary").index(one) for one in words]
    assert places == sorted(places)
    for text in (flat(Page(html_of("ordinary")).text), flat(Page(document(ORDINARY)).text), flat(terminal(ORDINARY))):
        assert f"bitfit: {REFUSED}" in text
        assert text.index("Nothing is predicted of 1 of 7 methods") < text.index("asr.value > 0.5")


def test_a_forecast_in_which_nothing_is_refused_does_not_speak_of_it():
    for text in (Page(html_of("sound")).text, document(SOUND), terminal(SOUND, verbose=True)):
        assert "Nothing is predicted of" not in text
        assert "REFUSED" not in text


def test_a_forecast_of_nothing_says_so():
    for text in (Page(html_of("nothing")).text, Page(document(NOTHING)).text, terminal(NOTHING)):
        assert "Nothing can be predicted: every method is refused" in text
        assert "Nothing is predicted: every method is refused, or none reaches a shared clean loss." in text
    assert (
        "No clean loss is shared by the methods (0.703 nats per record at the base)." in Page(html_of("nothing")).text
    )


def test_reasons_are_grouped_and_many_are_counted():
    methods = [
        one.model_copy(update={"refused": f"It is off by {k} %."}) for k, one in enumerate(ORDINARY.methods)
    ]  # each with a reason of its own
    text = flat(Page(render_forecast_html(ORDINARY.model_copy(update={"methods": methods}))).text)
    assert "full: It is off by 0 %. head: It is off by 1 %. bitfit: It is off by 2 %. And 4 more" in text
    alike = [one.model_copy(update={"refused": REFUSED}) for one in ORDINARY.methods]
    text = flat(terminal(ORDINARY.model_copy(update={"methods": alike})))
    assert f"full, head, bitfit and 4 more: {REFUSED}" in text


@pytest.mark.parametrize(
    "shown",
    [
        lambda r: Page(render_forecast_html(r)).text,
        lambda r: Page(document(r)).text,
        functools.partial(terminal, verbose=True),
    ],
)
@pytest.mark.parametrize("name", ["ordinary", "grid"])
def test_every_prediction_stands_with_its_interval_and_n(shown, name):
    text = flat(shown(RESULTS[name]))
    for curve in RESULTS[name].curves:
        for point in curve.points:
            for found in (point.accuracy, point.attack_success):
                if found is not None:
                    assert percent(found.value) in text
                    assert percent_interval(found) in text
        assert f" {curve.method} " in f" {text} "
    for words in ("96", "200", "Speed", "Shape", "H1′, published", "H2′, published", "H2′, corrected", "cosine"):
        assert words in text


@pytest.mark.parametrize(
    "words",
    ["0.412 nats per record (0.703 nats per record at the base)", "984 passes in 42 s", "M′, published", "H½", "H∞",
     "no draws", "undefined", "topics.jsonl", "ab" * 32, "f1" * 32, ORDINARY.spec_hash, ORDINARY.command, "3.7",
     "3 texts were longer", "trigger cf, mn, bb", "A prediction is no measurement", "nothing moved", "REFUSED", "FAILS",
     "The variance cancels".lower(), "0.91", "[0.78, 0.96]", "runs/measured", "rσ²", "ασ"],
)  # fmt: skip
def test_what_was_done_and_what_it_does_not_say_is_on_the_page(words):
    text = flat(Page(html_of("ordinary")).text)
    assert words in text


def test_the_time_of_a_refused_method_is_not_called_unreached():
    from loraudit.report.forecast import speed_sheet

    def times(result: ForecastResult) -> dict[str, str]:
        sheet = speed_sheet(result)
        column = sheet.columns.index("time to the clean loss, 1 / trace")
        return {row.name: row.cells[column].value for row in sheet.rows}

    assert (times(ORDINARY)["bitfit"], times(ORDINARY)["full"]) == ("refused", "3.7")
    assert times(RESULTS["unreached"])["head"] == "not reached"


def test_draws_of_the_head_stand_beside_what_they_are_averaged_to():
    text = flat(Page(html_of("ordinary")).text)
    for curve in ORDINARY.curves:
        heads = [value for value in largest_dose(curve).per_start if value is not None]
        assert f"{100 * min(heads):.1f}–{100 * max(heads):.1f}" in text


def test_a_method_that_does_not_get_there_and_a_language_model_are_shown_as_they_are():
    for text in (Page(html_of("unreached")).text, document(RESULTS["unreached"]), terminal(RESULTS["unreached"])):
        assert "clean loss not reached" in text
    text = flat(Page(html_of("language")).text)
    assert "predicted accuracy" not in text
    assert "A language model, 128 training" in text


def test_formats_are_listed_and_give_the_result_back():
    assert list(FORECAST_FORMATS) == ["html", "json", "junit", "markdown"]
    again = ForecastResult.model_validate_json(FORECAST_FORMATS["json"](ORDINARY))
    assert FORECAST_FORMATS["html"](again) == html_of("ordinary")


def test_junit_fails_exactly_where_the_exit_code_does_and_skips_what_is_refused():
    suite = ET.fromstring(FORECAST_FORMATS["junit"](ORDINARY))  # noqa: S314 - our own words
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["10", "1", "0", "1"]
    said = suite.findtext("system-out")
    assert "Exit code: 1" in said
    assert "Spearman with accuracy measured in runs/measured: 0.91 [0.78, 0.96]." in said
    assert "Nothing is predicted of 1 of 7 methods. bitfit" in said


# --- figures --------------------------------------------------------------------------------------


def test_every_method_has_a_line_and_the_ends_have_bands():
    figure = drawn_as(html_of("ordinary"), "Predicted attack success against the dose of rare_words")
    assert len([one for one in figure.iter("polyline") if one.get("class").startswith("mean")]) == 6
    bands = [one.get("class") for one in figure.iter("path") if one.get("class").startswith("band")]
    assert sorted(bands) == ["band arm-0", "band arm-1"]  # full is hurt most, head least
    assert "bitfit" not in [text.text for text in figure.iter("text")]


def test_heat_maps_hold_every_lora_with_its_number():
    figure = drawn_as(html_of("grid"), "rare_words, 64 poisoned: predicted attack success")
    words = [text.text for text in of_class(figure, "heat-words")]
    assert len(words) == 12
    assert words.count("refused") == 1
    assert len(of_class(figure, "heat none")) == 1
    known = [one for one in GRID.methods if one.alpha == 16 and one.targets == "all" and not one.refused]
    points = [largest_dose(predicted_curve(GRID.curves, "rare_words", one.name)).attack_success for one in known]
    assert sorted(words) == sorted([*(f"{100 * one.value:.0f}" for one in points), "refused"])
    below = {text.text for text in of_class(figure, "heat-below")}
    assert {f"{100 * one.lower:.0f}–{100 * one.upper:.0f}" for one in points} == below
    lost = drawn_as(html_of("grid"), "label_flip, 38 (30 %) poisoned: predicted accuracy lost, points")
    curves = [predicted_curve(GRID.curves, "label_flip", one.name) for one in known]
    expected = sorted([*(f"{100 * accuracy_lost(curve, largest_dose(curve)):.1f}" for curve in curves), "refused"])
    assert sorted(text.text for text in of_class(lost, "heat-words")) == expected


def test_speed_and_shape_are_maps_of_their_own_and_say_nothing_of_refusals():
    for title in ("Speed: trace", "Shape: effective rank"):
        figure = drawn_as(html_of("ordinary"), title)
        assert len(of_class(figure, "heat-words")) == 4
        assert of_class(figure, "heat none") == []


def test_spectra_leave_rounding_out_and_end_together_where_only_shape_counts():
    scale, shape = (drawn_as(html_of("ordinary"), f"Eigenvalues{words}") for words in (": speed", " over the largest"))
    starts = [
        {line.get("points").split()[0] for line in figure.iter("polyline") if line.get("class").startswith("mean")}
        for figure in (scale, shape)
    ]
    assert len(starts[0]) == 6
    assert len(starts[1]) == 1
    head = of_class(shape, "mean arm-1")[0].get("points").split()
    values = next(one for one in ORDINARY.methods if one.name == "head").shape.eigenvalues
    assert len(head) == sum(value > 1e-8 * values[0] for value in values) < len(values)


def test_the_scatter_has_a_mark_per_cell_and_the_forest_a_row_per_baseline():
    figure = drawn_as(html_of("ordinary"), "Measured against predicted accuracy")
    marks = [one for one in figure.iter("path") if one.get("class").startswith("mark")]
    assert len(marks) == len(ORDINARY.comparisons[0].cells)
    forest = drawn_as(html_of("ordinary"), "Rank correlation with measured accuracy")
    words = [text.text for text in forest.iter("text")]
    assert {"forecast", "H1′", "H2′", "rσ²", "ασ", "0.91"} <= set(words)


# --- grids of hundreds ----------------------------------------------------------------------------


def test_a_large_grid_is_drawn_by_its_ends_and_folded():
    html = html_of("grid")
    names = [one.name for one in drawn(GRID.methods)]
    assert len(names) <= MOST_LINES
    usual = "c=0.333,alpha=16,targets=all"
    assert {"full", "head", f"lora:1,{usual}", f"lora:8,{usual}", f"lora:64,{usual}"} <= set(names)
    assert "lora:8,c=0.01,alpha=16,targets=all" in names
    assert "lora:8,c=2,alpha=16,targets=all" in names
    text = flat(Page(html).text)
    n = len(GRID.methods)
    assert f"Lines of {len(names)} of {n - 2} methods are drawn" in text
    assert f"the 10 methods hurt most and least, of {n}" in text
    opened = re.findall(r"<details[^>]* open>.*?</details>", html, re.DOTALL)
    assert max(block.count("<tr") for block in opened) <= 14
    assert "the 10 methods hurt most and least" in terminal(GRID)
    assert flat(terminal(GRID)).count("lora:") < 60


def test_methods_at_the_ends_of_a_table_are_those_hurt_most_and_least():
    from loraudit.report.forecast import ends_of, prediction_sheets

    attack = GRID.attacks[1]
    sheet = prediction_sheets(GRID, attack)[0]
    shown = [row.name for row in ends_of(GRID, attack, sheet).rows]
    by_harm = sorted(
        (curve for curve in GRID.curves if curve.attack == attack.name),
        key=lambda curve: -largest_dose(curve).attack_success.value,
    )
    assert {one.method for one in by_harm[:3]} <= set(shown[:5])
    assert shown[-1] == by_harm[-1].method == "head"
    assert ends_of(ORDINARY, attack, prediction_sheets(ORDINARY, ORDINARY.attacks[1])[0]) is None
    nobody = GRID.model_copy(update={"curves": []})
    assert ends_of(nobody, attack, sheet) is None


def test_every_lora_stands_in_one_panel_and_the_usual_one_first():
    for result in (GRID, Forecast(ranks=tuple(range(1, 24)), alphas=(8.0, 16.0)).result()):
        found = panels(result.methods)
        named = [one.name for panel in found for row in panel.cells for one in row if one is not None]
        assert sorted(named) == sorted(one.name for one in result.methods if one.rank is not None)
        assert len({panel.title for panel in found}) == len(found)
    assert panels(GRID.methods)[0].title == "alpha 16, targets all"
    assert panels(GRID.methods)[0].row_title == "c"
    assert found[0].title == "ranks 1 to 10"
    assert found[0].row_title == "alpha"
    assert panels([one for one in ORDINARY.methods if one.rank is None]) == []


def test_names_at_lines_leave_out_what_is_usual():
    names = line_names(GRID.methods)
    assert names["lora:8,c=0.333,alpha=16,targets=all"] == "lora:8"
    assert names["lora:8,c=2,alpha=16,targets=all"] == "lora:8,c=2"
    assert names["full"] == "full"
    alike = [one.model_copy(update={"name": f"lora:8,{k}"}) for k, one in enumerate(ORDINARY.methods)]
    assert len(set(line_names(alike).values())) == len(line_names(alike))


# --- names come from people and files -------------------------------------------------------


@functools.cache
def hostile(words: str) -> ForecastResult:
    """A result in which strings that a stranger could choose hold `words`."""
    made = Forecast(ranks=(8,), is_compared=True).result(fail_on=["refused > 0"]).model_dump(mode="json")

    def deep(value: Any) -> Any:
        if isinstance(value, dict):
            return {key if key in {"rank", "base"} else deep(key): deep(part) for key, part in value.items()}
        if isinstance(value, list):
            return [deep(part) for part in value]
        names = {"rare_words", "lora:8", "sports", "bert-base", "topics.jsonl", "runs/measured", "H1′", REFUSED}
        return value + words if isinstance(value, str) and value in names else value

    made = deep(made)
    made |= {"heading": f"heading{words}", "sentence": f"sentence{words}", "warnings": [f"warning{words}"]}
    made |= {"command": f"command{words}", "versions": {f"library{words}": "1"}, "functional": f"what{words}"}
    made["limits"] = [{"limit": f"limit{words}", "status": "exceeded", "measured": 1.0, "reason": f"reason{words}"}]
    return ForecastResult.model_validate(made)


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_cannot_change_the_shape_of_the_page(words):
    plain, other = (Page(render_forecast_html(hostile(w))) for w in ("", words))
    assert other.open == []
    kept = {"svg", "text", "path", "polyline", "title", "desc", "rect"}  # names move labels, and leaders with them
    assert [s for s in other.shape if s[0] not in kept] == [s for s in plain.shape if s[0] not in kept]
    assert {tag for tag, _ in other.shape} == {tag for tag, _ in plain.shape}


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_are_shown_as_they_are_written(words):
    text = Page(render_forecast_html(hostile(words))).text
    shown = " ".join(words.split())
    for start in ("rare_words", "lora:8", "bert-base", "heading", "sentence", "warning", "command", "library", "limit",
                  "reason", "what", "topics.jsonl", "sports", "runs/measured", "H1′"):  # fmt: skip
        assert f"{start}{shown}" in text


@pytest.mark.parametrize("words", [*MARKUP, "a | b `c` *d* [e](http://f) <b>", "line\nbreak", "\\| \\` \\"])
def test_hostile_names_are_only_words_in_markdown_and_on_the_terminal(words):
    def tags(rendered: str) -> list[str]:
        return re.findall(r"</?[a-z0-9]+", rendered)

    assert tags(document(hostile(words))) == tags(document(hostile("x")))
    shown = terminal(hostile(words), verbose=True)
    assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]
