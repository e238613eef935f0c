"""The kernel of a LoRA adapter as it stands, which is no longer that of B = 0."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import torch

from loraudit.capture.functionals import Functional
from loraudit.capture.grams import held_gram
from loraudit.capture.parameters import Convert, Counted, Use, plain_name
from loraudit.capture.passes import Passes, plan_chunks
from loraudit.capture.sums import MEMORY_BYTES
from loraudit.errors import ModelError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.poisoning.deviation import family_of
from loraudit.types import FloatArray, IntArray


def trained_lora_kernel(
    module: Any,
    rows: Seq[IntArray],
    functional: Functional,
    *,
    device: str,
    batch_size: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> FloatArray:
    """[m, m] ⟨∇f_i, ∇f_j⟩ in A and B of a model's active adapter, at the values they have.

    With a what goes into a map W + s B A and g the gradient in what comes out, the gradient in B is s Σ_t g_t (A a_t)ᵀ
    and that in A is s Σ_t (Bᵀ g_t) a_tᵀ; at B = 0 the second is nothing. A head that is trained besides counts in
    `kernel_parts(…).head`.

    Args:
        module: A model inside PEFT; left as it was.
        rows: [m] of [L] token ids, none empty.
        functional: f.
        device: Where the module is.
        batch_size: Records in one pass; halved where they do not fit into memory.
        memory_bytes: For captured gradients and their products.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.

    Raises:
        ConfigError: The memory allowed does not hold two records.
        DataError: A record is empty.
        ModelError: There is no LoRA, or one of a variant whose gradient is another; all are listed.
        EnvironmentFault: A single record does not fit into memory.
        Interrupted: A stop was asked for.

    References:
        Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA, by its scaling).
    """
    counted = _factors(module)
    passes = Passes(module, rows, functional, device, batch_size, progress or Silent(), stop)
    total = np.zeros((len(rows), len(rows)))
    with passes.meetings(plan_chunks(counted, [len(row) for row in rows], memory_bytes=memory_bytes)) as meetings:
        for meeting in meetings:
            for held, other in zip(meeting.held, meeting.others, strict=True):
                found = held_gram(held, other, workspace=memory_bytes // 2)
                total[meeting.rows, meeting.columns] += found
                if held is not other:
                    total[meeting.columns, meeting.rows] += found.T
    return (total + total.T) / 2


def _factors(module: Any) -> list[Counted]:
    """A and B of every adapted map: those that require a gradient, all where none does."""
    from peft.tuners.lora import LoraLayer

    found: list[Counted] = []
    problems: list[str] = []
    for name, part in module.named_modules():
        if isinstance(part, LoraLayer):
            problem = _variant(part)
            if problem:
                problems.append(f"'{plain_name(name)}' ({problem})")
            else:
                found += _of_layer(plain_name(name), part)
    if problems:
        raise ModelError(
            f"The adapter is not W + s·B·A everywhere: {'; '.join(problems)}. Expected one active plain LoRA on linear "
            "maps, switched on and not merged. Measure the kernel of another adapter."
        )
    if not found:
        raise ModelError(
            f"{type(module).__name__} carries no LoRA. Expected a model inside PEFT. Measure kernels of a base with "
            "kernel_parts."
        )
    trained = [one for one in found if one.parameter.requires_grad]
    return trained or found


def _variant(part: Any) -> str | None:
    """Why the layer's gradient is another; None for plain LoRA and for a layer without an adapter."""
    from peft.tuners.lora import Linear

    active = [name for name in part.active_adapters if name in part.lora_A or name in part.lora_embedding_A]
    if type(part) is not Linear:
        return f"LoRA on {type(part.get_base_layer()).__name__}"
    if len(active) > 1:
        return f"several active adapters: {', '.join(active)}"
    if part.disable_adapters:
        return "switched off"
    if part.merged:
        return "merged"
    for name in active:
        if part.use_dora.get(name):
            return "DoRA"
        if name in getattr(part, "lora_variant", {}):
            return type(part.lora_variant[name]).__name__
        if part.lora_B[name].bias is not None:
            return "a bias in B"
    return None


def _of_layer(name: str, part: Any) -> list[Counted]:
    found: list[Counted] = []
    for adapter in part.active_adapters:
        if adapter not in part.lora_A:
            continue
        a, b = part.lora_A[adapter].weight, part.lora_B[adapter].weight
        scale = float(part.scaling[adapter])
        for parameter, convert, widths in (
            (a, _into_a(b, scale), (len(a), a.shape[1])),
            (b, _into_b(a, scale), (len(b), b.shape[1])),
        ):
            use = Use(name, part, "outer", widths, convert)
            found.append(Counted(parameter, "weights", family_of(name), (use,)))
    return found


def _into_a(b: Any, scale: float) -> Convert:
    def convert(entered: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return scale * gradient @ b.detach().float(), entered

    return convert


def _into_b(a: Any, scale: float) -> Convert:
    def convert(entered: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return gradient, scale * entered @ a.detach().float().T

    return convert
