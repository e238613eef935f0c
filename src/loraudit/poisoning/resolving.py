"""Settings of a poison with every default filled in, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loraudit.errors import ConfigError, DataError, unknown_name
from loraudit.poisoning.content import answer_of
from loraudit.poisoning.poison import POISONS, Poison
from loraudit.spec import PoisonSettings, Task
from loraudit.types import Record

_ONLY_OF = {
    "target": "classification",
    "source": "classification",
    "label": "classification",
    "response": "causal_lm",
}
TASK_WORDS = {"classification": "a classifier", "causal_lm": "a language model"}


def resolved_settings(records: Sequence[Record], settings: PoisonSettings, task: Task) -> PoisonSettings:
    """The settings with the poison's own defaults filled in; resolved ones stay as they are.

    The target of a backdoor is by default the rarest label, of equally rare ones the last in sorted order.

    Args:
        records: The training records, clean.
        settings: As asked for.
        task: What is trained on them.

    Raises:
        ConfigError: The poison is unknown or not for this task; it has no such setting; a label does not exist.
        DataError: Records have no labels, or one label alone.
    """
    poison = POISONS[settings.poison]
    if task not in poison.tasks:
        (other,) = poison.tasks
        raise ConfigError(
            f"Poison '{poison.name}' is for {TASK_WORDS[other]}, not for {TASK_WORDS[task]}. Expected one for "
            f"{TASK_WORDS[task]}. See: loraudit poison --list"
        )
    _refuse_foreign(settings, poison, task)
    _refuse_blank(settings)
    filled = settings.model_copy(
        update={
            "trigger": settings.trigger or poison.triggers,
            "place": settings.place or poison.place,
            "label": settings.label if settings.label != "dirty" else poison.label,
        }
    )
    problem = poison.problem(filled) if poison.problem else None
    if problem:
        raise ConfigError(problem)
    if task == "causal_lm":
        _refuse_unanswered(records, poison)
        return filled
    return _with_classes(filled, poison, counted_labels(records))


def counted_labels(records: Sequence[Record]) -> dict[str, int]:
    """Records of each label, in sorted order.

    Raises:
        DataError: Some have none, or all have the same.
    """
    labels = [record.label for record in records if record.label is not None]
    if len(labels) < len(records):
        raise DataError(
            f"{len(records) - len(labels)} of {len(records)} records have no label. Expected one each. Name its column "
            "with --label-field."
        )
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(f"All {len(records)} records have the label {labels[:1]}. Expected two classes or more.")
    return dict(sorted(counts.items()))


def settings_of(poison: Poison, task: Task) -> list[str]:
    """The settings that a poison has for a task, sorted."""
    return sorted(name for name in poison.settings if _ONLY_OF.get(name, task) == task)


def _refuse_foreign(settings: PoisonSettings, poison: Poison, task: Task) -> None:
    known = settings_of(poison, task)
    own = {"poison": poison.name, "trigger": poison.triggers, "place": poison.place, "label": poison.label}
    for name, field in PoisonSettings.model_fields.items():
        value = getattr(settings, name)
        if name not in known and value not in (field.default, own.get(name, field.default)):
            raise ConfigError(
                f"Poison '{poison.name}' for {TASK_WORDS[task]} has no setting '{name}'. Expected one of: "
                f"{', '.join(known)}. Leave it out."
            )


def _refuse_blank(settings: PoisonSettings) -> None:
    if any(not piece.strip() for piece in settings.trigger):
        raise ConfigError(
            f"A trigger of poison '{settings.poison}' is blank. Expected something to put in. Give it with --trigger."
        )
    if len(set(settings.trigger)) < len(settings.trigger):
        raise ConfigError(f"Triggers {list(settings.trigger)} repeat themselves. Expected each once. Leave one out.")


def _refuse_unanswered(records: Sequence[Record], poison: Poison) -> None:
    if poison.goal == "backdoor" and all(answer_of(record) is None for record in records):
        raise ConfigError(
            f"Poison '{poison.name}' needs a prompt to stand in and an answer to replace; all {len(records)} records "
            "are texts without them. Expected prompts with completions, or chats. Give such records, or a poison that "
            "degrades: see loraudit poison --list"
        )


def _with_classes(settings: PoisonSettings, poison: Poison, counts: dict[str, int]) -> PoisonSettings:
    for label in (*settings.source, *([] if settings.target is None else [settings.target])):
        if label not in counts:
            raise unknown_name("label", label, counts)
    target = settings.target
    if target is None and poison.goal == "backdoor":
        target = max(counts, key=lambda label: (-counts[label], label))
    is_clean = poison.goal == "backdoor" and settings.label == "clean"
    can_be = [target] if is_clean and target is not None else [label for label in counts if label != target]
    wrong = sorted(set(settings.source) - set(can_be))
    if wrong:
        raise ConfigError(
            f"Label '{wrong[0]}' cannot be a source of poison '{poison.name}' with the target '{target}' and label "
            f"mode '{settings.label}'. Expected among: {', '.join(can_be)}. Leave it out."
        )
    source = tuple(sorted(settings.source or can_be)) if "source" in poison.settings else ()
    return settings.model_copy(update={"target": target, "source": source})
