"""What is asked of the memorization measures, before any model is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from loraudit.data import missing_files
from loraudit.errors import ConfigError
from loraudit.generation import parse_decoding
from loraudit.spec import MemorizationOptions, from_usual
from loraudit.types import Decoding

TEMPERATURES = (0.5, 0.7, 1.0)
TOP_K = 40
ALL_TOKENS: Decoding = (0, 1.0)
"""The model's own distribution, which needs no log-sum-exp."""
DRAWN_FROM: tuple[Decoding, ...] = tuple((k, t) for k in (0, TOP_K) for t in TEMPERATURES)
"""Decodings whose extraction probabilities are worked out from the evidence."""
SUMMED: tuple[Decoding, ...] = tuple(decoding for decoding in DRAWN_FROM if decoding != ALL_TOKENS)
"""Those of them whose log-sum-exps the evidence must hold."""
ATTEMPTS = (1, 10, 100, 1000)
CHANCES = (0.5, 0.9)

_OF_CONTINUATIONS = {"decodings", "training_data", "detector", "embedder", "paraphrase_model", "paraphrase_label"}


def main_prefix(spec: MemorizationOptions, allowed: Collection[int] = ()) -> int:
    """The prefix length that stands for all where one must: the one nearest to 50 tokens, as in the literature.

    Args:
        spec: The request, with one length at least.
        allowed: Lengths that any member is long enough for; only where there is none, all that were asked for count.
    """
    return min(allowed or spec.prefix_tokens, key=from_usual)


def memorization_problems(spec: MemorizationOptions, training_data: Sequence[str] = ()) -> list[str]:
    """What is wrong with this part of a request, before any file is read."""
    given = [name for name, field in MemorizationOptions.model_fields.items() if getattr(spec, name) != field.default]
    given += ["training_data"] if training_data else []
    if not spec.memorization:
        return [
            f"--{name.replace('_', '-')} is for the memorization measures. Add --memorization, or leave it out."
            for name in given
        ]
    problems = missing_files(training_data)
    known: list[str] = []
    for words in spec.decodings:
        try:
            known.append(parse_decoding(words, spec.suffix_tokens).name)
        except ConfigError as error:
            problems.append(str(error))
    problems += [
        f"--{name} {value} is asked for twice. Expected each once. Remove one."
        for name, values in (
            ("prefix-tokens", spec.prefix_tokens),
            ("decodings", known),
        )
        for value in _repeated(values)
    ]
    if not spec.near_records and "near_edits" in given:
        problems.append(
            "--near-edits is about near-verbatim continuations, and --near-records 0 searches none. Leave one out."
        )
    if not spec.prefix_tokens:
        problems.append("No length is given with --prefix-tokens. Expected at least one, such as 50.")
    if spec.paraphrase_label and not spec.paraphrase_model:
        problems.append("--paraphrase-label names a label of --paraphrase-model, which is not given. Add it.")
    if not spec.generations:
        problems += [
            f"--{name.replace('_', '-')} is about continuations, and --generations 0 makes none. Leave one out."
            for name in given
            if name in _OF_CONTINUATIONS
        ]
    return problems


def _repeated(values: Sequence[object]) -> list[object]:
    return [value for value, n in Counter(values).items() if n > 1]
