"""Each record's gradient in the linear maps that were trained, as a few random numbers that keep its geometry."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import torch

from loraudit.capture.hooks import Call, recorded_calls
from loraudit.data import Encoded
from loraudit.errors import ModelError
from loraudit.models.live import undisturbed
from loraudit.scoring.classifying import PaddedBatch, in_batches
from loraudit.types import FloatArray, IntArray

SummedLoss = Callable[[PaddedBatch], torch.Tensor]
"""From a batch to the sum of its records' losses, with its graph."""


def projected_gradients(
    module: Any,
    rows: Seq[IntArray],
    loss: SummedLoss,
    *,
    device: str,
    n_dimensions: int,
    seed: int,
    batch_size: int = 8,
) -> FloatArray:
    """Random projections of each record's gradient, from one forward and backward pass of its batch.

    Of the gradient G of a linear map each number is uᵀ G v for fixed Gaussian u and v, or Σ_t ⟨g_t, u⟩⟨a_t, v⟩, so that
    G is never formed. Summed over the maps and divided by √k, inner products are kept in expectation.

    Args:
        module: Parameters that require a gradient count, all where none does; those outside linear maps, such as
            embeddings and norms, do not. Left as it was.
        rows: [N] of [L] token ids.
        loss: Of a batch.
        device: Where the module is.
        n_dimensions: k.
        seed: Of u and v.
        batch_size: Rows in one pass.

    Returns:
        [N, k] float32; NaN where a row is empty.

    Raises:
        ModelError: No linear map was trained, or one sees records mixed.
        EnvironmentFault: A single row does not fit into memory.
    """
    with undisturbed(module), torch.enable_grad():
        maps = _trained_maps(module)
        for part in maps:
            part.weight.requires_grad_(True)
        sketch = _Sketch(maps, n_dimensions, seed)
        with recorded_calls(maps) as calls:

            def read(batch: PaddedBatch) -> torch.Tensor:
                own = [call for call in calls if call.output.requires_grad]
                calls.clear()
                gradients = torch.autograd.grad(loss(batch), [call.output for call in own], allow_unused=True)
                return sketch.of(own, gradients, len(batch.members))

            return in_batches(module, rows, read, device=device, batch_size=batch_size)


def classification_loss(labels: IntArray) -> SummedLoss:
    """Cross-entropy of each record's label.

    Args:
        labels: [N] of all the rows.
    """

    def loss(batch: PaddedBatch) -> torch.Tensor:
        logits = batch.output.logits.float()
        gold = torch.from_numpy(labels[batch.members].astype(np.int64)).to(logits.device)
        return torch.nn.functional.cross_entropy(logits, gold, reduction="sum")

    return loss


def completion_loss(encoded: Seq[Encoded]) -> SummedLoss:
    """−log p of each record's audited tokens, a mean over them.

    Args:
        encoded: [N] all the records, whose ids are the rows.
    """

    def loss(batch: PaddedBatch) -> torch.Tensor:
        total = torch.zeros((), device=batch.output.logits.device)
        logits = batch.output.logits[:, -int(batch.lengths.max()) :]  # without virtual tokens in front
        for row, i in enumerate(batch.members):
            places = np.flatnonzero(encoded[i].is_audited[1:])
            if len(places):
                gold = torch.from_numpy(encoded[i].ids[places + 1].astype(np.int64)).to(logits.device)
                total = total + torch.nn.functional.cross_entropy(logits[row, places].float(), gold)
        return total

    return loss


def _trained_maps(module: Any) -> list[Any]:
    """Linear maps whose weight was trained.

    Raises:
        ModelError: There is none.
    """
    from transformers.pytorch_utils import Conv1D

    maps = [part for part in module.modules() if isinstance(part, torch.nn.Linear | Conv1D)]
    none_trained = not any(parameter.requires_grad for parameter in module.parameters())
    found = [part for part in maps if none_trained or part.weight.requires_grad]
    if not found:
        raise ModelError(
            f"None of the parameters that {type(module).__name__} was tuned in belongs to a linear map. Expected one. "
            "Leave out detectors that need gradients."
        )
    return found


class _Sketch:
    """The fixed directions of all maps.

    Args:
        maps: In a fixed order.
        n_dimensions: k.
        seed: Of all of them.
    """

    def __init__(self, maps: Seq[Any], n_dimensions: int, seed: int) -> None:
        self.n_dimensions = n_dimensions
        self._place = {id(part): place for place, part in enumerate(maps)}
        self._seed = seed
        self._directions: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def directions(self, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
        """[outputs, k] u and [inputs (+ 1 for a bias), k] v of a map."""
        key = id(call.module)
        if key not in self._directions:
            rng = np.random.default_rng([self._seed, self._place[key]])
            n_inputs = call.inputs.shape[-1] + (call.module.bias is not None)
            both = [rng.standard_normal((n, self.n_dimensions)) for n in (call.output.shape[-1], n_inputs)]
            u, v = (torch.from_numpy(one.astype(np.float32)).to(call.output.device) for one in both)
            self._directions[key] = u / self.n_dimensions**0.5, v
        return self._directions[key]

    def of(self, calls: Seq[Call], gradients: Seq[torch.Tensor | None], n_rows: int) -> torch.Tensor:
        """[B, k]."""
        total = torch.zeros(n_rows, self.n_dimensions)
        for call, gradient in zip(calls, gradients, strict=True):
            if gradient is None:
                continue
            if len(call.inputs) != n_rows:
                raise ModelError(
                    f"A linear map sees {len(call.inputs)} rows for {n_rows} records, so their gradients are "
                    "not apart. Expected one row per record. Leave out detectors that need gradients."
                )
            u, v = self.directions(call)
            entered = call.inputs.float().flatten(1, -2) if call.inputs.ndim > 2 else call.inputs.float()[:, None]
            returned = gradient.float().reshape(n_rows, entered.shape[1], -1)
            if call.module.bias is not None:
                entered = torch.cat([entered, torch.ones_like(entered[..., :1])], dim=2)
            total += ((returned @ u) * (entered @ v)).sum(dim=1).cpu()
        return total
