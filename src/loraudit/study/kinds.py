"""The commands that a cell can be, each with what a study asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loraudit.errors import StoreError
from loraudit.execution import Progress, StopRequest
from loraudit.spec import (
    AuditResult,
    AuditSpec,
    CellKind,
    ContrastResult,
    ContrastSpec,
    ForecastResult,
    ForecastSpec,
    Request,
    RobustnessResult,
    RobustnessSpec,
)

AnyResult = AuditResult | ContrastResult | RobustnessResult | ForecastResult

REQUESTS: Mapping[CellKind, type[Request]] = {
    "audit": AuditSpec,
    "contrast": ContrastSpec,
    "robustness": RobustnessSpec,
    "forecast": ForecastSpec,
}


def placed(request: Request, folder: Path, store: Path) -> Request:
    """The request with its run folder, and with the study's evidence store where the command has one."""
    places = {"out": str(folder), "store": str(store)}
    return request.model_copy(update={name: at for name, at in places.items() if name in type(request).model_fields})


def carry_out(request: Request, progress: Progress, stop: StopRequest) -> None:
    """What the command itself would do.

    Raises:
        LorauditError: As the command.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    if isinstance(request, AuditSpec):
        from loraudit.auditing import run_audit

        run_audit(request, progress=progress, stop=stop)
    elif isinstance(request, ContrastSpec):
        from loraudit.contrast import run_contrast

        run_contrast(request, progress=progress, stop=stop)
    elif isinstance(request, RobustnessSpec):
        from loraudit.robustness import run_robustness

        run_robustness(request, progress=progress, stop=stop)
    elif isinstance(request, ForecastSpec):
        from loraudit.forecast import run_forecast

        run_forecast(request, progress=progress, stop=stop)
    else:
        raise TypeError(f"no cell is a {type(request).__name__}")


def check(request: Request) -> None:
    """Names, files and limits, as far as they can be checked without reading records or models.

    Raises:
        LorauditError: Everything that is wrong.
    """
    if isinstance(request, AuditSpec):
        from loraudit.auditing.request import chosen_attacks

        chosen_attacks(request)
    elif isinstance(request, ContrastSpec):
        from loraudit.contrast.request import check_request

        check_request(request)
    elif isinstance(request, RobustnessSpec | ForecastSpec):
        from loraudit.tasks import check_files

        check_files(request)


def read_cell(kind: CellKind, folder: Path) -> AnyResult | None:
    """The result of a finished cell; None where there is none.

    Raises:
        NewerVersion: A newer version wrote it.
        StoreError: It is damaged.
    """
    from loraudit.store import read_contrast, read_forecast, read_robustness, read_run

    if not (folder / "result.json").exists():
        return None
    if kind == "audit":
        if not (folder / "scores.parquet").exists():
            raise StoreError(f"Run '{folder}' is damaged: scores.parquet is missing. Run it again; it resumes.")
        return read_run(folder).result
    readers: Mapping[str, Callable[[Path], AnyResult | None]] = {
        "contrast": read_contrast,
        "robustness": read_robustness,
        "forecast": read_forecast,
    }
    result = readers[kind](folder)
    if result is None:
        raise StoreError(f"Run '{folder}' is damaged: result.json is no {kind}'s. Run it again; it resumes.")
    return result


def sentence_of(result: AnyResult) -> str:
    """What it found, in words."""
    if isinstance(result, AuditResult):
        from loraudit.policy import verdict_of

        return verdict_of(result).sentence
    return result.sentence


def exit_code_of(result: AnyResult) -> int:
    """What its own command ends with: 1 where a limit does not hold, 7 where a part is missing."""
    from loraudit.policy import forecast_exit_code, robustness_exit_code, verdict_of

    if isinstance(result, AuditResult):
        return verdict_of(result).exit_code
    if isinstance(result, RobustnessResult):
        return robustness_exit_code(result)
    if isinstance(result, ForecastResult):
        return forecast_exit_code(result)
    return 0
