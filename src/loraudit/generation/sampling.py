"""Continuations of prompts: greedy or drawn, in batches, the same for the same seed however they are batched.

The draw of a prompt depends on the seed and on its place among the prompts alone: one uniform number per token picks
the token by the inverse of the distribution function. So neither the size of a batch, nor a batch halved for lack of
memory, nor a run that was killed and resumed changes what is drawn (but for what the rounding of other batches does
to probabilities), and no global generator is touched.

Nothing is padded: it moves a model's numbers, and was no faster (benchmarks/generation.py). Prompts of an audit mostly
come in a few lengths (16, 32, 50 or 100 tokens of each record) and fill batches of their own; where lengths are mixed,
those of about one length go together, and the longer ones among them hear their last tokens while the others speak.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import numpy as safetensors_numpy

from loraudit.errors import ConfigError, EnvironmentFault
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.generation.batching import plan_batches
from loraudit.generation.cached import has_rows, speaking
from loraudit.generation.continuing import Chooser, Endings, continue_rows, continue_whole
from loraudit.generation.decodings import Sampling
from loraudit.generation.memory import in_halves
from loraudit.models import Resident
from loraudit.store import open_private_folder, write_atomically
from loraudit.types import IntArray

BATCH_SIZE = {"cpu": 64, "cuda": 256, "mps": 64}
"""Prompts at a time by kind of device."""

_DIGEST_BYTES = 32
_VERSION = 2

Item = tuple[int, int]
"""The place of a prompt, and which of its samples."""

Way = Callable[[list[Item]], list[IntArray]]
Loop = Callable[[Resident, Sequence[IntArray], Chooser, Endings, StopRequest | None], list[IntArray]]

Engine = Callable[[Sequence[IntArray], Sampling, Sequence[int], Sequence[int]], list[IntArray]]
"""Something else than the model itself that continues prompts: (prompts, sampling, seed of each, end ids)."""


def sample(
    model: Resident | Callable[[], Resident],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    n_samples: int = 1,
    end_ids: Sequence[int] = (),
    expected: Sequence[Sequence[int]] | None = None,
    stop_at_divergence: bool = True,
    view: str = "target",
    batch_size: int = 64,
    engine: Engine | None = None,
    kept: Path | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> list[IntArray]:
    """Continue every prompt.

    A prompt that stands several times in a batch, and a beginning that all of its prompts share, is computed once.
    Settings for generation that come with the model (a repetition penalty, a list of suppressed tokens) are not used.

    Args:
        model: A loaded model, or what loads it; called only if a batch is missing.
        prompts: [N] token ids, at least one each.
        sampling: How to draw.
        seed: Of the draws; no part of a greedy continuation.
        n_samples: Of each prompt. The first does not depend on how many there are.
        end_ids: Tokens that end a continuation.
        expected: [N] what the prompts should be continued with; no more than that is said.
        stop_at_divergence: Where something is expected, a continuation ends with its first token that differs:
            all that is needed to count what is repeated verbatim.
        view: As which of its views the model speaks.
        batch_size: Prompts at a time; see `BATCH_SIZE`.
        engine: What continues the prompts instead of the model, see `open_vllm`; its draws are others.
        kept: Folder in which complete batches are kept, and looked for first. Only batches of the same prompts,
            settings and seed are found again; that the model is the same one is for the caller to know.
        progress: Told of prompts done.
        stop: Asked before every token.

    Returns:
        [N · n_samples] ids of the continuations without their prompts, end token included, the samples of a prompt
        side by side; as long as `sampling.new_tokens` unless they end before.

    Raises:
        ConfigError: A prompt or what is expected of it is empty, or there is not one expectation per prompt.
        ModelError: The model cannot generate, or gives logits that are no numbers.
        EnvironmentFault: Not even one prompt fits into memory.
        Interrupted: A stop was asked for; complete batches are kept.
        StoreError: A batch cannot be written, or is kept in a folder that cannot be read.
    """
    progress = progress or Silent()
    _refuse_unfit(prompts, expected, n_samples)
    asked = _Request(prompts, sampling, seed, end_ids, expected, stop_at_divergence, view, engine, stop)
    found: dict[Item, IntArray] = {}
    run: Way | None = None
    items = [(place, number) for place in range(len(prompts)) for number in range(n_samples)]
    progress.stage("Sampling", len(items), "prompts" if n_samples == 1 else "samples")
    if kept is not None:
        open_private_folder(kept)
    lengths = [len(prompts[place]) for place, _ in items]
    for places in plan_batches(lengths, size=batch_size, new_tokens=sampling.new_tokens):
        batch = [items[place] for place in places]
        file = kept / f"{asked.digest(batch)}.batch" if kept else None
        said = _read(file) if file else None
        if said is None:
            if run is None:
                run = _way(model, asked)
            said = run(batch)
            if file:
                _write(file, said)
        found.update(zip(batch, said, strict=True))
        progress.advance(len(batch))
    return [found[item] for item in items]


def _refuse_unfit(prompts: Sequence[Sequence[int]], expected: Sequence[Sequence[int]] | None, n_samples: int) -> None:
    empty = sum(len(prompt) == 0 for prompt in prompts)
    if empty:
        raise ConfigError(f"{empty} of {len(prompts)} prompts are empty. Expected at least one token each.")
    if n_samples < 1:
        raise ConfigError(f"Sampling with n_samples {n_samples} is not possible. Expected at least 1.")
    if expected is None:
        return
    if len(expected) != len(prompts):
        raise ConfigError(f"{len(prompts)} prompts have {len(expected)} expected continuations. Expected one for each.")
    empty = sum(len(tokens) == 0 for tokens in expected)
    if empty:
        raise ConfigError(
            f"{empty} of {len(expected)} expected continuations are empty. Expected at least one token each."
        )


# --- one batch ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """What is to be continued, and how."""

    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    seed: int
    end_ids: Sequence[int]
    expected: Sequence[Sequence[int]] | None
    stop_at_divergence: bool
    view: str
    engine: Engine | None
    stop: StopRequest | None

    def digest(self, items: list[Item]) -> str:
        """Of a batch, over all that could change it but the model."""
        question = {
            "version": _VERSION,
            "items": items,
            "prompts": [list(map(int, self.prompts[place])) for place, _ in items],
            "expected": None if self.expected is None else [list(map(int, self.expected[p])) for p, _ in items],
            "stop_at_divergence": self.stop_at_divergence,
            "sampling": asdict(self.sampling),
            "seed": self.seed,
            "end_ids": list(map(int, self.end_ids)),
            "view": self.view,
            "engine": None if self.engine is None else type(self.engine).__name__,
        }
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]

    def ids(self, items: list[Item]) -> list[IntArray]:
        """Token ids of the prompts of these items."""
        return [np.array(list(map(int, self.prompts[place])), dtype=np.int64) for place, _ in items]

    def endings(self, items: list[Item]) -> Endings:
        """Where their continuations end."""
        expected = None if self.expected is None else [self.expected[place] for place, _ in items]
        n = self.sampling.new_tokens
        return Endings.of(map(int, self.end_ids), expected, n, stops_at_divergence=self.stop_at_divergence)

    def generator(self, item: Item) -> np.random.Generator:
        """Where the draws of an item come from; that of the first sample is the one of [seed, place]."""
        return np.random.default_rng([self.seed, *item])


def _way(model: Resident | Callable[[], Resident], asked: _Request) -> Way:
    """How batches are continued: by the engine, row by row, or by the library's own loop."""
    if asked.engine is not None:
        return partial(_by_engine, asked.engine, asked)
    resident = model if isinstance(model, Resident) else model()
    with speaking(resident, asked.view):
        loop = continue_rows if has_rows(resident) else continue_whole
    return partial(_continue, resident, asked, loop)


def _by_engine(engine: Engine, asked: _Request, items: list[Item]) -> list[IntArray]:
    if asked.stop:
        asked.stop.check()
    seeds = [int(asked.generator(item).integers(2**31)) for item in items]
    said = engine(asked.ids(items), asked.sampling, seeds, asked.end_ids)
    endings = asked.endings(items)
    return [endings.cut(row, continuation) for row, continuation in enumerate(said)]


def _continue(resident: Resident, asked: _Request, loop: Loop, items: list[Item]) -> list[IntArray]:
    """Continuations of these prompts; a batch that does not fit into memory is halved."""

    def too_large(item: Item) -> EnvironmentFault:
        return EnvironmentFault(
            f"Not even one prompt of {len(asked.prompts[item[0]])} tokens can be continued by "
            f"{asked.sampling.new_tokens} in the memory of {resident.device}. Use a lower --precision or another "
            "--device."
        )

    return in_halves(partial(_generate, resident, asked, loop), items, too_large)


def _generate(resident: Resident, asked: _Request, loop: Loop, items: list[Item]) -> list[IntArray]:
    uniforms = np.stack([asked.generator(item).random(asked.sampling.new_tokens, np.float32) for item in items])
    chooser = Chooser(asked.sampling, uniforms)
    with speaking(resident, asked.view):
        said = loop(resident, asked.ids(items), chooser, asked.endings(items), asked.stop)
    chooser.refuse_nonfinite(resident)
    return said


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
