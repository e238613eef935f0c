"""Statistics of leakage: rates that are never optimistic, and an interval for every one.

Scores: higher means more likely a member. Functions here take the scores of members and of
non-members as two arrays without NaN; `leakage.measure` does the splitting and counting.
"""

from loraudit.statistics.auc import auc, auc_error, auc_interval, auc_p_value, paired_auc_difference
from loraudit.statistics.bootstrap import ResampledRates, resample_rates
from loraudit.statistics.corrections import BestOfMany, benjamini_hochberg, best_of_many, holm
from loraudit.statistics.exposure import (
    calibrated_p_values,
    detectable_auc,
    fewest_for_rate,
    n_to_detect,
    set_test,
    split_in_halves,
)
from loraudit.statistics.intervals import Interval, clopper_pearson, finding, finite
from loraudit.statistics.leakage import PARTIAL_AUC_MAX_FPR, measure, rate_metric
from loraudit.statistics.pairs import Difference, McNemar, PairedRates, PairedScores, compare_scores, mcnemar
from loraudit.statistics.rates import (
    RocCurve,
    partial_auc,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
    unresolved_rate,
)

__all__ = [
    "PARTIAL_AUC_MAX_FPR",
    "BestOfMany",
    "Difference",
    "Interval",
    "McNemar",
    "PairedRates",
    "PairedScores",
    "ResampledRates",
    "RocCurve",
    "auc",
    "auc_error",
    "auc_interval",
    "auc_p_value",
    "benjamini_hochberg",
    "best_of_many",
    "calibrated_p_values",
    "clopper_pearson",
    "compare_scores",
    "detectable_auc",
    "fewest_for_rate",
    "finding",
    "finite",
    "holm",
    "mcnemar",
    "measure",
    "n_to_detect",
    "paired_auc_difference",
    "partial_auc",
    "rate_metric",
    "resample_rates",
    "roc_curve",
    "set_test",
    "split_in_halves",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "unresolved_rate",
]
