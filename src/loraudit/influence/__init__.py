"""Which records each tuning method of a contrast would memorise, from kernels of its base: `loraudit influence`."""

from loraudit.influence.estimate import InfluenceCost, estimate_influence
from loraudit.influence.request import influence_path
from loraudit.influence.spine import run_influence

__all__ = ["InfluenceCost", "estimate_influence", "influence_path", "run_influence"]
