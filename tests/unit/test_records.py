"""Rows to records: the three forms, what is wrong with a row, duplicates, overlap, and limits."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.data import InMemory, load_records, load_sides, record_id
from loraudit.errors import DataError
from loraudit.spec import RecordFormat
from loraudit.types import Message, Record

LAYOUT = RecordFormat()
SKIP = RecordFormat(on_bad_record="skip")


def save(path: Path, rows: list) -> str:
    """A JSON-lines file; a row that is a string is written as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return str(path)


def problem_of(path: Path, row: object, layout: RecordFormat = LAYOUT) -> str:
    """The one problem of a file of one row, without the place."""
    file = save(path / "a.jsonl", [row])
    with pytest.raises(DataError, match=r"^1 of 1 rows cannot be used\.") as caught:
        load_records([file], layout)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}:1: ")
    return problem.removeprefix(f"{file}:1: ")


def numbered(n_rows: int, first: int = 0) -> list[dict[str, str]]:
    return [{"text": f"row {number}"} for number in range(first, first + n_rows)]


# --- forms --------------------------------------------------------------------------------------------


def test_a_text_a_prompt_with_completion_and_a_chat_are_records(tmp_path):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    path = save(tmp_path / "a.jsonl", [{"text": "one"}, {"prompt": "p", "completion": "c"}, {"messages": chat}])
    text, pair, talk = load_records([path], LAYOUT).records
    assert (text.text, text.prompt, text.completion, text.messages) == ("one", None, None, None)
    assert (pair.text, pair.prompt, pair.completion, pair.messages) == (None, "p", "c", None)
    assert (talk.text, talk.prompt, talk.completion) == (None, None, None)
    assert talk.messages == (Message("user", "hi"), Message("assistant", "hello"))
    assert [(record.source, record.line) for record in (text, pair, talk)] == [(path, 1), (path, 2), (path, 3)]


def test_the_columns_may_be_named_otherwise(tmp_path):
    layout = RecordFormat(text_field="body", prompt_field="q", completion_field="a", messages_field="chat")
    rows = [{"body": "one", "text": 1}, {"q": "p", "a": "c"}, {"chat": [{"role": "user", "content": "hi"}]}]
    found = load_records([save(tmp_path / "a.jsonl", rows)], layout).records
    assert [record.id for record in found] == [
        record_id(text="one"),
        record_id(prompt="p", completion="c"),
        record_id(messages=[Message("user", "hi")]),
    ]


def test_an_empty_column_gives_way_to_the_next_form(tmp_path):
    rows = [
        {"text": None, "messages": None, "prompt": "p", "completion": "c"},
        {"text": None, "messages": [{"role": "user", "content": "hi"}], "prompt": "p", "completion": "c"},
        {"text": "", "prompt": "p", "completion": "c"},
    ]
    found = load_records([save(tmp_path / "a.jsonl", rows)], LAYOUT).records
    assert [record.id for record in found] == [
        record_id(prompt="p", completion="c"),
        record_id(messages=[Message("user", "hi")]),
        record_id(text=""),
    ]


def test_an_id_is_the_hash_of_the_content_alone(tmp_path):
    paths = [save(tmp_path / f"{name}.jsonl", [{"text": "é", "n": name}]) for name in ("a", "b")]
    (first,), (second,) = (load_records([path], LAYOUT).records for path in paths)
    assert first.id == second.id == record_id(text="é")
    assert first.id == hashlib.sha256(json.dumps({"text": "é"}).encode()).hexdigest()


CONTENT = st.text(st.sampled_from('ab",:{}[]'), max_size=4)


@given(st.tuples(CONTENT, CONTENT), st.tuples(CONTENT, CONTENT))
def test_contents_that_differ_have_ids_that_differ(first, second):
    ids = {
        record_id(text=first[0] + first[1]),
        record_id(prompt=first[0], completion=first[1]),
        record_id(messages=[Message(*first)]),
        record_id(messages=[Message(*first), Message(*first)]),
    }
    assert len(ids) == 4
    assert (record_id(prompt=first[0], completion=first[1]) == record_id(prompt=second[0], completion=second[1])) is (
        first == second
    )


def test_a_group_is_read_as_text(tmp_path):
    layout = RecordFormat(group_field="doc")
    rows = [{"text": "a", "doc": 7}, {"text": "b", "doc": "7"}, {"text": "c", "doc": "é"}]
    found = load_records([save(tmp_path / "a.jsonl", rows)], layout).records
    assert [record.group for record in found] == ["7", "7", "é"]
    assert [record.group for record in load_records([str(tmp_path / "a.jsonl")], LAYOUT).records] == [None] * 3


# --- what is wrong with a row -------------------------------------------------------------------------


def test_a_row_without_a_known_column_is_told_what_it_has(tmp_path):
    assert problem_of(tmp_path, {"body": "one", "n": 1}) == (
        "has none of the columns 'text', 'messages' or 'prompt' with 'completion'; it has 'body', 'n'. "
        "Name the column with --text-field"
    )
    assert "it has none." in problem_of(tmp_path, {})
    assert "it has 'prompt'." in problem_of(tmp_path, {"prompt": "alone"})
    assert "it has 'completion'." in problem_of(tmp_path, {"completion": "alone"})


@pytest.mark.parametrize(
    ("value", "kind"), [(3, "an int"), (1.5, "a float"), (True, "a bool"), (["a"], "a list"), ({"a": 1}, "a dict")]
)
@pytest.mark.parametrize("column", ["text", "prompt", "completion"])
def test_a_value_that_is_not_a_string_is_named_with_its_type(column, value, kind, tmp_path):
    row = {"text": value} if column == "text" else {"prompt": "p", "completion": "c"} | {column: value}
    assert problem_of(tmp_path, row) == f"'{column}' is {kind}, not a string"


@pytest.mark.parametrize(
    ("character", "reason"),
    [
        ("\x00", "holds a NUL character"),
        ("\ud800", "holds a character that is not valid Unicode (U+D800)"),
        ("\udfff", "holds a character that is not valid Unicode (U+DFFF)"),
    ],
)
def test_a_text_that_utf8_or_a_tokenizer_cannot_hold_is_named(character, reason, tmp_path):
    assert problem_of(tmp_path, {"text": f"a{character}b"}) == f"'text' {reason}"
    assert problem_of(tmp_path, {"prompt": character, "completion": ""}) == f"'prompt' {reason}"
    assert problem_of(tmp_path, {"prompt": "", "completion": character}) == f"'completion' {reason}"
    chat = [{"role": "user", "content": "fine"}, {"role": "assistant", "content": character}]
    assert problem_of(tmp_path, {"messages": chat}) == f"'messages' turn 2: content {reason}"


def test_an_escaped_pair_of_surrogates_is_one_good_character(tmp_path):
    path = save(tmp_path / "a.jsonl", ['{"text": "\\ud83d\\ude42"}'])
    assert load_records([path], LAYOUT).records[0].text == "\U0001f642"


def test_a_nul_in_a_plain_text_file_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\nt\x00wo\n")
    with pytest.raises(DataError) as caught:
        load_records([str(path)], LAYOUT)
    assert caught.value.problems == (f"{path}:2: the text holds a NUL character",)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "is not a non-empty list of {role, content}"),
        ({"role": "user", "content": "hi"}, "is not a non-empty list of {role, content}"),
        (5, "is not a non-empty list of {role, content}"),
        ("hello", "is a string that is not JSON; expected a list of {role, content}"),
        ("[]", "is not a non-empty list of {role, content}"),
        (["hi"], "has no role in turn 1; expected {role, content}"),
        ([{"content": "hi"}], "has no role in turn 1; expected {role, content}"),
        ([{"role": 3, "content": "hi"}], "has no role in turn 1; expected {role, content}"),
        ([{"role": "user", "content": "hi"}, None], "has no role in turn 2; expected {role, content}"),
        ([{"role": "user"}], "turn 1: content is a NoneType, not a string"),
        ([{"role": "user", "content": ["hi"]}], "turn 1: content is a list, not a string"),
    ],
    ids=str,
)
def test_a_chat_of_the_wrong_shape_is_told_where(messages, reason, tmp_path):
    assert problem_of(tmp_path, {"messages": messages}) == f"'messages' {reason}"


def test_a_chat_nested_too_deep_is_a_problem_of_its_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('messages\n"' + "[" * 100_000 + '"\n', "utf-8")
    with pytest.raises(DataError) as caught:
        load_records([str(path)], LAYOUT)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:2: 'messages' ")


def test_a_role_that_utf8_cannot_hold_is_a_problem_of_its_row(tmp_path):
    assert "turn 1" in problem_of(tmp_path, {"messages": [{"role": "user\ud800", "content": "hi"}]})


def test_a_group_that_utf8_cannot_hold_is_a_problem_of_its_row(tmp_path):
    assert "'doc'" in problem_of(tmp_path, {"text": "one", "doc": "\ud800"}, RecordFormat(group_field="doc"))


def test_a_row_without_its_group_is_named(tmp_path):
    layout = RecordFormat(group_field="doc")
    assert problem_of(tmp_path, {"text": "one"}, layout) == "lacks the group column 'doc'"
    assert problem_of(tmp_path, {"text": "one", "doc": None}, layout) == "lacks the group column 'doc'"


def test_mixed_types_are_judged_row_by_row(tmp_path):
    path = save(tmp_path / "a.jsonl", [{"text": "one"}, {"text": 2}, {"text": "three"}, {"text": None}])
    with pytest.raises(DataError, match=r"^2 of 4 rows cannot be used\.") as caught:
        load_records([path], LAYOUT)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{path}:2", f"{path}:4"]


BAD = [
    {"text": "good"},
    "not json",
    {"text": 3},
    {"body": "x"},
    {"text": "good too"},
    '{"text": "\\ud800"}',
    "[1]",
]


def test_every_bad_row_of_every_file_is_reported_at_once_by_file_and_line(tmp_path):
    first, second = save(tmp_path / "first.jsonl", BAD), save(tmp_path / "second.jsonl", [{"n": 1}, *BAD])
    with pytest.raises(DataError, match=r"^11 of 15 rows cannot be used\. .*--on-bad-record skip\.") as caught:
        load_records([first, second], LAYOUT)
    places = [problem.split(": ")[0] for problem in caught.value.problems]
    assert places == [f"{first}:{line}" for line in (2, 3, 4, 6, 7)] + [
        f"{second}:{line}" for line in (1, 3, 4, 5, 7, 8)
    ]


def test_skipped_rows_are_counted_and_the_rest_is_used(tmp_path):
    found = load_records([save(tmp_path / "a.jsonl", BAD)], SKIP)
    assert [record.text for record in found.records] == ["good", "good too"]
    assert (found.n_read, found.n_bad, found.n_duplicates) == (7, 5, 0)


@pytest.mark.parametrize("rows", [[], ["", " "]])
def test_a_side_without_records_is_refused(rows, tmp_path):
    path = save(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"^No record found in .*a\.jsonl\. Expected at least one\.$"):
        load_records([path], LAYOUT)


def test_a_side_of_which_nothing_is_left_after_skipping_is_refused_with_the_reasons(tmp_path):
    path = save(tmp_path / "a.jsonl", [{"text": 1}, {"text": 2}])
    with pytest.raises(DataError, match=r"^No record found in ") as caught:
        load_records([path], SKIP)
    assert caught.value.problems == (
        f"{path}:1: 'text' is an int, not a string",
        f"{path}:2: 'text' is an int, not a string",
    )


def test_the_files_read_are_listed_with_hash_and_rows(tmp_path):
    first, second = save(tmp_path / "a b.jsonl", numbered(3)), save(tmp_path / "é.jsonl", numbered(2, first=3))
    assert load_records([first, second], LAYOUT).files == (
        {"path": first, "sha256": hashlib.sha256(Path(first).read_bytes()).hexdigest(), "rows": 3},
        {"path": second, "sha256": hashlib.sha256(Path(second).read_bytes()).hexdigest(), "rows": 2},
    )


# --- duplicates and overlap ---------------------------------------------------------------------------


def test_repeats_are_left_out_and_counted_and_the_first_stays(tmp_path):
    first = save(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}, {"text": "one"}])
    second = save(tmp_path / "b.jsonl", [{"text": "two"}, {"text": "three"}])
    found = load_records([first, second], LAYOUT)
    assert [(record.text, record.source, record.line) for record in found.records] == [
        ("one", first, 1),
        ("two", first, 2),
        ("three", second, 2),
    ]
    assert (found.n_read, found.n_duplicates, found.n_bad) == (5, 2, 0)


def test_texts_that_differ_in_space_or_normal_form_are_no_duplicates(tmp_path):
    path = save(tmp_path / "a.jsonl", [{"text": text} for text in ("é", "e\u0301", "é ", " é", "É")])
    assert load_records([path], LAYOUT).n_duplicates == 0


@pytest.fixture
def overlapping(tmp_path) -> tuple[str, str]:
    """Rows 0-5 and rows 4-9: two records stand on both sides."""
    return save(tmp_path / "members.jsonl", numbered(6)), save(tmp_path / "nonmembers.jsonl", numbered(6, first=4))


def test_a_record_on_both_sides_is_refused_with_both_places(overlapping):
    members, nonmembers = overlapping
    with pytest.raises(DataError, match=r"^2 of 6 non-members are members too\. .*--on-overlap drop\.") as caught:
        load_sides([members], [nonmembers], LAYOUT)
    assert caught.value.problems == (f"{nonmembers}:1 is {members}:5", f"{nonmembers}:2 is {members}:6")


def test_a_record_on_both_sides_is_dropped_from_both_and_counted(overlapping):
    first, second = load_sides([overlapping[0]], [overlapping[1]], LAYOUT, on_overlap="drop")
    assert [record.text for record in first.records] == [f"row {number}" for number in range(4)]
    assert [record.text for record in second.records] == [f"row {number}" for number in range(6, 10)]
    assert (first.n_overlap, second.n_overlap) == (2, 2)


def test_sides_that_are_the_same_leave_nothing(tmp_path):
    path = save(tmp_path / "a.jsonl", numbered(3))
    with pytest.raises(DataError, match=r"^3 of 3 non-members are members too\."):
        load_sides([path], [path], LAYOUT)
    with pytest.raises(
        DataError, match=r"^No members are left after dropping the records on both sides\. Give other files\.$"
    ):
        load_sides([path], [path], LAYOUT, on_overlap="drop")


def test_a_side_wholly_inside_the_other_leaves_no_non_members(tmp_path):
    members, nonmembers = save(tmp_path / "a.jsonl", numbered(5)), save(tmp_path / "b.jsonl", numbered(2))
    with pytest.raises(DataError, match=r"^No non-members are left after dropping"):
        load_sides([members], [nonmembers], LAYOUT, on_overlap="drop")


def test_the_problems_of_both_sides_are_reported_at_once(tmp_path):
    members, nonmembers = save(tmp_path / "a.jsonl", BAD), save(tmp_path / "b.jsonl", [{"n": 1}])
    with pytest.raises(DataError) as caught:
        load_sides([members], [nonmembers], LAYOUT)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("5 of 7 rows cannot be used.")
    assert lines[1].startswith("1 of 1 rows cannot be used.")
    assert len(caught.value.problems) == 6


def test_a_file_that_cannot_be_read_on_one_side_does_not_hide_the_other_side(tmp_path):
    nonmembers = save(tmp_path / "b.jsonl", BAD)
    with pytest.raises(DataError) as caught:
        load_sides([str(tmp_path / "no.jsonl")], [nonmembers], LAYOUT)
    assert "no.jsonl' cannot be read" in str(caught.value)
    assert len(caught.value.problems) == 5


def test_a_file_that_cannot_be_read_does_not_hide_the_other_files_of_its_side(tmp_path):
    utf16, also_utf16 = tmp_path / "first.txt", tmp_path / "second.txt"
    for path in (utf16, also_utf16):
        path.write_text("héllo\n", "utf-16")
    bad = save(tmp_path / "third.jsonl", BAD)
    with pytest.raises(DataError) as caught:
        load_records([str(utf16), str(also_utf16), bad], LAYOUT)
    said = str(caught.value)
    assert [name in said for name in ("first.txt", "second.txt", "third.jsonl:2")] == [True] * 3


# --- limits -------------------------------------------------------------------------------------------


@pytest.fixture
def sides(tmp_path) -> tuple[list[str], list[str]]:
    return [save(tmp_path / "a.jsonl", numbered(100))], [save(tmp_path / "b.jsonl", numbered(60, first=100))]


def kept(sides, **options) -> tuple[list[str | None], list[str | None]]:
    first, second = load_sides(*sides, LAYOUT, **options)
    return [record.text for record in first.records], [record.text for record in second.records]


def test_a_limit_draws_that_many_of_each_side_keeps_their_order_and_counts_the_rest(sides):
    first, second = load_sides(*sides, LAYOUT, max_records=20, seed=3)
    for side, n_left_out in ((first, 80), (second, 40)):
        lines = [record.line for record in side.records]
        assert len(lines) == 20
        assert lines == sorted(set(lines))
        assert lines != list(range(1, 21))
        assert side.n_left_out == n_left_out


def test_a_limit_draws_the_same_for_the_same_seed_and_otherwise_for_another(sides):
    drawn = kept(sides, max_records=20, seed=3)
    assert kept(sides, max_records=20, seed=3) == drawn
    assert kept(sides, max_records=20, seed=4) != drawn


def test_a_limit_that_is_not_reached_changes_nothing(sides):
    assert kept(sides, max_records=100) == kept(sides)
    first, second = load_sides(*sides, LAYOUT, max_records=60)
    assert (first.n_left_out, second.n_left_out) == (40, 0)


def test_a_limit_counts_records_that_are_left_after_duplicates_and_overlap(overlapping):
    first, second = load_sides([overlapping[0]] * 2, [overlapping[1]], LAYOUT, on_overlap="drop", max_records=4)
    assert (first.n_duplicates, first.n_overlap, first.n_left_out, len(first.records)) == (6, 2, 0, 4)
    assert (second.n_overlap, second.n_left_out, len(second.records)) == (2, 0, 4)


# --- rows at hand ---------------------------------------------------------------------------------------


def test_rows_at_hand_are_read_as_those_of_a_file(tmp_path):
    rows = [{"text": "one"}, {"prompt": "two", "completion": "three"}, {"text": "one"}, {"txt": "four"}]
    from_file = load_records([save(tmp_path / "a.jsonl", rows)], SKIP)
    at_hand = load_records([InMemory("notebook", rows)], SKIP)
    assert [r.id for r in at_hand.records] == [r.id for r in from_file.records]
    counts = [(side.n_read, side.n_bad, side.n_duplicates, side.copies) for side in (from_file, at_hand)]
    assert counts[0] == counts[1] == (4, 1, 1, from_file.copies)
    assert [(r.source, r.line) for r in at_hand.records] == [("notebook", 1), ("notebook", 2)]
    assert at_hand.files == ()


def test_texts_and_records_at_hand_are_records():
    (record,) = load_records([InMemory("a", iter(["some text"]))], LAYOUT).records
    assert record == Record(record_id(text="some text"), "a", 1, text="some text")
    assert load_records([InMemory("b", [record])], LAYOUT).records == (record,)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (3, "is an int, not a text, a row of columns or a record"),
        ("a\x00b", "the text holds a NUL character"),
        (Record("1", "s", 1, text="a"), "has the id '1', not the sha256 of its content"),
        (Record("0" * 64, "s", 1, text="a\x00"), "the text holds a NUL character"),
        (Record("0" * 64, "s", 1, prompt="a", completion="\ud800"), "the completion holds a character that is not"),
        (Record("0" * 64, "s", 1, messages=(Message("user", "a\x00"),)), "turn 1 holds a NUL character"),
    ],
)
def test_a_row_at_hand_that_cannot_be_used_is_named(row, reason):
    with pytest.raises(DataError, match=r"^1 of 1 rows cannot be used\.") as caught:
        load_records([InMemory("members", [row])], LAYOUT)
    (problem,) = caught.value.problems
    assert problem.startswith(f"members:1: {reason}")


def test_no_rows_at_hand_are_refused():
    with pytest.raises(DataError, match="No record found in members"):
        load_records([InMemory("members", [])], LAYOUT)


def test_a_record_at_hand_and_in_a_file_of_the_other_side_is_refused(tmp_path):
    file = save(tmp_path / "a.jsonl", numbered(3))
    with pytest.raises(DataError, match="1 of 1 non-members are members too"):
        load_sides([file], [InMemory("others", ["row 1"])], LAYOUT)
