"""Poisons for training data, and what tells poisoned records from clean ones. Pure.

A poison changes records and says which; a training-time attack is a poison plus an ordinary fine-tune.
"""

from loraudit.poisoning.poison import POISONS, Altered, Change, Goal, Poison, Poisoned, generator_for, random_order

__all__ = ["POISONS", "Altered", "Change", "Goal", "Poison", "Poisoned", "generator_for", "random_order"]
