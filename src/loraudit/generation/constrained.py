"""How probable near-verbatim continuations are: the search of `memorization.near_verbatim` with a model, in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from loraudit.errors import ConfigError, EnvironmentFault, ModelError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.generation.cached import CachedModel, RereadModel, has_rows, speaking
from loraudit.generation.drawing import decoding_log_probs
from loraudit.generation.memory import in_halves
from loraudit.memorization.near_verbatim import DistanceName, EditBeam, NearVerbatimMass
from loraudit.models import Resident
from loraudit.types import Decoding, FloatArray, IntArray

BEAM_WIDTH = 32
"""Beginnings kept per record unless another number is asked for."""
SEARCH_VERSION = 1
"""Of what a search finds; to be raised with every change of that, so that answers kept from before are not taken."""


def near_verbatim_masses(
    resident: Resident,
    prompts: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[int]],
    decoding: Decoding,
    budget: int,
    *,
    distance: DistanceName = "levenshtein",
    width: int = BEAM_WIDTH,
    end_ids: Sequence[int] = (),
    view: str = "target",
    batch_size: int = 256,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> list[NearVerbatimMass]:
    """Bounds on the probability that each prompt is continued with nearly its suffix.

    Records whose prompts have one length are searched together. No record's bounds depend on the others, but for what
    the rounding of other batches does to probabilities.

    Args:
        resident: A loaded model.
        prompts: [N] token ids, at least one each.
        suffixes: [N] the true continuations, at least one token each.
        decoding: (k, temperature): sampling from the k most likely tokens at this temperature; k = 0 means all.
        budget: Edits allowed, in tokens.
        distance: `hamming` (replacements) or `levenshtein` (insertions and deletions, too).
        width: Beginnings kept per record; more of them bring the bounds together.
        end_ids: Tokens that end a continuation before its time.
        view: As which of its views the model speaks.
        batch_size: Beginnings at a time, of all records of a batch.
        progress: Told of records done.
        stop: Asked before every token.

    Raises:
        ConfigError: A prompt or suffix is empty, they do not pair up, or budget, width, distance or decoding is out of
            range.
        ModelError: The model gives logits that are no numbers.
        EnvironmentFault: Not even one record fits into memory.
        Interrupted: A stop was asked for.
    """
    progress = progress or Silent()
    _refuse_unfit(prompts, suffixes, decoding)

    def begun(row: int) -> EditBeam:
        return EditBeam(suffixes[row], budget, distance=distance, width=width, end_ids=end_ids)

    for row in range(len(suffixes)):
        begun(row)  # every suffix is refused or not before the first is searched
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt)].append(row)
    progress.stage("Searching near-verbatim continuations", len(prompts), "records")
    size = max(1, batch_size // width)
    found: dict[int, NearVerbatimMass] = {}

    def search(rows: list[int]) -> list[NearVerbatimMass]:
        texts = np.array([list(map(int, prompts[row])) for row in rows], dtype=np.int64)
        return _search(resident, texts, [begun(row) for row in rows], decoding, view, stop)

    for _, rows in sorted(by_length.items(), reverse=True):
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            found.update(zip(batch, in_halves(search, batch, partial(_too_large, resident, prompts)), strict=True))
            progress.advance(len(batch))
    return [found[row] for row in range(len(prompts))]


def _too_large(resident: Resident, prompts: Sequence[Sequence[int]], row: int) -> EnvironmentFault:
    return EnvironmentFault(
        f"Not even the beginnings of one record with a prompt of {len(prompts[row])} tokens can be searched in the "
        f"memory of {resident.device}. Use a narrower beam, a lower --precision or another --device."
    )


def _search(
    resident: Resident,
    prompts: IntArray,
    beams: list[EditBeam],
    decoding: Decoding,
    view: str,
    stop: StopRequest | None,
) -> list[NearVerbatimMass]:
    """Bounds for prompts [B, L], whose beams are at their beginning."""
    with speaking(resident, view):
        model = CachedModel(resident) if has_rows(resident) else RereadModel(resident)
        logits = model.begin(prompts)
        while True:
            if stop:
                stop.check()
            if not bool(logits.amax(-1).isfinite().all()):
                raise ModelError(
                    f"Model '{resident.module.config.name_or_path}' gave NaN or infinite logits while near-verbatim "
                    "continuations were searched. Use another --precision, or audit an earlier checkpoint."
                )
            parents, tokens = _extend(beams, decoding_log_probs(logits, decoding))
            if not len(parents):
                return [beam.mass() for beam in beams]
            model.select(parents)
            logits = model.step(tokens)


def _extend(beams: Sequence[EditBeam], log_probs: torch.Tensor) -> tuple[IntArray, IntArray]:
    """Each beam by one token; rows [B] to go on from, among those of all beams together, and their tokens [B]."""
    parents: list[IntArray] = []
    tokens: list[IntArray] = []
    start = 0
    for beam in beams:
        n = len(beam.prefixes)
        if n:
            step = beam.extend(*candidates(log_probs[start : start + n], beam.listed, beam.width))
            parents.append(step.parents + start)
            tokens.append(step.tokens)
        start += n
    return np.concatenate(parents), np.concatenate(tokens)


def candidates(log_probs: torch.Tensor, listed: IntArray, n: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """What a beam of `n` needs to know of log-probabilities [B, V]: no token beyond the n likeliest can get into it.

    Args:
        log_probs: [B, V].
        listed: [U] tokens that are wanted in any case.
        n: Of the others, how many.

    Returns:
        Tokens [B, K], their log-probabilities [B, K], and that of all other tokens together [B].
    """
    wanted = torch.from_numpy(listed).to(log_probs.device)
    others = log_probs.index_fill(1, wanted, float("-inf"))
    likeliest, ids = others.topk(min(n, log_probs.shape[1] - len(listed)), dim=-1)
    rest = others.scatter(1, ids, float("-inf")).double().logsumexp(-1)
    tokens = torch.cat([wanted.expand(len(log_probs), -1), ids], dim=-1)
    given = torch.cat([log_probs[:, wanted], likeliest], dim=-1)
    return tokens.cpu().numpy(), given.double().cpu().numpy(), rest.cpu().numpy()


def _refuse_unfit(prompts: Sequence[Sequence[int]], suffixes: Sequence[Sequence[int]], decoding: Decoding) -> None:
    if len(prompts) != len(suffixes):
        raise ConfigError(f"{len(prompts)} prompts have {len(suffixes)} suffixes. Expected one for each.")
    empty = sum(len(prompt) == 0 for prompt in prompts)
    if empty:
        raise ConfigError(f"{empty} of {len(prompts)} prompts are empty. Expected at least one token each.")
    k, temperature = decoding
    if k < 0 or not 0 < temperature < np.inf:
        raise ConfigError(
            f"Decoding (k {k}, temperature {temperature}) is not possible here. Expected k of 0 (all) or more and a "
            "temperature above 0; greedy continuations follow from one pass."
        )
