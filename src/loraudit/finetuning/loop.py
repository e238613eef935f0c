"""One training loop for all methods: it can be killed at any step and goes on to the same weights."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from loraudit.errors import Diverged, ModelError
from loraudit.execution import Interrupted, Progress, StopRequest
from loraudit.finetuning.examples import Example, Pack
from loraudit.finetuning.forward import Forward, enough_memory
from loraudit.finetuning.history import ExposureLog, History, Moment
from loraudit.finetuning.order import Order
from loraudit.finetuning.parts import Row, per_example, seed_part
from loraudit.finetuning.private import PrivateTraining
from loraudit.finetuning.spread import low_rank_pairs, spread_penalty
from loraudit.finetuning.state import read_state, restore_state, save_state
from loraudit.models.live import undisturbed
from loraudit.spec import Recipe
from loraudit.types import IntArray

SECONDS_BETWEEN_STATES = 60.0
_N_FOR_NGRAMS = 200
Observe = Callable[[Any, Moment], None]
"""(model in evaluation mode, moment): looks at a model while it is trained, and leaves it as it was."""
_SAMPLE = 1


@dataclass
class Run:
    """Everything the loop works with.

    Attributes:
        module: The model as it is saved.
        trainee: The same as it is run: wrapped where gradients are taken per record.
        recipe: How.
        examples: To train on.
        n_copies: [examples] how often each stands in an epoch.
        held_out: To take the validation loss on.
        max_length: Longest window, and the length of a pack.
        device: Where.
        accelerator: Of accelerate.
        pad_id: Fills rows of a classifier.
        folder: For states, checkpoints and the exposure log.
        save_model: Writes the model as it stands to a folder, whole or not at all.
        identity: What the run is made from; a state of anything else is not resumed.
        progress: Told of steps.
        stop: Asked between steps.
        private: Set where training is differentially private.
        seconds_between_states: How much work a kill may cost.
        observe: Called at every moment, before its state is saved.
        observe_at: Epochs of further moments.
    """

    module: Any
    trainee: Any
    recipe: Recipe
    examples: Sequence[Example]
    n_copies: IntArray
    held_out: Sequence[Example]
    max_length: int
    device: str
    accelerator: Any
    pad_id: int
    folder: Path
    save_model: Callable[[Path], None]
    identity: dict[str, Any]
    progress: Progress
    stop: StopRequest | None
    private: PrivateTraining | None = None
    seconds_between_states: float = SECONDS_BETWEEN_STATES
    observe: Observe | None = None
    observe_at: Sequence[float] = ()
    history: History = field(default_factory=History)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How training ended.

    Attributes:
        history: Moments along the way.
        chosen: The moment whose weights are the result.
        stopped_because: Why it ended before its last epoch; None where it did not.
        n_steps: Steps done.
    """

    history: History
    chosen: Moment
    stopped_because: str | None
    n_steps: int


def train(run: Run) -> Outcome:
    """Train to the end, from the beginning or from the last saved state.

    Raises:
        Diverged: The loss stopped being a number.
        EnvironmentFault: A batch does not fit into memory.
        Interrupted: A stop was asked for; the state is saved.
        StoreError: A state or checkpoint cannot be written.
    """
    return _Loop(run).train()


class _Standing(NamedTuple):
    """Where a saved state stands: `_save_state` says what each is."""

    step: int
    history: History
    stopped_because: str | None
    selects: bool
    secret: int | None


class _Loop:
    def __init__(self, run: Run) -> None:
        self.run, self.recipe, self.history = run, run.recipe, run.history
        trained = ((name, p) for name, p in run.module.named_parameters() if p.requires_grad)
        # In the optimiser's order: matrices, then what weight decay leaves alone.
        self.parameters = dict(sorted(trained, key=lambda item: item[1].ndim < 2))
        matrices = [p for p in self.parameters.values() if p.ndim >= 2]
        others = [p for p in self.parameters.values() if p.ndim < 2]
        decayed = [
            {"params": matrices, "weight_decay": run.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer: Any = torch.optim.AdamW(
            [group for group in decayed if group["params"]],
            lr=run.recipe.learning_rate,
            fused=run.device.split(":")[0] in {"cpu", "cuda"},
        )
        self.step_optimizer = self.optimizer
        if run.private:
            self.step_optimizer = run.private.optimizer(self.optimizer)
        elif run.recipe.mixed_precision == "fp16":
            self.step_optimizer = run.accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        self.forward = Forward(
            run.trainee, run.recipe, run.device, autocast=run.accelerator.autocast, pad_id=run.pad_id
        )
        self.log = ExposureLog(run.folder)
        self.ordinary = Order(run.recipe, run.examples, run.n_copies, run.max_length)
        self.order = run.private or self.ordinary
        self.steps_per_epoch = self.order.steps_per_epoch
        self.n_steps = run.recipe.epochs * self.steps_per_epoch
        self.step = 0
        self.stopped_because: str | None = None
        self.saved_at = time.monotonic()

    # --- the loop ---------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        run, recipe = self.run, self.recipe
        if not self._resume():
            self.forward.check(run.examples, self.ordinary.batches(0)[0])  # a private step may be empty
            if run.held_out or run.observe:
                self._take_moment(keep=False)
        run.progress.stage(f"Tuning ({recipe.method})", self.n_steps, "steps")
        if self.step:
            run.progress.advance(self.step)
        run.trainee.train()
        moments = self._moments()
        for epoch in range(self.step // self.steps_per_epoch, recipe.epochs):
            if self.stopped_because:
                break
            batches = self.order.batches(epoch)
            for position in range(self.step - epoch * self.steps_per_epoch, self.steps_per_epoch):
                self._stop_where_asked()
                self._take_step(batches[position])
                run.progress.advance(1)
                if self.step in moments:
                    self._take_moment(keep=moments[self.step])
                    if position + 1 == self.steps_per_epoch:
                        self.stopped_because = self._reason_to_stop()
                    self._save_state()
                elif time.monotonic() - self.saved_at >= run.seconds_between_states:
                    self._save_state()
        run.trainee.eval()
        self.log.flush(self.step)
        self.log.join(self.step)
        return Outcome(self.history, self._chosen(), self.stopped_because, self.step)

    def _stop_where_asked(self) -> None:
        if self.run.stop is None:
            return
        try:
            self.run.stop.check()
        except Interrupted:
            self._save_state()
            raise

    def _take_step(self, packs: Sequence[Pack]) -> None:
        rate = self.recipe.learning_rate * schedule(self.recipe, self.step, self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with enough_memory(self.run.device):
            if self.run.private:
                rows = self.run.private.step(self.forward, self.step_optimizer, packs, self.step)
            else:
                rows = self._ordinary_step(packs)
        self.step += 1
        if rows:
            positions, totals, counts = (np.concatenate(column) for column in zip(*rows, strict=True))
            total = float(totals.sum())
            if not math.isfinite(total):
                raise Diverged(
                    f"The loss became {total} in step {self.step} of {self.n_steps}. Lower the learning rate (now "
                    f"{self.recipe.learning_rate:g})"
                    + (" or train in fp32 or bf16." if self.recipe.mixed_precision == "fp16" else "."),
                    step=self.step,
                    n_steps=self.n_steps,
                )
            records = np.array([self.run.examples[position].record for position in positions])
            self.log.add(self.step, records, totals, counts)
            self.history.seen(total, int(counts.sum()))

    def _ordinary_step(self, packs: Sequence[Pack]) -> list[Row]:
        micro = self.recipe.micro_batch_size or len(packs)
        parts = [packs[start : start + micro] for start in range(0, len(packs), micro)]
        n_predictions = sum(self._n_predictions(position) for pack in packs for position in pack)
        rows: list[Row] = []
        for number, part in enumerate(parts):
            seed_part(self.recipe.seed, self.step, number)
            found = self.forward(self.run.examples, part)
            self.run.accelerator.backward(found.objective.sum() / n_predictions)
            rows.append(per_example(found.losses, found.owner, part))
        if self.recipe.spread:
            self.run.accelerator.backward(self.recipe.spread * spread_penalty(low_rank_pairs(self.run.module)))
        self.run.accelerator.clip_grad_norm_(list(self.parameters.values()), self.recipe.max_gradient_norm)
        self.step_optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return rows

    def _refuse_nonfinite(self) -> None:
        """The loss is taken before a step: what the last one did shows in the weights alone."""
        for name, parameter in self.parameters.items():
            if not bool(parameter.isfinite().all()):
                raise Diverged(
                    f"Parameter '{name}' is not finite after step {self.step} of {self.n_steps}. Lower the learning "
                    f"rate (now {self.recipe.learning_rate:g}).",
                    step=self.step,
                    n_steps=self.n_steps,
                )

    def _n_predictions(self, position: int) -> int:
        if self.recipe.task == "classification":
            return 1
        return int(self.run.examples[position].is_trained.sum())

    # --- moments ----------------------------------------------------------------------------------------

    def _moments(self) -> dict[int, bool]:
        """Steps after which losses are taken, the end of every epoch among them, and whether weights are kept."""
        per_epoch, steps, epochs = self.recipe.checkpoints, self.steps_per_epoch, self.recipe.epochs
        moments = {steps * (epoch + 1): per_epoch > 0 for epoch in range(epochs)}
        moments = {self._step_after(epoch): False for epoch in self.run.observe_at} | moments
        moments |= {math.ceil(steps * i / per_epoch): True for i in range(1, epochs * per_epoch + 1)}
        moments |= {self._step_after(epoch): True for epoch in self.recipe.checkpoint_epochs}
        return {step: keeps for step, keeps in moments.items() if step <= self.n_steps}

    def _step_after(self, epoch: float) -> int:
        return max(1, round(self.steps_per_epoch * epoch))

    def _take_moment(self, *, keep: bool) -> None:
        run, recipe = self.run, self.recipe
        self._refuse_nonfinite()
        found = self.forward.measure(run.held_out) if run.held_out else None
        ngram_score = None
        if recipe.ngram_limit is not None:
            chosen = np.random.default_rng([recipe.seed, _SAMPLE]).permutation(len(run.examples))[:_N_FOR_NGRAMS]
            score = self.forward.measure([run.examples[i] for i in sorted(chosen)]).ngram_score
            ngram_score = None if math.isnan(score) else score
        moment = Moment(
            step=self.step,
            epoch=self.step / self.steps_per_epoch,
            training_loss=self.history.running_loss,
            validation_loss=found.loss if found else None,
            validation_accuracy=found.accuracy if found else None,
            ngram_score=ngram_score,
            n_predictions=self.history.n_predictions,
            checkpoint=f"training/checkpoints/step-{self.step:06d}" if keep else None,
        )
        if keep:
            run.save_model(run.folder / "checkpoints" / f"step-{self.step:06d}")
        if found:
            run.progress.say(
                f"Epoch {moment.epoch:.3g}: validation loss {found.loss:.4f}"
                + ("" if moment.training_loss is None else f", training loss {moment.training_loss:.4f}")
            )
        if run.observe:
            with undisturbed(run.module), torch.no_grad():
                run.observe(run.module, moment)
        best = self.history.best
        self.history.add(moment)
        is_best = self.history.best is moment and moment is not best
        is_below = ngram_score is None or recipe.ngram_limit is None or ngram_score < recipe.ngram_limit
        if self.step and ((recipe.select == "best" and is_best) or (recipe.ngram_limit is not None and is_below)):
            run.save_model(run.folder / "chosen")

    def _reason_to_stop(self) -> str | None:
        recipe, moments = self.recipe, self.history.moments
        last, best = moments[-1], self.history.best
        if self.step == self.n_steps:
            return None
        if recipe.ngram_limit is not None and (last.ngram_score or 0) >= recipe.ngram_limit:
            return (
                f"{100 * (last.ngram_score or 0):.3g} % of the training records' n-grams are predicted word for word, "
                f"at least the limit of {100 * recipe.ngram_limit:g} %"
            )
        if recipe.patience and best and last.epoch - best.epoch >= recipe.patience:
            return f"the validation loss has not fallen for {recipe.patience} epochs"
        return None

    def _chosen(self) -> Moment:
        recipe, moments = self.recipe, [m for m in self.history.moments if m.step]
        if recipe.ngram_limit is not None:
            below = [m for m in moments if (m.ngram_score or 0) < recipe.ngram_limit]
            if not below:
                raise ModelError(
                    f"No epoch stayed below the n-gram limit of {100 * recipe.ngram_limit:g} %: the first had "
                    f"{100 * (moments[0].ngram_score or 0):.3g} %. Raise ngram_limit, lower the learning rate, or take "
                    "more checkpoints per epoch."
                )
            return below[-1]
        best = self.history.best
        return best if recipe.select == "best" and best else moments[-1]

    # --- state ------------------------------------------------------------------------------------------

    def _save_state(self) -> None:
        self.log.flush(self.step)
        position = {
            "identity": self.run.identity,
            "step": self.step,
            "history": self.history.content(),
            "stopped_because": self.stopped_because,
            "selects": self.forward.selects,
            "secret": self.run.private.secret if self.run.private else None,
        }
        save_state(self.run.folder, self.parameters, self.optimizer, position)
        self.saved_at = time.monotonic()

    def _resume(self) -> bool:
        state = read_state(self.run.folder)
        found = self._standing(state.position) if state else None
        if state is None or found is None or not self.log.go_on_after(found.step):
            self.log.clear()
            for left in ("checkpoints", "chosen"):
                shutil.rmtree(self.run.folder / left, ignore_errors=True)
            return False
        restore_state(state, self.parameters, self.optimizer)
        self.step, self.history, self.stopped_because, self.forward.selects, secret = found
        if self.run.private and secret is not None:
            self.run.private.secret = secret
        self.run.progress.say(f"Going on after step {self.step} of {self.n_steps}")
        return True

    def _standing(self, position: dict[str, Any]) -> _Standing | None:
        """Where a state stands; None if it is of another request or version."""
        try:
            if position["identity"] != self.run.identity:
                return None
            history = History.read(position["history"])
            return _Standing(
                int(position["step"]),
                history,
                position["stopped_because"],
                bool(position["selects"]),
                position["secret"],
            )
        except (KeyError, TypeError, ValueError):
            return None


def schedule(recipe: Recipe, step: int, n_steps: int) -> float:
    """Factor of the learning rate in the step counted from 0."""
    n_warm = math.ceil(recipe.warmup * n_steps)
    if step < n_warm:
        return step / n_warm
    done = (step - n_warm) / max(1, n_steps - n_warm)
    if recipe.schedule == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if recipe.schedule == "cosine" else 1.0
