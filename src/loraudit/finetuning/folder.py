"""The folder of a tuned model: whole or not there, whatever kills the run that writes it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from loraudit.errors import StoreError
from loraudit.finetuning.base import Trainable
from loraudit.finetuning.history import Moment
from loraudit.finetuning.loop import Outcome, Run
from loraudit.finetuning.state import STATE_FILE
from loraudit.models.fingerprint import weight_files
from loraudit.models.loading import quiet_libraries
from loraudit.models.locate import Source
from loraudit.models.recorded import RECIPE_FILE
from loraudit.store import Lock, open_private_folder, write_atomically

TRAINING_FOLDER = "training"
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a fine-tune left.

    Attributes:
        path: Folder of the checkpoint or adapter, tokenizer included; `training/` in it holds the exposure log and
            kept checkpoints.
        moments: Losses along the way; the first is the untouched base where there are validation records.
        chosen: The moment whose weights these are.
        facts: What `loraudit_recipe.json` says: recipe, base, records, steps, parameters, privacy.
    """

    path: Path
    moments: list[Moment]
    chosen: Moment
    facts: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def training_losses(self) -> list[float]:
        """Mean loss over each epoch, nats per prediction, as seen while training."""
        found: dict[int, list[tuple[float, int]]] = {}
        for m in self.moments:
            if m.training_loss is not None:
                found.setdefault(math.ceil(m.epoch), []).append((m.training_loss, m.n_predictions))
        return [sum(loss * n for loss, n in of) / sum(n for _, n in of) for of in found.values()]

    @property
    def validation_losses(self) -> list[float]:
        """Loss after each epoch, nats per prediction; empty without validation records."""
        ends = (m for m in self.moments if m.step and float(m.epoch).is_integer())
        return [m.validation_loss for m in ends if m.validation_loss is not None]


def read_trained(folder: Path) -> TrainedModel | None:
    """What `finetune` left in `folder`, whatever it was made from; None where nothing whole is there."""
    return read_model(folder, None)


def read_model(folder: Path, identity: Mapping[str, Any] | None) -> TrainedModel | None:
    """What a run with this identity left; with any, where it is None."""
    try:
        facts = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        if identity is not None and facts["made_from"] != identity:
            return None
        moments = [Moment.read(content) for content in facts["moments"]]
        chosen = next(moment for moment in moments if moment.step == facts["chosen_step"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    if not weight_files(folder):
        return None
    return TrainedModel(folder, moments, chosen, facts)


def open_folder(out: Path) -> Path:
    """Make the folder of a model, and the one in it for states, checkpoints and logs, which is returned."""
    open_private_folder(out)
    return open_private_folder(out / TRAINING_FOLDER)


def save_model(where: Path, trainable: Trainable, tokenizer: Any, source: Source) -> None:
    """Weights and tokenizer as one folder that is whole or absent.

    Raises:
        StoreError: They cannot be written.
    """
    beside = where.with_name(f".{where.name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        with quiet_libraries():
            trainable.module.save_pretrained(str(beside), **_how(trainable))
            tokenizer.save_pretrained(str(beside))
        _name_base(beside, source)
        shutil.rmtree(where, ignore_errors=True)
        beside.rename(where)
    except Exception as error:
        # The tokenizers' library has no kind of error of its own for a full disk.
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        n_bytes = 4 * (trainable.n_trained if (beside / "adapter_config.json").exists() else trainable.n_parameters)
        shutil.rmtree(beside, ignore_errors=True)
        raise StoreError(
            f"The model cannot be saved to '{where}' (about {n_bytes:,} bytes): {_why(error)}. Free space or name "
            "another folder with --out; the same command goes on from the last saved step."
        ) from error


def _remove_earlier(out: Path) -> None:
    """The files of a model that another request left here; nothing else is touched."""
    try:
        names = json.loads((out / RECIPE_FILE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    (out / RECIPE_FILE).unlink(missing_ok=True)
    for name in names:
        (out / Path(str(name)).name).unlink(missing_ok=True)


def remove_leftovers(out: Path) -> None:
    """What a run that was killed behind its last file left: a state, and a second copy of the weights."""
    training = out / TRAINING_FOLDER
    if (training / STATE_FILE).exists() or (training / CHOSEN).exists():
        with Lock(training):
            remove_half_written(out)
            (training / STATE_FILE).unlink(missing_ok=True)
            shutil.rmtree(training / CHOSEN, ignore_errors=True)


def remove_half_written(out: Path) -> None:
    """What killed runs were writing when they died; nobody else writes here while the lock is held."""
    for path in [*out.rglob(".*.tmp"), *out.rglob(".*.unfinished")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _how(trainable: Trainable) -> dict[str, Any]:
    """PEFT alone knows how to convert, and asks the hub about embeddings unless told."""
    if not hasattr(trainable.module, "peft_config"):
        return {}
    return {"save_embedding_layers": False, **trainable.converter.options}


def _name_base(folder: Path, source: Source) -> None:
    """An adapter names its base by the hub name, or by an absolute path, so that it is found from any folder."""
    path = folder / "adapter_config.json"
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = source.name if source.is_from_hub else str(source.folder.resolve())
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def finish(out: Path, run: Run, outcome: Outcome, facts: dict[str, Any]) -> TrainedModel:
    """Put the chosen weights in place; the recipe comes last and says that everything is there.

    They are copied, so that a run killed half way still has them whole.

    Args:
        out: Folder of the model.
        run: The run, for its folder.
        outcome: How it ended.
        facts: For the recipe file; the names of the files are added.

    Raises:
        StoreError: They cannot be copied.
    """
    _remove_earlier(out)
    chosen = run.folder / CHOSEN
    if outcome.chosen.step == outcome.n_steps:
        run.save_model(chosen)
    try:
        facts["files"] = sorted(file.name for file in chosen.iterdir())
        for name in facts["files"]:
            shutil.copyfile(chosen / name, out / name)
    except OSError as error:
        raise StoreError(
            f"The model cannot be copied to '{out}': {error.strerror}. Free space; the same command goes on from here."
        ) from error
    for moment in outcome.history.moments:
        if moment.checkpoint and (out / moment.checkpoint).exists():
            content = {**facts, "chosen_step": moment.step, "is_checkpoint_of": facts["n_steps"]}
            write_atomically(out / moment.checkpoint / RECIPE_FILE, (json.dumps(content, indent=2) + "\n").encode())
    write_atomically(out / RECIPE_FILE, (json.dumps(facts, indent=2) + "\n").encode())
    (run.folder / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(chosen, ignore_errors=True)
    return TrainedModel(out, outcome.history.moments, outcome.chosen, facts)
