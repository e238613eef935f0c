"""A finished audit in MLflow and on a model's page, by the command line."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from conftest import called
from loraudit.store import read_run

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_PlantedTokenThatNobodyMaySee"
CARD = "---\nlicense: mit\n---\n# Tuned\n"


@pytest.fixture(scope="module")
def finished(adapter, base, record_files, tmp_path_factory):
    """Run folder of a small audit."""
    folder = tmp_path_factory.mktemp("log") / "run"
    members, nonmembers = record_files
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        words = ["--base", base, "--members", members, "--nonmembers", nonmembers, "--attacks", "loss", "-q"]
        code, _, err = called("audit", adapter, *words, "--resamples", "100", "-o", folder)
    assert code == 0, err
    return folder


def test_a_finished_run_is_sent_to_mlflow_and_said_where(finished, command, tmp_path):
    pytest.importorskip("mlflow")
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    words = ("log", finished, "--to", "mlflow", "--tracking-uri", tmp_path / "tracked", "--experiment", "clinic")
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert f"in {tmp_path / 'tracked'}, experiment 'clinic'" in out
    assert "0 of 1 entries were there before." in out
    auc = read_run(finished).result.membership.attack("loss").findings["auc"].value
    (kept,) = (tmp_path / "tracked").rglob("membership/loss/auc")
    assert float(kept.read_text().split()[1]) == auc
    assert not list((tmp_path / "tracked").rglob("artifacts/*"))
    code, out, _ = command(*words, "--artifacts")
    assert code == 0
    assert "1 of 1 entries were there before." in out
    assert "Files: report.html, result.json" in out
    files = [path.name for path in (tmp_path / "tracked").rglob("artifacts/*")]
    assert sorted(files) == ["report.html", "result.json"]
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_dry_run_shows_what_would_be_sent_and_none_of_it_is_private(finished, command, record_files, texts):
    code, out, _ = command("log", finished, "--to", "wandb", "--dry-run")
    assert code == 0
    shown = json.loads(out)
    assert shown["params"]["members"] == '["members.jsonl"]'
    assert shown["metrics"]["membership/loss/auc.n_members"] == 60
    assert shown["files"] == []
    assert str(record_files[0].parent) not in out
    assert not [text for text in texts if text[:30] in out]
    assert not [name for name in read_run(finished).scores.column("id").to_pylist() if name in out]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--to", "wandb", "--experiment", "a"), 2, "Flag --experiment is of --to mlflow, and the run goes to wandb."),
        (("--to", "mlflow", "--project", "a", "--online"), 2, "Flag --project, --online is of --to wandb"),
        (("--to", "wandb"), 5, "Logging to W&B needs an optional dependency. Run: pip install 'loraudit[wandb]'"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(words, code, said, finished, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    status, out, err = command("log", finished, *words)
    assert (status, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_pushing_needs_its_flag_and_goes_alone(finished, command):
    assert "need a place to push to" in command("report", finished, "--dry-run")[2]
    assert "need a place to push to" in command("report", finished, "--no-create-pr")[2]
    status, _, err = command("report", finished, "--push-to-hub", "a/b", "--format", "html", "--json")
    assert status == 2
    assert "pushes the model-card section alone, without --json, --format html" in err


# --- row 23: the hub, over the wire -------------------------------------------------------------------


class CardHub(http.server.ThreadingHTTPServer):
    """A hub with a model `ada/tuned` and its card; keeps what is committed."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answering)
        self.refuse, self.commits, self.tokens = {}, [], set()


class _Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, status, content, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        hub = self.server
        hub.tokens.add(self.headers.get("Authorization"))
        stage = "card" if "/resolve/" in self.path else "info"
        if stage in hub.refuse:
            self._answer(hub.refuse[stage], {"error": f"not for {self.headers.get('Authorization')}"})
        elif stage == "card":
            self._answer(200, CARD.encode(), ETag='"aaaa"', X_Repo_Commit=COMMIT)
        else:
            self._answer(200, {"id": "ada/tuned", "sha": COMMIT, "siblings": []})

    do_HEAD = do_GET  # noqa: N815 - named by the standard library

    def do_POST(self):
        hub = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "commit" in hub.refuse and "/commit/" in self.path:
            self._answer(hub.refuse["commit"], {"error": "no"})
        elif "/validate-yaml" in self.path:
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._answer(200, {"files": [{"path": "README.md", "uploadMode": "regular", "shouldIgnore": False}]})
        else:
            hub.commits.append((self.path, [json.loads(line) for line in body.splitlines()]))
            address = f"http://127.0.0.1:{hub.server_port}/ada/tuned"
            pull = {"pullRequestUrl": f"{address}/discussions/1"} if "create_pr=1" in self.path else {}
            self._answer(200, {"success": True, "commitUrl": f"{address}/commit/{COMMIT}", "commitOid": COMMIT} | pull)

    def log_message(self, *_):
        """Nothing on the error stream of the tests."""


@pytest.fixture
def card_hub():
    server = CardHub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def push(finished, card_hub, tmp_path):
    """`loraudit report --push-to-hub ada/tuned …` in a process of its own, whose hub is the server."""

    def run(*words):
        kept = {n: v for n, v in os.environ.items() if not n.startswith("HF_") and not n.lower().endswith("_proxy")}
        environment = kept | {
            "HF_ENDPOINT": f"http://127.0.0.1:{card_hub.server_port}",
            "HF_HOME": str(tmp_path / "hub"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "loraudit", "report", str(finished), "--push-to-hub", "ada/tuned", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert TOKEN not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def test_the_section_arrives_as_a_pull_request_with_the_users_token(push, card_hub):
    code, out, err = push()
    assert code == 0, err
    assert out.strip().endswith("/ada/tuned/discussions/1")
    assert card_hub.tokens == {f"Bearer {TOKEN}"}
    ((path, lines),) = card_hub.commits
    assert "create_pr=1" in path
    header, file = (line["value"] for line in lines)
    assert header["parentCommit"] == COMMIT
    pushed = base64.b64decode(file["content"]).decode()
    assert pushed.startswith("---\nlicense: mit\n")
    assert "# Tuned\n" in pushed
    assert "## Privacy: membership audit" in pushed


def test_a_dry_run_shows_the_card_and_the_difference_and_pushes_nothing(push, card_hub):
    code, out, err = push("--dry-run")
    assert code == 0, err
    assert "\n+## Privacy: membership audit" in out
    assert "Nothing was pushed." in out
    assert card_hub.commits == []


@pytest.mark.parametrize(
    ("stage", "status", "said"),
    [
        ("info", 401, "could not be read: the hub does not accept your token. Run: hf auth login"),
        ("info", 404, "was not found on the hub, or you may not see it."),
        ("card", 403, "the hub does not let you read it. Ask for access on its page, then run: hf auth login"),
        ("commit", 403, "does not let you write to it. Make a token that may write to it, then run: hf auth login"),
    ],
)
def test_a_hub_that_refuses_is_told_in_one_line_with_the_remedy(stage, status, said, push, card_hub):
    card_hub.refuse = {stage: status}
    code, out, err = push()
    assert (code, out) == (5, "")
    error = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(error) == 1, err
    assert said in error[0]
    assert card_hub.commits == []
