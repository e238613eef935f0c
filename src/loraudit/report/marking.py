"""Words and tables in Markdown that stay words and tables, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraudit.errors import visible


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; the cells are Markdown already."""
    return [
        "| " + " | ".join(titles) + " |",
        "|" + "---|" * len(titles),
        *("| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows),
    ]


def as_words(words: str) -> str:
    """Words of files and models so that they can be nothing but words in Markdown and in HTML."""
    shown = visible(words).replace("\n", " ")
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        shown = shown.replace(mark, entity)
    return "".join("\\" + c if c in "`*_[]\\" else c for c in shown)


def as_code(words: str) -> str:
    """A name or command as code: backticks and bars of its own cannot end it."""
    shown = visible(words).replace("\n", " ").replace("`", "ˋ").replace("|", "∣")
    return f"`{shown}`"
