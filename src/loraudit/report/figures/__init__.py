"""Figures as inline SVG, drawn here so that a page needs no script and no network.

Colours come from the page's CSS classes, so the figures follow its light and dark themes.
"""

from loraudit.report.figures.audit import histogram_figure, roc_figure
from loraudit.report.figures.canvas import percent_tick

__all__ = ["histogram_figure", "percent_tick", "roc_figure"]
