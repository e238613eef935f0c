"""Commands as processes of their own that can be signalled, limited and looked into.

Importing the libraries takes a process longer than a whole audit of a tiny model. So one process
imports them once, and every command is a fork of it: a real process with its own working folder,
environment, limits and signals. Run as a script, this file is that process.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_COUNTERS = (
    "records_scored",
    "records_cached",
    "damaged_units_redone",
    "out_of_memory_backoffs",
    "tokens",
    "modes",
)
"""What `scoring` says about this very run; the rest of it is part of the request."""


class Command:
    """One started `loraudit …`."""

    def __init__(self, starter: Starter, pid: int, out: Path, err: Path) -> None:
        self.starter, self.pid, self.out, self.err = starter, pid, out, err
        self.code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self.code is None:
            self.code = self.starter.ask(op="poll", pid=self.pid)
        return self.code

    def send(self, number: int) -> None:
        """Signal it, if it is still there; its pid stays its own until `poll` has seen it end."""
        if self.code is None:
            os.kill(self.pid, number)

    def finish(self, timeout: float = 60) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"still running after {timeout} s: {self.err.read_text('utf-8')}")
            time.sleep(0.002)
        assert self.code is not None
        return self.code, self.out.read_text("utf-8", "replace"), self.err.read_text("utf-8", "replace")


class Starter:
    """The process that has imported everything; it lives as long as the tests of this process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        self.n_started = 0
        self.ask(op="ready")
        atexit.register(self.close)

    def ask(self, **request: Any) -> Any:
        """One question and its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, folder: Path, *words: object, **how: Any) -> Command:
        """Start `loraudit *words` in `folder`.

        Args:
            folder: Working folder; made when missing.
            words: Of the command line.
            how: `largest_file` in bytes, as on a disk with so much left; `hold`, a file and a number, to make that
                file at that forward pass and wait until somebody removes it; `views_scored`, a file that gets a
                line for every unit scored, with its number of views; `user`, to be that one; `encoding` of
                standard output and error.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.n_started += 1
        out, err = (folder / f".{kind}.{self.n_started}" for kind in ("out", "err"))
        home = os.environ["LORAUDIT_HOME"]
        pid = self.ask(
            op="start", words=[*map(str, words)], cwd=str(folder), home=home, out=str(out), err=str(err), how=how
        )
        return Command(self, pid, out, err)

    def run(self, folder: Path, *words: object, timeout: float = 60, **how: Any) -> tuple[int, str, str]:
        """As `start`, and wait for its end: exit code, standard output and standard error."""
        return self.start(folder, *words, **how).finish(timeout)

    def close(self) -> None:
        """End the process; commands that still run are not waited for."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(timeout=30)


@functools.cache
def starter() -> Starter:
    """One per test process, started when the first test asks for it."""
    return Starter()


@dataclasses.dataclass
class Audit:
    """One request and what it gives when nothing happens to it.

    Attributes:
        words: Of the command; its run folder is `run` below the working folder, so that runs elsewhere ask the same.
        folder: Working folder of the undisturbed run.
        seconds: That run took.
        views_per_unit: Views that are scored together.
    """

    words: tuple[object, ...]
    folder: Path
    seconds: float
    views_per_unit: int

    def assert_undisturbed(self, folder: Path) -> None:
        """The run in `folder` ended as the undisturbed one did."""
        ours, expected = folder / "run", self.folder / "run"
        assert (ours / "scores.parquet").read_bytes() == (expected / "scores.parquet").read_bytes()
        assert timeless(result_of(folder)) == timeless(result_of(self.folder))
        assert units(folder) == units(self.folder)
        # What a kill leaves half written begins with a dot and is nobody's.
        names = [{p.name for p in run.iterdir() if not p.name.startswith(".")} for run in (ours, expected)]
        assert names[0] == names[1]


_AUDITS: dict[tuple[object, ...], Audit] = {}
"""Kept here and not by a fixture of the session, which would run before a test has a LORAUDIT_HOME of its own."""


def undisturbed(target: Path, base: Path, record_files: tuple[Path, Path], tmp_path_factory: Any) -> Audit:
    """The audit of a target in units of 768 tokens, done once for all tests of this process."""
    fewer = "--max-records", 20, "--batch-tokens", 96
    words = ("audit", target, "--base", base, *sides(record_files), *fewer, "-o", "run")
    if words not in _AUDITS:
        folder = tmp_path_factory.mktemp("undisturbed")
        start = starter()
        began = time.monotonic()
        code, _, err = start.run(folder, *words)
        assert code == 0, err
        views = 1 if len(result_of(folder)["scoring"]["modes"]) == 2 else 2
        _AUDITS[words] = Audit(words, folder, time.monotonic() - began, views)
    return _AUDITS[words]


def sides(record_files: tuple[Path, Path]) -> tuple[str, ...]:
    """Members and non-members, and few resamples."""
    return "--members", str(record_files[0]), "--nonmembers", str(record_files[1]), "--resamples", "100", "-q"


def wait_for(condition: Any, timeout: float = 60) -> None:
    """Until `condition()` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.001)


def unit_files(folder: Path) -> list[Path]:
    """Unit files of the store beside the run `folder / "run"`, in the order they were written."""
    return sorted((folder / ".loraudit").glob("evidence/*/*.unit"), key=lambda file: file.stat().st_mtime_ns)


def units(folder: Path) -> dict[str, bytes]:
    """Their content by name."""
    return {file.name: file.read_bytes() for file in unit_files(folder)}


def result_of(folder: Path) -> dict[str, Any]:
    """`result.json` of the run `folder / "run"`."""
    return json.loads((folder / "run" / "result.json").read_text("utf-8"))


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """A result without times and without how much of it was cached; all else must not depend on luck."""

    def without_seconds(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_seconds(part) for name, part in value.items() if name != "seconds"}
        return [without_seconds(part) for part in value] if isinstance(value, list) else value

    kept = without_seconds(result)
    del kept["started"]
    kept["warnings"] = [warning for warning in kept["warnings"] if "damaged unit" not in warning]
    for counter in _COUNTERS:
        del kept["scoring"][counter]
    return kept


def numbers_of(result: dict[str, Any]) -> dict[str, float | None]:
    """Every value and bound that a result states."""
    return {
        f"{attack['name']}.{metric}.{which}": finding[which]
        for attack in result["membership"]["attacks"]
        for metric, finding in attack["findings"].items()
        for which in ("value", "lower", "upper")
    }


# --- the process that is forked -----------------------------------------------------------------------


def _serve() -> None:
    import accelerate
    import jinja2
    import peft
    import pyarrow.parquet
    import scipy.stats
    import transformers.models.llama.modeling_llama

    import loraudit.auditing.estimate
    import loraudit.auditing.spine
    import loraudit.cli  # noqa: F401

    _ = accelerate, jinja2, peft, pyarrow.parquet, scipy.stats, transformers.PreTrainedTokenizerFast
    replies = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        request = json.loads(line)
        answer: int | None = None
        if request["op"] == "poll":
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif request["op"] == "start":
            answer = os.fork()
            if answer == 0:
                _become(request)
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def _become(request: dict[str, Any]) -> None:
    """Be `loraudit …` and nothing else."""
    import loraudit.cli

    code = 1
    try:
        os.chdir(request["cwd"])
        os.environ["LORAUDIT_HOME"] = request["home"]
        sys.argv = ["loraudit", *request["words"]]
        writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, path, flags in ((0, os.devnull, 0), (1, request["out"], writing), (2, request["err"], writing)):
            os.dup2(os.open(path, flags, 0o600), number)
        _arrange(request["how"])
        loraudit.cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arrange(how: dict[str, Any]) -> None:
    if limit := how.get("largest_file"):
        # The interpreter ignores SIGXFSZ, so that a write beyond the limit is an error of that write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if hold := how.get("hold"):
        _hold(Path(hold[0]), hold[1])
    if log := how.get("views_scored"):
        _log_units(Path(log))
    if encoding := how.get("encoding"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding)
    if user := how.get("user"):
        os.setuid(user)


def _hold(path: Path, at_pass: int) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    passes = itertools.count(1)
    forward = LlamaModel.forward

    @functools.wraps(forward)
    def held(*args: Any, **more: Any) -> Any:
        if next(passes) == at_pass:
            path.touch()
            while path.exists():
                time.sleep(0.002)
        return forward(*args, **more)

    LlamaModel.forward = held


def _log_units(path: Path) -> None:
    from loraudit.scoring import engine

    score_unit = engine._score_unit

    def logged(*args: Any) -> Any:
        scored = score_unit(*args)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{len(scored)}\n")
        return scored

    engine._score_unit = logged


if __name__ == "__main__":
    _serve()
