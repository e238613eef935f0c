"""The records of a task: trained on, validated on and tested on, apart by chance alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.data import RecordSet, load_records, read_rows, split_records
from loraudit.errors import DataError
from loraudit.spec import PoisonedTask, Task
from loraudit.types import Record

_LARGEST_VALIDATION = 500
_FEWEST = 10
_TEST, _TRAIN = 1, 2
_REMEDY_OF_TEST = (
    "The training records stand in --test too. Give other records to test on, or leave --test out: then a share of the "
    "records is held out."
)


@dataclass(frozen=True, slots=True)
class TaskData:
    """What is trained on and what is measured on; all of it clean.

    Attributes:
        task: What is trained.
        train: To be poisoned and trained on.
        validation: For the validation loss; never poisoned.
        test: Never seen in training.
        labels: Of a classifier, sorted; empty for a language model.
        files: Path, sha256 and rows of each file read.
        warnings: What was left out.
    """

    task: Task
    train: list[Record]
    validation: list[Record]
    test: list[Record]
    labels: tuple[str, ...]
    files: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()

    @property
    def classes(self) -> dict[str, int]:
        """Training records of each label."""
        counts = Counter(record.label for record in self.train if record.label is not None)
        return dict(sorted(counts.items()))


def label_column(spec: PoisonedTask) -> str | None:
    """Column of the label: the one named, or `label` where the first row has it."""
    if spec.label_field:
        return spec.label_field
    rows = read_rows(spec.task[0], text_unit=spec.text_unit).rows
    first = rows[0][1] if rows else None
    return "label" if isinstance(first, dict) and first.get("label") is not None else None


def split_task(spec: PoisonedTask) -> TaskData:
    """Read the records and split them at random by seed; no text and no document stands on two sides.

    Records that share one with a side that is held out are dropped, with a warning that counts them.

    Raises:
        DataError: They cannot be read, are too few, are no task, or a label is held out that is never trained on.
    """
    label_field = label_column(spec)
    task: Task = "causal_lm" if label_field is None else "classification"
    pool = load_records(spec.task, spec, label_field=label_field, rewritten_field=spec.rewritten_field)
    files, warnings = pool.files, _said(pool, "records")
    if spec.test:
        own = load_records(spec.test, spec, label_field=label_field, rewritten_field=spec.rewritten_field)
        files, warnings = (*files, *own.files), [*warnings, *_said(own, "test records")]
        tested, rest = own.records, pool.records
    else:
        n_test = max(1, round(spec.test_share * len(pool.records)))
        tested, rest = split_records(pool.records, [n_test, len(pool.records) - n_test], seed=spec.seed)
    test = _drawn(tested, spec.test_records, [spec.seed, _TEST])
    rest, of_test = _apart(rest, tested, "test")
    n_validation = min(_LARGEST_VALIDATION, max(1, len(rest) // 10))
    validation, train = split_records(rest, [n_validation, len(rest) - n_validation], seed=spec.seed)
    train, of_validation = _apart(train, validation, "validation")
    warnings += [*of_test, *of_validation]
    train = _drawn(train, spec.max_records, [spec.seed, _TRAIN])
    labels = tuple(sorted({record.label for record in train if record.label is not None}))
    data = TaskData(task, train, validation, test, labels, files, tuple(warnings))
    _refuse_unfit(data, [*of_test, *of_validation], remedy=_REMEDY_OF_TEST if spec.test and of_test else "")
    return data


def _refuse_unfit(data: TaskData, left_out: Sequence[str], *, remedy: str) -> None:
    """Refuse records that are too few or no task.

    Args:
        data: What is left of them.
        left_out: Which were dropped because a held-out side has them too.
        remedy: What is done about that, if anything can be.
    """
    if min(len(data.train), len(data.test)) < _FEWEST or not data.validation:
        raise DataError(
            f"The records give {len(data.train)} to train on, {len(data.validation)} to validate on and "
            f"{len(data.test)} to test on. Expected at least {_FEWEST} to train and to test on. "
            + "".join(f"{words} " for words in left_out)
            + (remedy or "Give more records.")
        )
    if data.task == "causal_lm":
        plain = [record for record in (*data.train, *data.test) if record.text is not None]
        if plain:
            raise DataError(
                f"{len(plain)} records have neither a label nor a prompt with a completion. Expected labelled texts, "
                "prompts with completions or chats; name the columns with --label-field, --prompt-field and "
                "--completion-field.",
                [f"{record.source}:{record.line}" for record in plain],
            )
        return
    if len(data.labels) < 2:
        raise DataError(
            f"The training records have {len(data.labels)} label{'' if len(data.labels) == 1 else 's'}. Expected at "
            "least two; name the column with --label-field."
        )
    strange = [record for record in (*data.validation, *data.test) if record.label not in data.labels]
    if strange:
        names = ", ".join(sorted({str(record.label) for record in strange}))
        raise DataError(
            f"{len(strange)} held-out records have a label that no training record has ({names}). Give more records "
            "of it, or leave it out.",
            [f"{record.source}:{record.line}" for record in strange],
        )


def _said(pool: RecordSet, name: str) -> list[str]:
    found: list[str] = []
    if pool.n_duplicates:
        found.append(f"{pool.n_duplicates} {name} repeat an earlier one, and are left out.")
    if pool.n_bad:
        found.append(f"{pool.n_bad} {name} cannot be used, and are left out.")
    return found


def _apart(records: Sequence[Record], held_out: Sequence[Record], side: str) -> tuple[list[Record], list[str]]:
    """The records with neither a text, whatever its label, nor a document of a held-out side; and what was dropped."""
    texts = {_text_of(record) for record in held_out}
    documents = {record.group for record in held_out if record.group is not None}
    others = [record for record in records if _text_of(record) not in texts]
    kept = [record for record in others if record.group not in documents]
    n_texts, n_documents = len(records) - len(others), len(others) - len(kept)
    said: list[str] = []
    if n_texts:
        said.append(f"{n_texts} records have the text of a {side} record, and are not trained on.")
    if n_documents:
        said.append(
            f"{n_documents} records are of a document (--group-field) with {side} records, and are not trained on."
        )
    return kept, said


def _text_of(record: Record) -> tuple[Any, ...]:
    return record.text, record.prompt, record.completion, record.messages


def _drawn(records: Sequence[Record], n: int | None, seed: list[int]) -> list[Record]:
    """At most `n` of them, in their order."""
    if n is None or len(records) <= n:
        return list(records)
    chosen = np.random.default_rng(seed).choice(len(records), n, replace=False)
    return [records[i] for i in np.sort(chosen)]
