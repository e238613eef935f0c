"""What a backward pass says of single records: layer inputs and output gradients, their norms, projections and kernels.

Records go through the model in batches; the gradient of each alone follows from what went into its linear maps and
what came back to their outputs, without being formed for a record at a time.
"""

from loraudit.capture.directions import draw_directions
from loraudit.capture.engine import Gradients, gather_gradients, gradient_batch_tokens, gradient_folder
from loraudit.capture.functionals import Functional, class_against_rest, class_margin, mean_log_prob, token_margin
from loraudit.capture.hooks import Call, recorded_calls
from loraudit.capture.kernels import KernelPlan, kernel_parts, plan_kernels
from loraudit.capture.meter import GradientMeter, Piece
from loraudit.capture.norms import linear_maps, squared_norms
from loraudit.capture.projecting import classification_loss, completion_loss, projected_gradients
from loraudit.capture.representations import (
    Represented,
    classifier_representations,
    head_gradients,
    prompt_representations,
)
from loraudit.capture.signs import SignKernels, sign_kernels
from loraudit.capture.sketching import SketchedKernel, sketched_kernel
from loraudit.capture.stepping import Stepper
from loraudit.capture.trained import trained_lora_kernel

__all__ = [
    "Call",
    "Functional",
    "GradientMeter",
    "Gradients",
    "KernelPlan",
    "Piece",
    "Represented",
    "SignKernels",
    "SketchedKernel",
    "Stepper",
    "class_against_rest",
    "class_margin",
    "classification_loss",
    "classifier_representations",
    "completion_loss",
    "draw_directions",
    "gather_gradients",
    "gradient_batch_tokens",
    "gradient_folder",
    "head_gradients",
    "kernel_parts",
    "linear_maps",
    "mean_log_prob",
    "plan_kernels",
    "projected_gradients",
    "prompt_representations",
    "recorded_calls",
    "sign_kernels",
    "sketched_kernel",
    "squared_norms",
    "token_margin",
    "trained_lora_kernel",
]
