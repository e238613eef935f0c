"""Kernels of every tuning method from one pass over a base: the driver.

Layer inputs a and gradients g of layer outputs are captured once per record; the gradient in a weight is Σ_t g_t a_tᵀ,
and LoRA's at B = 0 is that times A, so that no method, rank or draw needs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.capture.functionals import Functional
from loraudit.capture.grams import Gram
from loraudit.capture.parameters import counted_parameters
from loraudit.capture.passes import Passes, plan_chunks
from loraudit.capture.sums import MEMORY_BYTES, adapted_kinds, measured_sums
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.theory import Family, KernelParts
from loraudit.types import IntArray


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """What measuring takes, known before it begins.

    Attributes:
        n_records: m.
        n_parameters: That count.
        chunks: First and last layer of each chunk, and the number of blocks its records are cut into.
        n_passes: How often every record goes forward and backward through the base.
        held_bytes: Most that is held of captured gradients at a time; half of the memory allowed, at most.
        kernel_bytes: Of the matrices that come out, which the memory allowed does not count.
    """

    n_records: int
    n_parameters: int
    chunks: tuple[tuple[str, str, int], ...]
    n_passes: float
    held_bytes: int
    kernel_bytes: int


def plan_kernels(
    module: Any,
    lengths: Seq[int],
    *,
    ranks: Seq[int],
    draws: int = 4,
    kinds: Collection[str] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    head: Seq[str] | None = None,
    is_read_everywhere: bool = False,
) -> KernelPlan:
    """Memory and passes of `kernel_parts`, without a pass; the module may be on the meta device.

    Args:
        module: As for `kernel_parts`, like all the rest.
        lengths: [m] tokens of each record.
        ranks: Of LoRA.
        draws: Of A.
        kinds: That LoRA adapts.
        memory_bytes: Allowed.
        head: Names of the head's modules.
        is_read_everywhere: As for `kernel_parts`.

    Raises:
        ConfigError: As `kernel_parts`.
        ModelError: As `kernel_parts`, where the structure alone tells.
    """
    counted = counted_parameters(module, head)
    chunks = plan_chunks(counted, lengths, memory_bytes=memory_bytes, is_read_everywhere=is_read_everywhere)
    adapted = adapted_kinds(counted, kinds)
    n_plain = len({(one.part, one.kind) for one in counted}) + 1
    n_matrices = n_plain + len(adapted) * draws * len(ranks)
    return KernelPlan(
        len(lengths),
        sum(one.parameter.numel() for one in counted),
        tuple((one.parameters[0].name, one.parameters[-1].name, len(one.bounds) - 1) for one in chunks),
        sum(one.n_passes for one in chunks),
        max(one.held_bytes for one in chunks),
        8 * len(lengths) ** 2 * n_matrices,
    )


def kernel_parts(
    module: Any,
    rows: Seq[IntArray],
    functional: Functional,
    *,
    device: str,
    ranks: Seq[int],
    family: Family = "gaussian",
    draws: int = 4,
    seed: int = 0,
    kinds: Collection[str] | None = None,
    batch_size: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    head: Seq[str] | None = None,
    is_read_everywhere: bool = False,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> KernelParts:
    """Gram matrices of single records' gradients in every parameter of a base, and of LoRA's at B = 0.

    Of a model inside PEFT the parameters are the base's, and f is what the model with its adapter says. A weight that
    several layers share is one parameter: its gradients add up before the inner product.

    Args:
        module: Any causal language model or sequence classifier of Hugging Face; left as it was.
        rows: [m] of [L] token ids, none empty.
        functional: f, such as `class_margin()`.
        device: Where the module is.
        ranks: Of LoRA, in any order; every rank comes from the draw of the largest.
        family: Of A's rows.
        draws: Of A.
        seed: Of the draws.
        kinds: That LoRA adapts; None takes all linear maps outside the head. None of them measures no LoRA.
        batch_size: Records in one pass; halved where they do not fit into memory.
        memory_bytes: For captured gradients and their products, besides the model, its pass over one batch and the
            matrices that come out; `plan_kernels` says what that makes.
        head: Names of the head's modules; None takes the output head of a language model, and of a classifier all that
            follows its body.
        is_read_everywhere: Whether f depends on the head's output at every position, as `mean_log_prob` does; memory is
            planned by it.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.

    Raises:
        ConfigError: Ranks, draws, family or kinds cannot be, or the memory allowed does not hold two records.
        DataError: A record is empty.
        ModelError: Gradients of some layers cannot be captured, f is not finite, or records are mixed.
        EnvironmentFault: A single record does not fit into memory.
        Interrupted: A stop was asked for.

    References:
        Jacot et al. 2018, arXiv:1806.07572 (the kernel); Malladi et al. 2023, arXiv:2210.05643 (of fine-tuning).
    """
    passes = Passes(module, rows, functional, device, batch_size, progress or Silent(), stop)
    counted, sums = measured_sums(
        passes,
        ranks,
        draws,
        family,
        seed,
        kinds,
        memory_bytes=memory_bytes,
        head=head,
        is_signed=False,
        is_read_everywhere=is_read_everywhere,
    )
    return KernelParts(
        values=passes.values,
        weights=_symmetric(sums.parts["weights"]),
        biases=_symmetric(sums.parts["biases"]),
        others=_symmetric(sums.parts["others"]),
        head=(sums.head + sums.head.T) / 2,
        lora=_symmetric(sums.parts["lora"]),
        ranks=sums.asked.ranks,
        family=family,
        head_kinds=frozenset(one.kind for one in counted if one.is_head and one.part != "others"),
    )


def _symmetric(grams: dict[str, Gram]) -> dict[str, Gram]:
    """Without the differences that rounding leaves between two sides."""
    return {kind: np.ascontiguousarray((gram + np.swapaxes(gram, -1, -2)) / 2) for kind, gram in grams.items()}
