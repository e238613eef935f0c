"""What a cell's own report warns of before it states a number."""

from __future__ import annotations

from loraudit.policy import validity_words
from loraudit.policy.robustness import invalid_words
from loraudit.report.forecast import refused_heading, refused_words
from loraudit.spec import AuditResult, CellKind, ContrastResult, ForecastResult, RobustnessResult

_WHAT_FOLLOWS = "No number of this cell may be quoted as leakage until that is mended."


def flaw_of(kind: CellKind, result: AuditResult | ContrastResult | RobustnessResult | ForecastResult) -> str | None:
    """Which validity gates or controls of a cell failed, or what its forecast refuses; None where all hold.

    Args:
        kind: The command that made the result.
        result: Of that command.

    Raises:
        TypeError: The result is of another command.
    """
    match kind, result:
        case ("audit", AuditResult()) | ("contrast", ContrastResult()):
            return validity_words(result.validity, _WHAT_FOLLOWS)
        case "robustness", RobustnessResult():
            return invalid_words(result.controls)
        case "forecast", ForecastResult():
            refused = refused_words(result)
            return None if refused is None else f"{refused_heading(result)}. {refused}"
        case _:
            raise TypeError(f"A result of '{kind}' was expected, not {type(result).__name__}.")
