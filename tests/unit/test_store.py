"""Files whole or as they were, one writer at a time, evidence that is right or redone, ids that do not identify."""

import contextlib
import hashlib
import json
import os
import pwd
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraudit.data import record_id
from loraudit.errors import LorauditError, StoreError
from loraudit.store import (
    EvidenceStore,
    Lock,
    open_private_folder,
    shown_ids,
    user_secret,
    write_atomically,
)
from loraudit.store.files import is_private
from loraudit.store.identity import run_key
from loraudit.types import TOKEN_FIELDS, Record, TokenTable

STATUSES = ("ok", "no_tokens", "nonfinite", "out_of_memory")
DECODINGS = ((40, 1.0), (0, 0.7), (0, 1 / 3))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def largest_file(n_bytes: int):
    """As on a disk with `n_bytes` left: writing more to one file fails, with a part of it written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def without_privileges():
    """For root, who may read everything, a moment as somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- files --------------------------------------------------------------------------------------------


def test_a_file_is_written_for_its_owner_only_whatever_the_umask(tmp_path):
    previous = os.umask(0)
    try:
        write_atomically(tmp_path / "a b é.json", b"content")
    finally:
        os.umask(previous)
    assert (tmp_path / "a b é.json").read_bytes() == b"content"
    assert mode(tmp_path / "a b é.json") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a b é.json"]


def test_writing_again_replaces_content_and_permissions(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600


def test_a_full_disk_leaves_the_old_file_and_no_remains_and_names_path_and_bytes(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    with (
        largest_file(1000),
        pytest.raises(
            StoreError, match=r"^'.*a\.json' \(5,000 bytes\) cannot be written: File too large\. Free space or name"
        ),
    ):
        write_atomically(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_no_new_file(tmp_path):
    with largest_file(1000), pytest.raises(StoreError, match="cannot be written"):
        write_atomically(tmp_path / "new.json", bytes(5000))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_is_interrupted_leaves_the_old_file_and_no_remains(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_content_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    seen = []
    flush = os.fsync

    def watch(descriptor: int) -> None:
        flush(descriptor)
        seen.append((path.exists(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", watch)
    write_atomically(path, b"content")
    assert seen[0] == (False, 7)


def test_a_vanished_folder_or_a_file_in_its_place_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"cannot be written: No such file or directory\..*--out and --store"):
        write_atomically(tmp_path / "gone" / "a.json", b"")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written: Not a directory\."):
        write_atomically(tmp_path / "file" / "a.json", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"cannot be written: Is a directory\."):
        write_atomically(tmp_path / "folder", b"")


def test_a_private_folder_is_made_with_its_parents_for_its_owner_only(tmp_path):
    previous = os.umask(0)
    try:
        made = open_private_folder(tmp_path / "runs" / "a b é")
    finally:
        os.umask(previous)
    assert made == tmp_path / "runs" / "a b é"
    assert mode(made) == 0o700
    assert is_private(made)
    assert list(made.iterdir()) == []


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "kept").touch()
    open_private_folder(folder)
    assert mode(folder) == 0o755
    assert not is_private(folder)
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(StoreError, match=r"cannot be written: .*\. Free space or name another folder"):
            open_private_folder(path)


def test_a_read_only_folder_is_found_out_when_it_is_opened():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with without_privileges(), pytest.raises(StoreError, match=r"cannot be written: Permission denied\."):
            open_private_folder(folder)


# --- lock ---------------------------------------------------------------------------------------------

HOLD = """
import pathlib, sys
from loraudit.store import Lock
with Lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def finished_process() -> int:
    """Pid of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait(timeout=30)
    return process.pid


def leave_lock(folder: Path, pid: object, host: str | None = None) -> Path:
    path = folder / "lock.json"
    path.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname()}), "utf-8")
    return path


def test_a_lock_names_its_holder_and_is_gone_afterwards(tmp_path):
    with Lock(tmp_path):
        path = tmp_path / "lock.json"
        assert json.loads(path.read_text("utf-8")) == {"pid": os.getpid(), "host": socket.gethostname()}
        assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == []
    with Lock(tmp_path):
        pass


def test_a_lock_is_gone_after_a_failure_too(tmp_path):
    with pytest.raises(ValueError, match="inside"), Lock(tmp_path):
        raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused_with_pid_and_host_until_the_first_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        for _ in range(2):
            with (
                pytest.raises(
                    StoreError,
                    match=rf"^Run folder '.*' is in use by process {holder.pid} on {socket.gethostname()}\. "
                    r"Wait for it, or delete '.*lock\.json' if that process is gone\.$",
                ),
                Lock(tmp_path),
            ):
                pytest.fail("two processes held one lock")
        holder.kill()
        holder.wait(timeout=30)
    assert (tmp_path / "lock.json").exists()
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text("utf-8"))["pid"] == os.getpid()


def test_a_lock_held_in_this_process_is_not_taken_twice(tmp_path):
    with (
        Lock(tmp_path),
        pytest.raises(StoreError, match=rf"in use by process {os.getpid()} on "),
        Lock(tmp_path),
    ):
        pytest.fail("one lock was taken twice")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_lock_stays_where_it_is(tmp_path):
    path = leave_lock(tmp_path, 1)
    content = path.read_bytes()
    with pytest.raises(StoreError, match="in use by process 1 on "), Lock(tmp_path):
        pytest.fail("the lock of another process was taken")
    assert path.read_bytes() == content


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path):
    leave_lock(tmp_path, finished_process())
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text("utf-8"))["pid"] == os.getpid()


def test_a_lock_of_another_host_is_never_taken_over(tmp_path):
    leave_lock(tmp_path, finished_process(), host="elsewhere")
    with pytest.raises(StoreError, match=r"is in use by process \d+ on elsewhere\."), Lock(tmp_path):
        pytest.fail("the lock of another host was taken")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"pid": 12',
        b"null",
        b"[]",
        b"5",
        b"\xff\xfe\x00",
        b"{}",
        b'{"pid": null, "host": "h"}',
        b'{"pid": "x", "host": "h"}',
        b'{"pid": 1e999, "host": "h"}',
        b'{"pid": 1180591620717411303424, "host": "HOST"}',
        b'{"pid": -1, "host": "HOST"}',
        b'{"pid": 0, "host": "HOST"}',
        bytes(4096),
    ],
)
def test_a_lock_that_names_nobody_is_taken_over(content, tmp_path):
    (tmp_path / "lock.json").write_bytes(content.replace(b"HOST", socket.gethostname().encode()))
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text("utf-8"))["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_user_is_refused_in_words():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        leave_lock(folder, 1).chmod(0)
        with (
            without_privileges(),
            pytest.raises(LorauditError, match=r"lock\.json"),
            Lock(folder),
        ):
            pytest.fail("the lock of another user was taken")


def test_a_lock_that_keeps_coming_back_is_refused(tmp_path, monkeypatch):
    leave_lock(tmp_path, finished_process())
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(StoreError, match=r"lock\.json' keeps coming back\. Another run is starting"), Lock(tmp_path):
        pytest.fail("a lock was taken that is there")


def test_a_lock_that_is_given_back_while_it_is_looked_at_is_taken(tmp_path, monkeypatch):
    path = leave_lock(tmp_path, 1)
    read = Path.read_text

    def give_back_first(self: Path, *args, **options) -> str:
        path.unlink()
        return read(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", give_back_first)
    with Lock(tmp_path):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()


def test_a_process_that_may_not_be_signalled_is_alive(tmp_path, monkeypatch):
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    leave_lock(tmp_path, finished_process())
    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(StoreError, match="is in use by process"), Lock(tmp_path):
        pytest.fail("the lock of another user's process was taken")


def test_a_lock_in_a_vanished_folder_is_an_error(tmp_path):
    with (
        pytest.raises(StoreError, match=r"^'.*lock.*' .*cannot be written: No such file or directory"),
        Lock(tmp_path / "gone"),
    ):
        pytest.fail("a lock was taken in no folder")


def test_a_lock_never_stands_there_without_its_holder(tmp_path):
    """A lock seen empty is taken for one cut short by a crash, and two processes would work at once."""
    path, stop, seen = tmp_path / "lock.json", threading.Event(), set()

    def watch() -> None:
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add(path.read_bytes())

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(1000):
            with Lock(tmp_path):
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    assert seen <= {json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()}


# --- evidence -----------------------------------------------------------------------------------------


def some_ids(n: int, salt: str = "") -> list[str]:
    return [hashlib.sha256(f"{salt}{number}".encode()).hexdigest() for number in range(n)]


def some_table(lengths: list[int], *, seed: int = 0, decodings=DECODINGS) -> TokenTable:
    rng = np.random.default_rng(seed)
    n_tokens = sum(lengths)
    columns = {name: (9 * rng.standard_normal(n_tokens)).astype(kind) for name, kind in TOKEN_FIELDS.items()}
    columns["rank_bucket"] = rng.integers(0, 18, n_tokens).astype(np.uint8)
    if n_tokens > 2:
        columns["log_prob"][:3] = np.nan, -np.inf, -0.0
    log_sum_exps = {decoding: rng.standard_normal(n_tokens).astype(np.float32) for decoding in decodings}
    for column in log_sum_exps.values():
        column[::3] = np.inf  # tokens that the decoding forbids
    return TokenTable(
        columns=columns,
        offsets=np.cumsum([0, *lengths]),
        is_audited=rng.random(n_tokens) < 0.5,
        n_windows=rng.integers(0, 4, len(lengths)),
        status=[STATUSES[i] for i in rng.integers(0, 4, len(lengths))],
        log_sum_exps=log_sum_exps,
    )


def row_of(table: TokenTable, row: int) -> dict[str, object]:
    """The slow obvious way to look at one record."""
    start, end = int(table.offsets[row]), int(table.offsets[row + 1])
    return {
        "columns": {name: (c.dtype.str, c[start:end].tobytes()) for name, c in table.columns.items()},
        "log_sum_exps": {d: (c.dtype.str, c[start:end].tobytes()) for d, c in table.log_sum_exps.items()},
        "is_audited": table.is_audited[start:end].tolist(),
        "n_windows": int(table.n_windows[row]),
        "status": table.status[row],
    }


def rows_of(table: TokenTable) -> list[dict[str, object]]:
    return [row_of(table, row) for row in range(len(table))]


CONDITIONS = {"model": "ff00", "span": "trained", "max_length": 64}


@settings(max_examples=40, deadline=None)
@given(
    units=st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    share=st.floats(0, 1),
)
def test_evidence_comes_back_bit_for_bit_in_the_order_asked_for(units, order, share):
    with tempfile.TemporaryDirectory() as root:
        folder = EvidenceStore(Path(root)).folder(CONDITIONS)
        expected: dict[str, dict[str, object]] = {}
        for number, lengths in enumerate(units):
            ids, table = some_ids(len(lengths), f"{number}/"), some_table(lengths, seed=number)
            folder.add(ids, table)
            expected |= dict(zip(ids, rows_of(table), strict=True))
        again = EvidenceStore(Path(root)).folder(CONDITIONS)
        again.refresh()
        assert again.n_damaged == 0
        wanted = list(expected)
        order.shuffle(wanted)
        wanted = wanted[: round(share * len(wanted))]
        for reader in (folder, again):
            assert len(reader) == len(expected)
            found = reader.table(wanted)
            assert found.offsets.tolist() == np.cumsum([0, *(found.n_tokens)]).tolist()
            assert rows_of(found) == [expected[record] for record in wanted]


def test_every_status_and_every_decoding_is_kept(tmp_path):
    store = EvidenceStore(tmp_path)
    table = some_table([1, 0, 2, 3])
    table = TokenTable(
        table.columns, table.offsets, table.is_audited, table.n_windows, list(STATUSES), table.log_sum_exps
    )
    store.folder(CONDITIONS).add(some_ids(4), table)
    folder = store.folder(CONDITIONS)
    folder.refresh()
    found = folder.table(some_ids(4))
    assert tuple(found.status) == STATUSES
    assert tuple(found.log_sum_exps) == DECODINGS
    assert {name: column.dtype.type for name, column in found.columns.items()} == dict(TOKEN_FIELDS)


def test_evidence_is_stored_in_its_declared_types(tmp_path):
    store = EvidenceStore(tmp_path)
    table = some_table([4])
    wide = {name: column.astype(np.float64) for name, column in table.columns.items()}
    store.folder(CONDITIONS).add(
        some_ids(1), TokenTable(wide, table.offsets, table.is_audited, table.n_windows, table.status)
    )
    folder = store.folder(CONDITIONS)
    folder.refresh()
    assert row_of(folder.table(some_ids(1)), 0)["columns"] == row_of(table, 0)["columns"]


def test_evidence_not_there_is_a_key_error(tmp_path):
    folder = EvidenceStore(tmp_path).folder(CONDITIONS)
    folder.add(some_ids(2), some_table([1, 2]))
    assert some_ids(2)[1] in folder
    assert "00" * 32 not in folder
    with pytest.raises(KeyError, match="00" * 32):
        folder.table([*some_ids(2), "00" * 32])


def test_a_folder_finds_the_units_of_others_when_it_is_refreshed(tmp_path):
    mine, other = (EvidenceStore(tmp_path).folder(CONDITIONS) for _ in range(2))
    mine.add(some_ids(2, "a"), some_table([1, 2]))
    other.add(some_ids(2, "b"), some_table([3, 4], seed=1))
    assert len(mine) == len(other) == 2
    for folder in (mine, other):
        folder.refresh()
        folder.refresh()
        assert len(folder) == 4
    wanted = [*some_ids(2, "b"), *some_ids(2, "a")]
    assert rows_of(mine.table(wanted)) == rows_of(other.table(wanted))


@pytest.fixture
def three_units(tmp_path):
    """A store with three units of two records each; the paths of the units by the ids they hold."""
    units = {}
    for name in "abc":
        folder = EvidenceStore(tmp_path).folder(CONDITIONS)
        before = set(folder.path.glob("*.unit"))
        folder.add(some_ids(2, name), some_table([3, 5], seed=ord(name)))
        (units[name],) = set(folder.path.glob("*.unit")) - before
    return EvidenceStore(tmp_path), units


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bit_flipped(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def emptied(content: bytes) -> bytes:
    return b""


def lengthened(content: bytes) -> bytes:
    return content + b"\0"


@pytest.mark.parametrize("damage", [truncated, bit_flipped, emptied, lengthened])
def test_a_damaged_unit_is_removed_and_counted_and_the_others_stay(damage, three_units):
    store, units = three_units
    good = {name: path.read_bytes() for name, path in units.items()}
    units["b"].write_bytes(damage(good["b"]))
    folder = store.folder(CONDITIONS)
    folder.refresh()
    assert folder.n_damaged == 1
    assert not units["b"].exists()
    assert [record in folder for record in (*some_ids(2, "a"), *some_ids(2, "b"), *some_ids(2, "c"))] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert units["a"].read_bytes() == good["a"]
    assert units["c"].read_bytes() == good["c"]
    folder.add(some_ids(2, "b"), some_table([3, 5], seed=ord("b")))
    assert units["b"].read_bytes() == good["b"]


def test_no_flipped_bit_of_a_unit_passes(three_units):
    store, units = three_units
    good = units["a"].read_bytes()
    rng = np.random.default_rng(0)
    for place in {0, 7, 8, len(good) - 1, *rng.integers(0, len(good), 30).tolist()}:
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        units["a"].write_bytes(flipped)
        folder = store.folder(CONDITIONS)
        folder.refresh()
        assert (folder.n_damaged, len(folder)) == (1, 4)


def test_what_a_killed_write_leaves_is_not_taken_for_a_unit(three_units):
    store, units = three_units
    unfinished = units["a"].with_name(f".{units['a'].name}.4242.tmp")
    unfinished.write_bytes(truncated(units["a"].read_bytes()))
    folder = store.folder(CONDITIONS)
    folder.refresh()
    assert (folder.n_damaged, len(folder)) == (0, 6)


def test_a_unit_that_does_not_fit_on_the_disk_is_an_error_and_the_others_stay(three_units):
    store, _ = three_units
    folder = store.folder(CONDITIONS)
    folder.refresh()
    with largest_file(2000), pytest.raises(StoreError, match=r"\.unit' \([\d,]+ bytes\) cannot be written"):
        folder.add(some_ids(1, "large"), some_table([5000]))
    assert some_ids(1, "large")[0] not in folder
    again = store.folder(CONDITIONS)
    again.refresh()
    assert (again.n_damaged, len(again)) == (0, 6)
    assert sorted(again.path.glob(".*")) == []


@pytest.mark.parametrize(
    "other",
    [
        CONDITIONS | {"model": "ff01"},
        CONDITIONS | {"span": "all"},
        CONDITIONS | {"max_length": 65},
        CONDITIONS | {"stride": 32},
        {"model": "ff00"},
        {},
    ],
    ids=str,
)
def test_evidence_under_other_conditions_is_kept_apart(other, tmp_path):
    store = EvidenceStore(tmp_path)
    store.folder(CONDITIONS).add(some_ids(1), some_table([2]))
    apart = store.folder(other)
    apart.refresh()
    assert apart.path != store.folder(CONDITIONS).path
    assert len(apart) == 0


def test_conditions_are_the_same_in_any_order_and_are_written_beside_the_evidence(tmp_path):
    store = EvidenceStore(tmp_path)
    folder = store.folder(CONDITIONS)
    assert store.folder(dict(reversed(CONDITIONS.items()))).path == folder.path
    assert CONDITIONS.items() <= json.loads((folder.path / "conditions.json").read_text("utf-8")).items()


def test_everything_in_a_store_is_for_its_owner_only(tmp_path):
    previous = os.umask(0)
    try:
        store = EvidenceStore(tmp_path / "store")
        store.folder(CONDITIONS).add(some_ids(1), some_table([2]))
        store.remember({"question": 1}, "answer")
    finally:
        os.umask(previous)
    found = [store.root, *store.root.rglob("*")]
    assert len(found) == 7
    assert {mode(path) for path in found if path.is_dir()} == {0o700}
    assert {mode(path) for path in found if path.is_file()} == {0o600}


# --- memory -------------------------------------------------------------------------------------------


def test_what_is_remembered_is_recalled_by_the_same_question_alone(tmp_path):
    store = EvidenceStore(tmp_path)
    question = {"what": "difference", "first": "aa", "second": "bb"}
    assert store.recall(question) is None
    answer = {"layers": [1, 2], "share": 0.25, "é": None}
    store.remember(question, answer)
    again = EvidenceStore(tmp_path)
    assert again.recall(dict(reversed(question.items()))) == answer
    assert again.recall(question | {"second": "cc"}) is None
    assert again.recall({"what": "difference"}) is None
    again.remember(question, "better")
    assert store.recall(question) == "better"


@pytest.mark.parametrize("content", [b"", b'{"question": {}, "ans', b"{}", b"\xff", b"null", b"[]", b"5"])
def test_a_memory_that_is_damaged_is_none(content, tmp_path):
    store = EvidenceStore(tmp_path)
    store.remember({"question": 1}, "answer")
    (path,) = (tmp_path / "facts").iterdir()
    path.write_bytes(content)
    assert store.recall({"question": 1}) is None
    store.remember({"question": 1}, "answer")
    assert store.recall({"question": 1}) == "answer"


# --- ids ----------------------------------------------------------------------------------------------


def records(n: int) -> list[Record]:
    return [Record(record_id(text=f"row {i}"), "members.jsonl", i + 1, text=f"row {i}") for i in range(n)]


def home(monkeypatch, path: Path) -> Path:
    monkeypatch.setenv("LORAUDIT_HOME", str(path))
    return path


def test_shown_ids_are_distinct_and_say_nothing_of_the_content_hash(tmp_path, monkeypatch):
    home(monkeypatch, tmp_path)
    shown = shown_ids(records(200), run_key("ab" * 32))
    assert len(set(shown)) == 200
    assert all(len(one) == 24 and set(one) <= set("0123456789abcdef") for one in shown)
    for record, one in zip(records(200), shown, strict=True):
        assert one not in record.id
        assert one not in hashlib.sha256(record.id.encode()).hexdigest()


def test_shown_ids_are_stable_for_one_account_and_spec_and_differ_otherwise(tmp_path, monkeypatch):
    home(monkeypatch, tmp_path / "one")
    shown = shown_ids(records(3), run_key("ab" * 32))
    assert shown_ids(records(3), run_key("ab" * 32)) == shown
    assert not set(shown_ids(records(3), run_key("cd" * 32))) & set(shown)
    home(monkeypatch, tmp_path / "two")
    assert not set(shown_ids(records(3), run_key("ab" * 32))) & set(shown)
    home(monkeypatch, tmp_path / "one")
    assert shown_ids(records(3), run_key("ab" * 32)) == shown


def test_the_secret_is_32_bytes_made_once_for_its_owner_only(tmp_path, monkeypatch):
    folder = home(monkeypatch, tmp_path / "home" / "a b é")
    secret = user_secret()
    assert len(secret) == 32
    assert user_secret() == secret == (folder / "secret").read_bytes()
    assert (mode(folder), mode(folder / "secret")) == (0o700, 0o600)


def test_the_secret_lies_in_the_configuration_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("LORAUDIT_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    user_secret()
    assert (tmp_path / "xdg" / "loraudit" / "secret").is_file()
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    user_secret()
    assert (tmp_path / "me" / ".config" / "loraudit" / "secret").is_file()


def test_a_home_that_cannot_be_made_is_an_error_that_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "home"):
        home(monkeypatch, path)
        with pytest.raises(
            StoreError, match=r"(cannot be written|has 0 bytes).*[Ss]et LORAUDIT_HOME to a folder of yours"
        ):
            user_secret()


def test_a_home_that_cannot_be_entered_is_an_error_that_names_the_variable(monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        folder = home(monkeypatch, Path(name) / "home")
        user_secret()
        folder.chmod(0)
        with without_privileges(), pytest.raises(StoreError, match="LORAUDIT_HOME"):
            user_secret()
        folder.chmod(0o700)


def test_a_secret_that_cannot_be_read_is_an_error_that_names_the_variable(tmp_path, monkeypatch):
    (home(monkeypatch, tmp_path) / "secret").mkdir()
    with pytest.raises(StoreError, match="LORAUDIT_HOME"):
        user_secret()


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_secret_that_is_cut_short_is_not_used(content, tmp_path, monkeypatch):
    """Under an empty key anyone could compute the ids."""
    (home(monkeypatch, tmp_path) / "secret").write_bytes(content)
    try:
        secret = user_secret()
    except StoreError:
        return
    assert len(secret) == 32


def test_an_account_without_a_home_may_name_one(tmp_path, monkeypatch):
    """As in a container that runs under a user number of its own."""
    home(monkeypatch, tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert len(user_secret()) == 32
    monkeypatch.delenv("LORAUDIT_HOME")
    with pytest.raises(StoreError, match="LORAUDIT_HOME"):
        user_secret()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_shown_ids_depend_on_the_key_alone(first, second):
    shown = shown_ids(records(2), first)
    assert shown_ids(records(2), first) == shown
    assert (shown_ids(records(2), second) == shown) is (first == second)
