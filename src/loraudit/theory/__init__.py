"""Kernels of tuning methods: how fast a fine-tune moves and in which directions, from the base alone. Pure.

Formulas, their sources and what of them is published stand in docs/theory.md.
"""

from loraudit.theory.decomposition import PRECISION, Decomposition, decompose, symmetric
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
from loraudit.theory.spectra import (
    ORDERS,
    Spectrum,
    fisher_kernel,
    kernel_spectrum,
    log_determinant,
    normalised,
    renyi_entropy,
    top_energy,
)

__all__ = [
    "ORDERS",
    "PRECISION",
    "Decomposition",
    "Family",
    "KernelParts",
    "Scaling",
    "Spectrum",
    "bitfit_kernel",
    "decompose",
    "fisher_kernel",
    "full_kernel",
    "head_kernel",
    "kernel_spectrum",
    "log_determinant",
    "lora_kernel",
    "lora_kernel_error",
    "lora_scale",
    "normalised",
    "renyi_entropy",
    "symmetric",
    "top_energy",
]
