"""A lower precision is taken only where a probe shows that it leaves the scores alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from conftest import CONTEXT, changed_copy
from loraudit.data import record_id
from loraudit.membership import ATTACKS
from loraudit.models import Numerics, load_tokenizer, plan_models
from loraudit.scoring import ScoringOptions, choose_precision, estimate_cost, precision
from loraudit.types import Record

OPTIONS = ScoringOptions(["cpu"], Numerics("cpu", "fp32"), CONTEXT, CONTEXT // 2, batch_tokens=512)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def sides(texts):
    """20 records and which of them are members."""
    rows = [text[:90] for text in texts[:20]]
    records = [Record(record_id(text=text), "test", line, text=text) for line, text in enumerate(rows, 1)]
    return records, np.arange(20) < 10


@pytest.fixture
def choose(base, sides):
    def run(plan, headline="reference_difference", options=OPTIONS, seed=0):
        records, is_member = sides
        return choose_precision(
            plan,
            records,
            is_member,
            ATTACKS[headline],
            options,
            tokenizer=load_tokenizer(base),
            rng=np.random.default_rng(seed),
        )

    return run


@pytest.fixture
def has_bfloat16(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: True)


@pytest.fixture
def probe(monkeypatch, has_bfloat16):
    """Script what the probe finds: scores and seconds in either precision."""

    def script(exact, rounded, *, slow=2.0, fast=1.0):
        found = {"fp32": (np.asarray(exact, dtype=float), slow), "bf16": (np.asarray(rounded, dtype=float), fast)}
        monkeypatch.setattr(
            precision, "_probe", lambda _plan, _records, _attack, options, _t: found[options.numerics.precision]
        )

    return script


EXACT = np.concatenate([np.arange(10) + 6.5, np.arange(10)])


# --- decisions ------------------------------------------------------------------------------------------


def test_a_device_without_bfloat16_is_not_probed(adapter, choose, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: False)
    plan = plan_models(str(adapter))
    plan.stages = [(views, lambda *_: pytest.fail("a model was loaded")) for views, _ in plan.stages]
    found = choose(plan)
    assert found.precision == "fp32"
    assert found.reason == "this cpu device has no bfloat16 matrix instructions"
    assert (found.spearman, found.auc_change, found.speedup, found.n_records) == (None, None, None, 0)


def test_equal_scores_in_less_time_are_taken(adapter, choose, probe):
    probe(EXACT, EXACT, slow=3.0, fast=1.5)
    found = choose(plan_models(str(adapter)))
    assert found.precision == "bf16"
    assert found.reason == "bf16 leaves the scores alone and is faster"
    assert (found.auc_change, found.speedup, found.n_records) == (0, 2, 20)
    assert found.spearman == pytest.approx(1)


def test_scores_in_another_order_are_refused(adapter, choose, probe):
    rounded = EXACT.copy()
    rounded[:10] = rounded[9::-1]  # within the members, so that the AUC stays
    probe(EXACT, rounded)
    found = choose(plan_models(str(adapter)))
    assert found.precision == "fp32"
    assert found.reason.startswith("bf16 was refused: Spearman 0.")
    assert found.reason.endswith("is below 0.999")
    assert found.auc_change == pytest.approx(0)


def test_an_auc_that_moves_is_refused(adapter, choose, probe, monkeypatch):
    monkeypatch.setattr(precision, "LEAST_SPEARMAN", -1.0)
    probe(EXACT, np.roll(EXACT, 1))
    found = choose(plan_models(str(adapter)))
    assert found.precision == "fp32"
    assert f"AUC moves by {found.auc_change:.4f}, more than 0.005" in found.reason


def test_no_time_saved_is_refused(adapter, choose, probe):
    probe(EXACT, EXACT, slow=1.05, fast=1.0)
    found = choose(plan_models(str(adapter)))
    assert found.precision == "fp32"
    assert found.reason == "bf16 was refused: it is only 1.05 times as fast"


def test_every_reason_is_given(adapter, choose, probe):
    probe(EXACT, -EXACT, slow=1.0, fast=2.0)
    reason = choose(plan_models(str(adapter))).reason
    assert reason.count(";") == 2
    assert "Spearman -1.0000" in reason
    assert "it is only 0.50 times as fast" in reason


def test_undefined_scores_are_left_out_of_the_comparison(adapter, choose, probe):
    exact, rounded = EXACT.copy(), EXACT.copy()
    exact[3] = rounded[15] = np.nan
    probe(exact, rounded)
    assert choose(plan_models(str(adapter))).precision == "bf16"


def test_scores_that_vanish_in_bfloat16_are_refused(adapter, choose, probe):
    """An attack undefined on most records in one precision leaves nothing to compare."""
    probe(EXACT, np.full(20, np.nan))
    assert choose(plan_models(str(adapter))).precision == "fp32"


def test_constant_scores_are_refused(adapter, choose, probe):
    probe(EXACT, np.zeros(20))
    found = choose(plan_models(str(adapter)))
    assert found.precision == "fp32"
    assert "Spearman" in found.reason


def test_the_probe_is_drawn_from_both_sides_by_the_seed(adapter, sides, choose, monkeypatch, has_bfloat16):
    monkeypatch.setattr(precision, "PROBE_RECORDS_PER_SIDE", 4)
    drawn = []

    def note(_plan, records, *_):
        drawn.append([record.id for record in records])
        return np.arange(8.0), 1.0

    monkeypatch.setattr(precision, "_probe", note)
    for seed in (0, 0, 1):
        assert choose(plan_models(str(adapter)), seed=seed).n_records == 8
    assert drawn[0] == drawn[1] == drawn[2] == drawn[3]
    assert drawn[4] == drawn[5] != drawn[0]
    members = {record.id for record, is_member in zip(*sides, strict=True) if is_member}
    for ids in drawn:
        assert [record in members for record in ids] == [True] * 4 + [False] * 4


# --- with real models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adapter", "full", "head_only"])
def test_a_probe_of_real_models_is_recorded_whole(request, base, choose, has_bfloat16, kind):
    found = choose(plan_models(str(request.getfixturevalue(kind)), base=str(base)))
    assert found.precision in {"fp32", "bf16"}
    assert found.n_records == 20
    assert -1 <= found.spearman <= 1
    assert 0 <= found.auc_change <= 1
    assert found.speedup > 0
    assert json.loads(json.dumps(found.facts())) == found.facts()


def test_only_models_that_the_attack_looks_at_are_probed(full, base, choose, has_bfloat16):
    plan = plan_models(str(full), base=str(base))
    plan.stages[1] = (plan.stages[1][0], lambda *_: pytest.fail("the base was loaded"))
    assert choose(plan, headline="loss").n_records == 20


def test_this_machine_gets_an_answer(adapter, choose):
    assert choose(plan_models(str(adapter))).precision in {"fp32", "bf16"}


def test_differences_finer_than_bfloat16_keep_float32(base, tmp_path, choose, has_bfloat16):
    changed_copy(base, tmp_path / "barely", lambda _: True, scale=1e-5)
    found = choose(plan_models(str(tmp_path / "barely"), base=str(base)))
    assert found.precision == "fp32"
    assert "Spearman" in found.reason


def test_a_model_that_bfloat16_breaks_keeps_float32(base, tmp_path, choose, has_bfloat16):
    """Logits so large that rounding moves a log-probability by whole nats: the answer is fp32, not an error."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(100)
    model.save_pretrained(tmp_path / "steep")
    found = choose(plan_models(str(tmp_path / "steep")), headline="loss")
    assert found.precision == "fp32"
    assert "bf16" in found.reason


# --- what it would cost -----------------------------------------------------------------------------------------


def test_the_estimate_grows_with_copies_tokens_and_precision(adapter):
    plan = plan_models(str(adapter))

    def cost(devices=("cpu",), precision="fp32", batch_tokens=512, n_tokens=10_000):
        numerics = Numerics("cpu", precision)
        options = ScoringOptions(devices, numerics, CONTEXT, CONTEXT // 2, batch_tokens=batch_tokens)
        return estimate_cost(plan, options, n_tokens)

    one = cost()
    assert one.memory_bytes > plan.n_parameters * 4
    assert one.seconds > 0
    assert cost(devices=("cpu", "cpu")).memory_bytes - one.memory_bytes == plan.n_parameters * 4
    assert cost(precision="bf16").memory_bytes < one.memory_bytes
    assert cost(batch_tokens=1024).memory_bytes > one.memory_bytes
    assert cost(n_tokens=0).seconds == 0
