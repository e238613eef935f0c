"""What is asked of a forecast."""

from __future__ import annotations

from pathlib import Path

from loraudit.errors import ConfigError
from loraudit.poisoning import Attack
from loraudit.policy import parse_forecast_limit, read_policy
from loraudit.policy.forecast import FORECAST_EXAMPLE
from loraudit.spec import ForecastSpec, Task, spec_hash
from loraudit.tasks import requested_attacks


def forecast_path(spec: ForecastSpec) -> Path:
    """The run folder: the one named, or `runs/forecast-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"forecast-{spec_hash(spec)[:12]}"


def check_request(spec: ForecastSpec, task: Task) -> list[Attack]:
    """The attacks; all that is wrong with names, settings and limits is said at once.

    Raises:
        ConfigError: Anything is wrong.
    """
    attacks, problems = requested_attacks(spec, task)
    limits = list(spec.fail_on)
    try:
        limits += read_policy(spec.policy, example=FORECAST_EXAMPLE) if spec.policy else []
    except ConfigError as error:
        problems.append(str(error))
    for limit in limits:
        try:
            parse_forecast_limit(limit)
        except ConfigError as error:
            problems.append(str(error))
    if not spec.methods:
        problems.append("'methods' is empty. Expected at least one of full, head, bitfit, lora.")
    if "lora" in spec.methods:
        empty = [name for name in ("ranks", "variances", "targets") if not getattr(spec, name)]
        problems += [f"'{name}' is empty, and lora is among the methods. Give at least one." for name in empty]
    if problems:
        raise ConfigError("\n".join(problems))
    return attacks
