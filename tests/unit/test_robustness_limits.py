"""Limits of robustness runs: read as written, refused by name, and what is invalid never passes."""

from __future__ import annotations

from typing import Any

import pytest

from loraudit.errors import ConfigError
from loraudit.policy import judge_robustness, read_policy
from loraudit.policy.robustness import ROBUSTNESS_EXAMPLE, curve_of, parse_robustness_limit, poisoned_points
from loraudit.spec import RobustnessResult
from loraudit.types import Finding
from synthetic_robustness import WAYS, Robustness

RESULT = Robustness().result()
SOUND = Robustness((WAYS[0], WAYS[2])).result()


def outcome(limit: str, result: RobustnessResult = SOUND) -> Any:
    (found,) = judge_robustness(result, [limit])
    return found


def points(result: RobustnessResult, attack: str, method: str, measure: str) -> Any:
    return poisoned_points(curve_of(result.matches[0], attack, method, measure))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("asr > 0.5", ("asr", None, None, "value")),
        ("asr.upper95>0.5", ("asr", None, None, "upper95")),
        (" asr[rare_words].value  >= .5 ", ("asr", "rare_words", None, "value")),
        ("asr[rare_words][lora:8].lower95 > 0.5", ("asr", "rare_words", "lora:8", "lower95")),
        ("asr[a:doses=8+32][lora:rank=8,alpha=0.5] > 1", ("asr", "a:doses=8+32", "lora:rank=8,alpha=0.5", "value")),
        ("accuracy_drop[*][head].upper99_5 > 0.05", ("accuracy_drop", None, "head", "upper99_5")),
        ("loss_added < 1", ("loss_added", None, None, "value")),
        ("n_invalid > 0", ("n_invalid", None, None, "value")),
        ("n_invalid[rare_words] > 0", ("n_invalid", "rare_words", None, "value")),
    ],
)
def test_a_limit_is_read_as_it_is_written(text, parts):
    limit = parse_robustness_limit(text)
    assert (limit.metric, limit.attack, limit.method, limit.field) == parts
    assert limit.condition.text == " ".join(text.split())


@pytest.mark.parametrize("text", ["", "asr", "asr >", "asr = 1", "asr > half", "asr.a.b > 1", "asr[a > 1", "asr > nan"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ConfigError, match=r"cannot be read\. Expected a condition such as 'asr\.upper95 > 0\.5'"):
        parse_robustness_limit(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auc > 0.5", "asks for 'auc', not asr, accuracy_drop, loss_added or n_invalid"),
        ("asr[a][b][c] > 0.5", "has more brackets than one attack and one method"),
        ("asr[] > 0.5", "has an empty name between brackets"),
        ("asr.upper > 0.5", "asks for 'upper', not value, upper95 or lower95"),
        ("n_invalid.value > 0", "asks for 'value' of n_invalid, which is a plain number"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_by_name(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_robustness_limit(text)
    assert words in str(caught.value)
    assert str(caught.value).endswith("Expected a condition such as 'asr.upper95 > 0.5'.")


def test_each_metric_is_the_largest_over_what_it_speaks_of():
    success = [p.finding for way in ("full", "lora:8") for p in points(SOUND, "rare_words", way, "attack_success")]
    assert outcome("asr > 0.5").measured == max(found.value for found in success)
    assert outcome("asr.upper95 > 0.5").measured == max(found.upper for found in success)
    of_lora = [p.finding.value for p in points(SOUND, "rare_words", "lora:8", "attack_success")]
    assert outcome("asr[rare_words][lora:8] > 0.5").measured == outcome("asr[*][lora:8] > 0.5").measured == max(of_lora)
    lost = [
        p.excess.value
        for attack in ("label_flip", "rare_words")
        for way in ("full", "lora:8")
        for p in points(SOUND, attack, way, "accuracy")
    ]
    assert outcome("accuracy_drop > 0.01").measured == max(lost)
    added = [p.excess.value for p in points(SOUND, "label_flip", "lora:8", "clean_loss")]
    assert outcome("loss_added[label_flip][lora:8] > 9").measured == max(added)
    assert outcome("n_invalid > 0").measured == 0
    assert outcome("n_invalid > 0", RESULT).measured == 1
    assert outcome("n_invalid[label_flip] > 0", RESULT).status == "holds"


@pytest.mark.parametrize("sign", [">", ">=", "<", "<="])
@pytest.mark.parametrize("metric", ["asr", "accuracy_drop", "loss_added"])
def test_what_is_invalid_never_passes(metric, sign):
    found = outcome(f"{metric}[rare_words][head] {sign} 0.5", RESULT)
    assert (found.status, found.measured) == ("not_measured", None)
    assert "rare_words on head is invalid: The positive control reaches 19.9 %" in found.reason
    assert found.reason.endswith("what is not measured fails")


def test_one_valid_number_over_the_bound_is_enough_whatever_is_missing():
    assert outcome("asr > 0.5", RESULT).status == "exceeded"
    assert outcome("asr > 1", RESULT).status == "not_measured"  # head might have been over it
    assert outcome("asr > 1", SOUND).status == "holds"
    assert outcome("asr < 0.5", RESULT).status == "not_measured"
    assert outcome("asr < 0.5", SOUND).status == "holds"


@pytest.mark.parametrize("sign", [">", "<"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("asr[rare_word]", "no attack 'rare_word' (did you mean 'rare_words'?)"),
        ("asr[*][lora:9]", "no method 'lora:9' (did you mean 'lora:8'?)"),
        ("asr[label_flip]", "nothing in this run has asr"),
        ("asr.upper90", "the intervals of this run are at 95 %, not 90 %"),
    ],
)
def test_what_is_not_measured_never_passes(path, why, sign):
    found = outcome(f"{path} {sign} 0.99")
    assert found.status == "not_measured"
    assert why in found.reason


def test_a_language_model_has_no_accuracy_to_lose():
    result = Robustness((WAYS[0],), is_language_model=True).result()
    found = outcome("accuracy_drop > 0.05", result)
    assert found.status == "not_measured"
    assert "label_flip on full has no accuracy at any dose (and 1 more)" in found.reason
    assert outcome("loss_added > 0.05", result).status == "exceeded"


@pytest.mark.parametrize("value", [None, float("nan")])
def test_an_undefined_number_never_passes(value):
    undefined = Finding(value, None, None, 0.95, "undefined", 0, 0)
    match = SOUND.matches[0]
    curves = [
        curve.model_copy(
            update={"points": [p.model_copy(update={"finding": undefined, "excess": None}) for p in curve.points]}
        )
        for curve in match.curves
    ]
    result = SOUND.model_copy(update={"matches": [match.model_copy(update={"curves": curves})]})
    for metric in ("asr", "accuracy_drop"):
        found = outcome(f"{metric} > 0.5", result)
        assert found.status == "not_measured"
        assert "with 8 poisoned records is undefined" in found.reason or "200 poisoned" in found.reason


def test_a_run_without_matches_or_controls_has_nothing_to_pass():
    assert outcome("asr > 0.5", SOUND.model_copy(update={"matches": []})).status == "not_measured"
    found = outcome("n_invalid > 0", SOUND.model_copy(update={"controls": []}))
    assert found.reason == "no attack was tried on any method; what is not measured fails"


def test_a_policy_file_without_limits_shows_one_of_this_kind(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("fail-on = []")
    with pytest.raises(ConfigError, match=r'Expected: fail-on = \["asr\.upper95 > 0\.5"\]'):
        read_policy(str(path), example=ROBUSTNESS_EXAMPLE)
