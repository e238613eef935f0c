"""One copy of the weights in memory that can speak as the target and, where exact, as its reference too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

View = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass
class Resident:
    """A loaded model and the views it can give.

    Attributes:
        module: A causal language model, or a `PeftModel` around one.
        device: Where inputs go.
        views: By name, a context within which `module` is that model.
        n_shared_layers: Leading decoder layers that give the same output in every view, because none of
            their tensors, nor any before them, differ. All of them with `shares_trunk`.
        shares_trunk: Whether the views differ in the output head alone.
        layers: The decoder layers, first to last; empty where they could not be identified.
        is_mixed: Whether its views compute in half precision what its weights hold in full.
        tuned: The target's own parameters: those of the adapter, or those in which it differs from the base. None
            where that is not known, or holds for most.
    """

    module: Any
    device: str
    views: Mapping[str, View]
    n_shared_layers: int = 0
    shares_trunk: bool = False
    layers: list[Any] = field(default_factory=list[Any])
    is_mixed: bool = False
    tuned: list[Any] | None = None

    @property
    def head(self) -> Any:
        """The module that turns hidden states into logits."""
        return self.module.get_output_embeddings()

    @property
    def vocabulary_size(self) -> int:
        """Rows of the input embedding: token ids must be below."""
        return int(self.module.get_input_embeddings().weight.shape[0])

    @property
    def n_parameters(self) -> int:
        """Parameters in memory."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def always(module: Any) -> View:
    """The view that is the module as it stands."""
    del module
    return contextlib.nullcontext


def swapped(module: Any, tensors: Mapping[str, Any]) -> View:
    """The view in which some parameters of `module` hold other values; restored afterwards.

    Args:
        module: The model.
        tensors: New value by parameter name, on the module's device and in its dtype.
    """
    parameters = dict(module.named_parameters())

    @contextlib.contextmanager
    def swap() -> Iterator[None]:
        kept = {name: parameters[name].data for name in tensors}
        try:
            for name, tensor in tensors.items():
                parameters[name].data = tensor
            yield
        finally:
            for name, tensor in kept.items():
                parameters[name].data = tensor

    return swap


def find_layers(module: Any) -> tuple[str, list[Any]]:
    """Name and members of the list of decoder layers; ("", []) where there is no single such list."""
    import torch

    n_layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    found = [
        (name, list(child))
        for name, child in module.named_modules()
        if isinstance(child, torch.nn.ModuleList) and len(child) == n_layers
    ]
    return found[0] if len(found) == 1 else ("", [])


def count_shared_layers(module: Any, changed: list[str]) -> int:
    """How many leading decoder layers lie before every parameter in `changed`.

    A changed parameter outside the layers counts as coming after them only if it belongs to the
    output head or to a module registered behind the list of layers (the final norm); any other, such
    as an embedding, makes the answer 0.
    """
    path, layers = find_layers(module)
    if not layers:
        return 0
    parent_path, _, attribute = path.rpartition(".")
    siblings = [name for name, _ in module.get_submodule(parent_path).named_children()]
    behind = {f"{parent_path}.{name}".lstrip(".") for name in siblings[siblings.index(attribute) + 1 :]}
    head = module.get_output_embeddings()
    head_path = next((name for name, child in module.named_modules() if child is head), None)
    head_is_tied = getattr(head, "weight", None) is module.get_input_embeddings().weight
    first_changed = len(layers)
    for name in changed:
        if name.startswith(f"{path}."):
            first_changed = min(first_changed, int(name[len(path) + 1 :].split(".", 1)[0]))
        elif head_path and name.startswith(f"{head_path}.") and not head_is_tied:
            continue
        elif not any(name.startswith(f"{place}.") for place in behind):
            return 0
    return first_changed
