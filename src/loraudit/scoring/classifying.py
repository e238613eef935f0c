"""Records × sequence classifier → logits, in padded batches that give what each record gets alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from loraudit.data import encode
from loraudit.errors import EnvironmentFault
from loraudit.models.live import undisturbed
from loraudit.models.numerics import is_out_of_memory
from loraudit.types import FloatArray, IntArray, Record


class ClassifierInputs(NamedTuple):
    """Whole texts as a classifier sees them.

    Attributes:
        ids: [N] of [L] token ids.
        n_cut: Texts that were longer than the window and lost their end.
    """

    ids: list[IntArray]
    n_cut: int


class PaddedBatch(NamedTuple):
    """Rows that went through a model together.

    Attributes:
        members: [B] their positions in the list.
        lengths: [B] tokens of each; what follows is padding.
        output: What the model returned.
    """

    members: list[int]
    lengths: IntArray
    output: Any


def classifier_inputs(records: Seq[Record], tokenizer: Any, max_length: int) -> ClassifierInputs:
    """Records as training of a classifier sees them: whole, cut at the end where they are longer than the window."""
    encoded = [item.ids for item in encode(records, tokenizer, span="all")]
    return ClassifierInputs([ids[:max_length] for ids in encoded], sum(len(ids) > max_length for ids in encoded))


def classify(
    module: Any,
    tokenizer: Any,
    records: Seq[Record],
    *,
    device: str,
    max_length: int,
    batch_size: int = 32,
) -> FloatArray:
    """Logits of each record under a sequence classifier, in evaluation mode; the module is left as it was.

    Works for any Hugging Face sequence classifier, encoder or decoder, also inside PEFT. Texts are sorted by length,
    padded on the right and masked; a batch that does not fit into memory is halved.

    Args:
        module: The classifier.
        tokenizer: Its own.
        records: Their labels are not looked at.
        device: Where the module is.
        max_length: Tokens; a longer text is cut at the end, as in training. `classifier_inputs` counts them.
        batch_size: Texts in one pass.

    Returns:
        [N, C] float64, in the order of the records; NaN where a text has no token.

    Raises:
        EnvironmentFault: A single text does not fit into memory.
    """
    inputs = classifier_inputs(records, tokenizer, max_length)

    def logits(batch: PaddedBatch) -> torch.Tensor:
        return batch.output.logits

    with undisturbed(module), torch.no_grad():
        found = in_batches(module, inputs.ids, logits, device=device, batch_size=batch_size)
    if found.ndim == 1:
        return np.full((len(records), int(module.config.num_labels)), np.nan)
    return found.astype(np.float64)


def in_batches(
    module: Any,
    rows: Seq[IntArray],
    read: Callable[[PaddedBatch], torch.Tensor],
    *,
    device: str,
    batch_size: int,
) -> NDArray[Any]:
    """What `read` takes from each padded batch, a row for each of `rows`, in their order.

    The caller sets the module's mode and whether gradients are recorded.

    Args:
        module: A model that takes `input_ids` and `attention_mask`.
        rows: [N] of [L] token ids.
        read: From a batch to [B, …].
        device: Where the module is.
        batch_size: Rows in one pass; halved for a batch that does not fit into memory.

    Returns:
        [N, …] float32; NaN where a row is empty. [N] where all are.

    Raises:
        EnvironmentFault: A single row does not fit into memory.
    """
    order = sorted((i for i in range(len(rows)) if len(rows[i])), key=lambda i: -len(rows[i]))
    pending = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][::-1]
    found: NDArray[Any] | None = None
    with _padding(module, rows) as pad_id:
        while pending:
            members = pending.pop()
            values = _one_batch(module, [rows[i] for i in members], members, read, pad_id, device)
            if values is None:
                middle = len(members) // 2
                pending += [members[middle:], members[:middle]]
                continue
            if found is None:
                found = np.full((len(rows), *values.shape[1:]), np.nan, dtype=np.float32)
            found[members] = values
    return np.full(len(rows), np.nan, dtype=np.float32) if found is None else found


@contextlib.contextmanager
def _padding(module: Any, rows: Seq[IntArray]) -> Iterator[int]:
    """The id that fills rows; a decoder finds the end of a text by it.

    A model that names none is lent one that stands in no row: adapters on a decoder come back without.
    """
    config = module.config.get_text_config()
    if config.pad_token_id is not None:
        yield int(config.pad_token_id)
        return
    n_known = int(module.get_input_embeddings().weight.shape[0])
    config.pad_token_id = max(set(range(n_known)).difference(*(ids.tolist() for ids in rows)), default=0)
    try:
        yield config.pad_token_id
    finally:
        config.pad_token_id = None


def _one_batch(
    module: Any,
    rows: list[IntArray],
    members: list[int],
    read: Callable[[PaddedBatch], torch.Tensor],
    pad_id: int,
    device: str,
) -> NDArray[Any] | None:
    """[B, …], or None where the batch is to be halved."""
    lengths = np.array([len(ids) for ids in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), pad_id, dtype=np.int64)
    for row, own in zip(ids, rows, strict=True):
        row[: len(own)] = own
    mask = np.arange(ids.shape[1])[None] < lengths[:, None]
    try:
        output = module(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask.astype(np.int64)).to(device),
        )
        return read(PaddedBatch(members, lengths, output)).detach().float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if len(rows) == 1:
        raise EnvironmentFault(
            f"A text of {ids.shape[1]} tokens does not fit into the memory of {device}. Give a smaller --max-length or "
            "another --device."
        )
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return None
