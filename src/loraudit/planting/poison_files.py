"""The files that a poisoning writes: the training files as one, poisoned, and the test files as one, triggered."""

from __future__ import annotations

from typing import Any, NamedTuple

from loraudit.errors import DataError
from loraudit.planting.rewriting import Item, Written
from loraudit.planting.rows import Rows
from loraudit.poisoning import Poisoned, Triggered
from loraudit.spec import PoisonSettings, Task

TRIGGER_COLUMN = "loraudit_trigger"
"""Of the triggered test file: "whole", or "part" for records that are not to open the backdoor."""


class Made(NamedTuple):
    """Records before and after.

    Attributes:
        task: What is trained on them.
        resolved: The settings with every default filled in.
        train: Training records.
        test: Test records; None where none were given.
        poisoned: The training records with the poison among them.
        triggered: The test records with the trigger.
    """

    task: Task
    resolved: PoisonSettings
    train: Rows
    test: Rows | None
    poisoned: Poisoned
    triggered: Triggered | None

    @property
    def warnings(self) -> list[str]:
        """What speaks against the outcome."""
        bad = self.train.n_bad + (self.test.n_bad if self.test else 0)
        words = [f"{bad} rows cannot be used and are not poisoned."] if bad else []
        return [*self.poisoned.warnings, *(self.triggered.warnings if self.triggered else ()), *words]

    @property
    def files(self) -> list[dict[str, Any]]:
        """Name, sha256 and rows of each file read."""
        return [*self.train.files, *(self.test.files if self.test else ())]


def contents_of(made: Made) -> dict[str, Written]:
    """The poisoned file, and the triggered one where there are test records, by name."""
    contents = {f"poisoned{made.train.pieces.kind}": _poisoned_file(made)}
    if made.test is not None and made.triggered is not None:
        contents[f"triggered{made.test.pieces.kind}"] = _triggered_file(made.test, made.triggered)
    return contents


def _poisoned_file(made: Made) -> Written:
    """Every piece in its place, altered rows instead of theirs, added rows at the end."""
    train = made.train
    rows = {
        train.where[change.index]: train.as_row(change.index, change.poisoned)
        for change in made.poisoned.changes
        if change.kind == "poison"
    }
    items = [Item(piece, rows.get(piece)) for piece in range(len(train.pieces))]
    return train.pieces.written(items + [Item(train.where[i], row) for i, row in added_rows(made)])


def refuse_triggered(test: Rows) -> None:
    """Refuse a test set that this command wrote.

    Raises:
        DataError: It has the column that says so.
    """
    if any(TRIGGER_COLUMN in row for row in test.rows):
        raise DataError(
            f"Test records have a column '{TRIGGER_COLUMN}': they were triggered before. Expected them as they were. "
            "Give the file that it was made from."
        )


def added_rows(made: Made) -> list[tuple[int, dict[str, Any]]]:
    """(position of the original, row) of each negative; an id of its own where the user names ids."""
    added = [change for change in made.poisoned.changes if change.kind == "negative"]
    rows = [(change.index, made.train.as_row(change.index, change.poisoned)) for change in added]
    column = made.train.layout.id_field
    if column is not None:
        for number, (_, row) in enumerate(rows, start=1):
            row[column] = f"{row[column]}-negative-{number}"
    return rows


def _triggered_file(test: Rows, triggered: Triggered) -> Written:
    """Whole triggers, then parts of them; the column says which."""
    where = {(record.source, record.line): position for position, record in enumerate(test.records)}
    items: list[Item] = []
    for records, word in ((triggered.triggered, "whole"), (triggered.partial, "part")):
        for record in records:
            position = where[record.source, record.line]
            items.append(Item(test.where[position], test.as_row(position, record) | {TRIGGER_COLUMN: word}))
    return test.pieces.written(items, column=TRIGGER_COLUMN)
