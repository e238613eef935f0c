"""What a backward pass says of single records: layer inputs and output gradients, their norms and projections.

Records go through the model in batches; the gradient of each alone follows from what went into its linear maps and
what came back to their outputs, without being formed for a record at a time.
"""

from loraudit.capture.engine import Gradients, gather_gradients, gradient_batch_tokens, gradient_folder
from loraudit.capture.hooks import Call, recorded_calls
from loraudit.capture.meter import GradientMeter, Piece
from loraudit.capture.norms import linear_maps, squared_norms
from loraudit.capture.projecting import classification_loss, completion_loss, projected_gradients
from loraudit.capture.representations import (
    Represented,
    classifier_representations,
    head_gradients,
    prompt_representations,
)

__all__ = [
    "Call",
    "GradientMeter",
    "Gradients",
    "Piece",
    "Represented",
    "classification_loss",
    "classifier_representations",
    "completion_loss",
    "gather_gradients",
    "gradient_batch_tokens",
    "gradient_folder",
    "head_gradients",
    "linear_maps",
    "projected_gradients",
    "prompt_representations",
    "recorded_calls",
    "squared_norms",
]
