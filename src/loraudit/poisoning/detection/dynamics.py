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
    ranks = _ranks_by_class(given(observed.loss_history), observed.labels)
    n_known = np.isfinite(ranks).sum(axis=1)
    return np.divide(np.nansum(ranks, axis=1), n_known, out=np.full(len(ranks), np.nan), where=n_known > 0)


@detector(
    "loss_fall",
    requires=frozenset({"loss_history"}),
    finds=("training records",),
    tasks=_TASKS,
    source="After Li et al. 2021, arXiv:2110.11571 (backdoors are learnt fast); fall of the loss's rank (ours)",
    summary="How many places a record's loss falls within its class from the first pass to the last.",
    blind_to="A single pass; poisons whose label is right, which begin with a low loss; flipped labels without a "
    "trigger.",
)
def loss_fall(observed: Observed) -> FloatArray:
    """[N] in (−1, 1): rank of the loss in the first pass minus that in the last, as shares of the class.

    A record that contradicts its label but holds a trigger begins among the worst of its class and ends among the best.
    NaN where one of both is unknown, and with a single pass.
    """
    if given(observed.loss_history).shape[1] < 2:
        return np.full(len(observed.labels), np.nan)
    ranks = _ranks_by_class(given(observed.loss_history), observed.labels)
    return ranks[:, 0] - ranks[:, -1]


def _ranks_by_class(losses: FloatArray, labels: IntArray) -> FloatArray:
    """[N, M] (rank − ½) / n of each loss within its class and pass, ties shared; NaN where undefined or all equal."""
    ranks = np.full(losses.shape, np.nan)
    for moment in range(losses.shape[1]):
        column = losses[:, moment].astype(np.float64)
        for members in usable_classes(labels, ~np.isnan(column)):
            if np.ptp(column[members]) > 0:
                ranks[members, moment] = (rankdata(column[members]) - 0.5) / len(members)
    return ranks
