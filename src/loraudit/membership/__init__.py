"""Membership attacks: pure functions from what models said to one number per record.

Higher always means more likely a member. A score that is undefined is NaN and is counted,
never replaced. Attacks see audited tokens only; the windows of a long record arrive joined.
"""

from loraudit.membership import calibrated, error_zone, target_only, token_votes
from loraudit.membership.attack import ATTACKS, Attack, attack, per_record
from loraudit.membership.evaluate import AttackScores, score_attacks, without_noise

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackScores",
    "attack",
    "calibrated",
    "error_zone",
    "per_record",
    "score_attacks",
    "target_only",
    "token_votes",
    "without_noise",
]
