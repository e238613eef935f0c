"""What a backward pass says of single records: layer inputs and output gradients, and the gradient norms they give.

Records go through the model in batches; the gradient of each alone follows from what went into its linear maps and
what came back to their outputs, without being formed for a record at a time.
"""

from loraudit.capture.engine import Gradients, gather_gradients, gradient_batch_tokens, gradient_folder
from loraudit.capture.hooks import Call, recorded_calls
from loraudit.capture.meter import GradientMeter, Piece
from loraudit.capture.norms import linear_maps, squared_norms

__all__ = [
    "Call",
    "GradientMeter",
    "Gradients",
    "Piece",
    "gather_gradients",
    "gradient_batch_tokens",
    "gradient_folder",
    "linear_maps",
    "recorded_calls",
    "squared_norms",
]
