"""The auditor's upper bound on the command line: measured, judged, shown, recomputed, and absent from older runs."""

from __future__ import annotations

import html
import json
import shutil

import pytest

from loraudit import AuditSpec
from loraudit.auditing import run_audit
from loraudit.report import FORMATS, fusion_statement
from loraudit.store import read_run
from loraudit.synthetic import private_records

LIMIT = "membership.fusion.auc.upper95 > 0.5"


@pytest.fixture(scope="module")
def done(base, full, texts, tmp_path_factory):
    """An audit of the members of `full` and as many others, 110 a side."""
    folder = tmp_path_factory.mktemp("fusion")
    members = [*texts[:60], *private_records(50, seed=77)]
    nonmembers = [*texts[60:], *private_records(50, seed=78)]
    for name, rows in (("members", members), ("nonmembers", nonmembers)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.mktemp("home")))
        return run_audit(
            AuditSpec(
                model=str(full),
                base=str(base),
                members=str(folder / "members.jsonl"),
                nonmembers=str(folder / "nonmembers.jsonl"),
                resamples=100,
                fail_on=(LIMIT,),
                out=str(folder / "run"),
            )
        )


@pytest.fixture
def copied(done, tmp_path):
    return shutil.copytree(done.path, tmp_path / "run")


def changed(folder, change):
    path = folder / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["membership"])
    path.write_text(json.dumps(content), encoding="utf-8")


def checks(command, folder):
    code, out, _ = command("verify", folder, "--json")
    return code, {check["name"]: check for check in json.loads(out)}


def test_every_attack_that_was_run_takes_part_plug_ins_too(done):
    fusion = done.result.membership.fusion
    ran = {attack.name for attack in done.result.membership.attacks if attack.status == "ok"}
    assert set(fusion.attacks) == ran
    assert "plugin_median" in fusion.attacks
    assert len(fusion.without) == len(ran)
    assert {"length", "zlib_ratio", "reference_loss"} <= set(fusion.blind)
    assert "bag_of_words" not in fusion.blind


def test_a_limit_can_name_it(done):
    (limit,) = done.result.verdict.limits
    assert (limit.limit, limit.status) == (LIMIT, "exceeded")
    assert limit.measured == done.result.membership.fusion.findings["auc"].upper


def test_every_report_states_it_in_the_same_words(done, command):
    statement = fusion_statement(done.result)
    assert statement.startswith("Auditor's upper bound: AUC 0.")
    page = html.unescape((done.path / "report.html").read_text(encoding="utf-8"))
    assert statement in page
    assert "What each score adds to the auditor's upper bound" in page
    assert page.count('aria-label="What each score adds') == 2
    assert statement.split(" [")[0] in FORMATS["markdown"](done)
    code, out, _ = command("report", done.path)
    assert code == 0
    assert statement in " ".join(out.split())


def test_verify_recomputes_it(done, copied, command):
    code, found = checks(command, copied)
    assert (code, found["fusion"]["status"]) == (0, "ok")
    assert "entries recomputed and equal" in found["fusion"]["detail"]

    def smaller(membership):
        membership["fusion"]["findings"]["tpr_at_fpr_10pct"]["value"] -= 0.1

    changed(copied, smaller)
    code, found = checks(command, copied)
    assert code == 1
    assert [name for name, check in found.items() if check["status"] == "failed"] == ["fusion"]
    assert "findings.tpr_at_fpr_10pct.value: stated" in found["fusion"]["detail"]


def test_a_run_from_before_there_was_any_is_read_shown_and_verified(done, copied, command):
    changed(copied, lambda membership: membership.pop("fusion"))
    path = copied / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["verdict"] = None
    path.write_text(json.dumps(content), encoding="utf-8")
    run = read_run(copied)
    assert run.result.membership.fusion is None
    for name in ("html", "markdown"):
        assert "upper bound:" not in FORMATS[name](run)
    code, found = checks(command, copied)
    assert (code, found["fusion"]["status"]) == (0, "skipped")
    assert found["fusion"]["detail"] == "none is recorded: the run was made before scores were fused"
