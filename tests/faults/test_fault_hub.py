"""A hub that is away, refuses or is overloaded: exit 5, one line, the command to run, and no secret in it.

The command runs in processes of its own against a server on this machine, because the hub's client reads
its settings once, when it is imported.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_PlantedTokenThatNobodyMaySee"


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one model, `org/model`, that answers some requests with a fault.

    Attributes:
        files: Content of the model by file name.
        fault: Status and headers to answer with, or None to answer well.
        faulty_stage: "info" (the first request there is), "tree" (list of files), "file" or "any".
        seen: Method, path and authorization of each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = {"config.json": b"{}", "model.safetensors": b"none"}
        self.fault = None
        self.faulty_stage = "any"
        self.seen = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub = self.server
        hub.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        stage = "file" if "/resolve/" in self.path else "tree" if "/tree/" in self.path else "info"
        if hub.fault and hub.faulty_stage in {"any", stage}:
            status, headers = hub.fault
            # A careless server sends back what it was sent.
            self._send(status, headers, json.dumps({"error": f"not for {self.headers.get('Authorization')}"}).encode())
        elif stage == "info":
            self._send(200, {}, json.dumps({"id": "org/model", "sha": COMMIT, "siblings": []}).encode())
        elif stage == "tree":
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha256(content).hexdigest()[:40]}
                for name, content in hub.files.items()
            ]
            self._send(200, {}, json.dumps(rows).encode())
        else:
            content = hub.files[self.path.rpartition(f"/resolve/{COMMIT}/")[2]]
            etag = hashlib.sha256(content).hexdigest()[:40]
            self._send(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content)

    do_HEAD = do_GET  # noqa: N815 - named by the standard library

    def _send(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Nothing on the error stream of the tests."""


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def audit(tmp_path, record_files):
    """Run the command with a planted token and an empty cache: exit code, standard output, standard error, seconds."""

    def run(endpoint, model, *words):
        kept = {n: v for n, v in os.environ.items() if not n.startswith("HF_") and not n.lower().endswith("_proxy")}
        environment = kept | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "LORAUDIT_HOME": str(tmp_path / "home"),
        }
        began = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "loraudit", "audit", str(model)),
                *("--members", record_files[0], "--nonmembers", record_files[1], *map(str, words)),
                *("--attacks", "error_zone", "--resamples", "100", "-q", "-o", str(tmp_path / "run")),
            ],
            cwd=tmp_path,
            env=environment,
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
