"""What a model says of where it comes from, and what that proves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loraudit.errors import ModelError
from loraudit.models.locate import Source, is_hub_name

RECIPE_FILE = "loraudit_recipe.json"


def recorded_recipe(folder: Path) -> dict[str, Any]:
    """What loraudit's own fine-tuning recorded beside the weights, if it made them."""
    try:
        recipe = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


def recorded_base(target: Source, recorded: str | None) -> str:
    """Where the base is that an adapter records: beside it, at that path, or on the hub.

    Raises:
        ModelError: It records none, or one that is not here.
    """
    if not recorded:
        raise ModelError(f"Adapter '{target.name}' records no base model. Give it with --base.")
    for place in (Path(recorded), target.folder / recorded):
        if (place / "config.json").exists():
            return str(place)
    if is_hub_name(recorded):
        return recorded
    raise ModelError(
        f"The base that adapter '{target.name}' records, '{recorded}', does not exist here. Give it with --base."
    )


def prove_base(
    target: Source, base: Source, given: str | None, recorded: str | None, base_digest: str, *, allow_other_base: bool
) -> tuple[str, list[str]]:
    """How it is known that this is the base the target was trained on, and what the report must warn of.

    Raises:
        ModelError: It is not, and that was not allowed.
    """
    contradiction = None
    recorded_digest = recorded_recipe(target.folder).get("base_fingerprint")
    if recorded_digest and recorded_digest != base_digest:
        contradiction = f"'{target.name}' records a base with another content hash than '{base.name}' has"
    elif recorded_digest:
        return "content hash recorded at training", []
    elif given and recorded and given != recorded and is_hub_name(recorded) and base.is_from_hub:
        contradiction = f"'{target.name}' records base '{recorded}', but --base is '{given}'"
    if contradiction:
        if not allow_other_base:
            raise ModelError(
                f"Model {contradiction}. Give the base it was trained on with --base, or accept this one with "
                "--allow-other-base."
            )
        return "contradicted by the record", [f"Model {contradiction}; it was used all the same (--allow-other-base)."]
    if given is None or given == recorded or recorded is None:
        return "name recorded with the model" if recorded else "as given", []
    return "not proven", [
        f"Base not proven: the model records '{recorded}', and a local folder cannot be checked against that name."
    ]


def base_of_checkpoint(target: Source) -> str | None:
    """A base that the checkpoint records and that is at hand without the network."""
    recorded = recorded_recipe(target.folder).get("base") or target.config.get("_name_or_path")
    if isinstance(recorded, str) and recorded and Path(recorded).is_dir():
        return None if Path(recorded).resolve() == target.folder.resolve() else recorded
    return None
