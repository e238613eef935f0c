"""Prompts × model → continuations, token ids from beginning to end.

Prompts are slices of token ids and continuations are ids too: nothing is decoded and tokenised again, which would
give the model other tokens than those it said.
"""

from loraudit.generation.sampling import BATCH_SIZE, GREEDY, Sampling, sample

__all__ = ["BATCH_SIZE", "GREEDY", "Sampling", "sample"]
