"""A finished run as a run of Weights & Biases; a study as a group of them.

A W&B run's id is the hash of the request, so sending the same request again continues the same run. Figures are put
into the summary, which has one value of each, not into the history, which would grow by a step each time.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shlex
from typing import Any, Literal

from loraudit.errors import ConfigError, EnvironmentFault, MissingExtra, scrubbed
from loraudit.integrations.logged import Logged
from loraudit.integrations.sent import Sent
from loraudit.integrations.shareable import short

DEFAULT_PROJECT = "loraudit"
Mode = Literal["online", "offline"]
_SILENT: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "not recorded",
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""W&B would add the command line, the host, the user, the git remote, packages and what is printed."""


def log_to_wandb(
    run: Logged,
    *,
    project: str = DEFAULT_PROJECT,
    entity: str | None = None,
    mode: Mode | None = None,
    with_files: bool = False,
    wandb: Any = None,
) -> Sent:
    """Send a finished run to W&B, or keep it on disk for `wandb sync`.

    Args:
        run: As `logged` reads it.
        project: Made where it does not exist.
        entity: User or team (default: the user's).
        mode: online sends now; offline keeps it (default: WANDB_MODE; offline where it is not set).
        with_files: Send report.html and result.json as an artifact.
        wandb: The module, or what stands in for it (default: the installed one).

    Raises:
        MissingExtra: W&B is not installed.
        ConfigError: WANDB_MODE is neither online nor offline.
        EnvironmentFault: W&B cannot be reached, or refuses. Sending again goes on where this ended.
    """
    if wandb is None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise MissingExtra("Logging to W&B", "wandb") from None
    chosen = mode or os.environ.get("WANDB_MODE", "").strip().lower() or "offline"
    if chosen not in {"online", "offline"}:
        raise ConfigError(
            f"WANDB_MODE '{chosen}' sends and keeps nothing that could be told of. Expected online or offline. Unset "
            "it, or give --online."
        )
    entries: list[str] = []
    places: list[str] = []
    updated = 0
    try:
        for one in run.walk():
            group = run.key if run.cells else None
            made, was_there = _send(
                wandb, one, project=project, entity=entity, mode=chosen, group=group, with_files=with_files
            )
            entries.append(made.id)
            places.append(str(made.url) if chosen == "online" else str(made.settings.sync_dir))
            updated += was_there
    except (wandb.errors.Error, OSError) as error:
        raise EnvironmentFault(
            f"W&B could not take run '{run.name}': {short(scrubbed(str(error)), 300)}. Expected a server that can be "
            "reached and a key it knows. Run: wandb login, or leave out --online; the run's own folder is as it was."
        ) from None
    files = tuple(dict.fromkeys(file.name for one in run.walk() for file in one.files)) if with_files else ()
    where = f"W&B, {places[0]}" if chosen == "online" else f"W&B's folders on this machine ({places[0]})"
    if chosen == "online":
        return Sent(where, tuple(entries), updated, files)
    return Sent(where, tuple(entries), None, files, next_step=f"wandb sync {shlex.join(places)}")


def _send(
    wandb: Any, run: Logged, *, project: str, entity: str | None, mode: str, group: str | None, with_files: bool
) -> tuple[Any, bool]:
    """The finished W&B run, and whether the server had it."""
    made = wandb.init(
        project=project,
        entity=entity,
        id=hashlib.sha256(run.key.encode()).hexdigest()[:16],
        name=run.name,
        group=group,
        job_type=run.kind,
        notes=run.note,
        tags=["loraudit", run.kind],
        config={**run.params, **run.tags, "loraudit.key": run.key},
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(**_SILENT),
    )
    was_there = bool(made.resumed)
    is_whole = False
    try:
        made.summary.update(run.metrics)
        if with_files and run.files:
            artifact = wandb.Artifact(f"loraudit-{made.id}", type="report")
            for file in run.files:
                artifact.add_file(str(file), name=file.name)
            made.log_artifact(artifact)
        is_whole = True
    finally:
        made.finish(exit_code=0 if is_whole and not run.has_failed else 1)
    return made, was_there
