"""What stands before a model's last linear map, and the exact gradient of that map for each record."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import softmax

from loraudit.capture.hooks import Call, recorded_calls
from loraudit.data import encode
from loraudit.errors import ModelError
from loraudit.models.live import undisturbed
from loraudit.scoring.classifying import PaddedBatch, classifier_inputs, in_batches
from loraudit.scoring.trunk import replaced_forward
from loraudit.types import FloatArray, IntArray, Record

_SAME_LOGITS = 1e-3


class Represented(NamedTuple):
    """Records as the last linear map of a classifier sees them.

    Attributes:
        representations: [N, d] float32 what goes into it; NaN where a text has no token.
        logits: [N, C] float32 what the classifier says.
        n_cut: Texts that were longer than the window and lost their end.
    """

    representations: FloatArray
    logits: FloatArray
    n_cut: int


def classifier_representations(
    module: Any, tokenizer: Any, records: Seq[Record], *, device: str, max_length: int, batch_size: int = 32
) -> Represented:
    """Inputs of the last linear map of a sequence classifier, encoder or decoder, also inside PEFT.

    Args:
        module: The classifier; left as it was.
        tokenizer: Its own.
        records: At least one with a token.
        device: Where the module is.
        max_length: Tokens; a longer text is cut at the end.
        batch_size: Texts in one pass.

    Raises:
        ModelError: The classifier's logits are not what a linear map gave.
        EnvironmentFault: A single text does not fit into memory.
    """
    inputs = classifier_inputs(records, tokenizer, max_length)
    n_labels = int(module.config.num_labels)
    maps = [
        part
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == n_labels and "lora_" not in name
    ]
    with undisturbed(module), torch.no_grad(), recorded_calls(maps) as calls:

        def read(batch: PaddedBatch) -> torch.Tensor:
            logits = batch.output.logits
            entered = _before_logits(calls, logits, batch.lengths, type(module).__name__)
            calls.clear()
            return torch.cat([entered.float(), logits.float()], dim=1)

        found = in_batches(module, inputs.ids, read, device=device, batch_size=batch_size)
    return Represented(found[:, :-n_labels], found[:, -n_labels:], inputs.n_cut)


def _before_logits(calls: Seq[Call], logits: torch.Tensor, lengths: IntArray, kind: str) -> torch.Tensor:
    """[B, d] the input, of the last call, from which the logits came; that they did is checked."""
    rows = torch.arange(len(lengths), device=logits.device)
    for call in calls[::-1][:1]:
        if call.output.ndim == 2:
            places: list[tuple[Any, ...]] = [(rows,)]
        else:  # a decoder's head speaks at every position, and the last token's word counts
            places = [(rows, torch.from_numpy(lengths - 1).to(logits.device)), (rows, 0)]
        for place in places:
            said = call.output[place]
            if said.shape == logits.shape and torch.allclose(said, logits, atol=_SAME_LOGITS, rtol=_SAME_LOGITS):
                return call.inputs[place]
    raise ModelError(
        f"The logits of {kind} are not what a linear map gave for the last token or the first. Expected a sequence "
        "classifier whose head ends with a linear map. Leave out detectors that need representations or gradients."
    )


def prompt_representations(
    module: Any, tokenizer: Any, records: Seq[Record], *, device: str, max_length: int, batch_size: int = 32
) -> FloatArray:
    """[N, d] float32 what goes into a causal language model's head at the last token of each prompt.

    A record that is all text has no prompt, so its own last token counts. Of a prompt longer than the window the end is
    kept.

    Args:
        module: The language model; left as it was.
        tokenizer: Its own.
        records: Prompts with completions, chats or texts.
        device: Where the module is.
        max_length: Tokens of the window.
        batch_size: Prompts in one pass.

    Raises:
        EnvironmentFault: A single prompt does not fit into memory.
    """
    rows: list[IntArray] = []
    for record, item in zip(records, encode(records, tokenizer), strict=True):
        is_all_prompt = record.text is not None or not item.is_audited[1:].any()
        end = len(item.ids) if is_all_prompt else 1 + int(np.argmax(item.is_audited[1:]))
        rows.append(item.ids[max(0, end - max_length) : end])
    captured: list[torch.Tensor] = []

    def capture(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        captured.append(hidden)
        return hidden[..., :1]  # stands in for the logits, which nobody needs

    def read(batch: PaddedBatch) -> torch.Tensor:
        hidden = captured.pop()
        captured.clear()
        # Virtual tokens of prompt learning stand in front, padding behind.
        places = torch.from_numpy(batch.lengths - 1 - int(batch.lengths.max())).to(hidden.device)
        return hidden[torch.arange(len(hidden), device=hidden.device), places]

    with undisturbed(module), torch.no_grad(), replaced_forward(module.get_output_embeddings(), capture):
        return in_batches(module, rows, read, device=device, batch_size=batch_size)


def head_gradients(represented: Represented, labels: IntArray, *, n_dimensions: int, seed: int) -> FloatArray:
    """Each record's gradient in weight and bias of the last linear map: (p − y) ⊗ (h, 1), without a backward pass.

    Args:
        represented: Of N records.
        labels: [N] class of each as trained.
        n_dimensions: k; where the gradient has more, a fixed Gaussian projection keeps inner products in expectation.
        seed: Of the projection.

    Returns:
        [N, min(k, C · (d + 1))] float32, in nats per unit of the parameters.
    """
    logits = represented.logits.astype(np.float64)
    errors = softmax(logits, axis=1) - np.eye(logits.shape[1])[labels]
    inputs = np.concatenate([represented.representations, np.ones((len(labels), 1))], axis=1)
    n_parameters = errors.shape[1] * inputs.shape[1]
    if n_parameters <= n_dimensions:
        return (errors[:, :, None] * inputs[:, None, :]).reshape(len(labels), -1).astype(np.float32)
    rng = np.random.default_rng(seed)
    projected = np.zeros((len(labels), n_dimensions))
    for error in errors.T:  # a class at a time, so that neither gradients nor the whole projection are ever held
        directions = rng.standard_normal((inputs.shape[1], n_dimensions)) / np.sqrt(n_dimensions)
        projected += error[:, None] * (inputs @ directions)
    return projected.astype(np.float32)
