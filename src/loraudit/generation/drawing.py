"""One token per row from logits: the likeliest, or drawn by a uniform number."""

from __future__ import annotations

import torch

from loraudit.generation.decodings import Sampling
from loraudit.types import Decoding

_LIKELIEST = 1024


def draw_token(
    logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor, temperature: torch.Tensor | None = None
) -> torch.Tensor:
    """One token per row by the inverse of the distribution function.

    Args:
        logits: [B, V].
        sampling: Temperature above 0, top-k and nucleus.
        uniform: [B, 1] in [0, 1).
        temperature: [B, 1] where rows differ in it; that of `sampling` by default.

    Returns:
        [B, 1] ids.
    """
    divisor = sampling.temperature if temperature is None else temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits, ids = logits.float().topk(sampling.top_k, dim=-1)
        likeliest = torch.softmax(logits / divisor, dim=-1)
    else:
        probabilities = torch.softmax(logits.float() / divisor, dim=-1)
        # Sorting a whole vocabulary takes ten times as long as finding its likeliest tokens, nearly always enough.
        likeliest, ids = probabilities.topk(min(_LIKELIEST, probabilities.shape[-1]), dim=-1)
        if bool((likeliest.sum(-1) < sampling.top_p).any()):
            likeliest, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    reached = likeliest.cumsum(-1)
    nucleus = likeliest.where(reached - likeliest < sampling.top_p, 0.0)
    reached = nucleus.cumsum(-1)
    n_below = (reached <= uniform * reached[:, -1:]).sum(-1, keepdim=True)
    # Rounding may carry the product to the very end; a row of NaN has no nucleus, and is refused later.
    last = (nucleus > 0).sum(-1, keepdim=True).sub(1).clamp(min=0)
    return ids.gather(-1, n_below.minimum(last))


def decoding_log_probs(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """[B, V] log-probabilities under a decoding, float32; −inf for tokens that it does not allow.

    Args:
        logits: [B, V].
        decoding: (k, temperature) with a temperature above 0.
    """
    k, temperature = decoding
    scaled = logits.float() / temperature
    if 0 < k < logits.shape[-1]:
        values, ids = scaled.topk(k, dim=-1)
        return torch.full_like(scaled, float("-inf")).scatter_(-1, ids, values.log_softmax(-1))
    return scaled.log_softmax(-1)
