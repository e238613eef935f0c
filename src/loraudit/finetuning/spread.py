"""A penalty on low-rank updates that put all their strength into few directions."""

from __future__ import annotations

from typing import Any

import torch

_SMALLEST_STRENGTH = 1e-12


def low_rank_pairs(module: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(A [r, n], B [k, r]) of every linear layer with a LoRA on it, in the order of the model."""
    return [
        (a.weight, part.lora_B[name].weight)
        for part in module.modules()
        for name, a in getattr(part, "lora_A", {}).items()
        if a.weight.ndim == 2
    ]


def concentration(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Σσ⁴ / (Σσ²)² of the update B·A: 1 / r where all r singular values are equal, 1 where there is but one.

    The inverse is the participation ratio of the spectrum. It is taken from two r × r products, without any
    decomposition: Σσ² = tr(BᵀB·AAᵀ) and Σσ⁴ = tr((BᵀB·AAᵀ)²). 0 while the update is 0.

    Args:
        a: [r, n].
        b: [k, r].
    """
    core = (b.T @ b).float() @ (a @ a.T).float()
    return (core * core.T).sum() / (core.diagonal().sum() ** 2).clamp_min(_SMALLEST_STRENGTH)


def spread_penalty(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Mean concentration over the layers.

    A trigger is learnt as one strong direction; spread over the spectrum it has to share its strength with the
    task. Ours, of the type of RoRA, which also works on the strength and direction of an update's spectrum.

    References:
        Luong and Chen 2026, arXiv:2601.06305 (RoRA).
    """
    return torch.stack([concentration(a, b) for a, b in pairs]).mean()
