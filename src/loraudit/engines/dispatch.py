"""Units to workers and outcomes back, in order: what every engine with workers of its own does.

A unit is *read* from the iterator, *in hand* of a worker, *finished*, and handed over in the order of reading. Units
are read as far as `policy.may_read` says, however many there are, so that neither they nor outcomes fill the memory.
Workers carry out what they have in hand in the order in which it was given, so of a worker that died only the first
unit can have been begun: that one counts as repeated, the others are given to somebody else as if nothing had happened.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from loraudit.engines.crew import Answered, Crew, Event, Ready, Wishes
from loraudit.engines.policy import STILLBIRTHS, bytes_of_outcome, may_read, n_in_hand
from loraudit.engines.seat import Answer, rebuilt_error
from loraudit.engines.stopping import is_asked
from loraudit.errors import EnvironmentFault, visible
from loraudit.execution import Interrupted

_SECONDS_BETWEEN_LOOKS = 0.2
_WEIGHT_OF_THE_LAST = 0.1
_MOST_OF_A_UNIT = 200
"""Characters of a unit that an error shows."""


class Dispatch:
    """One map over one crew.

    Attributes:
        n_repeated: Units that may have been begun more than once because a worker died.
    """

    def __init__(self, crew: Crew, units: Iterable[Any], wishes: Wishes) -> None:
        self.n_repeated = 0
        self._crew, self._wishes = crew, wishes
        self._units = enumerate(units)
        self._is_all_read = False
        self._n_read = 0
        self._next = 0
        """Position of the outcome that is handed over next."""
        self._unit_of: dict[int, Any] = {}
        """Units that are not finished."""
        self._again: deque[int] = deque()
        self._ahead: deque[int] = deque()
        self._n_deaths: dict[int, int] = {}
        """Workers that each unit was the end of."""
        self._finished: dict[int, tuple[Any, Exception | None, int]] = {}
        """Outcome or error, and the memory that it takes."""
        self._n_waiting_bytes = 0
        self._in_hand: dict[int, deque[int]] = {}
        """Of each worker that is ready, in the order given."""
        self._starting: set[int] = set()
        self._idle: dict[int, None] = {}
        self._with_room: dict[int, None] = {}
        self._n_in_hand = 0
        self._n_stillborn = 0
        self._mean_seconds: float | None = None
        self._is_stopping = False
        self._failed_at: int | None = None

    def outcomes(self) -> Generator[Any, None, None]:
        """The outcomes in the order of the units.

        Raises:
            EnvironmentFault: A unit that no worker survives, or workers that cannot start.
            Interrupted: A stop was asked for.
        """
        try:
            while True:
                if not self._is_stopping and is_asked(self._wishes.stop):
                    self._is_stopping = True
                    self._crew.ask_to_stop()
                self._give_out()  # before an outcome is handed over: who takes it may take its time
                if self._next in self._finished:
                    outcome, error, n_bytes = self._finished.pop(self._next)
                    self._next += 1
                    self._n_waiting_bytes -= n_bytes
                    if error is not None:
                        raise error
                    yield outcome
                elif self._next == self._n_read and self._is_all_read:
                    return
                elif self._is_stopping and not self._n_in_hand:
                    raise Interrupted
                else:
                    for event in self._crew.events(_SECONDS_BETWEEN_LOOKS):
                        self._take(event)
        finally:
            self._crew.dismiss()

    # --- giving ---------------------------------------------------------------------------------------

    def _give_out(self) -> None:
        if self._is_stopping:
            return
        while (position := self._waiting()) is not None and not self._must_wait(position):
            worker = self._worker_with_room()
            if worker is None:
                self._hire()
                return
            (self._again or self._ahead).popleft()
            hand = self._in_hand[worker]
            hand.append(position)
            self._n_in_hand += 1
            self._crew.give(worker, position, self._unit_of[position])
            if len(hand) < n_in_hand(self._mean_seconds):
                self._with_room[worker] = None

    def _waiting(self) -> int | None:
        """The unit to give out next, if there is one."""
        if self._again:
            return self._again[0]
        if not self._ahead:
            self._read()
        return self._ahead[0] if self._ahead else None

    def _read(self) -> bool:
        """Read one unit, if one may and can be read."""
        if self._is_all_read or self._failed_at is not None:
            return False
        if not may_read(self._n_read - self._next, self._n_waiting_bytes, self._crew.size):
            return False
        position, unit = next(self._units, (None, None))
        if position is None:
            self._is_all_read = True
            return False
        self._unit_of[position] = unit
        self._n_read += 1
        self._ahead.append(position)
        return True

    def _must_wait(self, position: int) -> bool:
        """Whether a unit's last chance is near: it is then carried out with the memory to itself."""
        if not self._crew.shares_memory or not self._n_deaths or not self._n_in_hand:
            return False
        in_hand = (hand[0] for hand in self._in_hand.values() if hand)
        return self._is_last_chance(position) or any(map(self._is_last_chance, in_hand))

    def _is_last_chance(self, position: int) -> bool:
        n_deaths = self._n_deaths.get(position, 0)
        return 0 < n_deaths == self._wishes.retries

    def _worker_with_room(self) -> int | None:
        if self._idle:
            return self._idle.popitem()[0]
        while self._with_room:
            worker = next(iter(self._with_room))
            del self._with_room[worker]
            if len(self._in_hand[worker]) < n_in_hand(self._mean_seconds):
                return worker
        return None

    def _hire(self) -> None:
        """As many workers as there are units for, looking no further ahead than there are places."""
        n_places = self._crew.size - len(self._in_hand) - len(self._starting)
        while len(self._ahead) < n_places and self._read():
            pass
        n_wanted = len(self._again) + len(self._ahead) - len(self._starting)
        for _ in range(min(n_places, n_wanted)):
            self._starting.add(self._crew.hire())

    # --- taking ---------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._n_stillborn = 0
            self._starting.discard(event.worker)
            self._in_hand[event.worker] = deque()
            self._idle[event.worker] = None
        elif isinstance(event, Answered):
            self._take_answer(event.worker, event.answer)
        else:
            self._take_loss(event.worker, event.how)

    def _take_answer(self, worker: int, answer: Answer) -> None:
        hand = self._in_hand[worker]
        hand.remove(answer.position)
        self._n_in_hand -= 1
        if hand:
            self._with_room[worker] = None
        else:
            self._with_room.pop(worker, None)
            self._idle[worker] = None
        if answer.is_error:
            error = rebuilt_error(answer.content)
            if not (self._is_stopping and isinstance(error, Interrupted)):
                self._fail(answer.position, error)
            return
        seconds, mean = answer.seconds, self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean + _WEIGHT_OF_THE_LAST * (seconds - mean)
        self._finish(answer.position, pickle.loads(answer.content), bytes_of_outcome(answer.content))  # noqa: S301 - from a process of ours

    def _finish(self, position: int, outcome: Any, n_bytes: int) -> None:
        del self._unit_of[position]
        self._n_deaths.pop(position, None)
        self._finished[position] = outcome, None, n_bytes
        self._n_waiting_bytes += n_bytes
        self._wishes.on_done(position, outcome)

    def _fail(self, position: int, error: Exception) -> None:
        """Raised when its turn comes; units before it are still finished, later ones are not begun."""
        self._failed_at = position if self._failed_at is None else min(position, self._failed_at)
        self._finished[position] = None, error, 0
        self._ahead = deque(filter(self._counts, self._ahead))
        self._again = deque(filter(self._counts, self._again))

    def _counts(self, position: int) -> bool:
        """Whether an outcome can still be handed over."""
        return self._failed_at is None or position < self._failed_at

    def _take_loss(self, worker: int, how: str) -> None:
        self._idle.pop(worker, None)
        self._with_room.pop(worker, None)
        if worker in self._starting:
            self._starting.discard(worker)
            self._n_stillborn += 1
            if self._n_stillborn > STILLBIRTHS + self._crew.size:
                raise EnvironmentFault(
                    f"Workers cannot start: {self._n_stillborn} ended before their first unit; the last one {how}. "
                    "Expected a main script that can be imported (its work under `if __name__ == '__main__':`) and "
                    "enough memory. Try --workers 1."
                )
            return
        hand = self._in_hand.pop(worker)
        self._n_in_hand -= len(hand)
        if self._is_stopping or not hand:
            return
        begun = hand[0]
        self._n_deaths[begun] = n_deaths = self._n_deaths.get(begun, 0) + 1
        self._again.extendleft(filter(self._counts, reversed(hand)))
        if not self._counts(begun):
            return
        if n_deaths <= self._wishes.retries:
            self.n_repeated += 1
            self._wishes.say(f"Unit {begun}: its worker {how}; another one takes it.")
            return
        self._again.remove(begun)
        self._give_up(begun, n_deaths, how)

    def _give_up(self, position: int, n_deaths: int, how: str) -> None:
        shown = visible(repr(self._unit_of[position]))
        shown = shown if len(shown) <= _MOST_OF_A_UNIT else shown[:_MOST_OF_A_UNIT] + "…"
        times = "its worker" if n_deaths == 1 else f"{n_deaths} workers, one after another; the last one"
        error = EnvironmentFault(
            f"Unit {position} ({shown}) ended {times} {how}. Expected a worker that lives; memory is the usual cause. "
            "Give it a larger machine, or smaller batches; the same command goes on with what is not finished."
        )
        if self._wishes.instead is None:
            self._fail(position, error)
        else:
            self._finish(position, self._wishes.instead(self._unit_of[position], error), 0)


class Maps:
    """The maps of one engine."""

    def __init__(self) -> None:
        self._begun: list[tuple[Dispatch, Generator[Any, None, None]]] = []

    def begin(self, dispatch: Dispatch) -> Iterator[Any]:
        """Its outcomes."""
        outcomes = dispatch.outcomes()
        self._begun.append((dispatch, outcomes))
        return outcomes

    @property
    def n_repeated(self) -> int:
        """Over all of them."""
        return sum(dispatch.n_repeated for dispatch, _ in self._begun)

    def close(self) -> None:
        """End the workers of those that were left in the middle."""
        for _, outcomes in self._begun:
            outcomes.close()
