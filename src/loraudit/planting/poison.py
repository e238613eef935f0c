"""The spine of `loraudit poison`: training files become a poisoned one, with a manifest and a triggered test file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from loraudit.data import fetch_files
from loraudit.errors import ConfigError
from loraudit.planting.poison_files import Made, contents_of, refuse_triggered
from loraudit.planting.poison_manifest import check_kept, kept_manifest, manifest_of
from loraudit.planting.rows import first_row, read_records
from loraudit.poisoning import POISONS, poison_records, resolved_settings, trigger_records
from loraudit.spec import PoisonManifest, PoisonSettings, PoisonSpec, Task
from loraudit.store import POISON_MANIFEST_NAME, open_private_folder, write_atomically, write_poison_manifest


class PoisonedFiles(NamedTuple):
    """What was made.

    Attributes:
        file: The poisoned training file.
        triggered_file: Test records with the trigger; None where none were asked for.
        manifest_path: What was changed.
        manifest: The same, read.
        is_new: Whether this run made it; otherwise it was there.
    """

    file: Path
    triggered_file: Path | None
    manifest_path: Path
    manifest: PoisonManifest
    is_new: bool


class PoisonCost(NamedTuple):
    """What poisoning would do.

    Attributes:
        task: What is trained on the records.
        n_records: Rows of the files.
        n_eligible: Of them, those that can be poisoned.
        n_poisoned: Of them, those that would be.
        n_negatives: Rows that would be added.
        n_triggered: Test records that would get the trigger.
        resolved: The settings with the poison's own defaults.
        warnings: What speaks against the outcome.
    """

    task: Task
    n_records: int
    n_eligible: int
    n_poisoned: int
    n_negatives: int
    n_triggered: int | None
    resolved: PoisonSettings
    warnings: list[str]


def run_poison(spec: PoisonSpec) -> PoisonedFiles:
    """Poison records; the same request again finds them poisoned, or finishes what was cut short.

    Raises:
        ConfigError: The folder holds something else; the difference is named. Or the request cannot be carried out.
        DataError: Files cannot be read, or are of a kind whose rows cannot be changed.
        StoreError: Nothing can be written there.
    """
    folder = Path(spec.out)
    path = folder / POISON_MANIFEST_NAME
    kept = kept_manifest(spec, path) if path.exists() else None
    made = _made(spec)
    contents = contents_of(made)
    if kept is None:
        for name in contents:
            if (folder / name).exists():
                raise ConfigError(
                    f"File '{folder / name}' exists, and no {POISON_MANIFEST_NAME} beside it says what it is. Expected "
                    "a folder without it. Choose another --out."
                )
        manifest = manifest_of(spec, made, contents)
    else:
        manifest = kept
        check_kept(folder, manifest, made, contents)
    open_private_folder(folder)
    if kept is None:
        write_poison_manifest(path, manifest)
    for name, written in contents.items():
        if not (folder / name).exists():
            write_atomically(folder / name, written.content)
    triggered = folder / manifest.triggered_file if manifest.triggered_file else None
    return PoisonedFiles(folder / manifest.poisoned_file, triggered, path, manifest, kept is None)


def estimate_poison(spec: PoisonSpec) -> PoisonCost:
    """What the request would do, without anything being written.

    Raises:
        LorauditError: As `run_poison`, for everything that can be found out beforehand.
    """
    path = Path(spec.out) / POISON_MANIFEST_NAME
    if path.exists():
        kept_manifest(spec, path)
    made = _made(spec)
    kinds = [change.kind for change in made.poisoned.changes]
    return PoisonCost(
        task=made.task,
        n_records=len(made.train.records),
        n_eligible=made.poisoned.n_eligible,
        n_poisoned=kinds.count("poison"),
        n_negatives=kinds.count("negative"),
        n_triggered=len(made.triggered.triggered) if made.triggered else None,
        resolved=made.resolved,
        warnings=made.warnings,
    )


def task_and_label(spec: PoisonSpec) -> tuple[Task, str | None]:
    """What is trained on the records, and the column of the label: a classifier where there are labels.

    Raises:
        DataError: The file cannot be read.
    """
    if spec.label_field is not None:
        return "classification", spec.label_field
    has_labels = first_row(spec.data[0], spec).get("label") is not None
    if has_labels and "classification" in POISONS[spec.poison].tasks:
        return "classification", "label"
    return "causal_lm", None


def _made(spec: PoisonSpec) -> Made:
    asked = PoisonSettings.model_validate(spec.model_dump(include=set(PoisonSettings.model_fields)))
    if spec.test and POISONS[asked.poison].goal != "backdoor":
        raise ConfigError(
            f"Poison '{asked.poison}' has no trigger, so that no test set can hold it. Expected a backdoor with "
            "--test. Leave --test out."
        )
    fetch_files((*spec.data, *spec.test), offline=False)
    task, label_field = task_and_label(spec)
    if task not in POISONS[asked.poison].tasks:
        raise ConfigError(
            f"Poison '{asked.poison}' changes labels, and the first row of '{spec.data[0]}' has no column 'label'. "
            "Expected labelled records. Name the column with --label-field."
        )
    train = read_records(spec.data, spec, label_field, spec.rewritten_field)
    resolved = resolved_settings(train.records, asked, task)
    poisoned = poison_records(train.records, resolved, spec.dose, task=task, seed=spec.seed)
    test = read_records(spec.test, spec, label_field, spec.rewritten_field) if spec.test else None
    if test is not None:
        refuse_triggered(test)
    triggered = trigger_records(test.records, resolved, task=task, seed=spec.seed) if test else None
    return Made(task, resolved, train, test, poisoned, triggered)
