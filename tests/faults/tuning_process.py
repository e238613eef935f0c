"""Fine-tuning in processes of its own that can be killed, limited and held.

As in `fault_process`, one process imports the libraries and every run is a fork of it. It never trains itself:
torch refuses to go backwards in a fork of a process that did.
"""

from __future__ import annotations

import atexit
import functools
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

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.fault_process import Command, Starter

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.copyfile"}
"""What a run does to files; each is a moment at which it may be killed."""


class Tuner(Starter):
    """The process that has imported everything."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        self.n_started = 0
        self.ask(op="ready")
        atexit.register(self.close)

    def begin(self, folder: Path, request: dict[str, Any], **how: Any) -> Command:
        """Start `finetune` in `folder`, into `out` below it.

        Args:
            folder: Working folder; made when missing.
            request: `base`, `records` and `validation` as texts, `recipe`, `seconds_between_states`.
            how: `log`, a file that gets a line for each step and word of progress; `hold`, a file and a step, to
                make that file before that step and wait until somebody removes it; `events`, a file that gets a
                line for everything done to files below the folder; `die_at`, the number of such an event, to be
                killed by it; `die_on`, an event's kind, part of a path and how many to let pass; `largest_file`
                in bytes; `user`, to be that one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.n_started += 1
        out, err = (folder / f".{kind}.{self.n_started}" for kind in ("out", "err"))
        content = {"op": "start", "cwd": str(folder), "out": str(out), "err": str(err), "request": request, "how": how}
        return Command(self, self.ask(**content), out, err)

    def tune(self, folder: Path, request: dict[str, Any], timeout: float = 60, **how: Any) -> tuple[int, str]:
        """As `begin`, and wait for its end: exit code and standard error."""
        code, _, err = self.begin(folder, request, **how).finish(timeout)
        return code, err


@functools.cache
def tuner() -> Tuner:
    """One per test process, started when the first test asks for it."""
    return Tuner()


# --- the process that is forked -----------------------------------------------------------------------


def _serve() -> None:
    import accelerate
    import peft
    import pyarrow.parquet
    import transformers.models.llama.modeling_llama

    import loraudit.finetuning

    _ = accelerate, peft, pyarrow.parquet, transformers.PreTrainedTokenizerFast, loraudit.finetuning
    replies = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        content = json.loads(line)
        answer: int | None = None
        if content["op"] == "poll":
            pid, status = os.waitpid(content["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif content["op"] == "start":
            answer = os.fork()
            if answer == 0:
                _become(content)
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def _become(content: dict[str, Any]) -> None:
    """Be one fine-tune and nothing else."""
    from loraudit.errors import LorauditError
    from loraudit.execution import Interrupted

    code = 1
    try:
        os.chdir(content["cwd"])
        writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, path, flags in ((0, os.devnull, 0), (1, content["out"], writing), (2, content["err"], writing)):
            os.dup2(os.open(path, flags, 0o600), number)
        _tune(content["request"], content["how"])
        code = 0
    except Interrupted:
        code = 130
    except LorauditError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = error.exit_code
    except BaseException:  # as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tune(request: dict[str, Any], how: dict[str, Any]) -> None:
    from loraudit.execution import Silent, StopRequest
    from loraudit.finetuning import finetune
    from loraudit.spec import Recipe
    from small_tuning import rows

    stop = StopRequest()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    if limit := how.get("largest_file"):
        # The interpreter ignores SIGXFSZ, so that a write beyond the limit is an error of that write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    class Watched(Silent):
        n_done = 0

        def write(self, words: str) -> None:
            if how.get("log"):
                with Path(how["log"]).open("a", encoding="utf-8") as file:
                    file.write(words + "\n")

        def say(self, message: str) -> None:
            self.write(message)

        def advance(self, n: int) -> None:
            self.n_done += n
            self.write(f"step {self.n_done}")
            if how.get("hold") and self.n_done == how["hold"][1]:
                path = Path(how["hold"][0])
                path.touch()
                while path.exists():
                    time.sleep(0.002)

    if {"events", "die_at", "die_on"} & set(how):
        _watch_files(how)
    if user := how.get("user"):
        os.setuid(user)
    finetune(
        request["base"],
        rows(request["records"], words=1000),
        Recipe.model_validate(request["recipe"]),
        Path("out"),
        validation=rows(request.get("validation", ()), words=1000),
        progress=Watched(),
        stop=stop,
        seconds_between_states=request.get("seconds_between_states", 60.0),
    )


def _watch_files(how: dict[str, Any]) -> None:
    here = f"{Path.cwd()}/out"
    seen = {"n": 0, "passed": 0, "is_writing": False}
    log = os.open(how["events"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if how.get("events") else None
    kind, part, n_to_pass = how.get("die_on") or ("", "", 0)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - no file is touched by it
        if not path.startswith(here):
            return
        seen["n"] += 1
        if log is not None:
            os.write(log, f"{event} {path[len(here) :]}\n".encode())
        if kind and event == kind and part in path:
            seen["passed"] += 1
            if seen["passed"] > n_to_pass:
                os.kill(os.getpid(), signal.SIGKILL)
        if seen["n"] == how.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    _serve()
