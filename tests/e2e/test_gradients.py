"""Audits that read gradients: only where asked for, resumed, and said so everywhere."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit.auditing import estimate_audit, run_audit
from loraudit.auditing.request import chosen_attacks, usual_attacks
from loraudit.contrast.request import check_request
from loraudit.errors import ConfigError
from loraudit.integrations.request import make_request
from loraudit.spec import ContrastSpec, RecordFormat, make_audit_spec, spec_hash


@pytest.fixture
def wish(adapter, base, record_files, tmp_path):
    def spec(**more):
        sides = {"members": str(record_files[0]), "nonmembers": str(record_files[1])}
        about = {"model": str(adapter), "base": str(base), "resamples": 100, "device": "cpu"}
        return make_audit_spec({**about, **sides, "out": str(tmp_path / "runs" / "a"), **more})

    return spec


def columns_of(run):
    return pq.read_table(run.path / "scores.parquet")


def test_the_usual_audit_measures_no_gradient(wish):
    assert "gradient_norm" not in usual_attacks(wish())
    assert "gradient_norm" in usual_attacks(wish(gradients=True))
    assert spec_hash(wish()) == spec_hash(wish(gradients=False)) != spec_hash(wish(gradients=True))


@pytest.mark.parametrize(
    "asked", [{"gradients": True}, {"attacks": ("gradient_norm",)}, {"headline": "gradient_norm", "attacks": ("loss",)}]
)
def test_gradients_are_measured_where_they_are_asked_for(wish, asked):
    run = run_audit(wish(**asked))
    found = run.result.membership.attack("gradient_norm")
    assert found.status == "ok"
    assert found.cost == "1 F + 1 B"
    assert found.needs == ["target", "gradient"]
    table = columns_of(run)
    norms = table.column("gradient_norm").to_numpy()
    assert (norms < 0).all()
    assert len(set(norms)) > 100
    # The base has nothing of what was tuned, so there is no control for it.
    assert not [name for name in table.column_names if "." in name and "gradient" in name]
    how = run.result.scoring["gradients"]
    assert how["records_measured"] == 120
    assert how["modes"] == ["gradients in 1,344 parameters, in batches"]
    page = (run.path / "report.html").read_text()
    assert "How differentiated" in page
    assert "gradients in 1,344 parameters, in batches" in page


def test_an_audit_without_gradients_says_nothing_of_them(wish):
    run = run_audit(wish(attacks=("loss",)))
    assert "gradients" not in run.result.scoring
    assert "How differentiated" not in (run.path / "report.html").read_text()


def test_the_same_gradients_are_found_again(wish, tmp_path):
    first = run_audit(wish(gradients=True))
    second = run_audit(wish(attacks=("gradient_norm",), seed=3, out=str(tmp_path / "runs" / "b")))
    how = second.result.scoring["gradients"]
    assert (how["records_measured"], how["records_cached"], how["modes"]) == (0, 120, [])
    np.testing.assert_array_equal(columns_of(first)["gradient_norm"], columns_of(second)["gradient_norm"])
    assert "all gradient norms were cached" in (second.path / "report.html").read_text()


def test_an_estimate_counts_gradients_until_they_are_there(wish):
    without, spec = estimate_audit(wish()), wish(attacks=("gradient_norm",), headline="loss")
    before = estimate_audit(spec)
    assert without.n_gradient_tokens == 0
    assert before.n_gradient_tokens == before.n_tokens > 0  # the loss looks at the target alone
    run_audit(spec)
    assert estimate_audit(spec).n_gradient_tokens == 0


def test_the_dry_run_says_so(command, adapter, base, record_files):
    words = ("audit", adapter, "--base", base, "--members", record_files[0], "--nonmembers", record_files[1])
    _, out, _ = command(*words, "--dry-run", "--gradients")
    assert "tokens forward and backward through the target, which is loaded again." in out
    _, out, _ = command(*words, "--dry-run")
    assert "backward" not in out
    code, out, _ = command(*words, "--dry-run", "--gradients", "--json")
    assert code == 0
    assert json.loads(out)["n_gradient_tokens"] > 0


def test_the_list_of_attacks_says_what_it_costs(command):
    _, out, _ = command("attacks", "--json")
    by_name = {one["name"]: one for one in json.loads(out)}
    assert by_name["gradient_norm"]["cost"] == "1 F + 1 B"
    assert by_name["quantile_regression"]["cost"] == "2 F"
    _, out, _ = command("attacks")
    assert "B: backward passes, which only run where they are asked for (loraudit audit --gradients)." in out


@pytest.mark.parametrize("kind", ["full", "head_only", "last_layer"])
def test_checkpoints_are_differentiated_in_what_differs_from_the_base(wish, request, kind):
    run = run_audit(wish(model=str(request.getfixturevalue(kind)), attacks=("gradient_norm",)))
    (mode,) = run.result.scoring["gradients"]["modes"]
    assert mode.endswith("in batches" if kind == "head_only" else "one record at a time")
    assert run.result.membership.attack("gradient_norm").status == "ok"


def test_gradients_nobody_reads_are_refused(wish):
    with pytest.raises(ConfigError, match=r"--gradients measures what no attack asked for looks at\. Leave it out"):
        chosen_attacks(wish(gradients=True, attacks=("loss",)))


def test_a_contrast_and_the_callback_refuse_attacks_they_cannot_feed(base, record_files):
    spec = ContrastSpec(base=str(base), data=(str(record_files[0]),), methods=("full",), attacks=("gradient_norm",))
    with pytest.raises(ConfigError, match=r"Attack 'gradient_norm' needs more than a model and its base \(target, g"):
        check_request(spec)
    with pytest.raises(ConfigError, match=r"Attacks gradient_norm need more than the model in training"):
        make_request(str(record_files[0]), str(record_files[1]), (), RecordFormat(), attacks=("gradient_norm",))


def test_quantile_regression_runs_by_default_and_sees_nothing_in_the_base(wish):
    run = run_audit(wish())
    table = columns_of(run)
    assert (table.column("control.control_quantile_regression").to_numpy() == 0).all()
    assert "blind.reference_quantile_regression_text" in table.column_names
    for name in ("quantile_regression", "quantile_regression_text"):
        assert run.result.membership.attack(name).status == "ok"
        assert not np.isnan(table.column(name).to_numpy()).any()


def test_without_a_base_only_the_text_is_regressed_on(wish, full, tmp_path):
    alone = wish(model=str(full), base=None, headline="min_k_plus_plus", out=str(tmp_path / "runs" / "alone"))
    found = {attack.name: attack.status for attack in run_audit(alone).result.membership.attacks}
    assert found["quantile_regression"] == "not_measured"
    assert found["quantile_regression_text"] == "ok"
