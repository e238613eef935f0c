"""Records that do not fit into a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from loraudit.errors import DataError
from loraudit.types import Record


def refuse_long(
    records: Sequence[Record], lengths: Sequence[int], max_length: int, what: str, *, on_long: Literal["error", "cut"]
) -> int:
    """How many records do not fit into one window.

    Args:
        records: Of a task.
        lengths: [N] tokens of each.
        max_length: Of the window.
        what: What they are called.
        on_long: Whether that is an error.

    Raises:
        DataError: There are such, and it is; all are listed.
    """
    long = [record for record, length in zip(records, lengths, strict=True) if length > max_length]
    if long and on_long == "error":
        raise DataError(
            f"{len(long)} of {len(records)} {what} are longer than the window of {max_length} tokens. "
            "Expected shorter ones; cut them with --on-long cut.",
            [f"{record.source}:{record.line}" for record in long],
        )
    return len(long)
