"""A hub on this machine, for tests of what loraudit says when a real one is away, refuses or is overloaded.

It is asked by processes of their own, because the hub's client reads its settings once, when it is imported.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_PlantedTokenThatNobodyMaySee"


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one model, `org/model`, or one data set of any name, that answers some requests with a fault.

    Attributes:
        files: Content of it by file name, at every revision.
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
            name = urllib.parse.unquote(self.path.partition("/resolve/")[2].partition("/")[2])
            content = hub.files.get(name)
            if content is None:
                self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"{}")
                return
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


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asking(hub_address: str, environment: dict[str, str], home: str) -> dict[str, str]:
    """The environment of a process that asks that hub, with a planted token and a cache in `home`."""
    kept = {n: v for n, v in environment.items() if not n.startswith("HF_") and not n.lower().endswith("_proxy")}
    return kept | {
        "HF_ENDPOINT": hub_address,
        "HF_HOME": f"{home}/hub",
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LORAUDIT_HOME": f"{home}/home",
    }
