"""A forecast beside a robustness run: the same methods, attacks and doses, and a correlation that can be recomputed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_report_page import Page, figures

from loraudit.errors import ConfigError
from loraudit.policy.forecast import predicted_curve
from loraudit.policy.robustness import curve_of, point_at
from loraudit.report import render_forecast_html, render_forecast_markdown
from loraudit.report.forecast import compared, pairs_of, set_beside
from loraudit.report.forecast.beside import beside_sheet
from loraudit.report.forecast.measured import differing_settings
from loraudit.spec import ForecastResult, RobustnessResult
from loraudit.types import Finding
from synthetic_forecast import Forecast
from synthetic_robustness import WAYS, Robustness

FORECAST = Forecast(ranks=(1, 8, 64), refused=()).result()
RUN = Robustness((*WAYS[:3], WAYS[4], WAYS[5], WAYS[7]), 2).result()
BESIDE = set_beside(FORECAST, RUN, name="runs/measured")


def changed(result: Any, **changes: Any) -> Any:
    return result.model_copy(update=changes)


def with_recipe(run: RobustnessResult, name: str, **recipe: Any) -> RobustnessResult:
    """The run with other settings of one method."""
    methods = [
        one.model_copy(update={"recipe": {**one.recipe, **recipe}}) if one.name == name else one for one in run.methods
    ]
    return changed(run, methods=methods)


def test_methods_go_together_by_recipe_or_by_name_and_say_what_differs():
    pairs = {pair.measured.name: (pair.predicted.name, pair.differing) for pair in pairs_of(FORECAST, RUN)}
    assert pairs == {
        "full": ("full", []),
        "head": ("head", []),
        "lora:8": ("lora:8", []),
        "bitfit": ("bitfit", []),
        "lora:64": ("lora:64", ["alpha 16 predicted, 128 measured"]),
    }
    said = " ".join(BESIDE.left_out)
    assert "lora:64 is compared by name: alpha 16 predicted, 128 measured." in said
    assert "Measured, but not predicted: full:dp_epsilon=8." in said
    assert "1 of the 6 methods of the forecast are not compared." in said


def test_a_recipe_finds_its_prediction_under_another_name():
    grid = Forecast(ranks=(8, 64), alphas=(16.0, 128.0), variances=(1 / 3, 2.0), others=(), refused=()).result()
    pairs = {pair.measured.name: (pair.predicted.name, pair.differing) for pair in pairs_of(grid, RUN)}
    assert pairs == {
        "lora:8": ("lora:8,c=0.333,alpha=16", []),
        "lora:64": ("lora:64,c=0.333,alpha=128", []),
    }
    drawn = with_recipe(RUN, "lora:8", init="gaussian", init_variance=2.0)
    assert "lora:8" not in {pair.measured.name for pair in pairs_of(grid, drawn)}  # A of another family
    uniform = with_recipe(RUN, "lora:8", init_variance=2.0)
    assert {pair.predicted.name for pair in pairs_of(grid, uniform)} >= {"lora:8,c=2,alpha=16"}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"rank": 4}, "rank 8 predicted, 4 measured"),
        ({"alpha": 8}, "alpha 16 predicted, 8 measured"),
        ({"init_variance": 1.5}, "c 0.333 predicted, 1.5 measured"),
        ({"targets": ["q_proj", "v_proj"]}, "targets all predicted, q_proj, v_proj measured"),
        ({"rslora": True}, "factor alpha/r predicted, alpha/sqrt(r) measured"),
        ({"init": "gaussian"}, "A uniform predicted, gaussian measured"),
        ({"init": "pissa"}, "LoRA that starts by pissa does not start at the base with B = 0"),
        ({"init": "orthogonal"}, "LoRA that starts by orthogonal does not start at the base with B = 0"),
        ({"dora": True}, "DoRA trains magnitudes apart from directions, which the kernel of LoRA has not"),
        ({"spread": 0.1}, "its penalty on strong directions is no part of the kernel"),
    ],
)
def test_every_setting_of_a_lora_that_differs_is_named(recipe, words):
    method = next(one for one in FORECAST.methods if one.name == "lora:8")
    asked = {"method": "lora", "rank": 8, "alpha": 16.0, **recipe}
    assert differing_settings(method, asked, FORECAST) == [words]
    assert differing_settings(FORECAST.methods[0], {**asked, "method": "full"}, FORECAST) == []


def test_a_recipe_without_a_kernel_says_so_whatever_the_method():
    (words,) = differing_settings(FORECAST.methods[0], {"method": "full", "dp_epsilon": 8}, FORECAST)
    assert words.startswith("differential privacy")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": {"a": 60, "b": 50, "c": 18}}, "predicted is that of one of 3 labels against the rest"),
        ({"trained_as": "causal_lm", "classes": {}}, "predicted is that of the record's own answer against the taught"),
    ],
)
def test_an_accuracy_that_is_another_is_not_compared(changes, words):
    run = changed(RUN, trained_as=changes.get("trained_as", RUN.trained_as))
    beside = set_beside(changed(FORECAST, **changes), run, name="runs/measured")
    assert [one.measure for one in beside.result.comparisons] == ["attack_success"]
    assert any(words in one for one in beside.left_out)


def test_pairs_that_the_run_calls_invalid_are_named_before_anything_else():
    assert not any("label_flip on full" in words for words in BESIDE.result.warnings)
    controls = [
        one.model_copy(update={"verdict": "invalid"}) if (one.attack, one.method) == ("label_flip", "full") else one
        for one in RUN.controls
    ]
    beside = set_beside(FORECAST, changed(RUN, controls=controls), name="runs/measured")
    (words,) = [one for one in beside.result.warnings if "are invalid in 'runs/measured'" in one]
    assert "label_flip on full" in words
    assert "label_flip on full" in Page(render_forecast_html(FORECAST, beside)).text
    assert "label\\_flip on full" in render_forecast_markdown(FORECAST, beside)


def test_a_run_without_a_shared_clean_loss_is_said_to_be_read_elsewhere():
    match = RUN.matches[0].model_copy(update={"kind": "epochs", "level": 3.0})
    beside = set_beside(FORECAST, changed(RUN, matches=[match, *RUN.matches[1:]]), name="runs/measured")
    assert any("share no clean loss. They are read after 3 epochs" in words for words in beside.result.warnings)


def test_a_refused_method_is_in_no_pair():
    refused = Forecast(ranks=(8,)).result()
    assert "bitfit" not in {pair.predicted.name for pair in pairs_of(refused, RUN)}


def test_cells_are_the_numbers_of_both_results():
    assert {cell.dose for cell in BESIDE.cells if cell.attack == "label_flip"} == {0.0, 0.05, 0.1, 0.2}
    assert {cell.dose for cell in BESIDE.cells if cell.attack == "rare_words"} == {0.0, 8.0, 32.0}
    for cell in BESIDE.cells:
        points = predicted_curve(FORECAST.curves, cell.attack, cell.method.name).points
        point = next(point for point in points if point.dose == cell.dose)
        assert cell.predicted == (point.accuracy if cell.measure == "accuracy" else point.attack_success)
        curve = curve_of(RUN.matches[0], cell.attack, cell.method.name, cell.measure)
        assert cell.measured == point_at(curve, cell.dose).finding


def test_correlations_are_those_of_the_listed_cells():
    assert [one.measure for one in BESIDE.result.comparisons] == ["attack_success", "accuracy"]
    for comparison in BESIDE.result.comparisons:
        cells = comparison.cells
        assert all(cell["dose"] > 0 for cell in cells)
        sides = [[cell[side] for cell in cells] for side in ("predicted", "measured")]
        assert comparison.spearman.value == pytest.approx(stats.spearmanr(*sides).statistic)
        assert comparison.spearman.n_members == len(cells)
        assert comparison.spearman.lower < comparison.spearman.value < comparison.spearman.upper
        by_name = {one.name: one for one in FORECAST.methods}
        loras = [cell for cell in cells if by_name[cell["method"]].theory is not None]
        assert 0 < len(loras) < len(cells)
        measured = [cell["measured"] for cell in loras]
        baselines = {
            "on LoRA alone": [cell["predicted"] for cell in loras],
            "H1′": [by_name[cell["method"]].theory.h1_published for cell in loras],
            "H2′": [by_name[cell["method"]].theory.h2_published for cell in loras],
            "rσ²": [by_name[cell["method"]].rank / 3 for cell in loras],
        }
        for name, values in baselines.items():
            found = comparison.baselines[name]
            assert found.value == pytest.approx(stats.spearmanr(values, measured).statistic)
            assert found.n_members == len(loras)
        poisoned = {(cell.attack, cell.dose): cell.n_poisoned for cell in BESIDE.cells}
        doses = [poisoned[cell["attack"], cell["dose"]] for cell in cells]
        by_dose = stats.spearmanr(doses, sides[1]).statistic
        assert comparison.baselines["dose"].value == pytest.approx(
            by_dose if comparison.measure == "attack_success" else -by_dose
        )
        assert comparison.baselines["dose"].n_members == len(cells)
        assert comparison.baselines["ασ"].value is None  # one alpha and one variance: nothing to rank by
        assert comparison.baselines["ασ"].note == "It is the same in every cell."


def test_cells_of_one_method_are_taken_together():
    chosen = [cell for cell in BESIDE.cells if cell.measure == "accuracy"]
    (whole,) = compared(chosen, run="r", confidence=0.95)
    (twice,) = compared([*chosen, *chosen], run="r", confidence=0.95)
    assert twice.spearman.value == pytest.approx(whole.spearman.value)
    assert twice.spearman.lower == pytest.approx(whole.spearman.lower, abs=0.02)
    alone = [cell for cell in chosen if cell.method.name == "full"]
    (one,) = compared(alone, run="r", confidence=0.95)
    assert (one.spearman.lower, list(one.baselines)) == (None, ["dose"])
    assert one.spearman.note.startswith("No interval: too few methods")


def test_what_is_not_the_same_in_both_is_left_out_and_said():
    attacks = [
        one.model_copy(update={"settings": one.settings.model_copy(update={"trigger": ("xx",)})})
        if one.name == "rare_words"
        else one
        for one in RUN.attacks
    ]
    beside = set_beside(FORECAST, changed(RUN, attacks=attacks), name="r")
    assert {cell.attack for cell in beside.cells} == {"label_flip"}
    assert "rare_words is left out: it was measured with other settings (trigger)." in beside.left_out
    fewer = set_beside(FORECAST, changed(RUN, attacks=RUN.attacks[:1]), name="r")
    assert "rare_words was not measured." in fewer.left_out
    other = changed(RUN, data=[{"path": "topics.jsonl", "sha256": "00" * 32}])
    assert "The two read other files, or other versions of them." in set_beside(FORECAST, other, name="r").left_out
    assert "The two read other files" not in " ".join(BESIDE.left_out)


def test_a_number_that_one_side_lacks_is_counted():
    nothing = Finding(None, None, None, 0.95, "m", 0, 0)
    curves = [
        curve.model_copy(update={"points": [p.model_copy(update={"accuracy": nothing}) for p in curve.points]})
        if (curve.method, curve.attack) == ("full", "label_flip")
        else curve
        for curve in FORECAST.curves
    ]
    beside = set_beside(changed(FORECAST, curves=curves), RUN, name="r")
    assert "4 doses have no number on one of the sides." in beside.left_out
    assert ("full", "label_flip") not in {(cell.method.name, cell.attack) for cell in beside.cells}


def test_results_that_cannot_be_compared_are_refused():
    other = changed(RUN, base=RUN.base.model_copy(update={"fingerprint": "00" * 32}))
    with pytest.raises(
        ConfigError, match=r"'r' tuned another base \('bert-base'\)\. Expected a run of 'bert-base' with"
    ):
        set_beside(FORECAST, other, name="r")
    with pytest.raises(ConfigError, match=r"'r' is of another task \(causal_lm\)\. Expected classification"):
        set_beside(FORECAST, changed(RUN, trained_as="causal_lm"), name="r")
    for nothing in (changed(RUN, matches=[]), changed(RUN, methods=[]), changed(RUN, attacks=[])):
        with pytest.raises(
            ConfigError, match="'r' measured nothing that this forecast predicts: no method, attack and"
        ):
            set_beside(FORECAST, nothing, name="r")


def test_both_stand_on_one_plot_in_one_table_and_in_words():
    html = render_forecast_html(FORECAST, BESIDE)
    page = Page(html)
    assert page.open == []
    plots = [f for f in figures(html) if "predicted and measured, by method" in (f.get("aria-label") or "")]
    assert len(plots) == 3  # flips: accuracy; rare words: success and accuracy
    success = next(plot for plot in plots if plot.get("aria-label").startswith("Attack success"))
    for position in range(5):
        classes = [one.get("class") for one in success.iter()]
        assert classes.count(f"mean arm-{position}") == 1
        assert classes.count(f"whisker arm-{position}") == 3
    text = " ".join(page.text.split())
    for words in (*BESIDE.left_out, "At the same clean validation loss, 0.352 nats", "Spearman with measured accuracy"):
        assert words in text
    assert "rendered from the result.json of the forecast and that of the robustness run alone" in text
    markdown = render_forecast_markdown(FORECAST, BESIDE).replace("\\", "")
    for words in (*BESIDE.left_out, "measured − predicted, points", "on LoRA alone"):
        assert words in markdown


def test_the_table_says_how_far_both_are_apart():
    sheet = beside_sheet(BESIDE, "accuracy")
    cells = [cell for cell in BESIDE.cells if cell.measure == "accuracy"]
    for row, cell in zip(sheet.rows, cells, strict=True):
        assert row.name == cell.method.name
        apart = 100 * (cell.measured.value - cell.predicted.value)
        assert math.isclose(float(row.cells[4].value), apart, abs_tol=0.051)
    assert np.unique([row.arm for row in sheet.rows]).tolist() == [0, 1, 2, 3, 4]


def test_shares_and_numbers_of_one_attack_get_a_plot_each():
    attack = FORECAST.attacks[0]
    mixed = [0.05, 8.0]

    def redosed(points: Any) -> Any:
        kept = [p for p in points if p.dose in {0.0, 0.05, 0.1}]
        return [p.model_copy(update={"dose": 8.0}) if p.dose == 0.1 else p for p in kept]

    curves = [c.model_copy(update={"points": redosed(c.points)}) for c in FORECAST.curves if c.attack == attack.name]
    forecast = changed(
        FORECAST, attacks=[attack.model_copy(update={"doses": mixed, "n_poisoned": [6, 8]})], curves=curves
    )
    match = RUN.matches[0]
    measured = [c.model_copy(update={"points": redosed(c.points)}) for c in match.curves if c.attack == attack.name]
    run = changed(RUN, attacks=RUN.attacks[:1], matches=[match.model_copy(update={"curves": measured})])
    html = render_forecast_html(forecast, set_beside(forecast, run, name="r"))
    titles = [
        text.text for figure in figures(html) for text in figure.iter("text") if "poisoned, log" in (text.text or "")
    ]
    assert {"share poisoned, log scale", "records poisoned, log scale"} <= set(titles)


def test_the_result_with_comparisons_survives_json():
    assert ForecastResult.model_validate_json(BESIDE.result.model_dump_json()) == BESIDE.result
