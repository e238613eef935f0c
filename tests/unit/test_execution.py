"""Maps give the outcomes in the order of the units; stopping and failing leave no work behind."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraudit.execution import Interrupted, Silent, StopRequest, serial_map, threaded_map


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(), max_size=20), st.integers(1, 4))
def test_a_threaded_map_gives_what_the_serial_one_gives(units, n_threads):
    assert list(threaded_map(n_threads)(str, units)) == list(serial_map(str, units)) == [str(unit) for unit in units]


def test_outcomes_come_in_the_order_of_the_units_whichever_ends_first():
    is_second_done = threading.Event()

    def work(unit: int) -> int:
        if unit == 0:
            assert is_second_done.wait(10)
        else:
            is_second_done.set()
        return unit

    assert list(threaded_map(2)(work, [0, 1])) == [0, 1]


def test_a_threaded_map_works_on_as_many_units_at_once_as_it_has_threads():
    together = threading.Barrier(3, timeout=10)
    assert len(list(threaded_map(3)(lambda _: together.wait(), range(3)))) == 3


def test_a_serial_map_does_one_unit_at_a_time_as_it_is_asked():
    begun: list[int] = []
    outcomes = serial_map(begun.append, range(3))
    assert begun == []
    next(outcomes)
    assert begun == [0]


@pytest.mark.parametrize("mapped", [serial_map, threaded_map(1)], ids=["serial", "threaded"])
def test_a_failure_surfaces_and_units_not_begun_are_not_begun(mapped):
    begun: list[int] = []

    def work(unit: int) -> int:
        begun.append(unit)
        if unit == 1:
            raise ValueError("unit 1 fails")
        if unit > 1:
            time.sleep(0.01)
        return unit

    outcomes = mapped(work, range(200))
    assert next(outcomes) == 0
    with pytest.raises(ValueError, match="unit 1 fails"):
        next(outcomes)
    assert len(begun) < 200


def test_a_threaded_map_that_is_left_early_cancels_what_has_not_begun():
    begun: list[int] = []

    def work(unit: int) -> int:
        begun.append(unit)
        time.sleep(0.01)
        return unit

    outcomes = threaded_map(1)(work, range(200))
    assert next(outcomes) == 0
    outcomes.close()
    assert len(begun) < 200


def test_a_stop_request_interrupts_from_the_next_check_on():
    stop = StopRequest()
    stop.check()
    stop.ask()
    for _ in range(2):
        with pytest.raises(Interrupted):
            stop.check()


def test_a_stop_may_be_asked_for_from_another_thread():
    stop = StopRequest()
    thread = threading.Thread(target=stop.ask)
    thread.start()
    thread.join()
    with pytest.raises(Interrupted):
        stop.check()


def test_silent_progress_prints_nothing(capsys):
    progress = Silent()
    progress.stage("scoring", 10, "records")
    progress.advance(3)
    progress.say("half way")
    assert capsys.readouterr() == ("", "")
