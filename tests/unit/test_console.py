"""What a person sees while waiting."""

import os
import signal

import pytest

from loraudit.cli import console
from loraudit.cli.console import Bar, waiting
from loraudit.errors import visible
from loraudit.execution import Interrupted, Silent, StopNow


def test_control_characters_of_files_and_models_cannot_act_on_the_terminal():
    assert visible("a\x1b[2Jb\x07\u202ec\nd") == "a\\x1b[2Jb\\x07\\x202ec\nd"


def test_without_a_terminal_progress_is_a_line_now_and_then_with_rate_and_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    bar = Bar()
    bar.stage("Scoring target", 1000, "tokens")
    for _ in range(4):
        now[0] += 10
        bar.advance(200)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "Scoring target: 400/1,000 tokens, 20 tokens/s, 30 s left",
        "Scoring target: 800/1,000 tokens, 20 tokens/s, 10 s left",
    ]
    bar.advance(200)
    assert capsys.readouterr().err == "Scoring target: 1,000 tokens in 40.0 s (25 tokens/s)\n"


def test_on_a_terminal_progress_is_a_bar_that_goes_away(capsys, monkeypatch):
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    bar = Bar()
    bar.stage("Scoring", 10, "tokens")
    assert bar._bar is not None
    bar.advance(10)
    assert bar._bar is None
    assert "Scoring: 10 tokens in" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_handlers_are_put_back(number, capsys):
    before = signal.getsignal(number)
    with waiting(quiet=True) as (progress, stop):
        assert isinstance(progress, Silent)
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            stop.check()
    assert signal.getsignal(number) is before
    assert "Stopping after this batch" in capsys.readouterr().err


def test_a_second_ctrl_c_stops_at_once():
    with waiting(quiet=True):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StopNow):
            os.kill(os.getpid(), signal.SIGINT)


def test_help_breaks_lines_between_paragraphs_alone():
    from loraudit.cli import app

    told = {command.name: command.help for command in app.registered_commands}
    assert len(told) > 15
    assert [name for name, words in told.items() if not words or "\n" in words.replace("\n\n", "")] == []
    assert told["robustness"].startswith("Measure what poisoned training data does to a base")
