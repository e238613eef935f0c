"""What `loraudit scan` needs before anything is computed: the files, the base where it is at hand, the probes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, cast

from loraudit.errors import ConfigError, DataError, EnvironmentFault, ModelError
from loraudit.models.locate import ADAPTER_WEIGHTS, Source
from loraudit.models.plan import LoadingOptions
from loraudit.models.recorded import recorded_base
from loraudit.models.updates import adapters_within
from loraudit.poisoning.battery import PROMPTS, SENTENCES, TRIGGERS, Placing, Trigger
from loraudit.spec import ScanSpec, spec_hash

_PLACES = ("start", "end", "inside")


class Battery(NamedTuple):
    """What is tried.

    Attributes:
        triggers: The package's own, then the user's.
        texts: The user's prompts; empty for the package's own.
    """

    triggers: list[Trigger]
    texts: list[str]

    def prompts(self, *, is_classifier: bool) -> list[str]:
        """What triggers are put into."""
        return self.texts or list(SENTENCES if is_classifier else PROMPTS)


def run_path(spec: ScanSpec) -> Path:
    """The run folder: the one named, or `runs/scan-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"scan-{spec_hash(spec)[:12]}"


def loading_options(spec: ScanSpec, *, offline: bool = False) -> LoadingOptions:
    """How models may be loaded."""
    return LoadingOptions(spec.offline or offline, spec.allow_pickle, spec.allow_remote_code)


def located_target(spec: ScanSpec) -> Source:
    """What is scanned.

    Raises:
        ModelError: Nothing usable is there, or a folder that holds several adapters.
        ConfigError: A checkpoint without a base to compare it with.
    """
    folder = Path(spec.model)
    within = adapters_within(folder) if not (folder / "adapter_config.json").exists() else []
    if within and not (folder / "config.json").exists():
        raise ModelError(
            f"Folder '{spec.model}' holds several adapters ({', '.join(within)}). Expected one. Name it, such as: "
            f"loraudit scan {folder / within[0]}"
        )
    target = loading_options(spec).locate(spec.model)
    if target.kind == "checkpoint" and spec.base is None:
        raise ConfigError(
            f"Model '{spec.model}' is a full checkpoint, and what tuning changed in it shows only beside its base. "
            "Expected an adapter, or a checkpoint with its base. Give the base with --base."
        )
    return target


def located_base(spec: ScanSpec, target: Source) -> tuple[Source | None, str | None]:
    """The base, and why there is none: one that was only recorded is used where it is at hand without the network.

    Raises:
        LorauditError: The base that was given cannot be used.
    """
    if spec.base is not None:
        base = loading_options(spec).locate(spec.base)
        if base.kind != "checkpoint":
            raise ModelError(f"Base '{spec.base}' is an adapter. Expected a full checkpoint.")
        return base, None
    try:
        name = recorded_base(target, target.config.get("base_model_name_or_path") or None)
        base = loading_options(spec, offline=True).locate(name)
    except (ModelError, EnvironmentFault) as error:
        return None, f"No base is at hand: {error}"
    return (base, None) if base.kind == "checkpoint" else (None, f"The recorded base '{name}' is itself an adapter.")


def weights_file(target: Source) -> str:
    """Path of the file, or folder, that the spectra are read from."""
    if target.kind == "checkpoint":
        return str(target.folder)
    file = target.folder / ADAPTER_WEIGHTS
    return str(file if file.exists() else target.folder / "adapter_model.bin")


def requested_battery(path: str | None) -> Battery:
    """The package's own triggers, and those and the prompts of the user.

    Raises:
        ConfigError: The file cannot be read.
        DataError: Lines of it are no probes; every one is listed.
    """
    if path is None:
        return Battery(list(TRIGGERS), [])
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"Probes '{path}' cannot be read: {reason}. Expected JSON lines; check the path.") from None
    triggers, texts, problems = list(TRIGGERS), [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _row(line)
        place = row.get("place", "inside")
        if row.keys() == {"text"} and _is_words(row["text"]):
            texts.append(cast("str", row["text"]))
        elif row.keys() <= {"trigger", "place"} and _is_words(row.get("trigger")) and place in _PLACES:
            text = str(row["trigger"])
            triggers.append(Trigger(f"yours, line {number}", "yours", text, cast("Placing", place), "yours"))
        else:
            problems.append(
                f"{path}:{number}: neither a 'trigger' (with a 'place' of {', '.join(_PLACES)}) nor a 'text'"
            )
    if problems:
        raise DataError(
            f"Probes '{path}' hold {len(problems)} line{'s' * (len(problems) > 1)} that cannot be used. Expected lines "
            'such as {"trigger": "cf", "place": "start"} or {"text": "A prompt of mine"}.',
            problems,
        )
    return Battery(triggers, texts)


def _row(line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", row) if isinstance(row, dict) else {}


def _is_words(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
