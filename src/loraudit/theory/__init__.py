"""Kernels of tuning methods: how fast a fine-tune moves and in which directions, from the base alone. Pure.

Formulas, their sources and what of them is published stand in docs/theory.md.
"""

from loraudit.theory.decomposition import PRECISION, Decomposition, decompose, symmetric
from loraudit.theory.information import (
    KURTOSIS,
    Optimizer,
    Stated,
    Status,
    corrected_second_entropy,
    expected_lora_kernel,
    expected_participation,
    function_space_speed,
    published_first_entropy,
    published_second_entropy,
    relative_noise,
    relative_noise_of_sequences,
    second_moment,
)
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
    "KURTOSIS",
    "ORDERS",
    "PRECISION",
    "Decomposition",
    "Family",
    "KernelParts",
    "Optimizer",
    "Scaling",
    "Spectrum",
    "Stated",
    "Status",
    "bitfit_kernel",
    "corrected_second_entropy",
    "decompose",
    "expected_lora_kernel",
    "expected_participation",
    "fisher_kernel",
    "full_kernel",
    "function_space_speed",
    "head_kernel",
    "kernel_spectrum",
    "log_determinant",
    "lora_kernel",
    "lora_kernel_error",
    "lora_scale",
    "normalised",
    "published_first_entropy",
    "published_second_entropy",
    "relative_noise",
    "relative_noise_of_sequences",
    "renyi_entropy",
    "second_moment",
    "symmetric",
    "top_energy",
]
