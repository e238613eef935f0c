"""Records are found by their places in one pass and read back from there as if the whole file had been read."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.bulk import blocks, index
from loraudit.bulk.index import INDEX_NAME, make_index, read_index, write_index
from loraudit.bulk.parts import Mark, mark_path, part_path, read_mark, remove_parts_from, write_part
from loraudit.bulk.records import RecordReader
from loraudit.data import RowStream, load_records, read_rows
from loraudit.errors import DataError
from loraudit.spec import RecordFormat

TEXTS = [f'Record {i}: äöü “{"x" * (i % 7)}”\tand, "more".' for i in range(57)]
QUESTION = {"files": ["as asked"]}


def write_json(path, texts=TEXTS):
    lines = "".join(json.dumps({"text": text, "own": str(i)}) + "\n" * (1 + i % 3) for i, text in enumerate(texts))
    content = lines.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def write_table(path, delimiter):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["text", "own"])
        for i, text in enumerate(TEXTS):
            writer.writerow([f"{text}\r\nsecond line" if i % 2 else text, i])
    return str(path)


def write_parquet(path):
    table = pa.table({"text": TEXTS, "own": list(map(str, range(len(TEXTS)))), "unused": range(len(TEXTS))})
    pq.write_table(table, path, row_group_size=11)
    return str(path)


def write_text(path):
    path.write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    return str(path)


KINDS = {
    "r.jsonl": (write_json, "line"),
    "r.json.gz": (write_json, "line"),
    "r.csv": (lambda path: write_table(path, ","), "line"),
    "r.tsv": (lambda path: write_table(path, "\t"), "line"),
    "r.parquet": (write_parquet, "line"),
    "r.txt": (write_text, "line"),
    "paragraphs.txt": (write_text, "paragraph"),
    "whole.md": (write_text, "file"),
}


def made(name, folder):
    write, text_unit = KINDS[name]
    return write(folder / name), text_unit


def indexed(paths, records_per_unit=5, **options):
    layout = RecordFormat(**options)
    return make_index(paths, layout, records_per_unit=records_per_unit), layout


def units_of(found, records_per_unit=5):
    return [found.unit(number, cut) for number, cut in enumerate(found.blocks_per_unit(records_per_unit))]


def records_of(units, paths, layout):
    with RecordReader(paths, layout) as reader:
        return [record for unit in units for block in unit.blocks for record in reader.records(block)]


# --- rows from any place ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_rows_read_on_from_any_place_are_those_of_the_whole_file(name, tmp_path):
    path, text_unit = made(name, tmp_path)
    whole = read_rows(path, text_unit=text_unit).rows
    with RowStream(path, text_unit=text_unit) as stream:
        found = list(stream.rows())
        assert [(one.line, one.row) for one in found] == whole
        for first in range(0, len(found), 7):
            again = list(stream.rows(found[first].next))
            assert again == found[first + 1 :]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6), min_size=1, max_size=8))
def test_rows_of_any_table_can_be_read_on_from_any_place(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("t") / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "n"], *([cell, i] for i, cell in enumerate(cells))])
    with RowStream(str(path)) as stream:
        found = list(stream.rows())
        assert [one.row["text"] for one in found] == cells
        assert all(list(stream.rows(one.next)) == found[i + 1 :] for i, one in enumerate(found))


# --- blocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_records_of_all_units_are_those_of_the_file_in_their_order(name, tmp_path):
    path, text_unit = made(name, tmp_path)
    found, layout = indexed([path], text_unit=text_unit)
    expected = load_records([path], layout).records
    units = units_of(found)
    read = records_of(units, [path], layout)
    assert read == list(expected)
    assert [unit.n_records for unit in units][:-1] == [5] * (len(units) - 1)
    # A worker is given some of the units, in any order, and again after another worker died.
    order = np.random.default_rng(0).permutation(len(units))
    with RecordReader([path], layout) as reader:
        for number in [*order, order[-1]]:
            own = [record for block in units[number].blocks for record in reader.records(block)]
            assert own == read[5 * number : 5 * number + 5]


def test_a_unit_may_reach_over_files_and_parts_are_in_the_order_of_the_files(tmp_path):
    paths = [write_json(tmp_path / f"{i}.jsonl", TEXTS[4 * i : 4 * i + 3]) for i in range(5)]
    found, layout = indexed(paths)
    units = units_of(found)
    assert [unit.n_records for unit in units] == [5, 5, 5]
    assert {len(block.segments) for unit in units for block in unit.blocks} == {2, 3}
    read = records_of(units, paths, layout)
    assert [record.source for record in read] == [path for path in paths for _ in range(3)]
    assert [file["rows"] for file in found.files] == [3] * 5


@pytest.mark.parametrize("records_per_unit", [None, 1, 9, 1000, 2500, 10_000])
def test_every_block_is_in_one_unit_and_units_are_as_large_as_asked(records_per_unit, tmp_path):
    path = write_json(tmp_path / "r.jsonl", [str(i) for i in range(5000)])
    found, _ = indexed([path], records_per_unit)
    cuts = found.blocks_per_unit(records_per_unit)
    assert [block for cut in cuts for block in range(cut.start, cut.stop)] == list(range(found.n_blocks))
    sizes = [int(found.n_records[cut].sum()) for cut in cuts]
    assert sum(sizes) == 5000
    if records_per_unit is None:
        assert sizes == [1024] * 4 + [904]
    else:
        assert all(size >= records_per_unit for size in sizes[:-1])
        assert all(size < records_per_unit + 1024 for size in sizes)


def test_blocks_are_the_same_however_large_units_are(tmp_path):
    path = write_json(tmp_path / "r.jsonl", [str(i) for i in range(5000)])
    plain, large = (indexed([path], size)[0] for size in (None, 4000))
    assert np.array_equal(plain.digests, large.digests)
    assert np.array_equal(plain.segments, large.segments)


def test_there_are_never_more_than_ten_thousand_units_by_default():
    n_blocks = 25_001
    nothing = np.zeros((n_blocks, 4), dtype=np.int64)
    found = blocks.Index((), nothing, np.arange(n_blocks + 1), np.full(n_blocks, 1024), nothing, 0, 0)
    cuts = found.blocks_per_unit(None)
    assert {cut.stop - cut.start for cut in cuts[:-1]} == {3}
    assert len(cuts) <= blocks.MOST_UNITS


def test_a_block_of_long_records_ends_by_its_size(tmp_path):
    path = write_json(tmp_path / "r.jsonl", ["x" * 2**20] * 10)
    found, _ = indexed([path], None)
    assert found.n_records.tolist() == [4, 4, 2]


def test_looking_for_records_takes_no_more_memory_for_more_of_them(tmp_path):
    peaks = []
    for n_records in (2000, 8000):
        path = write_json(tmp_path / f"{n_records}.jsonl", [f"{i} " + "words " * 40 for i in range(n_records)])
        tracemalloc.start()
        indexed([path], None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], peaks
    assert peaks[1] < 0.5 * 8000 * 240, "about as much as the records themselves"


# --- rows that cannot be read -------------------------------------------------------------------------


def test_all_bad_rows_of_all_files_are_named_at_once(tmp_path):
    one, two, gone = tmp_path / "one.jsonl", tmp_path / "two.csv", tmp_path / "gone.jsonl"
    one.write_text('{"text": "good"}\n{"text": \n[1]\n{"text": 3}\n', encoding="utf-8")
    two.write_text("text,n\nfine,1\nshort\n", encoding="utf-8")
    with pytest.raises(DataError, match="4 of 6 rows cannot be used") as caught:
        indexed([str(one), str(two), str(gone)])
    message = str(caught.value)
    assert f"{one}:2: is not valid JSON" in message
    assert f"{one}:3: holds a JSON list, not an object" in message
    assert f"{one}:4: 'text' is an int, not a string" in message
    assert f"{two}:3: has fewer cells than the 2 columns" in message
    assert f"'{gone}' cannot be read: No such file" in message


def test_bad_rows_are_skipped_and_counted_where_asked(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [json.dumps({"text": text}) if i % 4 else "{" for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(lines), encoding="utf-8")
    found, layout = indexed([str(path)], on_bad_record="skip")
    assert (found.n_read, found.n_bad) == (57, 15)
    read = records_of(units_of(found), [str(path)], layout)
    assert read == list(load_records([str(path)], layout).records)


def test_a_line_of_fifty_megabytes_is_a_bad_row_that_is_never_held(tmp_path):
    path = tmp_path / "r.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(50):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"text": "behind"}\n')
    tracemalloc.start()
    found, layout = indexed([str(path)], on_bad_record="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.n_read, found.n_bad) == (3, 1)
    assert peak < 40 * 2**20, "the line was held as a whole"
    assert [record.text for record in records_of(units_of(found), [str(path)], layout)] == ["before", "behind"]
    with pytest.raises(DataError, match=r"r\.jsonl:2: is 50 MiB long; at most 16 MiB are read"):
        indexed([str(path)])


def test_a_table_that_breaks_off_is_never_skipped(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text('text\nfine\n"open', encoding="utf-8")
    with pytest.raises(DataError, match="the rows after it cannot be read"):
        indexed([str(path)], on_bad_record="skip")


def test_files_without_records_are_refused(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.touch()
    with pytest.raises(DataError, match=r"No record found in .*empty\.jsonl\. Expected at least one"):
        indexed([str(path)])


def test_columns_of_parquet_that_no_record_needs_are_not_read(tmp_path):
    path = write_parquet(tmp_path / "r.parquet")
    found, layout = indexed([path], id_field="own")
    assert records_of(units_of(found)[1:2], [path], layout)[0].own_id == "5"
    with pytest.raises(DataError, match="it has 'text', 'own', 'unused'"):
        indexed([path], text_field="body")


def test_a_file_that_changes_after_it_was_looked_at_is_refused_in_words(tmp_path):
    path = tmp_path / "r.jsonl"
    write_json(path)
    found, layout = indexed([str(path)])
    write_json(path, [text.replace("Record 12", "Record 21") for text in TEXTS])
    units = units_of(found)[2:3]
    with pytest.raises(DataError, match=r"r\.jsonl' changed while it was being scored.*Run the same command again"):
        records_of(units, [str(path)], layout)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="changed while it was being scored"):
        records_of(units, [str(path)], layout)


# --- kept between runs --------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    path = write_json(tmp_path / "r.jsonl")
    found, _ = indexed([path])
    write_index(tmp_path, found, QUESTION)
    return tmp_path, found


def test_an_index_is_read_back_as_it_was(kept):
    folder, found = kept
    again = read_index(folder, QUESTION)
    assert again is not None
    assert units_of(again) == units_of(found)
    assert (again.files, again.n_read, again.n_bad) == (found.files, found.n_read, found.n_bad)
    assert (folder / INDEX_NAME).stat().st_mode & 0o077 == 0, "it names the user's files"


@pytest.mark.parametrize("what", ["question", "file", "gone", "cut", "bit", "absent"])
def test_an_index_that_no_longer_holds_is_made_anew(what, kept):
    folder, _ = kept
    kept_file = folder / INDEX_NAME
    content = kept_file.read_bytes()
    if what == "file":
        write_json(folder / "r.jsonl", TEXTS[:-1])
    elif what == "gone":
        (folder / "r.jsonl").unlink()
    elif what == "cut":
        kept_file.write_bytes(content[:-9])
    elif what == "bit":
        kept_file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif what == "absent":
        kept_file.unlink()
    assert read_index(folder, {"files": ["others"]} if what == "question" else QUESTION) is None


def test_the_problems_kept_are_few_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_PROBLEMS_KEPT", 10)
    path = tmp_path / "r.jsonl"
    path.write_text("{\n" * 100, encoding="utf-8")
    with pytest.raises(DataError, match="100 of 100 rows cannot be used") as caught:
        indexed([str(path)])
    assert len(caught.value.problems) == 10


# --- parts --------------------------------------------------------------------------------------------


@pytest.fixture
def part(tmp_path):
    for name in ("scores", "marks"):
        (tmp_path / name).mkdir()
    found, _ = indexed([write_json(tmp_path / "r.jsonl")])
    unit = units_of(found)[3]
    rows = pa.table({"status": ["ok", "ok", "no_tokens"], "loss": [1.0, float("nan"), float("nan")]})
    mark = write_part(tmp_path, unit, rows, "asked", n_tokens=7, n_model_tokens=14, n_windowed=0)
    return tmp_path, unit, mark


def test_a_part_is_whole_with_its_mark(part):
    folder, unit, mark = part
    assert (mark.status, mark.undefined, mark.n_records) == ({"ok": 2, "no_tokens": 1}, {"loss": 2}, 3)
    assert read_mark(folder, unit, "asked") == (mark, False)
    assert [path.name for path in (folder / "scores").iterdir()] == ["part-00003.parquet"]
    assert Mark.model_validate_json(mark_path(folder, 3).read_bytes()) == mark


def test_a_part_of_another_request_is_none_and_not_damaged(part):
    folder, unit, _ = part
    assert read_mark(folder, unit, "something else") == (None, False)
    assert read_mark(folder, unit._replace(number=4), "asked") == (None, False)


@pytest.mark.parametrize("what", ["cut", "bit", "gone", "mark"])
def test_a_damaged_part_is_seen(what, part):
    folder, unit, _ = part
    path = part_path(folder, 3)
    content = path.read_bytes()
    if what == "cut":
        path.write_bytes(content[:-1])
    elif what == "bit":
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    elif what == "gone":
        path.unlink()
    else:
        mark_path(folder, 3).write_text("{")
    assert read_mark(folder, unit, "asked") == (None, True)


def test_parts_beyond_the_last_are_taken_away(part):
    folder, _, _ = part
    remove_parts_from(folder, 4)
    assert part_path(folder, 3).exists()
    remove_parts_from(folder, 3)
    assert not part_path(folder, 3).exists()
    assert not mark_path(folder, 3).exists()
