"""One resident copy and a batch: the evidence of every view it can give."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loraudit.errors import ModelError
from loraudit.execution import StopRequest
from loraudit.models import Resident
from loraudit.models.numerics import is_out_of_memory
from loraudit.scoring.batches import Batch, Sequence, make_batch, plan_batches
from loraudit.scoring.head import Reduction, score_hidden, token_statistics
from loraudit.scoring.trunk import hidden_states, logit_tail, recorded_output, skipped
from loraudit.types import Decoding, IntArray

Arrays = dict[str, NDArray[Any]]
OUT_OF_MEMORY = None
"""Stands for a window that does not fit into memory even alone."""

_TOLERANCE = {torch.float32: 1e-3}
_TOLERANCE_HALF = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """How a model is run; the first that reproduces the model's own logits is taken.

    Attributes:
        uses_head: Take hidden states and run the head on kept positions only.
        uses_mask: Pass an attention mask. Causal models need none for padding on the right, and
            without one attention takes its fastest path.
    """

    uses_head: bool
    uses_mask: bool


MODES = (Mode(True, False), Mode(True, True), Mode(False, True))


class Scorer:
    """Scores windows with one resident model.

    Args:
        resident: The model and its views.
        batch_tokens: Tokens per forward pass; lowered when memory runs out.
        decodings: Log-sum-exps to keep.

    Raises:
        ModelError: No way of running the model in batches reproduces its own logits.

    Attributes:
        n_backoffs: How often a batch was split because memory ran out.
        mode: How the model is run.
        shares_layers: Whether leading layers are run once for all views.
    """

    def __init__(self, resident: Resident, *, batch_tokens: int, decodings: Seq[Decoding] = ()) -> None:
        self.resident = resident
        self.batch_tokens = batch_tokens
        self.decodings = tuple(decodings)
        self.n_backoffs = 0
        self._pages = torch.empty(0)
        self._tail = logit_tail(resident.module.config)
        self.shares_layers = False
        self.mode = self._proven_mode()
        self.shares_layers = self._can_share_layers()

    def score(
        self,
        sequences: Seq[Sequence],
        views: Seq[str],
        stop: StopRequest | None = None,
        reduce: Reduction | None = None,
    ) -> dict[str, list[Arrays | None]]:
        """Evidence on each window by view: arrays over its kept predictions, or what `reduce` makes of their logits.

        A batch that does not fit into memory is halved and tried again; a window that does not fit
        alone gets None.
        """
        found: dict[str, list[Arrays | None]] = {view: [OUT_OF_MEMORY] * len(sequences) for view in views}
        pending = plan_batches(sequences, batch_tokens=self.batch_tokens)[::-1]
        while pending:
            if stop:
                stop.check()
            batch = pending.pop()
            try:
                scored = self._score_batch(batch, views, reduce)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                scored = None
            if scored is None:  # outside the handler, whose traceback would keep the tensors alive
                self._free_memory()
                self.n_backoffs += 1
                if len(batch.members) > 1:
                    self.batch_tokens = max(16, min(self.batch_tokens, batch.ids.size // 2))
                    middle = len(batch.members) // 2
                    halves = batch.members[:middle], batch.members[middle:]
                    pending.extend(make_batch(sequences, half) for half in halves[::-1])
                continue
            n_kept = np.bincount(batch.rows, minlength=len(batch.members))
            cuts = np.cumsum(n_kept)[:-1]
            for view, arrays in scored.items():
                pieces = {name: np.split(array, cuts) for name, array in arrays.items()}
                for row, position in enumerate(batch.members):
                    found[view][position] = {name: pieces[name][row] for name in pieces}
        return found

    def _score_batch(self, batch: Batch, views: Seq[str], reduce: Reduction | None = None) -> dict[str, Arrays]:
        resident, device = self.resident, self.resident.device
        ids = torch.from_numpy(batch.ids).to(device)
        inputs = self._inputs(ids, torch.from_numpy(batch.lengths).to(device))
        # A model spread over several devices ends on another one than it begins.
        last_device = next(resident.head.parameters(), ids).device
        rows, columns, gold = (
            torch.from_numpy(array).to(last_device) for array in (batch.rows, batch.columns, batch.gold)
        )
        found: dict[str, Arrays] = {}
        with torch.inference_mode():
            hidden: torch.Tensor | None = None
            shared: list[Any] = []
            for view in views:
                with resident.views[view]():
                    if not self.mode.uses_head:
                        logits = resident.module(use_cache=False, **inputs).logits[:, -ids.shape[1] :]
                        kept = logits[rows, columns].float()
                        found[view] = _to_numpy(
                            reduce(kept, gold) if reduce else token_statistics(kept, gold, self.decodings)
                        )
                        continue
                    if hidden is None or not (resident.shares_trunk and self.shares_layers):
                        hidden = self._hidden(inputs, shared, keeps=len(views) > 1).to(last_device)[rows, columns]
                    found[view] = _to_numpy(
                        score_hidden(hidden, gold, self._logits, resident.vocabulary_size, self.decodings, reduce)
                    )
        return found

    def _hidden(self, inputs: dict[str, Any], shared: list[Any], *, keeps: bool) -> torch.Tensor:
        """The body's output; `shared` receives, and later supplies, that of the leading shared layers."""
        resident = self.resident
        layers = resident.layers[: resident.n_shared_layers] if self.shares_layers else []
        if layers and shared:
            with skipped(layers, shared[0]):
                return hidden_states(resident.module, resident.head, **inputs)
        if layers and keeps:
            with recorded_output(layers[-1], shared):
                return hidden_states(resident.module, resident.head, **inputs)
        return hidden_states(resident.module, resident.head, **inputs)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        head = self.resident.head
        if hidden.device.type != "cpu" or not _is_plain_linear(head):
            return self._tail(head(hidden))
        # A CPU spends a fifth of the head's time on fresh pages for its output; the same pages are used again.
        shape = len(hidden), head.out_features
        if self._pages.dtype != hidden.dtype or self._pages.numel() < shape[0] * shape[1]:
            self._pages = torch.empty(shape[0] * shape[1], dtype=hidden.dtype)
        logits = self._pages[: shape[0] * shape[1]].view(shape)
        torch.mm(hidden, head.weight.t(), out=logits)
        return self._tail(logits if head.bias is None else logits.add_(head.bias))

    def _inputs(self, ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, Any]:
        if not self.mode.uses_mask:
            return {"input_ids": ids}
        mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
        return {"input_ids": ids, "attention_mask": mask.long()}

    # --- proofs before the first record ---------------------------------------------------------

    def _probe(self) -> list[Sequence]:
        """Two windows of different length, so that one of them is padded."""
        ids = (np.arange(40, dtype=np.int64) * 7919 + 11) % self.resident.vocabulary_size
        return [Sequence(ids[:24], 1), Sequence(ids[24:], 1)]

    def _proven_mode(self) -> Mode:
        view = next(iter(self.resident.views))
        probe = self._probe()
        batch = make_batch(probe, [0, 1])
        dtype = self._coarsest_dtype()
        tolerance = _TOLERANCE.get(dtype, _TOLERANCE_HALF)
        with torch.inference_mode(), self.resident.views[view]():
            own = np.concatenate([self._own_log_probs(sequence.ids) for sequence in probe])
            if not np.isfinite(own).any():
                raise ModelError(
                    f"Model '{self.resident.module.config.name_or_path}' gives NaN or infinite log-probabilities for "
                    "every token. Its training diverged, or it needs another --precision; audit an earlier checkpoint."
                )
            first_half = self._own_log_probs(probe[0].ids[: len(probe[0].ids) // 2])
        if _gap(first_half, own[: len(first_half)], dtype) > tolerance:
            raise ModelError(
                f"Model '{self.resident.module.config.name_or_path}' sees the tokens it is asked to predict: its "
                "scores for a text depend on what follows. Expected a causal language model."
            )
        gap = np.inf
        for mode in MODES:
            self.mode = mode
            try:
                scored = self._score_batch(batch, [view])[view]["log_prob"]
            except (AttributeError, IndexError, TypeError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise
                continue  # this way of running does not apply to the architecture
            gap = _gap(scored, own, dtype)
            if gap <= tolerance:
                return mode
        raise ModelError(
            f"Model '{self.resident.module.config.name_or_path}' gives other scores in a padded batch than for "
            f"the same text alone (log-probabilities differ by up to {gap:.2g}). Expected a causal language model."
        )

    def _coarsest_dtype(self) -> torch.dtype:
        """float32 where every weight is and is used so; bfloat16 stands for all that is coarser in any part."""
        dtypes = {parameter.dtype for parameter in self.resident.module.parameters()}
        return torch.float32 if dtypes == {torch.float32} and not self.resident.is_mixed else torch.bfloat16

    def _own_log_probs(self, token_ids: IntArray) -> NDArray[Any]:
        """The plain way: one text, no padding, the model's own logits."""
        ids = torch.from_numpy(token_ids)[None].to(self.resident.device)
        logits = self.resident.module(input_ids=ids).logits[0, -len(token_ids) :].float()
        log_probs = logits[:-1].log_softmax(dim=-1)
        return log_probs.gather(1, ids[0, 1:, None].to(log_probs.device))[:, 0].cpu().numpy()

    def _can_share_layers(self) -> bool:
        """Whether skipping the shared layers leaves every view's scores exactly as they are."""
        resident = self.resident
        if not self.mode.uses_head or len(resident.views) < 2 or not resident.n_shared_layers:
            return False
        views = list(resident.views)
        batch = make_batch(self._probe(), [0, 1])
        whole = self._score_batch(batch, views)
        self.shares_layers = True
        try:
            short = self._score_batch(batch, views)
        except (AttributeError, IndexError, TypeError, RuntimeError, ValueError):
            return False
        finally:
            self.shares_layers = False
        return all(
            np.array_equal(whole[view][name], short[view][name], equal_nan=True)
            for view in views
            for name in whole[view]
        )

    def _free_memory(self) -> None:
        if self.resident.device.startswith("cuda"):
            torch.cuda.empty_cache()
        elif self.resident.device.startswith("mps"):
            torch.mps.empty_cache()


def _gap(one: NDArray[Any], two: NDArray[Any], dtype: torch.dtype) -> float:
    """How far two sets of log-probabilities are apart.

    In half precision a single position can jump, where rounding sends a token to another expert; padding
    or tokens to come that the model sees move nearly all of them. Positions where the second is not finite
    are left out: records that hold such tokens are set aside one by one.
    """
    is_finite = np.isfinite(two)
    if not is_finite.any():
        return 0.0
    differences = np.abs(one[is_finite] - two[is_finite])
    return float(differences.max() if dtype == torch.float32 else np.median(differences))


def _is_plain_linear(head: torch.nn.Module) -> bool:
    """Whether calling the module is a matrix product and nothing else: no hook, no replaced forward."""
    is_hooked = head._forward_hooks or head._forward_pre_hooks or "forward" in head.__dict__  # noqa: SLF001
    return type(head) is torch.nn.Linear and not is_hooked


def _to_numpy(statistics: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.cpu().numpy() for name, tensor in statistics.items()}
