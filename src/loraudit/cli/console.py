"""What a person sees while waiting and at the end."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import typer

from loraudit.errors import visible
from loraudit.execution import Silent, StopNow, StopRequest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from loraudit.review.checks import Check

_SECONDS_BETWEEN_LINES = 15.0
WIDTH_OF_FILES = 180
Finished = TypeVar("Finished")


class Bar:
    """Progress with rate and time left on the error stream: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._stage = ("", 0, "")
        self._done = 0
        self._began = self._last_line = 0.0

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins."""
        self.close()
        self._stage, self._done = (name, total, unit), 0
        self._began = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit + " · {task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(name, total=total, rate="…")

    def advance(self, n: int) -> None:
        """`n` more are done."""
        name, total, unit = self._stage
        self._done += n
        now = time.monotonic()
        rate = self._done / max(now - self._began, 1e-9)
        words = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:,.1f} {unit}/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=words)
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (total - self._done) / max(rate, 1e-9)
            typer.echo(f"{name}: {self._done:,}/{total:,} {unit}, {words}, {left:,.0f} s left", err=True)
        if self._done >= total:
            self.close()
            typer.echo(f"{name}: {self._done:,} {unit} in {now - self._began:.1f} s ({words})", err=True)

    def say(self, message: str) -> None:
        """One line."""
        typer.echo(visible(message), err=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def stop_now(_number: int, _frame: FrameType | None) -> None:
    """Signal handler that ends the command where it is."""
    raise StopNow


@contextlib.contextmanager
def waiting(*, quiet: bool) -> Iterator[tuple[Bar | Silent, StopRequest]]:
    """Progress and a stop request that the first Ctrl-C or SIGTERM sets; a second Ctrl-C stops at once."""
    bar = Silent() if quiet else Bar()
    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when the hub's client is imported
    stop = StopRequest()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, stop_now)
        stop.ask()
        typer.echo("Stopping after this batch (Ctrl-C again: at once) …", err=True)

    kept = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield bar, stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if isinstance(bar, Bar):
            bar.close()


def carry_out(run: Callable[..., Finished], *, quiet: bool) -> Finished:
    """Run a request to its end while its progress is shown.

    Args:
        run: Takes `progress`, `stop` and the `command` as it was typed.
        quiet: Show nothing.
    """
    command = "loraudit " + shlex.join(sys.argv[1:])
    with waiting(quiet=quiet) as (progress, stop):
        return run(progress=progress, stop=stop, command=command)


def show_finished(folder: Path, show: Callable[[], None], *, as_json: bool) -> None:
    """What a run found: its `result.json` as it is, or in words with the place of the report."""
    if as_json:
        typer.echo((folder / "result.json").read_text(encoding="utf-8"), nl=False)
        return
    show()
    typer.echo(f"\nReport: {visible(folder / 'report.html')}")


def show_checks(checks: Sequence[Check]) -> None:
    """One line per check on standard output."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    styles = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
    for check in checks:
        console.print(
            Text.assemble((f"{check.status:<8}", styles[check.status]), visible(f"{check.name}: {check.detail}"))
        )


def console_for_tables() -> Console:
    """A console that keeps wide tables whole when the output is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_OF_FILES)


def finish_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Show checks and end the command with the exit code of the first that failed."""
    import dataclasses
    import json

    from loraudit.review.checks import first_exit_code

    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2, ensure_ascii=False))
    else:
        show_checks(checks)
    raise typer.Exit(first_exit_code(checks))
