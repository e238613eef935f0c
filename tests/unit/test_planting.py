"""The spine of `loraudit canaries insert`: files, modes, doing it again, and refusals."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from loraudit.canaries import seal_of
from loraudit.errors import ConfigError, DataError, NewerVersion
from loraudit.planting import estimate_insert, run_insert
from loraudit.planting.insert import usual_ceiling
from loraudit.spec import CanaryInsertSpec
from loraudit.store import read_manifest


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": f"record {n}"}) + "\n" for n in range(300)))
    return path


def request(train, **changes):
    given = {"coins": 30, "per_repeats": 4, "repeats": (1, 4), "out": str(train.parent / "planted")} | changes
    return CanaryInsertSpec(data=str(train), **given)


def test_the_planted_file_holds_every_line_and_the_included_canaries(train):
    planted = run_insert(request(train))
    lines = planted.file.read_bytes().splitlines(keepends=True)
    originals = train.read_bytes().splitlines(keepends=True)
    assert [line for line in lines if b"Shelf list" not in line] == originals
    inserted = [json.loads(line) for line in lines if b"Shelf list" in line]
    expected = [f"{c.context} {c.secret}" for c in planted.manifest.canaries for _ in c.places]
    assert sorted(row["text"] for row in inserted) == sorted(expected)
    assert all(row["id"] is None for row in inserted)
    left_out = [c.secret for c in planted.manifest.canaries if not c.is_included]
    assert left_out
    assert not any(secret.encode() in planted.file.read_bytes() for secret in left_out)


def test_files_are_their_owners_alone_and_say_what_they_are(train):
    planted = run_insert(request(train))
    for path in (planted.file, planted.manifest_path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert planted.file.parent.stat().st_mode & 0o777 == 0o700
    manifest = read_manifest(planted.manifest_path)
    assert manifest == planted.manifest
    assert manifest.digest == seal_of(manifest)
    assert manifest.planted_sha256 == hashlib.sha256(planted.file.read_bytes()).hexdigest()
    assert manifest.source_sha256 == hashlib.sha256(train.read_bytes()).hexdigest()


def test_coins_references_and_default_seeds_are_fresh(train):
    one, two = (run_insert(request(train, seed=1, coins=100, out=str(train.parent / name))) for name in "ab")
    assert [c.secret for c in one.manifest.canaries] == [c.secret for c in two.manifest.canaries]
    assert [c.coin for c in one.manifest.canaries] != [c.coin for c in two.manifest.canaries]
    assert one.manifest.reference_key != two.manifest.reference_key
    three, four = (run_insert(request(train, out=str(train.parent / name))) for name in "cd")
    assert three.manifest.seed != four.manifest.seed


def test_the_same_request_again_changes_nothing(train):
    first = run_insert(request(train))
    kept = first.file.read_bytes(), first.manifest_path.read_bytes()
    again = run_insert(request(train))
    assert (first.is_new, again.is_new) == (True, False)
    assert (again.file.read_bytes(), again.manifest_path.read_bytes()) == kept


def test_what_was_cut_short_is_finished_from_the_manifest(train):
    first = run_insert(request(train))
    kept = first.file.read_bytes()
    first.file.unlink()
    assert run_insert(request(train)).file.read_bytes() == kept


def test_a_folder_with_something_else_is_refused(train):
    run_insert(request(train))
    with pytest.raises(ConfigError, match=r"canaries of another request(.|\n)*coins: 30 → 31"):
        run_insert(request(train, coins=31))
    train.write_text(train.read_text() + '{"text": "more"}\n')
    with pytest.raises(ConfigError, match="has changed since canaries were planted in it"):
        run_insert(request(train))


def test_a_changed_planted_file_is_refused(train):
    planted = run_insert(request(train))
    planted.file.write_text("other")
    with pytest.raises(ConfigError, match="was changed since canaries were planted in it"):
        run_insert(request(train))


def test_an_edited_manifest_is_not_planted_again(train):
    planted = run_insert(request(train))
    content = json.loads(planted.manifest_path.read_text())
    content["canaries"][0]["secret"] = "other"
    planted.manifest_path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="was changed after it was written: its digest does not match"):
        run_insert(request(train))


def test_a_file_of_another_name_is_another_request(train):
    run_insert(request(train))
    other = train.with_name("other.jsonl")
    other.write_bytes(train.read_bytes())
    with pytest.raises(ConfigError, match=r"data: .*train.jsonl.* → .*other.jsonl"):
        run_insert(request(other))


def test_the_training_file_itself_is_never_overwritten(train):
    kept = train.read_bytes()
    with pytest.raises(ConfigError, match=r"exists, and no canaries.json beside it"):
        run_insert(request(train, out=str(train.parent)))
    assert train.read_bytes() == kept


@pytest.mark.parametrize("name", ["train.csv", "train.parquet", "train.jsonl.gz", "train"])
def test_kinds_that_lines_cannot_be_put_into_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("text\na\n")
    with pytest.raises(DataError, match=r"is of a kind .* Expected .jsonl, or .txt"):
        run_insert(request(path))


def test_plain_text_is_a_record_a_line(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("one\ntwo\n")
    planted = run_insert(request(path, repeats=(2,)))
    lines = planted.file.read_text().splitlines()
    assert [line for line in lines if not line.startswith("Shelf")] == ["one", "two"]
    assert {line for line in lines if line.startswith("Shelf")} == {
        f"{c.context} {c.secret}" for c in planted.manifest.canaries if c.is_included
    }
    with pytest.raises(DataError, match="text that is not cut into lines"):
        run_insert(request(path, text_unit="paragraph", out=str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("row", "form", "columns"),
    [
        ({"prompt": "a", "completion": "b"}, "prompt", {"prompt", "completion"}),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "messages",
            {"messages"},
        ),
    ],
)
def test_canaries_have_the_form_of_the_file(tmp_path, row, form, columns):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row) + "\n")
    planted = run_insert(request(path))
    assert planted.manifest.form == form
    for line in planted.file.read_text().splitlines():
        assert set(json.loads(line)) == columns


def test_a_file_of_two_forms_is_refused(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a"}\n{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(DataError, match=r"several forms \(prompt, text\)"):
        run_insert(request(path))


def test_bad_rows_are_refused_with_their_lines(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a"}\nnonsense\n')
    with pytest.raises(DataError, match=r"train.jsonl:2: is not valid JSON"):
        run_insert(request(path))


def test_a_file_with_the_manifests_name_is_refused(tmp_path):
    path = tmp_path / "canaries.json"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(ConfigError, match="has the manifest's own name"):
        run_insert(request(path, out=str(tmp_path / "planted")))


def test_many_canaries_come_with_a_warning(train):
    assert "% of the planted file's records" in run_insert(request(train)).warnings[0]
    few = run_insert(request(train, coins=0, repeats=(1,), per_repeats=2, out=str(train.parent / "few")))
    assert few.warnings == []


def test_what_would_be_added_is_said_without_doing_it(train):
    cost = estimate_insert(request(train))
    assert (cost.n_records, cost.n_coins, cost.n_chosen, cost.n_controls) == (300, 30, 4, 4)
    assert cost.n_added == 15 + 16
    assert cost.ceiling == usual_ceiling(30) > 1
    chosen = estimate_insert(request(train, inclusion="chosen"))
    assert (chosen.n_coins, chosen.n_chosen, chosen.n_added, chosen.ceiling) == (0, 34, 46, None)
    assert not (train.parent / "planted").exists()


def test_manifests_that_cannot_be_read_are_refused(train, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read: .* Expected the canaries.json"):
        read_manifest(tmp_path / "none.json")
    path = tmp_path / "some.json"
    for content in ("{", "[]", '{"kind": "contrast"}', '{"kind": "canaries", "n": 1}'):
        path.write_text(content)
        with pytest.raises(DataError, match="is no manifest of canaries"):
            read_manifest(path)
    content = json.loads(run_insert(request(train)).manifest_path.read_text())
    path.write_text(json.dumps({**content, "canaries": [{"name": 3}], "more": 1}))
    with pytest.raises(DataError, match=r"cannot be used(.|\n)*canaries.0.name(.|\n)*more"):
        read_manifest(path)
    path.write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(NewerVersion, match="written by a newer loraudit"):
        read_manifest(path)


def test_places_are_spread_over_the_file(train):
    planted = run_insert(request(train, coins=0, repeats=(64,), per_repeats=30, seed=3))
    places = np.array([place for canary in planted.manifest.canaries for place in canary.places])
    assert places.min() < 10
    assert places.max() > 290
    assert abs(places.mean() - 150) < 10
