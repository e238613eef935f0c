"""Records that cannot be read, stand on both sides or are too few: every problem named at once, or counted."""

from __future__ import annotations

import html
import json

import pyarrow.parquet as pq
import pytest

from loraudit.data import record_id
from loraudit.statistics import rate_metric


def jsonl(path, rows):
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return path


BAD_LINES = {
    2: (b'{"text": "not closed}', "is not valid JSON: Unterminated string"),
    3: (b"\xef\xbb\xbf" + b'{"text": "a mark in the middle"}', "is not valid JSON: Unexpected UTF-8 BOM"),
    4: (b'{"text": "a \\u0000 in it"}', "'text' holds a NUL character"),
    5: (b'{"text": "half a pair \\ud800"}', "'text' holds a character that is not valid Unicode (U+D800)"),
    6: (b'{"text": "caf\xe9"}', "is not UTF-8 at byte 13 (0xe9)"),
    7: (b'{"body": "wrong column"}', "has none of the columns 'text', "),
    8: (b'{"text": 7}', "'text' is an int, not a string"),
    9: (b'{"text": ["a", "b"]}', "'text' is a list, not a string"),
    10: (b'{"text": true}', "'text' is a bool, not a string"),
    11: (b'["a list"]', "holds a JSON list, not an object"),
    12: (b'"a string"', "holds a JSON str, not an object"),
    13: (b'{"text": null}', ""),
    14: (b'{"text": "a", "text": {"again": 1}}', "'text' is a dict, not a string"),
    15: (b'\x00{"text": "after a NUL byte"}', "is not valid JSON"),
    16: (b"[" * 100_000, "is not valid JSON"),
    17: (b'{"text": 1' + b"0" * 5000 + b"}", "is not valid JSON"),
}


@pytest.fixture
def bad_members(tmp_path, texts):
    """60 good records in lines 1 and 18 to 76, between them one line for each way to be bad."""
    good = [json.dumps({"text": text}).encode() for text in texts[:60]]
    lines = [good[0], *(line for line, _ in BAD_LINES.values()), *good[1:]]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


# --- row 14: lines that cannot be read ------------------------------------------------------------------


def test_every_bad_line_of_both_sides_is_named_at_once_with_its_reason(
    bad_members, adapter, record_files, refused, tmp_path
):
    other = tmp_path / "other.jsonl"
    other.write_bytes(record_files[1].read_bytes() + b"{broken\n")
    message = refused(3, adapter, bad_members, other)
    for number, (_, reason) in BAD_LINES.items():
        assert f"{bad_members}:{number}: {reason}" in message
    assert f"{other}:61: is not valid JSON" in message
    assert f"{len(BAD_LINES)} of 76 rows cannot be used." in message
    assert "1 of 61 rows cannot be used." in message
    assert "--on-bad-record skip" in message
    assert "--text-field" in message
    assert "a mark in the middle" not in message, "texts may be private: the line is named, not shown"


def test_bad_lines_can_be_skipped_and_are_counted_in_the_report(bad_members, adapter, record_files, finished, tmp_path):
    result, page = finished(adapter, bad_members, record_files[1], "--on-bad-record", "skip")
    side = result["members"]
    assert (side["n_read"], side["n_bad"], side["n_records"]) == (76, len(BAD_LINES), 60)
    warning = f"{len(BAD_LINES)} unreadable rows of the members were skipped."
    assert warning in result["warnings"]
    assert warning in html.unescape(page)
    rows = pq.read_table(tmp_path / "run" / "scores.parquet").to_pylist()
    assert [row["line"] for row in rows if row["is_member"]] == [1, *range(18, 77)], "lines are those of the file"


def test_a_file_of_bad_lines_alone_is_refused_even_where_they_are_skipped(adapter, record_files, refused, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{broken\n{too\n")
    message = refused(3, adapter, path, record_files[1], "--on-bad-record", "skip")
    assert f"No record found in {path}" in message
    assert f"{path}:1: is not valid JSON" in message
    assert f"{path}:2: is not valid JSON" in message


def test_many_bad_lines_are_counted_and_the_first_are_shown(adapter, record_files, refused, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{broken\n" * 5000)
    message = refused(3, adapter, path, record_files[1])
    assert f"{path}:50: " in message
    assert f"{path}:51: " not in message
    assert "… and 4950 more" in message


@pytest.mark.parametrize("on_bad_record", ["error", "skip"])
def test_a_line_of_50_mb_is_named_with_its_length_or_skipped(
    on_bad_record, adapter, texts, record_files, refused, finished, tmp_path
):
    path = jsonl(tmp_path / "members.jsonl", texts[:59])
    with path.open("ab") as file:
        file.write(b'{"text": "' + b"x" * 50_000_000 + b'"}\n')
        file.write(json.dumps({"text": texts[59]}).encode() + b"\n")
    if on_bad_record == "error":
        message = refused(3, adapter, path, record_files[1])
        assert f"{path}:60: is 48 MiB long; at most 16 MiB are read" in message
        assert "1 of 61 rows" in message
    else:
        result, _ = finished(adapter, path, record_files[1], "--on-bad-record", "skip")
        assert (result["members"]["n_bad"], result["members"]["n_records"]) == (1, 60)


@pytest.mark.parametrize("how", ["mark and line ends", "no last line end", "blank lines"])
def test_marks_and_line_ends_of_other_systems_change_no_record(how, adapter, record_files, finished, tmp_path):
    content = record_files[0].read_bytes()
    if how == "mark and line ends":
        content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    if how == "no last line end":
        content = content.rstrip(b"\n")
    if how == "blank lines":
        content = content.replace(b"\n", b"\n\n  \n")
    path = tmp_path / "members.jsonl"
    path.write_bytes(content)
    result, _ = finished(adapter, path, record_files[1])
    assert (result["members"]["n_records"], result["members"]["n_bad"]) == (60, 0)
    here = pq.read_table(tmp_path / "run" / "identity.parquet").column("content_sha256").to_pylist()
    expected = [record_id(text=json.loads(line)["text"]) for line in record_files[0].read_text().splitlines()]
    assert here[:60] == expected


def test_utf16_is_refused_with_the_command_that_converts_it(adapter, record_files, refused, tmp_path):
    path = tmp_path / "members.jsonl"
    path.write_bytes(record_files[0].read_text().encode("utf-16"))
    message = refused(3, adapter, path, record_files[1])
    assert f"File '{path}' is UTF-16. Expected UTF-8. Run: iconv -f UTF-16 -t UTF-8 {path} > " in message


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_recognised_too(encoding, adapter, record_files, refused, tmp_path):
    path = tmp_path / "members.jsonl"
    path.write_bytes(record_files[0].read_text().encode(encoding))
    message = refused(3, adapter, path, record_files[1])
    assert f"File '{path}' is UTF-16. Expected UTF-8. Run: iconv" in message


def test_a_text_that_is_null_is_said_to_be_null(adapter, record_files, refused, tmp_path):
    path = tmp_path / "members.jsonl"
    path.write_text('{"text": null}\n')
    message = refused(3, adapter, path, record_files[1])
    assert f"{path}:1: 'text' is null" in message


def test_a_wrong_column_is_answered_with_those_there_are_and_the_flag(
    adapter, record_files, texts, refused, finished, tmp_path
):
    path = tmp_path / "members.csv"
    path.write_text(
        "id,body\n" + "".join(f'{i},"{text.replace(chr(34), chr(39))}"\n' for i, text in enumerate(texts[:60]))
    )
    message = refused(3, adapter, path, record_files[1])
    assert f"{path}:2: has none of the columns 'text', 'messages' or 'prompt' with 'completion'" in message
    assert "it has 'id', 'body'. Name the column with --text-field" in message
    assert "60 of 60 rows cannot be used." in message


def test_bad_bytes_in_a_table_and_in_a_text_file_are_named_by_line(adapter, texts, refused, tmp_path):
    table = tmp_path / "members.csv"
    table.write_bytes(b'text\nfine\ncaf\xe9\n"a\x00b"\nfine,too\n')
    plain = tmp_path / "nonmembers.txt"
    plain.write_bytes(b"fine\r\ncaf\xe9\r\na\x00b\r\n")
    message = refused(3, adapter, table, plain)
    for place in (f"{table}:3: ", f"{table}:4: ", f"{table}:5: ", f"{plain}:2: ", f"{plain}:3: "):
        assert place in message


# --- row 15: the same record twice ----------------------------------------------------------------------


def test_a_record_on_both_sides_is_refused_with_both_places_or_dropped_from_both(
    adapter, texts, refused, finished, tmp_path
):
    members = jsonl(tmp_path / "m.jsonl", texts[:60])
    nonmembers = jsonl(tmp_path / "n.jsonl", [texts[70], texts[4], *texts[71:120], texts[59]])
    message = refused(3, adapter, members, nonmembers)
    assert "2 of 52 non-members are members too." in message
    assert f"{nonmembers}:2 is {members}:5" in message
    assert f"{nonmembers}:52 is {members}:60" in message
    assert "--on-overlap drop" in message
    for path in (tmp_path / "run").iterdir():
        path.unlink()

    result, page = finished(adapter, members, nonmembers, "--on-overlap", "drop")
    assert (result["members"]["n_overlap"], result["members"]["n_records"]) == (2, 58)
    assert (result["nonmembers"]["n_overlap"], result["nonmembers"]["n_records"]) == (2, 50)
    (warning,) = [w for w in result["warnings"] if "both sides" in w]
    assert warning == "2 records stood on both sides and were left out of both."
    assert warning in html.unescape(page)


def test_the_same_record_in_another_format_is_the_same_record(adapter, texts, refused, tmp_path):
    members = jsonl(tmp_path / "m.jsonl", texts[:60])
    nonmembers = tmp_path / "n.txt"
    nonmembers.write_text("".join(text.replace("\n", " ") + "\n" for text in texts[60:]) + "plain words\n")
    members.write_text(members.read_text() + json.dumps({"text": "plain words"}) + "\n")
    message = refused(3, adapter, members, nonmembers)
    assert f"{nonmembers}:61 is {members}:61" in message


def test_repeats_are_left_out_counted_and_warned_of(adapter, texts, finished, tmp_path):
    members = jsonl(tmp_path / "m.jsonl", [*texts[:60], *texts[:7]])
    nonmembers = jsonl(tmp_path / "n.jsonl", texts[60:])
    result, page = finished(adapter, members, nonmembers)
    side = result["members"]
    assert (side["n_read"], side["n_duplicates"], side["n_records"]) == (67, 7, 60)
    (warning,) = [w for w in result["warnings"] if "repeated" in w]
    assert warning == "7 repeated records of the members were left out."
    assert warning in html.unescape(page)


# --- row 17: too few ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["members", "nonmembers"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"], ids=["empty", "blank lines", "mark alone"])
def test_an_empty_side_is_refused_by_file(which, content, adapter, record_files, refused, tmp_path):
    path = tmp_path / f"{which}.jsonl"
    path.write_text(content, encoding="utf-8")
    sides = (path, record_files[1]) if which == "members" else (record_files[0], path)
    message = refused(3, adapter, *sides)
    assert f"No record found in {path}. Expected at least one." in message


@pytest.mark.parametrize("empty", ["members", "nonmembers"])
def test_a_side_of_which_no_record_can_be_scored_is_an_error(empty, adapter, refused, record_files, tmp_path):
    """A comparison with nothing is no result, however many records the other side has."""
    path = jsonl(tmp_path / "empty.jsonl", [""])
    message = refused(3, adapter, *((path, record_files[1]) if empty == "members" else (record_files[0], path)))
    assert "1 no_tokens" in message


@pytest.mark.parametrize(("n_members", "n_nonmembers"), [(1, 1), (5, 5), (60, 1), (1, 60)])
def test_what_too_few_records_cannot_tell_is_refused_in_words(
    n_members, n_nonmembers, adapter, texts, finished, tmp_path
):
    """The report is written, makes no claim, and says of each rate how many records it would take."""
    members = jsonl(tmp_path / "m.jsonl", texts[:n_members])
    nonmembers = jsonl(tmp_path / "n.jsonl", texts[60 : 60 + n_nonmembers])
    result, page = finished(adapter, members, nonmembers)
    (headline,) = [a for a in result["membership"]["attacks"] if a["name"] == "error_zone"]
    for fpr in (0.1, 0.01, 0.001):
        if n_nonmembers * fpr >= 1:
            continue
        found = headline["findings"][rate_metric(fpr)]
        assert found["value"] is None
        assert found["note"].startswith(f"Cannot state TPR at {100 * fpr:g} % FPR from {n_nonmembers} non-members")
        assert f"Give at least {round(1 / fpr)} " in found["note"]
        assert found["note"] in html.unescape(page)
    assert "Membership leaks" not in page


@pytest.mark.parametrize(
    "rates",
    [
        (0.1, 0.01),
        pytest.param((0.1, 0.01, 0.001)),
    ],
    ids=["other than by default", "as by default"],
)
def test_a_rate_asked_for_that_the_sample_cannot_resolve_is_a_usage_error(rates, adapter, record_files, refused):
    words = [word for rate in rates for word in ("--fpr", rate)]
    message = refused(2, adapter, *record_files, *words)
    assert "Cannot state TPR at 1 % FPR from 60 non-members" in message
    assert "10 % FPR" not in message, "this one they can"
    assert "Give at least 100 " in message
    assert "ask for a larger --fpr" in message
    assert ("0.1 % FPR from 60" in message) == (0.001 in rates), "all are named at once"
