"""The decoding loop: what a batch of prompts is continued with, token by token.

A row leaves the batch, and its part of the cache with it, as soon as nothing more of it is wanted. Prompts of different
lengths need no padding, which moves a model's numbers: all begin with as many tokens as the shortest has, and a longer
one then hears its own tokens while the shorter ones already speak.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from loraudit.errors import ModelError
from loraudit.execution import StopRequest
from loraudit.generation.cached import CachedModel, inner_model
from loraudit.generation.decodings import Sampling
from loraudit.generation.drawing import draw_token
from loraudit.models import Resident
from loraudit.types import BoolArray, FloatArray, IntArray

_LEAVE_TOGETHER = 8
"""Rows leave once they are one in so many of the batch: taking them out copies the cache of those that stay."""

_NOTHING = -1


@dataclass(frozen=True, slots=True, eq=False)
class Endings:
    """Where continuations end.

    Attributes:
        end_ids: Tokens that end a continuation.
        expected: [B, new_tokens] what each is expected to be, −1 beyond; None where nothing is.
        stops_at_divergence: Whether one ends with its first token that is not the expected one.
    """

    end_ids: IntArray
    expected: IntArray | None
    stops_at_divergence: bool

    @classmethod
    def of(
        cls, end_ids: Iterable[int], expected: Sequence[Sequence[int]] | None, n: int, *, stops_at_divergence: bool
    ) -> Endings:
        """Of rows that are expected to say these tokens; those beyond `n` are not looked at."""
        rows = None
        if expected is not None:
            rows = np.full((len(expected), n), _NOTHING, dtype=np.int64)
            for row, tokens in zip(rows, expected, strict=True):
                row[: len(tokens)] = list(tokens)[:n]
        return cls(np.array(sorted(end_ids), dtype=np.int64), rows, stops_at_divergence)

    def reached(self, rows: IntArray, n_said: IntArray, tokens: IntArray) -> BoolArray:
        """[A] whether these rows end with these tokens, each having said so many before."""
        is_end = np.isin(tokens, self.end_ids)
        if self.expected is None:
            return is_end
        expected = self.expected[rows]
        is_last = n_said + 1 >= (expected != _NOTHING).sum(1)
        if not self.stops_at_divergence:
            return is_end | is_last
        return is_end | is_last | (tokens != expected[np.arange(len(rows)), n_said])

    def cut(self, row: int, continuation: IntArray) -> IntArray:
        """A whole continuation up to where it ends."""
        n_said = np.arange(len(continuation))
        ends = np.flatnonzero(self.reached(np.full(len(continuation), row), n_said, continuation))
        return continuation[: ends[0] + 1] if len(ends) else continuation


class Chooser:
    """Picks next tokens, and remembers whether the logits were numbers."""

    def __init__(self, sampling: Sampling, uniforms: FloatArray) -> None:
        self.sampling = sampling
        self.uniforms = uniforms
        self._is_finite: torch.Tensor | None = None

    def choose(self, logits: torch.Tensor, rows: IntArray, n_said: IntArray) -> torch.Tensor:
        """[A, 1] ids for rows that have said so many tokens, from logits [A, V]."""
        is_finite = logits.amax(-1).isfinite().all()  # NaN spreads; −inf is how models forbid tokens
        self._is_finite = is_finite if self._is_finite is None else self._is_finite & is_finite
        if self.sampling.is_greedy:
            return logits.argmax(-1, keepdim=True)
        uniforms = self.uniforms[rows, n_said].astype(np.float32)
        temperatures = self.sampling.temperatures(n_said).astype(np.float32)
        uniform, temperature = (
            torch.from_numpy(array)[:, None].to(logits.device) for array in (uniforms, temperatures)
        )
        return draw_token(logits, self.sampling, uniform, temperature)

    def refuse_nonfinite(self, resident: Resident) -> None:
        """Raise unless every step had numbers to go by; asked once a batch, because a device would have to wait."""
        if self._is_finite is not None and not bool(self._is_finite):
            raise ModelError(
                f"Model '{resident.module.config.name_or_path}' gave NaN or infinite logits while it was sampled from. "
                "Use another --precision, or audit an earlier checkpoint."
            )


def continue_rows(
    resident: Resident,
    prompts: Sequence[IntArray],
    chooser: Chooser,
    endings: Endings,
    stop: StopRequest | None = None,
) -> list[IntArray]:
    """Continuations of [B] prompts by a model whose cache has rows (`has_rows`). Call it within `speaking`.

    Args:
        resident: The model.
        prompts: Token ids of each.
        chooser: Picks tokens.
        endings: Where to stop; `new_tokens` of the chooser's sampling at the latest.
        stop: Asked before every token.

    Raises:
        Interrupted: A stop was asked for.
    """
    n_new = chooser.sampling.new_tokens
    lengths = np.array([len(prompt) for prompt in prompts])
    texts = np.full((len(prompts), lengths.max() + n_new), _NOTHING, dtype=np.int64)
    for text, prompt in zip(texts, prompts, strict=True):
        text[: len(prompt)] = prompt
    position, rows = int(lengths.min()), np.arange(len(prompts))
    ends, is_over = lengths + n_new, np.zeros(len(prompts), dtype=bool)
    _check(stop)
    model = CachedModel(resident)
    logits = model.begin(texts[:, :position])
    while True:
        speaks = (lengths[rows] <= position) & ~is_over[rows]
        n_said = np.clip(position - lengths[rows], 0, n_new - 1)
        chosen = chooser.choose(logits, rows, n_said).cpu().numpy()[:, 0]
        texts[rows[speaks], position] = chosen[speaks]
        is_last = endings.reached(rows, n_said, chosen) | (n_said + 1 >= n_new)
        position += 1
        over = rows[speaks & is_last]
        ends[over], is_over[over] = position, True
        if is_over[rows].all():
            return [text[start:end].astype(np.int32) for text, start, end in zip(texts, lengths, ends, strict=True)]
        if is_over[rows].sum() * _LEAVE_TOGETHER >= len(rows):
            staying = np.flatnonzero(~is_over[rows])
            model.select(staying)
            rows = rows[staying]
        _check(stop)
        # A row that is over but still in the batch hears some token or other.
        logits = model.step(np.where(is_over[rows], 0, texts[rows, position - 1]))


def continue_whole(
    resident: Resident,
    prompts: Sequence[IntArray],
    chooser: Chooser,
    endings: Endings,
    stop: StopRequest | None = None,
) -> list[IntArray]:
    """The same by the library's own loop, for models whose cache has no rows: all go on until the last one ends.

    Raises:
        ModelError: The model cannot generate.
        Interrupted: A stop was asked for.
    """
    if not hasattr(resident.module, "generate"):
        raise ModelError(
            f"Model '{resident.module.config.name_or_path}' cannot generate text with the installed transformers. Save "
            "it with one of the library's own classes."
        )
    lengths = np.array([len(prompt) for prompt in prompts])
    found: dict[int, IntArray] = {}
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        said = _generate(resident, np.stack([prompts[int(row)] for row in rows]), rows, chooser, endings, stop)
        found.update((int(row), endings.cut(int(row), text)) for row, text in zip(rows, said, strict=True))
    return [found[row] for row in range(len(prompts))]


def _generate(
    resident: Resident,
    prompts: IntArray,
    rows: IntArray,
    chooser: Chooser,
    endings: Endings,
    stop: StopRequest | None,
) -> IntArray:
    """[B, T] what the library's loop says after prompts [B, L] of one length, filled up behind end tokens."""
    import transformers

    module, n_prompt = resident.module, prompts.shape[1]

    def choice(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] in which one token of each row is possible."""
        _check(stop)
        n_said = np.full(len(rows), input_ids.shape[1] - n_prompt)
        return torch.full_like(scores, float("-inf")).scatter_(-1, chooser.choose(scores, rows, n_said), 0.0)

    ids = torch.from_numpy(prompts.astype(np.int64)).to(resident.device)
    settings = transformers.GenerationConfig(
        do_sample=False,  # the choice leaves a single token to be taken
        num_beams=1,
        use_cache=True,
        max_new_tokens=chooser.sampling.new_tokens,
        eos_token_id=endings.end_ids.tolist() or None,
        pad_token_id=int(endings.end_ids[0]) if len(endings.end_ids) else 0,
    )
    inner = inner_model(module)
    own = getattr(inner, "generation_config", None)
    # Settings for generation saved with the model would fill in whatever is not set here.
    inner.generation_config = transformers.GenerationConfig()
    try:
        whole = module.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            logits_processor=transformers.LogitsProcessorList([choice]),
        )
    finally:
        inner.generation_config = own
    return whole[:, n_prompt:].cpu().numpy().astype(np.int32)


def _check(stop: StopRequest | None) -> None:
    if stop:
        stop.check()
