"""The outcome of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from loraudit.errors import EXIT_OK


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: Whether it is as it should be; `warning` and `skipped` do not fail.
        detail: What was found and, where it failed, what to do.
        exit_code: Of a failed check.
    """

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    exit_code: int = EXIT_OK


def first_exit_code(checks: Iterable[Check]) -> int:
    """That of the first failed check; 0 if none failed."""
    return next((check.exit_code for check in checks if check.status == "failed"), EXIT_OK)
