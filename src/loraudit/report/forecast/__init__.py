"""A forecast as a page, as Markdown and as tables."""

from loraudit.report.forecast.beside import beside_sheet
from loraudit.report.forecast.junit import render_forecast_junit
from loraudit.report.forecast.markdown import render_forecast_markdown
from loraudit.report.forecast.measured import Beside, BesideCell, Pair, compared, pairs_of, set_beside
from loraudit.report.forecast.page import render_forecast_html
from loraudit.report.forecast.predictions import ends_of, prediction_sheets, refused_sheet
from loraudit.report.forecast.tables import (
    compared_cells_sheet,
    correlation_sheet,
    linearity_sheet,
    shape_sheet,
    speed_sheet,
    theory_sheet,
    twins_sheet,
)
from loraudit.report.forecast.words import NOTHING, fit_words, records_words, refused_heading, refused_words, unit_of

__all__ = [
    "NOTHING",
    "Beside",
    "BesideCell",
    "Pair",
    "beside_sheet",
    "compared",
    "compared_cells_sheet",
    "correlation_sheet",
    "ends_of",
    "fit_words",
    "linearity_sheet",
    "pairs_of",
    "prediction_sheets",
    "records_words",
    "refused_heading",
    "refused_sheet",
    "refused_words",
    "render_forecast_html",
    "render_forecast_junit",
    "render_forecast_markdown",
    "set_beside",
    "shape_sheet",
    "speed_sheet",
    "theory_sheet",
    "twins_sheet",
    "unit_of",
]
