"""Norms of single records' gradients in the parameters of linear maps.

With a_t what went into the map at position t and g_t the gradient of the record's loss in what came out, the gradient
in the weight is G = Σ_t g_t a_tᵀ, and in the bias Σ_t g_t. Its norm needs no G: ‖G‖² = Σ_{t,u} ⟨g_t, g_u⟩⟨a_t, a_u⟩
(Goodfellow 2015, arXiv:1510.01799, for one position; Li et al. 2022, arXiv:2110.05679, for sequences). Which of the
two ways is taken goes by their cost; both are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from loraudit.capture.hooks import Call

_NUMBERS_AT_ONCE = 1 << 24
"""Entries of single records' gradients held at a time (64 MiB in float32)."""


class LinearMap(NamedTuple):
    """A layer whose gradient follows from its input and its output's gradient.

    Attributes:
        module: A `torch.nn.Linear`, or the transposed kind that GPT-2 has.
        uses_weight: Whether its weight is among the parameters asked for.
        uses_bias: Likewise.
    """

    module: Any
    uses_weight: bool
    uses_bias: bool


def linear_maps(model: Any, parameters: Iterable[Any]) -> list[LinearMap] | None:
    """The linear maps that these parameters belong to.

    Returns:
        None where a parameter belongs to anything else (an embedding, a norm, a magnitude), or to two layers at once.
    """
    from transformers.pytorch_utils import Conv1D

    wanted = {id(parameter) for parameter in parameters}
    found: list[LinearMap] = []
    held: list[int] = []
    for module in model.modules():
        own = [id(parameter) for parameter in module.parameters(recurse=False) if id(parameter) in wanted]
        if not own:
            continue
        if type(module) not in {torch.nn.Linear, Conv1D}:
            return None
        held += own
        found.append(LinearMap(module, id(module.weight) in wanted, id(module.bias) in wanted))
    return found if len(held) == len(set(held)) == len(wanted) else None


def squared_norms(inputs: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Squared Frobenius norm of each record's Σ_t g_t a_tᵀ.

    Args:
        inputs: [B, L, n] a.
        gradients: [B, L, k] g; zero where a position says nothing about the record, as padding does.

    Returns:
        [B] float64.
    """
    a, g = inputs.float(), gradients.float()
    n_positions, n, k = a.shape[1], a.shape[2], g.shape[2]
    is_formed = n * k <= n_positions * (n + k)
    entries = n * k if is_formed else 2 * n_positions**2
    parts: list[torch.Tensor] = []
    rows = max(1, _NUMBERS_AT_ONCE // max(1, entries))
    for x, y in zip(a.split(rows), g.split(rows), strict=True):
        if is_formed:
            parts.append((y.transpose(1, 2) @ x).square().sum(dim=(1, 2), dtype=torch.float64))
        else:
            alike = (x @ x.transpose(1, 2)) * (y @ y.transpose(1, 2))
            parts.append(alike.sum(dim=(1, 2), dtype=torch.float64).clamp_(min=0))
    return torch.cat(parts)


def squared_norms_of_calls(maps: Iterable[LinearMap], calls: Iterable[Call], gradients: Iterable[Any]) -> torch.Tensor:
    """[B] squared norm of each record's gradient over all the maps, float64, on the CPU.

    Args:
        maps: Whose parameters count.
        calls: Of the maps, in one pass.
        gradients: Of the summed loss in the output of each call; None where it does not depend on it.

    Raises:
        ValueError: A map is not called with one row per record.
    """
    by_module = {id(one.module): one for one in maps}
    sides: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for call, gradient in zip(calls, gradients, strict=True):
        if call.inputs.ndim != 3:
            raise ValueError("a layer mixes records")
        if gradient is not None:
            sides.setdefault(id(call.module), []).append((call.inputs, gradient))
    total: torch.Tensor | None = None
    for key, pairs in sides.items():
        # A layer that is called several times has the sum of the calls' gradients, as if its positions were one row.
        a, g = (torch.cat(side, dim=1) for side in zip(*pairs, strict=True))
        own = torch.zeros(len(a), dtype=torch.float64, device=a.device)
        if by_module[key].uses_weight:
            own += squared_norms(a, g)
        if by_module[key].uses_bias:
            own += g.float().sum(dim=1).square().sum(dim=1, dtype=torch.float64)
        total = own.cpu() if total is None else total + own.cpu()
    if total is None:
        raise ValueError("the loss depends on none of the layers")
    return total
