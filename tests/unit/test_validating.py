"""A spec file is checked as the request of the command that its keys belong to."""

import json
import re

import pytest

from loraudit.errors import ConfigError, DataError, NewerVersion
from loraudit.spec import SCHEMA_VERSION, make_request, spec_content
from loraudit.spec.kinds import REQUESTS, kinds_of
from loraudit.study.validating import validate_spec

NEEDED = {
    "audit": {"model": "m", "members": "m.jsonl", "nonmembers": "n.jsonl"},
    "tune": {"base": "b", "data": "t.jsonl"},
    "contrast": {"base": "b", "data": "t.jsonl"},
    "canaries insert": {"data": "t.jsonl"},
    "canaries score": {"model": "m", "manifest": "canaries.json"},
    "poison": {"data": "t.jsonl", "poison": "rare_words", "dose": 2, "out": "p"},
    "robustness": {"base": "b", "task": "t.jsonl"},
    "forecast": {"base": "b", "task": "t.jsonl"},
    "influence": {"contrast": "c"},
    "scan": {"model": "m"},
    "score": {"model": "m", "records": "t.jsonl"},
    "study": {"name": "s", "grids": [{"name": "g", "run": "audit", "settings": {"model": "m"}}]},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder where commands run, with the files of records that requests name."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"text": f"row {k}", "label": "ab"[k % 2]}) + "\n" for k in range(20))
    for name in ("t.jsonl", "m.jsonl", "n.jsonl"):
        (tmp_path / name).write_text(rows)
    return tmp_path


@pytest.mark.parametrize("command", NEEDED)
def test_a_resolved_request_is_told_from_its_keys_whatever_its_command(command):
    assert REQUESTS.keys() == NEEDED.keys()
    request = make_request(REQUESTS[command], NEEDED[command])
    kind, *others = kinds_of(json.loads(spec_content(request)))
    assert (kind, others) == (REQUESTS[command], [])


@pytest.mark.parametrize(
    ("keys", "commands"),
    [
        (("model", "members", "attaks"), ["audit"]),
        (("grids", "name"), ["study"]),
        (("base", "task", "control_dose"), ["robustness"]),
        (("base", "task", "ranks"), ["forecast"]),
        (("base", "task"), ["robustness", "forecast"]),
        (("contrast",), ["influence"]),
        (("model", "sarif"), ["scan"]),
        (("records", "model"), ["score"]),
        (("manifest",), ["canaries score"]),
    ],
)
def test_a_file_by_hand_is_told_from_the_keys_it_has(keys, commands):
    assert [kind.command for kind in kinds_of(dict.fromkeys(keys, 1))][: len(commands)] == commands


def test_an_audit_goes_first_where_several_have_all_keys():
    assert kinds_of({"model": "m", "base": "b"})[0] is REQUESTS["audit"]
    assert kinds_of({})[0] is REQUESTS["audit"]


@pytest.mark.parametrize("command", ["audit", "contrast", "robustness", "forecast", "scan", "score", "tune", "poison"])
def test_the_spec_of_a_run_is_valid_as_what_it_is(command, place):
    request = make_request(REQUESTS[command], NEEDED[command])
    (place / "spec.json").write_text(spec_content(request))
    assert validate_spec(place / "spec.json") == request


@pytest.mark.parametrize(
    ("command", "changes", "kind", "words"),
    [
        ("robustness", {"methods": ["lora:8", "loar"]}, ConfigError, "loar"),
        ("robustness", {"task": ["gone.jsonl"]}, DataError, "File 'gone.jsonl' does not exist"),
        ("robustness", {"fail_on": ["nonsense"]}, ConfigError, "'nonsense' cannot be read"),
        ("forecast", {"fail_on": ["nonsense"]}, ConfigError, "'nonsense' cannot be read"),
        ("scan", {"fail_on": ["nonsense"]}, ConfigError, "nonsense"),
        ("score", {"records": ["gone.jsonl"]}, ConfigError, "File 'gone.jsonl' does not exist"),
        ("tune", {"data": ["gone.jsonl"]}, ConfigError, "File 'gone.jsonl' does not exist"),
        ("contrast", {"data": ["gone.jsonl"]}, ConfigError, "File 'gone.jsonl' does not exist"),
        ("influence", {}, ConfigError, "Folder 'c' does not exist. Expected a finished contrast"),
    ],
)
def test_names_files_and_limits_are_looked_at(command, changes, kind, words, place):
    resolved = json.loads(spec_content(make_request(REQUESTS[command], NEEDED[command])))
    (place / "spec.json").write_text(json.dumps(resolved | changes))
    with pytest.raises(kind, match=re.escape(words)):
        validate_spec(place / "spec.json")


def test_a_study_is_checked_with_all_its_cells(place):
    text = """name = "s"

[[grids]]
name = "g"
run = "audit"
settings = { model = "m", members = "m.jsonl", nonmembers = "n.jsonl" }
axes = { seed = [0, 1] }

[[published]]
grid = "g"
cell = { seed = 1 }
finding = "f"
value = 0.5
source = "A paper"
"""
    (place / "study.toml").write_text(text)
    spec = validate_spec(place / "study.toml")
    assert (spec.command, spec.published[0].cell) == ("study", {"seed": "1"})
    (place / "study.toml").write_text(text.replace("seed = [0, 1]", "sede = [0, 1]"))
    with pytest.raises(ConfigError, match=r"Grid 'g': Unknown key 'sede'\. Did you mean 'seed'\?"):
        validate_spec(place / "study.toml")
    (place / "study.toml").write_text(text.replace("n.jsonl", "gone.jsonl"))
    with pytest.raises(ConfigError, match=r"File 'gone\.jsonl' does not exist"):
        validate_spec(place / "study.toml")
    (place / "study.toml").write_text(text.replace("seed = 1", "seed = 7"))
    with pytest.raises(ConfigError, match=r"axis 'seed': Unknown label '7'"):
        validate_spec(place / "study.toml")


def test_keys_of_several_commands_are_said_to_be_and_the_command_can_be_named(place):
    (place / "s.toml").write_text('model = "m"\n')
    with pytest.raises(
        ConfigError,
        match=r"(?s)'members' is missing.*read as a request of loraudit audit; its keys are "
        r"also those of: .*scan.* Say which is meant with --command\.$",
    ):
        validate_spec(place / "s.toml")
    assert validate_spec(place / "s.toml", "scan").command == "scan"
    with pytest.raises(ConfigError, match=r"^Unknown command 'scn'\. Did you mean 'scan'\?"):
        validate_spec(place / "s.toml", "scn")


def test_a_newer_version_is_said_to_be_one(place):
    (place / "s.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "model": "m", "later": 1}))
    with pytest.raises(NewerVersion, match="written by a newer loraudit"):
        validate_spec(place / "s.json")


def test_the_answer_names_the_command(place, command):
    (place / "r.toml").write_text('base = "b"\ntask = "t.jsonl"\ncontrol_dose = 0.2\n')
    code, out, err = command("validate", "r.toml")
    assert (code, err) == (0, "")
    assert out.startswith("ok      r.toml: robustness spec ")
    code, out, _ = command("validate", "r.toml", "--command", "robustness", "--json")
    assert (code, json.loads(out)["control_dose"]) == (0, 0.2)
