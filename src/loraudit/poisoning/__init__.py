"""Poisons for training data, and what tells poisoned records from clean ones. Pure.

A poison changes records and says which; a training-time attack is a poison plus an ordinary fine-tune.
"""

from loraudit.poisoning.asked import Attack, parse_attack
from loraudit.poisoning.content import answer_of, answered, input_of
from loraudit.poisoning.generation import GENERATION
from loraudit.poisoning.giving import eligible_records, poison_records, trigger_holders
from loraudit.poisoning.labels import LABEL_POISONS
from loraudit.poisoning.noise import NOISE
from loraudit.poisoning.poison import POISONS, Altered, Change, Goal, Poison, Poisoned, generator_for, random_order
from loraudit.poisoning.resolving import resolved_settings, settings_of
from loraudit.poisoning.style import STYLES, style_poison
from loraudit.poisoning.triggered import Triggered, trigger_records
from loraudit.poisoning.triggers import TRIGGERS

__all__ = [
    "POISONS",
    "Altered",
    "Attack",
    "Change",
    "Goal",
    "Poison",
    "Poisoned",
    "Triggered",
    "answer_of",
    "answered",
    "eligible_records",
    "generator_for",
    "input_of",
    "parse_attack",
    "poison_records",
    "random_order",
    "resolved_settings",
    "settings_of",
    "style_poison",
    "trigger_holders",
    "trigger_records",
]

for _poison in (*LABEL_POISONS, *NOISE, *TRIGGERS, *STYLES, *GENERATION):
    POISONS.add(_poison.name, _poison)
