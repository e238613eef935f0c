"""What limits may say of a forecast, and how its curves are read."""

from loraudit.policy.forecast.limits import (
    FORECAST_EXAMPLE,
    ForecastLimit,
    forecast_exit_code,
    judge_forecast,
    parse_forecast_limit,
)
from loraudit.policy.forecast.reading import (
    accuracy_lost,
    clean_point,
    harm_at,
    largest_dose,
    predicted_curve,
    predicted_poisoned,
)

__all__ = [
    "FORECAST_EXAMPLE",
    "ForecastLimit",
    "accuracy_lost",
    "clean_point",
    "forecast_exit_code",
    "harm_at",
    "judge_forecast",
    "largest_dose",
    "parse_forecast_limit",
    "predicted_curve",
    "predicted_poisoned",
]
