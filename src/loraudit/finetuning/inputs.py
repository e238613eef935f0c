"""What a training run starts from: the base, the examples, and hashes of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loraudit.errors import ConfigError, DataError
from loraudit.finetuning.base import ResidentBase
from loraudit.finetuning.examples import Example, make_examples, make_labelled
from loraudit.finetuning.methods import check_settings
from loraudit.models import locate, tokenizer_fingerprint
from loraudit.models.locate import Source
from loraudit.spec import Recipe
from loraudit.types import Record


def open_base(base: str, recipe: Recipe, validation: Sequence[Record], *, offline: bool) -> Source:
    """What can be said before anything is read."""
    check_settings(recipe)
    if not validation and (recipe.select == "best" or recipe.patience):
        raise ConfigError(
            "select = 'best' and patience go by the validation loss, and there are no validation records. Give some, "
            "or leave both out."
        )
    source = locate(base, offline=offline)
    if source.kind != "checkpoint":
        raise ConfigError(f"Base '{base}' is an adapter. Expected a full checkpoint; merge it with merge_and_unload().")
    return source


def identity_of(
    base: str,
    records: Sequence[Record],
    recipe: Recipe,
    *,
    validation: Sequence[Record] = (),
    copies: Mapping[str, int] | None = None,
    offline: bool = False,
    resident: ResidentBase | None = None,
    observe_at: Sequence[float] = (),
) -> dict[str, Any]:
    """Everything that decides the weights, as hashes: what `facts["made_from"]` of a trained model holds."""
    records, copies = distinct(records, copies or {})
    source = locate(base, offline=offline)
    known = (resident or ResidentBase()).fingerprint(source)
    return made_from(source, records, recipe, validation, copies, known, observe_at)


def distinct(records: Sequence[Record], copies: Mapping[str, int]) -> tuple[list[Record], dict[str, int]]:
    """Each record once, and how often it is trained on: a list that holds it twice means two copies."""
    seen: dict[str, Record] = {}
    counted: dict[str, int] = {}
    for record in records:
        seen.setdefault(record.id, record)
        counted[record.id] = counted.get(record.id, 0) + copies.get(record.id, 1)
    return list(seen.values()), counted


def made_from(
    source: Source,
    records: Sequence[Record],
    recipe: Recipe,
    validation: Sequence[Record],
    copies: Mapping[str, int],
    base_fingerprint: str,
    observe_at: Sequence[float] = (),
) -> dict[str, Any]:
    """Everything that decides the weights and the moments on the way to them, as hashes."""
    repeated = {record.id: copies.get(record.id, 1) for record in records}
    config = Path(recipe.peft_config).read_bytes() if recipe.peft_config and Path(recipe.peft_config).exists() else b""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "base_fingerprint": base_fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(source.folder),
        "records_sha256": _digest([f"{name}:{n}" for name, n in repeated.items()]),
        "validation_sha256": _digest([record.id for record in validation]),
        "peft_config_sha256": hashlib.sha256(config).hexdigest(),
        **({"observed_at": list(observe_at)} if observe_at else {}),
    }


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


class Examples(NamedTuple):
    """Both sides of a training run as windows.

    Attributes:
        labels: Of a classifier, sorted; empty otherwise.
        trained: Windows trained on.
        held_out: Windows the validation loss is taken on.
        n_cut: Texts of a classifier that were cut at the window.
    """

    labels: tuple[str, ...]
    trained: list[Example]
    held_out: list[Example]
    n_cut: int


def examples_of(
    records: Sequence[Record], validation: Sequence[Record], tokenizer: Any, recipe: Recipe, max_length: int
) -> Examples:
    """Cut the records of both sides into windows.

    Raises:
        DataError: A side has nothing to train on or take a loss on, or a classifier no two labels.
    """
    labels: tuple[str, ...] = ()
    n_cut = 0
    if recipe.task == "classification":
        labels = tuple(sorted({record.label for record in records if record.label is not None}))
        if len(labels) < 2:
            raise DataError(
                f"The training records have {len(labels)} label{'' if len(labels) == 1 else 's'}. Expected at least "
                "two; name the column with --label-field."
            )
        trained, n_cut = make_labelled(records, tokenizer, recipe, max_length, labels)
        held_out, _ = make_labelled(validation, tokenizer, recipe, max_length, labels)
    else:
        trained = make_examples(records, tokenizer, recipe, max_length)
        held_out = make_examples(validation, tokenizer, recipe.model_copy(update={"token_drop": 0.0}), max_length)
    if not trained:
        raise DataError(f"None of the {len(records)} records has a token to train on. Give longer records.")
    if validation and not held_out:
        raise DataError(
            f"None of the {len(validation)} validation records has a token to take a loss on. Give longer records."
        )
    return Examples(labels, trained, held_out, n_cut)


def padding_id(tokenizer: Any, trained: Sequence[Example], held_out: Sequence[Example], source: Source) -> int:
    """An id that exists already; a decoder finds the end of each text by it.

    Where the tokenizer names none, the largest that stands in no text.
    """
    for named in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if named is not None:
            return int(named)
    used = {int(i) for example in (*trained, *held_out) for i in example.ids}
    n_known = source.config.get("vocab_size") or len(tokenizer)
    return max(set(range(int(n_known))) - used, default=0)


def shown_base(source: Source, base: str) -> str:
    """How the base is named beside the weights: by its hub name, or a path that holds from any folder."""
    return base if source.is_from_hub else str(source.folder.resolve())
