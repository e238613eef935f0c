"""Membership attacks: pure functions from what models said to one number per record.

Higher always means more likely a member. A score that is undefined is NaN and is counted,
never replaced. Attacks see audited tokens only; the windows of a long record arrive joined.
"""

from loraudit.membership import calibrated, error_zone, shadow, slow, target_only, token_votes
from loraudit.membership.attack import (
    ATTACKS,
    NEIGHBOURS,
    PREFIXED,
    REFERENCE_NEIGHBOURS,
    REFERENCE_PREFIXED,
    SHADOWS,
    SLOW_VIEWS,
    AnyAttack,
    Attack,
    FittedAttack,
    attack,
    fitted_attack,
    is_slow,
    needed_words,
    own_views,
    per_record,
)
from loraudit.membership.evaluate import AttackScores, score_attacks, without_noise

__all__ = [
    "ATTACKS",
    "NEIGHBOURS",
    "PREFIXED",
    "REFERENCE_NEIGHBOURS",
    "REFERENCE_PREFIXED",
    "SHADOWS",
    "SLOW_VIEWS",
    "AnyAttack",
    "Attack",
    "AttackScores",
    "FittedAttack",
    "attack",
    "calibrated",
    "error_zone",
    "fitted_attack",
    "is_slow",
    "needed_words",
    "own_views",
    "per_record",
    "score_attacks",
    "shadow",
    "slow",
    "target_only",
    "token_votes",
    "without_noise",
]
