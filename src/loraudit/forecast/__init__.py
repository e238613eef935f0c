"""What poisoned data would do to each tuning method, from kernels of the base: the spine of `loraudit forecast`."""

from loraudit.forecast.estimate import ForecastCost, estimate_forecast
from loraudit.forecast.request import forecast_path
from loraudit.forecast.spine import ForecastRun, run_forecast

__all__ = ["ForecastCost", "ForecastRun", "estimate_forecast", "forecast_path", "run_forecast"]
