"""Flags made from a spec, so that the command line and spec files cannot disagree.

A flag that is not given is None and leaves the value to the spec file or to the spec's default;
no default is written twice.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

SpecFile = Annotated[
    Path | None, typer.Option("--spec", help="TOML, YAML or JSON file of the same keys; flags win over it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what it would take; begin nothing.")]
ResultAsJson = Annotated[bool, typer.Option("--json", help="Print result.json on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]

PANELS = {
    "Models and records": (
        "base",
        "contrast",
        "measured",
        "members",
        "nonmembers",
        "records",
        "data",
        "task",
        "test",
        "test_share",
        "test_records",
        "validation",
        "validation_share",
        "validation_records",
        "max_records",
        "record_tokens",
        "least_tokens",
        "on_overlap",
        "repeats",
    ),
    "Canaries": (
        "manifest",
        "coins",
        "coin_repeats",
        "inclusion",
        "per_repeats",
        "references",
        "guesses",
        "delta",
    ),
    "Poison": (
        "attack",
        "poison",
        "dose",
        "doses",
        "control_dose",
        "target",
        "source",
        "label",
        "trigger",
        "place",
        "insertions",
        "strength",
        "negatives",
        "response",
        "detect",
        "persistence",
    ),
    "Reference": (
        "reference",
        "reference_data",
        "shadow",
        "shadow_on",
        "pool",
        "reference_prompts",
        "reference_epochs",
        "reference_learning_rate",
    ),
    "Methods": (
        "methods",
        "ranks",
        "variances",
        "alphas",
        "scaling",
        "family",
        "seeds",
        "settings",
        "learning_rates",
        "search_epochs",
        "measure_at",
        "at_epochs",
    ),
    "Prediction": ("draws", "heads", "loss", "clean_loss", "extractable", "max_linear_error"),
    "File format": (
        "text_field",
        "prompt_field",
        "completion_field",
        "messages_field",
        "label_field",
        "rewritten_field",
        "group_field",
        "id_field",
        "subgroup_field",
        "text_unit",
        "on_bad_record",
    ),
    "Recipe": (
        "method",
        "epochs",
        "batch_size",
        "micro_batch_size",
        "learning_rate",
        "schedule",
        "warmup",
        "weight_decay",
        "max_gradient_norm",
        "mixed_precision",
        "packing",
        "keep_duplicates",
        "checkpoints",
        "checkpoint_epochs",
        "select",
        "patience",
    ),
    "LoRA and other methods": (
        "rank",
        "alpha",
        "dropout",
        "targets",
        "rslora",
        "dora",
        "init",
        "init_variance",
        "freeze_a",
        "spread",
        "peft_config",
        "layers",
    ),
    "Less leakage": (
        "dp_epsilon",
        "dp_delta",
        "dp_noise",
        "dp_repeatable",
        "ngram_limit",
        "ngram_length",
        "model_dropout",
        "label_smoothing",
        "token_drop",
    ),
    "Tokens": ("span", "append_eos", "max_length", "stride", "on_long"),
    "Attacks and statistics": (
        "attacks",
        "gradients",
        "headline",
        "slow",
        "neighbours",
        "recall_shots",
        "recall_prefix",
        "fpr",
        "resamples",
        "confidence",
        "fdr",
        "attack_timeout",
        "seed",
    ),
    "Probes": ("probes", "no_probes", "chat_template", "level", "factor"),
    "Memorization": (
        "memorization",
        "prefix_tokens",
        "suffix_tokens",
        "generations",
        "decodings",
        "near_edits",
        "near_records",
        "candidates",
        "personal_finder",
        "training_data",
        "detector",
        "embedder",
        "paraphrase_model",
        "paraphrase_label",
    ),
    "Limits": ("fail_on", "policy"),
    "Machine": ("device", "precision", "batch_tokens", "memory", "offline"),
    "Workers": (
        "engine",
        "workers",
        "worker_cpus",
        "worker_gpus",
        "ray_address",
        "unit_retries",
        "shard",
        "records_per_unit",
    ),
    "Safety": ("allow_pickle", "allow_remote_code", "allow_other_base"),
    "Where results go": (
        "include_text",
        "keep_checkpoints",
        "keep_models",
        "keep_evidence",
        "sarif",
        "out",
        "store",
        "against",
    ),
}
_PANEL_OF = {field: panel for panel, fields in PANELS.items() for field in fields}
_SHORT = {"out": "-o"}
_OTHER_NAMES = {"settings": "--set"}
_METAVARS = {
    "model": "MODEL",
    "base": "MODEL",
    "contrast": "CONTRAST",
    "measured": "FOLDER",
    "members": "FILE",
    "data": "FILE",
    "test": "FILE",
    "poison": "POISON",
    "target": "LABEL",
    "source": "LABEL",
    "trigger": "TEXT",
    "response": "TEXT",
    "task": "FILE",
    "attack": "ATTACK",
    "detect": "DETECTOR",
    "validation": "FILE",
    "methods": "METHOD",
    "method": "METHOD",
    "settings": "KEY=VALUE",
    "peft_config": "FILE",
    "nonmembers": "FILE",
    "records": "FILE",
    "reference_data": "FILE",
    "pool": "FILE",
    "recall_prefix": "FILE",
    "training_data": "FILE",
    "embedder": "MODEL",
    "paraphrase_model": "MODEL",
    "decodings": "DECODING",
    "manifest": "FILE",
    "attacks": "ATTACK",
    "headline": "ATTACK",
    "fail_on": "LIMIT",
    "policy": "FILE",
    "probes": "FILE",
    "sarif": "FILE",
    "device": "DEVICE",
    "ray_address": "ADDRESS",
    "shard": "I/N",
    "out": "FOLDER",
    "store": "FOLDER",
    "against": "FOLDER",
}
_METAVARS_OF_TYPES = {int: "N", float: "X", str: "NAME", list[float]: "X", list[int]: "N"}


def with_spec_options(
    spec: type[BaseModel], *, argument: str | None, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: the command gets one flag per field of `spec`, and `argument` as its positional argument.

    The function receives the given ones among them in `values`, beside its own parameters.

    Args:
        spec: The request.
        argument: The field that has no flag; None where the command has a positional argument of its own.
        without: Fields that only a file can give.
    """
    fields = {name: field for name, field in spec.model_fields.items() if name not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "values"]
        made = [_parameter(name, field, is_argument=name == argument) for name, field in fields.items()]
        in_help_order = [*([] if argument is None else [argument]), *_PANEL_OF]
        made.sort(key=lambda parameter: in_help_order.index(parameter.name))

        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in fields}
            command(values={name: value for name, value in values.items() if value not in (None, [])}, **given)

        parameters = [*made, *own]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        return run

    return decorate


def flag(name: str) -> str:
    """The flag of a spec key.

    >>> flag("text_field")
    '--text-field'
    """
    return _OTHER_NAMES.get(name, "--" + name.replace("_", "-"))


def _parameter(name: str, field: FieldInfo, *, is_argument: bool) -> inspect.Parameter:
    kind, choices = _flag_type(field.annotation)
    words = str(field.description).replace("[", r"\[")  # brackets mean markup in helps
    if get_origin(kind) is list:
        words = f"{words} Can be given more than once."
    if is_argument:
        marked: Any = Annotated[kind | None, typer.Argument(help=words, metavar=_METAVARS[name], show_default=False)]
    else:
        is_switch = kind is bool
        names = [
            flag(name) + (f"/--no-{flag(name)[2:]}" if is_switch and not name.startswith("no_") else ""),
            *([_SHORT[name]] if name in _SHORT else []),
        ]
        metavar = "|".join(choices) or _METAVARS.get(name) or _METAVARS_OF_TYPES.get(kind)
        marked = Annotated[
            kind | None,
            typer.Option(
                *names,
                help=words,
                metavar=None if is_switch else metavar,
                show_default=_default_words(field),
                rich_help_panel=_PANEL_OF.get(name),
            ),
        ]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=marked)


def _default_words(field: FieldInfo) -> str | bool:
    """The spec's default as the help shows it; False where the description says it or there is none."""
    if field.is_required() or field.default_factory or field.default in (None, ()) or field.default is False:
        return False
    values = field.default if isinstance(field.default, tuple) else (field.default,)
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _flag_type(annotation: Any) -> tuple[Any, list[str]]:
    """The type of one flag's value, and its choices if it has a few."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return str, [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) is dict:
        return list[str], []
    if get_origin(annotation) is tuple:
        inner, _ = _flag_type(get_args(annotation)[0])
        return list[inner], []
    return annotation, []
