"""Statistics of leakage: rates that are never optimistic, and an interval for every one.

Scores: higher means more likely a member. Functions here take the scores of members and of
non-members as two arrays without NaN; `leakage.measure` does the splitting and counting.
"""

from loraudit.statistics.auc import auc, auc_interval, paired_auc_difference
from loraudit.statistics.bootstrap import ResampledRates, resample_rates
from loraudit.statistics.intervals import Interval, clopper_pearson
from loraudit.statistics.leakage import measure, rate_metric
from loraudit.statistics.rates import (
    RocCurve,
    partial_auc,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
    unresolved_rate,
)

__all__ = [
    "Interval",
    "ResampledRates",
    "RocCurve",
    "auc",
    "auc_interval",
    "clopper_pearson",
    "measure",
    "paired_auc_difference",
    "partial_auc",
    "rate_metric",
    "resample_rates",
    "roc_curve",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "unresolved_rate",
]
