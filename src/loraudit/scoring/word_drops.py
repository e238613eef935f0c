"""Texts × causal language model → how likely each is, whole and without each of its words."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any, NamedTuple

import numpy as np
import torch

from loraudit.data import encode, record_id
from loraudit.models import Resident
from loraudit.models.plan import TARGET
from loraudit.models.resident import always
from loraudit.poisoning.detection import without_each_word
from loraudit.scoring.batches import Sequence
from loraudit.scoring.head import Statistics
from loraudit.scoring.scorer import Scorer
from loraudit.types import FloatArray, IntArray, Record

TOKENS_AT_ONCE = 4096


class WordDrops(NamedTuple):
    """What a language model says of texts with a word left out.

    Attributes:
        log_perplexities: N of [1 + W]: mean −log p per predicted token, nats, of the whole text and of the text without
            each of its W words. NaN where nothing is predicted, where memory did not suffice, and for a word that
            stands wholly behind the window.
        n_cut: Texts that were longer than the window and lost their end.
    """

    log_perplexities: tuple[FloatArray, ...]
    n_cut: int


def word_drops(
    module: Any,
    tokenizer: Any,
    texts: Seq[str],
    *,
    device: str,
    max_length: int,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> WordDrops:
    """All variants of all texts, scored together in batches of similar length.

    Args:
        module: A causal language model in evaluation mode; often another one than the model under suspicion.
        tokenizer: Its own.
        texts: Words are what white space separates, and are joined by single spaces.
        device: Where the module is.
        max_length: Tokens of its window.
        tokens_at_once: Of one batch, padding included.

    Raises:
        ModelError: It is no causal language model, or cannot be run in batches.
    """
    scorer = Scorer(Resident(module, device, {TARGET: always(module)}), batch_tokens=tokens_at_once)
    variants = [without_each_word(text) for text in texts]
    flat = [_ids(rows, tokenizer) for rows in variants]
    whole_lengths = [len(rows[0]) for rows in flat]
    sequences = [Sequence(ids[:max_length].astype(np.int64), 1) for rows in flat for ids in rows]
    is_scored = [len(sequence.ids) > 1 for sequence in sequences]
    scored = iter(
        scorer.score([s for s, wanted in zip(sequences, is_scored, strict=True) if wanted], [TARGET], None, _log_prob)[
            TARGET
        ]
    )
    means: list[float] = []
    for wanted in is_scored:
        own = next(scored) if wanted else None
        means.append(float("nan") if own is None else -float(own["log_prob"].mean(dtype=np.float64)))
    cuts = np.cumsum([len(rows) for rows in variants])[:-1]
    values = np.split(np.array(means), cuts) if variants else []
    for own, rows in zip(values, flat, strict=True):
        own[1:][[np.array_equal(ids[:max_length], rows[0][:max_length]) for ids in rows[1:]]] = np.nan
    return WordDrops(tuple(values), sum(n > max_length for n in whole_lengths))


def _ids(texts: Seq[str], tokenizer: Any) -> list[IntArray]:
    records = [Record(record_id(text=text), "", 0, text=text) for text in texts]
    return [item.ids for item in encode(records, tokenizer, span="all")]


def _log_prob(logits: torch.Tensor, gold: torch.Tensor) -> Statistics:
    return {"log_prob": logits.log_softmax(dim=1).gather(1, gold[:, None])[:, 0]}
