"""Limits: what is malformed is refused, what is not measured never passes, and the exit code says which came true."""

from __future__ import annotations

import math
from typing import Any

import pytest

from loraudit.errors import EXIT_LIMIT_EXCEEDED, EXIT_OK, EXIT_PARTIAL, ConfigError
from loraudit.policy import Limit, judge, parse_limit, read_policy
from loraudit.spec import (
    AttackResult,
    AuditResult,
    AuditSpec,
    FusionResult,
    Gate,
    MembershipResult,
    ModelSummary,
    SideSummary,
    ValidityResult,
    spec_hash,
)
from loraudit.spec.results import DatasetTest, RecordsResult
from loraudit.types import Finding

SIGNS = (">", ">=", "<", "<=")

# ---------------------------------------------------------------------------------------------
# A result that nobody measured
# ---------------------------------------------------------------------------------------------


def finding(value: float | None, lower: float | None = None, upper: float | None = None, **changes: Any) -> Finding:
    values = {"confidence": 0.95, "method": "m", "n_members": 300, "n_nonmembers": 250} | changes
    return Finding(value, lower, upper, **values)


REFUSED = finding(None, method="refused", note="Cannot state TPR at 0.1 % FPR from 250 non-members")
FINDINGS = {
    "auc": finding(0.75, 0.7, 0.8),
    "tpr_at_fpr_10pct": finding(0.3, 0.2, 0.4),
    "tpr_at_fpr_1pct": finding(0.06, 0.0, 0.125),
    "tpr_at_fpr_0_1pct": REFUSED,
}


def attack(name: str, findings: dict[str, Finding] | None = None, **changes: Any) -> AttackResult:
    values = {"summary": "s", "source": "s", "needs": ["target"], "cost": "1 F", "status": "ok"} | changes
    return AttackResult(name=name, findings=FINDINGS if findings is None else findings, **values)


def side(**changes: Any) -> SideSummary:
    zero = dict.fromkeys(("n_bad", "n_duplicates", "n_overlap", "n_left_out", "n_windowed"), 0)
    values = {"files": [], "n_read": 300, "n_records": 300, "n_groups": 300, "n_tokens": 9000, "status": {"ok": 300}}
    return SideSummary(**(zero | values | changes))


def gate(name: str, status: str = "passed", reason: str = "AUC 0.500") -> Gate:
    return Gate(name=name, kind="blind", status=status, summary="s", reason=reason)


def validity(*gates: Gate, **minus: Finding) -> ValidityResult:
    return ValidityResult(gates=list(gates), strongest_blind="length", headline_minus_blind=minus)


def fusion(findings: dict[str, Finding], reason: str | None = None) -> FusionResult:
    return FusionResult(attacks=["loss"], n_folds=5, error_factor=1.5, findings=findings, reason=reason)


def make_result(*attacks: AttackResult, validity: ValidityResult | None = None, **changes: Any) -> AuditResult:
    """The first attack is the headline."""
    attacks = attacks or (attack("error_zone"), attack("loss", {"auc": finding(0.6, 0.55, 0.65)}))
    membership = {name: changes.pop(name) for name in ("dataset_test", "records", "fusion") if name in changes}
    spec = AuditSpec(model="m", members="a.jsonl", nonmembers="b.jsonl", headline=attacks[0].name)
    values: dict[str, Any] = {
        "loraudit": "0.1.0",
        "spec": spec,
        "spec_hash": spec_hash(spec),
        "command": "loraudit audit m",
        "target": ModelSummary(name="m", kind="k", fingerprint="f1" * 32),
        "reference": ModelSummary(name="b", kind="k", fingerprint="f2" * 32),
        "members": side(),
        "nonmembers": side(),
        "numerics": {},
        "versions": {},
        "scoring": {},
        "membership": MembershipResult(headline=attacks[0].name, attacks=list(attacks), **membership),
        "validity": validity,
        "warnings": [],
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    return AuditResult(**(values | changes))


def outcome(limit: str, result: AuditResult | None = None):
    return parse_limit(limit).check(result or make_result())


# ---------------------------------------------------------------------------------------------
# Reading a limit
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "sign", "bound"),
    [
        ("membership.auc.value > 0.6", ("membership", "auc", "value"), ">", 0.6),
        ("membership.tpr_at_fpr_1pct.upper95>0.05", ("membership", "tpr_at_fpr_1pct", "upper95"), ">", 0.05),
        ("  membership.loss.auc.lower95   >=  .5 ", ("membership", "loss", "auc", "lower95"), ">=", 0.5),
        ("membership.auc.value < 5e-1", ("membership", "auc", "value"), "<", 0.5),
        ("membership.auc.value <= -1", ("membership", "auc", "value"), "<=", -1.0),
        ("membership.records.n_exposed > 0", ("membership", "records", "n_exposed"), ">", 0.0),
        ("membership.dataset_test.p_mann_whitney < 0.05", ("membership", "dataset_test", "p_mann_whitney"), "<", 0.05),
        ("validity.n_failed > 0", ("validity", "n_failed"), ">", 0.0),
        ("validity.length.failed >= 1", ("validity", "length", "failed"), ">=", 1.0),
        (
            "validity.headline_minus_blind.auc.upper95 > 0.1",
            ("validity", "headline_minus_blind", "auc", "upper95"),
            ">",
            0.1,
        ),
        ("membership.auc.upper99_5 > 0.6", ("membership", "auc", "upper99_5"), ">", 0.6),
    ],
)
def test_a_limit_is_read_as_it_is_written(text, path, sign, bound):
    assert parse_limit(text) == Limit(" ".join(text.split()), path, sign, bound)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "membership.auc.upper95",
        "membership.auc.upper95 >",
        "> 0.5",
        "0.5 > membership.auc.value",
        "membership.auc.upper95 = 0.5",
        "membership.auc.upper95 == 0.5",
        "membership.auc.upper95 => 0.5",
        "membership.auc.upper95 >> 0.5",
        "membership.auc.upper95 > half",
        "membership.auc.upper95 > 0.5 %",
        "membership.auc.upper95 > 5%",
        "membership.auc.upper95 > 0,5",
        "membership.auc.upper95 > 1.2.3",
        "membership.auc.upper95 > e",
        "membership.auc.upper95 > +-1",
        "membership.auc.upper95 > nan",
        "membership.auc.upper95 > inf",
        "membership.auc.upper95 > 0.5 or membership.auc.value > 0.5",
        "0.1 < membership.auc.value < 0.5",
        "membership auc value > 0.5",
        "membership.auc-value > 0.5",
    ],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ConfigError, match=r"cannot be read\. Expected a condition such as 'membership"):
        parse_limit(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auc.upper95 > 0.5", "begins with 'auc', not with membership, memorization or validity"),
        ("Membership.auc.value > 0.5", "begins with 'Membership'"),
        ("membership > 0.5", "does not name a metric and its field"),
        ("membership.auc > 0.5", "does not name a metric and its field"),
        ("membership.a.b.c.value > 0.5", "does not name a metric and its field"),
        ("membership.auc.upper > 0.5", "asks for 'upper', not value, upper95 or lower95"),
        ("membership.auc.mean > 0.5", "asks for 'mean'"),
        ("membership.auc.middle95 > 0.5", "asks for 'middle95'"),
        ("membership.auc.p_value > 0.5", "asks for 'p_value'"),
        ("membership.records.n_members > 0", "asks records for none of n_exposed"),
        ("membership.records > 0", "asks records for none of n_exposed"),
        ("membership.dataset_test.attack > 0", "asks dataset_test for none of p_mann_whitney"),
        ("membership.dataset_test.auc.value > 0", "asks dataset_test for none of p_mann_whitney"),
        ("validity > 0", "names nothing that is measured; known: n_failed"),
        ("validity.failed > 0", "names nothing that is measured"),
        ("validity.length.passed > 0", "names nothing that is measured"),
        ("validity.n_failed.value > 0", "names nothing that is measured"),
        ("validity.headline_minus_blind > 0", "does not name a metric and its field"),
        ("validity.headline_minus_blind.auc > 0", "does not name a metric and its field"),
        ("validity.headline_minus_blind.auc.upper > 0", "asks for 'upper'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_by_name(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_limit(text)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"Limit '{text}' ")
    assert "Expected a condition such as 'membership.tpr_at_fpr_1pct.upper95 > 0.05'" in str(caught.value)


@pytest.mark.parametrize("field", ["value", "upper95", "failed"])
def test_the_corrected_headline_needs_a_metric_and_a_field(field):
    with pytest.raises(ConfigError):
        parse_limit(f"validity.headline_minus_blind.{field} > 0")


@pytest.mark.parametrize(
    "text",
    ["membership..value > 0.5", "membership..auc.value > 0.5", "validity..failed > 0", "membership.auc..value > 1"],
)
def test_an_empty_name_is_refused(text):
    with pytest.raises(ConfigError):
        parse_limit(text)


@pytest.mark.parametrize("text", ["membership.auc.value > 1e999", "membership.auc.value < -1e999"])
def test_a_number_too_large_to_hold_is_refused(text):
    with pytest.raises(ConfigError):
        parse_limit(text)


# ---------------------------------------------------------------------------------------------
# Checking it
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        (">", ("exceeded", "holds", "holds")),
        (">=", ("exceeded", "exceeded", "holds")),
        ("<", ("holds", "holds", "exceeded")),
        ("<=", ("holds", "exceeded", "exceeded")),
    ],
)
def test_touching_the_bound_counts_only_where_the_sign_says_so(sign, expected):
    """The upper end is 0.125, which binary fractions hold exactly."""
    for bound, status in zip((0.0625, 0.125, 0.25), expected, strict=True):
        found = outcome(f"membership.tpr_at_fpr_1pct.upper95 {sign} {bound}")
        assert (found.status, found.measured) == (status, 0.125)
        assert found.limit == f"membership.tpr_at_fpr_1pct.upper95 {sign} {bound}"
        is_or_not = "is" if status == "exceeded" else "is not"
        assert found.reason == f"measured 0.125, which {is_or_not} {sign} {bound}"


@pytest.mark.parametrize(
    ("path", "measured"),
    [
        ("membership.auc.value", 0.75),
        ("membership.auc.lower95", 0.7),
        ("membership.auc.upper95", 0.8),
        ("membership.error_zone.auc.upper95", 0.8),
        ("membership.loss.auc.value", 0.6),
        ("membership.loss.auc.upper95", 0.65),
        ("membership.tpr_at_fpr_1pct.lower95", 0.0),
        ("membership.fusion.auc.value", 0.85),
        ("membership.fusion.auc.upper95", 0.9),
        ("membership.records.n_exposed", 3),
        ("membership.dataset_test.p_mann_whitney", 0.02),
        ("membership.dataset_test.n_to_detect", 47),
        ("validity.n_failed", 1),
        ("validity.length.failed", 1),
        ("validity.zlib_ratio.failed", 0),
        ("validity.ngram_overlap.failed", 0),
        ("validity.headline_minus_blind.auc.value", 0.11),
        ("validity.headline_minus_blind.auc.lower95", 0.04),
    ],
)
def test_each_path_leads_to_its_number(path, measured):
    result = make_result(
        validity=validity(
            gate("length", "failed"),
            gate("zlib_ratio"),
            gate("ngram_overlap", "warned"),
            auc=finding(0.11, 0.04, 0.18),
        ),
        records=RecordsResult(fdr=0.05, n_exposed=3, smallest_p_value=0.004, exposed=[], subgroups=[]),
        dataset_test=DatasetTest(attack="loss", auc=FINDINGS["auc"], p_mann_whitney=0.02, p_welch=None, n_to_detect=47),
        fusion=fusion({"auc": finding(0.85, 0.8, 0.9)}),
    )
    found = outcome(f"{path} >= {measured}", result)
    assert (found.status, found.measured) == ("exceeded", pytest.approx(measured))
    assert outcome(f"{path} > {measured}", result).status == "holds"


NOT_MEASURED = {
    "a rate too fine for the sample": ("membership.tpr_at_fpr_0_1pct.value", "Cannot state TPR at 0.1 % FPR from 250"),
    "its interval": ("membership.tpr_at_fpr_0_1pct.upper95", "Cannot state TPR at 0.1 % FPR from 250"),
    "an unknown metric": ("membership.tpr_at_fpr_5pct.value", "no metric 'tpr_at_fpr_5pct' (did you mean 'tpr_at_fpr_"),
    "a misspelt metric": ("membership.aucc.value", "no metric 'aucc' (did you mean 'auc'?)"),
    "an unknown attack": ("membership.min_k.auc.value", "this run has no attack 'min_k'"),
    "a misspelt attack": ("membership.error_zne.auc.value", "no attack 'error_zne' (did you mean 'error_zone'?)"),
    "an attack that failed": ("membership.broken.auc.value", "the attack broken is error: ValueError: no"),
    "an attack without evidence": (
        "membership.skipped.auc.value",
        "the attack skipped is not measured: needs reference",
    ),
    "an undefined number": ("membership.empty.auc.value", "auc is undefined"),
    "a number without interval": ("membership.empty.tpr_at_fpr_1pct.upper95", "tpr_at_fpr_1pct has no interval"),
    "another confidence": ("membership.auc.upper90", "the intervals of this run are at 95 %, not 90 %"),
    "a finer confidence": ("membership.auc.lower99_5", "the intervals of this run are at 95 %, not 99.5 %"),
    "no records": ("membership.records.n_exposed", "records.n_exposed is undefined"),
    "no test of the set": ("membership.dataset_test.p_welch", "dataset_test.p_welch is undefined"),
    "no fusion": ("membership.fusion.auc.upper95", "the scores of this run were not fused"),
    "no gates": ("validity.n_failed", "this run has no validity gates"),
    "no gate of that name": ("validity.length.failed", "this run has no validity gates"),
    "no correction": ("validity.headline_minus_blind.auc.value", "this run has no validity gates"),
}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(("path", "why"), NOT_MEASURED.values(), ids=NOT_MEASURED)
def test_what_is_not_measured_never_passes(path, why, sign):
    result = make_result(
        attack("error_zone"),
        attack("broken", {}, status="error", reason="ValueError: no"),
        attack("skipped", {}, status="not_measured", reason="needs reference"),
        attack("empty", {"auc": finding(None), "tpr_at_fpr_1pct": finding(0.1)}),
    )
    for bound in (-1e9, 0, 1e9):
        found = outcome(f"{path} {sign} {bound}", result)
        assert (found.status, found.measured) == ("not_measured", None)
        assert why in found.reason
        assert found.reason.endswith("what is not measured fails")
    assert judge(result, [f"{path} {sign} 0"]).exit_code == EXIT_LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("membership.fusion.auc.upper95", "the scores were not fused: 3 records of members"),
        ("membership.fusion.aucc.value", "the scores were not fused: 3 records of members"),
    ],
)
def test_too_few_records_to_fuse_never_pass(path, why):
    found = outcome(f"{path} > 0.6", make_result(fusion=fusion({}, "3 records of members")))
    assert found.status == "not_measured"
    assert why in found.reason
    measured = make_result(fusion=fusion({"auc": finding(0.85, 0.8, 0.9)}))
    assert "no metric 'aucc' (did you mean 'auc'?)" in outcome("membership.fusion.aucc.value > 0", measured).reason


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("validity.bag_of_words.failed", "fewer than 10 records a side have a score"),
        ("validity.lenght.failed", "no gate 'lenght' (did you mean 'length'?)"),
        ("validity.headline_minus_blind.auc.value", "no gate failed, so the headline is not corrected"),
    ],
)
def test_a_gate_that_was_not_judged_never_passes(path, why, sign):
    few = gate("bag_of_words", "not_measured", "fewer than 10 records a side have a score")
    found = outcome(f"{path} {sign} 0", make_result(validity=validity(few, gate("length"))))
    assert (found.status, found.measured) == ("not_measured", None)
    assert why in found.reason


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("path", ["membership.auc.value", "membership.auc.upper95", "membership.dataset_test.p_welch"])
def test_not_a_number_is_not_measured(path, sign):
    result = make_result(
        attack("error_zone", {"auc": finding(math.nan, math.nan, math.nan)}),
        dataset_test=DatasetTest(
            attack="loss", auc=FINDINGS["auc"], p_mann_whitney=None, p_welch=math.nan, n_to_detect=None
        ),
    )
    assert outcome(f"{path} {sign} 0.5", result).status == "not_measured"


def test_the_interval_asked_for_is_that_of_the_run():
    at_ninety = make_result(attack("error_zone", {"auc": finding(0.75, 0.7, 0.8, confidence=0.9)}))
    assert outcome("membership.auc.upper90 > 0.75", at_ninety).status == "exceeded"
    found = outcome("membership.auc.upper95 > 0.75", at_ninety)
    assert (found.status, found.measured) == ("not_measured", None)
    assert found.reason == "the intervals of this run are at 90 %, not 95 %; what is not measured fails"
    assert outcome("membership.auc.value > 0.7", at_ninety).status == "exceeded"  # needs no interval
    finer = make_result(attack("error_zone", {"auc": finding(0.75, 0.7, 0.8, confidence=0.995)}))
    assert outcome("membership.auc.upper99_5 > 0.75", finer).status == "exceeded"


def test_the_reason_never_says_that_a_number_exceeds_itself():
    close = make_result(attack("error_zone", {"auc": finding(0.600001, 0.5, 0.7)}))
    reason = outcome("membership.auc.value > 0.6", close).reason
    assert not reason.startswith("measured 0.6, ")


# ---------------------------------------------------------------------------------------------
# Policy files
# ---------------------------------------------------------------------------------------------

ONE = "membership.auc.upper95 > 0.6"
TWO = "validity.n_failed > 0"


@pytest.mark.parametrize(
    ("name", "content", "limits"),
    [
        ("p.toml", f'fail-on = ["{ONE}", "{TWO}"]', [ONE, TWO]),
        ("p.toml", f'fail_on = "{ONE}"', [ONE]),
        ("p.yaml", f"fail-on:\n  - {ONE}\n  - {TWO}\n", [ONE, TWO]),
        ("p.yml", f'fail-on: "{ONE}"', [ONE]),
        ("p.json", f'{{"fail-on": ["{ONE}"]}}', [ONE]),
    ],
)
def test_a_policy_file_lists_its_limits(tmp_path, name, content, limits):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_policy(str(path)) == limits


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.toml", "", "holds no limits"),
        ("p.toml", "fail-on = []", "holds no limits"),
        ("p.toml", "fail-on = 3", "holds no limits"),
        ("p.toml", f'[fail-on]\nauc = "{ONE}"', "holds no limits"),
        ("p.yaml", "fail-on:\n", "holds no limits"),
        ("p.toml", f'fail-on = ["{ONE}"]\nfail-in = 1', "unknown keys: fail_in. Expected fail-on"),
        ("p.toml", f'limits = ["{ONE}"]', "unknown keys: limits. Expected fail-on"),
        ("p.toml", "fail-on = [", "cannot be parsed"),
        ("p.json", '["a"]', "holds no keys"),
        ("p.txt", f"fail-on = {ONE}", "is of an unknown kind"),
    ],
)
def test_a_policy_file_that_holds_no_limits_is_refused(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_policy(str(path))
    assert words in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("content", ["fail-on = [0.5]", f'fail-on = ["{ONE}", 0.5]', f'fail-on = [["{ONE}"]]'])
def test_a_policy_entry_that_is_no_text_never_becomes_a_limit(tmp_path, content):
    path = tmp_path / "p.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"p.toml|cannot be read"):
        judge(make_result(), read_policy(str(path)))


def test_a_policy_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.toml' cannot be read"):
        read_policy(str(tmp_path / "nowhere.toml"))


# ---------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------

HOLDS, EXCEEDED = "membership.auc.value > 0.9", "membership.auc.value > 0.6"
UNMEASURED = "membership.tpr_at_fpr_0_1pct.upper95 > 0.9"


@pytest.mark.parametrize(
    ("limits", "is_partial", "exit_code"),
    [
        ([], False, EXIT_OK),
        ([], True, EXIT_PARTIAL),
        ([HOLDS], False, EXIT_OK),
        ([HOLDS], True, EXIT_PARTIAL),
        ([EXCEEDED], False, EXIT_LIMIT_EXCEEDED),
        ([EXCEEDED], True, EXIT_LIMIT_EXCEEDED),
        ([HOLDS, EXCEEDED], False, EXIT_LIMIT_EXCEEDED),
        ([HOLDS, UNMEASURED], False, EXIT_LIMIT_EXCEEDED),
        ([UNMEASURED], True, EXIT_LIMIT_EXCEEDED),
    ],
)
def test_a_limit_that_does_not_hold_outranks_a_part_that_is_missing(limits, is_partial, exit_code):
    attacks = [attack("error_zone")] + [attack("loss", {}, status="error", reason="no")] * is_partial
    found = judge(make_result(*attacks), limits)
    assert found.exit_code == exit_code
    assert found.is_partial == is_partial
    assert [one.limit for one in found.limits] == limits


def test_the_exit_codes_are_those_that_are_documented():
    assert (EXIT_OK, EXIT_LIMIT_EXCEEDED, EXIT_PARTIAL) == (0, 1, 7)


def test_a_malformed_limit_is_refused_whatever_the_others_say():
    with pytest.raises(ConfigError, match=r"'membership\.auc > 1' does not name"):
        judge(make_result(), [HOLDS, "membership.auc > 1"])


@pytest.mark.parametrize(
    ("status", "is_partial"),
    [
        ({"ok": 300}, False),
        ({"ok": 294, "nonfinite": 6}, False),  # exactly one percent of 600
        ({"ok": 293, "nonfinite": 7}, True),
        ({"ok": 293, "nonfinite": 3, "out_of_memory": 4}, True),
        ({"ok": 200, "no_tokens": 100}, False),  # nothing to score is no failure to score
    ],
)
@pytest.mark.parametrize("which", ["members", "nonmembers"])
def test_more_than_one_percent_unscored_is_partial(status, is_partial, which):
    assert judge(make_result(**{which: side(status=status)})).is_partial == is_partial


def test_an_attack_that_lacks_evidence_is_not_partial():
    result = make_result(attack("error_zone"), attack("loss", {}, status="not_measured", reason="needs reference"))
    assert not judge(result).is_partial


SHIFTED = gate("length", "failed", "AUC 0.700 [0.650, 0.750]; p = 1e-09, corrected 5e-09")


@pytest.mark.parametrize(
    ("area", "rate", "level", "heading"),
    [
        ((0.2, 0.1, 0.3), (0.05, 0.01, 0.09), "leaks", "The sides differ in kind; the attack still sees more"),
        ((0.2, 0.1, 0.3), (0.05, 0.0, 0.09), "detectable", "The sides differ in kind; the attack still sees more"),
        ((0.0, -0.1, 0.1), (0.05, 0.01, 0.09), "leaks", "The sides differ in kind; the attack still sees more"),
        ((0.1, 0.0, 0.2), (0.0, -0.1, 0.1), "not_seen", "The sides differ in kind; nothing seen beyond that"),
        ((-0.1, -0.2, -0.01), (0.0, -0.1, 0.1), "not_seen", "The sides differ in kind; nothing seen beyond that"),
        ((0.1, None, None), (None, None, None), "not_seen", "The sides differ in kind; nothing seen beyond that"),
        ((None, None, None), (0.5, 0.4, 0.6), "unknown", "The sides differ in kind"),
    ],
)
def test_where_a_gate_failed_the_verdict_is_about_the_difference(area, rate, level, heading):
    """The attack alone would leak: AUC 0.75 [0.7, 0.8], TPR 30 % [20, 40] at 10 % FPR."""
    assert judge(make_result()).level == "leaks"
    minus = {"auc": finding(*area), "tpr_at_fpr_1pct": finding(*rate)}
    found = judge(make_result(validity=validity(SHIFTED, gate("zlib_ratio"), **minus)))
    assert (found.level, found.heading) == (level, heading)


def test_the_corrected_sentence_states_the_difference_and_warns_of_the_rest():
    minus = {"auc": finding(0.1, 0.02, 0.18), "tpr_at_fpr_1pct": finding(0.05, -0.012, 0.09)}
    found = judge(make_result(validity=validity(SHIFTED, **minus)))
    assert found.sentence.startswith(
        "Headline: error_zone minus length, which never sees the target: AUC +0.100 [0.020, 0.180]; "
        "TPR at 1 % FPR +5.0 points"
    )
    assert "The AUC of 0.750 [0.700, 0.800] of the attack alone" in found.sentence
    assert found.sentence.endswith("must not be quoted as leakage; nor does this comparison show that nothing leaks.")
    assert found.validity.startswith("1 validity gate failed, so members and non-members differ by more than training")
    assert f"(length: {SHIFTED.reason})" in found.validity


def test_without_a_comparison_a_failed_gate_leaves_no_verdict():
    found = judge(make_result(validity=validity(SHIFTED)))
    assert (found.level, found.heading) == ("unknown", "The sides differ in kind")
    assert "cannot be compared with a blind classifier" in found.sentence


def test_a_failed_headline_is_unknown_although_another_gate_failed():
    broken = attack("error_zone", {}, status="error", reason="ValueError: no")
    assert judge(make_result(broken, validity=validity(SHIFTED))).level == "unknown"


def test_several_failed_gates_are_all_named():
    found = judge(make_result(validity=validity(SHIFTED, gate("documents", "failed", "3 of 9 documents"))))
    assert found.validity.startswith("2 validity gates failed")
    assert "documents: 3 of 9 documents" in found.validity


@pytest.mark.parametrize("status", ["passed", "warned", "not_measured"])
def test_only_a_failed_gate_changes_the_verdict(status):
    plain = judge(make_result())
    found = judge(make_result(validity=validity(gate("length", status), auc=finding(0.0, -0.1, 0.1))))
    assert (found.level, found.sentence, found.validity) == (plain.level, plain.sentence, None)


def test_a_limit_may_ask_for_the_difference_where_a_gate_failed():
    result = make_result(validity=validity(SHIFTED, auc=finding(0.1, 0.02, 0.18)))
    found = judge(result, ["validity.headline_minus_blind.auc.upper95 > 0.15", "validity.n_failed > 0"])
    assert [one.status for one in found.limits] == ["exceeded", "exceeded"]
    assert found.exit_code == EXIT_LIMIT_EXCEEDED
    unknown = judge(result, ["validity.headline_minus_blind.tpr_at_fpr_1pct.value > 0.15"]).limits[0]
    assert unknown.status == "not_measured"
    assert "no metric 'tpr_at_fpr_1pct'" in unknown.reason
