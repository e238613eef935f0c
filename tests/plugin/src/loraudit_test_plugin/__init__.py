"""An attack from outside: the log-probability of the last token, written for one record at a time."""

from loraudit import Attack, Views, per_record


@per_record
def _last_log_prob(views: Views) -> float:
    return float(views.target.log_prob[0, -1])


last_token = Attack(
    name="plugin_last_token",
    score=_last_log_prob,
    needs=("target",),
    source="test package",
    summary="Log-probability of the last token.",
    cost="1 F",
)
