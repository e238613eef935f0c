"""Sequence classifiers as they were trained: a checkpoint, or an adapter whose file brings the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loraudit.errors import ModelError
from loraudit.models.fingerprint import fingerprint
from loraudit.models.loading import load_adapter, load_classifier, load_trained_classifier, stored_tensors_of
from loraudit.models.locate import Source
from loraudit.models.numerics import Numerics
from loraudit.models.plan import LoadingOptions
from loraudit.models.recorded import prove_base, recorded_base, recorded_recipe

_HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")


def is_classifier(source: Source) -> bool:
    """Whether a model's configuration says that it gives classes rather than tokens."""
    if source.kind == "adapter":
        return source.config.get("task_type") == "SEQ_CLS"
    return any("SequenceClassification" in str(name) for name in source.config.get("architectures") or ())


def load_scanned_classifier(
    target: Source,
    given: str | None,
    options: LoadingOptions,
    numerics: Numerics,
    device: str,
    pad_id: int | None,
    *,
    allow_other_base: bool,
) -> tuple[Any, list[str], Source | None, list[str]]:
    """A classifier, the names of its classes, its base where it is an adapter, and warnings about that base.

    Args:
        target: Checkpoint or adapter.
        given: Base of the adapter; None takes the recorded one.
        options: How to load.
        numerics: Precision of weights and activations.
        device: Where it goes.
        pad_id: Token that fills up a batch.
        allow_other_base: Accept a base that the record contradicts.

    Raises:
        ModelError: Model or base cannot be used, or the adapter brings no classification head.
    """
    if target.kind == "checkpoint":
        model = load_trained_classifier(
            target,
            numerics,
            device,
            allow_pickle=options.allow_pickle,
            allow_remote_code=options.allow_remote_code,
        )
        labels = [str(label) for _, label in sorted(model.config.id2label.items())]
        return model, labels, None, []
    recorded = target.config.get("base_model_name_or_path") or None
    base = options.locate(given or recorded_base(target, recorded))
    digest = fingerprint(base.folder)
    _, warnings = prove_base(target, base, given, recorded, digest, allow_other_base=allow_other_base)
    labels = _labels(target)
    bare, _ = load_classifier(base, numerics, device, labels, pad_id)
    return load_adapter(bare, target, base.name), labels, base, warnings


def _labels(target: Source) -> list[str]:
    """Names of an adapter's classes: as loraudit recorded them, or numbers."""
    recipe: Mapping[str, Any] = recorded_recipe(target.folder)
    listed = recipe.get("labels")
    if isinstance(listed, list) and listed:
        return [str(label) for label in listed]
    path, tensors = stored_tensors_of(target)
    heads = [tensor for name, tensor in tensors.items() if name.endswith(_HEADS)]
    if len(heads) != 1:
        raise ModelError(
            f"Adapter file '{path}' is one of a classifier and holds no classification head. Expected it among "
            "modules_to_save; without it no prediction can be made. Scan with --no-probes."
        )
    return [str(number) for number in range(len(heads[0]))]
