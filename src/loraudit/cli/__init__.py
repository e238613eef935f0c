"""The command line: words in, words out. One file per verb; nothing is decided here."""

from __future__ import annotations

import signal
import sys
import threading

import typer

from loraudit.cli import (
    attacks,
    audit,
    canaries,
    compare,
    contrast,
    demo,
    doctor,
    forecast,
    influence,
    log,
    poison,
    report,
    robustness,
    scan,
    schema,
    score,
    study,
    tune,
    validate,
    verify,
)
from loraudit.cli.console import stop_now
from loraudit.cli.options import in_paragraphs
from loraudit.cli.streams import scrubbed_streams
from loraudit.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, LorauditError, visible
from loraudit.execution import Interrupted, StopNow

app = typer.Typer(
    name="loraudit",
    help="Audit what a fine-tuned language model gives away about its training data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        import importlib.metadata

        typer.echo(f"loraudit {importlib.metadata.version('loraudit')}")
        raise typer.Exit


app.command("audit")(audit.audit)
app.command("contrast")(contrast.contrast)
app.command("robustness")(robustness.robustness)
app.command("forecast")(forecast.forecast)
app.command("influence")(influence.influence)
app.command("study")(study.study)
app.command("tune")(tune.tune)
app.add_typer(canaries.app, name="canaries")
app.command("poison")(poison.poison)
app.command("scan")(scan.scan)
app.command("score")(score.score)
app.command("attacks")(attacks.attacks)
app.command("report")(report.report)
app.command("log")(log.log)
app.command("verify")(verify.verify)
app.command("compare")(compare.compare)
app.command("validate")(validate.validate)
app.command("doctor")(doctor.doctor)
app.command("schema")(schema.schema)
app.command("demo")(demo.demo)
for _command in (*app.registered_commands, *canaries.app.registered_commands):
    _command.help = in_paragraphs(_command.callback.__doc__ or "")


def main() -> None:
    """Run the command line; a mistake of the user's prints one paragraph, a bug keeps its traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop_now)
    with scrubbed_streams():
        _run()


def _run() -> None:
    try:
        app()
    except LorauditError as error:
        typer.echo(f"Error: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (Interrupted, StopNow, KeyboardInterrupt):
        typer.echo("Stopped. What is finished is kept; run the same command again to go on.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception:  # a bug: its traceback, under an exit code of its own
        import traceback

        typer.echo(visible(traceback.format_exc()), err=True)
        typer.echo("This is a bug in loraudit; please report it with the lines above.", err=True)
        sys.exit(EXIT_INTERNAL)
