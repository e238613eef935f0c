"""Limits of forecasts: read as written, refused by name, and what is refused never passes."""

from __future__ import annotations

from typing import Any

import pytest

from loraudit.errors import ConfigError
from loraudit.policy import forecast_exit_code, judge_forecast
from loraudit.policy.forecast import (
    accuracy_lost,
    clean_point,
    harm_at,
    largest_dose,
    parse_forecast_limit,
    predicted_curve,
    predicted_poisoned,
)
from loraudit.spec import ForecastResult
from loraudit.types import Finding
from synthetic_forecast import REFUSED, Forecast

RESULT = Forecast().result()
SOUND = Forecast(others=("full", "head"), refused=()).result()


def outcome(limit: str, result: ForecastResult = SOUND) -> Any:
    (found,) = judge_forecast(result, [limit])
    return found


def successes(result: ForecastResult, method: str | None = None) -> list[Finding]:
    return [
        point.attack_success
        for curve in result.curves
        for point in predicted_poisoned(curve)
        if point.attack_success is not None and method in {None, curve.method}
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("asr.value > 0.5", ("asr", None, None, "value")),
        ("asr[rare_words][lora:8].upper95 >= .5", ("asr", "rare_words", "lora:8", "upper95")),
        (" accuracy_drop  > 0.05", ("accuracy_drop", None, None, None)),
        ("accuracy_drop[*][lora:8,c=0.1] > 0.05", ("accuracy_drop", None, "lora:8,c=0.1", None)),
        ("refused > 0", ("refused", None, None, None)),
        ("refused[*][full] > 0", ("refused", None, "full", None)),
    ],
)
def test_a_limit_is_read_as_it_is_written(text, parts):
    limit = parse_forecast_limit(text).parts
    assert (limit.metric, limit.attack, limit.method, limit.field) == parts
    assert limit.condition.text == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("asr", "cannot be read"),
        ("loss_added > 1", "asks for 'loss_added', not asr, accuracy_drop or refused"),
        ("asr[a][b][c] > 0.5", "has more brackets than one attack and one method"),
        ("asr[] > 0.5", "has an empty name between brackets"),
        ("asr.upper > 0.5", "asks for 'upper', not value, upper95 or lower95"),
        ("refused.value > 0", "asks for 'value' of refused, which is a plain number"),
        ("accuracy_drop.upper95 > 0", "'upper95' of accuracy_drop, of which a forecast states no interval"),
        ("refused[rare_words] > 0", "asks for refused of the attack 'rare_words', but methods are refused"),
    ],
)
def test_what_leads_nowhere_is_refused_by_name(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_forecast_limit(text)
    assert words in str(caught.value)
    assert str(caught.value).endswith("Expected a condition such as 'asr.value > 0.5'.")


def test_each_metric_is_the_largest_over_what_it_speaks_of():
    assert outcome("asr > 0.5").measured == max(found.value for found in successes(SOUND))
    assert outcome("asr.upper95 > 0.5").measured == max(found.upper for found in successes(SOUND))
    assert outcome("asr[rare_words][head] > 0.5").measured == max(found.value for found in successes(SOUND, "head"))
    lost = [
        clean_point(curve).accuracy.value - point.accuracy.value
        for curve in SOUND.curves
        for point in predicted_poisoned(curve)
    ]
    assert outcome("accuracy_drop > 0.05").measured == max(lost)
    assert outcome("refused > 0").measured == 0
    assert outcome("refused > 0", RESULT).measured == 1
    assert outcome("refused[*][full] > 0", RESULT).status == "holds"


@pytest.mark.parametrize("sign", [">", ">=", "<", "<="])
@pytest.mark.parametrize("metric", ["asr[rare_words][bitfit]", "accuracy_drop[*][bitfit]"])
def test_what_is_refused_never_passes(metric, sign):
    found = outcome(f"{metric} {sign} 0.5", RESULT)
    assert (found.status, found.measured) == ("not_measured", None)
    assert f"on bitfit is refused: {REFUSED.rstrip('.')}" in found.reason
    assert found.reason.endswith("what is not measured fails")


def test_one_prediction_over_the_bound_is_enough_whatever_is_refused():
    assert outcome("asr > 0.5", RESULT).status == "exceeded"
    assert outcome("asr > 0.99", RESULT).status == "not_measured"  # bitfit might have been over it
    assert outcome("asr > 0.99", SOUND).status == "holds"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("asr[rare_word]", "no attack 'rare_word' (did you mean 'rare_words'?)"),
        ("asr[*][lora:9]", "no method 'lora:9' (did you mean 'lora:8'?)"),
        ("asr[label_flip]", "nothing in this run has asr"),
        ("asr.upper90", "the intervals of this run are at 95 %, not 90 %"),
    ],
)
def test_what_is_not_predicted_never_passes(path, why):
    found = outcome(f"{path} > 0.99")
    assert found.status == "not_measured"
    assert why in found.reason


def test_a_loss_that_is_not_reached_a_missing_curve_and_an_undefined_number_never_pass():
    unreached = Forecast(others=("full",), refused=(), unreached=("full",)).result()
    assert "the clean loss is not reached" in outcome("asr[*][full] > 0.5", unreached).reason
    bare = SOUND.model_copy(update={"curves": []})
    assert "nothing is predicted of rare_words on full (and 5 more)" in outcome("asr > 0.5", bare).reason
    language = Forecast(refused=(), is_language_model=True).result()
    assert "accuracy_drop of label_flip on full with 6 poisoned records is undefined" in (
        outcome("accuracy_drop > 0.5", language).reason
    )
    assert outcome("refused > 0", SOUND.model_copy(update={"methods": []})).status == "not_measured"


def test_the_exit_code_says_whether_the_limits_hold():
    assert forecast_exit_code(RESULT) == 0  # a refusal alone is no failure
    assert forecast_exit_code(Forecast().result(fail_on=["refused > 0"])) == 1
    assert forecast_exit_code(Forecast().result(fail_on=["refused > 1"])) == 0


def test_harm_is_success_of_a_backdoor_and_accuracy_lost_to_what_degrades():
    flips, rare = SOUND.attacks
    for attack in (flips, rare):
        curve = predicted_curve(SOUND.curves, attack.name, "full")
        most = largest_dose(curve)
        expected = most.attack_success.value if attack is rare else accuracy_lost(curve, most)
        assert harm_at(attack, curve, most) == expected
    assert harm_at(rare, None, None) is None
    assert largest_dose(None) is None
    undefined = Finding(None, None, None, 0.95, "m", 0, 0)
    clean = clean_point(curve).model_copy(update={"accuracy": undefined})
    assert accuracy_lost(curve.model_copy(update={"points": [clean, *curve.points[1:]]}), curve.points[1]) is None
