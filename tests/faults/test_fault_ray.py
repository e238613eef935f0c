"""A Ray cluster that loses workers, nodes or its head, and nodes that do not fit."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from engine_work import Deaf, Files, Held, Locked, Square, Surroundings, UntilStopped, files_of, n_begun, wait_until
from loraudit.engines import open_engine, ray_actors, ray_cluster
from loraudit.engines.ray_worker import RayWorker, versions_here
from loraudit.errors import EnvironmentFault, StoreError
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.spec.engines import EngineOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs loraudit[ray]"),
]

SMALL = 80 * 2**20
QUICK = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
"""A dead node is noticed after a few seconds; by default after half a minute."""

DRIVER = """
import sys
from pathlib import Path
from engine_work import Held
from loraudit.engines import open_engine
from loraudit.errors import LorauditError
from loraudit.spec.engines import EngineOptions

def main(address, folder, seconds, n_units):
    options = EngineOptions(engine="ray", workers=1, ray_address=address)
    with open_engine(options, shared=Path(folder)) as engine:
        print(len(list(engine.map(Held(Path(folder), float(seconds)), range(int(n_units))))), flush=True)

if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except LorauditError as error:
        print(error, flush=True)
        sys.exit(error.exit_code)
"""


def pythonpath():
    return os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


class Several(contextlib.ExitStack):
    """Nodes of one cluster on this machine: a head that carries out nothing, and others."""

    def __enter__(self):
        ray_cluster.load_ray()
        from ray.cluster_utils import Cluster

        kept = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = pythonpath()
        self.callback(lambda: os.environ.pop("PYTHONPATH") if kept is None else os.environ.update(PYTHONPATH=kept))
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": SMALL, "_system_config": QUICK}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.callback(self.cluster.shutdown)
        return self

    @property
    def address(self):
        return self.cluster.address

    def add(self, **options):
        return self.cluster.add_node(num_cpus=1, object_store_memory=SMALL, **options)

    def kill(self, node):
        self.cluster.remove_node(node, allow_graceful=False)


def raylet_of(node):
    return node.all_processes["raylet"][0].process.pid


def is_of(pid, node):
    with contextlib.suppress(psutil.NoSuchProcess):
        return raylet_of(node) in [parent.pid for parent in psutil.Process(pid).parents()]
    return False


@pytest.fixture(scope="module")
def cluster():
    """For what leaves it as it was: a head and two nodes."""
    with Several() as several:
        several.add()
        several.add()
        yield several


def options(cluster, **more):
    return EngineOptions(engine="ray", ray_address=cluster.address, **more)


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


# --- row 22: Ray ---------------------------------------------------------------------------------------------


def test_a_joined_cluster_is_used_as_far_as_it_has_room_and_left_as_it_was(cluster, tmp_path):
    with open_engine(EngineOptions(), shared=tmp_path) as engine:
        outcomes = list(engine.map(Files(tmp_path), range(40)))
    with open_engine(options(cluster), shared=tmp_path) as engine:
        assert list(engine.map(Files(tmp_path, seconds=0.25), range(40))) == outcomes
        assert (engine.facts()["cluster"], engine.facts()["workers"]) == ("joined", 2)
        assert {one["threads"] for one in engine.map(Surroundings(), range(20))} == {"1"}
    assert list(tmp_path.glob(".engine-*")) == []
    with open_engine(options(cluster, worker_cpus=0.5), shared=tmp_path) as engine:
        assert list(engine.map(Square(), range(10))) == [i * i for i in range(10)]


def test_a_lock_left_by_a_worker_on_another_host_is_taken_over_by_who_carries_on(cluster, tmp_path):
    told = Told()
    with open_engine(options(cluster), shared=tmp_path, progress=told) as engine:
        assert list(engine.map(Locked(tmp_path, "elsewhere"), range(6))) == list(range(6))
        assert engine.n_repeated == 1
    assert told.lines[0].startswith("Unit 0: its worker was lost (ActorDiedError:")
    assert list(tmp_path.rglob("lock.json")) == []


def test_a_killed_node_costs_one_unit_and_its_lock_is_taken_over(tmp_path):
    with Several() as several:
        lost, kept = several.add(), several.add()

        def kill_when_it_works():
            wait_until(lambda: any(is_of(pid, lost) for pid in pids_begun(tmp_path)))
            several.kill(lost)

        killer = threading.Thread(target=kill_when_it_works)
        killer.start()
        with open_engine(options(several), shared=tmp_path) as engine:
            outcomes = list(engine.map(Held(tmp_path, 1.5), range(8)))
        killer.join()
        assert len(outcomes) == 8
        assert engine.n_repeated == 1
        assert sorted(n_begun(tmp_path).values()) == [1] * 7 + [2]
        assert is_of(outcomes[-1], kept) or not psutil.pid_exists(outcomes[-1])
    assert files_of(tmp_path) == expected_files(8)
    assert list(tmp_path.rglob("lock.json")) == []


def pids_begun(folder):
    return [int(pid) for path in folder.glob(".begun-*") for pid in path.read_text().split()]


def expected_files(n_units):
    return {f"{unit:06d}.bin": random.Random(unit).randbytes(256) for unit in range(n_units)}


def test_a_node_that_joins_later_is_put_to_use(tmp_path):
    with Several() as several:
        several.add()
        on_done = lambda position, _: several.add() if position == 3 else None  # noqa: E731
        with open_engine(options(several), shared=tmp_path, on_done=on_done) as engine:
            pids = list(engine.map(Held(tmp_path, 0.5), range(50)))
        assert len(set(pids)) == 2
        assert engine.facts()["workers"] == 2


def test_a_stop_reaches_the_work_of_an_actor(cluster, tmp_path):
    stop = StopRequest()

    def ask():
        wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        stop.ask()

    asking = threading.Thread(target=ask)
    asking.start()
    with open_engine(options(cluster), shared=tmp_path, stop=stop) as engine, pytest.raises(Interrupted):
        list(engine.map(UntilStopped(tmp_path), range(10)))
    asking.join()
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert list(tmp_path.glob(".engine-*")) == []  # everybody ended in peace, so no lock can be left


def test_actors_end_with_the_block_even_if_they_do_not_listen(cluster, tmp_path):
    with open_engine(options(cluster), shared=tmp_path) as engine:
        outcomes = engine.map(Files(tmp_path, seconds=0.2), range(1000))
        next(outcomes)
        wait_until(lambda: len(n_begun(tmp_path)) > 1)
        pids = pids_begun(tmp_path)
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=30)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert len(list(tmp_path.glob(".engine-*"))) == 1  # so that their locks can be taken over


def test_a_node_without_the_shared_folder_is_found_before_its_first_unit(cluster, tmp_path):
    """A node of its own mount namespace, with something else under the same path."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make mount namespaces")
    with Several() as several:
        start = f"mount -t tmpfs none {tmp_path} && exec ray start --address={several.address} --num-cpus=1 --block"
        ray_folder = Path(sys.executable).parent
        node = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", start],
            env=os.environ | {"PATH": f"{ray_folder}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with (
                open_engine(options(several, workers=1), shared=tmp_path) as engine,
                pytest.raises(StoreError, match=rf"^Folder '{tmp_path}' of node \S+ is not the one of the machine"),
            ):
                list(engine.map(Deaf(tmp_path), range(3)))
            assert list(tmp_path.glob("begun-*")) == []
        finally:
            os.killpg(node.pid, signal.SIGTERM)
            node.wait(timeout=30)


@pytest.mark.parametrize("what", ["loraudit", "python", "ray"])
def test_other_versions_on_a_node_are_refused(what, cluster, tmp_path, monkeypatch):
    here = {**versions_here(), what: "99.1"}
    monkeypatch.setattr(ray_actors, "versions_here", lambda: here)
    with (
        open_engine(options(cluster, workers=1), shared=tmp_path) as engine,
        pytest.raises(
            EnvironmentFault,
            match=rf"^Node \S+ has loraudit .*\. Expected .*{what} 99\.1.* as on the machine that started the work\. "
            r"Install the same versions on all nodes\.$",
        ),
    ):
        list(engine.map(Deaf(tmp_path), range(3)))
    assert list(tmp_path.glob("begun-*")) == []


def test_another_torch_on_a_node_is_told_and_stands_in_the_facts(cluster, tmp_path, monkeypatch):
    told, here = Told(), {**versions_here(), "torch": "99.1"}
    there = versions_here()["torch"]
    monkeypatch.setattr(ray_actors, "versions_here", lambda: here)
    with open_engine(options(cluster), shared=tmp_path, progress=told) as engine:
        list(engine.map(Square(), range(9)))
    assert engine.facts()["versions_that_differ"] == {"torch": sorted([there, "99.1"])}
    assert [line for line in told.lines if f"has torch {there}, this machine 99.1." in line] == told.lines
    assert len(told.lines) == 1


def test_a_node_where_workers_cannot_be_made_is_an_error(cluster, tmp_path, monkeypatch):
    class Unmade(RayWorker):
        def __init__(self):
            raise ModuleNotFoundError("No module named 'loraudit'")

    monkeypatch.setattr(ray_actors, "RayWorker", Unmade)
    with (
        open_engine(options(cluster, workers=1), shared=tmp_path) as engine,
        pytest.raises(
            EnvironmentFault, match=r"^A worker of the Ray cluster cannot start: .*No module named 'loraudit'"
        ),
    ):
        list(engine.map(Square(), range(3)))


def test_a_cluster_without_room_for_one_worker_is_refused(cluster, tmp_path, monkeypatch):
    with (
        pytest.raises(EnvironmentFault, match=r"^No node of the Ray cluster has 64 CPUs and 0 GPUs\."),
        open_engine(options(cluster, worker_cpus=64), shared=tmp_path),
    ):
        pytest.fail("it has room")
    monkeypatch.setattr(ray_actors, "_SECONDS_FOR_ROOM", 1.0)
    monkeypatch.setattr(ray_actors, "SECONDS_BETWEEN_COUNTS", 0.2)
    with (
        open_engine(options(cluster, worker_gpus=0.5, workers=1), shared=tmp_path) as engine,
        pytest.raises(EnvironmentFault, match=r"has had no room for a worker for 1 s\. Expected 1 CPUs and 0\.5 GPUs"),
    ):
        list(engine.map(Square(), range(3)))


def test_a_cluster_that_is_not_there_is_refused(tmp_path):
    with (
        pytest.raises(EnvironmentFault, match=r"^Ray cluster '127\.0\.0\.1:9' cannot be used: .*See `ray status`\.$"),
        open_engine(EngineOptions(engine="ray", ray_address="127.0.0.1:9"), shared=tmp_path),
    ):
        pytest.fail("a cluster answers on a port that nobody listens on")


def test_a_client_address_without_rays_client_says_what_is_missing(tmp_path):
    if importlib.util.find_spec("grpc") is not None:
        pytest.skip("ray[client] is installed")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(EnvironmentFault, match=r"^Ray cluster 'ray://.*cannot be used: .*ray\[client\]"),
        open_engine(
            EngineOptions(engine="ray", ray_address=f"ray://127.0.0.1:{server.getsockname()[1]}"), shared=tmp_path
        ),
    ):
        pytest.fail("a client without its library")


def test_a_cluster_that_refuses_this_process_says_why(tmp_path, monkeypatch):
    def refuse(**settings):
        raise RuntimeError("Version mismatch:\n the cluster has Ray 1.0")

    monkeypatch.setattr(ray_cluster.load_ray(), "init", refuse)
    with (
        pytest.raises(
            EnvironmentFault, match=r"'auto' cannot be used: Version mismatch: the cluster has Ray 1\.0\. Exp"
        ),
        open_engine(EngineOptions(engine="ray", ray_address="auto"), shared=tmp_path),
    ):
        pytest.fail("it was let in")


@pytest.fixture
def driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, "utf-8")
    started = []

    def start(address, folder, seconds, n_units):
        folder.mkdir(exist_ok=True)
        words = [str(word) for word in (address, folder, seconds, n_units)]
        started.append(
            subprocess.Popen(
                [sys.executable, script, *words],
                env=os.environ | {"PYTHONPATH": pythonpath()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def test_after_a_killed_driver_the_same_command_takes_over_its_workers_locks(cluster, tmp_path, driver):
    folder = tmp_path / "run"
    first = driver(cluster.address, folder, 0.5, 8)
    wait_until(lambda: len(files_of(folder)) >= 2 and list(folder.rglob("lock.json")))
    first.kill()
    first.wait()
    n_first = len(files_of(folder))
    assert 2 <= n_first < 8
    again = driver(cluster.address, folder, 0.0, 8)
    out, err = again.communicate(timeout=120)
    assert (again.returncode, out) == (0, "8\n"), err
    assert files_of(folder) == expected_files(8)
    assert list(folder.rglob("lock.json")) == []
    assert list(folder.glob(".engine-*")) == []


def test_after_a_killed_head_the_command_ends_and_the_same_one_resumes(tmp_path, driver):
    folder = tmp_path / "run"
    with Several() as several:
        several.add()
        process = driver(several.address, folder, 1.0, 200)
        wait_until(lambda: len(files_of(folder)) >= 2)
        for processes in several.cluster.head_node.all_processes.values():
            for one in processes:
                one.process.kill()
        out, err = process.communicate(timeout=120)
    assert process.returncode == EnvironmentFault.exit_code, err
    assert out.startswith("The head of the Ray cluster does not answer. Expected it to live as long as the work.")
    n_before, begun = len(files_of(folder)), n_begun(folder)
    assert 2 <= n_before < 200
    for stale in folder.rglob("lock.json"):  # its host is one of those that are gone
        assert "host-of-" in stale.read_text("utf-8")
    done = {int(name[:6]) for name in files_of(folder)}
    missing = [unit for unit in range(12) if unit not in done]
    for room in folder.glob("unit-*"):
        shutil.rmtree(room)
    with open_engine(EngineOptions(), shared=folder) as engine:
        list(engine.map(Files(folder), missing))
    assert all(n_begun(folder)[unit] == begun[unit] for unit in done)
