"""Scorers of paraphrase: a sequence-pair classifier of the user's choice, or a threshold on embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from loraudit.errors import ConfigError, ModelError
from loraudit.memorization import ParaphraseScorer
from loraudit.models.embedding import single_device
from loraudit.models.loading import load_trained_classifier, quiet_libraries
from loraudit.models.locate import locate
from loraudit.models.numerics import Numerics
from loraudit.models.plan import context_length
from loraudit.models.planning import load_tokenizer

_POSITIVE = re.compile(r"paraphras|equivalen|duplicate")
_NEGATED = re.compile(r"(^|[^a-z])(not|no|non|un|in|dis)([^a-z]|$|(?=paraphras|equivalen|duplicate))")
_TOKENS_PER_BATCH = 8192


def load_paraphrase_scorer(
    name_or_path: str,
    *,
    offline: bool,
    device: str = "cpu",
    allow_remote_code: bool = False,
    allow_pickle: bool = False,
    positive: int | str | None = None,
) -> ParaphraseScorer:
    """From pairs (a, b) to the probability that b paraphrases a, by a Hugging Face sequence-pair classifier.

    Nothing is truncated: a pair that is longer than the model reads, and one with an empty side, has no score: NaN, to
    be counted by who asks. Scores are a softmax over the labels in float64, or a sigmoid where the model has a single
    label or says that its labels are independent. The order of a pair matters to most models.

    Args:
        name_or_path: A folder, or a hub name, which is downloaded unless `offline`.
        offline: Use only what is on this machine.
        device: One device, such as cpu or cuda:1.
        allow_remote_code: Accept a model that brings its own code.
        allow_pickle: Accept weights that can run code when loaded.
        positive: The label that means paraphrase, by name or number. None takes the only one that is named for it
            (paraphrase, equivalent, duplicate), or LABEL_1 of LABEL_0 and LABEL_1.

    Raises:
        ConfigError: Which label means paraphrase is not clear, `positive` is none of them, or `device` names several.
        ModelError: Nothing usable there, it is unsafe, or it is no classifier with a trained head.
        EnvironmentFault: The hub cannot be asked, or the device or memory is not there.
    """
    place = single_device(device)
    source = locate(name_or_path, offline=offline, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    if source.kind != "checkpoint":
        raise ModelError(f"Model '{source.name}' is an adapter. Expected a full sequence classifier.")
    model = load_trained_classifier(
        source,
        Numerics(place.split(":", maxsplit=1)[0], "fp32"),
        place,
        allow_pickle=allow_pickle,
        allow_remote_code=allow_remote_code,
    )
    if model.config.problem_type == "regression":
        raise ModelError(f"Model '{source.name}' is a regression, which gives no probability. Expected a classifier.")
    labels = {int(number): str(label) for number, label in model.config.id2label.items()}
    column = positive_label(source.name, labels, positive)
    tokenizer = load_tokenizer(source.folder, allow_remote_code=allow_remote_code)
    limit = _longest_input(model, tokenizer)

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        with quiet_libraries():
            return _score(model, tokenizer, pairs, column, limit, place)

    return score


def positive_label(name: str, labels: Mapping[int, str], positive: int | str | None) -> int:
    """Number of the label that means paraphrase.

    Args:
        name: Of the model, for the message.
        labels: From number to name, as the model's config says.
        positive: As the user names it, or None.

    Raises:
        ConfigError: There is no such label, or `positive` is None and more or less than one is named for it.
    """
    listed = ", ".join(f"{number} '{label}'" for number, label in sorted(labels.items()))
    if positive is not None:
        found = [n for n, label in labels.items() if positive == n or str(positive).casefold() == label.casefold()]
        if len(found) != 1:
            raise ConfigError(
                f"Label '{positive}' is none of model '{name}', or not only one. Expected one of: {listed}. "
                "Give its number as `positive`."
            )
        return found[0]
    found = [n for n, label in labels.items() if _means_paraphrase(label)]
    if len(found) == 1:
        return found[0]
    if [labels[number] for number in sorted(labels)] == ["LABEL_0", "LABEL_1"]:
        return 1
    raise ConfigError(
        f"Model '{name}' does not say which of its labels means paraphrase: {listed}. Expected exactly one named "
        "paraphrase, equivalent or duplicate. Give its number or name as `positive`."
    )


def _means_paraphrase(label: str) -> bool:
    lowered = label.casefold()
    return _POSITIVE.search(lowered) is not None and _NEGATED.search(lowered) is None


def _longest_input(model: Any, tokenizer: Any) -> int | None:
    """Tokens that the model has positions for, and its tokenizer says it may be given; None for no limit."""
    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < 10**9 else []
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings") and hasattr(m, "weight")]
    if tables:  # RoBERTa and its kind number positions from the padding id on
        skipped = [0 if getattr(m, "padding_idx", None) is None else m.padding_idx + 1 for m in tables]
        limits += [len(m.weight) - n for m, n in zip(tables, skipped, strict=True)]
    else:
        stated = context_length(model.config.to_dict())
        limits += [] if stated is None else [stated]
    return min(limits, default=None)


def _score(
    model: Any, tokenizer: Any, pairs: list[tuple[str, str]], column: int, limit: int | None, device: str
) -> list[float]:
    scores = [float("nan")] * len(pairs)
    whole = [number for number, (one, other) in enumerate(pairs) if one.strip() and other.strip()]
    encoded = {number: tokenizer(*pairs[number], truncation=False) for number in whole}
    lengths = {number: len(encoded[number]["input_ids"]) for number in whole}
    fitting = sorted((n for n in whole if limit is None or lengths[n] <= limit), key=lambda n: (lengths[n], n))
    for batch in _batches(fitting, lengths, can_pad=tokenizer.pad_token_id is not None):
        probabilities = _probabilities(model, tokenizer, [encoded[number] for number in batch], device)
        for number, row in zip(batch, probabilities, strict=True):
            scores[number] = float(row[column])
    return scores


def _batches(fitting: list[int], lengths: Mapping[int, int], *, can_pad: bool) -> list[list[int]]:
    """Pairs in the given order, cut so that a batch has a bounded number of tokens; single ones without padding."""
    batches: list[list[int]] = []
    for number in fitting:
        if can_pad and batches and lengths[number] * (len(batches[-1]) + 1) <= _TOKENS_PER_BATCH:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def _probabilities(model: Any, tokenizer: Any, encoded: list[Any], device: str) -> np.ndarray:
    """[batch, labels]."""
    import torch

    if len(encoded) == 1:
        inputs = {name: torch.tensor([values]) for name, values in encoded[0].items()}
    else:
        inputs = dict(tokenizer.pad(encoded, return_tensors="pt"))
    with torch.inference_mode():
        logits = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits.double()
    is_independent = logits.shape[-1] == 1 or model.config.problem_type == "multi_label_classification"
    probabilities = logits.sigmoid() if is_independent else logits.softmax(dim=-1)
    return probabilities.cpu().numpy()
