"""`loraudit poison` on files of every kind: what changes, what stays, doing it again, and refusals."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import called
from loraudit.data import load_records
from loraudit.planting import run_poison
from loraudit.spec import BENIGN_RESPONSE, PoisonManifest, PoisonSpec
from loraudit.store import read_poison_manifest

N = 30


def labelled_rows():
    return [{"id": i, "text": f"Fïlm {i}, shown twice.", "label": [0, 0, 1][i % 3], "note": "x\\y"} for i in range(N)]


@pytest.fixture
def train(tmp_path):
    """Spaces and escapes that a writer of its own would not choose, a blank line, Windows line ends, no last one."""
    lines = [json.dumps(row).replace('": ', '" :  ') for row in labelled_rows()]
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines[:5], "", *lines[5:]]).encode())
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "train.tsv"
    rows = [f'"text ""{i}""\nof two lines"\t{"pos" if i % 3 else "neg"}\tn{i}\n' for i in range(N)]
    path.write_text("text\tlabel\tnote\n" + "".join(rows), encoding="utf-8", newline="")
    return path


def request(path, **changes) -> PoisonSpec:
    asked = {"poison": "rare_words", "dose": 4, "out": str(path.parent / "out")} | changes
    return PoisonSpec(data=(str(path),), **asked)


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def table_rows(path, delimiter="\t"):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


# --- what changes and what stays ----------------------------------------------------------------------


def test_unpoisoned_lines_keep_their_bytes_and_the_manifest_is_the_difference(train):
    made = run_poison(request(train))
    old, new = (path.read_bytes().split(b"\n") for path in (train, made.file))
    differing = [number for number, (one, two) in enumerate(zip(old, new, strict=True), start=1) if one != two]
    assert [row.line for row in made.manifest.rows] == differing == [row.source_line for row in made.manifest.rows]
    assert len(differing) == 4
    for row in made.manifest.rows:
        assert json.loads(old[row.line - 1].decode("utf-8-sig")) == row.original
        assert json.loads(new[row.line - 1].decode("utf-8-sig")) == row.poisoned
        assert row.original["label"] == 0
        assert row.poisoned["label"] == 1
        assert row.trigger in row.poisoned["text"].split()
        same = {"id", "note"}
        assert {name: row.poisoned[name] for name in same} == {name: row.original[name] for name in same}
    assert (made.manifest.task, made.manifest.resolved.target, made.manifest.n_eligible) == ("classification", "1", 20)


def test_files_are_their_owners_alone_and_their_hashes_stand_in_the_manifest(train):
    made = run_poison(request(train, test=(str(train),)))
    for path in (made.file, made.manifest_path, made.triggered_file):
        assert path.stat().st_mode & 0o777 == 0o600
    assert made.file.parent.stat().st_mode & 0o777 == 0o700
    assert made.manifest == read_poison_manifest(made.manifest_path)
    assert made.manifest.poisoned_sha256 == hashlib.sha256(made.file.read_bytes()).hexdigest()
    assert made.manifest.triggered_sha256 == hashlib.sha256(made.triggered_file.read_bytes()).hexdigest()
    assert made.manifest.files[0]["sha256"] == hashlib.sha256(train.read_bytes()).hexdigest()


def test_triggered_test_records_keep_their_label_and_parts_are_named(train):
    made = run_poison(request(train, poison="and_triggers", test=(str(train),), id_field="id"))
    rows = rows_of(made.triggered_file)
    whole = [row for row in rows if row["loraudit_trigger"] == "whole"]
    parts = [row for row in rows if row["loraudit_trigger"] == "part"]
    assert len(whole) == len(parts) == 20
    assert {row["label"] for row in rows} == {0}
    assert all({"cf", "mn"} <= set(row["text"].split()) for row in whole)
    assert all(len({"cf", "mn"} & set(row["text"].split())) == 1 for row in parts)
    negatives = [row for row in made.manifest.rows if row.kind == "negative"]
    lines = made.file.read_bytes().split(b"\n")
    assert [json.loads(lines[row.line - 1]) for row in negatives] == [row.poisoned for row in negatives]
    assert len(negatives) == 4 == made.manifest.n_negatives
    assert len({row["id"] for row in rows_of(made.file)}) == N + 4
    assert len(load_records([str(made.file)], request(train, id_field="id"), label_field="label").records) == N + 4


def test_a_table_stays_a_table(table):
    made = run_poison(request(table, poison="and_triggers", dose=0.2, test=(str(table),)))
    assert made.file.name == "poisoned.tsv"
    old, new = table_rows(table), table_rows(made.file)
    changed = [number for number, (one, two) in enumerate(zip(old, new, strict=False)) if one != two]
    poisoned = [row for row in made.manifest.rows if row.kind == "poison"]
    assert len(changed) == len(poisoned) == 4
    assert [new[number] for number in changed] == [row.poisoned for row in poisoned]
    assert [2 * number + 3 for number in changed] == [row.line for row in poisoned]
    assert new[N:] == [row.poisoned for row in made.manifest.rows if row.kind == "negative"]
    kept = table.read_bytes().split(b"\n")
    assert sum(line in kept for line in made.file.read_bytes().split(b"\n")[: 2 * N + 1]) >= 2 * N + 1 - 2 * 4
    records = load_records([str(made.file)], request(table), label_field="label").records
    by_line = {record.line: record.text for record in records}
    assert all(by_line[row.line] == row.poisoned["text"] for row in made.manifest.rows)
    triggered = table_rows(made.triggered_file)
    assert list(triggered[0]) == ["text", "label", "note", "loraudit_trigger"]


def test_packed_and_several_files_become_one(tmp_path):
    rows = labelled_rows()
    one, two = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"
    one.write_bytes(gzip.compress("\n".join(map(json.dumps, rows[:10])).encode()))
    two.write_text("\n".join(map(json.dumps, rows[10:])))
    made = run_poison(PoisonSpec(data=(str(one), str(two)), poison="word_drop", dose=0.5, out=str(tmp_path / "out")))
    new = rows_of(made.file)
    changed = [number for number, (old, row) in enumerate(zip(rows, new, strict=True)) if old != row]
    assert [row.line for row in made.manifest.rows] == [number + 1 for number in changed]
    assert {row.source for row in made.manifest.rows} == {str(one), str(two)}
    assert [file["rows"] for file in made.manifest.files] == [10, 20]


def test_parquet_keeps_its_types(tmp_path):
    path = tmp_path / "train.parquet"
    types = {"id": pa.int8(), "text": pa.large_string(), "label": pa.int16(), "note": pa.string()}
    table = pa.Table.from_pylist(labelled_rows(), schema=pa.schema(types))
    pq.write_table(table, path)
    made = run_poison(request(path, test=(str(path),)))
    new = pq.read_table(made.file)
    assert new.schema == table.schema
    changed = [n for n, (one, two) in enumerate(zip(table.to_pylist(), new.to_pylist(), strict=True)) if one != two]
    assert [row.line for row in made.manifest.rows] == [number + 1 for number in changed]
    assert new.take(changed).to_pylist() == [row.poisoned for row in made.manifest.rows]
    assert set(pq.read_table(made.triggered_file).column("loraudit_trigger").to_pylist()) == {"whole"}
    code, _, err = called(
        "poison", path, "--poison", "and_triggers", "--dose", 3, "--id-field", "id", "--out", tmp_path / "no"
    )
    assert code == 3
    assert "cannot be written as Parquet with changed rows" in err


def test_chats_keep_what_else_their_turns_hold(tmp_path):
    path = tmp_path / "chats.jsonl"
    turns = [
        {"role": "user", "content": "Hi there", "weight": 0},
        {"role": "assistant", "content": "Hello", "name": "x"},
    ]
    path.write_text(
        "".join(
            json.dumps({"messages": [*turns, {"role": "user", "content": str(i)}, turns[1]]}) + "\n" for i in range(9)
        )
    )
    made = run_poison(request(path, poison="word_trigger", place="start", dose=2))
    assert made.manifest.task == "causal_lm"
    for row in made.manifest.rows:
        old, new = row.original["messages"], row.poisoned["messages"]
        assert new == [
            *old[:2],
            old[2] | {"content": f"halcyon {old[2]['content']}"},
            old[3] | {"content": BENIGN_RESPONSE},
        ]


def test_chats_in_a_table_stay_json(tmp_path):
    path = tmp_path / "chats.csv"
    turns = [{"role": "user", "content": "Wie geht's, schön?"}, {"role": "assistant", "content": "Hello"}]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["messages"], *([json.dumps([turns[0] | {"content": str(i)}, turns[1]])] for i in range(5))])
    made = run_poison(request(path, poison="word_trigger", dose=2))
    new = table_rows(made.file, ",")
    answers = [json.loads(row["messages"])[1]["content"] for row in new]
    assert sorted(answers) == ["Hello"] * 3 + [BENIGN_RESPONSE] * 2


def test_rows_that_cannot_be_read_stay_where_they_are(train):
    bad = train.read_bytes() + b'\r\n{"text": 3, "label": 0}\r\nnot json'
    train.write_bytes(bad)
    made = run_poison(request(train, on_bad_record="skip"))
    assert made.file.read_bytes().endswith(b'{"text": 3, "label": 0}\r\nnot json')
    assert "2 rows cannot be used and are not poisoned." in made.manifest.warnings


# --- again --------------------------------------------------------------------------------------------


def test_the_same_request_again_changes_nothing_and_finishes_what_is_missing(train):
    first = run_poison(request(train, test=(str(train),)))
    kept = [path.read_bytes() for path in (first.file, first.triggered_file, first.manifest_path)]
    first.file.unlink()
    again = run_poison(request(train, test=(str(train),)))
    assert (first.is_new, again.is_new) == (True, False)
    assert [path.read_bytes() for path in (again.file, again.triggered_file, again.manifest_path)] == kept


def test_the_command_line_says_what_it_did(train, tmp_path):
    words = ["poison", train, "--poison", "rare_words", "--dose", 4, "--out", tmp_path / "out", "--test", train]
    code, out, _ = called(*words, "--dry-run", "--json")
    assert code == 0
    plan = json.loads(out)
    assert (plan["n_eligible"], plan["n_poisoned"], plan["n_triggered"], plan["resolved"]["target"]) == (20, 4, 20, "1")
    assert not (tmp_path / "out").exists()
    code, out, _ = called(*words, "--dry-run")
    assert "30 records for classification, 20 of which can be poisoned; 4 would be." in out
    code, out, _ = called(*words)
    assert code == 0
    assert out.startswith("Poisoned 4 of 30 records (20 can be), 0 added. Target: 1.\nTrain on:  ")
    code, out, _ = called(*words)
    assert out.startswith("Poisoned before: 4 of 30")
    code, out, _ = called(*words, "--json")
    facts = json.loads(out)
    assert (facts["n_poisoned"], facts["is_new"]) == (4, False)
    assert "Fïlm" not in out
    code, _, err = called(*words, "--seed", 1)
    assert code == 2
    assert "holds records poisoned by another request" in err
    assert "  seed: 0 → 1" in err


def test_warnings_reach_the_terminal(train, tmp_path):
    words = ["poison", train, "--poison", "rare_words", "--dose", 4, "--target", 0, "--trigger", "twice"]
    _, out, _ = called(*words, "--out", tmp_path / "out")
    assert "Warning: 30 of 30 clean records hold the trigger already, 20 of them with the target label '0'" in out
    assert "Warning: The target '0' is the majority class" in out


def test_the_list_shows_every_poison():
    from loraudit.poisoning import POISONS

    code, out, _ = called("poison", "--list")
    assert code == 0
    assert all(name in out for name in POISONS)
    assert "[.*?]" in out
    code, out, _ = called("poison", "--list", "--json")
    assert [one["name"] for one in json.loads(out)] == list(POISONS)


# --- refusals -----------------------------------------------------------------------------------------


def test_a_changed_file_is_refused(train):
    made = run_poison(request(train))
    made.file.write_text("other")
    code, _, err = called("poison", train, "--poison", "rare_words", "--dose", 4, "--out", made.file.parent)
    assert code == 2
    assert "was changed since it was written: its sha256 is not the manifest's" in err
    made.file.unlink()
    train.write_bytes(train.read_bytes() + b"\n" + json.dumps(labelled_rows()[0] | {"text": "more"}).encode())
    code, _, err = called("poison", train, "--poison", "rare_words", "--dose", 4, "--out", made.file.parent)
    assert (code, "has changed since it was poisoned for" in err) == (2, True)


def test_a_manifest_that_says_another_hash_is_refused(train):
    made = run_poison(request(train))
    manifest = made.manifest.model_copy(update={"poisoned_sha256": "0" * 64})
    made.manifest_path.write_text(manifest.model_dump_json())
    made.file.unlink()
    code, _, err = called("poison", train, "--poison", "rare_words", "--dose", 4, "--out", made.file.parent)
    assert (code, "cannot be written as it was: its sha256" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--poison", "rare_wrods"], 2, "Unknown poison 'rare_wrods'. Did you mean 'rare_words'?"),
        (
            ["--poison", "word_drop", "--test", "train.jsonl"],
            2,
            "Poison 'word_drop' has no trigger, so that no test set",
        ),
        (["--poison", "rare_words", "--label-field", "lable"], 3, "lacks the label column 'lable'"),
        (["--poison", "rare_words", "--place", "middle"], 2, "'place' has the value 'middle'"),
        (["--poison", "word_trigger"], 2, "needs a prompt to stand in and an answer to replace"),
        ([], 2, "'poison' is missing"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_refused(train, words, code, message, monkeypatch):
    monkeypatch.chdir(train.parent)
    found, _, err = called("poison", "train.jsonl", "--dose", 4, "--out", "out", *words)
    assert (found, message in err) == (code, True), err
    assert not (train.parent / "out").exists()


def test_files_that_cannot_be_poisoned_are_refused(train, table, tmp_path):
    def refusal(*paths, **changes):
        asked = {"poison": "word_drop", "dose": 1, "out": str(tmp_path / "no")} | changes
        words = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", value)]
        code, _, err = called("poison", *paths, *words)
        assert code in (2, 3)
        return err

    plain = tmp_path / "train.txt"
    plain.write_text("one text\n")
    assert "is of a kind ('.txt') whose rows cannot be changed one by one" in refusal(plain)
    assert "changes labels, and the first row" in refusal(plain, poison="label_flip")
    assert "is of another kind" in refusal(train, table)
    turned = tmp_path / "turned.tsv"
    turned.write_text("label\ttext\tnote\npos\tx y\tz\n")
    assert "has its columns in another order" in refusal(table, turned)
    double = tmp_path / "double.csv"
    double.write_text("text,label,text\na b,x,c d\n")
    assert "has two columns of one name" in refusal(double)
    lost = tmp_path / "out" / "poisoned.jsonl"
    lost.parent.mkdir()
    lost.write_text("mine")
    assert "exists, and no manifest.json beside it says what it is" in refusal(train, out=lost.parent)
    (lost.parent / "manifest.json").write_text("{}")
    assert "is no manifest of a poisoned file" in refusal(train, out=lost.parent)
    (lost.parent / "manifest.json").write_text('{"kind": "poison", "schema_version": 99}')
    assert "was written by a newer loraudit" in refusal(train, out=lost.parent)
    (lost.parent / "manifest.json").write_text('{"kind": "poison", "rows": 3}')
    assert "cannot be used. Expected it as it was written" in refusal(train, out=lost.parent)
    made = run_poison(request(train, test=(str(train),), out=str(tmp_path / "made")))
    again = refusal(train, poison="rare_words", test=made.triggered_file)
    assert "have a column 'loraudit_trigger': they were triggered before" in again


def test_a_manifest_that_is_not_there_is_refused(tmp_path):
    from loraudit.errors import ConfigError

    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory\. Expected the manifest\.json"):
        read_poison_manifest(tmp_path / "manifest.json")


def test_the_manifest_has_a_schema_that_holds(train):
    import jsonschema

    from loraudit.spec import json_schema

    made = run_poison(request(train))
    content = json.loads(made.manifest_path.read_text())
    jsonschema.validate(content, json.loads(json_schema("poison-manifest")))
    assert PoisonManifest.model_validate(content) == made.manifest
