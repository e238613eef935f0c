"""Continuations of prompts: greedy or drawn, in batches, the same for the same seed however they are batched.

The draw of a prompt depends on the seed and on its place among the prompts alone: one uniform number per token picks
the token by the inverse of the distribution function. So neither the size of a batch, nor a batch halved for lack of
memory, nor a run that was killed and resumed changes what is drawn (but for what the rounding of other batches does
to probabilities), and no global generator is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import numpy as safetensors_numpy

from loraudit.errors import ConfigError, EnvironmentFault, ModelError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.models import Resident
from loraudit.models.loading import quiet_libraries
from loraudit.models.numerics import is_out_of_memory
from loraudit.store import open_private_folder, write_atomically
from loraudit.types import IntArray

BATCH_SIZE = {"cpu": 64, "cuda": 256, "mps": 64}
"""Prompts at a time by kind of device."""

_LIKELIEST = 1024
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a continuation is drawn.

    Attributes:
        new_tokens: Longest continuation.
        temperature: Divides the logits; 0 takes the most likely token each time.
        top_p: Tokens are drawn among the most likely ones that together reach this probability (nucleus sampling,
            Holtzman et al. 2020, arXiv:1904.09751), after the temperature; 1 allows all.

    Raises:
        ConfigError: A value is out of range.
    """

    new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        allowed = {
            "new_tokens": (self.new_tokens >= 1, "at least 1"),
            "temperature": (self.temperature >= 0, "0 (greedy) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
        }
        for name, (is_allowed, words) in allowed.items():
            if not is_allowed:
                raise ConfigError(f"Sampling with {name} {getattr(self, name)} is not possible. Expected {words}.")


GREEDY = 0.0
"""The temperature at which the most likely token is taken each time."""


def sample(
    model: Resident | Callable[[], Resident],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    end_ids: Sequence[int] = (),
    view: str = "target",
    batch_size: int = 64,
    kept: Path | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> list[IntArray]:
    """Continue every prompt.

    Prompts of one length go through the model together, so that nothing is padded. Settings for generation that come
    with the model (a repetition penalty, a list of suppressed tokens) are not used.

    Args:
        model: A loaded model, or what loads it; called only if a batch is missing.
        prompts: [N] token ids, at least one each.
        sampling: How to draw.
        seed: Of the draws; no part of a greedy continuation.
        end_ids: Tokens that end a continuation.
        view: As which of its views the model speaks.
        batch_size: Prompts at a time; see `BATCH_SIZE`.
        kept: Folder in which complete batches are kept, and looked for first. Only batches of the same prompts,
            settings and seed are found again; that the model is the same one is for the caller to know.
        progress: Told of prompts done.
        stop: Asked before every token.

    Returns:
        [N] ids of the continuations without their prompts, end token included; as long as `sampling.new_tokens`
        unless they end before.

    Raises:
        ConfigError: A prompt is empty.
        ModelError: The model cannot generate, or gives logits that are no numbers.
        EnvironmentFault: Not even one prompt fits into memory.
        Interrupted: A stop was asked for; complete batches are kept.
        StoreError: A batch cannot be written, or is kept in a folder that cannot be read.
    """
    progress = progress or Silent()
    empty = sum(len(prompt) == 0 for prompt in prompts)
    if empty:
        raise ConfigError(f"{empty} of {len(prompts)} prompts are empty. Expected at least one token each.")
    asked = _Request(prompts, sampling, seed, end_ids, view, stop)
    found: dict[int, IntArray] = {}
    resident = model if isinstance(model, Resident) else None
    progress.stage("Sampling", len(prompts), "prompts")
    if kept is not None:
        open_private_folder(kept)
    for rows in _batches(prompts, batch_size):
        file = kept / f"{asked.digest(rows)}.batch" if kept else None
        batch = _read(file) if file else None
        if batch is None:
            if resident is None:
                resident = model if isinstance(model, Resident) else model()
            batch = _continue(resident, asked, rows)
            if file:
                _write(file, batch)
        found.update(zip(rows, batch, strict=True))
        progress.advance(len(rows))
    return [found[row] for row in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Places of prompts that go together: of one length, the longest first, fixed by the prompts alone."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt)].append(row)
    for length in sorted(by_length, reverse=True):
        rows = by_length[length]
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


# --- one batch ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """What is to be continued, and how."""

    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    seed: int
    end_ids: Sequence[int]
    view: str
    stop: StopRequest | None

    def digest(self, rows: list[int]) -> str:
        """Of a batch, over all that could change it but the model."""
        question = {
            "rows": rows,
            "prompts": [list(map(int, self.prompts[row])) for row in rows],
            "sampling": asdict(self.sampling),
            "seed": self.seed,
            "end_ids": list(map(int, self.end_ids)),
            "view": self.view,
        }
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]


def _continue(resident: Resident, asked: _Request, rows: list[int]) -> list[IntArray]:
    """Continuations of these prompts; a batch that does not fit into memory is halved."""
    try:
        return _generate(resident, asked, rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():  # outside the handler, whose traceback would keep the tensors alive
        torch.cuda.empty_cache()
    if len(rows) == 1:
        raise EnvironmentFault(
            f"Not even one prompt of {len(asked.prompts[rows[0]])} tokens can be continued by "
            f"{asked.sampling.new_tokens} in the memory of {resident.device}. Use a lower --precision or another "
            "--device."
        )
    middle = len(rows) // 2
    return [c for half in (rows[:middle], rows[middle:]) for c in _continue(resident, asked, half)]


def _generate(resident: Resident, asked: _Request, rows: list[int]) -> list[IntArray]:
    import transformers

    module, sampling = resident.module, asked.sampling
    if not hasattr(module, "generate"):
        raise ModelError(
            f"Model '{module.config.name_or_path}' cannot generate text with the installed transformers. Save it with "
            "one of the library's own classes."
        )
    ids = torch.tensor([list(map(int, asked.prompts[row])) for row in rows], device=resident.device)
    uniforms = [np.random.default_rng([asked.seed, row]).random(sampling.new_tokens, np.float32) for row in rows]
    draw = _Draw(sampling, torch.from_numpy(np.stack(uniforms)), asked.stop)
    settings = transformers.GenerationConfig(
        do_sample=False,  # the draw leaves a single token to be taken
        num_beams=1,
        use_cache=True,
        max_new_tokens=sampling.new_tokens,
        eos_token_id=list(map(int, asked.end_ids)) or None,
        pad_token_id=int(asked.end_ids[0]) if asked.end_ids else 0,
    )
    with torch.inference_mode(), quiet_libraries(), resident.views[asked.view](), _own_settings_aside(module):
        whole = module.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            logits_processor=transformers.LogitsProcessorList([draw]),
        )
    draw.refuse_nonfinite(module.config.name_or_path)
    return [_cut(row, asked.end_ids) for row in whole[:, ids.shape[1] :].cpu().numpy().astype(np.int32)]


def _cut(continuation: IntArray, end_ids: Sequence[int]) -> IntArray:
    """Without what fills the batch behind an end token."""
    ends = np.flatnonzero(np.isin(continuation, list(end_ids)))
    return continuation[: ends[0] + 1] if len(ends) else continuation


@contextlib.contextmanager
def _own_settings_aside(module: Any) -> Iterator[None]:
    """Settings for generation saved with the model would fill in whatever is not set here."""
    import transformers

    inner = module.get_base_model() if hasattr(module, "get_base_model") else module
    own = getattr(inner, "generation_config", None)
    inner.generation_config = transformers.GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


class _Draw:
    """Picks the next token of each row, so that the greedy choice behind it has no other."""

    def __init__(self, sampling: Sampling, uniforms: torch.Tensor, stop: StopRequest | None) -> None:
        self.sampling = sampling
        self.uniforms = uniforms
        self.stop = stop
        self.step = 0
        self.is_finite: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] in which one token of each row is possible."""
        del input_ids
        if self.stop:
            self.stop.check()
        is_finite = scores.amax(-1).isfinite().all()  # NaN spreads; −inf is how models forbid tokens
        self.is_finite = is_finite if self.is_finite is None else self.is_finite & is_finite
        if self.sampling.temperature == GREEDY:
            return scores
        uniform = self.uniforms[:, self.step, None].to(scores.device)
        self.step += 1
        chosen = draw_token(scores, self.sampling, uniform)
        return torch.full_like(scores, float("-inf")).scatter_(-1, chosen, 0.0)

    def refuse_nonfinite(self, name: str) -> None:
        """Raise unless every step had numbers to go by; asked once a batch, because a device would have to wait."""
        if self.is_finite is not None and not bool(self.is_finite):
            raise ModelError(
                f"Model '{name}' gave NaN or infinite logits while it was sampled from. Use another --precision, "
                "or audit an earlier checkpoint."
            )


def draw_token(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> torch.Tensor:
    """One token per row by the inverse of the distribution function.

    Args:
        logits: [B, V].
        sampling: Temperature above 0, and nucleus.
        uniform: [B, 1] in [0, 1).

    Returns:
        [B, 1] ids.
    """
    probabilities = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    # A whole vocabulary takes ten times as long to sort as its likeliest tokens to find, which nearly always suffice.
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


# --- kept batches -------------------------------------------------------------------------------------


def _write(file: Path, batch: Sequence[IntArray]) -> None:
    content = safetensors_numpy.save(
        {
            "ids": np.concatenate(batch).astype(np.int32),
            "lengths": np.array([len(continuation) for continuation in batch], dtype=np.int32),
        }
    )
    write_atomically(file, hashlib.sha256(content).digest() + content)


def _read(file: Path) -> list[IntArray] | None:
    """A batch kept earlier; None where there is none or its checksum does not match."""
    try:
        raw = file.read_bytes()
    except OSError:
        return None
    digest, content = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    arrays = safetensors_numpy.load(content)
    return np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
