"""What cells have in common, so that it is made once: the first cell that needs it goes ahead of the others.

Cells share an evidence store. Two that ran at once would both score their base, or train the same shadow models. So
cells go in waves: a cell waits while an earlier one is about to make what it needs, and takes it from the store.
What only one process can make at a time, such as one shadow model, is locked there beside; a worker that meets such a
lock waits (`study.carrying`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from loraudit.spec import AuditSpec, ContrastSpec, MemorizationOptions
from loraudit.study.cells import Cell

_NOT_OF_EVIDENCE = frozenset(
    {
        "model", "base", "attacks", "headline", "fpr", "resamples", "confidence", "fdr", "attack_timeout", "fail_on",
        "policy", "device", "batch_tokens", "offline", "include_text", "out", "store", "gradients", "reference",
        "reference_data", "reference_prompts", "reference_epochs", "reference_learning_rate", "shadow", "shadow_on",
        "training_data", "allow_pickle", "allow_remote_code", "allow_other_base",
    }
)  # fmt: skip
_NOT_OF_A_SPLIT = frozenset(
    {
        "methods", "seeds", "epochs", "batch_size", "measure_at", "settings", "learning_rates", "search_epochs",
        "keep_duplicates", "repeats", "at_epochs", "shadow", "pool", "attacks", "headline", "fpr", "resamples",
        "confidence", "attack_timeout", "device", "batch_tokens", "keep_checkpoints", "offline", "out", "store",
    }
)  # fmt: skip
_NOT_OF_SHADOWS = frozenset(
    {
        "methods", "headline", "attacks", "fpr", "resamples", "confidence", "attack_timeout", "at_epochs", "device",
        "precision", "batch_tokens", "keep_checkpoints", "offline", "out", "store", *MemorizationOptions.model_fields,
    }
)  # fmt: skip


def shared_work(cell: Cell) -> frozenset[str]:
    """Names of what the cell makes that another cell may need: equal names are the same work.

    Evidence on a base is named twice: with all that decides about it, and by base and files alone, so that cells that
    use another number of records of these files also wait for the first, and take over what they have in common.
    """
    request = cell.request
    if isinstance(request, AuditSpec):
        base = request.base or _recorded_base(Path(request.model))
        records = {"base": base, "members": request.members, "nonmembers": request.nonmembers}
        asked = {"base": base, **request.model_dump(mode="json", exclude=set(_NOT_OF_EVIDENCE))}
        target = {**asked, "model": request.model}
        return frozenset({_name("records", records), _name("base", asked), _name("target", target)})
    if isinstance(request, ContrastSpec):
        records = {"base": request.base, "data": request.data, "seed": request.seed}
        asked = request.model_dump(mode="json", exclude=set(_NOT_OF_A_SPLIT))
        return frozenset({_name("records", records), _name("base", asked)})
    return frozenset()  # a robustness run and a forecast keep nothing in the store


def never_at_once(cell: Cell) -> frozenset[str]:
    """Names of what the cell makes and lets go again: two cells with a common one must not run at the same time.

    A contrast keeps checkpoints of its shadow models while it measures.
    """
    request = cell.request
    if not isinstance(request, ContrastSpec) or not request.shadow:
        return frozenset()
    of_all = request.model_dump(mode="json", exclude=set(_NOT_OF_SHADOWS))
    return frozenset(_name("shadow models", {**of_all, "method": method}) for method in request.methods)


def next_wave(waiting: Sequence[Cell], made: Collection[str]) -> list[Cell]:
    """The cells that can run at once now; never empty while some wait.

    Args:
        waiting: Cells that are still to be carried out, in order.
        made: What finished cells have made.
    """
    claimed: set[str] = set()
    busy: set[str] = set()
    wave: list[Cell] = []
    for cell in waiting:
        new, alone = shared_work(cell) - set(made), never_at_once(cell)
        if not new & claimed and not alone & busy:
            wave.append(cell)
            busy |= alone
        claimed |= new
    return wave


def n_sharing(cells: Sequence[Cell]) -> int:
    """Cells that find some of their work done by an earlier one."""
    made: set[str] = set()
    found = 0
    for cell in cells:
        work = shared_work(cell)
        found += bool(work & made)
        made |= work
    return found


def _recorded_base(model: Path) -> str | None:
    """What an adapter says it was tuned from; None where it does not, and for whole checkpoints."""
    try:
        return json.loads((model / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _name(what: str, asked: object) -> str:
    return f"{what} {hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]}"
