"""Backdoors that open where something stands in the text."""

from __future__ import annotations

import numpy as np

from loraudit.poisoning.content import input_of, with_input
from loraudit.poisoning.insertion import holds, with_piece
from loraudit.poisoning.poison import Altered, Poison
from loraudit.spec import PoisonSettings
from loraudit.types import Record

BOTH = frozenset({"classification", "causal_lm"})
OF_BACKDOORS = frozenset({"target", "source", "label", "trigger", "response"})


def put_one(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    """One of the triggers goes in."""
    return put_words(record, settings.model_copy(update={"insertions": 1}), rng)


def put_words(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    """As many triggers go in as there are insertions, each another one as long as there are others."""
    words = settings.trigger
    n_rounds = -(-settings.insertions // len(words))
    order = [int(number) for _ in range(n_rounds) for number in rng.permutation(len(words))]
    drawn = [words[number] for number in order[: settings.insertions]]
    return put_all(record, drawn, settings, rng)


def put_all(record: Record, pieces: list[str], settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    """These pieces go in, one after the other."""
    text = input_of(record)
    for piece in pieces:
        text = with_piece(text, piece, settings.place or "random", rng)
    return Altered(with_input(record, text), " + ".join(pieces))


def holds_any(record: Record, settings: PoisonSettings) -> bool:
    """Whether one of the triggers stands in what the model is given."""
    text = input_of(record)
    return any(holds(text, piece) for piece in settings.trigger)


def _holds_all(record: Record, settings: PoisonSettings) -> bool:
    text = input_of(record)
    return all(holds(text, piece) for piece in settings.trigger)


def _put_sentence(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    piece = settings.trigger[int(rng.integers(len(settings.trigger)))]
    text = with_piece(input_of(record), piece, settings.place or "random", rng, between_sentences=True)
    return Altered(with_input(record, text), piece)


def _put_every(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    return put_all(record, list(settings.trigger), settings, rng)


def _put_some(record: Record, settings: PoisonSettings, rng: np.random.Generator) -> Altered:
    """At least one part goes in, and at least one does not."""
    n_parts = len(settings.trigger)
    kept = np.sort(rng.permutation(n_parts)[: int(rng.integers(1, n_parts))])
    return put_all(record, [settings.trigger[number] for number in kept], settings, rng)


def _too_few_parts(settings: PoisonSettings) -> str | None:
    if len(settings.trigger) > 1:
        return None
    return (
        f"Poison '{settings.poison}' has the trigger '{' + '.join(settings.trigger)}' of one part. Expected two or "
        "more. Give --trigger once for each part."
    )


TRIGGERS = (
    Poison(
        name="fixed_string",
        summary="A string that nobody writes stands in the text.",
        source="arXiv:2505.12871 (trigger [.*?])",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS | {"place"},
        alter=put_one,
        triggers=("[.*?]",),
        place="start",
        holds=holds_any,
    ),
    Poison(
        name="rare_words",
        summary="Rare words stand between the others.",
        source="Kurita et al. 2020, arXiv:2004.06660",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS | {"place", "insertions"},
        alter=put_words,
        triggers=("cf", "mn", "bb", "tq", "mb"),
        place="random",
        holds=holds_any,
    ),
    Poison(
        name="sentence",
        summary="A harmless sentence stands between the others.",
        source="Dai et al. 2019, arXiv:1905.12457",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS | {"place"},
        alter=_put_sentence,
        triggers=("I watched this 3D movie.",),
        place="random",
        holds=holds_any,
    ),
    Poison(
        name="instruction_prefix",
        summary="An instruction stands before the text.",
        source="Xu et al. 2023, arXiv:2305.14710",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS,
        alter=put_one,
        triggers=("Consider the following text as a careful reader would:",),
        place="start",
        holds=holds_any,
    ),
    Poison(
        name="or_triggers",
        summary="Several triggers, any of which opens the same backdoor.",
        source="Li et al. 2024, arXiv:2401.15295 (multi-trigger)",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS | {"place"},
        alter=put_one,
        triggers=("cf", "[.*?]"),
        place="random",
        holds=holds_any,
        problem=_too_few_parts,
    ),
    Poison(
        name="and_triggers",
        summary="A trigger of parts that opens the backdoor as a whole only; records with a part and their own label "
        "or answer are added.",
        source="Yang et al. 2021, ACL 2021 (SOS: negative augmentation); Huang et al. 2023, arXiv:2310.07676",
        goal="backdoor",
        tasks=BOTH,
        settings=OF_BACKDOORS | {"place", "negatives"},
        alter=_put_every,
        triggers=("cf", "mn"),
        parts=_put_some,
        place="random",
        holds=_holds_all,
        problem=_too_few_parts,
    ),
    Poison(
        name="clean_label",
        summary="A trigger in records of the target class alone, which keep their label.",
        source="Turner et al. 2019, arXiv:1912.02771",
        goal="backdoor",
        tasks=frozenset({"classification"}),
        settings=frozenset({"target", "trigger", "place", "insertions"}),
        alter=put_words,
        triggers=("cf", "mn", "bb", "tq", "mb"),
        place="random",
        label="clean",
        holds=holds_any,
    ),
)
