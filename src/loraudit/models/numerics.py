"""Where and in which precision a model runs."""

from __future__ import annotations

import platform
import re
from dataclasses import asdict, dataclass
from typing import Any

from loraudit.errors import ConfigError, EnvironmentFault

BALANCED = "balanced"
_BATCHING_NOISE = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 5e-3}
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")
_DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]+)?")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class Numerics:
    """Everything besides weights and tokens that could change a score.

    Attributes:
        device: Kind of device: cpu, cuda or mps.
        precision: Of weights and activations; reductions over the vocabulary are float32 in any case.
    """

    device: str
    precision: str

    @property
    def batching_noise(self) -> float:
        """How far another batch may move a log-probability, nats (measured; see docs/statistics.md)."""
        return _BATCHING_NOISE[self.precision]

    def conditions(self) -> dict[str, Any]:
        """For the key of the evidence."""
        return asdict(self)

    @property
    def dtype(self) -> Any:
        """The torch dtype."""
        import torch

        return getattr(torch, PRECISIONS[self.precision])


def resolve_devices(device: str) -> list[str]:
    """Devices to put one copy of the model on each, or `["balanced"]` to spread one copy over all GPUs.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "mps", "cuda:1", "cuda:0,cuda:1", "balanced".

    Raises:
        ConfigError: The name is not of that form, or devices of several kinds are mixed.
        EnvironmentFault: The machine has no such device.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return ["cuda:0"]
        return ["mps"] if torch.backends.mps.is_available() else ["cpu"]
    if device == BALANCED:
        if not torch.cuda.is_available():
            raise EnvironmentFault("Device 'balanced' needs CUDA, and none is available. Use: --device cpu")
        return [BALANCED]
    names = [name.strip() for name in device.split(",") if name.strip()]
    kinds = {name.split(":")[0] for name in names}
    is_formed = all(_DEVICE.fullmatch(name) for name in names)
    if len(kinds) != 1 or not is_formed or len(set(names)) != len(names):
        raise ConfigError(
            f"Device '{device}' is not known. Expected auto, cpu, cuda, mps, cuda:1, cuda:0,cuda:1 or balanced."
        )
    kind = kinds.pop()
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise EnvironmentFault(f"Device '{device}' needs CUDA, and none is available. Use: --device cpu")
        n_devices = torch.cuda.device_count()
        for name in names:
            index = name.partition(":")[2]
            if index and int(index) >= n_devices:
                raise EnvironmentFault(f"Device '{name}' does not exist; this machine has {n_devices} CUDA devices.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentFault("Device 'mps' is not available on this machine. Use: --device cpu")
    return names


def device_kind(devices: list[str]) -> str:
    """cpu, cuda or mps."""
    return "cuda" if devices == [BALANCED] else devices[0].split(":")[0]


def has_fast_bfloat16(kind: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "mps" or platform.machine() not in {"x86_64", "AMD64"}:
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or of the system says that memory ran out."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
