"""The command line on tiny real models, in this process where nothing is lost by it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit.membership import ATTACKS, needed_models

BUILT_IN = sorted(
    name
    for name, entry in ATTACKS.items()
    if not name.startswith("plugin_") and len(needed_models([entry])) == len(entry.needs)
)


def sides(record_files):
    return "--members", record_files[0], "--nonmembers", record_files[1]


def quick(record_files):
    return *sides(record_files), "--resamples", 100, "-q"


@pytest.mark.parametrize(
    "kind",
    [
        "adapter",
        "full",
        pytest.param("head_only", marks=pytest.mark.slow),
        pytest.param("last_layer", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_target_gives_a_whole_run_folder(kind, command, base, record_files, request, tmp_path):
    target = request.getfixturevalue(kind)
    code, out, err = command("audit", target, "--base", base, *quick(record_files), "-o", tmp_path / "run")
    assert code == 0, err
    assert "error_zone *" in out
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert names == {"spec.json", "result.json", "scores.parquet", "identity.parquet", "report.html", "log.jsonl"}
    scores = pq.read_table(run / "scores.parquet")
    expected = ["id", "source", "line", "is_member", "group", "n_tokens", "n_windows", "status", "subgroup", "n_copies"]
    assert scores.column_names[: len(expected)] == expected
    others = [name for name in scores.column_names if "." in name]
    assert {name.split(".")[0] for name in others} == {"blind", "control", "overlap"}
    assert sorted(set(scores.column_names) - {*expected, *others, "plugin_median"}) == BUILT_IN
    assert scores.num_rows == 120
    assert set(scores.column("status").to_pylist()) == {"ok"}
    assert not np.isnan(scores.column("error_zone").to_numpy()).any()
    for path in run.iterdir():
        assert path.stat().st_mode & 0o077 == 0, f"{path.name} can be read by others"


def test_json_is_the_result_file_and_nothing_else(command, adapter, base, record_files, tmp_path):
    code, out, err = command("audit", adapter, *quick(record_files), "--json", "-o", tmp_path / "run")
    assert code == 0
    assert err == ""
    assert json.loads(out) == json.loads((tmp_path / "run" / "result.json").read_text())


def test_same_command_again_scores_nothing_and_gives_the_same_scores(command, full, base, record_files, tmp_path):
    words = ("audit", full, "--base", base, *quick(record_files), "-o", tmp_path / "run", "--json")
    _, first, _ = command(*words)
    before = (tmp_path / "run" / "scores.parquet").read_bytes()
    code, second, _ = command(*words)
    assert code == 0
    first, second = json.loads(first), json.loads(second)
    assert first["scoring"]["records_scored"] == 120
    assert second["scoring"]["records_scored"] == 0
    assert second["scoring"]["tokens"] == 0
    assert (tmp_path / "run" / "scores.parquet").read_bytes() == before
    for found in (first, second):
        for attack in found["membership"]["attacks"]:
            attack.pop("seconds")
            for finding in attack["findings"].values():
                finding.pop("seconds")
    assert first["membership"] == second["membership"]


def test_another_request_in_the_same_folder_is_refused_with_the_difference(command, adapter, record_files, tmp_path):
    command("audit", adapter, *quick(record_files), "-o", tmp_path / "run")
    code, _, err = command("audit", adapter, *quick(record_files), "-o", tmp_path / "run", "--seed", 3)
    assert code == 2
    assert "holds another audit" in err
    assert "seed: 0 → 3" in err


def test_flags_win_over_the_spec_file(command, adapter, record_files, tmp_path):
    spec = tmp_path / "audit.toml"
    spec.write_text(
        f'model = "{adapter}"\nmembers = "{record_files[0]}"\nnonmembers = ["{record_files[1]}"]\n'
        'resamples = 150\nheadline = "loss"\nmax-records = 20\n'
    )
    code, out, _ = command("audit", "--spec", spec, "--resamples", 120, "--json")
    assert code == 0
    resolved = json.loads(out)["spec"]
    assert (resolved["resamples"], resolved["headline"], resolved["max_records"]) == (120, "loss", 20)


def test_the_default_run_folder_is_named_by_the_spec(command, adapter, record_files, tmp_path):
    code, out, _ = command("audit", adapter, *quick(record_files), "--json")
    assert code == 0
    assert (tmp_path / "runs" / f"audit-{json.loads(out)['spec_hash'][:12]}" / "report.html").exists()
    assert (tmp_path / "runs" / ".loraudit" / "evidence").is_dir()


def test_dry_run_scores_nothing(command, full, base, record_files, tmp_path):
    words = ("audit", full, "--base", base, *quick(record_files), "-o", tmp_path / "run")
    code, out, _ = command(*words, "--dry-run")
    assert code == 0
    assert "60 members, 60 non-members; 0 of them already scored" in out
    assert "With 60 member and 60 non-member records an AUC of 0.648 or more is seen" in out
    assert not (tmp_path / "run").exists(), "a dry run leaves nothing behind"
    command(*words)
    code, out, _ = command(*words, "--dry-run", "--json")
    estimate = json.loads(out)
    assert estimate["n_cached"] == 120
    assert estimate["n_tokens"] == estimate["n_units"] == 0


def test_an_unresolvable_default_rate_is_a_line_and_an_asked_one_an_error(command, adapter, record_files):
    code, out, _ = command("audit", adapter, *quick(record_files))
    assert code == 0
    assert "Cannot state TPR at 0.1 % FPR from 60 non-members" in out
    code, _, err = command("audit", adapter, *quick(record_files), "--fpr", 0.001)
    assert code == 2
    assert "Cannot state TPR at 0.1 % FPR from 60 non-members" in err


def test_without_a_base_attacks_on_the_target_alone_still_run(command, full, record_files):
    code, _, err = command("audit", full, *quick(record_files))
    assert code == 2
    assert "needs a reference" in err
    assert "--base" in err
    code, out, _ = command("audit", full, *quick(record_files), "--headline", "min_k_plus_plus", "--json")
    assert code == 0
    status = {a["name"]: a["status"] for a in json.loads(out)["membership"]["attacks"]}
    assert status["loss"] == "ok"
    assert status["error_zone"] == "not_measured"


def test_every_mistake_in_the_request_is_said_at_once(command, adapter, tmp_path):
    code, _, err = command(
        "audit", adapter, "--members", "no.jsonl", "--nonmembers", "nor.jsonl", "--attacks", "mink", "--headline", "los"
    )
    assert code == 2
    assert "Unknown attack 'mink'. Did you mean 'min_k'?" in err
    assert "Unknown attack 'los'. Did you mean 'loss'?" in err
    assert "File 'no.jsonl' does not exist" in err
    assert "File 'nor.jsonl' does not exist" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--fpr", 2), "'fpr' has the value 2.0. Expected less than or equal to 1"),
        (("--resamples", 5), "'resamples' has the value 5. Expected greater than or equal to 100"),
        (("--span", "some"), "'span' has the value 'some'. Expected 'trained' or 'all'"),
        (("--device", "tpu"), "Device 'tpu' is not known"),
        (("--max-length", 4096), "longer than the model's context of 64 tokens"),
        (("--max-length", 16, "--stride", 16), "Stride 16 is out of range"),
    ],
)
def test_a_bad_value_names_its_flag_and_the_allowed_range(flags, message, command, adapter, record_files):
    code, _, err = command("audit", adapter, *quick(record_files), *flags)
    assert code == 2
    assert message in err


def test_unusable_data_and_models_have_their_own_exit_codes(command, adapter, base, record_files, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{broken\n{"body": "no text"}\n')
    code, _, err = command("audit", adapter, "--members", bad, "--nonmembers", record_files[1])
    assert code == 3
    assert "bad.jsonl:2" in err
    assert "bad.jsonl:3" in err
    code, _, err = command("audit", tmp_path / "nothing", *quick(record_files))
    assert code == 4
    assert "does not exist" in err
    code, _, err = command("audit", "some-org/some-model", *quick(record_files), "--offline")
    assert code == 5
    assert "hf download some-org/some-model" in err


def test_a_failing_plug_in_is_reported_and_the_rest_finishes(command, adapter, record_files, monkeypatch):
    from loraudit.membership import Attack

    def fail(views):
        raise ValueError("cannot be computed")

    broken = Attack("broken", fail, ("target",), "nowhere", "always fails", "1 F")
    monkeypatch.setitem(ATTACKS._entries, "broken", broken)
    code, out, _ = command("audit", adapter, *quick(record_files), "--json")
    assert code == 7
    attacks = {a["name"]: a for a in json.loads(out)["membership"]["attacks"]}
    assert attacks["broken"]["status"] == "error"
    assert "cannot be computed" in attacks["broken"]["reason"]
    assert attacks["error_zone"]["status"] == "ok"


def test_an_installed_package_adds_an_attack(command, adapter, record_files):
    code, out, _ = command("attacks", "--json")
    assert code == 0
    assert "plugin_median" in {attack["name"] for attack in json.loads(out)}
    code, out, _ = command("audit", adapter, *quick(record_files), "--headline", "plugin_median", "--json")
    assert code == 0
    assert json.loads(out)["membership"]["headline"] == "plugin_median"


def test_report_renders_again_from_result_and_scores_alone(command, adapter, record_files, tmp_path):
    command("audit", adapter, *quick(record_files), "-o", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    for name in ("report.html", "spec.json", "log.jsonl", "identity.parquet"):
        (tmp_path / "run" / name).unlink()
    code, out, _ = command("report", tmp_path / "run")
    assert code == 0
    assert "error_zone *" in out
    assert (tmp_path / "run" / "report.html").read_text() == page
    code, _, err = command("report", tmp_path)
    assert code == 2
    assert "holds no run. Expected an audit, contrast, robustness run, forecast, influence run, search for" in err


def test_no_record_text_reaches_any_output(command, adapter, record_files, tmp_path, texts):
    code, out, err = command("audit", adapter, *sides(record_files), "--resamples", 100, "-o", tmp_path / "run")
    assert code == 0
    outputs = [out, err, *(path.read_bytes().decode("utf-8", "replace") for path in (tmp_path / "run").iterdir())]
    pieces = [text[start : start + 24] for text in texts for start in range(0, len(text) - 24, 24)]
    assert not [piece for piece in pieces for output in outputs if piece in output]


def test_interval_and_group_of_documents(command, adapter, texts, tmp_path):
    for name, rows in (("m", texts[:60]), ("n", texts[60:])):
        lines = [json.dumps({"text": row, "doc": f"{name}{i // 6}"}) for i, row in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    code, out, _ = command(
        "audit", adapter, "--members", "m.jsonl", "--nonmembers", "n.jsonl", "--group-field", "doc", "-q", "--json"
    )
    assert code == 0
    result = json.loads(out)
    assert result["members"]["n_groups"] == 10
    assert "clustered by group" in result["membership"]["attacks"][0]["findings"]["auc"]["method"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow  # tests/faults/test_fault_kill.py kills runs by default
def test_a_run_stopped_while_scoring_goes_on_to_the_same_scores(sent, base, full, record_files, tmp_path):
    """SIGTERM ends with exit 130 after the batch, SIGKILL at once; the same command then finishes."""
    words = ["audit", full, "--base", base, *quick(record_files), "--batch-tokens", 64, "-o"]
    environment = {**os.environ, "LORAUDIT_HOME": str(tmp_path / "home")}

    def start(run):
        return subprocess.Popen(
            [sys.executable, "-m", "loraudit", *map(str, words), str(run)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    process = start(tmp_path / "a" / "run")
    evidence = tmp_path / "a" / ".loraudit" / "evidence"
    deadline = time.monotonic() + 60
    while not list(evidence.glob("*/*.unit")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been faster than the signal
        assert process.returncode == (130 if sent == signal.SIGTERM else -sent), err
        assert sent == signal.SIGKILL or "run the same command again" in err
        assert not (tmp_path / "a" / "run" / "result.json").exists()
    for run in (tmp_path / "a" / "run", tmp_path / "b" / "run"):
        process = start(run)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len({(tmp_path / name / "run" / "scores.parquet").read_bytes() for name in ("a", "b")}) == 1
