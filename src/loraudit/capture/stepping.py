"""One real step of gradient descent, to be set beside the one that a kernel predicts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from loraudit.capture.directions import draw_directions
from loraudit.capture.functionals import Functional
from loraudit.capture.parameters import Counted, counted_parameters
from loraudit.models.live import undisturbed
from loraudit.scoring.classifying import PaddedBatch, in_batches
from loraudit.theory import Family, TuningMethod, lora_scale
from loraudit.types import FloatArray, IntArray


class Stepper:
    """Takes steps down the squared loss ½ Σ (y − f)² of some rows, from the base, and takes them back.

    Args:
        module: The base; left as it was.
        rows: [n] of token ids.
        functional: f of a batch.
        residuals: [n] y − f at the base, or what else the step moves each f by; 0 where a row is only watched.
        head: Names of the modules of the head, as for `kernel_parts`.
        device: Where the module is.
        batch_size: Rows in one pass.
    """

    def __init__(
        self,
        module: Any,
        rows: Sequence[IntArray],
        functional: Functional,
        residuals: FloatArray,
        *,
        head: Sequence[str] | None,
        device: str,
        batch_size: int,
    ) -> None:
        self.module, self.rows, self.functional = module, rows, functional
        self.device, self.batch_size = device, batch_size
        self.residuals, self.head = residuals, head
        self.counted = counted_parameters(module, head)
        self._gradients = self._measured(residuals)
        self._own_weights: list[torch.nn.Parameter] = []
        self._untied: Stepper | None = None

    def is_exact(self, candidate: TuningMethod) -> bool:
        """Whether f is linear in what the method trains: a head that is one map, shared with the embedding."""
        return candidate.method == "head" and not any(one.is_head and len(one.uses) == 1 for one in self.counted)

    def values_after(self, candidate: TuningMethod, step: float, *, family: Family, seed: int) -> FloatArray:
        """[n] f after one step of a method; of LoRA with the first draw of A.

        Args:
            candidate: The method.
            step: η, in the method's own parameters.
            family: Of A.
            seed: Of A's draws.
        """
        if candidate.method == "head" and any(_is_tied(one) for one in self.counted):
            with self._own_head() as stepper:
                return stepper.values_after(candidate, step, family=family, seed=seed)
        with undisturbed(self.module), torch.no_grad(), self._moved(candidate, step, family, seed):
            found = in_batches(self.module, self.rows, self.functional, device=self.device, batch_size=self.batch_size)
        return found.astype(np.float64)

    @contextlib.contextmanager
    def _own_head(self) -> Iterator[Stepper]:
        """Steps on the model while its head has weights of its own, as head-only tuning gives it before it begins."""
        tied = [one for one in self.counted if _is_tied(one)]
        shared = [(use.module, one.parameter) for one in tied for use in one.uses if use.is_head]
        if not self._own_weights:
            self._own_weights = [torch.nn.Parameter(weight.detach().clone()) for _, weight in shared]
        try:
            for (layer, _), weight in zip(shared, self._own_weights, strict=True):
                layer.weight = weight
            if self._untied is None:
                self._untied = Stepper(
                    self.module,
                    self.rows,
                    self.functional,
                    self.residuals,
                    head=self.head,
                    device=self.device,
                    batch_size=self.batch_size,
                )
            yield self._untied
        finally:
            for layer, weight in shared:
                layer.weight = weight

    def _measured(self, residuals: FloatArray) -> list[torch.Tensor]:
        """Σ residual · ∂f/∂θ of every parameter that counts: down the squared loss."""
        parameters = [one.parameter for one in self.counted]
        total = [torch.zeros_like(parameter) for parameter in parameters]

        def read(batch: PaddedBatch) -> torch.Tensor:
            values = self.functional(batch)
            wanted = torch.from_numpy(residuals[batch.members]).to(values)
            found = torch.autograd.grad((wanted * values).sum(), parameters, allow_unused=True)
            for own, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    own.add_(gradient)
            return values.detach()

        with undisturbed(self.module), torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_(True)
            in_batches(self.module, self.rows, read, device=self.device, batch_size=self.batch_size)
        return total

    @contextlib.contextmanager
    def _moved(self, candidate: TuningMethod, step: float, family: Family, seed: int) -> Iterator[None]:
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        try:
            for one, gradient in zip(self.counted, self._gradients, strict=True):
                update = self._update(candidate, one, gradient, family, seed)
                if update is not None:
                    kept.append((one.parameter, one.parameter.detach().clone()))
                    one.parameter.add_(update, alpha=step)
            yield
        finally:
            for parameter, before in kept:
                parameter.copy_(before)

    def _update(
        self, candidate: TuningMethod, one: Counted, gradient: torch.Tensor, family: Family, seed: int
    ) -> torch.Tensor | None:
        """What a step of length 1 adds to the parameter; None where the method leaves it alone."""
        method, of_head = candidate.method, one.is_head and candidate.trains_head
        if method == "full" or (method == "head" and one.is_head) or (method in {"bitfit", "lora"} and of_head):
            return gradient
        if method == "bitfit" and one.part == "biases":
            return gradient
        if method != "lora" or not one.is_map or not candidate.adapts(one.kind):
            return None
        turned = isinstance(one.uses[0].module, Conv1D)
        g = gradient.T if turned else gradient
        a = draw_directions(family, rank=candidate.rank, width=g.shape[1], name=one.name, draw=0, seed=seed)
        rows = torch.from_numpy(a).to(g)
        scale = lora_scale(candidate.rank, candidate.alpha, candidate.scaling)
        update = scale**2 * candidate.variance * ((g @ rows.T) @ rows)
        return update.T if turned else update


def _is_tied(one: Counted) -> bool:
    """Whether the head and a layer outside it use the same parameter."""
    return one.is_head and not all(use.is_head for use in one.uses)
