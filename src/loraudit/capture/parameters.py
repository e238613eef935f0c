"""Which parameters of a model a kernel counts, by the layers that use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from loraudit.errors import ModelError
from loraudit.poisoning.deviation import family_of

Role = Literal["outer", "lookup", "scale", "shift"]
Part = Literal["weights", "biases", "others"]
Convert = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
_OF_AN_ADAPTER = re.compile(r"(^|\.)lora_[A-Za-z_]+(\.|$)")
_WRAPPERS = re.compile(r"\.base_layer\b|\.original_module\b|\.modules_to_save\.[^.]+")
_PARTS: dict[Role, Part] = {"outer": "weights", "lookup": "others", "scale": "others", "shift": "biases"}
_NORMS = ("LayerNorm", "RMSNorm")


class Use(NamedTuple):
    """One layer that uses a parameter.

    Attributes:
        layer: Its name, without what PEFT puts around it.
        module: The layer.
        role: How the gradient follows from what went in and the gradient g of what came out: "outer" Σ g aᵀ, "lookup"
            Σ g by the id that went in, "scale" Σ g times the normalised input, "shift" Σ g.
        widths: Numbers at one position of the two factors of an outer product; of g alone for the others.
        convert: From a [N, n] and g [N, k] to the two factors, where they are not g and a.
        is_head: Whether the layer belongs to the head.
    """

    layer: str
    module: Any
    role: Role
    widths: tuple[int, int]
    convert: Convert | None = None
    is_head: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """A parameter that counts in a kernel.

    Attributes:
        parameter: Itself.
        part: Of `KernelParts`.
        kind: Of the layer it is counted under: its name with every number replaced by a star.
        uses: Several where layers share it.
        exact: What this is a sketch of, by which it is proven; None where it is no sketch.
    """

    parameter: Any
    part: Part
    kind: str
    uses: tuple[Use, ...]
    exact: Counted | None = None

    @property
    def name(self) -> str:
        """Of the layer that uses it, the first of several."""
        return self.uses[0].layer

    @property
    def is_head(self) -> bool:
        """Whether a layer of the head uses it."""
        return any(use.is_head for use in self.uses)

    @property
    def is_map(self) -> bool:
        """Whether it is the weight of linear maps outside the head: what LoRA can adapt."""
        return self.part == "weights" and not self.is_head


def counted_parameters(module: Any, head: Seq[str] | None = None) -> list[Counted]:
    """Every parameter of a model besides those of a LoRA adapter on it.

    Args:
        module: A causal language model or sequence classifier, also inside PEFT.
        head: Names of the head's modules; None takes the output head of a language model, and of a classifier all
            that follows its body.

    Raises:
        ModelError: Parameters belong to layers of another sort than linear maps, embeddings and norms, or to an
            adapter of another sort than LoRA; all are listed.
    """
    _refuse_other_adapters(module)
    heads = _head_names(module) if head is None else tuple(head)
    uses: dict[int, list[tuple[Any, Use]]] = {}
    for name, part in module.named_modules():
        if not _OF_AN_ADAPTER.search(name):
            for parameter, use in _uses_of(plain_name(name), part, heads):
                uses.setdefault(id(parameter), []).append((parameter, use))
    _refuse_unknown(module, set(uses))
    return [_counted([use for _, use in own], own[0][0]) for own in uses.values()]


def bundles(parameters: Iterable[Counted]) -> list[list[Counted]]:
    """Parameters in groups that share no layer, so that each can be measured without the others."""
    found: list[tuple[set[int], list[Counted]]] = []
    for one in parameters:
        layers, members = {id(use.module) for use in one.uses}, [one]
        touched = [group for group in found if group[0] & layers]
        for group in touched:
            found.remove(group)
            layers |= group[0]
        found.append((layers, [*(other for _, others in touched for other in others), *members]))
    return [members for _, members in found]


def _counted(uses: list[Use], parameter: Any) -> Counted:
    # A weight that an embedding shares with the head is full tuning's alone; head-only tuning unties it first.
    first = next((use for use in uses if use.role == "lookup"), uses[0])
    return Counted(
        parameter, _PARTS[first.role], family_of(first.layer), (first, *(use for use in uses if use is not first))
    )


def _uses_of(name: str, part: Any, heads: Seq[str]) -> Iterator[tuple[Any, Use]]:
    from transformers.pytorch_utils import Conv1D

    is_head = any(name == own or name.startswith(f"{own}.") for own in heads)
    if isinstance(part, torch.nn.Linear | Conv1D):
        n, k = (part.in_features, part.out_features) if isinstance(part, torch.nn.Linear) else part.weight.shape
        yield part.weight, Use(name, part, "outer", (int(k), int(n)), is_head=is_head)
        if part.bias is not None:
            yield part.bias, Use(name, part, "shift", (int(k), 0), is_head=is_head)
    elif isinstance(part, torch.nn.Embedding):
        yield part.weight, Use(name, part, "lookup", (part.embedding_dim, 0), is_head=is_head)
    elif type(part).__name__.endswith(_NORMS):
        roles: tuple[tuple[Any, Role], ...] = (
            (getattr(part, "weight", None), "scale"),
            (getattr(part, "bias", None), "shift"),
        )
        for parameter, role in roles:
            if parameter is not None:
                yield parameter, Use(name, part, role, (parameter.numel(), 0), is_head=is_head)


def plain_name(name: str) -> str:
    """The name a layer has without PEFT around it."""
    return _WRAPPERS.sub("", name.removeprefix("base_model.model."))


def _head_names(module: Any) -> tuple[str, ...]:
    model = module.get_base_model() if hasattr(module, "peft_config") else module
    output = model.get_output_embeddings()
    body = getattr(model, model.base_model_prefix, None)
    children = [part for part in model.children() if part is not body and any(True for _ in part.parameters())]
    wanted = {id(part) for part in ([output] if output is not None else children)}
    return tuple(plain_name(name) for name, part in model.named_modules() if id(part) in wanted)


def _refuse_other_adapters(module: Any) -> None:
    configs = getattr(module, "peft_config", {})
    others = sorted({str(config.peft_type.value) for config in configs.values() if config.peft_type.value != "LORA"})
    if others:
        raise ModelError(
            f"The model carries an adapter of the kind {', '.join(others)}. Expected LoRA or none. Measure kernels on "
            "its base."
        )


def _refuse_unknown(module: Any, known: set[int]) -> None:
    unknown: list[str] = []
    for name, part in module.named_modules():
        own = [key for key, one in part.named_parameters(recurse=False) if id(one) not in known]
        if own and not _OF_AN_ADAPTER.search(name):
            unknown.append(f"'{plain_name(name) or 'the model'}' ({type(part).__name__}: {', '.join(own)})")
    if unknown:
        raise ModelError(
            f"Parameters of {type(module).__name__} belong to layers whose gradients are not captured: "
            f"{'; '.join(unknown)}. The kernel of full tuning would lack them, and that of bias-only tuning where they "
            "are biases. Expected linear maps, embeddings, layer norms and RMS norms alone. Use another base."
        )
