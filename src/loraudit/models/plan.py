"""What a plan of target and reference is, and what plans of adapters and of checkpoints share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loraudit.models.loading import load_checkpoint
from loraudit.models.locate import Source, locate
from loraudit.models.numerics import Numerics
from loraudit.models.resident import Resident, View, always, count_shared_layers, find_layers
from loraudit.spec import ModelSummary

TARGET = "target"
REFERENCE = "reference"
DEFAULT_CONTEXT = 2048

Loader = Callable[[Numerics, str], Resident]


class Memory(Protocol):
    """Where answers that are costly to find are kept between runs."""

    def recall(self, question: Mapping[str, Any]) -> Any | None:
        """The answer kept for this question, or None."""
        ...

    def remember(self, question: Mapping[str, Any], answer: Any) -> None:
        """Keep an answer."""
        ...


@dataclass
class ModelPlan:
    """What will be loaded, in stages of one resident copy each.

    Attributes:
        target: As the report names it.
        reference: Likewise, or None where no base is known.
        tokenizer_folder: Where the tokenizer is read from.
        tokenizer_fingerprint: Of its files.
        context_length: Longest input of the model in tokens; None where its config does not say.
        stages: (views, loader) pairs; a stage is loaded only if evidence of its views is missing.
        target_source: Files of the target.
        base_source: Files of the base; None where none is known.
        load_target: Loads what can speak as the target, and not more than that where it can be helped.
        n_parameters: Of the larger of the models that are in memory together.
        width: Size of a hidden state; None where its config does not say.
        n_tuned_parameters: Of the adapter, or of the tensors in which a checkpoint differs from its base; None where
            that is not known.
        warnings: What the report must say about these models.
        hashes: sha256 of each set of files that was loaded, by what it is.
        folders: Where those files are.
    """

    target: ModelSummary
    reference: ModelSummary | None
    tokenizer_folder: Path
    tokenizer_fingerprint: str
    context_length: int | None
    stages: list[tuple[tuple[str, ...], Loader]]
    target_source: Source
    base_source: Source | None
    load_target: Loader
    n_parameters: int
    width: int | None
    n_tuned_parameters: int | None = None
    warnings: list[str] = field(default_factory=list[str])
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    folders: tuple[Path, ...] = ()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each view's weights."""
        found = {TARGET: self.target.fingerprint}
        return found if self.reference is None else found | {REFERENCE: self.reference.fingerprint}


@dataclass(frozen=True, slots=True)
class LoadingOptions:
    """What loading may do.

    Attributes:
        offline: Never use the network.
        allow_pickle: Accept pickled weights.
        allow_remote_code: Run code that comes with a model.
    """

    offline: bool
    allow_pickle: bool
    allow_remote_code: bool

    def locate(self, name: str) -> Source:
        """Files of a model; errors as of `locate`."""
        return locate(
            name,
            offline=self.offline,
            allow_pickle=self.allow_pickle,
            allow_remote_code=self.allow_remote_code,
        )

    def load(self, source: Source, numerics: Numerics, device: str) -> Any:
        """The module of a checkpoint; errors as of `load_checkpoint`."""
        return load_checkpoint(
            source,
            numerics,
            device,
            allow_pickle=self.allow_pickle,
            allow_remote_code=self.allow_remote_code,
        )


def summary_of(source: Source, kind: str, digest: str, **details: Any) -> ModelSummary:
    """What the report says of a model."""
    return ModelSummary(name=source.name, kind=kind, fingerprint=digest, details=details)


def context_length(config: Mapping[str, Any]) -> int | None:
    """Longest input in tokens that a `config.json` states; None where it states none."""
    config = {**(config.get("text_config") or {}), **config}
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        if isinstance(config.get(name), int):
            return config[name]
    return None


def width_of(config: Mapping[str, Any]) -> int | None:
    """Size of a hidden state that a `config.json` states; None where it states none."""
    config = {**(config.get("text_config") or {}), **config}
    found = config.get("hidden_size") or config.get("n_embd") or config.get("d_model")
    return found if isinstance(found, int) else None


def shared_copy(
    module: Any, device: str, inner: Any, changed: list[str], as_reference: View, tuned: list[Any]
) -> Resident:
    """One copy that gives both views.

    Args:
        module: The target.
        device: Where it is.
        inner: The model inside an adapter's wrapper, or the same.
        changed: Names of the parameters of `inner` in which the views differ.
        as_reference: The view that is the reference.
        tuned: As of `Resident`.
    """
    layers = find_layers(inner)[1]
    n_shared = count_shared_layers(inner, changed) if changed else 0
    head = next((name for name, child in inner.named_modules() if child is inner.get_output_embeddings()), None)
    return Resident(
        module,
        input_device(module, device),
        {TARGET: always(module), REFERENCE: as_reference},
        n_shared_layers=n_shared,
        shares_trunk=bool(layers)
        and n_shared == len(layers)
        and all(head is not None and name.startswith(f"{head}.") for name in changed),
        layers=layers,
        tuned=tuned,
    )


def input_device(module: Any, device: str) -> str:
    """Where inputs of a loaded module go; of one spread over several devices, to its embedding's."""
    return str(module.get_input_embeddings().weight.device) if device == "balanced" else device
