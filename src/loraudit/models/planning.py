"""How target and reference come to be: which files, what relation, what must be loaded when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loraudit.errors import ModelError
from loraudit.models.adapters import plan_adapter
from loraudit.models.checkpoints import plan_checkpoint
from loraudit.models.plan import LoadingOptions, Memory, ModelPlan
from loraudit.models.recorded import base_of_checkpoint


def plan_models(
    model: str,
    *,
    base: str | None = None,
    memory: Memory | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
    allow_remote_code: bool = False,
    allow_other_base: bool = False,
    alone: bool = False,
) -> ModelPlan:
    """Find target and reference and decide how few weights need to be in memory for both.

    - an adapter: base and adapter are one resident copy, the reference is the adapter switched off;
    - a checkpoint that shares at least half its tensors with the base: one resident copy, the changed
      tensors swapped; with only the head changed the body runs once for both;
    - any other checkpoint: target first, then base, one at a time.

    Args:
        model: Checkpoint or adapter; folder or hub name.
        base: What it was tuned from; needed where neither adapter nor recipe records it.
        memory: Keeps the comparison of two checkpoints between runs.
        offline: As `locate`.
        allow_pickle: As `locate`.
        allow_remote_code: As `locate`.
        allow_other_base: Accept a `base` other than the recorded one.
        alone: The model is itself a reference: a checkpoint is not compared with any base.

    Raises:
        ModelError: Target or base cannot be used, or do not belong together.
        EnvironmentFault: A hub name cannot be resolved.
    """
    options = LoadingOptions(offline, allow_pickle, allow_remote_code)
    target = options.locate(model)
    if target.kind == "adapter":
        plan = plan_adapter(target, base, options, allow_other_base=allow_other_base)
    else:
        name = None if alone else base or base_of_checkpoint(target)
        plan = plan_checkpoint(target, name, base, options, memory, allow_other_base=allow_other_base)
    if allow_pickle:
        plan.warnings.append("Pickled weights were allowed (--allow-pickle).")
    if allow_remote_code:
        plan.warnings.append("Code that comes with the model was allowed to run (--allow-remote-code).")
    return plan


def load_tokenizer(folder: Path, *, allow_remote_code: bool = False) -> Any:
    """The tokenizer in `folder`.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=allow_remote_code, local_files_only=True
        )
    except Exception as error:  # every failure of the loader means the same here
        reason = str(error).strip().split("\n", 1)[0].rstrip(".")
        remedy = (
            "Read the code that comes with it, then accept it with --allow-remote-code."
            if "trust_remote_code" in str(error)
            else "Save or download it again."
        )
        raise ModelError(f"The tokenizer in '{folder}' cannot be loaded: {reason}. {remedy}") from error
