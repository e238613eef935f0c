"""Membership attacks: pure functions from what models said to one number per record.

Higher always means more likely a member. A score that is undefined is NaN and is counted,
never replaced. Attacks see audited tokens only; the windows of a long record arrive joined.
"""

from loraudit.membership import calibrated, error_zone, quantile, shadow, slow, target_only, token_votes
from loraudit.membership.attack import (
    ATTACKS,
    GRADIENT,
    NEIGHBOURS,
    PREFIXED,
    REFERENCE_NEIGHBOURS,
    REFERENCE_PREFIXED,
    SHADOW_VIEWS,
    SHADOWS,
    SHADOWS_IN,
    SLOW_VIEWS,
    AnyAttack,
    Attack,
    FittedAttack,
    attack,
    fitted_attack,
    is_slow,
    needed_models,
    needed_words,
    per_record,
)
from loraudit.membership.evaluate import AttackScores, score_attacks, without_noise
from loraudit.membership.folds import Folds

__all__ = [
    "ATTACKS",
    "GRADIENT",
    "NEIGHBOURS",
    "PREFIXED",
    "REFERENCE_NEIGHBOURS",
    "REFERENCE_PREFIXED",
    "SHADOWS",
    "SHADOWS_IN",
    "SHADOW_VIEWS",
    "SLOW_VIEWS",
    "AnyAttack",
    "Attack",
    "AttackScores",
    "FittedAttack",
    "Folds",
    "attack",
    "calibrated",
    "error_zone",
    "fitted_attack",
    "is_slow",
    "needed_models",
    "needed_words",
    "per_record",
    "quantile",
    "score_attacks",
    "shadow",
    "slow",
    "target_only",
    "token_votes",
    "without_noise",
]
