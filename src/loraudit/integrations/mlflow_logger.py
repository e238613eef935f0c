"""A finished run as a run of MLflow; a study as a run with one below it for every cell.

The same request is the same MLflow run: it is found again by the tag `loraudit.key` and brought up to date, so that
sending a run twice, or carrying it out again and sending it, leaves one entry. A figure that is gone becomes NaN there,
because MLflow cannot take a metric back.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from loraudit.errors import ConfigError, EnvironmentFault, MissingExtra, scrubbed
from loraudit.integrations.logged import Logged
from loraudit.integrations.sent import Sent
from loraudit.integrations.shareable import short

DEFAULT_EXPERIMENT = "loraudit"
_MOST_METRICS = 500
_MOST_WORDS = 50
"""Metrics, and params or tags, of one request; the server takes 1000 and 100."""
_SURROUNDINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # figures go to the store that was named and to nobody else
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder is what mlflow-skinny alone can write
}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""MLflow's own would wait for minutes at a server that is away; settings of the user's win."""
_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
Item = TypeVar("Item")


def log_to_mlflow(
    run: Logged,
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    tracking_uri: str | None = None,
    with_files: bool = False,
) -> Sent:
    """Send a finished run to MLflow.

    Args:
        run: As `logged` reads it.
        experiment: Made where it does not exist.
        tracking_uri: Of the store: a folder, a database or a server (default: MLFLOW_TRACKING_URI or what else MLflow
            is set to; where nothing is, MLflow's own default, or the folder `mlruns` where that needs a database and
            mlflow-skinny has none).
        with_files: Send report.html and result.json as artifacts.

    Raises:
        MissingExtra: MLflow is not installed.
        ConfigError: The experiment was deleted.
        EnvironmentFault: The store cannot be reached or written. Sending again goes on where this ended.
    """
    with _surroundings():
        try:
            import mlflow
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise MissingExtra("Logging to MLflow", "mlflow") from None
        uri = tracking_uri or (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else _default_store(mlflow))
        _refuse_unreadable(uri)
        try:
            client = MlflowClient(tracking_uri=uri)
            where = _experiment(client, experiment)
            top, was_there = _send(client, where, run, parent=None, with_files=with_files)
            below = [_send(client, where, cell, parent=top, with_files=with_files) for cell in run.cells]
        except (MlflowException, OSError) as error:  # requests' errors are OSErrors
            raise EnvironmentFault(
                f"MLflow at '{scrubbed(uri)}' could not take run '{run.name}': {short(scrubbed(str(error)), 300)}. "
                "Expected a store that can be reached and written. Check --tracking-uri or MLFLOW_TRACKING_URI and run "
                "the same command again; the run's own folder is as it was."
            ) from None
    entries = (top, *(entry for entry, _ in below))
    return Sent(
        where=f"{scrubbed(uri)}, experiment '{experiment}'",
        entries=entries,
        n_updated=was_there + sum(was for _, was in below),
        files=_names(run) if with_files else (),
    )


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """MLflow's settings as they have to be here, and as they were afterwards."""
    wanted = {**_SURROUNDINGS, **{name: value for name, value in _PATIENCE.items() if name not in os.environ}}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _default_store(mlflow: Any) -> str:
    uri = str(mlflow.get_tracking_uri())
    return Path("mlruns").absolute().as_uri() if _is_database(uri) and not _has_database_client() else uri


def _refuse_unreadable(uri: str) -> None:
    if _is_database(uri) and not _has_database_client():
        raise EnvironmentFault(
            f"MLflow store '{scrubbed(uri)}' is a database, which mlflow-skinny cannot open. Expected a folder or a "
            "server. Run: pip install mlflow"
        )


def _is_database(uri: str) -> bool:
    return uri.partition(":")[0].partition("+")[0] in _DATABASES


def _has_database_client() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("sqlalchemy", "alembic"))


def _experiment(client: Any, name: str) -> str:
    """Id of the experiment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name)
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"MLflow experiment '{name}' was deleted. Expected one that is there, or a new name. Restore it with: "
            f"mlflow experiments restore -x {found.experiment_id}"
        )
    return found.experiment_id


def _send(client: Any, experiment: str, run: Logged, *, parent: str | None, with_files: bool) -> tuple[str, bool]:
    """Id of the entry, and whether it was there before."""
    from mlflow.entities import Metric, Param, RunTag

    tags = {**run.tags, "loraudit.key": run.key, "mlflow.runName": run.name, "mlflow.note.content": run.note}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    there = client.search_runs([experiment], f"tags.`loraudit.key` = '{run.key}'", max_results=1)
    entry = there[0] if there else client.create_run(experiment, start_time=run.times[0], run_name=run.name)
    entry_id = entry.info.run_id
    held = dict(entry.data.metrics) if there else {}
    gone = {name: math.nan for name, value in held.items() if name not in run.metrics and not math.isnan(value)}
    metrics = {name: value for name, value in run.metrics.items() if held.get(name) != value} | gone
    params = {name: value for name, value in run.params.items() if not there or name not in entry.data.params}
    for some in _pieces([RunTag(name, value) for name, value in tags.items()], _MOST_WORDS):
        client.log_batch(entry_id, tags=some)
    for some in _pieces([Param(name, value) for name, value in params.items()], _MOST_WORDS):
        client.log_batch(entry_id, params=some)
    # Of two values of one step MLflow shows the later one, so a figure that changed is of now.
    at = int(1000 * time.time()) if there else run.times[1]
    for some in _pieces([Metric(name, value, at, 0) for name, value in metrics.items()], _MOST_METRICS):
        client.log_batch(entry_id, metrics=some)
    for file in run.files if with_files else ():
        client.log_artifact(entry_id, str(file))
    client.set_terminated(entry_id, "FAILED" if run.has_failed else "FINISHED", run.times[1])
    return entry_id, bool(there)


def _pieces(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _names(run: Logged) -> tuple[str, ...]:
    return tuple(dict.fromkeys(file.name for one in run.walk() for file in one.files))
