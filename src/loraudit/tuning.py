"""The spine of `loraudit tune`: a request becomes a tuned model with a recorded recipe."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from loraudit.data import fetch_files, load_records, missing_files, planted_copies, split_records
from loraudit.errors import ConfigError, DataError
from loraudit.execution import Progress, StopRequest
from loraudit.finetuning import (
    TrainedModel,
    TrainingCost,
    check_settings,
    estimate_training,
    finetune,
    training_device,
)
from loraudit.finetuning.folder import TRAINING_FOLDER
from loraudit.spec import TuneSpec, spec_hash
from loraudit.store import RunFolder, open_private_folder
from loraudit.types import Record


class TuningData(NamedTuple):
    """What a request trains on.

    Attributes:
        records: To train on.
        validation: To take the validation loss on.
        copies: Exposures of each record in an epoch, by id.
    """

    records: list[Record]
    validation: list[Record]
    copies: dict[str, int]


def model_path(spec: TuneSpec) -> Path:
    """Folder of the tuned model: the one named, or `runs/tune-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"tune-{spec_hash(spec)[:12]}"


def run_tune(spec: TuneSpec, *, progress: Progress | None = None, stop: StopRequest | None = None) -> TrainedModel:
    """Tune a model; the same request again resumes it or, with nothing to do, gives what is there.

    Raises:
        LorauditError: As `finetuning.finetune`; or the folder holds another request.
        Interrupted: A stop was asked for; the state is kept.
    """
    check_request(spec)
    device = training_device(spec.device)
    out = open_private_folder(model_path(spec))
    folder = RunFolder(open_private_folder(out / TRAINING_FOLDER), spec)
    data = tuning_data(spec)
    folder.write_spec()
    return finetune(
        spec.base,
        data.records,
        spec.recipe,
        out,
        validation=data.validation,
        copies=data.copies,
        device=device,
        offline=spec.offline,
        progress=progress,
        stop=stop,
    )


def estimate_tune(spec: TuneSpec) -> TrainingCost:
    """What the request would take.

    Raises:
        LorauditError: As `run_tune`, for everything that shows before the first step.
    """
    check_request(spec)
    data = tuning_data(spec)
    return estimate_training(
        spec.base, data.records, spec.recipe, validation=data.validation, copies=data.copies, offline=spec.offline
    )


def tuning_data(spec: TuneSpec) -> TuningData:
    """Training and validation records; none stands on both sides.

    Raises:
        DataError: They cannot be read, overlap, or leave a side empty.
    """
    label_field = spec.label_field or ("label" if spec.task == "classification" else None)
    pool = load_records(spec.data, spec, label_field=label_field)
    records = list(pool.records)
    if spec.validation:
        validation = list(load_records(spec.validation, spec, label_field=label_field).records)
        known = {record.id for record in records}
        shared = [record for record in validation if record.id in known]
        if shared:
            raise DataError(
                f"{len(shared)} of {len(validation)} validation records are trained on too. Expected records the model "
                "never sees; take them out of one file.",
                [f"{record.source}:{record.line}" for record in shared],
            )
    else:
        n_held_out = round(spec.validation_share * len(records))
        if spec.validation_share and not n_held_out:
            raise DataError(
                f"A share of {spec.validation_share:g} of {len(records)} records leaves none for validation. Give more "
                "records, --validation, or --validation-share 0."
            )
        validation, records = split_records(records, [n_held_out, len(records) - n_held_out], seed=spec.seed)
        if not records:
            raise DataError("All records belong to one document, so none is left to train on beside validation.")
    found = pool.copies if spec.keep_duplicates else {}
    return TuningData(records, validation, planted_copies(records, spec.repeats, found, seed=spec.seed))


def check_request(spec: TuneSpec) -> None:
    """All that is wrong with the request itself, said at once; files of the hub are fetched."""
    files = (*spec.data, *spec.validation)
    problems = missing_files(files)
    try:
        check_settings(spec.recipe)
    except ConfigError as error:
        problems.append(str(error))
    if spec.label_field and spec.task != "classification":
        problems.append(
            "'label_field' has no effect with task 'causal_lm'. Give --task classification, or leave it out."
        )
    if problems:
        raise ConfigError("\n".join(problems))
    fetch_files(files, offline=spec.offline)
