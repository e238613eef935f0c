"""What is left of a backdoor after clean tuning, after merging an adapter, or in eight bits."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loraudit.errors import StoreError
from loraudit.execution import Interrupted
from loraudit.finetuning import Bench, TrainedModel
from loraudit.models import locate
from loraudit.models.loading import quiet_libraries
from loraudit.robustness.cells import LEFT, Cell, after_file, key_after
from loraudit.robustness.loading import load_tuned
from loraudit.robustness.measuring import Meter
from loraudit.robustness.outcomes import Checkpoint, read_checkpoint, write_checkpoint
from loraudit.spec import Persistence

_INT8_LARGEST = 127
_OF = "of-run"
NOT_MERGED = "its parts cannot be merged into the weights"


@dataclass(frozen=True, slots=True)
class Trial:
    """Puts finished models through what backdoors should not survive.

    Attributes:
        bench: Of the run; its records are clean.
        kinds: What they are put through.
        labels: Of a classifier; empty for a language model.
        meter: Measures models of the cell's method.
    """

    bench: Bench
    kinds: Sequence[Persistence]
    labels: tuple[str, ...]
    meter: Meter

    def __call__(self, cell: Cell, model: TrainedModel, folder: Path, key: str) -> dict[str, Any]:
        """Everything for one cell: outcomes are written to its folder; what was left out or broke down is said."""
        steps: dict[Persistence, Callable[[Cell, TrainedModel, Path, str], Any]] = {
            "clean_steps": self._after_clean_steps,
            "merge": self._merged,
            "int8": self._in_eight_bits,
        }
        done: list[str] = []
        left_out: dict[str, str] = {}
        failed: dict[str, str] = {}
        names = self.meter.names(cell.plan)
        for kind in self.kinds:
            path, own = after_file(folder, kind), key_after(key, kind)
            if read_checkpoint(path, own) is None:
                self.bench.progress.say(f"{cell.words}: {kind.replace('_', ' ')}")
                try:
                    module = steps[kind](cell, model, folder, key)
                    sets = {} if isinstance(module, str) else self.meter.measure(module, names)
                except (Interrupted, StoreError):  # a stop and a full disk end the run, which then goes on from here
                    raise
                except Exception as error:  # libraries fail in any way; the other parts of the run stand
                    failed[kind] = f"{type(error).__name__}: {error}"
                    continue
                if isinstance(module, str):
                    left_out[kind] = module
                    continue
                last = model.moments[-1]
                write_checkpoint(path, Checkpoint(last.step, last.epoch, math.nan, sets), own)
            done.append(kind)
        for left in LEFT:
            shutil.rmtree(folder / left, ignore_errors=True)
        return {"after": done, "left_out": left_out, "failed_persistence": failed}

    # --- what is done -----------------------------------------------------------------------------------

    def _merged(self, cell: Cell, model: TrainedModel, folder: Path, key: str) -> Any:
        """The adapter in the weights, saved and read again; a reason where there is none to merge."""
        del cell
        if locate(str(model.path)).kind != "adapter":
            return "nothing is left to merge: whole weights were trained"
        where = self._whole(model, folder, key)
        return where if isinstance(where, str) else load_tuned(where, self.bench, self.labels)

    def _after_clean_steps(self, cell: Cell, model: TrainedModel, folder: Path, key: str) -> Any:
        """One more epoch by the same recipe, on the training records as they were."""
        where = self._whole(model, folder, key)
        if isinstance(where, str):
            return where
        recipe = cell.recipe.model_copy(update={"epochs": 1})
        out = folder / "cleaned"
        trained = replace(self.bench, base=str(where)).train(recipe, out)
        return load_tuned(trained.path, self.bench, self.labels, base=str(where))

    def _in_eight_bits(self, cell: Cell, model: TrainedModel, folder: Path, key: str) -> Any:
        """All weights of linear layers rounded to 8 bits, activations as they are."""
        del cell
        where = self._whole(model, folder, key)
        if isinstance(where, str):
            return where
        module = load_tuned(where, self.bench, self.labels)
        round_weights(module)
        return module

    # --- files ------------------------------------------------------------------------------------------

    def _whole(self, model: TrainedModel, folder: Path, key: str) -> Path | str:
        """A folder with whole weights: the model's own, or that of its adapter merged into the base."""
        if locate(str(model.path)).kind != "adapter":
            return model.path
        where = folder / "merged"
        if _is_of(where, key):
            return where
        module = load_tuned(model.path, self.bench, self.labels)
        if not hasattr(module.base_model, "merge_and_unload"):
            return NOT_MERGED
        beside = folder / ".merged.unfinished"
        shutil.rmtree(beside, ignore_errors=True)
        with quiet_libraries():
            module.merge_and_unload().save_pretrained(str(beside))
            self.meter.tokenizer.save_pretrained(str(beside))
        (beside / _OF).write_text(key, encoding="utf-8")
        shutil.rmtree(where, ignore_errors=True)
        beside.rename(where)
        return where


def _is_of(where: Path, key: str) -> bool:
    """Whether a merged model is there, and is that of this run."""
    try:
        return (where / _OF).read_text(encoding="utf-8") == key
    except OSError:
        return False


def round_weights(module: Any) -> None:
    """Round every linear layer's weights to 8 bits, symmetrically, each output channel by its own largest weight.

    w becomes s · round(w / s) with s = max|w| / 127. Weights alone: the products are computed in full precision, so
    this says what rounding does to a model and nothing about any library's kernels.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.Linear | Conv1D):
                inputs = 1 if isinstance(layer, torch.nn.Linear) else 0  # Conv1D keeps its weights the other way round
                scale = layer.weight.abs().amax(dim=inputs, keepdim=True) / _INT8_LARGEST
                scale = torch.where(scale > 0, scale, torch.ones_like(scale))
                layer.weight.copy_((layer.weight / scale).round() * scale)
