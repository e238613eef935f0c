"""Where a training run stands, on disk: killed at any moment, it goes on from the last saved step.

A state is one safetensors file, written whole or not at all. Nothing in it is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from loraudit.store import write_atomically

STATE_FILE = "state.safetensors"
_POSITION = "position"


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
    content = save(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {_POSITION: json.dumps(position)}
    )
    write_atomically(folder / STATE_FILE, content)


def read_position(folder: Path) -> dict[str, Any] | None:
    """Where training stood when the state was written; None where there is no whole state."""
    try:
        with safe_open(folder / STATE_FILE, framework="pt") as opened:
            return json.loads((opened.metadata() or {})[_POSITION])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def restore_state(folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: Any) -> None:
    """Put parameters and optimiser back to what `save_state` wrote."""
    known: dict[int, dict[str, torch.Tensor]] = {}
    with safe_open(folder / STATE_FILE, framework="pt") as opened:
        for entry in opened.keys():  # noqa: SIM118 - the file is no mapping
            if entry.startswith("optimizer/"):
                _, index, key = entry.split("/", 2)
                known.setdefault(int(index), {})[key] = opened.get_tensor(entry)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(opened.get_tensor(f"parameter/{name}"))
    optimizer.load_state_dict({"state": known, "param_groups": optimizer.state_dict()["param_groups"]})
