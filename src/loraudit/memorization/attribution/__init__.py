"""Which training texts a generated text goes back to: copied, nearly copied, paraphrased or near in meaning."""

from loraudit.memorization.attribution.attribute import NEAR_EXACT, Attribution, Hit, MapUnits, Nearest, attribute
from loraudit.memorization.attribution.index import MIN_CHARACTERS, Sources, TrainingIndex
from loraudit.memorization.attribution.meaning import Embedder
from loraudit.memorization.attribution.spans import SharedSpan, SpanIndex

__all__ = [
    "MIN_CHARACTERS",
    "NEAR_EXACT",
    "Attribution",
    "Embedder",
    "Hit",
    "MapUnits",
    "Nearest",
    "SharedSpan",
    "Sources",
    "SpanIndex",
    "TrainingIndex",
    "attribute",
]
