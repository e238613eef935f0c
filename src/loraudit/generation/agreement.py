"""Whether what one pass says of greedy decoding is what greedy decoding says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from loraudit.errors import ConfigError
from loraudit.execution import Progress, StopRequest
from loraudit.generation.cached import speaking
from loraudit.generation.decodings import GREEDY, Sampling
from loraudit.generation.sampling import sample
from loraudit.models import Resident
from loraudit.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A prompt whose continuation is not the predicted one.

    Attributes:
        place: Of the prompt.
        n_equal: Tokens that were generated as the text has them before the first that was not.
        n_predicted: Tokens that were predicted to be.
        smallest_margin: Smallest gap, in nats, between the log-probabilities of the two most likely tokens, over the
            text up to where the two part: what rounding would have to bridge. NaN where the model's logits are.
    """

    place: int
    n_equal: int
    n_predicted: int
    smallest_margin: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often generation said what was predicted.

    Attributes:
        n: Prompts.
        disagreements: Those that were continued otherwise, in order.
    """

    n: int
    disagreements: tuple[Disagreement, ...]

    @property
    def n_agree(self) -> int:
        """Prompts that were continued as predicted."""
        return self.n - len(self.disagreements)

    @property
    def smallest_margins(self) -> list[float]:
        """Of the disagreements: where one is not small, the evidence is not of this model."""
        return [disagreement.smallest_margin for disagreement in self.disagreements]


def greedy_agreement(
    resident: Resident,
    prompts: Sequence[Sequence[int]],
    predicted: Sequence[Sequence[int]],
    *,
    n_hits: Sequence[int] | None = None,
    view: str = "target",
    batch_size: int = 64,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Agreement:
    """Generate greedily what evidence predicts, and compare.

    Evidence comes from one pass over prompt and text. If the text's first h tokens were each the model's most likely
    one and the next was not, greedy decoding must say these h and then something else; both is checked. In half
    precision near-ties fall either way, so that a few disagreements with small margins are no fault.

    Args:
        resident: A loaded model.
        prompts: [N] token ids.
        predicted: [N] the texts that follow them, at least one token each.
        n_hits: [N] how many leading tokens of each text are predicted; all of them by default.
        view: As which of its views the model speaks.
        batch_size: Prompts at a time.
        progress: Told of prompts done.
        stop: Asked before every token.

    Raises:
        ConfigError: A prompt or text is empty, or they do not pair up with each other or with the hits.
        ModelError: As `sample`.
        EnvironmentFault: As `sample`.
        Interrupted: A stop was asked for.
    """
    hits = [len(text) for text in predicted] if n_hits is None else [int(n) for n in n_hits]
    if len(hits) != len(predicted) or any(not 0 <= n <= len(text) for n, text in zip(hits, predicted, strict=False)):
        raise ConfigError(
            f"The numbers of hits do not fit {len(predicted)} texts. Expected one for each, from 0 to its length."
        )
    # One token beyond the hits tells whether the two part where they should.
    looked_at = [list(text)[: n + 1] for n, text in zip(hits, predicted, strict=True)]
    said = sample(
        resident,
        prompts,
        Sampling(max(map(len, looked_at), default=1), temperature=GREEDY),
        seed=0,
        expected=looked_at,
        view=view,
        batch_size=batch_size,
        progress=progress,
        stop=stop,
    )
    found: list[Disagreement] = []
    for place, (text, continuation, n) in enumerate(zip(looked_at, said, hits, strict=True)):
        n_equal = int(np.cumprod(continuation == np.array(text[: len(continuation)])).sum())
        if n_equal != n:
            margin = top_two_margins(resident, view, prompts[place], text[: min(n_equal, n) + 1]).min()
            found.append(Disagreement(place, n_equal, n, float(margin)))
    return Agreement(len(said), tuple(found))


def top_two_margins(resident: Resident, view: str, prompt: Sequence[int], text: Sequence[int] | IntArray) -> FloatArray:
    """[len(text)] nats between the two most likely tokens at each place of a text behind its prompt, in one pass."""
    ids = torch.tensor([[*map(int, prompt), *(int(token) for token in text)]], device=resident.device)
    with speaking(resident, view):
        logits = resident.module(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        likeliest = logits.topk(2, dim=-1).values
    return (likeliest[:, 0] - likeliest[:, 1]).cpu().numpy()
