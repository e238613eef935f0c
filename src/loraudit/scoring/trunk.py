"""The body of a model: everything before the output head, run only as far as views differ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

_ABSENT = object()


@contextlib.contextmanager
def replaced_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context, calling `module` runs `forward` instead."""
    kept = module.__dict__.get("forward", _ABSENT)
    module.forward = forward
    try:
        yield
    finally:
        if kept is _ABSENT:
            del module.forward
        else:
            module.forward = kept


def hidden_states(module: Any, head: Any, **inputs: Any) -> torch.Tensor:
    """[B, L, d] what goes into the output head; the head itself is not run.

    Works for any wrapper around the model, because the input is taken where the head is called.
    Virtual tokens that a prompt-learning adapter puts in front are cut off.
    """
    captured: list[torch.Tensor] = []

    def capture(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        captured.append(hidden)
        return hidden[..., :1]  # stands in for the logits; whatever the model does to them is cheap and unused

    with replaced_forward(head, capture):
        module(use_cache=False, **inputs)
    return captured[0][:, -inputs["input_ids"].shape[1] :]


@contextlib.contextmanager
def recorded_output(layer: Any, into: list[Any]) -> Iterator[None]:
    """Keep what `layer` returns."""

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        into.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def skipped(layers: list[Any], output: Any) -> Iterator[None]:
    """Run none of `layers`; each returns the output that the last of them gave before."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced_forward(layer, lambda *_, **__: output))
        yield


def logit_tail(config: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What some architectures do to the head's output before it is called logits.

    Known are a soft cap (Gemma), a multiplier (Cohere) and a divisor (Granite). That nothing was
    missed is checked against the model's own logits before any record is scored.
    """
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)

    def tail(logits: torch.Tensor) -> torch.Tensor:
        if scale:
            logits = logits * scale
        if divisor:
            logits = logits / divisor
        if cap:
            logits = torch.tanh(logits / cap) * cap
        return logits

    return tail
