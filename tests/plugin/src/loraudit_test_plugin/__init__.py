"""An attack from outside: the median log-probability, written for one record at a time."""

import numpy as np

from loraudit import Attack, Views, per_record


@per_record
def _median_log_prob(views: Views) -> float:
    return float(np.median(views.target.log_prob[0]))


median = Attack(
    name="plugin_median",
    score=_median_log_prob,
    needs=("target",),
    source="test package",
    summary="Median log-probability of the tokens.",
    cost="1 F",
)
