"""Records × model → the tokens it finds likeliest at each place, for drawing altered copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq

import numpy as np
import torch

from loraudit.data import Encoded, Proposals
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.models import Numerics, Resident
from loraudit.scoring.batches import plan_units
from loraudit.scoring.engine import ScoringOptions, _cut, _scorer, _sequences
from loraudit.scoring.head import Statistics


def likeliest_tokens(
    load: Callable[[Numerics, str], Resident],
    encoded: Seq[Encoded],
    is_wanted: Seq[bool],
    options: ScoringOptions,
    *,
    view: str,
    n_likeliest: int,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Iterator[tuple[list[int], list[Proposals | None]]]:
    """The `n_likeliest` tokens at each place of the records wanted, unit by unit, on the first device.

    Units and batches are those of scoring, by all records, so that a resumed run has the same ones.

    Args:
        load: Loads the model.
        encoded: The records.
        is_wanted: [N] which of them.
        options: How.
        view: As which of its views the model speaks.
        n_likeliest: At most the vocabulary.
        progress: Told of tokens done.
        stop: Asked between batches.

    Yields:
        Places of some records, and what is proposed for each: None where there was no memory for it.

    Raises:
        ModelError: Tokens and model do not fit together.
        EnvironmentFault: There is no memory to run anything.
        Interrupted: A stop was asked for.
    """
    progress = progress or Silent()
    windows, lengths = _cut(encoded, options)
    device = options.devices[0]
    progress.say(f"Loading {view} to draw neighbours")
    scorer = _scorer(load(options.numerics, device), device, encoded, options)
    k = min(n_likeliest, scorer.resident.vocabulary_size)

    def reduce(logits: torch.Tensor, gold: torch.Tensor) -> Statistics:
        del gold
        best = logits.topk(k, dim=1)
        return {"ids": best.indices, "log_prob": best.values - logits.logsumexp(dim=1, keepdim=True)}

    progress.stage(
        "Drawing neighbours", sum(n for n, wanted in zip(lengths, is_wanted, strict=True) if wanted), "tokens"
    )
    for unit in plan_units(lengths, batch_tokens=options.tokens_at_once):
        positions = [i for i in unit if is_wanted[i]]
        parts = iter(scorer.score(_sequences(positions, encoded, windows), [view], stop, reduce)[view])
        found: list[Proposals | None] = []
        for i in positions:
            own = [next(parts) for _ in windows[i]]
            known = [part for part in own if part is not None]
            if len(known) < len(own):
                found.append(None)
                continue
            ids = np.concatenate([np.empty((0, k), np.int32), *(part["ids"].astype(np.int32) for part in known)])
            log_prob = np.concatenate([np.empty((0, k), np.float32), *(part["log_prob"] for part in known)])
            found.append(Proposals(ids, log_prob))
        yield positions, found
        progress.advance(sum(lengths[i] for i in positions))
