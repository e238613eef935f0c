"""Kernels of tuning methods: how fast a fine-tune moves and in which directions, from the base alone. Pure.

Formulas, their sources and what of them is published stand in docs/theory.md.
"""

from loraudit.theory.parts import (
    Family,
    KernelParts,
    Scaling,
    bitfit_kernel,
    full_kernel,
    head_kernel,
    lora_kernel,
    lora_kernel_error,
    lora_scale,
)

__all__ = [
    "Family",
    "KernelParts",
    "Scaling",
    "bitfit_kernel",
    "full_kernel",
    "head_kernel",
    "lora_kernel",
    "lora_kernel_error",
    "lora_scale",
]
