"""Shadow models in a contrast: made once for each method, asked after every epoch at which its runs are measured."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from loraudit.auditing.preparation import requested_models
from loraudit.auditing.references.making import Workshop, make_reference
from loraudit.auditing.references.shadows import Shadows, requested_shadows
from loraudit.auditing.references.wanted import MARK, WantedReference
from loraudit.auditing.request import Sides
from loraudit.errors import ConfigError
from loraudit.execution import Progress, StopRequest
from loraudit.finetuning import TrainedModel, read_trained
from loraudit.models import JointPlan, plan_models, plan_together
from loraudit.spec import AuditSpec
from loraudit.store import EvidenceStore
from loraudit.types import TokenTable


class ArmShadows:
    """The shadow models of one method.

    They are those that an audit of its final model would make, so that such an audit finds them, with checkpoints kept
    at the measured epochs while the method's runs are measured.

    Args:
        request: Of the audit of a model of this method.
        sides: The audited records.
        epochs: At which runs are measured.
        store: Where shadows and evidence are kept.
        workshop: Shared by the methods of one contrast.
        progress: Told which is made and how far it is.
        stop: Asked between steps.
    """

    def __init__(
        self,
        request: AuditSpec,
        sides: Sides,
        epochs: tuple[float, ...],
        store: EvidenceStore,
        workshop: Workshop,
        progress: Progress,
        stop: StopRequest | None,
    ) -> None:
        self.request, self.sides, self.epochs, self.store = request, sides, epochs, store
        self.workshop, self.progress, self.stop = workshop, progress, stop
        self.passing_evidence: set[Path] = set()

    @functools.cached_property
    def _shadows(self) -> Shadows:
        found = requested_shadows(self.request, requested_models(self.request, self.store), self.sides)
        if found is None:
            raise ConfigError("No shadow models were asked for. Expected --shadow K.")
        return found

    @property
    def identity(self) -> str:
        """Hash of everything that could change them."""
        questions = [wanted.question for wanted in self._shadows.wanted]
        return hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()

    @functools.cached_property
    def _trained(self) -> list[TrainedModel]:
        made = [self._made(number, wanted) for number, wanted in enumerate(self._shadows.wanted, start=1)]
        self.workshop.release()
        return made

    def _made(self, number: int, wanted: WantedReference) -> TrainedModel:
        self.progress.say(f"Shadow {number} of {len(self._shadows.wanted)} of {self.request.model}")
        for _ in range(2):
            make_reference(
                wanted,
                self.request,
                progress=self.progress,
                stop=self.stop,
                workshop=self.workshop,
                checkpoint_epochs=self.epochs,
            )
            model = read_trained(wanted.folder / "model")
            places = [_place(model, epoch) for epoch in self.epochs] if model else [None]
            if model and all(place is not None and place.exists() for place in places):
                return model
            # Made for an audit, which asks for the end alone, or measured before and let go: made again.
            (wanted.folder / MARK).unlink(missing_ok=True)
            shutil.rmtree(wanted.folder / "model", ignore_errors=True)
        raise RuntimeError(f"shadow {number} keeps no checkpoints")

    def views(self, epoch: float, gather: Callable[[JointPlan], Mapping[str, TokenTable]]) -> dict[str, TokenTable]:
        """What the shadows said after as many epochs as the run that is measured, by view.

        Args:
            epoch: Of that run.
            gather: Gives the evidence of a plan's views on the audited records.
        """
        asked = min(self.epochs, key=lambda one: abs(one - epoch))
        plans = {
            f"shadow {number}": plan_models(
                str(_place(model, asked)),
                base=self._shadows.wanted[0].base_folder,
                offline=self.request.offline,
                alone=True,
            )
            for number, model in enumerate(self._trained, start=1)
        }
        found = gather(plan_together(plans, self._shadows.wanted[0].plan.tokenizer_fingerprint))
        return self._shadows.halves.views([found[name] for name in plans], seed=self.request.seed)

    def let_go(self) -> None:
        """Remove the checkpoints and what was scored of them; the final models stay."""
        for folder in self.passing_evidence:
            shutil.rmtree(folder, ignore_errors=True)
        for wanted in self._shadows.wanted:
            shutil.rmtree(wanted.folder / "model" / "training" / "checkpoints", ignore_errors=True)


def _place(model: TrainedModel, epoch: float) -> Path | None:
    """The weights of a shadow after so many epochs; None where none were kept.

    A shadow has other steps to the epoch than its target, so that moments need not fall on the same point: about a
    step is let pass.
    """
    last = model.moments[-1]
    kept = [moment for moment in model.moments if moment.checkpoint or moment.step == model.chosen.step]
    moment = min(kept, key=lambda moment: abs(moment.epoch - epoch))
    if abs(moment.epoch - epoch) > 1.5 * last.epoch / last.step:
        return None
    return model.path if moment.step == model.chosen.step else model.path / str(moment.checkpoint)
