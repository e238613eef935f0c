"""Check a spec file of any command without carrying it out."""

from __future__ import annotations

from pathlib import Path

from loraudit.errors import ConfigError, NewerVersion
from loraudit.spec import (
    ForecastSpec,
    InfluenceSpec,
    Request,
    RobustnessSpec,
    ScanSpec,
    ScoreSpec,
    StudySpec,
    TuneSpec,
    make_request,
    read_spec_file,
)
from loraudit.spec.kinds import kinds_of, request_named
from loraudit.study.cells import expand
from loraudit.study.kinds import check
from loraudit.study.request import read_study


def validate_spec(path: Path, command: str | None = None) -> Request:
    """The request a file holds, resolved, after form, names, files and limits were checked. No model is touched.

    Args:
        path: Spec file, or a study's.
        command: The one it belongs to; told from its keys where it is None.

    Raises:
        LorauditError: Every problem.
    """
    values = read_spec_file(path)
    kind, *others = kinds_of(values) if command is None else [request_named(command)]
    try:
        spec = read_study(str(path)) if kind is StudySpec else make_request(kind, values)
        _check(spec)
    except NewerVersion:
        raise
    except ConfigError as error:
        if not others:
            raise
        names = ", ".join(other.command for other in others)
        raise ConfigError(
            f"{error}\nThe file was read as a request of loraudit {kind.command}; its keys are also those of: {names}. "
            "Say which is meant with --command."
        ) from None
    return spec


def _check(spec: Request) -> None:
    """Names, files and limits, as far as the command itself looks at them before it reads records or models."""
    if isinstance(spec, StudySpec):
        from loraudit.study.assembling import check_beside
        from loraudit.study.spine import check_cells

        cells = expand(spec)
        check_beside(spec, cells)
        check_cells(cells)
    elif isinstance(spec, RobustnessSpec | ForecastSpec):
        check(spec)
        _check_poisoned(spec)
    elif isinstance(spec, ScoreSpec):
        from loraudit.bulk.request import check_request as check_score

        check_score(spec)
    elif isinstance(spec, ScanSpec):
        from loraudit.scanning.spine import check_request as check_scan

        check_scan(spec)
    elif isinstance(spec, TuneSpec):
        from loraudit.tuning import check_request as check_tune

        check_tune(spec)
    elif isinstance(spec, InfluenceSpec):
        from loraudit.influence.request import asked_contrast

        asked_contrast(spec)
    else:
        check(spec)


def _check_poisoned(spec: RobustnessSpec | ForecastSpec) -> None:
    """Methods, attacks and limits; which attacks there are follows from whether the records have labels."""
    from loraudit.tasks import label_column

    task = "causal_lm" if label_column(spec) is None else "classification"
    if isinstance(spec, RobustnessSpec):
        from loraudit.robustness.request import check_request as check_robustness

        check_robustness(spec, task)
        return
    from loraudit.forecast.request import check_request as check_forecast

    check_forecast(spec, task)
