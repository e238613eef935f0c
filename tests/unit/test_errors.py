"""The error tree: exit codes, and messages that say what to do."""

import inspect

import pytest

from loraudit import errors
from loraudit.errors import (
    ConfigError,
    DataError,
    Diverged,
    EnvironmentFault,
    InUse,
    LorauditError,
    MissingExtra,
    ModelError,
    NewerVersion,
    StoreError,
    unknown_name,
)

EXIT_CODES = {
    LorauditError: 6,
    ConfigError: 2,
    NewerVersion: 2,
    DataError: 3,
    ModelError: 4,
    Diverged: 4,
    StoreError: 5,
    InUse: 5,
    EnvironmentFault: 5,
    MissingExtra: 5,
}


def error_classes() -> set[type[Exception]]:
    return {value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)}


def test_every_error_has_the_exit_code_of_the_table():
    assert {kind: kind.exit_code for kind in error_classes()} == EXIT_CODES


@pytest.mark.parametrize("kind", sorted(error_classes(), key=lambda kind: kind.__name__))
def test_the_tree_drawn_in_the_docstring_is_the_tree(kind):
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line]
    after = line.split(kind.__name__, 1)[1].split()
    assert int(after[0]) == kind.exit_code


def test_every_error_of_ours_is_caught_by_the_base():
    assert all(issubclass(kind, LorauditError) for kind in error_classes())


def test_data_error_of_one_sentence_is_one_line():
    error = DataError("File 'x' is empty.")
    assert str(error) == "File 'x' is empty."
    assert error.problems == ()


def test_data_error_lists_all_problems_up_to_fifty():
    problems = [f"members.jsonl:{line}: is not valid JSON" for line in range(1, 51)]
    assert str(DataError("50 rows cannot be used.", problems)).splitlines() == [
        "50 rows cannot be used.",
        *(f"  {problem}" for problem in problems),
    ]


def test_data_error_shows_fifty_problems_counts_the_rest_and_keeps_all():
    problems = [f"members.jsonl:{line}: is not valid JSON" for line in range(1, 121)]
    error = DataError("120 rows cannot be used.", problems)
    lines = str(error).splitlines()
    assert len(lines) == 52
    assert lines[50] == f"  {problems[49]}"
    assert lines[51] == "  … and 70 more"
    assert error.problems == tuple(problems)


def test_unknown_name_suggests_the_nearest_and_lists_the_known_in_order():
    error = unknown_name("attack", "mink", ["ratio", "min_k", "loss"])
    assert isinstance(error, ConfigError)
    assert str(error) == "Unknown attack 'mink'. Did you mean 'min_k'? Known: loss, min_k, ratio."


def test_unknown_name_suggests_nothing_when_nothing_is_near():
    assert str(unknown_name("attack", "zzzz", ["loss", "min_k"])) == "Unknown attack 'zzzz'. Known: loss, min_k."


def test_unknown_name_among_none_says_so():
    assert str(unknown_name("attack", "loss", [])) == "Unknown attack 'loss'. Known: none."


def test_missing_extra_ends_with_the_command_that_installs_it():
    error = MissingExtra("The grid engine", "ray")
    assert str(error) == "The grid engine needs an optional dependency. Run: pip install 'loraudit[ray]'"
