"""Kernels of signed gradients, as Adam begins."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from loraudit.capture.functionals import Functional
from loraudit.capture.grams import Gram
from loraudit.capture.passes import Passes
from loraudit.capture.sums import MEMORY_BYTES, measured_sums
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.theory import Family
from loraudit.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class SignKernels:
    """Kernels of signed gradients: how f_i moves when record j is learnt by the sign of its gradient, as Adam begins.

    No matrix is symmetric.

    Attributes:
        values: [m] f at the base, in logits.
        full: [m, m] ⟨∇f_i, sign ∇f_j⟩ over all parameters.
        head: [m, m] over the head's own.
        lora: By kind, [draws, len(ranks), m, m] over B of adapters with B = 0, A of variance 1 / n and s = 1. For other
            s and c it is to be multiplied by s √c, not by s² c: a sign has no size.
        ranks: Of `lora`, ascending.
    """

    values: FloatArray
    full: FloatArray
    head: FloatArray
    lora: dict[str, Gram]
    ranks: tuple[int, ...]


def sign_kernels(
    module: Any,
    rows: Seq[IntArray],
    functional: Functional,
    *,
    device: str,
    ranks: Seq[int] = (),
    family: Family = "gaussian",
    draws: int = 4,
    seed: int = 0,
    kinds: Collection[str] | None = None,
    batch_size: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    head: Seq[str] | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> SignKernels:
    """⟨∇f_i, sign ∇f_j⟩ of full tuning, head-only tuning and LoRA at B = 0.

    Args:
        module: As for `kernel_parts`, like all the rest.
        rows: Probe records.
        functional: f.
        device: Where the module is.
        ranks: Of LoRA; none measures no LoRA.
        family: Of A's rows.
        draws: Of A.
        seed: Of the draws.
        kinds: That LoRA adapts.
        batch_size: Records in one pass.
        memory_bytes: For captured gradients and their products.
        head: Names of the head's modules.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.

    Raises:
        LorauditError: As `kernel_parts`.

    References:
        Malladi et al. 2023, arXiv:2210.05643.
    """
    passes = Passes(module, rows, functional, device, batch_size, progress or Silent(), stop)
    _, sums = measured_sums(
        passes,
        ranks,
        draws,
        family,
        seed,
        kinds if ranks else (),
        memory_bytes=memory_bytes,
        head=head,
        is_signed=True,
    )
    full = sum((gram for part in ("weights", "biases", "others") for gram in sums.parts[part].values()), 0 * sums.head)
    return SignKernels(passes.values, full, sums.head, sums.parts["lora"], sums.asked.ranks)
