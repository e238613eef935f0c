"""Where units are carried out: order, how far ahead is read, what a worker's end and an error lead to."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import threading
from collections import deque

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_work import CountedUnpickling, Deaf, Failing, Files, Square, Surroundings, UntilStopped, files_of, n_begun
from loraudit.engines import open_engine, policy, positions_of_shard, stop_of_worker
from loraudit.engines.crew import Answered, Lost, Ready, Wishes
from loraudit.engines.dispatch import Dispatch
from loraudit.engines.policy import LEAST_AHEAD, MOST_IN_HAND, MOST_WAITING_BYTES, bytes_of_outcome, may_read, n_in_hand
from loraudit.engines.processes import gpus_of_workers, n_threads
from loraudit.engines.seat import Answer, answered, rebuilt_error
from loraudit.errors import ConfigError, DataError, Diverged, EnvironmentFault, LorauditError, MissingExtra
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.spec.engines import EngineOptions

TWO = EngineOptions(workers=2)


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def children():
    """Worker processes of this one; the resource tracker of multiprocessing stays for as long as it does."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.is_running() and "spawn_main" in " ".join(p.cmdline())]


# --- shards -------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 17))
def test_shards_are_disjoint_and_together_everything(n_units, n_parts):
    shards = [list(positions_of_shard(f"{i}/{n_parts}", n_units)) for i in range(1, n_parts + 1)]
    assert sorted(itertools.chain(*shards)) == list(positions_of_shard(None, n_units)) == list(range(n_units))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_costs_that_rise_along_the_units_are_shared_among_shards():
    costs = [sum(positions_of_shard(f"{i}/5", 1000)) for i in range(1, 6)]
    assert max(costs) / min(costs) < 1.01


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "0/0", "a/b", "1", "1/2/3", "-1/3", " 1/3", "1/3\n", ""])
def test_a_shard_that_is_no_part_is_refused(shard):
    with pytest.raises(ConfigError, match=r"is no part of a whole\. Expected i/n with i from 1 to n, such as 2/5\."):
        positions_of_shard(shard, 10)


# --- how far ahead ------------------------------------------------------------------------------------


def test_only_short_units_wait_in_a_workers_hand():
    assert [n_in_hand(s) for s in (None, 3600.0, 1.0, 0.051, 0.05, 0.02, 0.0)] == [1, 1, 1, 1, 2, 3, MOST_IN_HAND]


def test_reading_on_is_bounded_by_the_memory_of_outcomes_that_wait():
    assert may_read(10**6, MOST_WAITING_BYTES - 1, 1)
    assert not may_read(10**6, MOST_WAITING_BYTES, 1)
    assert may_read(LEAST_AHEAD * 3 - 1, 2 * MOST_WAITING_BYTES, 3)
    assert not may_read(LEAST_AHEAD * 3, 2 * MOST_WAITING_BYTES, 3)
    assert LEAST_AHEAD >= MOST_IN_HAND  # else workers would be without their units


# --- dispatch, with workers that do as they are told ---------------------------------------------------


class Scripted:
    """A crew in this process: the newest unit is answered first, and `deaths` names units that workers die of."""

    def __init__(self, size, deaths=(), *, stillborn=0, shares_memory=False, seconds=1.0, oldest_first=False):
        self.size, self.shares_memory = size, shares_memory
        self.deaths, self.stillborn, self.seconds = list(deaths), stillborn, seconds
        self.oldest_first = oldest_first
        self.news = deque()
        self.hands = {}
        self.n_hired = 0
        self.given = []
        self.beside = {}
        self.is_dismissed = False
        self.was_asked = False

    def hire(self):
        self.n_hired += 1
        if self.stillborn:
            self.stillborn -= 1
            self.news.append(Lost(self.n_hired, "fell over"))
        else:
            self.hands[self.n_hired] = deque()
            self.news.append(Ready(self.n_hired))
        return self.n_hired

    def give(self, worker, position, unit):
        self.given.append(position)
        self.hands[worker].append((position, unit))
        self.beside[position] = sum(map(len, self.hands.values())) - 1

    def events(self, seconds):
        if self.news:
            return [self.news.popleft()]
        busy = {worker: hand for worker, hand in self.hands.items() if hand}
        assert busy, "it waits for workers that have nothing to do"
        choose = min if self.oldest_first else max
        worker = choose(busy, key=lambda w: busy[w][0][0])
        position, unit = busy[worker][0]
        if position in self.deaths:
            self.deaths.remove(position)
            del self.hands[worker]
            return [Lost(worker, "was struck by lightning")]
        self.hands[worker].popleft()
        if isinstance(unit, Exception):
            return [Answered(worker, answered(position, lambda: raising(unit)))]
        return [Answered(worker, Answer(position, self.seconds, False, pickle.dumps(unit * 2)))]

    def ask_to_stop(self):
        self.was_asked = True

    def dismiss(self):
        self.is_dismissed = True


def raising(error):
    raise error


def wishes(*, retries=2, stop=None, on_done=None, instead=None, say=None):
    nothing = lambda *_: None  # noqa: E731
    return Wishes(retries, stop or StopRequest(), on_done or nothing, instead, say or nothing)


def carried_out(crew, units, **options):
    dispatch = Dispatch(crew, units, wishes(**options))
    return list(dispatch.outcomes()), dispatch.n_repeated


@given(
    st.integers(0, 40), st.integers(1, 7), st.sampled_from([0.001, 0.02, 1.0]), st.sets(st.integers(0, 39), max_size=9)
)
def test_outcomes_come_in_order_whoever_finishes_first_and_whoever_dies(n_units, size, seconds, deaths):
    crew = Scripted(size, deaths, seconds=seconds)
    outcomes, n_repeated = carried_out(crew, range(n_units))
    assert outcomes == [2 * i for i in range(n_units)]
    assert n_repeated == len({d for d in deaths if d < n_units})
    assert crew.is_dismissed
    assert crew.n_hired <= min(size, n_units) + n_repeated


def test_a_notice_comes_as_soon_as_a_unit_is_done_and_once():
    told = []
    crew = Scripted(3, [1, 2])
    assert carried_out(crew, range(6), on_done=lambda i, outcome: told.append((i, outcome)))[0] == [0, 2, 4, 6, 8, 10]
    assert sorted(told) == [(i, 2 * i) for i in range(6)]
    assert told != sorted(told)


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("n_waiting", [0, 1000])
def test_units_are_read_no_further_than_outcomes_that_wait_have_room(size, n_waiting, monkeypatch):
    monkeypatch.setattr(policy, "MOST_WAITING_BYTES", n_waiting * bytes_of_outcome(pickle.dumps(2)))
    n_read = 0

    def units():
        nonlocal n_read
        for _ in itertools.count():
            n_read += 1
            yield 1

    crew = Scripted(size)  # the newest first: with two workers or more, the first unit stays in hand all the time
    outcomes = Dispatch(crew, units(), wishes()).outcomes()
    assert next(outcomes) == 2
    assert n_read == (3 if size == 1 else max(LEAST_AHEAD * size, n_waiting + size))
    for _ in range(100):
        next(outcomes)
    assert n_read <= 101 + max(LEAST_AHEAD * size, n_waiting + size)
    outcomes.close()
    assert crew.is_dismissed


def test_no_more_workers_are_hired_than_there_are_units():
    crew = Scripted(50)
    assert carried_out(crew, range(3))[0] == [0, 2, 4]
    assert crew.n_hired == 3
    assert carried_out(Scripted(50), [])[0] == []


def test_long_units_are_spread_and_none_waits_behind_another():
    crew = Scripted(4, seconds=100.0)
    carried_out(crew, range(40))
    assert max(crew.beside.values()) <= 3


def test_of_a_dead_workers_units_only_the_first_counts_as_repeated():
    crew = Scripted(1, seconds=0.001, oldest_first=True)
    crew.deaths = [20]
    outcomes, n_repeated = carried_out(crew, range(30))
    assert outcomes == [2 * i for i in range(30)]
    assert n_repeated == 1
    assert {i for i in range(30) if crew.given.count(i) == 2} == set(range(20, 20 + MOST_IN_HAND))


def test_a_unit_that_no_worker_survives_is_named():
    lines = []
    crew = Scripted(2, [3, 3, 3])
    outcomes = Dispatch(crew, range(9), wishes(say=lines.append)).outcomes()
    assert [next(outcomes) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(
        EnvironmentFault,
        match=r"^Unit 3 \(3\) ended 3 workers, one after another; the last one was struck by lightning\. Expected a "
        r"worker that lives; .* the same command goes on with what is not finished\.$",
    ):
        next(outcomes)
    assert lines == ["Unit 3: its worker was struck by lightning; another one takes it."] * 2
    with pytest.raises(EnvironmentFault, match=r"Unit 0 \('x{199}…\) ended its worker was struck"):
        carried_out(Scripted(1, [0]), ["x" * 900], retries=0)


def test_something_can_stand_instead_of_a_unit_that_no_worker_survives():
    crew = Scripted(2, [3, 3, 3])
    outcomes, n_repeated = carried_out(crew, range(6), instead=lambda unit, error: f"{unit}: {type(error).__name__}")
    assert outcomes == [0, 2, 4, "3: EnvironmentFault", 8, 10]
    assert n_repeated == 2


def test_where_memory_is_shared_the_last_try_is_made_alone():
    crew = Scripted(4, [5, 5], shares_memory=True)
    assert carried_out(crew, range(40))[0] == [2 * i for i in range(40)]
    assert crew.beside[5] == 0
    after = crew.given[len(crew.given) - 1 - crew.given[::-1].index(5) + 1]
    assert crew.beside[after] == 0  # nothing was given beside it either
    elsewhere = Scripted(4, [5, 5])
    carried_out(elsewhere, range(40))
    assert elsewhere.beside[5] > 0


def test_workers_that_cannot_start_are_not_hired_for_ever():
    crew = Scripted(2, stillborn=100)
    with pytest.raises(
        EnvironmentFault, match=r"^Workers cannot start: 6 ended before their first unit; the last one fell over\."
    ):
        carried_out(crew, range(9))
    assert crew.is_dismissed
    assert carried_out(Scripted(2, stillborn=5), range(9))[0] == [2 * i for i in range(9)]


def test_workers_go_on_while_an_outcome_is_looked_at():
    crew = Scripted(2, oldest_first=True)
    outcomes = Dispatch(crew, range(1000), wishes()).outcomes()
    for n_seen in range(1, 9):
        next(outcomes)
        assert len(crew.given) > n_seen
        assert sum(map(len, crew.hands.values())) == len(crew.hands)
    outcomes.close()


def test_a_failure_waits_for_its_turn_and_begins_nothing_after_it():
    crew = Scripted(3)
    units = [1, 2, ValueError("third"), *range(4, 30)]
    outcomes = Dispatch(crew, units, wishes()).outcomes()
    assert next(outcomes) == 2
    assert next(outcomes) == 4
    with pytest.raises(ValueError, match=r"^third\nWhere it happened in the worker:"):
        next(outcomes)
    assert max(crew.given) < 10


def test_a_loss_after_a_failure_redoes_only_what_comes_before_it():
    crew = Scripted(3, [0, 2])
    units = [0, ValueError("second"), 2, 3]
    outcomes = Dispatch(crew, units, wishes()).outcomes()
    assert next(outcomes) == 0
    with pytest.raises(ValueError, match=r"^second\n"):
        next(outcomes)
    assert crew.given.count(0) == 2


def test_a_stop_waits_for_what_is_in_hand_and_hands_over_what_is_done():
    stop = StopRequest()
    crew = Scripted(3)
    done = []

    def ask(position, outcome):
        done.append(position)
        if len(done) == 4:
            stop.ask()

    outcomes = Dispatch(crew, range(100), wishes(stop=stop, on_done=ask)).outcomes()
    seen = []
    with pytest.raises(Interrupted):
        seen.extend(outcomes)
    assert crew.was_asked
    assert not any(crew.hands.values())
    assert sorted(done) == sorted(set(crew.given))


def test_a_stop_after_the_last_unit_changes_nothing():
    stop = StopRequest()
    crew = Scripted(1)
    assert carried_out(crew, range(3), stop=stop, on_done=lambda i, _: stop.ask() if i == 2 else None)[0] == [0, 2, 4]


# --- in this process ----------------------------------------------------------------------------------


def test_one_worker_is_this_process_and_nothing_is_pickled(tmp_path):
    with open_engine(EngineOptions(), shared=tmp_path) as engine:
        outcomes = engine.map(lambda unit: (unit, os.getpid()), itertools.count())
        assert [next(outcomes) for _ in range(3)] == [(i, os.getpid()) for i in range(3)]
        assert engine.facts() == {"engine": "local", "workers": 1}
        assert engine.n_repeated == 0


def test_work_of_this_process_asks_the_engines_own_stop(tmp_path):
    stop, done = StopRequest(), []
    with open_engine(EngineOptions(), shared=tmp_path, stop=stop, on_done=lambda i, _: done.append(i)) as engine:
        outcomes = engine.map(lambda _: stop_of_worker(), range(3))
        assert next(outcomes) is stop
        stop.ask()
        with pytest.raises(Interrupted):
            next(outcomes)
    assert done == [0]
    assert stop_of_worker() is not stop


# --- processes ----------------------------------------------------------------------------------------


def test_processes_give_what_this_process_gives_and_load_the_work_once(tmp_path):
    with open_engine(TWO, shared=tmp_path) as engine:
        assert list(engine.map(Square(), range(300))) == [i * i for i in range(300)]
        counts = list(engine.map(CountedUnpickling(tmp_path), range(40)))
        assert children() == []
        assert list(engine.map(Square(), [])) == []
    n_workers = len(list(tmp_path.glob("unpickled-*")))
    assert 1 <= n_workers <= 2
    assert max(counts) >= 20  # state of the work stays with its worker
    assert engine.facts() == {"engine": "local", "workers": 2, "threads_per_worker": 1}


def test_a_worker_has_its_threads_and_its_gpu_and_this_process_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    options = EngineOptions(workers=2, worker_cpus=3.5, worker_gpus=1)
    with open_engine(options, shared=tmp_path) as engine:
        seen = list(engine.map(Surroundings(), range(60)))
    assert {one["threads"] for one in seen} == {"3"}
    assert {one["gpus"] for one in seen} <= {"4", "7"}
    assert all(one["is_main_thread"] for one in seen)
    assert os.getpid() not in {one["pid"] for one in seen}
    assert (os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("9", "4,7")


@pytest.mark.parametrize(
    ("n_workers", "worker_gpus", "visible", "expected"),
    [
        (3, 0, "0", [None, None, None]),
        (2, 1, "0,1", ["0", "1"]),
        (2, 2, "a, b,c,d", ["a,b", "c,d"]),
        (4, 0.5, "0,1", ["0", "0", "1", "1"]),
        (3, 0.3, "5", ["5", "5", "5"]),
    ],
)
def test_gpus_are_dealt_out(n_workers, worker_gpus, visible, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_of_workers(n_workers, worker_gpus) == expected


@pytest.mark.parametrize(
    ("n_workers", "worker_gpus", "visible"), [(3, 1, "0,1"), (2, 0.6, "0"), (2, 1, ""), (1, 1.5, "0,1")]
)
def test_gpus_that_are_not_there_are_not_dealt_out(n_workers, worker_gpus, visible, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match=r"workers with .* GPUs each do not fit on \d visible GPUs\."):
        gpus_of_workers(n_workers, worker_gpus)


def test_a_part_of_a_core_is_one_thread():
    assert [n_threads(cpus) for cpus in (0.1, 1, 1.9, 4)] == [1, 1, 1, 4]


@pytest.mark.parametrize(
    ("how", "kind", "check"),
    [
        ("data", DataError, lambda e: e.problems == ("line 1", "line 2") and str(e).endswith("line 2")),
        ("extra", MissingExtra, lambda e: str(e).endswith("pip install 'loraudit[ray]'")),
        ("diverged", Diverged, lambda e: (e.step, e.n_steps, str(e)) == (3, 9, "It diverged.")),
        ("bug", ValueError, lambda e: e.args == ("three",)),
        ("stubborn", RuntimeError, lambda e: str(e).startswith("Stubborn: ('cannot travel'")),
        ("memory", MemoryError, lambda e: str(e) == "too large"),
        ("file", FileNotFoundError, lambda e: (e.errno, e.filename) == (2, "gone.txt")),
        ("unicode", UnicodeDecodeError, lambda e: (e.reason, e.object) == ("why", b"ab")),
    ],
)
def test_an_exception_travels_as_itself_with_its_traceback(how, kind, check, tmp_path):
    error = rebuilt_error(answered(3, lambda: Failing(how, tmp_path)(3)).content)
    assert type(error) is kind
    assert check(error)
    notes = getattr(error, "__notes__", [])
    assert len(notes) == (not isinstance(error, LorauditError))  # a person's mistake needs no traceback, a bug does
    assert all("in the worker" in note and "engine_work.py" in note for note in notes)


def test_a_failing_unit_fails_as_in_this_process(tmp_path):
    for options in (EngineOptions(), TWO):
        folder = tmp_path / str(options.workers)
        folder.mkdir()
        with open_engine(options, shared=tmp_path) as engine:
            outcomes = engine.map(Failing("data", folder), range(500))
            assert [next(outcomes) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(DataError, match="Records are bad"):
                next(outcomes)
        assert len(list(folder.glob("begun-*"))) < 30
    assert children() == []


def test_an_outcome_or_work_that_cannot_be_pickled_is_an_error_not_a_hang(tmp_path):
    with open_engine(TWO, shared=tmp_path) as engine:
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            list(engine.map(lambda unit: unit, range(3)))
        with pytest.raises(Exception, match="pickle"):
            list(engine.map(threading.Barrier, [1]))


def test_work_that_a_worker_cannot_load_is_an_error_not_a_hang(tmp_path, monkeypatch):
    import types

    hidden = types.ModuleType("hidden_work")
    exec("class Work:\n    def __call__(self, unit): return unit", hidden.__dict__)  # noqa: S102
    hidden.Work.__module__ = "hidden_work"
    monkeypatch.setitem(sys.modules, "hidden_work", hidden)
    with (
        open_engine(TWO, shared=tmp_path) as engine,
        pytest.raises(ModuleNotFoundError, match="hidden_work"),
    ):
        list(engine.map(hidden.Work(), range(3)))
    assert children() == []


def test_a_map_left_early_and_a_block_left_early_end_the_workers(tmp_path):
    with open_engine(TWO, shared=tmp_path) as engine:
        outcomes = engine.map(Deaf(tmp_path, 0.01), itertools.count())
        assert next(outcomes) == 0
        assert len(children()) == 2
        outcomes.close()
        assert children() == []
        forgotten = engine.map(Deaf(tmp_path, 0.01), itertools.count())
        assert next(forgotten) == 0
        assert len(children()) == 2
    assert children() == []


def test_large_units_and_outcomes_pass_while_others_wait(tmp_path):
    units = [bytes([i]) * 3_000_000 for i in range(6)]
    with open_engine(TWO, shared=tmp_path) as engine:
        assert list(engine.map(bytes.upper, units)) == [unit.upper() for unit in units]


def test_a_stop_reaches_the_work_of_a_worker(tmp_path):
    stop = StopRequest()
    asked = threading.Timer(0, lambda: None)

    def ask():
        from engine_work import wait_until

        wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        stop.ask()

    asked = threading.Thread(target=ask)
    asked.start()
    with open_engine(TWO, shared=tmp_path, stop=stop) as engine, pytest.raises(Interrupted):
        list(engine.map(UntilStopped(tmp_path), range(10)))
    asked.join()
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert children() == []


def test_a_killed_worker_costs_its_unit_only(tmp_path):
    said = Said()
    with open_engine(TWO, shared=tmp_path, progress=said) as engine:
        outcomes = list(engine.map(Files(tmp_path, {2: 1, 5: 2}), range(12)))
    assert len(set(outcomes)) == len(files_of(tmp_path)) == 12
    assert engine.n_repeated == 3
    assert {unit: n for unit, n in n_begun(tmp_path).items() if n > 1} == {2: 2, 5: 3}
    assert said.lines[0].endswith(f"its worker was killed by {signal.Signals.SIGKILL.name}; another one takes it.")


def test_ray_that_is_missing_is_named_with_the_command_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtra, match=r"^The Ray engine needs .*Run: pip install 'loraudit\[ray\]'"),
        open_engine(EngineOptions(engine="ray"), shared=tmp_path),
    ):
        pytest.fail("an engine without its library")
    assert "RAY_DEDUP_LOGS_SKIP_REGEX" not in os.environ
