"""Differentially private training with opacus: one record's gradient at a time, clipped, summed and drowned in noise.

The unit of privacy is the record: all windows and all copies of it are clipped together. Each step takes every
record with the same probability (Poisson sampling), so a batch can be empty; it then costs privacy all the same and
is counted.

References:
    Abadi et al. 2016, arXiv:1607.00133; Yousefpour et al. 2021, arXiv:2109.12298 (opacus).
"""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loraudit.errors import ConfigError, DataError, MissingExtra, ModelError
from loraudit.finetuning.examples import Example, Pack
from loraudit.finetuning.parts import Row, per_example, seed_part
from loraudit.spec import Recipe
from loraudit.types import IntArray

if TYPE_CHECKING:
    from loraudit.finetuning.forward import Forward

_SAME_GRADIENT = 1e-3
_SAMPLING, _NOISE = 10, 11


@dataclass(frozen=True, slots=True)
class Budget:
    """What differential privacy costs and promises.

    Attributes:
        noise: Noise multiplier: standard deviation of the noise divided by the clipping norm.
        delta: δ.
        sample_rate: Probability of a record to be in a step.
        n_steps: Steps of the whole run.
        epsilon: ε after all of them, by Rényi accounting.
    """

    noise: float
    delta: float
    sample_rate: float
    n_steps: int
    epsilon: float

    def after(self, n_steps: int) -> float:
        """ε after so many steps."""
        return spent(self.noise, self.sample_rate, n_steps, self.delta)


def plan_budget(recipe: Recipe, n_records: int) -> Budget:
    """The noise a recipe needs for its ε, or the ε that its noise gives.

    Raises:
        MissingExtra: opacus is not installed.
        ConfigError: The ε cannot be reached, or δ is no smaller than 1 / records.
    """
    _opacus()
    rate = min(1.0, recipe.batch_size / n_records)
    n_steps = recipe.epochs * math.ceil(n_records / recipe.batch_size)
    delta = 1 / (10 * n_records) if recipe.dp_delta is None else recipe.dp_delta
    if delta >= 1 / n_records:
        raise ConfigError(
            f"dp_delta {delta:g} promises nothing for {n_records:,} records: publishing one at random would satisfy "
            f"it. Expected less than {1 / n_records:.2g}."
        )
    noise = recipe.dp_noise
    if noise is None:
        from opacus.accountants.utils import get_noise_multiplier

        target = recipe.dp_epsilon or 0.0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as in `spent`
                noise = float(
                    get_noise_multiplier(
                        target_epsilon=target,
                        target_delta=delta,
                        sample_rate=rate,
                        steps=n_steps,
                        accountant="rdp",
                        epsilon_tolerance=min(0.01, target / 100),
                    )
                )
        except ValueError:
            raise ConfigError(
                f"dp_epsilon {target:g} cannot be reached in {n_steps:,} steps of {recipe.batch_size} of "
                f"{n_records:,} records. Give a larger ε, fewer epochs or more records."
            ) from None
    return Budget(noise, delta, rate, n_steps, spent(noise, rate, n_steps, delta))


def spent(noise: float, sample_rate: float, n_steps: int, delta: float) -> float:
    """ε after `n_steps` of the subsampled Gaussian mechanism, by opacus's Rényi accountant."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise, sample_rate, n_steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the best order lying at the end of its range; ε is then an upper bound
        return max(0.0, float(accountant.get_epsilon(delta=delta)))


def _opacus() -> Any:
    try:
        import opacus
    except ImportError:
        raise MissingExtra("Training with differential privacy", "dp") from None
    return opacus


class PrivateTraining:
    """Steps of one run under differential privacy.

    Args:
        recipe: Clipping norm, seed, batch size.
        examples: All of them.
        n_copies: [examples] exposures in an epoch.
        budget: Noise and sampling rate.
        device: Of the noise.

    Attributes:
        secret: Seed of noise and sampling. Whoever knows it can subtract the noise, so it is drawn at random, kept
            only with the state that a stopped run goes on from, and forgotten with it.
    """

    def __init__(
        self, recipe: Recipe, examples: Sequence[Example], n_copies: IntArray, budget: Budget, device: str
    ) -> None:
        self.recipe, self.examples, self.budget, self.device = recipe, examples, budget, device
        self.of_record: dict[int, list[int]] = {}
        for position, (example, n) in enumerate(zip(examples, n_copies, strict=True)):
            self.of_record.setdefault(example.record, []).extend([position] * int(n))
        self.steps_per_epoch = budget.n_steps // recipe.epochs
        self.secret = recipe.seed if recipe.dp_repeatable else secrets.randbits(128)
        self.trainee: Any = None
        self.name = "The model"

    def wrap(self, module: Any) -> Any:
        """`module` with hooks that keep each row's gradient.

        Raises:
            ModelError: A layer mixes records, or gives no gradient per record.
        """
        _opacus()
        from opacus.grad_sample import GradSampleModule
        from opacus.validators import ModuleValidator

        self.name = type(module).__name__
        problems = ModuleValidator.validate(module.train(), strict=False)
        if problems:
            reasons = "; ".join(str(problem).split("\n")[0] for problem in problems[:3])
            raise ModelError(
                f"{type(module).__name__} cannot be trained with differential privacy: {reasons}. Use another base or "
                "train without --dp-epsilon."
            )
        try:
            self.trainee = GradSampleModule(module, loss_reduction="sum", strict=False)
        except (NotImplementedError, ValueError) as error:
            raise ModelError(
                f"{type(module).__name__} cannot be trained with differential privacy: {error}. Use another base, or "
                "lora instead of full."
            ) from None
        return self.trainee

    def optimizer(self, optimizer: Any) -> Any:
        """The optimiser that clips, sums and adds noise."""
        from opacus.optimizers import DPOptimizer

        return DPOptimizer(
            optimizer,
            noise_multiplier=self.budget.noise,
            max_grad_norm=self.recipe.max_gradient_norm,
            expected_batch_size=max(1, round(self.budget.sample_rate * len(self.of_record))),
            loss_reduction="mean",
            generator=torch.Generator(self.device),
        )

    def batches(self, epoch: int) -> list[list[Pack]]:
        """Each step of an epoch: every record with the same probability, all its windows and copies together."""
        records = np.array(sorted(self.of_record))
        rng = np.random.default_rng([self.secret, epoch, _SAMPLING])
        drawn = rng.random((self.steps_per_epoch, len(records))) < self.budget.sample_rate
        return [[[position] for record in records[row] for position in self.of_record[int(record)]] for row in drawn]

    def step(self, forward: Forward, optimizer: Any, packs: Sequence[Pack], step: int) -> list[Row]:
        """One private step; an empty batch is a step of noise alone."""
        rows: list[Row] = []
        parts = self._parts([pack[0] for pack in packs])
        optimizer.generator.manual_seed(
            int(np.random.SeedSequence([self.secret, step, _NOISE]).generate_state(1, np.uint64)[0] >> 1)
        )
        optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts):
            seed_part(self.recipe.seed, step, number)
            rows.append(self._gradients(forward, self.examples, part))
            if number + 1 < len(parts):
                optimizer.signal_skip_step(True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        if not parts:
            for parameter in optimizer.params:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        optimizer.signal_skip_step(False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return rows

    def _parts(self, positions: Sequence[int]) -> list[list[int]]:
        """Cut into forward passes, never within a record."""
        size = self.recipe.micro_batch_size or self.recipe.batch_size
        parts: list[list[int]] = []
        for position in positions:
            record = self.examples[position].record
            if not parts or (len(parts[-1]) >= size and self.examples[parts[-1][-1]].record != record):
                parts.append([])
            parts[-1].append(position)
        return parts

    def _gradients(self, forward: Forward, examples: Sequence[Example], part: list[int]) -> Row:
        """Leave on each parameter one gradient per record of the part: [records, *shape]."""
        found = forward(examples, [[position] for position in part])
        records = np.array([examples[position].record for position in part])
        distinct, of_row = np.unique(records, return_inverse=True)
        # Each record's loss is the mean over its own predictions: nothing of it depends on who else is in the batch.
        n_predictions = np.bincount(of_row[found.owner], minlength=len(distinct))
        weight = torch.from_numpy((1 / np.maximum(n_predictions, 1))[of_row[found.owner]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks on layers whose input needs no gradient
            (found.objective * weight.to(found.objective)).sum().backward()
        index = torch.from_numpy(of_row).to(self.device)
        for name, parameter in self.trainee.named_parameters():
            if not parameter.requires_grad:
                continue
            rows = getattr(parameter, "grad_sample", None)
            if not isinstance(rows, torch.Tensor) or len(rows) != len(part):
                raise ModelError(
                    f"Parameter '{name}' gives no gradient per record, so it cannot be trained with differential "
                    "privacy. Train fewer modules (--targets), or without --dp-epsilon."
                )
            summed = rows.new_zeros((len(distinct), *rows.shape[1:]))
            parameter.grad_sample = summed.index_add_(0, index, rows)
            parameter.grad = None
        return per_example(found.losses, found.owner, [[position] for position in part])

    def self_test(self, forward: Forward) -> None:
        """One record's gradient must not change when another record of its batch grows.

        A loss averaged over the batch would make it, and the promise of ε with it, depend on the others.

        Raises:
            DataError: There are not two records to test with.
            ModelError: It changes.
        """
        first, mate = self._two_records()
        gradients: list[list[torch.Tensor]] = []
        # Without dropout; but layers with weights of their own are watched in training mode only.
        modes = {part: part.training for part in self.trainee.modules()}
        for part in modes:
            part.training = any(parameter.requires_grad for parameter in part.parameters(recurse=False))
        trained = [parameter for parameter in self.trainee.parameters() if parameter.requires_grad]
        try:
            for beside in (_first_half(mate), mate):
                self._gradients(forward, [first, beside], [0, 1])
                place = 0 if first.record < mate.record else 1
                gradients.append([parameter.grad_sample[place].clone() for parameter in trained])
                for parameter in trained:
                    parameter.grad_sample = None
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, IndexError) as error:
            raise ModelError(
                f"{self.name} cannot be trained with differential privacy by this method: opacus gives no gradient per "
                f"record, probably of {self._unusual()}. Use another method or base, or train without --dp-epsilon."
            ) from error
        finally:
            for parameter in trained:
                parameter.grad_sample = None
            for part, mode in modes.items():
                part.training = mode
        worst = max(
            float((one - two).norm() / two.norm().clamp(min=1e-12)) for one, two in zip(*gradients, strict=True)
        )
        if worst > _SAME_GRADIENT:
            raise ModelError(
                f"A record's own gradient changes by {100 * worst:.2g} % with what else is in the batch, so its "
                "contribution cannot be bounded. This model cannot be trained with differential privacy; train "
                "without --dp-epsilon."
            )

    def _unusual(self) -> str:
        """The kinds of trained layers that opacus has no rule of its own for."""
        kinds = {
            type(part).__name__
            for part in self.trainee.modules()
            if type(part) not in self.trainee.GRAD_SAMPLERS
            and any(parameter.requires_grad for parameter in part.parameters(recurse=False))
        }
        return " or ".join(sorted(kinds)) or "a layer that is called in an unusual way"

    def _two_records(self) -> tuple[Example, Example]:
        """Two records' longest windows."""
        longest: dict[int, Example] = {}
        for example in self.examples:
            if example.record not in longest or len(example.ids) > len(longest[example.record].ids):
                longest[example.record] = example
        if len(longest) < 2:
            raise DataError(
                f"Differential privacy needs at least 2 records to test itself with, {len(longest)} were given. "
                "Give more records."
            )
        mate, first, *_ = sorted(longest.values(), key=lambda example: -len(example.ids))
        return first, mate


def _first_half(example: Example) -> Example:
    """The same record, shorter, with something to train on left."""
    n = max(2, len(example.ids) // 2)
    is_trained = example.is_trained[:n].copy()
    is_trained[1:2] = example.is_trained.any()
    return Example(example.record, example.ids[:n], is_trained, example.label)
