"""Where a training run stands, on disk: killed at any moment, it goes on from the last saved step.

A state is one safetensors file, written whole or not at all. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from loraudit.store import write_atomically

STATE_FILE = "state.safetensors"
_POSITION = "position"
_DIGEST = "sha256"


def save_state(
    folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: Any, position: Mapping[str, Any]
) -> None:
    """Write parameters, what the optimiser knows of them, and where training stands.

    Args:
        folder: Of the state.
        parameters: The trained ones, by name, in the optimiser's order.
        optimizer: A torch optimiser over them.
        position: JSON: step, history and whatever else is needed to go on.

    Raises:
        StoreError: The disk is full, or the folder gone or read-only.
    """
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    for index, known in optimizer.state_dict()["state"].items():
        for key, value in known.items():
            tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_POSITION: json.dumps(position), _DIGEST: _digest(tensors)}
    write_atomically(folder / STATE_FILE, save(tensors, metadata))


class SavedState(NamedTuple):
    """A state, read back whole.

    Attributes:
        position: As `save_state` was given it.
        tensors: By name.
    """

    position: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def read_state(folder: Path) -> SavedState | None:
    """The state in a folder; None where there is none, or a damaged one."""
    try:
        with safe_open(folder / STATE_FILE, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        position = json.loads(metadata[_POSITION])
        if metadata[_DIGEST] != _digest(tensors) or not isinstance(position, dict):
            return None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return SavedState(position, tensors)


def restore_state(state: SavedState, parameters: Mapping[str, torch.nn.Parameter], optimizer: Any) -> None:
    """Put parameters and optimiser back to what `save_state` wrote."""
    known: dict[int, dict[str, torch.Tensor]] = {}
    for entry, tensor in state.tensors.items():
        if entry.startswith("optimizer/"):
            _, index, key = entry.split("/", 2)
            known.setdefault(int(index), {})[key] = tensor
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.tensors[f"parameter/{name}"])
    optimizer.load_state_dict({"state": known, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
