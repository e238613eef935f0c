"""Statistics of leakage: rates that are never optimistic, and an interval for every one.

Scores: higher means more likely a member. Functions here take the scores of members and of
non-members as two arrays without NaN; `leakage.measure` does the splitting and counting.
"""

from loraudit.statistics.auc import auc, auc_error, auc_interval, auc_p_value, paired_auc_difference
from loraudit.statistics.bootstrap import ResampledRates, resample_rates
from loraudit.statistics.clusters import independent_records
from loraudit.statistics.collapse import collapsed, is_most_frequent
from loraudit.statistics.corrections import BestOfMany, benjamini_hochberg, best_of_many, holm
from loraudit.statistics.detection import DetectionFindings, detection_findings
from loraudit.statistics.dose_response import DoseResponse, draw_records, fit_dose_response
from loraudit.statistics.effective_doses import BoundedFinding, dose_ratio, effective_dose
from loraudit.statistics.epsilon import (
    EpsilonBound,
    epsilon_from_guesses,
    exposure_bits,
    guess_inclusion,
    rank_p_values,
)
from loraudit.statistics.excess import DifferenceInDifferences, difference_in_differences
from loraudit.statistics.exposure import (
    calibrated_p_values,
    detectable_auc,
    fewest_for_rate,
    n_to_detect,
    set_test,
    split_in_halves,
)
from loraudit.statistics.fusion import Fusion, cross_fitting_factor, disjoint_folds, widened
from loraudit.statistics.intervals import Interval, clopper_pearson, finding, finite, wilson
from loraudit.statistics.leakage import PARTIAL_AUC_MAX_FPR, measure, rate_metric
from loraudit.statistics.macro import Predicted, f1_lost, f1_over_runs, macro_f1
from loraudit.statistics.matched import Reach, at_epoch, between, common_level, crossing, mean_over_runs, reach
from loraudit.statistics.means import mean_difference, mean_finding
from loraudit.statistics.mixtures import AucRows, Mixed, mixed_auc
from loraudit.statistics.pairs import Difference, McNemar, PairedRates, PairedScores, compare_scores, mcnemar
from loraudit.statistics.rate_mixtures import RateRows, mixed_rates
from loraudit.statistics.rates import (
    RocCurve,
    partial_auc,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
    unresolved_rate,
)
from loraudit.statistics.repetition import AtExposure, ByExposure, RankCorrelation, by_exposure, rank_correlation
from loraudit.statistics.runs import (
    CHANGE_OF_SHARE,
    OverRuns,
    excess_change,
    mean_over_runs_of,
    rate_over_runs,
    without_collapsed,
)
from loraudit.statistics.seeds import OverSeeds, over_seeds

__all__ = [
    "CHANGE_OF_SHARE",
    "PARTIAL_AUC_MAX_FPR",
    "AtExposure",
    "AucRows",
    "BestOfMany",
    "BoundedFinding",
    "ByExposure",
    "DetectionFindings",
    "Difference",
    "DifferenceInDifferences",
    "DoseResponse",
    "EpsilonBound",
    "Fusion",
    "Interval",
    "McNemar",
    "Mixed",
    "OverRuns",
    "OverSeeds",
    "PairedRates",
    "PairedScores",
    "Predicted",
    "RankCorrelation",
    "RateRows",
    "Reach",
    "ResampledRates",
    "RocCurve",
    "at_epoch",
    "auc",
    "auc_error",
    "auc_interval",
    "auc_p_value",
    "benjamini_hochberg",
    "best_of_many",
    "between",
    "by_exposure",
    "calibrated_p_values",
    "clopper_pearson",
    "collapsed",
    "common_level",
    "compare_scores",
    "cross_fitting_factor",
    "crossing",
    "detectable_auc",
    "detection_findings",
    "difference_in_differences",
    "disjoint_folds",
    "dose_ratio",
    "draw_records",
    "effective_dose",
    "epsilon_from_guesses",
    "excess_change",
    "exposure_bits",
    "f1_lost",
    "f1_over_runs",
    "fewest_for_rate",
    "finding",
    "finite",
    "fit_dose_response",
    "guess_inclusion",
    "holm",
    "independent_records",
    "is_most_frequent",
    "macro_f1",
    "mcnemar",
    "mean_difference",
    "mean_finding",
    "mean_over_runs",
    "mean_over_runs_of",
    "measure",
    "mixed_auc",
    "mixed_rates",
    "n_to_detect",
    "over_seeds",
    "paired_auc_difference",
    "partial_auc",
    "rank_correlation",
    "rank_p_values",
    "rate_metric",
    "rate_over_runs",
    "reach",
    "resample_rates",
    "roc_curve",
    "set_test",
    "split_in_halves",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "unresolved_rate",
    "widened",
    "wilson",
    "without_collapsed",
]
