"""Loss dynamics: when training came to know a record, compared with the others of its class."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from loraudit.poisoning.detection.detector import Observed, detector, given, usable_classes
from loraudit.types import FloatArray, IntArray

_TASKS = frozenset({"classification", "causal_lm"})


@detector(
    "loss_dynamics",
    requires=frozenset({"loss_history"}),
    finds=("training records",),
    tasks=_TASKS,
    source="Swayamdipta et al. 2020, arXiv:2009.10795; Pleiss et al. 2020, arXiv:2001.10528; by ranks (ours)",
    summary="How late a record is learnt: mean rank of its loss in its class, over all passes.",
    blind_to="Poisons that are learnt as fast as clean records; records that are hard for honest reasons look alike.",
)
def loss_dynamics(observed: Observed) -> FloatArray:
    """[N] in (0, 1): 0.5 is the middle of the class; high is a loss that stays high, as under a wrong label.

    NaN in classes of fewer than three records, and where no pass tells records apart.
    """
    return _mean_of_known(_ranks_by_class(given(observed.loss_history), observed.labels))


@detector(
    "early_learning",
    requires=frozenset({"loss_history"}),
    finds=("training records",),
    tasks=_TASKS,
    source="Li et al. 2021, arXiv:2110.11571 (loss isolation); by ranks, over all passes after the first (ours)",
    summary="How low a record's loss is in its class once training has come by it before.",
    blind_to="A single pass; flipped labels without a trigger; records that are easy for honest reasons look alike.",
)
def early_learning(observed: Observed) -> FloatArray:
    """[N] in (0, 1): 0.5 is the middle of the class; high is a loss that falls early, as by a shortcut.

    NaN in classes of fewer than three records, with a single pass, and where no later pass tells records apart.
    """
    ranks = _ranks_by_class(given(observed.loss_history), observed.labels)
    return 1 - _mean_of_known(ranks[:, 1:])


def _mean_of_known(ranks: FloatArray) -> FloatArray:
    n_known = np.isfinite(ranks).sum(axis=1)
    return np.divide(np.nansum(ranks, axis=1), n_known, out=np.full(len(ranks), np.nan), where=n_known > 0)


def _ranks_by_class(losses: FloatArray, labels: IntArray) -> FloatArray:
    """[N, M] (rank − ½) / n of each loss within its class and pass, ties shared; NaN where undefined or all equal."""
    ranks = np.full(losses.shape, np.nan)
    for moment in range(losses.shape[1]):
        column = losses[:, moment].astype(np.float64)
        for members in usable_classes(labels, ~np.isnan(column)):
            if np.ptp(column[members]) > 0:
                ranks[members, moment] = (rankdata(column[members]) - 0.5) / len(members)
    return ranks
