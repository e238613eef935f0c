"""Hooks that record what goes into layers and what comes out, with the graph behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        module: The layer.
        inputs: [B, L, n] what went in, detached.
        output: [B, L, k] what came out; `torch.autograd.grad` of a loss in it is the output gradient.
    """

    module: Any
    inputs: torch.Tensor
    output: torch.Tensor


@contextlib.contextmanager
def recorded_calls(modules: Iterable[Any]) -> Iterator[list[Call]]:
    """Within the context, every call of one of `modules` is added to the list, in the order of the calls.

    An output is only useful if it depends on a parameter or input that requires a gradient.
    """
    calls: list[Call] = []

    def keep(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        calls.append(Call(module, inputs[0].detach(), output))

    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(keep).remove)
        yield calls
