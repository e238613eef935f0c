"""Mixed precision and gradient scaling by accelerate, without touching an accelerator of the caller's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from loraudit.errors import ConfigError
from loraudit.models import resolve_devices
from loraudit.models.numerics import BALANCED

_ACCELERATE = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def training_device(device: str) -> str:
    """The one device that training runs on.

    Raises:
        ConfigError: Several are named.
        EnvironmentFault: The machine has no such device.
    """
    devices = resolve_devices(device)
    if len(devices) > 1 or devices == [BALANCED]:
        raise ConfigError(f"Training runs on one device, and '{device}' names several. Give one, such as cuda:0.")
    return devices[0]


@contextlib.contextmanager
def same_randomness(device: str) -> Iterator[None]:
    """Whatever is drawn within, torch's random numbers outside go on as if it had not been."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        yield


@contextlib.contextmanager
def accelerator_for(device: str, precision: str) -> Iterator[Any]:
    """An `accelerate.Accelerator` for one device.

    accelerate keeps its settings for the whole process and refuses others; within the context they are ours, and
    afterwards the caller's again.

    Raises:
        ConfigError: fp16 without a GPU, where sums would overflow unscaled.
    """
    if precision == "fp16" and not device.startswith("cuda"):
        raise ConfigError(
            f"Mixed precision fp16 needs a GPU, and the device is '{device}'. Use --mixed-precision bf16 or fp32."
        )
    import accelerate
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states: Any = (PartialState, AcceleratorState, GradientState)
    kept = [dict(state._shared_state) for state in states]  # noqa: SLF001 - there is no public way to set it aside
    for state in states:
        state._shared_state.clear()  # noqa: SLF001
    try:
        yield accelerate.Accelerator(cpu=not device.startswith(("cuda", "mps")), mixed_precision=_ACCELERATE[precision])
    finally:
        for state, content in zip(states, kept, strict=True):
            state._shared_state.clear()  # noqa: SLF001
            state._shared_state.update(content)  # noqa: SLF001
