"""Records × model → evidence, in one forward pass per model.

Only the audited positions go through the output head, a few at a time, so that the log-probabilities
of a batch over the whole vocabulary are never held. Padding stands on the right, where a causal model
cannot see it.
"""

from loraudit.scoring.batches import Batch, Sequence, plan_batches, plan_units
from loraudit.scoring.classifying import classifier_inputs, classify
from loraudit.scoring.engine import Evidence, ScoringOptions, gather_evidence, make_scorer, score_resident, score_views
from loraudit.scoring.estimate import Cost, estimate_cost
from loraudit.scoring.head import token_statistics
from loraudit.scoring.precision import PrecisionChoice, choose_precision
from loraudit.scoring.proposing import likeliest_tokens
from loraudit.scoring.scorer import Scorer
from loraudit.scoring.word_drops import WordDrops, word_drops

__all__ = [
    "Batch",
    "Cost",
    "Evidence",
    "PrecisionChoice",
    "Scorer",
    "ScoringOptions",
    "Sequence",
    "WordDrops",
    "choose_precision",
    "classifier_inputs",
    "classify",
    "estimate_cost",
    "gather_evidence",
    "likeliest_tokens",
    "make_scorer",
    "plan_batches",
    "plan_units",
    "score_resident",
    "score_views",
    "token_statistics",
    "word_drops",
]
