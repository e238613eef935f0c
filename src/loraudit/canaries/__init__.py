"""Canaries: benign made-up secrets that are planted in training data and looked for in the model. Pure.

A canary is a context that nothing else has, and a secret drawn uniformly from a stated set. What the model says about
the secret is compared with what it says about others of that set, in the same context, that it was never trained on.
"""

from loraudit.canaries.bound import coin_canaries, inclusion_problems, stated_epsilon
from loraudit.canaries.drawing import draw_canaries
from loraudit.canaries.exposure import Exposures, chance_bits, exposures, level_of, mean_interval
from loraudit.canaries.law import N_SECRETS, reference_secrets
from loraudit.canaries.lines import columns_of, n_lines_of, planted_lines
from loraudit.canaries.manifest import seal_of, sealed

__all__ = [
    "N_SECRETS",
    "Exposures",
    "chance_bits",
    "coin_canaries",
    "columns_of",
    "draw_canaries",
    "exposures",
    "inclusion_problems",
    "level_of",
    "mean_interval",
    "n_lines_of",
    "planted_lines",
    "reference_secrets",
    "seal_of",
    "sealed",
    "stated_epsilon",
]
