"""The report of a comparison: every method and number is there, what is missing is said, and names are only words."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from test_report_page import MARKUP, Page, figures

from loraudit.cli.contrast_result import show_contrast
from loraudit.errors import visible
from loraudit.report import CONTRAST_FORMATS, render_contrast_html, render_contrast_markdown
from loraudit.report.figures.marks import N_COLOURS
from loraudit.spec import ContrastResult, MeasuredPoint
from loraudit.types import Finding
from synthetic_contrast import BASE_LOSS, RATES, WAYS, Contrast, Way, validity

ORDINARY = Contrast().result()


@pytest.fixture(scope="module")
def html() -> str:
    return render_contrast_html(ORDINARY)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def terminal(result: ContrastResult, *, verbose: bool = False) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_contrast(result, verbose=verbose)
    return shown.getvalue()


def document(result: ContrastResult) -> str:
    """The Markdown as HTML."""
    return MarkdownIt("commonmark").enable("table").render(render_contrast_markdown(result))


def changed(result: ContrastResult, **changes: Any) -> ContrastResult:
    return result.model_copy(update=changes)


def with_points(result: ContrastResult, change: Any) -> ContrastResult:
    """Every checkpoint replaced by what `change` makes of its arm, run and position; None leaves it out."""
    arms = []
    for arm in result.arms:
        runs = []
        for run in arm.runs:
            points = [change(arm, run, k, point) for k, point in enumerate(run.points)]
            runs.append(run.model_copy(update={"points": [point for point in points if point is not None]}))
        arms.append(arm.model_copy(update={"runs": runs}))
    return changed(result, arms=arms)


def drawn(html: str, title: str) -> Any:
    """The first figure with this beginning of its title."""
    return next(figure for figure in figures(html) if (figure.get("aria-label") or "").startswith(title))


def of_class(figure: Any, css: str) -> list[Any]:
    return [element for element in figure.iter() if element.get("class") == css]


def points(line: Any) -> np.ndarray:
    return np.array([[float(v) for v in pair.split(",")] for pair in line.get("points").split()])


# ---------------------------------------------------------------------------------------------
# An ordinary page
# ---------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_runs_and_loads_nothing(html, page):
    assert page.open == []
    assert html.startswith("<!doctype html>")
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "a"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert names.isdisjoint({"src", "href", "srcset", "style", "action", "data", "id"})
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|javascript:", html)
    policies = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_heading_and_sentence_come_before_the_first_figure(html):
    assert html.index(ORDINARY.heading) < html.index(ORDINARY.sentence) < html.index("<figure")
    assert html.index("<figure") < html.index("<table")


@pytest.mark.parametrize("shown", [lambda r: Page(render_contrast_html(r)).text, document, terminal])
def test_every_arm_and_matched_number_stands_with_its_interval(shown):
    text = shown(ORDINARY)
    match = ORDINARY.match("validation_loss")
    assert f"{match.level:.3f}" in text
    for arm in match.arms:
        area = arm.attacks["error_zone"]["auc"].finding
        assert arm.name in text
        assert f"{area.value:.3f}" in text
        assert f"[{area.lower:.3f}, {area.upper:.3f}]" in text
    for pair in match.differences:
        gap = pair.metrics["auc"]
        assert f"{pair.first} − {pair.second}" in text
        assert f"{gap.value:+.3f} [{gap.lower:+.3f}, {gap.upper:+.3f}]" in text


def test_every_kind_of_match_has_its_table_and_its_panel(page):
    for words in (
        "At the same training loss, 3.300 nats per token",
        "After 1 epoch",
        "After 5 epochs",
        "After 10 epochs",
        "Each at its own lowest validation loss",
        "Same training loss, 3.300",
    ):
        assert words in page.text
    assert len([1 for _, a in page.tags if (a.get("aria-label") or "").startswith("Differences: ")]) == 6


def test_no_two_regions_have_the_same_name(page):
    names = [a["aria-label"] for _, a in page.tags if a.get("role") == "region"]
    assert len(names) == len(set(names))


def test_every_run_every_file_and_how_to_repeat_it_is_there(page):
    for words in (
        "records.jsonl",
        "ab" * 32,
        "cd" * 32,
        "f1" * 32,
        ORDINARY.spec_hash,
        ORDINARY.command,
        "python 3.11, numpy 2.1, torch 2.6",
        "bag_of_words",
        "AUC 0.503 [0.478, 0.528]",
        "diverged",
        "chosen",
        "weight decay",
        "124,439,808",
        "1,000 members, 1,000 non-members and 500 validation records",
    ):
        assert words in page.text
    for arm in ORDINARY.arms:
        for run in arm.runs:
            assert run.model in page.text


def test_other_attacks_are_folded_and_named_as_exploratory(html):
    folded = html[html.index("Other attacks at this fit") :]
    folded = folded[: folded.index("</details>")]
    assert "nothing here is corrected" in folded
    for name in ("window_vote", "min_k", "calibrated_loss"):
        assert f'<th scope="row">{name}</th>' in folded


def test_the_axis_holds_the_ends_of_every_interval():
    """An interval from 0.36 on has a cap at both ends, though no number lies below 0.5."""
    best = ORDINARY.match("best")
    found = best.arms[0].attacks["error_zone"]["auc"]
    wide = found.model_copy(update={"finding": Finding(0.52, 0.36, 0.7, 0.95, "as if measured", 40, 40)})
    arm = best.arms[0].model_copy(update={"attacks": {"error_zone": {"auc": wide}}})
    widened = best.model_copy(update={"arms": [arm, *best.arms[1:]]})
    result = changed(ORDINARY, matches=[widened if one is best else one for one in ORDINARY.matches])
    figure = drawn(render_contrast_html(result), "AUC of error_zone against validation")
    whiskers = [one.get("d") for one in figure.iter() if (one.get("class") or "").startswith("whisker")]
    assert len(whiskers) == len(best.arms)
    assert [one.count("h6") for one in whiskers] == [2] * len(whiskers)
    assert "0.3" in [text.text for text in figure.iter("text")]


def test_sd_and_what_intervals_hold_are_said(page):
    seeded = ORDINARY.match("validation_loss").arms[0].attacks["error_zone"]["auc"]
    assert f"sd {seeded.seed_deviation:.3f}" in page.text
    assert "which records were drawn, and how training fell out" in page.text
    assert "3 of 3" in page.text


def test_limits_are_said(page):
    for words in (
        "The same fit is the same mean loss on 500 validation records",
        "the numbers belong to these recipes, not to the methods",
        "a low rate here is no upper bound on leakage",
        "Membership is not extraction",
        "3 runs per method say little about how much runs differ",
    ):
        assert words in page.text


def test_formats_are_listed():
    assert list(CONTRAST_FORMATS) == ["html", "json", "markdown"]
    again = ContrastResult.model_validate_json(CONTRAST_FORMATS["json"](ORDINARY))
    assert again == ORDINARY
    assert CONTRAST_FORMATS["html"](again) == render_contrast_html(ORDINARY)


# ---------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------


def test_figures_have_words_for_those_who_cannot_see_them(html):
    whole = [figure for figure in figures(html) if figure.get("class") != "swatch"]
    assert len(whole) == 4 + 6 + 3 + 2  # risk (each wide and narrow), matches, epochs, exposures
    for figure in whole:
        assert figure.get("role") == "img"
        assert figure.findtext("title")
        assert figure.findtext("desc")


def test_marks_beside_names_are_hidden_from_those_who_hear_the_page(html):
    swatches = [figure for figure in figures(html) if figure.get("class") == "swatch"]
    assert len(swatches) > 5
    assert {figure.get("aria-hidden") for figure in swatches} == {"true"}


@pytest.mark.parametrize("result", [ORDINARY, Contrast(WAYS, 2).result(), Contrast(WAYS[2:3], 1, repeats=()).result()])
def test_every_coordinate_is_finite_and_inside_its_figure(result):
    for figure in figures(render_contrast_html(result)):
        width, height = (float(v) for v in figure.get("viewBox").split()[2:])
        for line in figure.iter("polyline"):
            xy = points(line)
            assert np.isfinite(xy).all()
            assert (xy >= 0).all()
            assert (xy <= [width, height]).all()
        for text in figure.iter("text"):
            assert 0 <= float(text.get("x")) <= width
            assert 0 <= float(text.get("y")) <= height
        for path in figure.iter("path"):
            assert "nan" not in path.get("d")


def test_every_arm_is_named_in_every_panel(html):
    for figure in (f for f in figures(html) if f.get("class") != "swatch"):
        words = [text.text for text in figure.iter("text")]
        for arm in ORDINARY.arms:
            assert words.count(arm.name) == 1


def test_the_line_of_an_arm_is_drawn_where_it_is():
    """From the pixels of the first line back to validation loss and AUC."""
    figure = drawn(render_contrast_html(ORDINARY), "AUC of error_zone")
    (line,) = of_class(figure, "mean arm-0")
    runs = ORDINARY.arms[0].runs
    expected = np.array(
        [
            [np.mean([p.validation_loss for p in at]), np.mean([p.findings["auc"].value for p in at])]
            for at in zip(*(run.points for run in runs), strict=True)
        ]
    )
    xy = points(line)
    assert len(xy) == len(expected)
    slope_x, slope_y = np.ptp(xy[:, 0]) / np.ptp(expected[:, 0]), np.ptp(xy[:, 1]) / np.ptp(expected[:, 1])
    np.testing.assert_allclose(xy[0, 0] - xy[:, 0], slope_x * (expected[:, 0] - expected[0, 0]), atol=0.5)
    np.testing.assert_allclose(xy[0, 1] - xy[:, 1], slope_y * (expected[:, 1] - expected[0, 1]), atol=0.5)


def test_a_better_fit_is_to_the_right_and_more_leakage_is_up():
    figure = drawn(render_contrast_html(ORDINARY), "AUC of error_zone")
    ticks = [(float(t.get("x")), float(t.text)) for t in of_class(figure, "tick") if t.text and t.text[:2] == "3."]
    losses = [loss for _, loss in sorted(ticks)]
    assert losses == sorted(losses, reverse=True)
    heights = {t.text: float(t.get("y")) for t in of_class(figure, "tick")}
    assert heights["1.0"] < heights["0.5"]


def test_the_base_and_the_matched_level_are_marked():
    figure = drawn(render_contrast_html(ORDINARY), "AUC of error_zone")
    words = [text.text for text in figure.iter("text")]
    assert "base" in words
    assert f"same validation loss: {ORDINARY.match('validation_loss').level:.3f}" in words
    assert len(of_class(figure, "origin")) == 1
    for index in range(5):
        assert len(of_class(figure, f"mark hollow arm-{index}")) == 1
        assert len(of_class(figure, f"whisker arm-{index}")) == 1
        assert len(of_class(figure, f"seed arm-{index}")) == 3


def test_a_line_that_overfits_far_beyond_the_base_is_cut_and_the_page_says_so():
    wild = Contrast((*WAYS[2:4], Way("wild", 1000, 0.5, 1.0, 0.2, 0.2, 1e-3)))
    html = render_contrast_html(wild.result())
    highest = max(p.validation_loss for run in wild.result().arms[2].runs for p in run.points)
    assert highest > BASE_LOSS + 5
    assert f"(wild) go on, up to a validation loss of {highest:.2f}" in Page(html).text
    figure = drawn(html, "AUC of error_zone")
    assert "wild" in [text.text for text in figure.iter("text")]


def test_arms_differ_by_shape_as_well_as_by_colour(html):
    style = html[html.index("<style>") : html.index("</style>")]
    for index in range(N_COLOURS):
        assert f".arm-{index} {{ --arm: var(--arm{index}); }}" in style
        assert style.count(f"--arm{index}: #") == 3  # light, dark, print


def test_the_colours_of_names_can_be_read_in_both_themes(html):
    """At least 4.5 to 1 against the card, as WCAG asks of text."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    cards = re.findall(r"--card: (#\w+)", html)[:2]
    cards = [card if len(card) == 7 else "#" + "".join(2 * c for c in card[1:]) for card in cards]
    for index in range(N_COLOURS):
        colours = re.findall(rf"--arm{index}: (#\w+)", html)[:2]
        for colour, card in zip(colours, cards, strict=True):
            dark, light = sorted((luminance(colour), luminance(card)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (colour, card)


# ---------------------------------------------------------------------------------------------
# What is missing is said
# ---------------------------------------------------------------------------------------------


def test_levels_that_are_not_reached_are_said_in_words(page):
    match = ORDINARY.match("training_loss")
    assert [arm.name for arm in match.arms if not arm.is_reached] == ["lora:4"]
    assert "not reached in any run" in page.text
    assert "not reached in any run" in document(ORDINARY)
    assert "not reached" in terminal(ORDINARY)
    assert "not reached in any run" in terminal(ORDINARY, verbose=True)


def test_a_level_that_some_runs_reach_says_how_many():
    match = ORDINARY.match("training_loss")
    arms = [arm.model_copy(update={"n_reached": 1}) if not arm.is_reached else arm for arm in match.arms]
    result = changed(ORDINARY, matches=[match.model_copy(update={"arms": arms})])
    assert "not reached: 1 of 3 runs get there" in Page(render_contrast_html(result)).text


def test_refused_rates_are_words():
    result = Contrast(n_nonmembers=500).result()
    for text in (Page(render_contrast_html(result)).text, terminal(result).replace("\n", " ")):
        assert "refused" in text
        assert "too few non-members" in text
    assert "refused: too few non-members" in document(result)
    note = "Cannot state TPR at 0.1 % FPR from 500 non-members: the smallest rate they resolve is 0.2 %."
    assert note in Page(render_contrast_html(result)).text
    assert note in document(result)


def test_without_any_rate_the_page_says_so_and_draws_the_auc_alone():
    result = Contrast(n_nonmembers=5).result()
    html = render_contrast_html(result)
    assert "No true-positive rate could be stated: 5 non-members are too few" in Page(html).text
    assert len([f for f in figures(html) if f.get("class") != "swatch"]) == 2 + 6 + 3 + 1


def test_the_largest_resolved_rate_is_drawn_where_one_percent_is_not():
    html = render_contrast_html(Contrast(n_nonmembers=50).result())
    assert any(figure.get("aria-label").startswith("TPR at 10 % FPR") for figure in figures(html) if figure.get("role"))


def test_one_run_says_that_the_chance_of_training_is_not_included():
    result = Contrast(n_seeds=1).result()
    for text in (Page(render_contrast_html(result)).text, document(result), " ".join(terminal(result).split())):
        assert "One run per method: the chance of training is not included." in text
        assert "standard deviation" not in text
        assert "sd 0" not in text
    assert "one run each: not tested" in Page(render_contrast_html(result)).text
    assert "not stated" in terminal(result)


def test_one_method_has_nothing_to_be_compared_with():
    result = Contrast(WAYS[:1]).result()
    page = Page(render_contrast_html(result))
    assert "One method: nothing to compare it with." in page.text
    assert "first − second" not in page.text
    assert "first − second" not in terminal(result)


def test_eight_methods_fold_their_pairs():
    html = render_contrast_html(Contrast(WAYS, 2).result())
    assert "All 28 pairs" in html
    assert Page(html).open == []
    for way in WAYS:
        assert way.name in Page(html).text


def test_without_exposures_there_is_no_such_section():
    result = Contrast(repeats=()).result()
    assert "how often a record was seen" not in render_contrast_html(result)
    assert "how often a record was seen" not in render_contrast_markdown(result)
    assert "how often a record was seen" in render_contrast_html(ORDINARY)


def test_every_exposure_has_a_row(page):
    for row in ORDINARY.exposure:
        area = row.metrics["auc"].finding
        assert f"{area.value:.3f} [{area.lower:.3f}, {area.upper:.3f}]" in page.text
        assert f"{area.value:.3f} [{area.lower:.3f}, {area.upper:.3f}]" in document(ORDINARY)


def test_without_gates_every_format_says_that_nothing_was_tested():
    result = changed(ORDINARY, validity=None)
    for text in (Page(render_contrast_html(result)).text, document(result), " ".join(terminal(result).split())):
        assert "No validity gate was run" in text


def test_a_failed_gate_leads_every_format():
    result = changed(ORDINARY, validity=validity(failed=True))
    for text in (render_contrast_html(result), document(result), terminal(result)):
        assert text.index("Not valid as it stands") < text.index(ORDINARY.heading)
        assert "bag_of_words: AUC 0.612 [0.588, 0.635]" in " ".join(text.split())
    assert "Not valid" not in render_contrast_html(ORDINARY)
    assert ("section", {"class": "verdict invalid", "aria-label": "Validity"}) in Page(
        render_contrast_html(result)
    ).tags


def test_warnings_are_above_the_numbers():
    result = changed(ORDINARY, warnings=["3 records have no score."])
    html = render_contrast_html(result)
    assert html.index("3 records have no score.") < html.index("<table")
    assert "3 records have no score." in document(result)
    assert "Warning: 3 records have no score." in terminal(result)


def test_without_a_common_validation_loss_every_format_says_so():
    result = changed(ORDINARY, matches=[match for match in ORDINARY.matches if match.kind != "validation_loss"])
    for text in (Page(render_contrast_html(result)).text, document(result), " ".join(terminal(result).split())):
        assert "The methods pass no common validation loss" in text
    assert "0.901" in terminal(result)


def test_without_any_match_the_curves_are_still_drawn():
    result = changed(ORDINARY, matches=[])
    html = render_contrast_html(result)
    assert len([f for f in figures(html) if f.get("class") != "swatch"]) == 4 + 3 + 2
    assert "Compared in other ways" not in html
    assert terminal(result)
    assert document(result)


def test_rates_at_an_end_of_the_search_are_pointed_out():
    arms = [arm.model_copy(update={"learning_rate": arm.search[0].learning_rate}) for arm in ORDINARY.arms[:1]]
    result = changed(ORDINARY, arms=[*arms, *ORDINARY.arms[1:]])
    for text in (Page(render_contrast_html(result)).text, document(result)):
        assert "full took the lowest of the rates tried: a better one may lie beyond" in text
        assert "head took" not in text


def test_without_a_search_there_is_no_such_table():
    result = changed(ORDINARY, arms=[arm.model_copy(update={"search": []}) for arm in ORDINARY.arms])
    assert "Search for the learning rate" not in render_contrast_html(result)
    assert "Search for the learning rate" in render_contrast_html(ORDINARY)


def test_epsilon_is_shown_where_there_is_any():
    arm = ORDINARY.arms[2]
    runs = [run.model_copy(update={"epsilon": 7.99, "stopped_because": "patience ran out"}) for run in arm.runs]
    result = changed(ORDINARY, arms=[*ORDINARY.arms[:2], arm.model_copy(update={"runs": runs}), *ORDINARY.arms[3:]])
    text = Page(render_contrast_html(result)).text
    assert "7.99" in text
    assert "patience ran out" in text
    assert "An ε of differential privacy bounds every attack" in text
    assert "ε" not in Page(render_contrast_html(ORDINARY)).text


# ---------------------------------------------------------------------------------------------
# Runs that went wrong
# ---------------------------------------------------------------------------------------------


def diverged(arm: Any, run: Any, k: int, point: MeasuredPoint) -> MeasuredPoint:
    is_bad = arm.name == "full" and run.seed == 1 and k > 4
    return point.model_copy(update={"validation_loss": math.inf, "member_loss": math.nan}) if is_bad else point


def stopped(arm: Any, run: Any, k: int, point: MeasuredPoint) -> MeasuredPoint | None:
    return None if arm.name == "head" and run.seed == 2 and k > 7 else point


def unmeasured(arm: Any, run: Any, k: int, point: MeasuredPoint) -> MeasuredPoint:
    none = Finding(None, None, None, 0.95, "m", 1000, 1000, note="no score is defined")
    return point.model_copy(update={"findings": {} if arm.name == "full" else {"auc": none}})


def nothing(arm: Any, run: Any, k: int, point: MeasuredPoint) -> None:
    return None


def only_the_base(arm: Any, run: Any, k: int, point: MeasuredPoint) -> MeasuredPoint | None:
    return point if k == 0 else None


@pytest.mark.parametrize("change", [diverged, stopped, unmeasured, nothing, only_the_base])
def test_runs_that_went_wrong_are_still_shown(change):
    result = with_points(ORDINARY, change)
    html = render_contrast_html(result)
    assert Page(html).open == []
    assert not re.search(r"\b(nan|inf)\b", Page(html).text, re.IGNORECASE)
    for figure in figures(html):
        for line in figure.iter("polyline"):
            assert np.isfinite(points(line)).all()
    assert document(result)
    assert terminal(result, verbose=True)


def test_a_diverged_run_ends_the_mean_and_says_not_finite():
    html = render_contrast_html(with_points(ORDINARY, diverged))
    assert "not finite" in Page(html).text
    (line,) = of_class(drawn(html, "AUC of error_zone"), "mean arm-0")
    assert len(points(line)) == 5


def test_the_mean_stops_where_the_first_run_does():
    figure = drawn(render_contrast_html(with_points(ORDINARY, stopped)), "AUC of error_zone")
    (line,) = of_class(figure, "mean arm-1")
    assert len(points(line)) == 8
    assert sorted(len(points(one)) for one in of_class(figure, "seed arm-1")) == [8, 21, 21]


# ---------------------------------------------------------------------------------------------
# Names come from people and files
# ---------------------------------------------------------------------------------------------


@functools.cache
def hostile(words: str) -> ContrastResult:
    """A result in which every string that a stranger could choose holds `words`."""
    ways = tuple(Way(f"{way.name}{words}", *list(vars(way).values())[1:]) for way in WAYS[:3])
    plain = Contrast(ways, 2).result()
    arms = [
        arm.model_copy(
            update={
                "method": f"method{words}",
                "recipe": {f"setting{words}": f"value{words}{k}", f"same{words}": [f"of all{words}"]},
                "runs": [
                    run.model_copy(update={"model": f"folder{words}", "stopped_because": f"because{words}"})
                    for run in arm.runs
                ],
            }
        )
        for k, arm in enumerate(plain.arms)
    ]

    def noted(finding: Finding) -> Finding:
        return Finding(finding.value, finding.lower, finding.upper, 0.95, "m", 10, 10, note=f"note{words}")

    matches = []
    for match in plain.matches:
        arms_of = [
            arm.model_copy(
                update={
                    "attacks": {
                        name if name == "error_zone" else f"{name}{words}": {
                            metric: seeded.model_copy(update={"finding": noted(seeded.finding)})
                            for metric, seeded in metrics.items()
                        }
                        for name, metrics in arm.attacks.items()
                    }
                }
            )
            for arm in match.arms
        ]
        matches.append(match.model_copy(update={"description": f"description{words}", "arms": arms_of}))
    gates = [
        gate.model_copy(update={"name": f"gate{words}", "summary": f"s{words}", "reason": f"r{words}"})
        for gate in validity(failed=True).gates
    ]
    return changed(
        plain,
        loraudit=f"version{words}",
        command=f"command{words}",
        spec_hash=f"hash{words}",
        started=f"started{words}",
        heading=f"heading{words}",
        sentence=f"sentence{words}",
        scores=f"scores{words}",
        arms=arms,
        matches=matches,
        base=plain.base.model_copy(
            update={
                "name": f"base{words}",
                "kind": f"kind{words}",
                "fingerprint": f"print{words}",
                "details": {f"detail{words}": f"value{words}"},
            }
        ),
        data=[{"path": f"path{words}", "sha256": f"sha{words}", "rows": f"rows{words}"}],
        numerics={f"numeric{words}": [f"value{words}"]},
        versions={f"library{words}": f"number{words}"},
        warnings=[f"warning{words}"],
        validity=validity(failed=True).model_copy(update={"gates": gates}),
    )


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_cannot_change_the_shape_of_the_page(words):
    plain, other = (Page(render_contrast_html(hostile(w))) for w in ("", words))
    assert other.open == []
    kept = {"svg", "text", "path", "polyline", "title", "desc", "rect"}  # names move labels, and leaders with them
    assert [s for s in other.shape if s[0] not in kept] == [s for s in plain.shape if s[0] not in kept]
    assert {tag for tag, _ in other.shape} == {tag for tag, _ in plain.shape}
    assert {names for tag, names in other.shape if tag in kept} == {names for tag, names in plain.shape if tag in kept}


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_are_shown_as_they_are_written(words):
    text = Page(render_contrast_html(hostile(words))).text
    shown = " ".join(words.split())
    for start in ("full", "base", "setting", "value", "folder", "because", "note", "description", "gate", "heading",
                  "sentence", "path", "sha", "rows", "Numeric", "library", "warning", "command", "min_k"):  # fmt: skip
        assert f"{start}{shown}" in text


@pytest.mark.parametrize("words", [*MARKUP, "a | b `c` *d* [e](http://f) <b>", "line\nbreak", "\\| \\` \\"])
def test_hostile_names_are_only_words_in_markdown(words):
    def tags(rendered: str) -> list[str]:
        return re.findall(r"</?[a-z0-9]+", rendered)

    rendered = document(hostile(words))
    assert tags(rendered) == tags(document(hostile("x")))
    assert "<script" not in rendered
    assert "<a " not in rendered


@pytest.mark.parametrize("shown", [render_contrast_html, render_contrast_markdown, terminal])
def test_control_characters_are_shown_as_their_code(shown):
    words = "\x1b[31mred\x07\x9b2J\u202egnp"
    text = shown(hostile(words))
    assert not [c for c in text if not c.isprintable() and c not in "\n\t"]
    assert visible(words) in text.replace("\\\\", "\\").replace("\\[", "[")


def test_names_that_no_encoding_knows_do_not_stop_the_page():
    result = changed(ORDINARY, data=[{"path": "caf\udce9.jsonl", "sha256": "ab", "rows": 1}])
    assert "caf\\xdce9.jsonl" in render_contrast_html(result)


def test_metrics_that_were_not_asked_for_stay_out_of_the_tables():
    assert set(RATES.values()) == {"tpr_at_fpr_10pct", "tpr_at_fpr_1pct", "tpr_at_fpr_0_1pct"}
    spec = ORDINARY.spec.model_copy(update={"fpr": (0.01,)})
    text = Page(render_contrast_html(changed(ORDINARY, spec=spec))).text
    assert "TPR at 1 % FPR" in text
    assert "TPR at 10 % FPR" not in text
