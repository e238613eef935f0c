"""What a person sees while waiting and at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import typer

from loraudit.errors import visible
from loraudit.execution import Silent, StopNow, StopRequest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from loraudit.spec import AuditResult

_SECONDS_BETWEEN_LINES = 15.0
_WIDTH_FOR_ONE_LINE = 170
_WIDTH_OF_FILES = 180


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


def show_result(result: AuditResult, *, verbose: bool = False) -> None:
    """Verdict, table and warnings on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from loraudit.policy import verdict_of
    from loraudit.report import attack_table

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_OF_FILES)
    words = verdict_of(result)
    console.print(Text(words.heading, style="bold"))
    console.print(Text(visible(words.sentence)))
    console.print(Text(visible(words.threat_model), style="dim"))
    titles, rows = attack_table(result)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("attack", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right")
    table.add_column("n", justify="right")
    table.add_column("undefined", justify="right")
    for row in rows:
        name = Text(visible(row.name) + (" *" if row.is_headline else ""), style="bold" if row.is_headline else "")
        if row.remark is None:
            between = " " if console.width >= _WIDTH_FOR_ONE_LINE else "\n"
            cells = [f"{cell.value}{between}{cell.interval}".strip() for cell in row.cells]
            table.add_row(name, *map(Text, cells), row.n, str(row.n_undefined))
        elif verbose:
            table.add_row(name, Text(visible(row.remark)))
    console.print()
    console.print(table)
    left_out = [row.name for row in rows if row.remark is not None]
    if left_out and not verbose:
        console.print(Text(f"Not measured: {', '.join(left_out)} (-v says why)."))
    console.print(Text(f"* headline, declared before the run. Brackets: {100 * result.spec.confidence:g} % intervals."))
    for refusal in dict.fromkeys(c.note for row in rows for c in row.cells if c.value == "refused" and c.note):
        console.print(Text(refusal))
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))


def console_for_tables() -> Console:
    """A console that keeps wide tables whole when the output is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_FILES)
