"""A hub that is away, refuses or is overloaded: exit 5, one line, the command to run, and no secret in it.

The command runs in processes of its own against a server on this machine, because the hub's client reads
its settings once, when it is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from small_hub import TOKEN, asking, running_hub


@pytest.fixture
def hub():
    with running_hub() as server:
        yield server


@pytest.fixture
def audit(tmp_path, record_files):
    """Run the command with a planted token and an empty cache: exit code, standard output, standard error, seconds."""

    def run(endpoint, model, *words):
        began = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "loraudit", "audit", str(model)),
                *("--members", record_files[0], "--nonmembers", record_files[1], *map(str, words)),
                *("--attacks", "error_zone", "--resamples", "100", "-q", "-o", str(tmp_path / "run")),
            ],
            cwd=tmp_path,
            env=asking(endpoint, dict(os.environ), str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr, time.monotonic() - began

    return run


@pytest.fixture
def refused(audit, tmp_path):
    """As `audit`, for a run that the hub's fault must end within seconds: its message, a single line."""

    def run(endpoint, model, *words):
        code, out, err, seconds = audit(endpoint, model, *words)
        assert code == 5, err
        assert out == ""
        assert err.startswith("Error: Model 'org/model' ")
        assert err.count("\n") == 1, err
        assert seconds < 20
        for text in (out, err, *(path.read_text() for path in (tmp_path / "run").iterdir())):
            assert TOKEN not in text
        assert not (tmp_path / "run" / "result.json").exists()
        return err

    return run


# --- row 23: the hub -----------------------------------------------------------------------------------


def test_offline_asks_nobody_and_gives_the_command_for_where_there_is_a_network(hub, refused):
    message = refused(hub.address, "org/model", "--offline")
    assert "is no local folder and --offline is set and it is not in the cache." in message
    assert "Where there is a network, run: hf download org/model" in message
    assert hub.seen == []


def test_no_hub_at_all_gives_the_command_for_where_there_is_a_network(refused, adapter, tmp_path):
    """Here it is the base which the adapter records that cannot be had."""
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "org/model"}))
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        message = refused(f"http://127.0.0.1:{taken.getsockname()[1]}", folder)
    assert "is no local folder and the hub cannot be reached." in message
    assert "Where there is a network, run: hf download org/model" in message


LOGIN = "un: hf auth login"
AGAIN = "hf download org/model"


@pytest.mark.parametrize(
    ("status", "headers", "reason", "remedy"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "does not accept your token", LOGIN),
        (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, "is gated", LOGIN),
        (404, {"X-Error-Code": "RepoNotFound"}, "was not found on the hub, or you may not see it", LOGIN),
        (429, {}, "rate limit is reached", f"Wait a few minutes, then run: {AGAIN}"),
        (500, {}, "the hub is out of order (500)", AGAIN),
        pytest.param(401, {"X-Error-Code": "GatedRepo"}, "is gated", LOGIN, marks=pytest.mark.slow),
        pytest.param(401, {"X-Error-Code": "RepoNotFound"}, "you may not see it", LOGIN, marks=pytest.mark.slow),
        pytest.param(403, {}, "does not let you read it", LOGIN, marks=pytest.mark.slow),
        pytest.param(404, {}, "was not found on the hub", LOGIN, marks=pytest.mark.slow),
        pytest.param(
            429, {"Retry-After": "300"}, "rate limit", f"Wait 300 s, then run: {AGAIN}", marks=pytest.mark.slow
        ),
        pytest.param(503, {}, "the hub is out of order (503)", AGAIN, marks=pytest.mark.slow),
    ],
    ids=[
        "bad token",
        "gated",
        "missing",
        "rate limit",
        "out of order",
        "gated, no token",
        "private",
        "forbidden",
        "missing without a word",
        "rate limit with a time",
        "unavailable",
    ],
)
def test_a_refusal_of_the_hub_is_told_in_words_with_the_command_to_run(status, headers, reason, remedy, hub, refused):
    hub.fault = status, headers
    message = refused(hub.address, "org/model")
    assert reason in message
    assert remedy in message
    assert len(hub.seen) == 1, "asked once: who is refused or sent away does not knock again"
    assert hub.seen[0][2] == f"Bearer {TOKEN}", "the token was there to be leaked"


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up(hub, refused):
    """The client waits ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = refused(f"http://127.0.0.1:{silent.getsockname()[1]}", "org/model")
    assert "the hub cannot be reached" in message
    assert AGAIN in message


@pytest.mark.slow
@pytest.mark.parametrize(("status", "stage"), [(500, "tree"), (429, "file")])
def test_who_waits_for_an_overloaded_hub_is_told_so_and_then_why_it_failed(status, stage, hub, audit):
    """Behind the first request the client tries six times, for half a minute, and says so."""
    hub.fault, hub.faulty_stage = (status, {}), stage
    code, _, err, seconds = audit(hub.address, "org/model")
    assert code == 5, err
    assert seconds < 60
    assert "Retrying in 8" in err
    assert "Traceback" not in err
    assert TOKEN not in err
    message = err.splitlines()[-1]
    assert message.startswith("Error: Model 'org/model' could not be downloaded: ")
    assert ("rate limit" if status == 429 else "out of order (500)") in message
    assert message.endswith(AGAIN)


@pytest.mark.slow
def test_a_file_that_is_refused_ends_the_download_without_a_word_of_progress(hub, refused):
    hub.fault, hub.faulty_stage = (403, {"X-Error-Code": "GatedRepo"}), "file"
    assert "is gated" in refused(hub.address, "org/model")


@pytest.mark.slow
def test_a_model_of_the_hub_is_downloaded_once_and_then_used_without_it(hub, audit, adapter, base, tmp_path):
    """What the faults above prevent; it also shows that this hub speaks like the real one."""
    hub.files = {path.name: path.read_bytes() for path in base.iterdir()}
    hub.files["pytorch_model.bin"] = hub.files["code.py"] = b"never asked for"
    code, _, err, _ = audit(hub.address, adapter, "--base", "org/model")
    assert code == 0, err
    asked_for = {path.rpartition("/")[2] for _, path, _ in hub.seen if "/resolve/" in path}
    assert asked_for == {path.name for path in base.iterdir()}
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["reference"]["name"] == "org/model"
    hub.fault = 500, {}
    for words, n_requests in (((), 1), (("--offline",), 0)):
        hub.seen.clear()
        code, _, err, _ = audit(hub.address, adapter, "--base", "org/model", *words)
        assert code == 0, err
        assert len(hub.seen) == n_requests
    for path in (tmp_path / "run").iterdir():
        assert TOKEN.encode() not in path.read_bytes()
