"""What looking for canaries would take, for `--dry-run`."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.canaries import inclusion_problems
from loraudit.data import encode
from loraudit.planting.request import (
    requested_options,
    requested_plan,
    run_path,
    sought_secrets,
    store_path,
    tokenizer_of,
)
from loraudit.scoring import estimate_cost
from loraudit.spec import CanaryScoreSpec
from loraudit.store import EvidenceStore, RunFolder


@dataclass(frozen=True, slots=True)
class ScoringCost:
    """What it would take.

    Attributes:
        n_canaries: Of the manifest.
        n_texts: Secrets to score, those to compare with included.
        n_cached: Of them, with evidence that is complete.
        n_tokens: To send through a model, all views together.
        memory_bytes: Peak of weights and activations, roughly.
        seconds: From the speed of a matrix product on this machine, roughly.
        headline: What exposure will rest on.
        no_epsilon: Why no ε will be stated; empty where one will.
    """

    n_canaries: int
    n_texts: int
    n_cached: int
    n_tokens: int
    memory_bytes: int
    seconds: float
    headline: str
    no_epsilon: list[str]


def estimate_score(spec: CanaryScoreSpec) -> ScoringCost:
    """What the request would take, without loading a model or writing a result.

    Raises:
        LorauditError: As `run_score`, for everything that can be found out beforehand.
    """
    if run_path(spec).is_dir():
        RunFolder(run_path(spec), spec)
    store = EvidenceStore(store_path(spec)) if store_path(spec).is_dir() else None
    sought = sought_secrets(spec)
    plan = requested_plan(spec, store)
    options = requested_options(spec, plan)
    prints = [plan.target.fingerprint, *([plan.reference.fingerprint] if plan.reference else [])]
    n_cached = 0
    if store is not None:
        folders = [store.folder(options.conditions(plan, one)) for one in prints]
        for folder in folders:
            folder.refresh()
        n_cached = sum(not any(folder.lacks(record.id) for folder in folders) for record in sought.records)
    lengths = [len(item.ids) for item in encode(sought.records, tokenizer_of(spec, plan), span=options.span)]
    n_tokens = int(sum(lengths) * len(prints) * (1 - n_cached / len(lengths)))
    cost = estimate_cost(plan, options, n_tokens)
    return ScoringCost(
        n_canaries=len(sought.manifest.canaries),
        n_texts=len(lengths),
        n_cached=n_cached,
        n_tokens=n_tokens,
        memory_bytes=cost.memory_bytes,
        seconds=cost.seconds,
        headline="difference" if plan.reference else "target",
        no_epsilon=inclusion_problems(sought.manifest),
    )
