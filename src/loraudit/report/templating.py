"""How pages are filled in: everything escaped, control characters shown, nothing undefined passed over."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraudit.errors import visible
from loraudit.policy import ends, percent, percent_interval
from loraudit.report.cells import p_words
from loraudit.report.sheets import noted

if TYPE_CHECKING:
    import jinja2


def fill(template: str, **values: object) -> str:
    """A page from one of the templates beside this file."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("loraudit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "ends": ends,
        "percent": percent,
        "percent_interval": percent_interval,
        "p_words": p_words,
        "noted": noted,
    }
    return environment


def facts(details: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values as words, without what is None."""
    return [(name.replace("_", " "), words_of(value)) for name, value in details.items() if value is not None]


def words_of(value: object) -> str:
    """A value as words: lists and mappings without their brackets.

    >>> words_of({"n_heads": 2, "kinds": ["a", "b"]})
    'n heads 2; kinds a, b'
    """
    if isinstance(value, Mapping):
        return "; ".join(f"{str(name).replace('_', ' ')} {words_of(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
