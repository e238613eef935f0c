"""The auditor's upper bound of an audit: its figures, its comparison with what never saw the target, its words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loraudit.auditing.columns import Columns
from loraudit.auditing.examination import examine
from loraudit.auditing.fusing import N_IN_ORDER, fuse
from loraudit.report.fusion import fusion_statement, fusion_tables
from loraudit.spec import AuditResult, AuditSpec, FusionResult, MembershipResult, ModelSummary, SideSummary, spec_hash
from loraudit.statistics import Fusion, auc, disjoint_folds
from loraudit.types import Finding

NAN = math.nan
SPEC = AuditSpec(model="m", members="a.jsonl", nonmembers="b.jsonl", headline="loss", resamples=100)


def columns_of(scores, is_member, *, blind=None, controls=None, groups=None) -> Columns:
    n = len(is_member)
    return Columns(
        ids=[str(row) for row in range(n)],
        is_member=is_member,
        groups=groups,
        subgroups=None,
        n_tokens=np.full(n, 20),
        n_copies=np.ones(n, dtype=np.int64),
        scores=scores,
        blind=blind or {},
        controls=controls or {},
        has_near_duplicate=np.zeros(n, dtype=bool),
        ngram_share=np.full(n, NAN),
        usual_share=NAN,
    )


def planted(n: int = 200, *, shift: float = 0.8, seed: int = 0):
    """Two independent signals, a copy of the first and an attack that failed."""
    rng = np.random.default_rng(seed)
    is_member = np.arange(2 * n) < n
    scores = {name: shift * is_member + rng.normal(size=2 * n) for name in ("loss", "error_zone")}
    scores["zlib"] = scores["loss"] + 0.5 * rng.normal(size=2 * n)
    scores["broken"] = np.full(2 * n, NAN)
    return scores, is_member


def fused(columns: Columns, spec: AuditSpec = SPEC, seed: int = 0) -> FusionResult:
    return fuse(columns, spec, np.random.default_rng(seed))


def test_figures_are_those_of_the_fused_scores():
    scores, is_member = planted(shift=1.2)
    found = fused(columns_of(scores, is_member))
    assert (found.label, found.reason, found.n_folds, found.error_factor) == ("auditor's upper bound", None, 5, 1.5)
    assert found.attacks == ["error_zone", "loss", "zlib"]
    folds = disjoint_folds(is_member, None, rng=np.random.default_rng(0))
    values = Fusion.of(scores, is_member, folds=folds).scores()
    area = found.findings["auc"]
    assert area.value == auc(values[is_member], values[~is_member])
    assert area.method == "DeLong on the logit scale, error times 1.5 for cross-fitting"
    assert (area.n_members, area.n_nonmembers, area.n_undefined_members) == (200, 200, 0)
    assert {"tpr_at_fpr_10pct", "tpr_at_fpr_1pct", "tpr_at_zero_false_positives"} < set(found.findings)
    assert found.findings["tpr_at_fpr_0_1pct"].method == "refused"
    is_wider = {name: "times 1.5" in one.method for name, one in found.findings.items()}
    assert [name for name in is_wider if is_wider[name]] == ["auc", "partial_auc_fpr_10pct", "tpr_at_fpr_10pct"]
    for one in found.findings.values():
        assert one.value is None or 0 <= one.lower <= one.value <= one.upper <= 1
    headline = auc(scores["loss"][is_member], scores["loss"][~is_member])
    beyond = found.beyond_headline["auc"]
    assert beyond.value == pytest.approx(area.value - headline)
    assert 0 < beyond.lower < beyond.value < beyond.upper
    assert "tpr_at_fpr_0_1pct" not in found.beyond_headline
    rate = found.beyond_headline["tpr_at_fpr_10pct"]
    assert rate.lower <= rate.value <= rate.upper


def test_each_score_is_left_out_once_and_the_order_begins_with_the_two_signals():
    scores, is_member = planted()
    found = fused(columns_of(scores, is_member))
    without = {part.name: part for part in found.without}
    assert list(without) == found.attacks
    whole = found.findings["auc"].value
    for part in without.values():
        assert part.adds.value == pytest.approx(whole - part.auc.value)
        assert part.adds.lower <= part.adds.value <= part.adds.upper
    assert without["error_zone"].adds.lower > 0, "nothing else holds it"
    assert without["zlib"].adds.lower < 0 < without["zlib"].adds.upper, "a copy adds nothing"
    assert {part.name for part in found.order[:2]} == {"error_zone", "loss"}
    assert len(found.order) <= N_IN_ORDER
    assert found.order[0].adds.value == pytest.approx(found.order[0].auc.value - 0.5)
    assert found.order[1].adds.value == pytest.approx(found.order[1].auc.value - found.order[0].auc.value)
    assert found.order[-1].auc.value == pytest.approx(whole)


def test_a_single_score_is_its_own_fusion():
    scores, is_member = planted()
    found = fused(columns_of({"loss": scores["loss"]}, is_member))
    assert found.without == []
    assert [part.name for part in found.order] == ["loss"]
    assert found.beyond_headline["auc"].value == pytest.approx(0, abs=0.01)


def test_without_the_headline_there_is_nothing_to_compare_with():
    scores, is_member = planted()
    found = fused(columns_of(scores, is_member), SPEC.model_copy(update={"headline": "broken"}))
    assert found.beyond_headline == {}
    assert found.findings["auc"].value > 0.7


def test_labels_that_mean_nothing_give_one_half_within_the_interval():
    n_holding = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scores, is_member = planted(seed=seed)
        area = fused(columns_of(scores, rng.permutation(is_member)), seed=seed).findings["auc"]
        n_holding += area.lower <= 0.5 <= area.upper
    assert n_holding >= 9  # fewer once in 400 times, at 95 %


def test_figures_are_the_same_again_and_do_not_disturb_the_others():
    scores, is_member = planted()
    groups = np.arange(400) // 2
    columns = columns_of(scores, is_member, groups=groups, blind={"length": np.arange(400.0) % 7})
    first, second = (examine(columns, SPEC, lambda _: "") for _ in range(2))
    assert timeless(first.fusion) == timeless(second.fusion)
    assert "clustered by group" in first.fusion.findings["auc"].method
    alone = examine(columns, SPEC, lambda _: "", with_fusion=False)
    assert alone.fusion is None
    assert (alone.best, alone.validity, alone.dataset_test) == (first.best, first.validity, first.dataset_test)


def timeless(found: FusionResult):
    content = found.model_dump()
    for one in content["findings"].values():
        one["seconds"] = 0
    return content


def test_too_few_records_are_refused_in_words():
    scores, is_member = planted(60)
    found = fused(columns_of(scores, is_member))
    assert found.findings == found.beyond_headline == {}
    assert (found.without, found.order, found.blind_auc) == ([], [], None)
    assert fusion_statement(result_of(found)) == (
        "Auditor's upper bound: not measured; 60 records of members and 60 of non-members have a score; weights "
        "learned from fewer than 100 a side would show little of what the scores hold."
    )


# ---------------------------------------------------------------------------------------------
# What never saw the target
# ---------------------------------------------------------------------------------------------


def test_scores_without_the_target_are_fused_alike_and_the_bag_of_words_stays_out():
    scores, is_member = planted()
    rng = np.random.default_rng(5)
    blind = {"bag_of_words": is_member * 1.0, "length": rng.normal(size=400), "reference_loss": rng.normal(size=400)}
    controls = {"control_error_zone": np.zeros(400), "control_rmia": rng.normal(size=400)}
    found = fused(columns_of(scores, is_member, blind=blind, controls=controls))
    assert found.blind == ["control_rmia", "length", "reference_loss"], "constant controls see nothing"
    assert found.blind_auc.lower < 0.5 < found.blind_auc.upper
    assert found.beyond_blind.value == pytest.approx(found.findings["auc"].value - found.blind_auc.value)
    assert found.beyond_blind.lower > 0


def test_where_the_sides_differ_without_the_target_the_words_say_so():
    scores, is_member = planted(shift=0.0)
    rng = np.random.default_rng(6)
    kind = 1.5 * is_member + rng.normal(size=400)
    scores["loss"] = kind + rng.normal(size=400)
    found = fused(columns_of(scores, is_member, blind={"length": kind}))
    assert found.findings["auc"].lower > 0.5
    words = fusion_statement(result_of(found))
    assert "So the sides differ even without the target, and nothing is seen beyond it (" in words
    assert words.endswith("the bound is not shown to be of the target's doing.")
    scores["error_zone"] = 2 * is_member + rng.normal(size=400)
    words = fusion_statement(result_of(fused(columns_of(scores, is_member, blind={"length": kind}))))
    assert "and only what lies beyond can be the target's doing: +0." in words


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def result_of(fusion: FusionResult | None) -> AuditResult:
    zero = dict.fromkeys(("n_bad", "n_duplicates", "n_overlap", "n_left_out", "n_windowed"), 0)
    side = SideSummary(files=[], n_read=200, n_records=200, n_groups=200, n_tokens=1, status={"ok": 200}, **zero)
    return AuditResult(
        loraudit="0.1.0",
        spec=SPEC,
        spec_hash=spec_hash(SPEC),
        command="loraudit audit m",
        target=ModelSummary(name="m", kind="k", fingerprint="f"),
        reference=None,
        members=side,
        nonmembers=side,
        numerics={},
        versions={},
        scoring={},
        membership=MembershipResult(headline="loss", attacks=[], fusion=fusion),
        warnings=[],
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
    )


def test_the_statement_names_what_it_rests_on_and_what_it_does_not_say():
    scores, is_member = planted(shift=1.2)
    found = fused(columns_of(scores, is_member))
    words = fusion_statement(result_of(found))
    area = found.findings["auc"]
    assert words.startswith(
        f"Auditor's upper bound: AUC {area.value:.3f} [{area.lower:.3f}, {area.upper:.3f}], TPR at 1 % FPR "
    )
    assert (
        "(n = 200 members and 200 non-members), from 3 scores weighed by a model that was told of other records"
        in words
    )
    assert "No outside attacker has those labels." in words
    assert "It bounds what a weighted sum of these scores shows, not what other attacks would." in words
    assert "Minus the headline loss: AUC +0." in words
    assert "the scores together hold more than the headline reads." in words
    assert fusion_statement(result_of(None)) is None
    assert fusion_tables(result_of(None)) == ([], [])


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.09, -0.01), "weights learned from so few records cost more than they gain, so go by the headline."),
        ((-0.09, 0.01), "it is not seen to show more than the headline alone."),
        ((0.01, 0.09), "the scores together hold more than the headline reads."),
    ],
)
def test_the_difference_from_the_headline_is_put_into_words(ends, said):
    scores, is_member = planted()
    found = fused(columns_of(scores, is_member))
    changed = {"auc": Finding(sum(ends) / 2, *ends, 0.95, "m", 200, 200)}
    assert said in fusion_statement(result_of(found.model_copy(update={"beyond_headline": changed})))


def test_the_table_shows_the_most_missed_first():
    scores, is_member = planted()
    order, without = fusion_tables(result_of(fused(columns_of(scores, is_member))))
    assert without[0].name == "error_zone"
    assert without[0].adds.value.startswith("+0.")
    assert without[0].adds.interval.startswith("[0.")
    assert {row.name for row in order} == {row.name for row in without}
