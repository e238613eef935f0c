"""`loraudit score`: what it refuses and says at once, its flags, its dry run, its output and exit codes."""

from __future__ import annotations

import inspect
import json

import pytest

from loraudit.bulk import estimate_score, exit_code, run_score
from loraudit.bulk.columns import statistic_names
from loraudit.cli.options import flag
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.membership import ATTACKS
from loraudit.spec import AuditSpec, ScoreResult, ScoreSpec, make_request, spec_hash

SHARED = ("model", "base", "span", "append_eos", "max_length", "stride", "batch_tokens", "offline", "allow_pickle")


@pytest.fixture
def asked(adapter, record_files, tmp_path):
    """A small request by names of fields."""

    def make(**changes) -> ScoreSpec:
        values = {"model": str(adapter), "records": [str(record_files[0])], "out": str(tmp_path / "run")}
        return make_request(ScoreSpec, {**values, "batch_tokens": 512, "attacks": ["loss", "error_zone"], **changes})

    return make


# --- the request --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARED)
def test_fields_of_an_audit_have_its_defaults_limits_and_words(name):
    ours, theirs = ScoreSpec.model_fields[name], AuditSpec.model_fields[name]
    assert (ours.default, ours.description, ours.metadata) == (theirs.default, theirs.description, theirs.metadata)
    assert ours.annotation == theirs.annotation


@pytest.mark.parametrize(
    ("field", "value", "is_another"),
    [
        ("workers", 4, False),
        ("engine", "ray", False),
        ("shard", "1/4", False),
        ("on_bad_record", "skip", False),
        ("device", "cpu", False),
        ("store", "elsewhere", False),
        ("records_per_unit", 100, True),
        ("keep_evidence", True, True),
        ("precision", "bf16", True),
        ("attacks", ["loss"], True),
        ("span", "all", True),
    ],
)
def test_what_is_asked_is_told_from_how_it_is_carried_out(field, value, is_another, asked):
    assert (spec_hash(asked(**{field: value})) != spec_hash(asked())) == is_another


def test_every_field_of_a_score_is_a_flag_with_words():
    from loraudit.cli.score import score

    parameters = inspect.signature(score).parameters
    assert set(parameters) - {"spec", "dry_run", "as_json", "quiet"} == set(ScoreSpec.model_fields)
    for name, field in ScoreSpec.model_fields.items():
        assert field.description
        assert parameters[name].default is None, f"{flag(name)} has a default of its own"


def test_all_that_is_wrong_with_a_request_is_said_at_once(asked, record_files):
    path = str(record_files[0])
    attacks = ["gradient_norm", "lira_offline", "neighbourhood", "mink"]
    request = asked(
        records=["none.jsonl", path, path], attacks=attacks, device="cuda:0,cuda:1", max_length=8, stride=9, shard="3/2"
    )
    with pytest.raises(ConfigError) as caught:
        run_score(request)
    lines = str(caught.value).splitlines()
    assert lines[0] == "File 'none.jsonl' does not exist. Expected records; check the path."
    assert lines[1] == f"File '{path}' is given twice. Expected each once. Leave one out."
    for attack, line in zip(attacks[:3], lines[2:5], strict=True):
        assert line.startswith(f"Attack '{attack}' needs more than what target and base say of a record (")
        assert line.endswith("Leave it out, or audit a sample of the records with: loraudit audit")
    assert lines[5].startswith("Unknown attack 'mink'. Did you mean 'min_k'?")
    assert lines[6].startswith("Device 'cuda:0,cuda:1' is a list. Expected one device, of every worker.")
    assert lines[7] == "Stride 9 is out of range. Expected less than --max-length 8."
    assert "Shard '3/2' is no part of a whole" in lines[8]
    with pytest.raises(ConfigError, match=r"none\.jsonl"):
        estimate_score(request)


def test_an_attack_that_learns_from_other_records_is_refused_by_name(asked, monkeypatch):
    from loraudit.membership import FittedAttack

    fitted = FittedAttack("learning", lambda _: lambda views: views.target.log_prob[:, 0], ("target",), "", "", "1 F")
    monkeypatch.setitem(ATTACKS._entries, "learning", fitted)
    with pytest.raises(ConfigError, match=r"'learning' learns from the other records first.*how the records are cut"):
        run_score(asked(attacks=["learning"]))


def test_without_a_base_attacks_that_need_one_are_refused_if_asked_for_and_left_out_if_not(asked, full, tmp_path):
    with pytest.raises(ConfigError, match=r"Attack 'error_zone' needs a reference, and no base of .* is known"):
        run_score(asked(model=str(full)))
    result = run_score(asked(model=str(full), attacks=[], out=str(tmp_path / "all"))).result
    names = [column.name for column in result.columns]
    assert names[:3] == list(statistic_names(["target"]))
    assert {"loss", "min_k"} <= set(names)
    assert "error_zone" not in names
    assert any("No base of" in warning for warning in result.warnings)


def test_a_window_longer_than_the_context_is_refused(asked):
    with pytest.raises(ConfigError, match="Window length 65 is longer than the model's context of 64 tokens"):
        run_score(asked(max_length=65))


def test_a_model_that_is_none_is_refused_before_any_record_is_read(asked, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{")
    with pytest.raises(ModelError):
        run_score(asked(model=str(tmp_path), records=[str(bad)]))


def test_a_folder_of_another_request_is_refused_with_the_difference(asked):
    run_score(asked())
    with pytest.raises(ConfigError, match=r"holds another score\.(.|\n)*records_per_unit: None → 7"):
        run_score(asked(records_per_unit=7))


def test_records_of_which_none_can_be_scored_are_an_error(asked, tmp_path):
    path = tmp_path / "short.jsonl"
    path.write_text('{"text": ""}\n{"text": ""}\n', encoding="utf-8")
    request = asked(records=[str(path)])
    with pytest.raises(DataError, match="None of the 2 records could be scored: 2 no_tokens"):
        run_score(request)
    with pytest.raises(DataError, match="None of the 2 records could be scored"):  # nor when the parts are there
        run_score(request)
    assert not (tmp_path / "run" / "result.json").exists()


# --- the command --------------------------------------------------------------------------------------


def test_a_score_dry_run_counts_and_begins_nothing(command, adapter, record_files, tmp_path):
    words = ("score", adapter, "--records", record_files[0], "--records", record_files[1], "--batch-tokens", 512)
    code, out, err = command(*words, "--records-per-unit", 50, "--workers", 2, "--dry-run", "-o", "run")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("120 records; ")
    assert "95 % interval from 120 records; seen by target and reference." in lines[0]
    assert lines[1].startswith("3 parts of at most 50 records and about 0.0")
    assert "2 at once" in lines[2]
    assert "GiB of memory per worker" in lines[2]
    assert list(tmp_path.iterdir()) == []
    code, out, _ = command(*words, "--dry-run", "--keep-evidence", "--json", "-o", "run")
    facts = json.loads(out)
    assert (facts["n_records"], facts["n_units"], facts["n_workers"]) == (120, 1, 1)
    assert facts["n_tokens_lower"] == facts["n_tokens"] == facts["n_tokens_upper"], "all records were counted"
    assert facts["evidence_bytes"] == 36 * facts["n_tokens"]


def test_the_tokens_of_a_dry_run_come_with_an_interval_that_holds_the_count(asked, monkeypatch):
    from loraudit.bulk import estimate

    count = estimate_score(asked()).n_tokens
    monkeypatch.setattr(estimate, "SAMPLE_RECORDS", 20)
    cost = estimate_score(asked())
    assert cost.n_sampled == 20
    assert cost.n_tokens_lower < count < cost.n_tokens_upper
    assert cost.n_tokens_lower < cost.n_tokens < cost.n_tokens_upper


def test_a_score_as_json_is_the_result_and_nothing_else(command, adapter, record_files):
    words = ("score", adapter, "--records", record_files[0], "--attacks", "loss", "-o", "run")
    code, out, _ = command(*words, "--json")
    assert code == 0
    assert ScoreResult.model_validate_json(out).kind == "score"
    code, out, _ = command(*words)
    assert code == 0
    assert out.splitlines()[:2] == [
        "60 records scored",
        "60 of 60 records have scores under target and reference.",
    ]
    assert "Scores: run/scores (1 part, " in out
    assert "per second" not in out, "nothing was done"


def test_a_shard_says_what_is_left_to_others(command, adapter, record_files):
    words = ("score", adapter, "--records", record_files[0], "--attacks", "loss", "--records-per-unit", 20, "-o", "run")
    code, out, _ = command(*words, "--shard", "2/3", "-q")
    assert code == 0
    assert out.startswith("1 of 3 parts are there; the others are other shards'. Run the same command without --shard")
    code, out, _ = command(*words, "--shard", "1/3", "--json")
    assert json.loads(out) == {"path": "run", "n_parts": 2, "n_units": 3}
    code, out, _ = command(*words, "-q")
    assert code == 0
    assert out.startswith("60 records scored")


def test_a_score_spec_file_gives_what_flags_do_not(command, adapter, record_files, tmp_path):
    (tmp_path / "asked.toml").write_text(
        f'model = "{adapter}"\nrecords = "{record_files[0]}"\nattacks = ["loss"]\nrecords-per-unit = 30\n'
    )
    code, out, err = command("score", "--spec", "asked.toml", "--records-per-unit", 20, "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["n_units"] == 3


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        ({"ok": 1000}, None, 0),
        ({"ok": 500, "no_tokens": 500}, None, 0),
        ({"ok": 990, "nonfinite": 10}, None, 0),
        ({"ok": 989, "nonfinite": 11}, None, 7),
        ({"ok": 989, "out_of_memory": 11}, None, 7),
        ({"ok": 1000}, "ValueError: no", 7),
    ],
)
def test_the_exit_code_says_whether_a_part_is_missing(status, error, code, asked):
    result = run_score(asked()).result
    column = result.columns[-1].model_copy(update={"error": error})
    changed = result.model_copy(update={"status": status, "n_records": 1000, "columns": [column]})
    assert exit_code(changed) == code
