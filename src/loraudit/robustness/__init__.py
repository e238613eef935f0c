"""What poisoned training data does to each tuning method: the spine of `loraudit robustness`."""

from loraudit.robustness.estimate import RobustnessCost, estimate_robustness
from loraudit.robustness.request import robustness_path
from loraudit.robustness.spine import RobustnessRun, run_robustness

__all__ = ["RobustnessCost", "RobustnessRun", "estimate_robustness", "robustness_path", "run_robustness"]
