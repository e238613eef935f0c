"""From hidden states to the evidence of each token, a few rows of the vocabulary at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from loraudit.types import Decoding

Statistics = dict[str, torch.Tensor]
LogitFunction = Callable[[torch.Tensor], torch.Tensor]
Reduction = Callable[[torch.Tensor, torch.Tensor], Statistics]
"""From logits [n, V] in float32, which it may overwrite, and the tokens that stand there, [n], to arrays of n rows."""

LOGITS_AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 27, "mps": 1 << 25}
"""Logits held at a time, by kind of device (64 MiB, 512 MiB and 128 MiB in float32)."""
_CACHED_LOGITS = 1 << 20
"""On a CPU the reductions run over blocks of this many logits, which stay in the cache."""
_NO_WEIGHT = -1e4
"""Logits this far below the best have probability 0 in float32."""


def score_hidden(
    hidden: torch.Tensor,
    gold: torch.Tensor,
    logits_of: LogitFunction,
    vocabulary_size: int,
    decodings: Iterable[Decoding] = (),
    reduce: Reduction | None = None,
) -> Statistics:
    """The statistics of `token_statistics` for hidden states, or those of another reduction.

    Args:
        hidden: [n, d], each the state from which the token `gold` is predicted.
        gold: [n] token ids.
        logits_of: Output head: [m, d] to [m, V].
        vocabulary_size: V.
        decodings: As `token_statistics`.
        reduce: What to take instead of those.

    Returns:
        Tensors of n rows by name.
    """
    decodings = list(decodings)
    rows = max(1, LOGITS_AT_ONCE.get(hidden.device.type, 1 << 24) // vocabulary_size)
    block = max(1, _CACHED_LOGITS // vocabulary_size) if hidden.device.type == "cpu" else rows
    parts: list[Statistics] = []
    for start in range(0, len(hidden), rows):
        logits = logits_of(hidden[start : start + rows])
        for first in range(0, len(logits), block):
            piece = slice(first, first + block)
            some, here = logits[piece].float(), gold[start : start + rows][piece]
            parts.append(reduce(some, here) if reduce else token_statistics(some, here, decodings))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def token_statistics(logits: torch.Tensor, gold: torch.Tensor, decodings: Iterable[Decoding] = ()) -> Statistics:
    """What `TokenScores` keeps of one row of logits per token.

    Args:
        logits: [n, V] float32; overwritten.
        gold: [n] ids of the tokens that stand in the record.
        decodings: (k, temperature) pairs to take the log-sum-exp for; k = 0 means all tokens.

    Returns:
        [n] tensors `log_prob`, `is_top1`, `margin`, `mean_log_prob`, `var_log_prob`, `rank_bucket`, and
        `log_sum_exp.<i>` for each decoding, +inf where k or more tokens are likelier than `gold`: its probability under
        that decoding is 0. Of equally likely tokens the one with the lowest id is the top-1, as in greedy decoding;
        tokens as likely as the k-th are all allowed, as in top-k sampling, but only k are summed over.
    """
    index = gold[:, None]
    top, best = logits.max(dim=1, keepdim=True)
    gold_logit = logits.gather(1, index)
    # Comparing into floats and summing those is several times faster on a CPU than counting booleans.
    scratch = torch.empty_like(logits)
    n_above = torch.gt(logits, gold_logit, out=scratch).sum(dim=1)
    # Relative to the best logit nothing overflows, and exp is at most 1.
    x = logits.sub_(top)
    x.scatter_(1, best, -torch.inf)
    margin = -x.amax(dim=1)
    x.scatter_(1, best, 0.0)
    x.clamp_(min=_NO_WEIGHT)  # a token masked with -inf has no weight; 0 · -inf would have no value
    weight = torch.exp(x, out=scratch)
    total = weight.sum(dim=1)
    log_total = total.log()
    first_moment = weight.mul_(x).sum(dim=1) / total
    second_moment = weight.mul_(x).sum(dim=1) / total
    log_prob = (gold_logit - top)[:, 0] - log_total
    found: Statistics = {
        "log_prob": log_prob,
        "is_top1": best[:, 0] == gold,
        "margin": margin,
        "mean_log_prob": first_moment - log_total,
        "var_log_prob": (second_moment - first_moment.square()).clamp_(min=0),
        "rank_bucket": torch.frexp(n_above + 1).exponent - 1,
    }
    return found | _log_sum_exps(x, log_total, n_above, list(decodings))


def _log_sum_exps(
    x: torch.Tensor, log_total: torch.Tensor, n_above: torch.Tensor, decodings: list[Decoding]
) -> Statistics:
    """From logits below the best [n, V], their log-sum-exp [n] and the tokens above the gold one [n]."""
    limits = [k if 0 < k < x.shape[1] else 0 for k, _ in decodings]
    # The likeliest tokens are sought once, for the largest k; they come sorted.
    likeliest = x.topk(max(limits), dim=1).values if any(limits) else x
    found: Statistics = {}
    for position, (k, (_, temperature)) in enumerate(zip(limits, decodings, strict=True)):
        kept = likeliest[:, :k] if k else x
        value = torch.logsumexp((kept - log_total[:, None]) / temperature, dim=1)
        found[f"log_sum_exp.{position}"] = value.masked_fill(n_above >= k, torch.inf) if k else value
    return found
