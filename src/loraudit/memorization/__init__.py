"""What of its training texts a model can be made to say: pure measures on evidence, tokens and texts."""

from loraudit.memorization.matches import (
    SEVERITY,
    Detector,
    Match,
    MatchKind,
    ParaphraseScorer,
    Span,
    worst,
)

__all__ = [
    "SEVERITY",
    "Detector",
    "Match",
    "MatchKind",
    "ParaphraseScorer",
    "Span",
    "worst",
]
