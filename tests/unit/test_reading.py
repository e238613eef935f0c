"""Files to rows: the same content in every format, and every bad row named with its line."""

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.data import load_records, names_file, read_rows, record_id
from loraudit.data.streaming import MAX_ROW_BYTES
from loraudit.errors import DataError, LorauditError
from loraudit.spec import RecordFormat

LAYOUT = RecordFormat()
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def save(path: Path, content: bytes | str) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def json_lines(rows: list) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table_text(rows: list[dict], delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet(table: pa.Table | dict) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table) if isinstance(table, dict) else table, buffer)
    return buffer.getvalue()


def texts_of(path: str, **options) -> list:
    content = read_rows(path, **options)
    assert content.problems == []
    return [row if isinstance(row, str) else row["text"] for _, row in content.rows]


# --- the same content in every format -----------------------------------------------------------------

# A NUL is refused in every format; all else that UTF-8 can write must survive each of them.
UNICODE = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(UNICODE, min_size=1, max_size=5, unique=True))
def test_the_same_texts_have_the_same_ids_in_every_format(texts):
    rows = [{"number": str(number), "text": text} for number, text in enumerate(texts)]
    files = {
        "a.jsonl": json_lines(rows),
        "unescaped.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
        "marked.jsonl": b"\xef\xbb\xbf" + json_lines(rows),
        "windows.jsonl": json_lines(rows).replace(b"\n", b"\r\n"),
        "no_end.ndjson": json_lines(rows).removesuffix(b"\n"),
        "a.csv": table_text(rows, ","),
        "marked.csv": b"\xef\xbb\xbf" + table_text(rows, ","),
        "a.tsv": table_text(rows, "\t"),
        "a.parquet": parquet({"text": texts}),
        "a.jsonl.gz": gzip.compress(json_lines(rows)),
        "a.csv.gz": gzip.compress(table_text(rows, ",")),
        "a.tsv.bz2": bz2.compress(table_text(rows, "\t")),
        "a.json.xz": lzma.compress(json_lines(rows)),
    }
    expected = [record_id(text=text) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            found = load_records([save(Path(folder) / name, content)], LAYOUT)
            assert [record.id for record in found.records] == expected, name
            assert [record.text for record in found.records] == texts, name


# A line of a text file cannot hold a line break, and one without content is no record.
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\x00\n\r\ufeff"), max_size=30).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=5, unique=True), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_lines_of_text_have_the_ids_they_have_as_json(lines, line_end, is_marked):
    content = b"\xef\xbb\xbf" * is_marked + line_end.join(lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        found = load_records([save(Path(folder) / "a.txt", content)], LAYOUT)
    assert [record.id for record in found.records] == [record_id(text=line) for line in lines]


def test_a_chat_has_the_same_id_in_json_lines_in_csv_and_in_parquet(tmp_path):
    chat = [{"role": "user", "content": 'say "é",\nplease'}, {"role": "assistant", "content": "é"}]
    files = [
        save(tmp_path / "a.jsonl", json_lines([{"messages": chat}])),
        save(tmp_path / "a.csv", table_text([{"messages": json.dumps(chat)}], ",")),
        save(tmp_path / "a.tsv", table_text([{"messages": json.dumps(chat)}], "\t")),
        save(tmp_path / "a.parquet", parquet({"messages": [chat]})),
    ]
    assert len({load_records([path], LAYOUT).records[0].id for path in files}) == 1


# --- each format --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "A.JSONL", "a.v1.jsonl"])
def test_json_lines_are_read_packed_or_not(name, packing, tmp_path):
    path = save(tmp_path / (name + packing), PACK[packing](b'{"text": "one"}\n\n  \n{"text": "two"}\n'))
    assert read_rows(path).rows == [(1, {"text": "one"}), (4, {"text": "two"})]


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_tables_are_read_packed_or_not(suffix, delimiter, packing, tmp_path):
    rows = [{"id": "1", "text": 'a, "b"\tc'}, {"id": "2", "text": "two\r\nlines\nhere"}, {"id": "3", "text": ""}]
    path = save(tmp_path / f"a{suffix}{packing}", PACK[packing](table_text(rows, delimiter)))
    content = read_rows(path)
    assert [row for _, row in content.rows] == rows
    assert content.rows[0][0] == 2
    assert content.problems == []


def test_a_parquet_file_gives_rows_from_one(tmp_path):
    path = save(tmp_path / "a.parquet", parquet({"text": ["one", None, "three"], "n": [1, 2, 3]}))
    assert read_rows(path).rows == [
        (1, {"text": "one", "n": 1}),
        (2, {"text": None, "n": 2}),
        (3, {"text": "three", "n": 3}),
    ]


def test_a_parquet_file_of_dictionary_and_large_strings_gives_plain_texts(tmp_path):
    texts = pa.array(["one", "two", "one"])
    for column in (texts.dictionary_encode(), texts.cast(pa.large_string())):
        assert texts_of(save(tmp_path / "a.parquet", parquet({"text": column}))) == ["one", "two", "one"]


def test_a_parquet_file_with_columns_that_python_cannot_hold_is_still_read(tmp_path):
    nanoseconds = pa.array([1, 2], pa.timestamp("ns"))
    path = save(tmp_path / "a.parquet", parquet({"text": ["one", "two"], "when": nanoseconds}))
    assert texts_of(path) == ["one", "two"]


@pytest.mark.parametrize("suffix", [".txt", ".md", ".txt.gz"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_text_file_is_cut_into_lines_paragraphs_or_nothing(suffix, line_end, tmp_path):
    lines = ["", "one", "two", "", " ", "three ", "", "four"]
    content = line_end.join(lines).encode()
    path = save(tmp_path / f"a{suffix}", gzip.compress(content) if suffix.endswith(".gz") else content)
    assert read_rows(path).rows == [(2, "one"), (3, "two"), (6, "three "), (8, "four")]
    assert read_rows(path, text_unit="paragraph").rows == [(2, "one\ntwo"), (6, "three "), (8, "four")]
    assert read_rows(path, text_unit="file").rows == [(1, "\n".join(lines))]


def test_only_a_line_feed_ends_a_line(tmp_path):
    line = "a\rb\x0bc\x0cd\x85e\u2028f\u2029g\x1ch"
    assert texts_of(save(tmp_path / "a.txt", f"{line}\n{line}")) == [line, line]


@pytest.mark.parametrize("unit", ["line", "paragraph"])
@pytest.mark.parametrize("content", ["", "\n", " \n\r\n\n"])
def test_a_text_file_without_content_has_no_rows(content, unit, tmp_path):
    assert read_rows(save(tmp_path / "a.txt", content), text_unit=unit).rows == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt"])
def test_an_empty_file_has_no_rows(name, tmp_path):
    content = read_rows(save(tmp_path / name, b""))
    assert (content.rows, content.problems) == ([], [])


@pytest.mark.parametrize("name", ["a b.jsonl", "größe ü.jsonl", "記録.jsonl", "quote'd.jsonl", "new\nline.jsonl"])
def test_paths_with_spaces_and_unicode_are_read_and_named_as_given(name, tmp_path):
    path = save(tmp_path / name, b'{"text": "one"}\n')
    assert texts_of(path) == ["one"]
    assert read_rows(path).path == path


@pytest.mark.parametrize("packing", PACK)
def test_the_hash_is_that_of_the_file_as_it_lies_there(packing, tmp_path):
    path = save(tmp_path / f"a.jsonl{packing}", PACK[packing](b'{"text": "one"}\n'))
    assert read_rows(path).sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


# --- bad rows: all of them, each with its line and reason ---------------------------------------------


def test_every_bad_line_of_json_is_named_at_once(tmp_path):
    lines = [
        b'{"text": "good"}',
        b'{"text": "no end"',
        b'["a list"]',
        b'{"text": "caf\xe9"}',
        b'{"text": "good too"}',
        b'"a string"',
        b"7",
        b"null",
        b"{'text': 'single quotes'}",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ]
    content = read_rows(save(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert content.rows == [(1, {"text": "good"}), (5, {"text": "good too"})]
    assert content.problems == [
        (2, "is not valid JSON: Expecting ',' delimiter"),
        (3, "holds a JSON list, not an object"),
        (4, "is not UTF-8 at byte 13 (0xe9)"),
        (6, "holds a JSON str, not an object"),
        (7, "holds a JSON int, not an object"),
        (8, "holds a JSON NoneType, not an object"),
        (9, "is not valid JSON: Expecting property name enclosed in double quotes"),
        (10, "is not valid JSON: RecursionError"),
        (11, "is not valid JSON: ValueError"),
    ]


def test_a_json_array_over_many_lines_is_explained(tmp_path):
    content = read_rows(save(tmp_path / "a.json", json.dumps([{"text": "one"}, {"text": "two"}], indent=2)))
    assert content.rows == []
    assert content.problems[0] == (
        1,
        "is not valid JSON: Expecting value (one JSON object per line is expected)",
    )


def test_a_json_array_on_one_line_is_explained(tmp_path):
    content = read_rows(save(tmp_path / "a.json", json.dumps([{"text": "one"}])))
    assert content.problems == [(1, "holds a JSON list, not an object")]


def test_a_line_longer_than_16_mib_is_named_and_the_others_are_read(tmp_path):
    fits = b'{"text": "' + b"a" * (MAX_ROW_BYTES - 13) + b'"}\n'
    assert len(fits) == MAX_ROW_BYTES
    too_long = b'{"text": "' + b"a" * (17 * 2**20) + b'"}\n'
    content = read_rows(save(tmp_path / "a.jsonl", fits + too_long + b'{"text": "after"}\n'))
    assert content.problems == [(2, "is 17 MiB long; at most 16 MiB are read")]
    assert [line for line, _ in content.rows] == [1, 3]


def test_a_line_of_text_that_is_not_utf8_is_named_and_the_others_are_read(tmp_path):
    content = read_rows(save(tmp_path / "a.txt", b"one\ncaf\xe9\nthree\n"))
    assert content.rows == [(1, "one"), (3, "three")]
    assert content.problems == [(2, "is not UTF-8 at byte 3 (0xe9)")]


@pytest.mark.parametrize(("unit", "whole"), [("paragraph", [(5, "five")]), ("file", [])])
def test_a_text_with_an_unreadable_line_is_left_out_whole_never_read_in_part(unit, whole, tmp_path):
    content = read_rows(save(tmp_path / "a.txt", b"one\ncaf\xe9\nthree\n\nfive\n"), text_unit=unit)
    assert content.rows == whole
    assert content.problems == [(2, "is not UTF-8 at byte 3 (0xe9)")]


def test_cells_missing_or_too_many_are_named_with_the_number_of_columns(tmp_path):
    path = save(tmp_path / "a.csv", b"id,text\n1,one\n2\n\n3,three,more\n4,four\n")
    content = read_rows(path)
    assert content.rows == [(2, {"id": "1", "text": "one"}), (6, {"id": "4", "text": "four"})]
    assert content.problems == [(3, "has fewer cells than the 2 columns"), (5, "has more cells than the 2 columns")]


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b'3,"three" and more\n', "is not valid CSV: ',' expected after '\"'"),
        (b'3,"three', "is not valid CSV: unexpected end of data"),
        (b"3," + b"a" * (17 * 2**20) + b"\n", "is not valid CSV: field larger than field limit"),
    ],
    ids=["text after a quote", "open quote", "17 MiB cell"],
)
def test_a_table_that_breaks_off_is_named_with_the_line_it_breaks_off_in(rest, reason, tmp_path):
    content = read_rows(save(tmp_path / "a.csv", b"id,text\n1,one\n2,two\n" + rest))
    assert [row["id"] for _, row in content.rows] == ["1", "2"]
    ((line, said),) = content.problems
    assert said.startswith(reason)
    assert said.endswith("; the rows after it cannot be read")
    assert line == 4


def test_a_table_that_cannot_be_read_to_its_end_is_refused_even_where_bad_rows_are_skipped(tmp_path):
    """Skipping leaves out rows that are counted; here nobody knows how many there were."""
    broken = b'id,text\n1,one\n2,"two" and more\n' + b"".join(b"%d,row %d\n" % (i, i) for i in range(3, 1000))
    path = save(tmp_path / "a.csv", broken)
    try:
        found = load_records([path], RecordFormat(on_bad_record="skip"))
    except DataError:
        return
    assert found.n_read == 999
    assert len(found.records) == 998


def test_cells_that_are_not_utf8_are_reported_by_line(tmp_path):
    path = save(tmp_path / "a.csv", b"id,text\n1,one\n2,caf\xe9\n")
    with pytest.raises(DataError) as caught:
        load_records([path], LAYOUT)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:3: 'text' holds a character that is not valid Unicode")


# --- bad files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.txt.gz"])
def test_utf16_is_refused_with_the_command_that_converts_it(name, encoding, tmp_path):
    mark = {"utf-16": "", "utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}[encoding]
    content = (mark + '{"text": "héllo"}\n').encode(encoding)
    path = save(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(
        DataError, match=r"is UTF-16\. Expected UTF-8\. (Unpack it and run|Run): iconv -f UTF-16 -t UTF-8 "
    ):
        read_rows(path)


@pytest.mark.skipif(shutil.which("iconv") is None, reason="iconv is not installed")
@pytest.mark.parametrize("name", ["a.txt", "a b.txt", "größe.txt", "it's.txt"])
def test_the_command_that_converts_utf16_works_as_it_is_printed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path(name), "héllo\nwörld\n".encode("utf-16"))
    with pytest.raises(DataError) as caught:
        read_rows(name)
    command = str(caught.value).split("Run: ", 1)[1]
    subprocess.run(["sh", "-c", command], check=True, timeout=10)
    assert texts_of(shlex.split(command)[-1]) == ["héllo", "wörld"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.docx", ".docx"),
        ("a", "none"),
        ("a.gz", "none"),
        ("a.jsonl.zst", ".zst"),
        (".jsonl", "none"),
        ("a.xlsx.gz", ".xlsx"),
    ],
)
def test_an_unknown_kind_of_file_is_refused_with_the_known_ones(name, kind, tmp_path):
    path = save(tmp_path / name, b"x")
    with pytest.raises(DataError, match=rf"is of an unknown kind '{kind}'\. Expected \.jsonl, \.csv, \.tsv, \.parquet"):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"^File '.*no\.jsonl' cannot be read: No such file or directory\. Check the path"
    ):
        read_rows(str(tmp_path / "no.jsonl"))


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DataError, match=r"cannot be read: Is a directory\."):
        read_rows(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_truncated_packed_file_is_refused(name, packing, tmp_path):
    rows = [{"text": hashlib.sha256(b"%d" % i).hexdigest()} for i in range(2000)]
    whole = PACK[packing](table_text(rows, ",") if name == "a.csv" else json_lines(rows))
    path = save(tmp_path / (name + packing), whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read: .*end.*\. Check the path"):
        read_rows(path)


def test_a_file_that_is_not_packed_as_its_name_says_is_refused(tmp_path):
    for packing in (".gz", ".bz2", ".xz"):
        path = save(tmp_path / f"a.jsonl{packing}", b'{"text": "plain"}\n')
        with pytest.raises(DataError, match="cannot be read"):
            read_rows(path)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz"])
def test_no_flipped_bit_of_a_packed_file_is_anything_but_a_data_error(packing, tmp_path):
    whole = PACK[packing](json_lines([{"text": f"row {i} " + "abc" * i} for i in range(40)]))
    path = tmp_path / f"a.jsonl{packing}"
    strangers = set()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        save(path, bytes(flipped))
        try:
            load_records([str(path)], LAYOUT)
        except LorauditError:
            pass
        except Exception as error:  # the law is about every kind
            strangers.add(f"{type(error).__name__}: {error}"[:80])
    assert strangers == set()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_parquet_file_is_refused(share, tmp_path):
    whole = parquet({"text": [f"row {i}" for i in range(100)]})
    path = save(tmp_path / "a.parquet", whole[: int(share * len(whole))])
    with pytest.raises(
        DataError, match=r"^File '.*a\.parquet' (is not a whole Parquet file|cannot be read): "
    ) as refused:
        read_rows(path)
    assert ".." not in str(refused.value).removeprefix(f"File '{path}'")


def test_a_parquet_text_that_is_not_utf8_is_an_error_of_the_data(tmp_path):
    bounds = pa.py_buffer(bytes([0, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0]))
    column = pa.Array.from_buffers(pa.string(), 2, [None, bounds, pa.py_buffer(b"a\xffcabc")])
    path = save(tmp_path / "a.parquet", parquet({"text": column}))
    with pytest.raises(DataError, match=r"UTF-8|utf-8"):
        load_records([path], LAYOUT)


def test_no_flipped_bit_of_a_parquet_file_is_anything_but_a_data_error(tmp_path):
    whole = parquet({"text": [f"row {i} é" for i in range(20)]})
    path, strangers = tmp_path / "a.parquet", set()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x80 if place % 2 else 1
        save(path, bytes(flipped))
        try:
            load_records([str(path)], LAYOUT)
        except LorauditError:
            pass
        except Exception as error:  # the law is about every kind
            strangers.add(f"{type(error).__name__}: {error}"[:80])
    assert strangers == set()


@pytest.mark.parametrize("name", ["a.jsonl", "b/c.CSV", "d.json.gz", "e.txt.xz", "f.parquet", "g.md"])
def test_names_of_files_of_records_are_told(name):
    assert names_file(name)


@pytest.mark.parametrize("text", ["We met at noon.", "a.gz", "", "one\ntwo", "v1.2", "x" * 5000])
def test_texts_are_no_names_of_files(text):
    assert not names_file(text)
