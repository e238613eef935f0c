"""Evidence a reviewer can recompute: verify, compare, validate, doctor, schema and every format of the report."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from conftest import called
from loraudit.data import record_id
from loraudit.report import FORMATS
from loraudit.spec import SCHEMAS
from loraudit.store import read_run

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "run_v1"
N_MOVED, N_EXTRA = 3, 5


def jsonl(path, rows):
    path.write_text("".join(json.dumps({"text": row} if isinstance(row, str) else row) + "\n" for row in rows))
    return path


def shifted(text, number):
    """A member as no non-member is: its own kind of beginning."""
    return {
        "text": f"REMINDER {number % 7}: {text}",
        "doc": f"m{number // 2}",
        "kind": ("letter", "note")[number % 2],
    }


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, adapter, full, base, texts):
    """Runs by name in one folder, of records in files beside them.

    `a` and `b`: two targets over the same files. `other`: the target of `b`, records in another order, some on the
    other side and some of its own. `rich`: failed gates, limits, groups, subgroups and record text.
    """
    folder = tmp_path_factory.mktemp("workshop")
    members, nonmembers = texts[:60], texts[60:]
    jsonl(folder / "members.jsonl", members)
    jsonl(folder / "nonmembers.jsonl", nonmembers)
    extra = [f"An entry that only the other run has, number {i}: {texts[i][::-1]}" for i in range(2 * N_EXTRA)]
    draw = random.Random(7)
    jsonl(folder / "m2.jsonl", draw.sample(members[N_MOVED:] + extra[:N_EXTRA], 60 - N_MOVED + N_EXTRA))
    rest = nonmembers + members[:N_MOVED] + extra[N_EXTRA:]
    jsonl(folder / "n2.jsonl", draw.sample(rest, len(rest)))
    jsonl(folder / "m3.jsonl", [shifted(text, i) for i, text in enumerate(members)])
    jsonl(
        folder / "n3.jsonl",
        [{"text": t, "doc": f"n{i // 2}", "kind": ("letter", "note")[i % 2]} for i, t in enumerate(nonmembers)],
    )
    first = ("--members", "members.jsonl", "--nonmembers", "nonmembers.jsonl")
    second = ("--members", "m2.jsonl", "--nonmembers", "n2.jsonl")
    third = ("--members", "m3.jsonl", "--nonmembers", "n3.jsonl", "--group-field", "doc", "--subgroup-field", "kind")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.mktemp("home")))
        for name, words, expected in (
            ("a", (adapter, *first), 0),
            ("b", (full, "--base", base, *first), 0),
            ("other", (full, "--base", base, *second), 0),
            ("rich", (adapter, *third, "--include-text", "--fail-on", "validity.n_failed > 0"), 1),
        ):
            assert called("audit", *words, "--resamples", 200, "-q", "-o", name)[0] == expected
    return folder


@pytest.fixture
def desk(workshop, tmp_path, monkeypatch, command):
    """A copy of the workshop without its evidence, in the folder where commands run."""
    for path in workshop.iterdir():
        if path.name.startswith("."):
            continue
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, tmp_path / path.name)
    return tmp_path


def rewritten(path, change):
    """A JSON file after `change`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def checks_of(out):
    return {check["name"]: check for check in json.loads(out)}


# --- verify -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b", "other", "rich"])
def test_a_finished_run_verifies(name, desk, command):
    code, out, err = command("verify", name)
    assert code == 0, out
    assert err == ""
    lines = [line.split(":")[0] for line in out.splitlines()]
    whats = [
        "spec",
        "scores",
        "counts",
        "attacks",
        "best of all",
        "set as a whole",
        "single records",
        "validity gates",
        "fusion",
        "verdict",
    ]
    assert lines[: len(whats)] == [f"ok       {what}" for what in whats] or lines[: len(whats)] == [
        f"{'ok':<8}{what}" for what in whats
    ]
    assert out.count("unchanged") == 2


def test_a_changed_score_is_found_with_the_figures_it_moves(desk, command):
    path = desk / "a" / "scores.parquet"
    table = pq.read_table(path)
    scores = table.column("error_zone").to_numpy().copy()
    scores[table.column("is_member").to_numpy()] += 0.5
    pq.write_table(table.set_column(table.column_names.index("error_zone"), "error_zone", pa.array(scores)), path)
    code, out, _ = command("verify", "a", "--json")
    checks = checks_of(out)
    assert code == 1
    assert checks["scores"]["status"] == "failed"
    assert "scores.parquet has another sha256 than recorded: it was changed after the run" in checks["scores"]["detail"]
    assert checks["attacks"]["status"] == "failed"
    assert "error_zone." in checks["attacks"]["detail"]
    assert checks["verdict"]["status"] == "ok", "the verdict follows from the figures, which are as they were"


def test_scores_of_the_least_figure_that_matters_are_bound_by_their_hash(desk, command):
    """A change too small to move a figure is still a change."""
    path = desk / "a" / "scores.parquet"
    pq.write_table(pq.read_table(path), path, compression="none")
    code, out, _ = command("verify", "a", "--json")
    failed = [name for name, check in checks_of(out).items() if check["status"] == "failed"]
    assert (code, failed) == (1, ["scores"])


def attack_of(content, name):
    return next(attack for attack in content["membership"]["attacks"] if attack["name"] == name)


def set_auc(content):
    attack_of(content, "loss")["findings"]["auc"]["value"] += 0.01


def set_p_holm(content):
    attack_of(content, "zlib")["p_holm"] = 0.0123


def set_exposed(content):
    content["membership"]["records"]["n_exposed"] += 7


def set_record_score(content):
    content["membership"]["records"]["exposed"][2]["score"] += 1


def set_subgroup(content):
    content["membership"]["records"]["subgroups"][0]["auc"]["upper"] = 0.999


def set_best(content):
    content["membership"]["best"]["auc"]["lower"] = 0.4321


def set_test(content):
    content["membership"]["dataset_test"]["p_mann_whitney"] = 1e-9


def set_gate(content):
    gate = next(gate for gate in content["validity"]["gates"] if gate["name"] == "length")
    gate["status"] = "failed" if gate["status"] == "passed" else "passed"


@pytest.mark.parametrize(
    ("change", "check", "entry"),
    [
        (set_auc, "attacks", "loss.findings.auc.value"),
        (set_p_holm, "attacks", "zlib.p_holm"),
        (set_exposed, "single records", "n_exposed"),
        (set_record_score, "single records", "exposed[2].score"),
        (set_subgroup, "single records", "subgroups[0].auc.upper"),
        (set_best, "best of all", "auc.lower"),
        (set_test, "set as a whole", "p_mann_whitney"),
        (set_gate, "validity gates", "status"),
    ],
)
def test_a_changed_figure_is_found_by_its_entry(change, check, entry, desk, command):
    rewritten(desk / "a" / "result.json", change)
    code, out, _ = command("verify", "a", "--json")
    checks = checks_of(out)
    assert code == 1
    assert checks[check]["status"] == "failed"
    assert checks[check]["detail"].startswith("1 of ")
    assert f"{entry}: stated " in checks[check]["detail"]
    assert checks["scores"]["status"] == checks["spec"]["status"] == "ok"


def test_a_figure_that_was_taken_out_is_found(desk, command):
    def take_out(content):
        attack_of(content, "loss")["findings"].pop("partial_auc_fpr_10pct")

    rewritten(desk / "a" / "result.json", take_out)
    code, out, _ = command("verify", "a", "--json")
    assert code == 1
    detail = checks_of(out)["attacks"]["detail"]
    assert "loss.findings.partial_auc_fpr_10pct.confidence: stated None, recomputed 0.95" in detail


def test_an_attack_that_was_taken_out_is_found(desk, command):
    def take_out(content):
        content["membership"]["attacks"].remove(attack_of(content, "zlib"))

    rewritten(desk / "a" / "result.json", take_out)
    code, out, _ = command("verify", "a", "--json")
    assert code == 1
    n = len(read_run(desk / "a").result.membership.attacks)
    assert f"n_attacks: stated {n + 1}, recomputed {n}" in checks_of(out)["best of all"]["detail"]


def hide_attack(content):
    attack = attack_of(content, "reference_difference")
    attack |= {"status": "not_measured", "reason": "needs reference", "findings": {}}


def set_count(content):
    content["members"]["n_records"] = 6000


def set_statuses(content):
    content["nonmembers"]["status"] = {"ok": 10}


def set_tokens(content):
    content["members"]["n_tokens"] += 1000


@pytest.mark.parametrize("change", [hide_attack, set_count, set_statuses, set_tokens])
def test_a_hidden_attack_and_changed_counts_are_found(change, desk, command):
    rewritten(desk / "a" / "result.json", change)
    code, out, _ = command("verify", "a")
    assert code == 1, out


def soften(content):
    content["verdict"] |= {"level": "not_seen", "heading": "No membership leakage seen"}


def pretend(content):
    content["verdict"]["exit_code"] = 0


def forgive(content):
    content["verdict"]["limits"][0]["status"] = "holds"


def hush(content):
    content["verdict"]["validity"] = None


@pytest.mark.parametrize("change", [soften, pretend, forgive, hush])
def test_a_changed_verdict_is_found_with_the_true_one(change, desk, command):
    true = read_run(desk / "rich").result.verdict
    rewritten(desk / "rich" / "result.json", change)
    code, out, _ = command("verify", "rich", "--json")
    failed = {name: check["detail"] for name, check in checks_of(out).items() if check["status"] == "failed"}
    assert code == 1
    assert failed == {"verdict": f"recomputed: {true.heading}, exit code {true.exit_code}"}


def test_a_changed_request_is_found_by_its_hash(desk, command):
    rewritten(desk / "a" / "result.json", lambda content: content["spec"].update(append_eos=True))
    code, out, _ = command("verify", "a", "--json")
    assert code == 1
    assert "the spec hashes to " in checks_of(out)["spec"]["detail"]


def test_a_changed_data_file_is_found_and_a_missing_one_is_skipped(desk, command):
    with (desk / "members.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    (desk / "nonmembers.jsonl").unlink()
    code, out, _ = command("verify", "a")
    assert code == 1
    assert "failed  data members.jsonl: the file has changed since the run" in out
    assert "skipped data nonmembers.jsonl: not here" in out
    (desk / "members.jsonl").unlink()
    code, out, _ = command("verify", "a")
    assert code == 0, "what is not here cannot be said to have changed"


def test_a_run_of_the_first_version_cannot_be_recomputed_and_says_so(command):
    code, out, err = command("verify", GOLDEN)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert "was written by an older loraudit (0.1.0) that did not store what it takes to recompute it." in err
    assert "Run its audit again" in err


@pytest.mark.parametrize(
    ("name", "words"),
    [("result.json", "holds a run that has not finished"), ("scores.parquet", "an audit without its scores.parquet")],
)
def test_a_run_without_its_files_is_no_finished_run(name, words, desk, command):
    (desk / "a" / name).unlink()
    found, _, err = command("verify", "a")
    assert found == 2
    assert words in err


def test_a_folder_that_cannot_be_verified_is_said_to_be_what_it_is(desk, command):
    code, _, err = command("verify", "nope")
    assert code == 2
    assert "Folder 'nope' does not exist. Expected an audit or a robustness run. Check the path." in err
    (desk / "fore").mkdir()
    (desk / "fore" / "result.json").write_text('{"kind": "forecast"}')
    code, _, err = command("verify", "fore")
    assert code == 2
    assert "Folder 'fore' holds a forecast, which this does not take. Expected an audit or a robustness run." in err


def test_a_run_whose_scores_are_damaged_is_refused_as_damaged(desk, command):
    path = desk / "a" / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    code, _, err = command("verify", "a")
    assert code == 5
    assert "Run 'a' is damaged: " in err


# --- compare ------------------------------------------------------------------------------------------


def contents(run):
    table = pq.read_table(run / "identity.parquet")
    return dict(zip(table.column("id").to_pylist(), table.column("content_sha256").to_pylist(), strict=True))


def shared_scores(one, two, attack):
    """Scores of the records that two runs have on the same side, found by content: [n], [n], who is a member."""
    sides = []
    for run in (one, two):
        table = pq.read_table(run / "scores.parquet")
        content = contents(run)
        columns = (table.column(name).to_pylist() for name in ("id", "is_member", attack))
        sides.append({content[shown]: (is_member, score) for shown, is_member, score in zip(*columns, strict=True)})
    keys = [key for key in sides[0] if key in sides[1] and sides[0][key][0] == sides[1][key][0]]
    first, second = (np.array([side[key][1] for key in keys]) for side in sides)
    return first, second, np.array([sides[0][key][0] for key in keys])


def delong(first, second, is_member):
    """Difference of two AUCs and its standard error, by the definition: placements of every record."""
    placements = []
    for scores in (first, second):
        members, others = scores[is_member], scores[~is_member]
        wins = (members[:, None] > others[None, :]) + 0.5 * (members[:, None] == others[None, :])
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    variance = sum(np.var(one - two, ddof=1) / len(one) for one, two in zip(*placements, strict=True))
    return placements[0][0].mean() - placements[1][0].mean(), np.sqrt(variance)


def found_at(scores, is_member, fpr):
    """Members above the score that lets at most that share of the non-members through."""
    others = np.sort(scores[~is_member])[::-1]
    return scores[is_member] > others[int(np.floor(fpr * len(others) + 1e-9))]


@pytest.mark.parametrize(("one", "two"), [("a", "b"), ("a", "other"), ("other", "a")])
def test_every_number_of_a_comparison_is_that_of_the_records_both_runs_have(one, two, desk, command):
    code, out, err = command("compare", one, two, "--json")
    assert code == 0, err
    found = json.loads(out)
    jsonschema.validate(found, json.loads((ROOT / "docs" / "schema" / "comparison.schema.json").read_text()))
    has_other = "other" in (one, two)
    assert (found["n_members"], found["n_nonmembers"]) == ((57, 60) if has_other else (60, 60))
    assert found["n_changed_side"] == (N_MOVED if has_other else 0)
    alone = {run: found[side]["n_alone"] for side, run in (("first", one), ("second", two))}
    assert alone == ({"a": N_MOVED, "other": N_MOVED + 2 * N_EXTRA} if has_other else {"a": 0, "b": 0})
    assert [attack["is_headline"] for attack in found["attacks"]] == [True] + [False] * (len(found["attacks"]) - 1)
    assert found["attacks"][0]["name"] == "error_zone"
    p_values = {}
    for attack in found["attacks"]:
        first, second, is_member = shared_scores(desk / one, desk / two, attack["name"])
        areas = [roc_auc_score(is_member, scores) for scores in (first, second)]
        assert [attack["auc"]["first"], attack["auc"]["second"]] == pytest.approx(areas)
        value, error = delong(first, second, is_member)
        gap = attack["auc"]["difference"]
        assert gap["value"] == pytest.approx(value)
        assert [gap["lower"], gap["upper"]] == pytest.approx([value - 1.959964 * error, value + 1.959964 * error])
        p_values[attack["name"]] = 2 * stats.norm.sf(abs(value) / error)
        assert attack["auc"]["p_value"] == pytest.approx(p_values[attack["name"]])
        assert set(attack["rates"]) == {"tpr_at_fpr_10pct"}, "60 non-members resolve no smaller rate"
        rate = attack["rates"]["tpr_at_fpr_10pct"]
        is_found = [found_at(scores, is_member, 0.1) for scores in (first, second)]
        assert [rate["first"], rate["second"]] == pytest.approx([hits.mean() for hits in is_found])
        assert rate["difference"]["value"] == pytest.approx(is_found[0].mean() - is_found[1].mean())
        assert rate["difference"]["lower"] <= rate["difference"]["value"] <= rate["difference"]["upper"]
        alone = int((is_found[0] & ~is_found[1]).sum()), int((~is_found[0] & is_found[1]).sum())
        assert (rate["found_in_first_only"], rate["found_in_second_only"]) == alone
        expected = min(1.0, 2 * stats.binom.cdf(min(alone), sum(alone), 0.5)) if sum(alone) else 1.0
        assert rate["p_mcnemar"] == pytest.approx(expected)
    others = sorted((p, name) for name, p in p_values.items() if name != "error_zone")
    highest = 0.0
    for rank, (p, name) in enumerate(others):
        highest = max(highest, min(1.0, p * (len(others) - rank)))
        assert next(a["p_holm"] for a in found["attacks"] if a["name"] == name) == pytest.approx(highest)
    assert found["attacks"][0]["p_holm"] is None


def test_comparing_the_other_way_round_changes_every_sign_and_nothing_else(desk, command):
    there, back = (json.loads(command("compare", *pair, "--json")[1]) for pair in (("a", "b"), ("b", "a")))
    assert there["first"] == back["second"]
    assert there["second"] == back["first"]
    numbers = 0
    for one in there["attacks"]:
        two = next(attack for attack in back["attacks"] if attack["name"] == one["name"])
        assert one["p_holm"] == pytest.approx(two["p_holm"])
        for mine, yours in [
            (one["auc"], two["auc"]),
            *((one["rates"][name], two["rates"][name]) for name in one["rates"]),
        ]:
            assert (mine["first"], mine["second"]) == (yours["second"], yours["first"])
            assert mine["p_value"] == pytest.approx(yours["p_value"])
            gap, mirrored = mine["difference"], yours["difference"]
            assert gap["value"] == pytest.approx(-mirrored["value"])
            assert [gap["lower"], gap["upper"]] == pytest.approx([-mirrored["upper"], -mirrored["lower"]])
            numbers += 1
        for name, rate in one["rates"].items():
            assert rate["found_in_first_only"] == two["rates"][name]["found_in_second_only"]
            assert rate["p_mcnemar"] == two["rates"][name]["p_mcnemar"]
    assert numbers > 20


def test_a_run_does_not_differ_from_itself(desk, command):
    code, out, _ = command("compare", "a", "a", "--json")
    assert code == 0
    for attack in json.loads(out)["attacks"]:
        gap = attack["auc"]["difference"]
        assert (gap["value"], gap["lower"], gap["upper"], attack["auc"]["p_value"]) == (0, 0, 0, 1)
        assert all(rate["difference"]["value"] == 0 and rate["p_mcnemar"] == 1 for rate in attack["rates"].values())


def test_a_comparison_leads_with_a_sentence_and_says_what_was_left_out(desk, command):
    code, out, _ = command("compare", "a", "other")
    assert code == 0
    assert out.startswith("By error_zone, the ")
    assert (
        "57 members and 60 non-members in both; 3 records only in A, 13 only in B, 3 on different sides."
        in " ".join(out.split())
    )
    assert "error_zone *" in out
    assert "* headline of A. Brackets: 95 % intervals of the difference." in out


def test_runs_without_the_link_from_ids_to_contents_cannot_be_compared(desk, command):
    (desk / "b" / "identity.parquet").unlink()
    for pair in (("a", "b"), ("b", "a")):
        code, out, err = command("compare", *pair)
        assert (code, out) == (5, "")
        assert f"'{Path('b', 'identity.parquet')}' cannot be read" in err
        assert "only that file links ids to contents" in err


@pytest.mark.parametrize(
    ("name", "value"), [("fpr", [0.1]), ("span", "all"), ("confidence", 0.9), ("append_eos", True)]
)
def test_runs_with_other_settings_are_not_compared_and_the_setting_is_named(name, value, desk, command):
    rewritten(desk / "b" / "result.json", lambda content: content["spec"].update({name: value}))
    code, out, err = command("compare", "a", "b")
    assert (code, out) == (2, "")
    assert "cannot be compared: they differ in " in err
    assert f"{name}: " in err
    assert "Audit both with the same settings." in err


@pytest.mark.parametrize(("kept", "counts"), [(True, "60 members and 0 non"), (False, "0 members and 60 non")])
def test_runs_that_share_one_side_only_are_not_compared(kept, counts, desk, command):
    path = desk / "b" / "identity.parquet"
    table = pq.read_table(path)
    is_member = pq.read_table(desk / "b" / "scores.parquet").column("is_member").to_pylist()
    hashes = [
        digest if member == kept else record_id(text=f"another record {row}")
        for row, (digest, member) in enumerate(zip(table.column("content_sha256").to_pylist(), is_member, strict=True))
    ]
    column = table.column_names.index("content_sha256")
    pq.write_table(table.set_column(column, "content_sha256", pa.array(hashes)), path)
    code, out, err = command("compare", "a", "b")
    assert (code, out) == (2, "")
    assert f"share {counts}-members" in err
    assert "compare runs over the same files" in err


def test_runs_with_other_attacks_are_compared_by_those_they_share_or_not_at_all(desk, command):
    def without(name):
        path = desk / "b" / "scores.parquet"
        pq.write_table(pq.read_table(path).drop_columns([name]), path)

    without("loss")
    code, out, _ = command("compare", "a", "b", "--json")
    assert code == 0
    assert "loss" not in {attack["name"] for attack in json.loads(out)["attacks"]}
    without("error_zone")
    code, _, err = command("compare", "a", "b")
    assert code == 2
    assert "Run 'b' has no scores of the headline attack 'error_zone' of 'a'." in err


# --- validate -----------------------------------------------------------------------------------------

GOOD = 'model = "anywhere"\nmembers = "members.jsonl"\nnonmembers = "nonmembers.jsonl"\n'


def test_good_spec_files_are_named_with_their_hash_and_printed_resolved(desk, command):
    (desk / "one.toml").write_text(GOOD)
    (desk / "two.yaml").write_text("model: anywhere\nmembers: members.jsonl\nnonmembers: [nonmembers.jsonl]\nseed: 3\n")
    code, out, err = command("validate", "one.toml", "two.yaml")
    assert (code, err) == (0, "")
    assert [line.rsplit(" ", 1)[0] for line in out.splitlines()] == ["ok      one.toml: spec", "ok      two.yaml: spec"]
    code, out, _ = command("validate", "one.toml", "two.yaml", "--json")
    resolved = [json.loads(line) for line in out.splitlines()]
    assert [spec["seed"] for spec in resolved] == [0, 3]
    for spec in resolved:
        jsonschema.validate(spec, json.loads((ROOT / "docs" / "schema" / "spec.schema.json").read_text()))


def test_every_problem_of_every_spec_file_is_said_at_once(desk, command):
    (desk / "form.toml").write_text(GOOD + 'resamples = 5\nattaks = ["loss"]\nspan = "some"\n')
    (desk / "names.toml").write_text(
        'model = "m"\nmembers = "no.jsonl"\nnonmembers = "nor.jsonl"\nattacks = ["mink"]\nheadline = "los"\n'
        'fail-on = ["membership.auc > 1", "nonsense"]\nmax-length = 10\nstride = 20\n'
    )
    (desk / "policy.toml").write_text(GOOD + 'policy = "nowhere.toml"\n')
    (desk / "broken.toml").write_text("model = \n")
    (desk / "empty.json").write_text("[]")
    (desk / "good.toml").write_text(GOOD)
    names = ["form.toml", "names.toml", "policy.toml", "broken.toml", "empty.json", "good.toml", "gone.toml"]
    code, out, err = command("validate", *names)
    assert code == 2
    assert out.startswith("ok      good.toml: spec ")
    assert "Traceback" not in err
    for words in (
        "form.toml: ",
        "'resamples' has the value 5. Expected greater than or equal to 100",
        "Unknown key 'attaks'. Did you mean 'attacks'?",
        "'span' has the value 'some'. Expected 'trained' or 'all'",
        "names.toml: ",
        "Unknown attack 'los'. Did you mean 'loss'?",
        "Unknown attack 'mink'. Did you mean 'min_k'?",
        "File 'no.jsonl' does not exist",
        "File 'nor.jsonl' does not exist",
        "Stride 20 is out of range",
        "'membership.auc > 1' does not name a metric",
        "'nonsense' cannot be read",
        "policy.toml: Spec",
        "broken.toml: Spec file 'broken.toml' cannot be parsed",
        "empty.json: Spec file 'empty.json' holds no keys",
        "gone.toml: Spec file 'gone.toml' cannot be read",
    ):
        assert words.replace("policy.toml: Spec", "policy.toml: ") in err, words
    assert "nowhere.toml' cannot be read" in err


QUIET = """
import sys
sys.argv = ["loraudit", *sys.argv[1:]]
from loraudit.cli import main
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code or 0
heavy = {"torch", "transformers", "peft", "accelerate"} & set(sys.modules)
print("\\ncode", code, "heavy", sorted(heavy))
"""


@pytest.mark.parametrize("words", [("validate", "good.toml"), ("schema", "result"), ("report", "a"), ("verify", "a")])
def test_commands_that_touch_no_model_load_no_deep_learning_library(words, desk):
    (desk / "good.toml").write_text(GOOD)
    done = subprocess.run(
        [sys.executable, "-c", QUIET, *words], cwd=desk, capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "code 0 heavy []", done.stderr


# --- doctor -------------------------------------------------------------------------------------------

ENVIRONMENT = ["python", "packages", "device", "memory", "disk", "account secret", "hub", "attacks"]


def test_the_doctor_looks_at_the_machine(command, tmp_path):
    code, out, err = command("doctor", "--json")
    checks = json.loads(out)
    assert (code, err) == (0, ""), out
    assert [check["name"] for check in checks] == ENVIRONMENT
    assert {check["status"] for check in checks} <= {"ok", "warning"}
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"


def test_the_doctor_looks_at_model_and_records_before_an_audit(desk, command, adapter):
    words = (adapter, "--members", "members.jsonl", "--nonmembers", "nonmembers.jsonl")
    code, out, _ = command("doctor", *words, "--json")
    checks = checks_of(out)
    assert code == 0, out
    assert list(checks)[: len(ENVIRONMENT)] == ENVIRONMENT
    assert checks["records"]["detail"] == "60 members, 60 non-members"
    assert "With 60 member and 60 non-member records an AUC of " in checks["power"]["detail"]
    assert "base: " in checks["target"]["detail"]
    assert checks["window"]["detail"] == "64 tokens, 32 new in each further one"
    assert "of 100 tried" in checks["tokens"]["detail"]


def test_the_doctor_looks_at_the_parts_of_a_request_that_there_are(desk, command, adapter):
    code, out, _ = command("doctor", adapter, "--json")
    assert code == 0
    assert set(checks_of(out)) >= {"model", "target"}
    code, out, _ = command("doctor", "--members", "members.jsonl", "--json")
    assert code == 0
    assert checks_of(out)["members"]["detail"] == "60 usable records"


def broken_adapter(desk, adapter):
    folder = shutil.copytree(adapter, desk / "broken")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    return {"--model": folder}, 4, "is damaged"


def broken_config(desk, adapter):
    folder = shutil.copytree(adapter, desk / "broken")
    (folder / "adapter_config.json").write_text('{"peft_type": "LO')
    return {"--model": folder}, 4, "adapter_config.json' cannot be read: "


def missing_adapter(desk, adapter):
    return {"--model": desk / "nothing"}, 4, "does not exist"


def unknown_on_the_hub(desk, adapter):
    return {"--model": "some-org/some-model"}, 5, "hf download some-org/some-model"


def broken_data(desk, adapter):
    (desk / "bad.jsonl").write_text('{"text": "fine"}\n{broken\n')
    return {"--members": desk / "bad.jsonl"}, 3, "bad.jsonl:2: is not valid JSON"


def member_on_both_sides(desk, adapter):
    return {"--nonmembers": desk / "members.jsonl"}, 3, "non-members are members too"


def missing_data(desk, adapter):
    return {"--nonmembers": desk / "gone.jsonl"}, 2, "gone.jsonl' does not exist"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            broken_adapter,
        ),
        broken_config,
        missing_adapter,
        unknown_on_the_hub,
        broken_data,
        member_on_both_sides,
        missing_data,
    ],
    ids=lambda fault: fault.__name__.replace("_", " "),
)
def test_the_doctor_gives_the_exit_code_the_audit_would(fault, desk, command, adapter):
    change, code, words = fault(desk, adapter)
    given = {
        "--model": adapter,
        "--members": desk / "members.jsonl",
        "--nonmembers": desk / "nonmembers.jsonl",
    } | change
    words_of = [given.pop("--model"), *(word for pair in given.items() for word in pair)]
    found, out, err = command("doctor", *words_of, "--json")
    assert (found, err) == (code, ""), out
    failed = next(check for check in json.loads(out) if check["status"] == "failed")
    assert words in failed["detail"]
    found, _, err = command("audit", *words_of, "-q", "-o", "out")
    assert found == code
    assert words in err


def test_the_doctor_says_that_there_is_a_token_and_never_which(command, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_PlantedTokenThatNobodyMaySee")
    for words in ((), ("--json",)):
        code, out, err = command("doctor", *words)
        assert code == 0
        assert "a token is set" in out
        assert "Planted" not in out + err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", "nowhere")
    assert "no token" in command("doctor")[1]


# --- schema -------------------------------------------------------------------------------------------


@functools.cache
def validator(name):
    return jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "schema" / f"{name}.schema.json").read_text()))


def problems(name, content):
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(content)]


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_the_schema_in_the_docs_is_the_one_the_command_prints(name, command):
    code, out, _ = command("schema", name)
    assert code == 0
    assert out == (ROOT / "docs" / "schema" / f"{name}.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(out))
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_schema_of_something_else_is_refused_with_the_names_there_are(command):
    code, _, err = command("schema", "verdict")
    assert code == 2
    assert all(name in err for name in SCHEMAS)


@pytest.mark.parametrize("name", ["a", "b", "other", "rich"])
def test_what_a_run_writes_is_as_the_schema_says(name, desk):
    spec, result = (json.loads((desk / name / file).read_text()) for file in ("spec.json", "result.json"))
    assert problems("spec", spec) == []
    assert problems("result", result) == []
    assert bool([gate for gate in result["validity"]["gates"] if gate["status"] == "failed"]) == (name == "rich")


@pytest.mark.parametrize(
    "where", [(), ("membership",), ("verdict",), ("spec",), ("members",), ("validity", "gates", 0)]
)
def test_a_key_that_the_schema_does_not_know_is_refused_by_it(where, desk):
    result = json.loads((desk / "a" / "result.json").read_text())
    place = functools.reduce(lambda part, key: part[key], where, result)
    place["a_key_of_somebody_else"] = 1
    assert any("a_key_of_somebody_else" in problem for problem in problems("result", result))
    spec = json.loads((desk / "a" / "spec.json").read_text())
    assert problems("spec", spec | {"a_key_of_somebody_else": 1})
    assert problems("spec", spec | {"schema_version": 99})


@pytest.fixture
def odd_audit(desk, command, adapter, monkeypatch):
    """Audit with attacks whose scores are undefined, constant or missing, one of them the headline; `result.json`."""
    from loraudit.membership import ATTACKS, Attack

    def loss(views):
        return views.target.log_prob.mean(axis=1).astype(float)

    odd = {
        "undefined": lambda views: np.full(len(loss(views)), np.nan),
        "partly_undefined": lambda views: np.where(loss(views) > -8, loss(views), np.nan),
        "constant": lambda views: np.zeros(len(loss(views))),
        "failing": lambda views: 1 / 0,
        "infinite": lambda views: np.where(loss(views) > np.median(loss(views)), np.inf, -np.inf),
    }
    for name, score in odd.items():
        monkeypatch.setitem(ATTACKS._entries, name, Attack(name, score, ("target",), "nowhere", "Odd.", "1 F"))

    def run(headline, *names):
        sides = ("--members", "members.jsonl", "--nonmembers", "nonmembers.jsonl")
        flags = [word for name in names for word in ("--attacks", name)]
        code, _, err = command(
            "audit", adapter, *sides, *flags, "--headline", headline, "--resamples", 100, "-q", "-o", "odd"
        )
        assert code == (7 if "failing" in (headline, *names) else 0), err
        return json.loads(Path("odd", "result.json").read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize("headline", ["undefined", "partly_undefined", "constant", "failing"])
def test_undefined_numbers_are_written_as_the_schema_says_recomputed_and_shown(headline, odd_audit, command):
    result = odd_audit(headline, "undefined", "partly_undefined", "constant", "failing", "loss")
    status = {attack["name"]: attack["status"] for attack in result["membership"]["attacks"]}
    assert (status["undefined"], status["failing"]) == ("ok", "error")
    assert problems("result", result) == []
    code, out, _ = command("verify", "odd")
    assert code == 0, out
    for format_ in FORMATS:
        assert command("report", "odd", "--format", format_)[0] == 0


def test_infinite_scores_are_no_reason_to_warn(odd_audit):
    odd_audit("loss", "infinite")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinite_scores_are_written_as_the_schema_says(odd_audit, command):
    result = odd_audit("infinite", "loss")
    assert problems("result", result) == []
    assert command("verify", "odd")[0] == 0


# --- report -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", list(FORMATS))
@pytest.mark.parametrize("name", ["a", "rich"])
def test_every_format_is_printed_or_written_the_same(format_, name, desk, command):
    before = {path.name: path.read_bytes() for path in (desk / name).iterdir()}
    code, out, err = command("report", name, "--format", format_)
    assert (code, err) == (0, "")
    assert out == FORMATS[format_](read_run(desk / name))
    code, said, _ = command("report", name, "--format", format_, "--output", "written")
    assert (code, said) == (0, "")
    assert (desk / "written").read_text(encoding="utf-8") == out
    assert (desk / "written").stat().st_mode & 0o077 == 0
    assert {path.name: path.read_bytes() for path in (desk / name).iterdir()} == before, "only what was asked for"


def test_the_page_and_the_result_printed_are_those_of_the_run_folder(desk, command):
    assert command("report", "a", "-f", "html")[1] == (desk / "a" / "report.html").read_text(encoding="utf-8")
    assert command("report", "a", "-f", "json")[1] == (desk / "a" / "result.json").read_text(encoding="utf-8")
    assert command("report", "a", "--json")[1] == (desk / "a" / "result.json").read_text(encoding="utf-8")


def test_an_output_without_a_format_and_an_unknown_format_are_refused(desk, command):
    code, _, err = command("report", "a", "--output", "page")
    assert code == 2
    assert "--output needs a format. Expected --format html, json, junit, markdown or model-card." in err
    code, _, err = command("report", "a", "--format", "pdf")
    assert code == 2
    assert all(name in err for name in FORMATS)
    assert not (desk / "page").exists()


def test_an_output_that_cannot_be_written_is_refused_by_path(desk, command):
    code, _, err = command("report", "a", "--format", "json", "--output", "no/such/folder/result.json")
    assert code == 5
    assert "no/such/folder/result.json' " in err
