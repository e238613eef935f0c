"""The formats a result can be shown in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loraudit.report.canaries import render_canaries_html, render_canaries_markdown
from loraudit.report.contrast import render_contrast_html, render_contrast_markdown
from loraudit.report.forecast import render_forecast_html, render_forecast_junit, render_forecast_markdown
from loraudit.report.influence import render_influence_html, render_influence_markdown
from loraudit.report.junit import render_junit
from loraudit.report.markdown import render_markdown, render_model_card
from loraudit.report.page import render_html
from loraudit.report.robustness import (
    render_robustness_html,
    render_robustness_junit,
    render_robustness_markdown,
)
from loraudit.report.scan import render_scan_html, render_scan_markdown
from loraudit.report.study import render_study_html, render_study_markdown
from loraudit.spec import (
    CanaryResult,
    ContrastResult,
    ForecastResult,
    RobustnessResult,
    ScanResult,
    StudyFinding,
    StudyResult,
)
from loraudit.store.finished_runs import InfluenceRun, Run

FORMATS: Mapping[str, Callable[[Run], str]] = {
    "html": render_html,
    "json": lambda run: run.result.model_dump_json(indent=2) + "\n",
    "junit": lambda run: render_junit(run.result),
    "markdown": lambda run: render_markdown(run.result),
    "model-card": lambda run: render_model_card(run.result),
}

CONTRAST_FORMATS: Mapping[str, Callable[[ContrastResult], str]] = {
    "html": render_contrast_html,
    "json": lambda result: result.model_dump_json(indent=2) + "\n",
    "markdown": render_contrast_markdown,
}

CANARY_FORMATS: Mapping[str, Callable[[CanaryResult], str]] = {
    "html": render_canaries_html,
    "json": lambda result: result.model_dump_json(indent=2) + "\n",
    "markdown": render_canaries_markdown,
}

ROBUSTNESS_FORMATS: Mapping[str, Callable[[RobustnessResult], str]] = {
    "html": render_robustness_html,
    "json": lambda result: result.model_dump_json(indent=2) + "\n",
    "junit": render_robustness_junit,
    "markdown": render_robustness_markdown,
}

FORECAST_FORMATS: Mapping[str, Callable[[ForecastResult], str]] = {
    "html": render_forecast_html,
    "json": lambda result: result.model_dump_json(indent=2) + "\n",
    "junit": render_forecast_junit,
    "markdown": render_forecast_markdown,
}

INFLUENCE_FORMATS: Mapping[str, Callable[[InfluenceRun], str]] = {
    "html": render_influence_html,
    "json": lambda run: run.result.model_dump_json(indent=2) + "\n",
    "markdown": render_influence_markdown,
}

SCAN_FORMATS: Mapping[str, Callable[[ScanResult], str]] = {
    "html": render_scan_html,
    "json": lambda result: result.model_dump_json(indent=2) + "\n",
    "markdown": render_scan_markdown,
}

STUDY_FORMATS: Mapping[str, Callable[[StudyResult, Sequence[StudyFinding]], str]] = {
    "html": render_study_html,
    "json": lambda result, _: result.model_dump_json(indent=2) + "\n",
    "markdown": render_study_markdown,
}
