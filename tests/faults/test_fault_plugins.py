"""Attacks of strangers that raise, hang, return nonsense or cannot be loaded: reported, and nobody else pays for it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit.auditing import run_audit
from loraudit.membership import ATTACKS, Attack
from loraudit.report import FORMATS
from loraudit.spec import AuditSpec

TIMEOUT = 0.5
OTHERS = ("error_zone", "loss", "min_k_plus_plus", "calibrated_zlib")


def n_records(views):
    return len(views.target.log_prob)


@pytest.fixture
def over():
    """An event that is set when the test ends, so that what hangs does not hang on."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def plug_in(monkeypatch):
    """Register a score function as the attack `stranger`."""

    def register(score, name="stranger", needs=("target",)):
        made = Attack(name, score, needs, "Somebody 2024", "What a stranger wrote.", "1 F")
        monkeypatch.setitem(ATTACKS._entries, name, made)

    return register


@pytest.fixture
def run(command, adapter, record_files, tmp_path):
    """Audit with some attacks, the stranger among them where it is registered: exit code, standard output, result."""

    def audited(*words, out="run", attacks=OTHERS):
        chosen = [*attacks, *(["stranger"] if "stranger" in ATTACKS._entries else [])] if attacks else []
        flags = [word for name in chosen for word in ("--attacks", name)]
        began = time.monotonic()
        code, shown, err = command(
            "audit", adapter, "--members", record_files[0], "--nonmembers", record_files[1], *flags, *words,
            "--max-records", 25, "--resamples", 100, "-q", "-o", tmp_path / out,
        )  # fmt: skip
        assert "Traceback" not in err, err
        assert time.monotonic() - began < 60
        return code, shown, json.loads((tmp_path / out / "result.json").read_text(encoding="utf-8"))

    return audited


def timeless(attack):
    findings = {name: {**found, "seconds": 0} for name, found in attack["findings"].items()}
    return {**attack, "seconds": 0, "findings": findings}


def assert_others_are_as_without_it(run, tmp_path, monkeypatch, result):
    """The same audit without the stranger gives the others the same scores and the same findings."""
    monkeypatch.delitem(ATTACKS._entries, "stranger")
    code, _, alone = run(out="alone")
    assert code == 0
    ours, theirs = (pq.read_table(tmp_path / folder / "scores.parquet") for folder in ("run", "alone"))
    attacks = {attack["name"]: timeless(attack) for attack in result["membership"]["attacks"]}
    for attack in alone["membership"]["attacks"]:
        name = attack["name"]
        assert ours.column(name).equals(theirs.column(name)), name
        assert attacks[name]["status"] == "ok"
        assert attacks[name] == timeless(attack)
    assert result["validity"] == alone["validity"]
    assert result["membership"]["records"]["n_exposed"] == alone["membership"]["records"]["n_exposed"]


# --- raises, or returns what is no score --------------------------------------------------------------


def raises(views):
    raise ValueError("cannot be computed")


def raises_on_some_lengths(views):
    if views.target.log_prob.shape[1] % 2:
        raise KeyError("odd")
    return np.zeros(n_records(views))


def runs_out_of_stack(views):
    return runs_out_of_stack(views)


def returns_nothing(views):
    return None


def returns_one_number(views):
    return 0.5


def returns_columns(views):
    return np.zeros((n_records(views), 1))


def returns_one_too_many(views):
    return np.zeros(n_records(views) + 1)


def returns_words(views):
    return ["member"] * n_records(views)


def returns_pairs_of_unequal_length(views):
    return [[0.0] * (i + 1) for i in range(n_records(views))] if n_records(views) > 1 else [[0.0, 1.0]]


FAULTS = {
    raises: "ValueError: cannot be computed",
    raises_on_some_lengths: "KeyError: 'odd'",
    runs_out_of_stack: "RecursionError: maximum recursion depth exceeded",
    returns_nothing: "returned shape (), expected (",
    returns_one_number: "returned shape (), expected (",
    returns_columns: "1), expected (",
    returns_one_too_many: "returned shape (",
    returns_words: "ValueError: could not convert string to float: 'member'",
    returns_pairs_of_unequal_length: "ValueError: ",
}


# --- row 31: plug-ins ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score",
    FAULTS,
    ids=[score.__name__.replace("_", " ") for score in FAULTS],
)
def test_an_attack_that_gives_no_scores_is_an_error_with_its_reason(score, run, plug_in, tmp_path):
    plug_in(score)
    code, out, result = run(attacks=OTHERS[:1])
    attacks = {attack["name"]: attack for attack in result["membership"]["attacks"]}
    assert code == 7
    assert (attacks["stranger"]["status"], attacks["stranger"]["findings"]) == ("error", {})
    assert FAULTS[score] in attacks["stranger"]["reason"]
    assert attacks["error_zone"]["status"] == "ok"
    assert np.isnan(pq.read_table(tmp_path / "run" / "scores.parquet").column("stranger").to_numpy()).all()
    assert result["verdict"]["is_partial"]
    assert "Partial: the attack " in out


@pytest.mark.parametrize("score", [raises_on_some_lengths, returns_columns], ids=lambda s: s.__name__)
def test_the_others_have_the_scores_they_have_without_the_one_that_fails(score, run, plug_in, tmp_path, monkeypatch):
    plug_in(score)
    code, _, result = run()
    assert code == 7
    assert_others_are_as_without_it(run, tmp_path, monkeypatch, result)


def writes_to_its_input(views):
    views.target.log_prob[:] = 0
    return np.zeros(n_records(views))


def test_an_attack_that_writes_to_its_input_changes_no_other_ones(run, plug_in, tmp_path, monkeypatch):
    plug_in(writes_to_its_input)
    run("--headline", "stranger")
    monkeypatch.delitem(ATTACKS._entries, "stranger")
    run(out="alone")
    ours, theirs = (pq.read_table(tmp_path / name / "scores.parquet") for name in ("run", "alone"))
    assert [name for name in OTHERS if not ours.column(name).equals(theirs.column(name))] == []


# --- hangs --------------------------------------------------------------------------------------------


def waits(over):
    def score(views):
        over.wait(60)
        return np.zeros(n_records(views))

    return score


def sleeps(over):
    def score(views):
        for _ in range(600):
            time.sleep(0.1)
            if over.is_set():
                break
        return np.zeros(n_records(views))

    return score


def spins(over):
    def score(views):
        while not over.is_set():
            pass
        return np.zeros(n_records(views))

    return score


def dawdles(over):
    """Never long at once, too long in all."""

    def score(views):
        time.sleep(0.1)
        return np.zeros(n_records(views))

    return score


def leaves(over):
    def score(views):
        sys.exit(0)

    return score


@pytest.mark.parametrize("hang", [waits, sleeps, spins, dawdles], ids=lambda hang: hang.__name__)
def test_an_attack_that_hangs_is_left_behind_and_the_others_finish(hang, over, run, plug_in, tmp_path, monkeypatch):
    plug_in(hang(over))
    code, out, result = run("--attack-timeout", TIMEOUT)
    over.set()
    attacks = {attack["name"]: attack for attack in result["membership"]["attacks"]}
    assert code == 7, out
    assert attacks["stranger"]["status"] == "error"
    assert attacks["stranger"]["reason"] == f"gave no result within {TIMEOUT:g} s"
    assert_others_are_as_without_it(run, tmp_path, monkeypatch, result)


def test_an_attack_that_ends_the_program_is_an_error_at_once(over, run, plug_in):
    plug_in(leaves(over))
    code, _, result = run("--attack-timeout", TIMEOUT)
    assert code == 7
    assert "SystemExit" in result["membership"]["attacks"][-1]["reason"]


def test_a_headline_that_hangs_is_no_verdict(over, run, plug_in):
    plug_in(waits(over))
    code, out, result = run("--attack-timeout", TIMEOUT, "--headline", "stranger")
    assert code == 7
    assert result["verdict"]["level"] == "unknown"
    assert f"The headline attack stranger gave no result: gave no result within {TIMEOUT:g} s." in out


def test_a_limit_on_an_attack_that_fails_is_not_measured_and_fails(run, plug_in):
    plug_in(raises)
    code, out, result = run("--fail-on", "membership.stranger.auc.value > 0.99")
    assert code == 1
    assert [limit["status"] for limit in result["verdict"]["limits"]] == ["not_measured"]
    assert "the attack stranger is error: ValueError: cannot be computed; what is not measured fails" in out


# --- in every format ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failed(adapter, record_files, tmp_path_factory):
    """Run folder of an audit in which one attack failed."""
    folder = tmp_path_factory.mktemp("failed")
    stranger = Attack("stranger", raises, ("target",), "Somebody 2024", "What a stranger wrote.", "1 F")
    request = AuditSpec(
        model=str(adapter),
        members=str(record_files[0]),
        nonmembers=str(record_files[1]),
        attacks=("stranger", "error_zone"),
        max_records=25,
        resamples=100,
        out=str(folder / "run"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(folder / "home"))
        patch.setitem(ATTACKS._entries, "stranger", stranger)
        return run_audit(request).path


@pytest.mark.parametrize("format_", FORMATS)
def test_the_reason_why_an_attack_failed_stands_in_every_format(format_, failed, command):
    code, out, _ = command("report", failed, "--format", format_)
    assert code == 0
    assert "stranger" in out
    assert "ValueError: cannot be computed" in out


def test_the_terminal_names_the_attack_that_failed_and_says_why_when_asked(failed, command):
    code, out, _ = command("report", failed)
    assert code == 0, "the report is whole, whatever the audit was"
    assert "Not measured: stranger (-v says why)." in out
    assert "error: ValueError: cannot be computed" in command("report", failed, "-v")[1]


# --- cannot be loaded ---------------------------------------------------------------------------------

MODULE = """
import numpy as np
from loraudit import Attack

def score(views):
    return np.zeros(len(views.target.log_prob))

fine = Attack("fine", score, ("target",), "nowhere", "Fine.", "1 F")
loss = Attack("loss", score, ("target",), "nowhere", "Not the loss.", "1 F")
misnamed = Attack("another", score, ("target",), "nowhere", "Misnamed.", "1 F")
number = 7
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package, as far as Python can tell, whose entry points are these; the registry reads them anew."""

    def install(**points):
        site = tmp_path / "site"
        (site / "stranger-1.0.dist-info").mkdir(parents=True)
        (site / "stranger-1.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n"
        )
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (site / "stranger-1.0.dist-info" / "entry_points.txt").write_text(f"[loraudit.attacks]\n{lines}\n")
        (site / "stranger_fine.py").write_text(MODULE)
        (site / "stranger_broken.py").write_text("raise RuntimeError('not on this machine')\n")
        (site / "stranger_syntax.py").write_text("def f(:\n")
        (site / "stranger_lacking.py").write_text("import a_package_that_nobody_has\n")
        monkeypatch.syspath_prepend(site)
        built_in = {name: attack for name, attack in ATTACKS._entries.items() if not name.startswith("plugin_")}
        for name, value in (("_entries", built_in), ("broken", {}), ("_is_loaded", False)):
            monkeypatch.setattr(ATTACKS, name, value)

    yield install
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]


BROKEN = {
    "module": ("stranger_broken:attack", "RuntimeError: not on this machine"),
    "syntax": ("stranger_syntax:attack", "SyntaxError: "),
    "lacking": ("stranger_lacking:attack", "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
    "gone": ("stranger_gone:attack", "ModuleNotFoundError: No module named 'stranger_gone'"),
    "attribute": ("stranger_fine:missing", "AttributeError: "),
    "number": ("stranger_fine:number", "it is an int, not a loraudit.Attack"),
    "misnamed": ("stranger_fine:misnamed", "the attack calls itself 'another'"),
    "loss": ("stranger_fine:loss", "ConfigError: The attack name 'loss' is registered twice."),
}


def test_attacks_that_cannot_be_loaded_or_take_a_taken_name_are_reported_and_the_rest_finishes(
    installed, run, command, tmp_path
):
    before = run(attacks=())[2]
    installed(fine="stranger_fine:fine", **{name: value for name, (value, _) in BROKEN.items()})
    code, _, result = run(attacks=(), out="with")
    assert code == 7
    attacks = {attack["name"]: attack for attack in result["membership"]["attacks"]}
    for name, (value, reason) in BROKEN.items():
        found = attacks[f"{name} = {value}"]
        assert found["status"] == "error"
        assert found["reason"].startswith(f"could not be loaded: {reason}"), found["reason"]
    assert attacks["fine"]["status"] == "ok"
    assert attacks["loss"]["summary"] != "Not the loss.", "the name stays with whom it belongs to"
    ours, theirs = (pq.read_table(tmp_path / folder / "scores.parquet") for folder in ("with", "run"))
    for attack in before["membership"]["attacks"]:
        if attack["name"] in attacks:
            assert ours.column(attack["name"]).equals(theirs.column(attack["name"]))
    for format_ in ("html", "json", "markdown"):
        assert "not on this machine" in command("report", tmp_path / "with", "--format", format_)[1]
    code, out, err = command("attacks")
    assert code == 0
    assert "fine" in out
    for name, (value, reason) in BROKEN.items():
        assert f"Could not be loaded: {name} = {value}: {reason}" in err
    code, out, _ = command("doctor")
    assert code == 0
    assert "warning attacks: " in out
    assert "could not be loaded: " in out


def test_who_names_the_attacks_is_not_troubled_by_one_that_cannot_be_loaded(installed, run, command):
    installed(module="stranger_broken:attack")
    code, _, result = run(attacks=OTHERS[:2])
    assert code == 0
    assert [attack["name"] for attack in result["membership"]["attacks"]] == list(OTHERS[:2])


def test_an_attack_that_could_not_be_loaded_cannot_be_asked_for(installed, command, adapter, record_files):
    installed(module="stranger_broken:attack")
    sides = ("--members", record_files[0], "--nonmembers", record_files[1])
    code, _, err = command("audit", adapter, *sides, "--attacks", "module")
    assert code == 2
    assert "Unknown attack 'module'." in err
    assert os.linesep.join(err.splitlines()[:1]).startswith("Error: ")
