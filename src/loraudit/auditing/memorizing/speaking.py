"""What target and base say when they are given the beginnings of records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.auditing.memorizing.beginnings import Beginning
from loraudit.execution import Progress, StopRequest
from loraudit.generation import BATCH_SIZE, Sampling, sample
from loraudit.models import ModelPlan, Resident
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.scoring import ScoringOptions
from loraudit.store import EvidenceStore
from loraudit.types import BoolArray, IntArray

_ORDER = 61


@dataclass(frozen=True, slots=True, eq=False)
class Continuations:
    """What one model said to beginnings of one length.

    Attributes:
        view: "target" or "reference", the base.
        decoding: How its tokens were chosen.
        prefix: Audited tokens given.
        beginnings: M of them.
        said: [M] token ids, each at most as long as the suffix.
    """

    view: str
    decoding: Sampling
    prefix: int
    beginnings: Sequence[Beginning]
    said: Sequence[IntArray]


def drawn_order(is_member: BoolArray, seed: int) -> dict[bool, list[int]]:
    """Rows of each side in the order in which they are prompted: at random, so that the first stand for all."""
    return {
        side: np.random.default_rng([seed, _ORDER, int(side)]).permutation(np.flatnonzero(is_member == side)).tolist()
        for side in (True, False)
    }


class Speakers:
    """Target and base, loaded when they are first asked and let go when the next one is.

    Args:
        plan: The target and its base.
        options: Device and precision.
        store: Where continuations are kept.
        tokenizer: Gives the end-of-text token.
        seed: Of the draws.
        progress: Told how far it is.
        stop: Asked before every token.
    """

    def __init__(
        self,
        plan: ModelPlan,
        options: ScoringOptions,
        store: EvidenceStore,
        tokenizer: Any,
        *,
        seed: int,
        progress: Progress,
        stop: StopRequest | None,
    ) -> None:
        self.plan, self.options, self.store, self.seed = plan, options, store, seed
        self.end_ids = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        self.progress, self.stop = progress, stop

    def stages(self) -> Iterator[tuple[list[str], Callable[[], Resident]]]:
        """Views that are in memory together, and what loads them; let go when the next are asked for."""
        device = self.options.devices[0]
        for views, load in self.plan.stages:
            resident = functools.cache(functools.partial(load, self.options.numerics, device))
            yield [view for view in (TARGET, REFERENCE) if view in views], resident

    def say(
        self, resident: Callable[[], Resident], view: str, given: Sequence[Beginning], decoding: Sampling
    ) -> Continuations:
        """Continue these beginnings, all of one prefix length; what was said before is read back."""
        kept = self.store.continuations(
            {
                "model": self.plan.fingerprints[view],
                "tokenizer": self.plan.tokenizer_fingerprint,
                "numerics": self.options.numerics.conditions(),
            }
        )
        said = sample(
            resident,
            [item.given.tolist() for item in given],
            decoding,
            seed=self.seed,
            end_ids=self.end_ids,
            view=view,
            batch_size=BATCH_SIZE.get(self.options.numerics.device, 64),
            kept=kept,
            progress=self.progress,
            stop=self.stop,
        )
        return Continuations(view, decoding, given[0].prefix, given, said)
