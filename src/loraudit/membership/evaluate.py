"""Run attacks over stored evidence."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.membership.attack import AnyAttack, FittedAttack, ScoreFunction
from loraudit.membership.folds import Folds
from loraudit.types import TOKEN_FIELDS, BoolArray, FloatArray, IntArray, RecordFacts, TokenScores, TokenTable, Views

_TOKENS_AT_ONCE = 1 << 19
SCORE_DIGITS = 5


@dataclass(frozen=True, slots=True, eq=False)
class AttackScores:
    """What one attack gave.

    Attributes:
        scores: [N] NaN where undefined.
        seconds: Time it took.
        error: Why the attack failed as a whole; its scores are then all NaN.
    """

    scores: FloatArray
    seconds: float
    error: str | None = None


def score_attacks(
    attacks: Sequence[AnyAttack],
    tables: Mapping[str, TokenTable],
    facts: RecordFacts,
    *,
    folds: Folds | None = None,
    timeout: float = math.inf,
) -> dict[str, AttackScores]:
    """Every attack's number for every record.

    Records without a single audited token, or whose evidence is not finite, are undefined for
    every attack. An attack that raises, takes too long or returns the wrong shape is reported in its
    `error` and does not stop the others.

    Args:
        attacks: Their `needs` must all be in `tables`, or among the facts.
        tables: Per view, the same records in the same order.
        facts: Of those records.
        folds: For attacks that learn from known non-members. None where nobody is known to be one: they then
            learn from all records.
        timeout: Seconds each attack may take; one that is still at work then is left behind.

    Returns:
        By attack name, in the order given.
    """
    audited = {name: table.audited() for name, table in tables.items()}
    n_records = len(next(iter(audited.values())))
    bench = _Bench(timeout)
    scores = {attack.name: np.full(n_records, np.nan) for attack in attacks}
    is_cross_fitted = {attack.name: folds is not None and _learns_from_nonmembers(attack) for attack in attacks}
    functions: dict[str, ScoreFunction] = {attack.name: attack.score for attack in attacks}
    for attack in attacks:
        if isinstance(attack, FittedAttack) and not is_cross_fitted[attack.name]:
            functions[attack.name] = bench.attempt(attack.name, attack.fit, _Population(audited, facts)) or attack.score
    for index, views in _rectangles(audited, facts):
        for attack in attacks:
            if not is_cross_fitted[attack.name]:
                _score_into(scores[attack.name], index, views, functions[attack.name], attack.name, bench)
    for attack in attacks:
        if folds is None or not isinstance(attack, FittedAttack) or not is_cross_fitted[attack.name]:
            continue
        for may_learn_from, is_scored in folds:
            function = bench.attempt(attack.name, attack.fit, _Population(audited, facts, may_learn_from))
            for index, views in _rectangles(audited, facts, is_scored):
                _score_into(scores[attack.name], index, views, function, attack.name, bench)
    for name in bench.errors:
        scores[name][:] = np.nan
    return {
        name: AttackScores(values, bench.seconds.get(name, 0.0), bench.errors.get(name))
        for name, values in scores.items()
    }


def _learns_from_nonmembers(attack: AnyAttack) -> bool:
    return isinstance(attack, FittedAttack) and attack.population == "nonmembers"


def _score_into(
    scores: FloatArray, index: IntArray, views: Views, function: ScoreFunction, name: str, bench: _Bench
) -> None:
    given = bench.attempt(name, lambda views: _checked(function(views), len(index)), views)
    if given is not None:
        scores[index] = given


class _Bench:
    """Where attacks are called: their time is taken, and one that fails is called no more.

    Args:
        timeout: Seconds each attack may take, all its calls together.

    Attributes:
        seconds: Taken so far, by attack.
        errors: Why an attack failed, by attack.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.seconds: dict[str, float] = {}
        self.errors: dict[str, str] = {}
        self._worker = _Worker()

    def attempt(self, name: str, function: Callable[[Any], Any], given: Any) -> Any:
        """`function(given)`, or None where the attack failed, now or before."""
        if name in self.errors:
            return None
        began = time.perf_counter()
        try:
            left = self.timeout - self.seconds.get(name, 0.0)
            return self._worker.call(function, given, left) if left < math.inf else function(given)
        except TimeoutError:
            self.errors[name] = f"gave no result within {self.timeout:g} s"
            self._worker = _Worker()
        except Exception as error:  # a plug-in may fail in any way; its failure is its result
            self.errors[name] = f"{type(error).__name__}: {error}"
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        return None


class _Population:
    """Records of some tables, as often as they are asked for; all of them, or those of a mask [N]."""

    def __init__(self, tables: Mapping[str, TokenTable], facts: RecordFacts, belongs: BoolArray | None = None) -> None:
        self._tables, self._facts, self._belongs = tables, facts, belongs

    def __iter__(self) -> Iterator[Views]:
        return (views for _, views in _rectangles(self._tables, self._facts, self._belongs))


def without_noise(scores: FloatArray) -> FloatArray:
    """[N] scores to five digits, so that the order in which records were batched decides no comparison.

    Batching moves a log-probability by up to a millionth in float32; equal records would otherwise differ in
    the eighth digit, and every tie would be broken by chance.
    """
    scale = 10.0 ** np.ceil(np.log10(np.maximum(np.abs(scores), 1)))
    with np.errstate(invalid="ignore"):  # infinite scores stay as they are
        return np.where(np.isfinite(scores), np.round(scores / scale, SCORE_DIGITS) * scale, scores)


class _Worker:
    """A thread that can be left behind: Python has no way to stop a call that hangs."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[Any], Any], Any]] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[Any], Any], given: Any, seconds: float) -> Any:
        """`function(given)`.

        Raises:
            TimeoutError: It took longer.
            RuntimeError: It tried to end the program.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="loraudit attack")
            self._thread.start()
        self._asked.put((function, given))
        try:
            values, error = self._given.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise RuntimeError(f"tried to end the program ({type(error).__name__}: {error})")
        return values

    def _work(self) -> None:
        while True:
            function, given = self._asked.get()
            try:
                self._given.put((function(given), None))
            except BaseException as error:
                self._given.put((None, error))


def _checked(given: Any, n_records: int) -> FloatArray:
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (n_records,):
        raise ValueError(f"returned shape {values.shape}, expected ({n_records},)")
    return values


def _rectangles(
    tables: Mapping[str, TokenTable], facts: RecordFacts, belongs: BoolArray | None = None
) -> Iterator[tuple[IntArray, Views]]:
    """Records of equal length together, so that attacks are plain array arithmetic; those of a mask [N]."""
    first = next(iter(tables.values()))
    if any(not np.array_equal(table.offsets, first.offsets) for table in tables.values()):
        raise ValueError("the views hold different tokens; they must be scored on the same windows")
    is_usable = np.array(
        [all(table.status[i] == "ok" for table in tables.values()) for i in range(len(first))], dtype=bool
    )
    lengths = np.where(is_usable if belongs is None else is_usable & belongs, first.n_tokens, 0)
    for n_tokens in np.unique(lengths[lengths > 0]):
        where = np.flatnonzero(lengths == n_tokens)
        n_blocks = int(np.ceil(len(where) * n_tokens / _TOKENS_AT_ONCE))
        for index in np.array_split(where, n_blocks):
            views = {name: _read_only(table.rectangle(index, int(n_tokens))) for name, table in tables.items()}
            own = facts.take(index)
            for array in (own.n_bytes, own.n_zlib_bytes, own.gradient_norm):
                if array is not None:
                    array.setflags(write=False)
            yield index, Views(views, own)


def _read_only(scores: TokenScores) -> TokenScores:
    """Attacks share their views: one that could write to them would change what the next one sees."""
    for name in TOKEN_FIELDS:
        getattr(scores, name).setflags(write=False)
    for array in scores.log_sum_exps.values():
        array.setflags(write=False)
    return scores
