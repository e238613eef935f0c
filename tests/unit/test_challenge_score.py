"""The published score of ranked guesses: by hand, and on the example that comes with it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from loraudit.data import read_rows
from loraudit.errors import ConfigError, DataError
from loraudit.memorization import score_challenge

ANSWERS = {0: [1, 2], 1: [3, 4], 2: [5, 6], 3: [7, 8]}
GUESSES = [
    (0, [1, 2]),  # right
    (0, [1, 2]),  # right again: no case more, and no error
    (1, [3, 5]),  # wrong in its last token
    (1, [3, 4]),  # right at the second attempt
    (2, [5]),  # half a suffix is wrong
    (2, [5, 6]),  # right, but after two errors
]


@pytest.mark.parametrize(("n_errors", "n_found"), [(1, 1), (2, 2), (3, 3), (100, 3)])
def test_six_guesses_worked_by_hand(n_errors, n_found):
    score = score_challenge(GUESSES, ANSWERS, n_errors=n_errors)
    assert (score.n_found_at_errors, score.recall_at_errors) == (n_found, n_found / 4)
    assert (score.n_found, score.final_recall, score.n_cases) == (3, 0.75, 4)
    assert (score.n_right, score.n_wrong, score.n_errors) == (4, 2, n_errors)


def test_the_order_of_guesses_is_their_confidence():
    assert score_challenge(GUESSES[::-1], ANSWERS, n_errors=1).recall_at_errors == 0.25
    assert score_challenge(GUESSES[4:5] + GUESSES[:4], ANSWERS, n_errors=1).recall_at_errors == 0


def test_no_guesses_find_nothing_and_no_cases_have_no_recall():
    assert score_challenge([], ANSWERS).final_recall == 0
    nothing = score_challenge([], {})
    assert math.isnan(nothing.final_recall)
    assert math.isnan(nothing.recall_at_errors)


def test_guesses_at_unknown_cases_are_all_named():
    with pytest.raises(DataError, match=r"2 of 3 guesses are at cases that have no answer\. (.|\n)*guess 3: case 9"):
        score_challenge([(8, [1]), (0, [1]), (9, [1])], ANSWERS)


def test_an_allowance_below_one_is_refused():
    with pytest.raises(ConfigError, match="Allowance of 0 wrong guesses is out of range"):
        score_challenge(GUESSES, ANSWERS, n_errors=0)


@pytest.mark.real_data
def test_the_example_of_the_challenge_gets_the_score_that_comes_with_it():
    root = os.environ.get("LORAUDIT_DATA")
    if not root:
        pytest.skip("LORAUDIT_DATA names no folder with the data sets of docs/data.md")
    folder = Path(root) / "lm_extraction"
    answers = {row["id"]: row["suffix_ids"] for _, row in read_rows(str(folder / "example_answers.jsonl.gz")).rows}
    rows = [row for _, row in read_rows(str(folder / "example_guesses.jsonl.gz")).rows]
    expected = json.loads((folder / "example_expected.json").read_text())
    score = score_challenge([(row["id"], row["guess"]) for row in rows], answers)
    assert (score.recall_at_errors, score.final_recall) == (0.5, 0.892)
    assert (score.n_right, score.n_wrong) == (expected["right"], expected["wrong"])
    assert (score.recall_at_errors, score.final_recall) == (expected["recall_at_100_errors"], expected["final_recall"])
    assert score.n_right == sum(row["right"] for row in rows)
