"""Personal information in texts: documented rules, and candidates to rank a true value among."""

from loraudit.memorization.personal.candidates import all_candidates, candidates_for
from loraudit.memorization.personal.fields import Finder, PersonalField, PersonalFinder, PersonalKind, Rule, normalised
from loraudit.memorization.personal.finding import RULES, personal_fields, without_overlaps

__all__ = [
    "RULES",
    "Finder",
    "PersonalField",
    "PersonalFinder",
    "PersonalKind",
    "Rule",
    "all_candidates",
    "candidates_for",
    "normalised",
    "personal_fields",
    "without_overlaps",
]
