"""One resident copy and records: the norm of each record's gradient in the parameters that tuning trained."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Any, NamedTuple

import numpy as np
import torch

from loraudit.capture.hooks import recorded_calls
from loraudit.capture.norms import linear_maps, squared_norms_of_calls
from loraudit.errors import EnvironmentFault
from loraudit.execution import StopRequest
from loraudit.models import Resident
from loraudit.models.numerics import is_out_of_memory
from loraudit.models.plan import TARGET
from loraudit.types import IntArray

_TOLERANCE = {torch.float32: 1e-3}
_TOLERANCE_HALF = 0.1
"""How far a norm in a batch may lie from that of the record alone, as a share of it."""


class Piece(NamedTuple):
    """One window of a record.

    Attributes:
        ids: [L] token ids.
        predicted: [n] positions of the audited tokens whose prediction counts here, each at least 1.
    """

    ids: IntArray
    predicted: IntArray


class GradientMeter:
    """Measures ‖∂(mean −log p over a record's audited tokens)/∂θ‖₂, θ being what tuning trained.

    θ are all parameters of an adapter (LoRA's A and B, magnitudes, modules saved whole); those in which a partly tuned
    checkpoint differs from its base; and all parameters of a checkpoint that differs in most. Where θ are weights and
    biases of linear maps alone, records of one window go through the model in batches. Records of several windows, and
    all records for any other θ, take one pass each. Which way is exact for this model is proven on a probe first.

    Args:
        resident: Has the view `target`.
        batch_tokens: Tokens per pass; lowered when memory runs out.

    Raises:
        EnvironmentFault: There is no memory for a single short text.

    Attributes:
        n_backoffs: How often a batch was split because memory ran out.
        parameters: θ.
        is_batched: Whether several records share a pass.
        uses_mask: Whether the model is given an attention mask; one with causal attention needs none.
    """

    def __init__(self, resident: Resident, *, batch_tokens: int) -> None:
        self.resident = resident
        self.batch_tokens = batch_tokens
        self.n_backoffs = 0
        self.parameters: list[Any] = list(resident.tuned or resident.module.parameters())
        self._maps = linear_maps(resident.module, self.parameters)
        self.is_batched = False
        self.uses_mask = False
        try:
            self._prove()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise EnvironmentFault(
                f"The model leaves no memory on {resident.device} for the gradient of a short text. Use a lower "
                "--precision or another --device, or leave out --gradients."
            ) from None

    def describe(self) -> str:
        """How it is done, for the result."""
        n = sum(parameter.numel() for parameter in self.parameters)
        return f"gradients in {n:,} parameters, {'in batches' if self.is_batched else 'one record at a time'}"

    def norms(self, records: Seq[Seq[Piece]], stop: StopRequest | None = None) -> list[float | None]:
        """Of each record, in nats per audited token and unit of θ.

        Args:
            records: Windows of each; none, or none with an audited token, gives NaN.
            stop: Asked between passes.

        Returns:
            NaN where undefined or not finite; None where memory did not suffice even for that record alone.
        """
        found: list[float | None] = [math.nan] * len(records)
        asked = [[piece for piece in pieces if len(piece.predicted)] for pieces in records]
        alone = [i for i, pieces in enumerate(asked) if len(pieces) > (1 if self.is_batched else 0)]
        together = [i for i, pieces in enumerate(asked) if self.is_batched and len(pieces) == 1]
        pending = self._batches(together, asked)[::-1]
        pending += [[i] for i in alone[::-1]]
        while pending:
            if stop:
                stop.check()
            batch = pending.pop()
            try:
                values = self._measured([asked[i] for i in batch])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                values = None
            if values is None:  # outside the handler, whose traceback would keep the tensors alive
                self._free_memory()
                self.n_backoffs += 1
                if len(batch) > 1:
                    longest = max(len(asked[i][0].ids) for i in batch)
                    self.batch_tokens = max(16, min(self.batch_tokens, longest * len(batch) // 2))
                    pending += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
                else:
                    found[batch[0]] = None
                continue
            for i, value in zip(batch, values, strict=True):
                found[i] = value if math.isfinite(value) else math.nan
        return found

    def _batches(self, which: Seq[int], asked: Seq[Seq[Piece]]) -> list[list[int]]:
        """Records of similar length, padding included at most `batch_tokens` tokens."""
        order = sorted(which, key=lambda i: -len(asked[i][0].ids))
        batches: list[list[int]] = []
        while order:
            size = max(1, self.batch_tokens // len(asked[order[0]][0].ids))
            batches.append(order[:size])
            order = order[size:]
        return batches

    def _measured(self, records: Seq[Seq[Piece]]) -> list[float]:
        if len(records) == 1 and (len(records[0]) > 1 or not self.is_batched):
            return [self.norm_alone(records[0])]
        return self._norms_together([pieces[0] for pieces in records])

    # --- two ways to the same number --------------------------------------------------------------------

    def norm_alone(self, pieces: Seq[Piece]) -> float:
        """The plain way: the gradient of one record, formed, summed over its windows and measured."""
        total: list[torch.Tensor | None] = [None] * len(self.parameters)
        with self._differentiable():
            for piece in pieces:
                loss = self._summed_loss([piece])
                parts = torch.autograd.grad(loss, self.parameters, allow_unused=True)
                for i, part in enumerate(parts):
                    if part is not None:
                        before = total[i]
                        total[i] = part if before is None else before + part
        squares = [float(part.float().square().sum(dtype=torch.float64)) for part in total if part is not None]
        return math.sqrt(sum(squares)) / sum(len(piece.predicted) for piece in pieces)

    def _norms_together(self, pieces: Seq[Piece]) -> list[float]:
        """The same for records of one window each, from what went into the linear maps and came back to them."""
        maps = self._maps or []
        with self._differentiable(), recorded_calls(one.module for one in maps) as calls:
            loss = self._summed_loss(pieces)
            gradients = torch.autograd.grad(loss, [call.output for call in calls], allow_unused=True)
        squares = squared_norms_of_calls(maps, calls, gradients).numpy()
        if len(squares) != len(pieces):
            raise ValueError("a layer mixes records")
        return (np.sqrt(squares) / np.array([len(piece.predicted) for piece in pieces])).tolist()

    @contextlib.contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Within, the model is the target and θ requires gradients."""
        before = [parameter.requires_grad for parameter in self.parameters]
        with torch.enable_grad(), self.resident.views[TARGET]():
            for parameter in self.parameters:
                parameter.requires_grad_(True)
            try:
                yield
            finally:
                for parameter, required in zip(self.parameters, before, strict=True):
                    parameter.requires_grad_(required)

    def _summed_loss(self, pieces: Seq[Piece]) -> torch.Tensor:
        """Σ −log p of the audited tokens of all the pieces, with its graph; padding stands on the right."""
        device = self.resident.device
        lengths = np.array([len(piece.ids) for piece in pieces])
        ids = np.zeros((len(pieces), lengths.max()), dtype=np.int64)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece.ids)] = piece.ids
        inputs = {"input_ids": torch.from_numpy(ids).to(device)}
        if self.uses_mask:
            is_token = np.arange(ids.shape[1])[None] < lengths[:, None]
            inputs["attention_mask"] = torch.from_numpy(is_token.astype(np.int64)).to(device)
        logits = self.resident.module(use_cache=False, **inputs).logits[:, -ids.shape[1] :]
        rows = np.repeat(np.arange(len(pieces)), [len(piece.predicted) for piece in pieces])
        predicted = np.concatenate([piece.predicted for piece in pieces])
        gold = ids[rows, predicted]
        where = [torch.from_numpy(array).to(logits.device) for array in (rows, predicted - 1, gold)]
        kept = logits[where[0], where[1]].float()
        return torch.nn.functional.cross_entropy(kept, where[2], reduction="sum")

    # --- proof before the first record ------------------------------------------------------------------

    def _prove(self) -> None:
        """Take the first way of batching that gives two texts, one of them padded, the norms they have alone."""
        ids = (np.arange(40, dtype=np.int64) * 7919 + 11) % self.resident.vocabulary_size
        probe = [Piece(ids[:24], np.arange(1, 24)), Piece(ids[24:], np.arange(3, 16))]
        expected = np.array([self.norm_alone([piece]) for piece in probe])
        if self._maps is None or not np.isfinite(expected).all():
            return
        is_exact = {parameter.dtype for parameter in self.resident.module.parameters()} == {torch.float32}
        tolerance = _TOLERANCE[torch.float32] if is_exact else _TOLERANCE_HALF
        for uses_mask in (False, True):
            self.uses_mask = uses_mask
            try:
                norms = np.array(self._norms_together(probe))
            except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise
                continue  # this way does not apply to the architecture
            if (np.abs(norms - expected) <= tolerance * expected).all():
                self.is_batched = True
                return
        self.uses_mask = False

    def _free_memory(self) -> None:
        if self.resident.device.startswith("cuda"):
            torch.cuda.empty_cache()
        elif self.resident.device.startswith("mps"):
            torch.mps.empty_cache()
