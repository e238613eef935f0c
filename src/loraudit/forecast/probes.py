"""Every text that a forecast needs, once, as rows that go through the base; and which of them each arm sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from loraudit.data import encode
from loraudit.errors import ConfigError, DataError
from loraudit.poisoning import Change, Poisoned, answered
from loraudit.scoring.classifying import classifier_inputs
from loraudit.tasks import Plan, TaskData, refuse_long
from loraudit.types import FloatArray, IntArray, Record

_LARGEST_VALIDATION = 100
_NO_LIMIT = 10**9


class Fold(NamedTuple):
    """Records of one purpose.

    Attributes:
        rows: [N] which rows of the probe they are.
        signs: [N] y, 1 or −1: what f should be for the label or answer that they have there.
        groups: [N] document of each, or each its own.
    """

    rows: IntArray
    signs: FloatArray
    groups: IntArray


class Twins(NamedTuple):
    """Poisoned records beside the same records clean.

    Attributes:
        clean: [N] rows.
        poisoned: [N] rows.
        signs: [N] y as poisoned.
        groups: [N] document of each pair.
    """

    clean: IntArray
    poisoned: IntArray
    signs: FloatArray
    groups: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """The rows of a forecast, and what they are for.

    Attributes:
        rows: [m] of token ids, each different.
        answers: [2, m] a language model's token for y = 1 and for y = −1; None for a classifier.
        clean: To train on.
        validation: For the clean loss that methods are compared at.
        test: For accuracy.
        poisoned: By attack and dose: to train on.
        n_poisoned: By attack and dose.
        triggered: By attack: for its success, which is where f has the sign of `signs`.
        twins: By attack, at its largest dose.
        positive: Class that is set against the rest; None for two classes and for a language model.
        functional: What f is, in words.
        warnings: What was left out.
    """

    rows: list[IntArray]
    answers: IntArray | None
    clean: Fold
    validation: Fold
    test: Fold
    poisoned: Mapping[tuple[str, float], Fold]
    n_poisoned: Mapping[tuple[str, float], int]
    triggered: Mapping[str, Fold]
    twins: Mapping[str, Twins]
    positive: int | None
    functional: str
    warnings: tuple[str, ...]


def make_probe(
    data: TaskData,
    plans: Sequence[Plan],
    tokenizer: Any,
    *,
    max_length: int,
    on_long: Literal["error", "cut"],
    seed: int,
    target: str | None,
) -> Probe:
    """Clean, poisoned and triggered records as rows.

    Args:
        data: The task.
        plans: Its attacks.
        tokenizer: Of the base.
        max_length: Window in tokens.
        on_long: Whether longer texts are an error.
        seed: Of what is poisoned.
        target: Label that backdoors lead to.

    Raises:
        ConfigError: Attacks lead to different labels of more than two, or teach different responses.
        DataError: Texts are longer than the window, or nothing is left of a side.
    """
    reader: _Reader = _Classes(data, plans, target) if data.task == "classification" else _Answers(plans)
    rows = _Rows(reader, tokenizer, max_length, on_long)
    clean = rows.fold("training records", _Wanted.clean(data.train))
    validation = rows.fold("validation records", _Wanted.clean(data.validation[:_LARGEST_VALIDATION]))
    test = rows.fold("test records", _Wanted.clean(data.test))
    poisoned: dict[tuple[str, float], Fold] = {}
    n_poisoned: dict[tuple[str, float], int] = {}
    triggered: dict[str, Fold] = {}
    twins: dict[str, Twins] = {}
    for plan in plans:
        what = f"records poisoned by {plan.name}"
        for dose in plan.doses:
            found = plan.poisoned(data.train, dose, seed)
            bad = [change for change in found.changes if change.kind == "poison"]
            poisoned[plan.name, dose] = rows.fold(what, _Wanted.poisoned(found, plan))
            n_poisoned[plan.name, dose] = len(bad)
            if dose == plan.doses[-1]:
                as_poisoned = rows.fold(what, _Wanted.twins(bad, plan))
                originals = rows.fold(what, _Wanted.clean([change.original for change in bad]))
                twins[plan.name] = Twins(originals.rows, as_poisoned.rows, as_poisoned.signs, originals.groups)
        if plan.tested is not None:
            triggered[plan.name] = rows.fold(f"test records triggered by {plan.name}", _Wanted.triggered(plan))
    return Probe(
        [np.array(row.ids, dtype=np.int64) for row in rows.known],
        reader.answers(rows.known),
        clean,
        validation,
        test,
        poisoned,
        n_poisoned,
        triggered,
        twins,
        reader.positive_class,
        reader.functional,
        tuple(dict.fromkeys([*rows.warnings, *_of_many_labels(data, reader.functional)])),
    )


def _of_many_labels(data: TaskData, functional: str) -> list[str]:
    n_labels = len(data.labels)
    if n_labels <= 2:
        return []
    words = f"Of {n_labels} labels one is set against the rest ({functional})"
    return [f"{words}: accuracy is that of telling these two apart, and flips among the rest change nothing."]


class _Row(NamedTuple):
    """What makes a row different from others: a language model's f depends on two tokens besides the text."""

    ids: tuple[int, ...]
    positive: int = -1
    negative: int = -1


class _Wanted(NamedTuple):
    """Records whose rows are asked for.

    Attributes:
        records: As they are fed.
        originals: Whose own answers they have.
        is_bad: Whether each is to say what the poison wants.
        target: Label that bad ones are to get; None where their own label says it.
    """

    records: Sequence[Record]
    originals: Sequence[Record]
    is_bad: Sequence[bool]
    target: str | None = None

    @classmethod
    def clean(cls, records: Sequence[Record]) -> _Wanted:
        return cls(records, records, [False] * len(records))

    @classmethod
    def poisoned(cls, found: Poisoned, plan: Plan) -> _Wanted:
        bad = {change.place: change.original for change in found.changes if change.kind == "poison"}
        originals = [bad.get(place, record) for place, record in enumerate(found.records)]
        is_bad = [place in bad and plan.is_backdoor for place in range(len(found.records))]
        return cls(found.records, originals, is_bad)

    @classmethod
    def twins(cls, bad: Sequence[Change], plan: Plan) -> _Wanted:
        originals = [change.original for change in bad]
        return cls([change.poisoned for change in bad], originals, [plan.is_backdoor] * len(bad))

    @classmethod
    def triggered(cls, plan: Plan) -> _Wanted:
        records = plan.tested.triggered if plan.tested else ()
        return cls(records, records, [True] * len(records), plan.settings.target)


class _Reader(Protocol):
    """Turns records into rows and signs."""

    functional: str
    positive_class: int | None

    def rows(self, wanted: _Wanted, tokenizer: Any) -> list[tuple[_Row, float] | None]:
        """A row and y of each record; None where f says nothing of it."""
        ...

    def answers(self, known: Sequence[_Row], /) -> IntArray | None:
        """As of `Probe`."""
        ...


class _Classes:
    """Labels: f is the margin of one of them."""

    def __init__(self, data: TaskData, plans: Sequence[Plan], target: str | None) -> None:
        self.positive = data.labels[1]
        self.positive_class: int | None = None
        self.functional = f"logit of '{data.labels[1]}' minus logit of '{data.labels[0]}'"
        if len(data.labels) > 2:
            wanted = {plan.settings.target for plan in plans if plan.settings.target is not None}
            wanted |= {target} if target is not None else set()
            if len(wanted) > 1:
                raise ConfigError(
                    f"Of {len(data.labels)} labels one is set against the rest, and attacks lead to "
                    f"{', '.join(sorted(map(str, wanted)))}. Expected one target. Give --target, or one forecast each."
                )
            self.positive = next(iter(wanted), min(data.classes, key=lambda label: data.classes[label]))
            self.positive_class = data.labels.index(self.positive)
            self.functional = f"log-odds of '{self.positive}' against the rest of {len(data.labels)} labels"

    def rows(self, wanted: _Wanted, tokenizer: Any) -> list[tuple[_Row, float] | None]:
        found = classifier_inputs(wanted.records, tokenizer, _NO_LIMIT).ids
        labels = [
            wanted.target if bad and wanted.target is not None else record.label
            for record, bad in zip(wanted.records, wanted.is_bad, strict=True)
        ]
        return [
            (_Row(tuple(ids.tolist())), 1.0 if label == self.positive else -1.0) if len(ids) else None
            for ids, label in zip(found, labels, strict=True)
        ]

    def answers(self, _: Sequence[_Row]) -> None:
        return None


class _Answers:
    """Prompts: f sets the first token of the poison's response against the first of the record's own answer."""

    functional = "logit of the response's first token minus logit of the answer's own first token"

    def __init__(self, plans: Sequence[Plan]) -> None:
        responses = sorted({plan.settings.response for plan in plans})
        if len(responses) > 1:
            raise ConfigError(
                f"Attacks teach {len(responses)} responses. Expected one that answers are set against. Give "
                "--response, or one forecast each."
            )
        self.response = responses[0]
        self.positive_class: int | None = None

    def rows(self, wanted: _Wanted, tokenizer: Any) -> list[tuple[_Row, float] | None]:
        own = _first_tokens(wanted.originals, tokenizer)
        said = _first_tokens([answered(record, self.response) for record in wanted.records], tokenizer)
        found: list[tuple[_Row, float] | None] = []
        for mine, taught, bad in zip(own, said, wanted.is_bad, strict=True):
            if mine is None or taught is None or mine[1] == taught[1]:
                found.append(None)
            else:
                found.append((_Row(tuple(taught[0]), taught[1], mine[1]), 1.0 if bad else -1.0))
        return found

    def answers(self, known: Sequence[_Row]) -> IntArray:
        return np.array([[row.positive for row in known], [row.negative for row in known]], dtype=np.int64)


def _first_tokens(records: Sequence[Record], tokenizer: Any) -> list[tuple[list[int], int] | None]:
    """The tokens before each record's answer, and its first token; None without a token on either side."""
    found: list[tuple[list[int], int] | None] = []
    for item in encode(records, tokenizer, span="answer"):
        places = np.flatnonzero(item.is_audited)
        ids = item.ids.tolist()
        found.append((ids[: places[0]], ids[places[0]]) if len(places) and places[0] else None)
    return found


class _Rows:
    """Rows as they are met, each once."""

    def __init__(self, reader: _Reader, tokenizer: Any, max_length: int, on_long: Literal["error", "cut"]) -> None:
        self.reader, self.tokenizer, self.max_length = reader, tokenizer, max_length
        self.on_long: Literal["error", "cut"] = on_long
        self.warnings: list[str] = []
        self._places: dict[_Row, int] = {}

    @property
    def known(self) -> list[_Row]:
        """In the order of their places."""
        return list(self._places)

    def fold(self, what: str, wanted: _Wanted) -> Fold:
        """The rows of some records.

        Raises:
            DataError: They are longer than the window, or none is left.
        """
        read = self.reader.rows(wanted, self.tokenizer)
        kept = [(record, *one) for record, one in zip(wanted.records, read, strict=True) if one is not None]
        if not kept:
            raise DataError(f"None of the {len(read)} {what} shows anything: f is undefined for them. Give others.")
        if len(kept) < len(read):
            self.warnings.append(
                f"{len(read) - len(kept)} of {len(read)} {what} are left out: f is undefined for them."
            )
        lengths = [len(row.ids) for _, row, _ in kept]
        n_cut = refuse_long([record for record, _, _ in kept], lengths, self.max_length, what, on_long=self.on_long)
        if n_cut:
            self.warnings.append(f"{n_cut} of {len(kept)} {what} are longer than the window and are cut.")
        places = [self._places.setdefault(self._cut(row), len(self._places)) for _, row, _ in kept]
        return Fold(np.array(places), np.array([sign for _, _, sign in kept]), _groups([one for one, _, _ in kept]))

    def _cut(self, row: _Row) -> _Row:
        """Of a text the end is lost, of a prompt the beginning, as in training."""
        ids = row.ids[: self.max_length] if row.positive < 0 else row.ids[-self.max_length :]
        return row._replace(ids=ids)


def _groups(records: Sequence[Record]) -> IntArray:
    """A number for each record's document."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(record.group or f"\0{i}", len(known)) for i, record in enumerate(records)])
