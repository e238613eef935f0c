"""What of its training texts a model can be made to say: pure measures on evidence, tokens and texts."""

from loraudit.memorization.attribution import (
    Attribution,
    Embedder,
    TrainingIndex,
    attribute,
)
from loraudit.memorization.challenge import (
    ChallengeScore,
    score_challenge,
)
from loraudit.memorization.echo import echoed_characters, without_echo
from loraudit.memorization.extraction import (
    Greedy,
    exact_memorization,
    extraction_strength,
    greedy_extraction,
    hit_runs,
    minimal_prefix,
)
from loraudit.memorization.fields import (
    FieldRanks,
    rank_candidates,
)
from loraudit.memorization.matches import (
    SEVERITY,
    Detector,
    Match,
    MatchKind,
    ParaphraseScorer,
    Span,
    worst,
)
from loraudit.memorization.near_verbatim import (
    EditBeam,
    NearVerbatimMass,
    near_verbatim_mass,
)
from loraudit.memorization.personal import (
    PersonalField,
    PersonalFinder,
    all_candidates,
    candidates_for,
    personal_fields,
)
from loraudit.memorization.probability import (
    FULL_SOFTMAX,
    attempts_needed,
    bits_above_base,
    probability_within,
    suffix_log_prob,
)
from loraudit.memorization.shares import (
    share_of,
)
from loraudit.memorization.similarity import (
    BLEU_MEMORISED,
    bleu,
    edit_similarity,
    rouge_l,
)

__all__ = [
    "BLEU_MEMORISED",
    "FULL_SOFTMAX",
    "SEVERITY",
    "Attribution",
    "ChallengeScore",
    "Detector",
    "EditBeam",
    "Embedder",
    "FieldRanks",
    "Greedy",
    "Match",
    "MatchKind",
    "NearVerbatimMass",
    "ParaphraseScorer",
    "PersonalField",
    "PersonalFinder",
    "Span",
    "TrainingIndex",
    "all_candidates",
    "attempts_needed",
    "attribute",
    "bits_above_base",
    "bleu",
    "candidates_for",
    "echoed_characters",
    "edit_similarity",
    "exact_memorization",
    "extraction_strength",
    "greedy_extraction",
    "hit_runs",
    "minimal_prefix",
    "near_verbatim_mass",
    "personal_fields",
    "probability_within",
    "rank_candidates",
    "rouge_l",
    "score_challenge",
    "share_of",
    "suffix_log_prob",
    "without_echo",
    "worst",
]
