"""A spec refuses what it does not know, says everything at once, and is named by what it asks."""

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from loraudit.errors import ConfigError
from loraudit.spec import (
    DEFAULT_FPRS,
    SCHEMA_VERSION,
    AuditResult,
    AuditSpec,
    ContrastSpec,
    ForecastSpec,
    InfluenceSpec,
    MemorizationOptions,
    Recipe,
    TuneSpec,
    differing_fields,
    make_audit_spec,
    make_request,
    read_spec_file,
    spec_hash,
)
from loraudit.types import Finding

REQUIRED = {"model": "my-adapter", "members": ("train.jsonl",), "nonmembers": ("heldout.jsonl",)}

OTHER_VALUES = {
    "text_field": "body",
    "prompt_field": "question",
    "completion_field": "answer",
    "messages_field": "chat",
    "group_field": "document",
    "id_field": "number",
    "subgroup_field": "language",
    "text_unit": "file",
    "on_bad_record": "skip",
    "model": "another-adapter",
    "members": ("train.jsonl", "more.jsonl"),
    "nonmembers": ("other.jsonl",),
    "base": "my-base",
    "reference": "distilled",
    "reference_data": ("public.jsonl",),
    "reference_prompts": 500,
    "reference_epochs": 2,
    "reference_learning_rate": 0.01,
    "shadow": 4,
    "shadow_on": "audited",
    "pool": ("pool.jsonl",),
    "slow": True,
    "neighbours": 3,
    "recall_shots": 2,
    "recall_prefix": ("others.jsonl",),
    "span": "all",
    "append_eos": True,
    "max_length": 512,
    "stride": 128,
    "max_records": 1000,
    "on_overlap": "drop",
    "attacks": ("loss", "ratio"),
    "gradients": True,
    "headline": "ratio",
    "fpr": (0.05,),
    "resamples": 500,
    "confidence": 0.9,
    "fdr": 0.1,
    "attack_timeout": 5.0,
    "seed": 7,
    "memorization": True,
    "prefix_tokens": (20, 40),
    "suffix_tokens": 25,
    "generations": 7,
    "decodings": ("nucleus",),
    "near_edits": 2,
    "near_records": 9,
    "candidates": 25,
    "personal_finder": "presidio",
    "training_data": ("more-training.jsonl",),
    "detector": "lee2023",
    "embedder": "my-embedder",
    "paraphrase_model": "my-classifier",
    "paraphrase_label": "same",
    "fail_on": ("membership.auc.value > 0.6",),
    "policy": "policy.toml",
    "device": "cpu",
    "precision": "bf16",
    "batch_tokens": 4096,
    "allow_pickle": True,
    "allow_remote_code": True,
    "allow_other_base": True,
    "offline": True,
    "include_text": True,
    "out": "runs/mine",
    "store": "evidence",
}


def spec(**changes) -> AuditSpec:
    return make_audit_spec(REQUIRED | changes)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- identity -----------------------------------------------------------------------------------------


def test_another_value_is_known_for_every_field():
    assert set(OTHER_VALUES) == set(AuditSpec.model_fields)
    assert not [name for name, value in OTHER_VALUES.items() if getattr(spec(), name) == value]


@pytest.mark.parametrize("name", sorted(set(AuditSpec.model_fields) - AuditSpec.how_not_what))
def test_the_hash_changes_with_every_field_that_says_what_is_asked(name):
    changed = spec(**{name: OTHER_VALUES[name]})
    assert spec_hash(changed) != spec_hash(spec())
    (line,) = differing_fields(spec(), changed)
    assert line.startswith(f"{name}: ")
    assert " → " in line


@pytest.mark.parametrize("name", sorted(AuditSpec.how_not_what))
def test_the_hash_ignores_fields_that_say_how_it_is_carried_out(name):
    changed = spec(**{name: OTHER_VALUES[name]})
    assert changed != spec()
    assert spec_hash(changed) == spec_hash(spec())
    assert differing_fields(spec(), changed) == []


def test_no_two_of_the_changed_specs_share_a_hash():
    asked = sorted(set(AuditSpec.model_fields) - AuditSpec.how_not_what)
    assert len({spec_hash(spec(**{name: OTHER_VALUES[name]})) for name in asked}) == len(asked)


def test_a_default_said_aloud_is_the_same_request():
    said = {name: getattr(spec(), name) for name in AuditSpec.model_fields}
    assert spec_hash(spec(**said)) == spec_hash(spec())


def test_a_request_of_before_there_were_references_and_shadows_keeps_its_hash():
    """What a run folder is called, and what `verify` compares with, does not change with the version."""
    keys = set(AuditSpec.model_fields) - AuditSpec.how_not_what
    new = {"pool", "gradients", "slow", "neighbours", "recall_shots", "recall_prefix"}
    new |= {key for key in keys if key.startswith(("reference", "shadow"))}
    new |= {"training_data", *MemorizationOptions.model_fields}
    before = spec().model_dump(mode="json", include=keys - new)
    assert spec_hash(spec()) == hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()


def test_differing_fields_show_both_values():
    assert differing_fields(spec(), spec(seed=3, fpr=0.1)) == [
        f"fpr: {list(DEFAULT_FPRS)!r} → [0.1]",
        "seed: 0 → 3",
    ]


# --- forecasts ----------------------------------------------------------------------------------------

FORECAST_VALUES = {
    **{name: OTHER_VALUES[name] for name in sorted(set(OTHER_VALUES) & set(ForecastSpec.model_fields))},
    "task": ("other.jsonl",),
    "test": ("test.jsonl",),
    "test_share": 0.3,
    "label_field": "topic",
    "rewritten_field": "style",
    "test_records": 50,
    "attack": ("label_flip",),
    "doses": (0.1,),
    "target": "sports",
    "response": "Hello.",
    "methods": ("lora",),
    "ranks": (2,),
    "variances": (2.0,),
    "alphas": (8.0,),
    "scaling": "alpha/sqrt(r)",
    "targets": ("mlp",),
    "family": "gaussian",
    "draws": 9,
    "heads": 1,
    "loss": "squared",
    "clean_loss": 0.4,
    "max_linear_error": 0.2,
    "on_long": "cut",
    "measured": "runs/robustness",
    "memory": 8.0,
}


@pytest.mark.parametrize("name", sorted(ForecastSpec.model_fields))
def test_a_forecast_is_another_with_every_field_that_says_what_is_asked(name):
    asked = {"base": "base", "task": "task.jsonl"}
    plain = make_request(ForecastSpec, asked)
    other = make_request(ForecastSpec, {**asked, name: FORECAST_VALUES[name]})
    assert other != plain
    assert (spec_hash(other) == spec_hash(plain)) == (name in ForecastSpec.how_not_what)
    assert ForecastSpec.model_fields[name].description


INFLUENCE_VALUES = {
    **{name: OTHER_VALUES[name] for name in sorted(set(OTHER_VALUES) & set(InfluenceSpec.model_fields))},
    "contrast": "runs/other",
    "draws": 9,
    "extractable": 0.01,
    "max_linear_error": 0.2,
    "memory": 8.0,
}


@pytest.mark.parametrize("name", sorted(InfluenceSpec.model_fields))
def test_an_influence_run_is_another_with_every_field_that_says_what_is_asked(name):
    plain = make_request(InfluenceSpec, {"contrast": "runs/contrast"})
    other = make_request(InfluenceSpec, {"contrast": "runs/contrast", name: INFLUENCE_VALUES[name]})
    assert other != plain
    assert (spec_hash(other) == spec_hash(plain)) == (name in InfluenceSpec.how_not_what)
    assert InfluenceSpec.model_fields[name].description


# --- on disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, OTHER_VALUES], ids=["defaults", "everything changed"])
def test_a_spec_survives_json(changes):
    asked = spec(**changes)
    assert AuditSpec.model_validate_json(asked.model_dump_json(indent=2)) == asked
    assert make_audit_spec(json.loads(asked.model_dump_json())) == asked


FILES = {
    "spec.toml": 'model = "my-adapter"\nmembers = "train.jsonl"\nnonmembers = ["heldout.jsonl"]\n'
    "max-length = 64\nfpr = 0.1\n",
    "spec.yaml": "model: my-adapter\nmembers: train.jsonl\nnonmembers: [heldout.jsonl]\nmax-length: 64\nfpr: 0.1\n",
    "spec.yml": "model: my-adapter\nmembers: train.jsonl\nnonmembers: [heldout.jsonl]\nmax_length: 64\nfpr: 0.1\n",
    "spec.json": '{"model": "my-adapter", "members": "train.jsonl", "nonmembers": ["heldout.jsonl"], '
    '"max-length": 64, "fpr": 0.1}',
    "SPEC.JSON": '{"model": "my-adapter", "members": "train.jsonl", "nonmembers": ["heldout.jsonl"], '
    '"max_length": 64, "fpr": [0.1]}',
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_spec_file_says_the_same(name, tmp_path):
    keys = read_spec_file(write(tmp_path / name, FILES[name]))
    assert make_audit_spec(keys) == spec(max_length=64, fpr=0.1)


def test_a_spec_file_in_windows_line_endings_is_read(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_bytes(FILES["spec.toml"].replace("\n", "\r\n").encode())
    assert make_audit_spec(read_spec_file(path)) == spec(max_length=64, fpr=0.1)


def test_a_spec_file_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^Spec file '.*spec\.ini' is of an unknown kind\. Expected \.toml, \.yaml or \.json\.$"
    ):
        read_spec_file(write(tmp_path / "spec.ini", "model=1"))


def test_a_missing_spec_file_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^Spec file '.*no\.toml' cannot be read: No such file or directory\. Check the path\.$"
    ):
        read_spec_file(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("spec.toml", b'model = "a"\nmembers = = 3\n', "line 2"),
        ("spec.yaml", b"model: a\nmembers: [train.jsonl\n", "line 3"),
        ("spec.json", b'{"model": "a",\n members: 3}', "line 2"),
        ("spec.json", b"", "line 1"),
        ("spec.toml", b'model = "caf\xe9"', "position 12"),
        ("spec.yaml", b"model: \x00", "position 7"),
    ],
)
def test_a_spec_file_that_cannot_be_parsed_is_refused_with_the_place(name, content, place, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"(?s)^Spec file '.*{name}' cannot be parsed: .*{place}.*Mend it"):
        read_spec_file(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("spec.yaml", ""), ("spec.yaml", "- model\n"), ("spec.json", "[]"), ("spec.json", "null"), ("spec.yml", "model")],
)
def test_a_spec_file_without_keys_is_refused(name, content, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no keys\. Expected lines such as: model = \"my-adapter\"\.$"):
        read_spec_file(write(tmp_path / name, content))


def test_a_yaml_file_runs_no_code(tmp_path):
    with pytest.raises(ConfigError, match="cannot be parsed"):
        read_spec_file(write(tmp_path / "spec.yaml", "model: !!python/object/apply:os.getpid []\n"))


# --- checks -------------------------------------------------------------------------------------------


def test_every_problem_is_said_at_once_by_the_name_of_its_flag():
    with pytest.raises(ConfigError) as caught:
        make_audit_spec({"members": ["train.jsonl"], "max_lenght": 8, "seed": -1, "span": "some", "text_unit": "page"})
    lines = str(caught.value).splitlines()
    assert sorted(lines) == sorted(
        [
            "'model' is missing. Give it as a flag or as a key of the spec file.",
            "'nonmembers' is missing. Give it as a flag or as a key of the spec file.",
            "Unknown key 'max-lenght'. Did you mean 'max-length'? See: loraudit audit --help",
            "'seed' has the value -1. Expected greater than or equal to 0.",
            "'span' has the value 'some'. Expected 'trained' or 'all'.",
            "'text-unit' has the value 'page'. Expected 'line', 'paragraph' or 'file'.",
        ]
    )


def test_an_unknown_key_like_no_other_gets_no_suggestion():
    with pytest.raises(ConfigError, match=r"^Unknown key 'qqqq'\. See: loraudit audit --help$"):
        spec(qqqq=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": []}, r"^'members' has the value \[\]\. Expected .*at least 1 item"),
        ({"members": [3]}, r"^'members' has the value 3\. Expected a valid string\.$"),
        ({"model": None}, r"^'model' has the value None\. Expected a valid string\.$"),
        ({"max_length": 1}, r"^'max-length' has the value 1\. Expected greater than or equal to 2\.$"),
        ({"stride": 0}, r"^'stride' has the value 0\. Expected greater than or equal to 1\.$"),
        ({"max_records": 0}, r"^'max-records' has the value 0\. Expected greater than or equal to 1\.$"),
        ({"max_records": "many"}, r"^'max-records' has the value 'many'\. Expected a valid integer"),
        ({"resamples": 99}, r"^'resamples' has the value 99\. Expected greater than or equal to 100\.$"),
        ({"confidence": 1}, r"^'confidence' has the value 1\. Expected less than 1\.$"),
        ({"confidence": 0.5}, r"^'confidence' has the value 0\.5\. Expected greater than 0\.5\.$"),
        ({"confidence": float("nan")}, r"^'confidence' has the value nan\. Expected "),
        ({"fpr": 0}, r"^'fpr' has the value 0\. Expected greater than 0\.$"),
        ({"fpr": [0.1, 1.5]}, r"^'fpr' has the value 1\.5\. Expected less than or equal to 1\.$"),
        ({"fpr": float("nan")}, r"^'fpr' has the value nan\. Expected "),
        ({"batch_tokens": 15}, r"^'batch-tokens' has the value 15\. Expected greater than or equal to 16\.$"),
        ({"precision": "int8"}, r"^'precision' has the value 'int8'\. Expected 'auto', 'fp32', 'bf16' or 'fp16'\.$"),
        ({"on_bad_record": "ignore"}, r"^'on-bad-record' has the value 'ignore'\. Expected 'error' or 'skip'\.$"),
        ({"on_overlap": "keep"}, r"^'on-overlap' has the value 'keep'\. Expected 'error' or 'drop'\.$"),
        ({"append_eos": "perhaps"}, r"^'append-eos' has the value 'perhaps'\. Expected a valid boolean"),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_with_what_is_expected(changes, message):
    with pytest.raises(ConfigError, match=message):
        spec(**changes)


def test_a_lone_value_stands_for_a_list_of_one():
    lone = spec(members="train.jsonl", attacks="loss", fpr=0.05)
    assert lone.members == ("train.jsonl",)
    assert lone.attacks == ("loss",)
    assert lone.fpr == (0.05,)


def test_a_path_object_names_a_file_as_a_string_does():
    assert spec(members=Path("train.jsonl")) == spec(members="train.jsonl")
    assert spec(members=[Path("train.jsonl")]) == spec(members="train.jsonl")


def test_a_file_name_that_is_not_unicode_is_refused_in_words_or_carried_through():
    """As Python hands it over from the command line in a locale it does not fit (PEP 383)."""
    try:
        named = spec(members="caf\udce9.jsonl")
    except ConfigError:
        return
    assert AuditSpec.model_validate_json(named.model_dump_json()) == named


def test_a_spec_cannot_be_changed_once_made():
    with pytest.raises(ValidationError, match="frozen"):
        spec().seed = 3


def test_every_field_is_described_for_its_flag():
    fields = AuditSpec.model_fields | TuneSpec.model_fields | ContrastSpec.model_fields
    assert not [name for name, field in fields.items() if not field.description]


def test_a_recipe_refuses_what_it_does_not_know():
    assert Recipe(rank=4, targets="q_proj").targets == ("q_proj",)
    with pytest.raises(ValidationError, match="rnak"):
        Recipe(rnak=4)


# --- results ------------------------------------------------------------------------------------------


def result() -> AuditResult:
    side = dict.fromkeys(
        ["n_read", "n_bad", "n_duplicates", "n_overlap", "n_left_out", "n_records", "n_groups", "n_tokens"], 1
    )
    side |= {"files": [{"path": "a b/é.jsonl", "sha256": "00", "rows": 1}], "n_windowed": 0, "status": {"ok": 1}}
    auc = Finding(0.75, 0.5, 1.0, 0.95, "bootstrap", 10, 12, note="few records")
    undefined = Finding(None, None, None, 0.95, "none", 0, 12, n_undefined_members=10)
    attack = {"name": "loss", "summary": "s", "source": "x", "needs": ["target"], "cost": "c", "status": "ok"}
    return AuditResult.model_validate(
        {
            "loraudit": "0.1.0",
            "spec": spec().model_dump(),
            "spec_hash": spec_hash(spec()),
            "command": "loraudit audit",
            "target": {"name": "t", "kind": "adapter", "fingerprint": "ff", "details": {"rank": 4}},
            "reference": None,
            "members": side,
            "nonmembers": side,
            "numerics": {"precision": "fp32"},
            "versions": {"torch": "2"},
            "scoring": {},
            "membership": {
                "headline": "loss",
                "attacks": [attack | {"findings": {"auc": auc, "tpr": undefined}}],
            },
            "warnings": ["one"],
            "started": "2025-01-01T00:00:00+00:00",
            "seconds": 1.5,
        }
    )


def test_a_result_survives_json():
    made = result()
    assert made.schema_version == SCHEMA_VERSION
    assert AuditResult.model_validate_json(made.model_dump_json(indent=2)) == made


def test_a_result_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="leakage"):
        AuditResult.model_validate(json.loads(result().model_dump_json()) | {"leakage": 1})


def test_a_result_gives_an_attack_by_its_name():
    made = result()
    assert made.membership.attack("loss").findings["auc"].value == 0.75
    with pytest.raises(KeyError, match="ratio"):
        made.membership.attack("ratio")
