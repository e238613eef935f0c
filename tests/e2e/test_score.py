"""`loraudit score` from records to parts on tiny models: what is written, what is kept from view, what is survived."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from conftest import changed_copy
from loraudit.bulk import run_score
from loraudit.bulk.unit import ScoreUnit
from loraudit.errors import DataError, ModelError
from loraudit.execution import Interrupted, StopRequest
from loraudit.spec import ScoreSpec, make_request

FACTS = ["id", "source", "line", "status", "n_tokens", "n_windows", "n_bytes", "n_zlib_bytes"]
STATISTICS = [f"{view}_{name}" for view in ("target", "reference") for name in ("loss", "top1", "entropy")]


@pytest.fixture
def scored(adapter, record_files, tmp_path):
    """Run a request in parts of 25 records: the run."""

    def run(**changes):
        values = {
            "model": str(adapter),
            "records": [str(path) for path in record_files],
            "records_per_unit": 25,
            "batch_tokens": 512,
            "attacks": ["loss", "error_zone"],
            "out": str(tmp_path / "run"),
        }
        return run_score(make_request(ScoreSpec, values | changes))

    return run


def rows_of(path: Path) -> dict[str, np.ndarray]:
    """The columns of all parts, read as one data set."""
    table = ds.dataset(path / "scores").to_table()
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def is_nan(rows: dict[str, np.ndarray], row: int, names: list[str]) -> bool:
    return all(np.isnan(rows[name][row]) for name in names)


def test_the_parts_are_one_table_in_the_order_of_the_records(scored, record_files):
    run = scored()
    rows = rows_of(run.path)
    assert list(rows) == [*FACTS, *STATISTICS, "loss", "error_zone"]
    assert rows["source"].tolist() == [str(record_files[0])] * 60 + [str(record_files[1])] * 60
    assert rows["line"].tolist() == [*range(1, 61)] * 2
    assert pq.read_table(run.path / "scores").num_rows == 120
    assert sorted(path.name for path in (run.path / "scores").iterdir()) == [f"part-0000{i}.parquet" for i in range(5)]
    assert np.allclose(rows["target_loss"], -rows["loss"], atol=1e-5)
    assert ((rows["target_top1"] >= 0) & (rows["target_top1"] <= 1)).all()
    assert (rows["target_entropy"] > 0).all()
    assert not np.allclose(rows["target_loss"], rows["reference_loss"], atol=1e-3)


def test_the_result_says_what_was_done_and_holds_every_checksum(scored, record_files):
    import hashlib

    run = scored()
    result = run.result
    rows = rows_of(run.path)
    assert (result.n_records, result.n_read, result.n_bad, result.n_parts) == (120, 120, 0, 5)
    assert result.status == {"ok": 120}
    assert result.n_tokens == rows["n_tokens"].sum()
    assert [file["sha256"] for file in result.files] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in record_files
    ]
    parts = pq.read_table(run.path / "parts.parquet").to_pylist()
    for part in parts:
        content = (run.path / "scores" / part["part"]).read_bytes()
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
        assert part["n_bytes"] == len(content)
    assert sum(part["n_bytes"] for part in parts) == result.part_bytes
    assert sum(part["n_records"] for part in parts) == 120
    assert result.parts == hashlib.sha256((run.path / "parts.parquet").read_bytes()).hexdigest()
    assert [column.name for column in result.columns] == [*STATISTICS, "loss", "error_zone"]
    assert result.tokens_per_second > result.records_per_second > 0
    assert result.numerics["modes"] == ["target and reference: head on audited positions, one copy"]
    assert set(result.weights) == {"adapter", "base"}


def test_a_second_call_makes_nothing_and_loads_no_model(scored, monkeypatch):
    first = scored()
    before = {path.name: path.stat().st_mtime_ns for path in (first.path / "scores").iterdir()}
    monkeypatch.setattr(ScoreUnit, "_load", lambda _: pytest.fail("the model was loaded"))
    monkeypatch.setattr("loraudit.bulk.spine.make_index", lambda *_, **__: pytest.fail("the records were read"))
    second = scored()
    assert {path.name: path.stat().st_mtime_ns for path in (first.path / "scores").iterdir()} == before
    assert second.result.n_units_done == 0
    assert second.result.records_per_second is None
    assert second.result.parts == first.result.parts


# --- what a record can be -----------------------------------------------------------------------------


def test_records_of_every_form_and_length_have_a_row(scored, tmp_path, texts):
    path = tmp_path / "mixed.jsonl"
    rows = [
        {"text": texts[0]},
        {"text": ""},
        {"text": " "},
        {"prompt": texts[1][:40], "completion": texts[1][40:]},
        {"text": " ".join(texts[2:6])},
        {"text": texts[0]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = scored(records=[str(path)])
    found = rows_of(run.path)
    assert found["status"].tolist() == ["ok", "no_tokens", "ok", "ok", "ok", "ok"]
    assert found["n_windows"][4] > 1
    assert run.result.n_windowed == (found["n_windows"] > 1).sum()
    assert is_nan(found, 1, [*STATISTICS, "loss"])
    assert found["id"][0] == found["id"][5], "repeated records have a row each, under one id"
    assert found["target_loss"][0] == pytest.approx(found["target_loss"][5], abs=1e-6)
    undefined = {column.name: column.n_undefined for column in run.result.columns}
    assert set(undefined.values()) == {1}
    assert "Records without scores: 1 no_tokens." in run.result.warnings


def test_bad_rows_stop_a_run_before_the_model_is_loaded_or_are_counted(scored, tmp_path, monkeypatch):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "A record of some words."}\n{"text": 7}\n\n{"text": "Another one of them."}\n')
    with monkeypatch.context() as patch:
        patch.setattr(ScoreUnit, "_load", lambda _: pytest.fail("the model was loaded"))
        with pytest.raises(DataError, match=r"1 of 3 rows cannot be used(.|\n)*bad\.jsonl:2: 'text' is an int"):
            scored(records=[str(path)])
    run = scored(records=[str(path)], on_bad_record="skip")  # another way, not another request
    assert rows_of(run.path)["line"].tolist() == [1, 4]
    assert (run.result.n_read, run.result.n_bad) == (3, 1)
    assert "1 unreadable rows were skipped." in run.result.warnings


def test_chats_that_cannot_be_rendered_stop_a_run_with_their_lines_or_get_a_status(scored, tmp_path, texts):
    path = tmp_path / "chats.jsonl"
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody."}]
    lines = [{"text": texts[0]}, {"messages": chat}, {"text": texts[1]}, {"messages": chat}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"2 chats cannot be rendered(.|\n)*chats\.jsonl:2: (.|\n)*chats\.jsonl:4: "):
        scored(records=[str(path)])
    run = scored(records=[str(path)], on_bad_record="skip")
    rows = rows_of(run.path)
    assert rows["status"].tolist() == ["ok", "not_rendered", "ok", "not_rendered"]
    assert rows["line"].tolist() == [1, 2, 3, 4]
    assert np.isnan(rows["target_loss"]).tolist() == [False, True, False, True]
    plain = scored(records=[str(path)], on_bad_record="skip", out=str(tmp_path / "again"))
    assert np.array_equal(rows_of(plain.path)["target_loss"], rows["target_loss"], equal_nan=True)


def test_columns_of_the_user_are_passed_on(scored, tmp_path, texts):
    path = tmp_path / "named.jsonl"
    rows = [{"text": text, "doc": f"d{i // 2}", "lang": "en", "key": f"k{i}"} for i, text in enumerate(texts[:6])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = scored(records=[str(path)], group_field="doc", subgroup_field="lang", id_field="key")
    found = rows_of(run.path)
    assert found["group"].tolist() == ["d0", "d0", "d1", "d1", "d2", "d2"]
    assert found["subgroup"].tolist() == ["en"] * 6
    assert found["own_id"].tolist() == [f"k{i}" for i in range(6)]


# --- privacy ------------------------------------------------------------------------------------------


def test_no_record_text_is_in_any_file_and_every_file_is_for_its_owner(scored, tmp_path, texts):
    run = scored()
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path
        content = path.read_bytes()
        tables = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else []
        for text in texts:
            assert text[:30].encode() not in content
            assert not any(text[:30] in str(row) for row in tables)
    assert (run.path.stat().st_mode & 0o077) == 0


def test_ids_do_not_identify_and_sources_stay_out_of_folders_that_others_can_enter(scored, tmp_path, texts):
    from loraudit.types import record_id

    private = rows_of(scored().path)
    hashes = {record_id(text=text) for text in texts}
    assert len(set(private["id"])) == 120
    assert not any(content.startswith(shown) for content in hashes for shown in private["id"])
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    rows = rows_of(scored(out=str(shared)).path)
    assert set(rows["source"]) == {None}
    assert np.isnan(rows["line"].astype(float)).all()
    assert np.array_equal(rows["target_loss"], private["target_loss"])


# --- models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "last_layer"])
def test_a_checkpoint_beside_its_base_is_scored_as_an_audit_scores_it(kind, request, base, scored):
    run = scored(model=str(request.getfixturevalue(kind)), base=str(base))
    assert run.result.status == {"ok": 120}
    modes = run.result.numerics["modes"]
    assert len(modes) == (2 if kind == "full" else 1)
    rows = rows_of(run.path)
    assert not np.allclose(rows["target_loss"], rows["reference_loss"], atol=1e-4)


def test_weights_that_change_under_the_same_path_are_scored_again(base, scored, tmp_path):
    target = changed_copy(base, tmp_path / "target", lambda _: True, seed=5)
    first = rows_of(scored(model=str(target), base=str(base)).path)
    changed_copy(base, target, lambda _: True, seed=6)
    run = scored(model=str(target), base=str(base))
    assert run.result.n_units_done == 5
    assert run.result.n_units_damaged == 0, "they were of another model, not damaged"
    assert not np.allclose(first["target_loss"], rows_of(run.path)["target_loss"], atol=1e-3)


def test_a_worker_that_finds_other_weights_refuses(scored, monkeypatch):
    from loraudit.bulk import spine

    made = spine.ScoreUnit

    def with_others(*arguments):
        unit = made(*arguments)
        unit.fingerprints = {**unit.fingerprints, "target": "other"}
        return unit

    monkeypatch.setattr(spine, "ScoreUnit", with_others)
    with pytest.raises(ModelError, match="changed since the run began, or is another one on this machine"):
        scored()


# --- records that change, stopping, keeping ----------------------------------------------------------


def test_records_added_to_a_file_are_scored_and_those_taken_away_are_gone(scored, tmp_path, texts):
    path = tmp_path / "growing.jsonl"

    def write(n_records):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:n_records]), encoding="utf-8")

    write(60)
    assert scored(records=[str(path)]).result.n_units_done == 3
    write(80)
    run = scored(records=[str(path)])
    assert (run.result.n_records, run.result.n_units_done) == (80, 2), "whole parts of the same records were kept"
    write(20)
    run = scored(records=[str(path)])
    assert (run.result.n_records, run.result.n_parts) == (20, 1)
    assert len(rows_of(run.path)["id"]) == 20
    assert len(list((run.path / "marks").iterdir())) == 1


def test_a_run_asked_to_stop_keeps_its_parts_and_has_no_result(scored, adapter, record_files, tmp_path):
    stop = StopRequest()

    class AfterTwoParts:
        def stage(self, *_):
            pass

        def say(self, _):
            pass

        def advance(self, _):
            if len(list((tmp_path / "run" / "marks").iterdir())) == 2:
                stop.ask()

    spec = make_request(
        ScoreSpec,
        {
            "model": str(adapter),
            "records": [str(path) for path in record_files],
            "records_per_unit": 25,
            "batch_tokens": 512,
            "attacks": ["loss", "error_zone"],
            "out": str(tmp_path / "run"),
        },
    )
    with pytest.raises(Interrupted):
        run_score(spec, progress=AfterTwoParts(), stop=stop)
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "lock.json").exists()
    resumed = run_score(spec)
    assert resumed.result.n_units_done == 3


def test_an_audit_finds_the_evidence_that_was_kept(scored, command, adapter, record_files, tmp_path):
    run = scored(keep_evidence=True, store=str(tmp_path / "store"))
    assert run.result.status == {"ok": 120}
    code, _, err = command(
        "audit", adapter, "--members", record_files[0], "--nonmembers", record_files[1], "--store", tmp_path / "store",
        "--attacks", "error_zone", "--resamples", 100, "-q", "-o", "audit",
    )  # fmt: skip
    assert code == 0, err
    scoring = json.loads((tmp_path / "audit" / "result.json").read_text("utf-8"))["scoring"]
    assert (scoring["records_scored"], scoring["records_cached"]) == (0, 120)


def test_no_evidence_is_kept_unless_asked_for(scored):
    assert not list((scored().path / "store").rglob("*.unit"))


def test_an_attack_that_fails_is_an_error_of_its_column_and_exit_seven(scored, monkeypatch):
    from loraudit.bulk import exit_code
    from loraudit.membership import ATTACKS, Attack

    def fails(views):
        raise ValueError("no idea")

    broken = Attack("broken", fails, ("target",), "", "Fails.", "1 F")
    monkeypatch.setitem(ATTACKS._entries, "broken", broken)
    run = scored(attacks=["loss", "broken"])
    column = run.result.columns[-1]
    assert (column.name, column.error, column.n_undefined) == ("broken", "ValueError: no idea", 120)
    assert np.isfinite(rows_of(run.path)["loss"]).all()
    assert exit_code(run.result) == 7
