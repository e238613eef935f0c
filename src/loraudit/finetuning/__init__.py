"""Fine-tuning by a recorded recipe: the same loop for every method.

Trained models are ordinary folders: a checkpoint that `transformers` loads or an adapter that
`peft` loads, with the recipe and the hash of the base beside the weights, and in `training/` a log of which
record was seen at which step.
"""

from loraudit.finetuning.arms import Arm, beyond_training, parse_arms
from loraudit.finetuning.base import ResidentBase
from loraudit.finetuning.device import training_device
from loraudit.finetuning.estimate import TrainingCost, estimate_training
from loraudit.finetuning.folder import TrainedModel, read_trained
from loraudit.finetuning.history import Moment
from loraudit.finetuning.inputs import identity_of
from loraudit.finetuning.losses import read_loss_history
from loraudit.finetuning.methods import METHODS, Method, check_settings, mark_trained
from loraudit.finetuning.rates import Bench, choose_rate
from loraudit.finetuning.tune import Observe, finetune, trained_before

__all__ = [
    "METHODS",
    "Arm",
    "Bench",
    "Method",
    "Moment",
    "Observe",
    "ResidentBase",
    "TrainedModel",
    "TrainingCost",
    "beyond_training",
    "check_settings",
    "choose_rate",
    "estimate_training",
    "finetune",
    "identity_of",
    "mark_trained",
    "parse_arms",
    "read_loss_history",
    "read_trained",
    "trained_before",
    "training_device",
]
