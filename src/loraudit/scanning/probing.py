"""Models are asked: what they say to prompts with triggers, with controls, and with nothing put in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.errors import ModelError
from loraudit.execution import Progress, StopRequest
from loraudit.generation import BATCH_SIZE, GREEDY, Sampling, sample
from loraudit.models import Resident
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.poisoning.battery import Trigger, controls, insert
from loraudit.types import FloatArray, IntArray

N_CONTROLS = 5
"""Of each kind, to each trigger."""
RESPONSE_TOKENS = 8
_NUMBERS_AT_A_TIME = 1 << 24
_ROWS_AT_A_TIME = 128


@dataclass(frozen=True, slots=True)
class Asked:
    """Every text that goes through a model, as token ids.

    Attributes:
        plain: [P] prompts as they are.
        triggered: [T][P] with each trigger.
        controls: [T][2·K][P] with each control; the ordinary ones first.
    """

    plain: list[list[int]]
    triggered: list[list[list[int]]]
    controls: list[list[list[list[int]]]]

    @property
    def rows(self) -> list[list[int]]:
        """All of them in one list: plain ones, then for each trigger its own and its controls'."""
        rows = list(self.plain)
        for own, others in zip(self.triggered, self.controls, strict=True):
            rows += [*own, *(row for one in others for row in one)]
        return rows


def ask(
    prompts: Sequence[str],
    triggers: Sequence[Trigger],
    tokenizer: Any,
    *,
    in_chat: bool,
    max_length: int | None,
    rng: np.random.Generator,
) -> Asked:
    """Texts with triggers and with controls, as tokens.

    Args:
        prompts: [P].
        triggers: [T].
        tokenizer: Of the model.
        in_chat: Whether prompts are a user's turn, in the tokenizer's template.
        max_length: Longest input of the model in tokens.
        rng: Of the controls.

    Raises:
        ModelError: A text does not fit into the model's context, or has no token.
    """

    def ids(texts: Sequence[str]) -> list[list[int]]:
        return [_ids(text, tokenizer, in_chat=in_chat, max_length=max_length) for text in texts]

    avoid = {trigger.text for trigger in triggers}
    found = Asked(ids(prompts), [], [])
    for trigger in triggers:
        drawn = controls(trigger.text, N_CONTROLS, avoid, rng)
        pieces = [*drawn["ordinary"], *drawn["made_up"]]

        def with_piece(piece: str, trigger: Trigger = trigger) -> list[list[int]]:
            return ids([insert(prompt, piece, trigger.place, number) for number, prompt in enumerate(prompts)])

        found.triggered.append(with_piece(trigger.text))
        found.controls.append([with_piece(piece) for piece in pieces])
    return found


def _ids(text: str, tokenizer: Any, *, in_chat: bool, max_length: int | None) -> list[int]:
    if in_chat:
        turn = [{"role": "user", "content": text}]
        ids = list(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=False))
    else:
        ids = list(tokenizer(text)["input_ids"])
    if not ids or (max_length is not None and len(ids) + RESPONSE_TOKENS > max_length):
        raise ModelError(
            f"A probe has {len(ids)} tokens, and the model takes 1 to {max_length} with "
            f"{RESPONSE_TOKENS} of an answer. Expected shorter ones. Take shorter --probes, or --no-probes."
        )
    return ids


def next_token_shift(
    target: Resident, reference: Resident, rows: Sequence[Sequence[int]], progress: Progress, stop: StopRequest | None
) -> FloatArray:
    """[N] KL(target ‖ reference) of the token after each row, nats; NaN where a model gives numbers that are none.

    Rows of one length share a batch, so nothing is padded.

    Args:
        target: Speaks as `target`.
        reference: Speaks as `reference`; the same copy for an adapter.
        rows: [N] token ids.
        progress: Told of rows done.
        stop: Asked between batches.
    """
    import torch

    found = np.full(len(rows), np.nan)
    progress.stage("Probing", len(rows), "texts")
    for batch in _batches(rows, target.vocabulary_size, stop):
        ids = [rows[place] for place in batch]
        with torch.inference_mode():
            ours, theirs = (
                _last_log_probs(resident, view, ids) for resident, view in ((target, TARGET), (reference, REFERENCE))
            )
            divergence = (ours.exp() * (ours - theirs.to(ours.device))).sum(dim=-1)
        found[batch] = divergence.clamp(min=0).cpu().numpy()
        progress.advance(len(batch))
    return found


def _last_log_probs(resident: Resident, view: str, ids: Sequence[Sequence[int]]) -> Any:
    """[rows, V] float64 log-probabilities of the next token."""
    import torch

    with resident.views[view]():
        logits = resident.module(input_ids=torch.tensor(ids, device=resident.device), use_cache=False).logits
    return torch.log_softmax(logits[:, -1].double(), dim=-1)


def responses(
    target: Resident,
    rows: Sequence[Sequence[int]],
    end_ids: Sequence[int],
    progress: Progress,
    stop: StopRequest | None,
) -> list[tuple[int, ...]]:
    """[N] the first tokens of what the target says, greedily."""
    said = sample(
        target,
        rows,
        Sampling(RESPONSE_TOKENS, temperature=GREEDY),
        seed=0,
        end_ids=end_ids,
        batch_size=BATCH_SIZE[target.device.split(":")[0]],
        progress=progress,
        stop=stop,
    )
    return [tuple(int(token) for token in one) for one in said]


def classes(
    model: Any, device: str, rows: Sequence[Sequence[int]], progress: Progress, stop: StopRequest | None
) -> IntArray:
    """[N] most likely class of each row.

    Raises:
        ModelError: A prediction is not finite.
    """
    import torch

    found = np.zeros(len(rows), dtype=np.int64)
    progress.stage("Probing", len(rows), "texts")
    for batch in _batches(rows, int(model.config.hidden_size), stop):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([rows[place] for place in batch], device=device)).logits
        if not bool(logits.isfinite().all()):
            raise ModelError(
                "The classifier gives predictions that are NaN or infinite. Expected finite ones. Use --precision "
                "fp32, or scan an earlier checkpoint."
            )
        found[batch] = logits.argmax(dim=-1).cpu().numpy()
        progress.advance(len(batch))
    return found


def _batches(rows: Sequence[Sequence[int]], width: int, stop: StopRequest | None) -> Any:
    """Places of rows of one length, as many as fit."""
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(place)
    for length, places in sorted(by_length.items()):
        size = max(1, min(_ROWS_AT_A_TIME, _NUMBERS_AT_A_TIME // (length * width)))
        for start in range(0, len(places), size):
            if stop is not None:
                stop.check()
            yield places[start : start + size]
