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

from loraudit.cli.panels import METAVARS, METAVARS_OF_TYPES, OTHER_NAMES, PANEL_OF, SHORT

SpecFile = Annotated[
    Path | None, typer.Option("--spec", help="TOML, YAML or JSON file of the same keys; flags win over it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what it would take; begin nothing.")]
ResultAsJson = Annotated[bool, typer.Option("--json", help="Print result.json on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


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
        in_help_order = [*([] if argument is None else [argument]), *PANEL_OF]
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


def in_paragraphs(docstring: str) -> str:
    """A docstring for a window of any width: lines break where the source has an empty one, and nowhere else."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(docstring).split("\n\n"))


def flag(name: str) -> str:
    """The flag of a spec key.

    >>> flag("text_field")
    '--text-field'
    """
    return OTHER_NAMES.get(name, "--" + name.replace("_", "-"))


def _parameter(name: str, field: FieldInfo, *, is_argument: bool) -> inspect.Parameter:
    kind, choices = _flag_type(field.annotation)
    words = str(field.description).replace("[", r"\[")  # brackets mean markup in helps
    if get_origin(kind) is list:
        words = f"{words} Can be given more than once."
    if is_argument:
        marked: Any = Annotated[kind | None, typer.Argument(help=words, metavar=METAVARS[name], show_default=False)]
    else:
        is_switch = kind is bool
        names = [
            flag(name) + (f"/--no-{flag(name)[2:]}" if is_switch and not name.startswith("no_") else ""),
            *([SHORT[name]] if name in SHORT else []),
        ]
        metavar = "|".join(choices) or METAVARS.get(name) or METAVARS_OF_TYPES.get(kind)
        marked = Annotated[
            kind | None,
            typer.Option(
                *names,
                help=words,
                metavar=None if is_switch else metavar,
                show_default=_default_words(field),
                rich_help_panel=PANEL_OF.get(name),
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
