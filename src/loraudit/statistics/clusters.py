"""What records that come in documents are worth."""

from __future__ import annotations

import math

import numpy as np

from loraudit.statistics.auc import clustered_covariance
from loraudit.types import BoolArray, IntArray


def independent_records(is_found: BoolArray, groups: IntArray | None) -> float:
    """How many independent records a share over clustered ones is worth: between groups and records.

    The share's binomial variance over its clustered one. Where all records are alike nothing can be estimated, and
    each group counts once.

    Args:
        is_found: [n] what the share is of.
        groups: [n] document of each record; None where each is its own.
    """
    if groups is None:
        return float(len(is_found))
    n_groups = len(np.unique(groups))
    values = is_found.astype(np.float64)
    variance = clustered_covariance(values, values, groups)
    if math.isnan(variance) or variance == 0:
        return float(n_groups)
    share = float(values.mean())
    return float(np.clip(share * (1 - share) / variance, n_groups, len(values)))
