"""What was measured of each draw of the head, kept until the forecast is whole, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.numpy import load, save

from loraudit.forecast.shapes import Widths
from loraudit.spec import LinearityCheck, TargetSet
from loraudit.store.files import open_private_folder, write_atomically
from loraudit.types import FloatArray

_VALUES = "values"
_KERNEL = "kernel:"
_DIGEST_BYTES = 32


class Facts(BaseModel):
    """What is the same for every draw of the head, and measured with the first.

    Attributes:
        linearity: By method.
        widths: Of the maps that LoRA adapts, by set of targets.
        counts: Parameters: all, head, biases, head_biases.
        n_passes: Over the records, for one head.
    """

    linearity: dict[str, list[LinearityCheck]]
    widths: dict[TargetSet, Widths]
    counts: dict[str, int]
    n_passes: int


class MeasuredHead(NamedTuple):
    """What the base says with one draw of its head.

    Attributes:
        values: [m] f.
        kernels: By method, [starts, m, m].
        errors: By method, Monte-Carlo error over draws of A; None without draws.
        facts: Of all heads.
    """

    values: FloatArray
    kernels: Mapping[str, FloatArray]
    errors: Mapping[str, float | None]
    facts: Facts


class _Told(BaseModel):
    """What stands beside the arrays."""

    errors: dict[str, float | None]
    facts: Facts


class KeptHeads:
    """A folder of them.

    Args:
        folder: Of the run.
        rests_on: All that they depend on besides the request: weights, files. What was kept under other conditions is
            not there.
    """

    def __init__(self, folder: Path, rests_on: Mapping[str, object]) -> None:
        key = hashlib.sha256(json.dumps(dict(rests_on), sort_keys=True).encode()).hexdigest()[:16]
        self._all = folder / "heads"
        self._path = self._all / key

    def read(self, k: int) -> MeasuredHead | None:
        """That of draw k; None where it is not there or damaged."""
        try:
            content = (self._path / f"{k}.unit").read_bytes()
            digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if hashlib.sha256(rest).digest() != digest:
                return None
            length = int.from_bytes(rest[:8], "little")
            told, arrays = _Told.model_validate_json(rest[8 : 8 + length]), load(rest[8 + length :])
        except (OSError, ValueError, SafetensorError):
            return None
        kernels = {name.removeprefix(_KERNEL): one for name, one in arrays.items() if name.startswith(_KERNEL)}
        return MeasuredHead(arrays[_VALUES], kernels, told.errors, told.facts)

    def write(self, k: int, head: MeasuredHead) -> None:
        """Keep that of draw k.

        Raises:
            StoreError: It cannot be written.
        """
        open_private_folder(self._all)
        open_private_folder(self._path)
        told = _Told(errors=dict(head.errors), facts=head.facts).model_dump_json().encode()
        arrays = save({_VALUES: head.values, **{_KERNEL + name: one for name, one in head.kernels.items()}})
        rest = len(told).to_bytes(8, "little") + told + arrays
        write_atomically(self._path / f"{k}.unit", hashlib.sha256(rest).digest() + rest)

    def clear(self) -> None:
        """Let everything go: the result holds what is needed."""
        shutil.rmtree(self._all, ignore_errors=True)
