"""Scoring in parts says what an audit says, however the parts are cut and whoever makes them."""

from __future__ import annotations

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from loraudit.auditing import run_audit
from loraudit.bulk import run_score
from loraudit.data import encode, load_records
from loraudit.models import Numerics, load_tokenizer, plan_models
from loraudit.scoring import ScoringOptions, score_resident
from loraudit.spec import AuditSpec, ScoreSpec, make_request

BATCHING_NOISE = 1e-6
"""Nats of a log-probability in float32; a mean of them moves by no more."""
SMOOTH = ("loss", "zlib", "reference_difference", "calibrated_zlib", "error_zone", "paired_t", "min_k")
"""Attacks without a denominator that can be close to 0."""
NOISE_OF_ATTACKS = 5e-5
"""Sums over some sixty tokens, and then five digits."""


@pytest.fixture(scope="module")
def models(request):
    return {name: str(request.getfixturevalue(name)) for name in ("adapter", "base", "full", "last_layer", "head_only")}


@pytest.fixture
def scores(models, record_files, tmp_path):
    """Run `loraudit score` in a folder of its own: its parts as arrays, in the order of the records."""

    def run(**changes):
        values = {
            "model": models["adapter"],
            "records": [str(path) for path in record_files],
            "out": str(tmp_path / f"score-{len(list(tmp_path.iterdir()))}"),
            "batch_tokens": 512,
            **changes,
        }
        run = run_score(make_request(ScoreSpec, values))
        return columns_of(ds.dataset(run.path / "scores").to_table()) if run.result else None

    return run


@pytest.fixture
def audited(models, record_files, tmp_path):
    """Run an audit of the same records: its scores as arrays, in the order of the records."""

    def run(**changes):
        spec = make_request(
            AuditSpec,
            {
                "model": models["adapter"],
                "members": str(record_files[0]),
                "nonmembers": str(record_files[1]),
                "resamples": 100,
                "batch_tokens": 512,
                "out": str(tmp_path / "audit"),
                **changes,
            },
        )
        return columns_of(pq.read_table(run_audit(spec).path / "scores.parquet"))

    return run


def columns_of(table):
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names if name != "id"}


def assert_same_bits(one, two):
    assert set(one) == set(two)
    for name, values in one.items():
        if values.dtype == object:
            assert values.tolist() == two[name].tolist(), name
        else:
            assert np.array_equal(values, two[name], equal_nan=values.dtype.kind == "f"), name


def assert_same_but_for_batching(one, two):
    """All that batching moves, moves by its noise."""
    assert set(one) == set(two)
    for name in ("line", "n_tokens", "n_windows", "n_bytes", "n_zlib_bytes"):
        assert np.array_equal(one[name], two[name])
    for view in ("target", "reference"):
        assert np.abs(one[f"{view}_loss"] - two[f"{view}_loss"]).max() <= BATCHING_NOISE
        assert np.abs(one[f"{view}_entropy"] - two[f"{view}_entropy"]).max() <= BATCHING_NOISE
    for name in SMOOTH:
        if name in one:
            assert np.abs(one[name] - two[name]).max() <= NOISE_OF_ATTACKS * max(1, np.abs(one[name]).max()), name


# --- as an audit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adapter", "full", "last_layer"])
def test_scores_are_those_of_an_audit_to_the_last_bit_where_batches_are_the_same(kind, models, scores, audited):
    """Sixteen tokens per batch put every window into a batch of its own, in either command."""
    own = {"model": models[kind], "base": None if kind == "adapter" else models["base"], "batch_tokens": 16}
    ours, theirs = scores(records_per_unit=17, **own), audited(**own)
    shared = set(ours) & set(theirs)
    assert {"status", "n_tokens", "n_windows", "error_zone", "loss", "zlib", "min_k_plus_plus", "sign"} <= shared
    assert_same_bits({name: ours[name] for name in shared}, {name: theirs[name] for name in shared})


def test_scores_are_those_of_an_audit_but_for_the_noise_of_batching(scores, audited):
    ours, theirs = scores(), audited()
    for name in ("source", "line", "status", "n_tokens", "n_windows"):
        assert ours[name].tolist() == theirs[name].tolist()
    for name in SMOOTH:
        assert np.abs(ours[name] - theirs[name]).max() <= NOISE_OF_ATTACKS * max(1, np.abs(theirs[name]).max()), name


def test_statistics_are_the_means_of_what_the_model_says_of_each_token(models, record_files, scores):
    ours = scores(records=[str(record_files[0])])
    records = load_records([str(record_files[0])], make_request(ScoreSpec, {"model": "m", "records": "r"})).records
    plan = plan_models(models["adapter"])
    encoded = encode(records, load_tokenizer(plan.tokenizer_folder))
    options = ScoringOptions(["cpu"], Numerics("cpu", "fp32"), 64, 32, batch_tokens=512)
    ((_, load),) = plan.stages
    resident = load(options.numerics, "cpu")
    for view in ("target", "reference"):
        table = score_resident(resident, encoded, options, view).audited()
        for row in range(len(records)):
            own = slice(table.offsets[row], table.offsets[row + 1])
            log_probs = table.columns["log_prob"][own].astype(np.float64)
            assert ours[f"{view}_loss"][row] == -log_probs.mean()
            assert ours[f"{view}_top1"][row] == table.columns["is_top1"][own].mean()
            entropies = -table.columns["mean_log_prob"][own].astype(np.float64)
            assert ours[f"{view}_entropy"][row] == entropies.mean()
            assert ours["n_tokens"][row] == len(log_probs)


# --- however the work is cut --------------------------------------------------------------------------


def test_numbers_do_not_depend_on_how_many_records_a_part_holds(scores):
    whole = scores()
    for records_per_unit in (7, 60, 10_000):
        assert_same_but_for_batching(whole, scores(records_per_unit=records_per_unit))


def test_parts_of_whole_blocks_hold_the_same_bits_whatever_their_size(scores, monkeypatch):
    from loraudit.bulk import index

    monkeypatch.setattr(index, "BLOCK_RECORDS", 20)
    whole = scores()
    for records_per_unit in (20, 40, 100):
        assert_same_bits(whole, scores(records_per_unit=records_per_unit))


def test_numbers_do_not_depend_on_how_many_shards_there_are(scores, tmp_path):
    whole = scores(records_per_unit=10)
    out = str(tmp_path / "shared")
    for shard in ("3/3", "1/3", "2/3"):
        last = scores(records_per_unit=10, shard=shard, out=out)
    assert_same_bits(whole, last)
    assert_same_bits(whole, scores(records_per_unit=10, out=out))


def test_numbers_do_not_depend_on_how_many_workers_there_are(scores):
    assert_same_bits(scores(records_per_unit=10), scores(records_per_unit=10, workers=2))


def test_numbers_do_not_depend_on_how_records_are_stored(scores, record_files, tmp_path):
    import gzip
    import json

    import pyarrow as pa

    texts = [json.loads(line)["text"] for line in record_files[0].read_text("utf-8").splitlines()]
    packed, table = tmp_path / "r.jsonl.gz", tmp_path / "r.parquet"
    packed.write_bytes(gzip.compress(record_files[0].read_bytes()))
    pq.write_table(pa.table({"text": texts}), table, row_group_size=13)
    found = [scores(records=[str(path)], records_per_unit=9) for path in (record_files[0], packed, table)]
    for one in found:
        del one["source"]
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_engine(models, record_files, tmp_path):
    import importlib.util
    import subprocess
    import sys

    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    words = ["score", models["adapter"], "--records", str(record_files[0]), "--records-per-unit", "10", "-q"]
    for name, engine in (("local", []), ("ray", ["--engine", "ray", "--workers", "2"])):
        done = subprocess.run(
            [sys.executable, "-m", "loraudit", *words, *engine, "-o", str(tmp_path / name)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    of_engines = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "scores").iterdir()} for name in ("local", "ray")
    ]
    assert len(of_engines[0]) == 6
    assert of_engines[0] == of_engines[1]
    assert (tmp_path / "local" / "parts.parquet").read_bytes() == (tmp_path / "ray" / "parts.parquet").read_bytes()
