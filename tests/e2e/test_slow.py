"""Audits with slow attacks: what is altered, who scores it, what is kept, and what is refused."""

from __future__ import annotations

import json

import pytest

from loraudit.auditing import run_audit
from loraudit.spec import make_audit_spec

SLOW = {"neighbourhood", "spv_mia", "recall"}


@pytest.fixture(scope="module")
def wish(adapter, base, record_files, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")

    def spec(**more):
        sides = {"members": str(record_files[0]), "nonmembers": str(record_files[1])}
        about = {"model": str(adapter), "base": str(base), "resamples": 100, "out": str(runs / "a"), "device": "cpu"}
        return make_audit_spec({**about, **sides, "slow": True, "neighbours": 3, "recall_shots": 2, **more})

    return spec


@pytest.fixture(scope="module")
def done(wish, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        return run_audit(wish())


def test_x(done):
    print(done.result.slow.model_dump_json(indent=1))
    print(done.result.warnings)
    print({a.name:(a.status,a.reason,a.findings.get("auc").value) for a in done.result.membership.attacks if a.name in SLOW})
    print([g for g in done.result.validity.gates if any(s in g.name for s in SLOW) or g.name=="reference_as_target"])
