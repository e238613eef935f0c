"""Fine-tuning by a recorded recipe: the same loop for every method.

Trained models are ordinary folders: a checkpoint that `transformers` loads or an adapter that
`peft` loads, with the recipe and the hash of the base beside the weights.
"""

from loraudit.finetuning.loop import TrainedModel, finetune, trained_before
from loraudit.finetuning.methods import METHODS, Method

__all__ = ["METHODS", "Method", "TrainedModel", "finetune", "trained_before"]
