"""Public fakes for people who write attacks: evidence from scripted log-probabilities, no model needed.

>>> target = FakeTarget([[-0.1, -2.0], [-3.0]])
>>> reference = FakeTarget([[-1.0, -2.5], [-3.0]])
>>> from loraudit.membership import ATTACKS
>>> scores = fake_scores([ATTACKS["reference_difference"]], target=target, reference=reference)
>>> scores["reference_difference"].round(2).tolist()
[0.7, 0.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from loraudit.errors import ConfigError
from loraudit.membership import AnyAttack, score_attacks
from loraudit.types import FloatArray, RecordFacts, TokenTable


class FakeTarget:
    """A model that says what it is told to.

    Args:
        log_probs: Per record, the log-probability of each of its audited tokens, nats.
        is_top1: Per record, which of them were the most likely token; by default those of
            probability above one half, which can be nothing else.
        mean_log_prob: μ of every token, nats.
        var_log_prob: σ² of every token.

    Raises:
        ConfigError: `is_top1` has another shape.
    """

    def __init__(
        self,
        log_probs: Sequence[Sequence[float]],
        *,
        is_top1: Sequence[Sequence[bool]] | None = None,
        mean_log_prob: float = -3.0,
        var_log_prob: float = 4.0,
    ) -> None:
        self.log_probs = [np.asarray(row, dtype=np.float32) for row in log_probs]
        self.is_top1 = (
            [row > np.log(0.5) for row in self.log_probs]
            if is_top1 is None
            else [np.asarray(row, dtype=bool) for row in is_top1]
        )
        if [len(row) for row in self.is_top1] != [len(row) for row in self.log_probs]:
            raise ConfigError(
                "is_top1 has another shape than log_probs. Expected one truth value per token of each record."
            )
        self.mean_log_prob = mean_log_prob
        self.var_log_prob = var_log_prob

    def table(self) -> TokenTable:
        """What it said about all its records, every token audited."""
        flat = np.concatenate([*self.log_probs, np.empty(0, dtype=np.float32)])
        hits = np.concatenate([*self.is_top1, np.empty(0, dtype=bool)])
        offsets = np.cumsum([0, *map(len, self.log_probs)])
        return TokenTable(
            columns={
                "log_prob": flat,
                "is_top1": hits,
                "margin": np.ones_like(flat),
                "mean_log_prob": np.full_like(flat, self.mean_log_prob),
                "var_log_prob": np.full_like(flat, self.var_log_prob),
                "rank_bucket": np.where(hits, 0, 1).astype(np.uint8),
            },
            offsets=offsets,
            is_audited=np.ones(len(flat), dtype=bool),
            n_windows=np.ones(len(self.log_probs), dtype=np.int32),
            status=["ok" if len(row) else "no_tokens" for row in self.log_probs],
        )


def fake_facts(target: FakeTarget, *, bytes_per_token: int = 4) -> RecordFacts:
    """Facts of records whose text does not exist: so many bytes per token, and half as many after zlib."""
    n_bytes = np.array([bytes_per_token * len(row) for row in target.log_probs])
    return RecordFacts(n_bytes, np.maximum(1, n_bytes // 2))


def fake_scores(
    attacks: Sequence[AnyAttack],
    *,
    target: FakeTarget,
    reference: FakeTarget | None = None,
    shadows: Sequence[FakeTarget] = (),
    others: Mapping[str, FakeTarget] | None = None,
    gradient_norms: Sequence[float] | None = None,
) -> dict[str, FloatArray]:
    """[N] scores of each attack on scripted evidence.

    Args:
        attacks: To be run.
        target: The audited model.
        reference: What it is compared with, where an attack looks at that.
        shadows: Shadow models, where an attack looks at those.
        others: Other views by name, such as `shadow_in/0`, `neighbour/0` and `prefixed`.
        gradient_norms: Of the target on each record, where an attack looks at those.

    Raises:
        AssertionError: An attack failed; the message is its own.
    """
    views = {"target": target, **({"reference": reference} if reference else {})}
    views |= {f"shadow/{number}": shadow for number, shadow in enumerate(shadows)} | dict(others or {})
    norms = None if gradient_norms is None else np.asarray(gradient_norms, dtype=np.float64)
    facts = replace(fake_facts(target), gradient_norm=norms)
    found = score_attacks(attacks, {name: fake.table() for name, fake in views.items()}, facts)
    failed = [f"{name}: {result.error}" for name, result in found.items() if result.error]
    if failed:
        raise AssertionError("; ".join(failed))
    return {name: result.scores for name, result in found.items()}
