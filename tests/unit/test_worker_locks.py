"""Locks that workers of other hosts left, and the mark by which they are known."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from loraudit.engines import sessions
from loraudit.engines.sessions import Session, check_shared
from loraudit.errors import StoreError
from loraudit.store import WORKERS, Lock, lend_secret, user_secret
from loraudit.store.files import Workers
from loraudit.store.identity import _lent


@pytest.fixture(autouse=True)
def _nobody_is_gone(monkeypatch):
    """What one test knows of workers is nothing to the next."""
    monkeypatch.setattr(WORKERS, "own", None)
    monkeypatch.setattr(WORKERS, "gone", set())


def leave(folder, worker, *, host="elsewhere", pid=1):
    (folder / "lock.json").write_text(json.dumps({"pid": pid, "host": host, "worker": worker}), "utf-8")


def test_a_lock_names_the_worker_that_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(WORKERS, "own", "a-1")
    with Lock(tmp_path):
        held = json.loads((tmp_path / "lock.json").read_text("utf-8"))
        assert held == {"pid": os.getpid(), "host": socket.gethostname(), "worker": "a-1"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
def test_a_lock_of_a_worker_that_is_gone_is_taken_over_from_any_host(host, tmp_path):
    leave(tmp_path, "a-1", host=host)  # process 1 runs on this host: what an engine knows goes first
    with pytest.raises(StoreError, match="is in use by process 1 on "), Lock(tmp_path):
        pytest.fail("a lock was taken whose holder may live")
    WORKERS.mark_gone(["a-2", "b-", "a-11"])
    with pytest.raises(StoreError, match="is in use by process 1 on "), Lock(tmp_path):
        pytest.fail("a lock was taken whose holder may live")
    WORKERS.mark_gone(["a-1"])
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text("utf-8"))["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_all_workers_of_a_session_can_be_gone_at_once():
    known = Workers()
    known.mark_gone(["abc-", "def-0-7"])
    assert [known.is_gone(name) for name in ("abc-0-1", "abc-3-9", "def-0-7")] == [True] * 3
    assert [known.is_gone(name) for name in ("abcd-0-1", "def-0-1", "def-0-77", "", "-", None, 5, [])] == [False] * 8


def test_a_lock_without_a_worker_is_never_a_gone_workers(tmp_path):
    WORKERS.mark_gone(["a-1", "None", ""])
    (tmp_path / "lock.json").write_text(json.dumps({"pid": 1, "host": "elsewhere"}), "utf-8")
    with pytest.raises(StoreError, match="is in use by process 1 on elsewhere"), Lock(tmp_path):
        pytest.fail("the lock of another host was taken")


def test_a_worker_given_up_for_dead_leaves_the_lock_to_its_successor(tmp_path, monkeypatch):
    monkeypatch.setattr(WORKERS, "own", "a-1")
    with Lock(tmp_path):
        leave(tmp_path, "a-2")  # the engine lost sight of this worker, and another one took over
    assert json.loads((tmp_path / "lock.json").read_text("utf-8"))["worker"] == "a-2"
    (tmp_path / "lock.json").unlink()
    with Lock(tmp_path):
        (tmp_path / "lock.json").unlink()


def test_two_processes_of_one_number_do_not_write_into_one_file(tmp_path, monkeypatch):
    """In containers of one cluster two workers often have the same pid."""
    from loraudit.store import files

    names = {files._beside(tmp_path / "unit") for _ in range(100)}
    assert len(names) == 100
    assert all(name.name.startswith(f".unit.{os.getpid()}.") and name.suffix == ".tmp" for name in names)


def test_a_lent_secret_is_the_one_that_ids_are_made_from(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAUDIT_HOME", str(tmp_path / "home"))
    try:
        lend_secret(b"s" * 32)
        assert user_secret() == b"s" * 32
        assert not (tmp_path / "home").exists()
    finally:
        _lent.clear()
    assert user_secret() != b"s" * 32


# --- the mark in the shared folder ----------------------------------------------------------------------


def marks(folder):
    return sorted(path.name for path in folder.glob(".engine-*.json"))


def test_a_mark_is_private_proves_the_folder_and_goes_with_the_session(tmp_path):
    session = Session(tmp_path)
    assert marks(tmp_path) == [session.path.name]
    assert session.path.stat().st_mode & 0o777 == 0o600
    check_shared(session.path, session.text)
    session.close(in_peace=True)
    assert marks(tmp_path) == []


@pytest.mark.parametrize("content", [None, "another folder's"])
def test_a_folder_that_is_not_the_drivers_is_refused_by_node_and_name(content, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "_SECONDS_TO_APPEAR", 0.2)
    path = tmp_path / ".engine-1.json"
    if content:
        path.write_text(content)
    with pytest.raises(
        StoreError,
        match=rf"^Folder '{tmp_path}' of node {socket.gethostname()} is not the one of the machine that started the "
        r"work\. Expected a folder that all nodes share, under the same path\.",
    ):
        check_shared(path, "expected")


def test_a_mark_that_takes_a_moment_to_appear_is_waited_for(tmp_path):
    path = tmp_path / ".engine-1.json"
    later = threading.Timer(0.4, lambda: path.write_text("expected"))
    later.start()
    check_shared(path, "expected")
    later.join()


def test_sessions_that_ended_badly_are_known_until_one_ends_in_peace(tmp_path):
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait(timeout=30)

    def leave_mark(name, pid, host):
        (tmp_path / f".engine-{name}.json").write_text(json.dumps({"pid": pid, "host": host, "nonce": "n"}))

    leave_mark("killed", dead.pid, socket.gethostname())
    leave_mark("elsewhere", dead.pid, "elsewhere")
    leave_mark("running", os.getppid(), socket.gethostname())
    (tmp_path / ".engine-torn.json").write_text('{"pid"')
    first = Session(tmp_path)
    assert first.left_over == ["killed"]
    beside = Session(tmp_path)
    assert beside.left_over == ["killed"]  # the first is open in this very process
    first.close(in_peace=False)
    assert first.path.exists()
    second = Session(tmp_path)
    assert second.left_over == sorted([first.id, "killed"])
    second.close(in_peace=True)
    beside.close(in_peace=True)
    assert marks(tmp_path) == [".engine-elsewhere.json", ".engine-running.json", ".engine-torn.json"]
