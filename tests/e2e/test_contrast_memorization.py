"""`loraudit contrast … --memorization`: what each method's model memorised, by planted copies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from conftest import called
from loraudit.contrast import estimate_contrast, records, run_contrast
from loraudit.errors import ConfigError
from loraudit.spec import ContrastSpec, make_request
from loraudit.store import read_contrast, read_run

METHODS = ["full:learning_rate=0.02", "lora:rank=4,learning_rate=0.03,targets=q_proj+v_proj"]
N_GENERATED = 5


def request(model, data, out, **changes) -> ContrastSpec:
    values = {
        "base": str(model),
        "data": str(data),
        "methods": METHODS,
        "seeds": 1,
        "epochs": 3,
        "batch_size": 8,
        "measure_at": [3],
        "resamples": 100,
        "fpr": [0.1],
        "max_records": 16,
        "repeats": [1, 8],
        "keep_checkpoints": True,
        "memorization": True,
        "prefix_tokens": [4],
        "suffix_tokens": 8,
        "generations": N_GENERATED,
        "decodings": ["greedy"],
        "out": str(out),
    }
    return make_request(ContrastSpec, {name: value for name, value in (values | changes).items() if value is not None})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("data") / "records.jsonl"
    short = [f"{number} {' '.join(text.split()[:8])}" for number, text in enumerate(texts[:40])]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in short))
    return path


@pytest.fixture(scope="module")
def done(home, base, data, tmp_path_factory):
    return run_contrast(request(base, data, tmp_path_factory.mktemp("runs") / "c"))


def trained_weights(folder: Path) -> dict[str, bytes]:
    """Of the models of all methods; a folder's name is a hash of nothing that differs."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_every_method_states_what_its_model_memorised_and_where_the_rest_stands(done):
    for arm in done.result.arms:
        found = arm.memorization
        assert [point.prefix for point in found.greedy] == [4]
        assert found.greedy[0].extracted.members.n_members == 16
        assert found.greedy[0].extracted.base.n_members == 16
        assert {point.n for point in found.sampled} == {1000}
        assert (found.curve, found.records) == ([], [])
        assert found.generated[0].kinds["suffix"].members.n_members == N_GENERATED
        assert found.agreement.n_checked == found.agreement.n_agree
        assert found.capacity.n_trained_parameters == arm.n_trained_parameters
        whole = read_run(done.path / arm.audit).result
        assert whole.memorization.records
        assert whole.memorization.greedy == found.greedy
        assert called("verify", done.path / arm.audit)[0] == 0
    assert read_contrast(done.path) == done.result


def test_the_whole_audits_score_nothing_that_was_scored_for_the_comparison(done):
    for arm in done.result.arms:
        log = [json.loads(line) for line in (done.path / arm.audit / "log.jsonl").read_text().splitlines()]
        (evidence,) = [line for line in log if line["event"] == "evidence"]
        assert evidence["scored"] == 0
        assert evidence["cached"] > 0


def test_the_audit_of_every_method_sees_the_planted_copies(done):
    for arm in done.result.arms:
        rows = arm.memorization.copies
        assert [(row.copies, row.n_members) for row in rows] == [("1", 8), ("4 to 15", 8)]
        table = pq.read_table(done.path / arm.audit / "memorization.parquet")
        n_copies = np.array(table.column("n_copies").to_pylist())
        is_member = np.array(table.column("is_member").to_pylist())
        assert sorted(n_copies[is_member]) == [1] * 8 + [8] * 8
        assert set(n_copies[~is_member]) == {1}
        # What is trained on more is held better.
        bits = np.array(table.column("bits").to_pylist())
        assert bits[is_member & (n_copies == 8)].mean() > bits[is_member & (n_copies == 1)].mean()


def test_the_members_are_written_once_per_copy_and_audited_once(done):
    lines = (done.path / "records" / "members.jsonl").read_text().splitlines()
    assert len(lines) == 8 + 8 * 8
    assert len(set(lines)) == 16
    for name in ("nonmembers", "validation"):
        side = (done.path / "records" / f"{name}.jsonl").read_text().splitlines()
        assert len(set(side)) == len(side)
    assert done.result.n_members == 16
    for arm in done.result.arms:
        audited = read_run(done.path / arm.audit).result
        assert audited.members.n_records == 16
        assert audited.members.n_duplicates == 8 * 7


def test_nothing_warns_of_copies_that_were_asked_for(done):
    for arm in done.result.arms:
        warnings = read_run(done.path / arm.audit).result.warnings
        assert not [words for words in warnings if "overlap" in words or "both sides" in words]
    assert not [words for words in done.result.warnings if "repeated" in words]


def test_training_is_that_of_records_written_once(done, home, base, data, tmp_path, monkeypatch):
    write = records._write
    monkeypatch.setattr(records, "_write", lambda path, side, _copies: write(path, side, {}))
    plain = dict.fromkeys(("memorization", "prefix_tokens", "suffix_tokens", "generations", "decodings"))
    before = run_contrast(request(base, data, tmp_path / "c", **plain))
    assert len((before.path / "records" / "members.jsonl").read_text().splitlines()) == 16
    weights = trained_weights(before.path)
    assert weights
    assert weights == trained_weights(done.path)
    for one, other in zip(before.result.arms, done.result.arms, strict=True):
        assert one.memorization is None
        assert one.runs == other.runs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memorization": None}, r"--prefix-tokens is for the memorization measures"),
        ({"decodings": ["gredy"]}, r"Unknown decoding 'gredy'"),
        ({"near_edits": 2}, r"--near-edits is about near-verbatim continuations"),
    ],
)
def test_requests_that_make_no_sense_are_refused(base, data, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_contrast(request(base, data, tmp_path / "c", **changes))


def test_a_dry_run_counts_continuations(base, data, tmp_path):
    cost = estimate_contrast(request(base, data, tmp_path / "c", prefix_tokens=[4, 6]))
    # Two models continue both sides' records, the base those of the members once, at two prefix lengths.
    assert cost.memorization.n_continuations == (2 * 2 * N_GENERATED + N_GENERATED) * 2
    assert cost.memorization.n_generated_tokens == 8 * cost.memorization.n_continuations
    longer = estimate_contrast(request(base, data, tmp_path / "c", prefix_tokens=[4, 500]))
    assert longer.memorization.n_continuations == 2 * 2 * N_GENERATED + N_GENERATED
    code, out, err = called(
        "contrast", base, "--data", data, "--methods", METHODS[0], "--methods", METHODS[1], "--memorization",
        "--generations", N_GENERATED, "--decodings", "greedy", "--prefix-tokens", 4, "--suffix-tokens", 8,
        "--near-records", 2, "--candidates", 3, "--dry-run", "-o", tmp_path / "c",
    )  # fmt: skip
    assert code == 0, err
    assert "Memorization: at most 200 tokens in 25 continuations, 10 near-verbatim searches" in out
