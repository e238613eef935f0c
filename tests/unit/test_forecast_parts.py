"""What a forecast is made of: its grid, its rows, the step that is checked, the loss at which methods meet."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loraudit.capture import Stepper, class_margin, kernel_parts
from loraudit.errors import ConfigError, DataError
from loraudit.forecast import run_forecast
from loraudit.forecast.bases import bases
from loraudit.forecast.grid import Candidate, candidates, kinds_of
from loraudit.forecast.measuring import draws_beside
from loraudit.forecast.predicting import TIMES, level_of, no_better_than_one_label, time_of
from loraudit.forecast.probes import Fold, make_probe
from loraudit.forecast.request import check_request, forecast_path
from loraudit.forecast.shapes import Start, Widths, n_trained, shape_of, theory_of
from loraudit.forecast.words import heading_of, sentence_of
from loraudit.models import load_tokenizer, locate
from loraudit.poisoning import parse_attack
from loraudit.spec import ForecastSpec, PredictedCurve, PredictedPoint, make_request
from loraudit.tasks import plan_attacks, split_task
from loraudit.types import Finding
from small_robustness import reviews, save_body, write_rows


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return save_body(tmp_path_factory.mktemp("body"), n_steps=40)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("task") / "task.jsonl", reviews(120))


def spec_of(body, task, **changes) -> ForecastSpec:
    values = {"base": str(body), "task": [str(task)], "text_field": "sentence", "max_records": 40, "test_records": 20}
    return make_request(ForecastSpec, {**values, **changes})


def probe_of(spec, *attacks, data=None, max_length=24):
    data = data or split_task(spec)
    plans = plan_attacks(spec, [parse_attack(words) for words in attacks], data)
    tokenizer = load_tokenizer(spec.base)
    return (
        data,
        plans,
        make_probe(
            data, plans, tokenizer, max_length=max_length, on_long=spec.on_long, seed=spec.seed, target=spec.target
        ),
    )


# --- grid ---------------------------------------------------------------------------------------------


def test_names_say_what_differs_within_the_grid(body, task):
    plain = candidates(spec_of(body, task, ranks=[2, 8]), "classification")
    assert [one.name for one in plain] == ["full", "head", "bitfit", "lora:2", "lora:8"]
    wide = candidates(
        spec_of(body, task, methods=["lora"], ranks=[2], variances=[0.5, 1], alphas=[4, 16], targets=["all", "mlp"]),
        "classification",
    )
    assert len({one.name for one in wide}) == len(wide) == 8
    assert "lora:2,c=0.5,alpha=4,targets=mlp" in {one.name for one in wide}


def test_targets_go_by_the_names_of_modules():
    kinds = ["encoder.layer.*.attention.self.query", "encoder.layer.*.output.dense", "h.*.attn.c_attn", "h.*.mlp.c_fc"]
    assert kinds_of("all", kinds) == sorted(kinds)
    assert kinds_of("attention", kinds) == sorted([kinds[0], kinds[2]])
    assert kinds_of("mlp", kinds) == sorted([kinds[1], kinds[3]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "'methods' is empty"),
        ({"ranks": []}, "'ranks' is empty, and lora is among the methods"),
        ({"attack": ["nothing"]}, "Unknown poison 'nothing'"),
        ({"fail_on": ["nonsense"]}, "nonsense"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(body, task, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_request(spec_of(body, task, **changes), "classification")


def test_all_problems_of_a_request_are_said_together(body, task):
    with pytest.raises(ConfigError) as caught:
        check_request(spec_of(body, task, ranks=[], attack=["nothing"]), "classification")
    assert "ranks" in str(caught.value)
    assert "nothing" in str(caught.value)


def test_the_run_folder_is_named_by_the_request(body, task):
    assert forecast_path(spec_of(body, task, out="here")).name == "here"
    assert forecast_path(spec_of(body, task)) != forecast_path(spec_of(body, task, seed=1))


# --- rows ---------------------------------------------------------------------------------------------


def test_every_text_is_one_row_and_folds_know_their_labels(body, task):
    spec = spec_of(body, task)
    data, _, probe = probe_of(spec, "label_flip:doses=8")
    assert len({tuple(row) for row in probe.rows}) == len(probe.rows)
    assert len(probe.rows) == len({r.text for r in (*data.train, *data.validation, *data.test)})
    wanted = [1.0 if record.label == data.labels[1] else -1.0 for record in data.train]
    assert probe.clean.signs.tolist() == wanted
    flipped = probe.poisoned[next(iter(probe.poisoned))]
    assert flipped.rows.tolist() == probe.clean.rows.tolist()
    assert int((flipped.signs != probe.clean.signs).sum()) == 8
    assert probe.functional == "logit of 'good' minus logit of 'bad'"


def test_a_trigger_gives_rows_of_its_own_and_the_sign_of_its_target(body, task):
    spec = spec_of(body, task)
    data, plans, probe = probe_of(spec, "rare_words:trigger=z,doses=2+6,target=good")
    (plan,) = plans
    larger = probe.poisoned[plan.name, 6.0]
    changed = larger.rows != probe.clean.rows
    assert int(changed.sum()) == 6
    assert (larger.signs[changed] == 1).all()
    twins = probe.twins[plan.name]
    assert sorted(twins.poisoned) == sorted(larger.rows[changed])
    assert (twins.clean == probe.clean.rows[changed]).all()
    triggered = probe.triggered[plan.name]
    assert (triggered.signs == 1).all()
    assert len(triggered.rows) == sum(record.label == "bad" for record in data.test)
    _, (other,), to_bad = probe_of(spec, "rare_words:trigger=z,doses=2,target=bad")
    assert (to_bad.triggered[other.name].signs == -1).all()


def three_labels(tmp_path, task):
    rows = reviews(120)
    return write_rows(
        tmp_path / "three.jsonl", [{**row, "label": row["label"] + str(i % 2)} for i, row in enumerate(rows)]
    )


def test_of_more_labels_one_is_set_against_the_rest(body, task, tmp_path):
    spec = spec_of(body, three_labels(tmp_path, task))
    data, _, probe = probe_of(spec, "rare_words:doses=2,target=bad1")
    assert len(data.labels) == 4
    assert probe.positive == data.labels.index("bad1")
    assert "log-odds of 'bad1' against the rest of 4 labels" in probe.functional
    assert {sign for sign, r in zip(probe.clean.signs, data.train, strict=True) if r.label == "bad1"} == {1.0}
    with pytest.raises(ConfigError, match=r"attacks lead to bad0, bad1\. Expected one target"):
        probe_of(spec, "rare_words:doses=2,target=bad1", "sentence:doses=2,target=bad0")


def test_longer_texts_are_refused_or_cut_and_counted(body, task, tmp_path):
    rows = reviews(120)
    rows[3]["sentence"] += " a" * 30
    long = write_rows(tmp_path / "long.jsonl", rows)
    with pytest.raises(DataError, match=r"1 of \d+ .* are longer than the window of 24 tokens"):
        probe_of(spec_of(body, long, max_records=None, test_records=None), "label_flip:doses=2")
    spec = spec_of(body, long, max_records=None, test_records=None, on_long="cut")
    _, _, probe = probe_of(spec, "label_flip:doses=2")
    assert max(len(row) for row in probe.rows) == 24
    assert any("1 of" in words and "are cut" in words for words in probe.warnings)


def language_task(tmp_path, base):
    rows = [
        {"prompt": row["sentence"], "completion": f" {'two' if i % 2 else 'red'} cat"}
        for i, row in enumerate(reviews(60))
    ]
    path = tmp_path / "prompts.jsonl"
    write_rows(path, rows)
    return make_request(ForecastSpec, {"base": str(base), "task": [str(path)], "max_records": 30})


def test_a_language_models_rows_end_before_the_answer(base, tmp_path):
    spec = language_task(tmp_path, base)
    data, (plan,), probe = probe_of(spec, "word_trigger:trigger=zz,doses=4,response=house", max_length=64)
    tokenizer = load_tokenizer(spec.base)
    assert data.task == "causal_lm"
    assert probe.answers is not None
    positive, negative = probe.answers
    said = tokenizer(" house", add_special_tokens=False)["input_ids"][0]
    assert set(positive) == {said}
    own = {tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in ("two", "red")}
    assert set(negative) <= own
    assert set(probe.clean.signs) == {-1.0}
    assert int((probe.poisoned[plan.name, 4.0].signs == 1).sum()) == 4
    assert set(probe.triggered[plan.name].signs) == {1.0}


def test_one_response_at_a_time(base, tmp_path):
    spec = language_task(tmp_path, base)
    with pytest.raises(ConfigError, match=r"Attacks teach 2 responses\."):
        probe_of(spec, "word_trigger:doses=4,response=house", "word_trigger:trigger=q,doses=4,response=town")


def test_a_response_that_everybody_gives_shows_nothing(base, tmp_path):
    rows = [{"prompt": row["sentence"], "completion": " house mat"} for row in reviews(60)]
    path = write_rows(tmp_path / "same.jsonl", rows)
    spec = make_request(ForecastSpec, {"base": str(base), "task": [str(path)]})
    with pytest.raises(DataError, match=r"None of the \d+ training records shows anything"):
        probe_of(spec, "word_trigger:doses=4,response=house")


# --- the step that is checked -------------------------------------------------------------------------


def kernels_of(body, task):
    spec = spec_of(body, task, ranks=[2], family="gaussian", draws=2)
    data = split_task(spec)
    base = next(bases(locate(spec.base, offline=True), data, "cpu", n_heads=1, seed=0))
    with torch.no_grad():  # a head as large as a trained one, so that the body counts
        for name, parameter in base.module.named_parameters():
            if name.startswith("classifier"):
                parameter.mul_(30)
    _, _, probe = probe_of(spec, "label_flip:doses=2", data=data)
    rows = [probe.rows[i] for i in probe.clean.rows[:16]]
    parts = kernel_parts(
        base.module, rows, class_margin(), device="cpu", ranks=[2], draws=2, seed=0, head=base.head, family="gaussian"
    )
    residuals = probe.clean.signs[:16] - parts.values
    stepper = Stepper(base.module, rows, class_margin(), residuals, head=base.head, device="cpu", batch_size=5)
    return base, parts, residuals, stepper


@pytest.mark.parametrize("method", ["full", "head", "bitfit", "lora"])
def test_a_small_step_is_what_the_kernel_says(body, task, method):
    base, parts, residuals, stepper = kernels_of(body, task)
    before = {name: value.clone() for name, value in base.module.state_dict().items()}
    one = Candidate(method, method, task="classification", rank=2, variance=0.5, alpha=3.0)
    kernel = one.kernel(parts, draw=0 if method == "lora" else None)
    step = 1e-3 / np.linalg.eigvalsh(kernel)[-1]
    real = stepper.values_after(one, step, family="gaussian", seed=0) - parts.values
    predicted = step * kernel @ residuals
    assert np.linalg.norm(real - predicted) < 0.02 * np.linalg.norm(real)
    assert all(torch.equal(before[name], value) for name, value in base.module.state_dict().items())


def test_a_step_far_beyond_the_kernel_is_seen(body, task):
    _, parts, residuals, stepper = kernels_of(body, task)
    one = Candidate("full", "full", task="classification")
    kernel = one.kernel(parts)
    step = 300 / np.linalg.eigvalsh(kernel)[-1]
    real = stepper.values_after(one, step, family="gaussian", seed=0) - parts.values
    assert np.linalg.norm(real - step * kernel @ residuals) > 0.3 * np.linalg.norm(real)


def test_trained_parameters_are_counted_as_peft_counts_them():
    widths = Widths([8, 8, 16], [8, 16, 8])
    counts = {"all": 1000, "head": 34, "biases": 60, "head_biases": 2}
    lora = Candidate("lora:4", "lora", task="classification", rank=4)
    assert n_trained(lora, counts, widths) == 4 * (16 + 24 + 24) + 34
    assert n_trained(Candidate("full", "full", task="classification"), counts, None) == 1000
    assert n_trained(Candidate("head", "head", task="classification"), counts, None) == 34
    assert n_trained(Candidate("bitfit", "bitfit", task="classification"), counts, None) == 60 - 2 + 34
    assert n_trained(Candidate("bitfit", "bitfit", task="causal_lm"), counts, None) == 60


def test_theory_leaves_out_what_has_no_formula():
    one = Candidate("lora:4", "lora", task="classification", rank=4, variance=1.0, alpha=8.0)
    widths = Widths([16, 16], [4, 4])
    gaussian, orthogonal = (theory_of(one, widths, family) for family in ("gaussian", "orthogonal"))
    assert gaussian.h1_published == pytest.approx(np.log(4))  # σ² r n with σ² = 1 / n
    assert gaussian.h2_published == pytest.approx(np.log(4 * 6 / 16))
    assert gaussian.speed_sgd == pytest.approx(8.0**2 / 4 / 16)
    assert orthogonal.h2_published is None
    assert orthogonal.participation == pytest.approx(4)


# --- where methods meet -------------------------------------------------------------------------------


def test_the_first_time_at_a_loss_is_found_between_the_times():
    losses = np.linspace(1.0, 0.0, len(TIMES))
    assert time_of(losses, 1.5) is None  # it is below from the beginning
    assert time_of(losses, -0.1) is None
    between = (losses[10] + losses[11]) / 2
    assert time_of(losses, between) == pytest.approx((TIMES[10] + TIMES[11]) / 2)


def test_methods_meet_where_the_weakest_that_learns_has_had_nine_tenths_of_its_gain():
    fall = {"full": np.array([1.0, 0.5, 0.1]), "lora": np.array([1.0, 0.7, 0.4]), "none": np.array([1.0, 0.99, 0.98])}
    level, left_out = level_of(fall, 1.0)
    assert level == pytest.approx(1 - 0.9 * 0.6)
    assert left_out == ["none"]
    assert level_of({"one": np.array([1.0, 1.2])}, 1.0) == (None, [])


def test_figures_of_a_rank_are_those_of_its_draws_one_by_one(body, task):
    """The mean kernel over D draws at rank r has the law of one draw at rank D·r: it is another method's."""
    base, _, _, _ = kernels_of(body, task)
    _, _, probe = probe_of(spec_of(body, task, ranks=[1]), "label_flip:doses=2")
    rows = [probe.rows[i] for i in probe.clean.rows]
    parts = kernel_parts(
        base.module, rows, class_margin(), device="cpu", ranks=[1], draws=8, seed=0, head=base.head, family="gaussian"
    )
    one = Candidate("lora:1", "lora", task="causal_lm", rank=1)  # without the head's kernel, which all draws share
    kernels = np.stack(list(one.kernels(parts, range(8))))
    for draw, kernel in enumerate(kernels):
        np.testing.assert_allclose(kernel, one.kernel(parts, draw))
    clean = Fold(np.arange(len(rows)), probe.clean.signs, probe.clean.groups)
    of_all, *of_each = (
        shape_of([Start(0, parts.values, kernel) for kernel in chosen], None, clean, None, confidence=0.95)
        for chosen in (kernels, *([kernel] for kernel in kernels))
    )
    assert of_all.participation == pytest.approx(np.mean([shape.participation for shape in of_each]))
    assert of_all.alignment.value == pytest.approx(np.mean([shape.alignment.value for shape in of_each]))
    of_mean = shape_of([Start(0, parts.values, kernels.mean(axis=0))], None, clean, None, confidence=0.95)
    assert abs(of_mean.participation - of_all.participation) > 0.05


def test_each_draw_of_the_head_and_of_a_is_in_some_start():
    for n_heads in range(1, 6):
        for n_draws in range(1, 6):
            starts = [(head, draw) for head in range(n_heads) for draw in draws_beside(head, n_heads, n_draws)]
            assert len(starts) == max(n_heads, n_draws)
            assert {head for head, _ in starts} == set(range(n_heads))
            assert {draw for _, draw in starts} == set(range(n_draws))


def test_a_clean_loss_that_the_base_has_already_is_refused(body, task, tmp_path):
    attack = ["label_flip:doses=2"]
    with pytest.raises(ConfigError, match=r"--clean-loss 9 is not below the clean loss of the base"):
        run_forecast(spec_of(body, task, clean_loss=9.0, methods=["head"], heads=1, attack=attack, out=str(tmp_path)))


def predicted_curve_of(method, accuracy, success=None):
    def found(value):
        return None if value is None else Finding(value, value - 0.05, value + 0.05, 0.95, "m", 0, 80)

    clean = PredictedPoint(
        dose=0, n_poisoned=0, time=1.0, accuracy=found(0.9), attack_success=found(0.1), per_start=[0.9]
    )
    last = clean.model_copy(
        update={"dose": 0.2, "n_poisoned": 8, "accuracy": found(accuracy), "attack_success": found(success)}
    )
    return PredictedCurve(attack="flip", method=method, points=[clean, last])


METHODS = [SimpleNamespace(name=name, refused=None) for name in ("full", "head")]


def test_the_heading_says_who_ends_where():
    lower, higher = predicted_curve_of("full", 0.6), predicted_curve_of("head", 0.8)
    assert heading_of(METHODS, [lower, higher]) == "flip: full is predicted to end least accurate, head most"
    opened = [predicted_curve_of("full", 0.9, 0.9), predicted_curve_of("head", 0.9, 0.2)]
    assert heading_of(METHODS, opened) == "flip: full is predicted to be opened most, head least"
    alike = [predicted_curve_of("full", 0.6), predicted_curve_of("head", 0.62)]
    assert heading_of(METHODS, alike) == "flip: no method is predicted to end less accurate than another"


def test_a_forecast_of_one_method_says_its_number():
    curves = [predicted_curve_of("full", 0.6)]
    assert heading_of(METHODS[:1], curves) == "flip: accuracy of full is predicted to end at 60 %"
    sentence = sentence_of(METHODS[:1], curves, 0.5, 0.7, "nats per record")
    assert "Compared where a method's clean loss is 0.500 nats per record (0.700 at the base)." in sentence
    assert "flip at dose 0.2: predicted accuracy 60 % [55, 65] for full." in sentence


def test_a_clean_arm_that_knows_no_more_than_the_commoner_answer_is_warned_of():
    probe = SimpleNamespace(test=Fold(np.arange(80), np.where(np.arange(80) < 72, -1.0, 1.0), np.arange(80)))
    better = predicted_curve_of("head", 0.8)
    better = better.model_copy(
        update={"points": [better.points[0].model_copy(update={"accuracy": Finding(0.95, 0.9, 1.0, 0.95, "m", 0, 80)})]}
    )
    (words,) = no_better_than_one_label(probe, [predicted_curve_of("full", 0.6), better])
    assert "1 of 2 methods" in words
    assert "(90 % of 80): full." in words
    assert no_better_than_one_label(probe, [better]) == []


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("lora:8", "--ranks 8"),
        ("lora:rank=8", "--ranks 8"),
        ("lora:8,freeze_a=true", "--ranks, --variances, --alphas and --targets"),
    ],
)
def test_a_method_with_its_rank_is_refused_with_where_ranks_are_given(name, where):
    message = (
        f"'methods' has the value '{name}'. Expected 'full', 'head', 'bitfit' or 'lora' alone; settings of LoRA are "
        f"given apart, here with {where}."
    )
    with pytest.raises(ConfigError) as refused:
        make_request(ForecastSpec, {"base": "b", "task": "t.jsonl", "methods": ["full", name]})
    assert str(refused.value) == message
    with pytest.raises(
        ConfigError, match=r"'methods' has the value 'lroa'\. Expected 'full', 'head', 'bitfit' or 'lora'\.$"
    ):
        make_request(ForecastSpec, {"base": "b", "task": "t.jsonl", "methods": "lroa"})
