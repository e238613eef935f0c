"""`--precision auto`: a faster precision is taken only where a probe shows that it leaves the scores alone."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from loraudit.data import cut_windows, encode, record_facts
from loraudit.errors import ModelError
from loraudit.membership import AnyAttack, score_attacks
from loraudit.models import ModelPlan, Numerics
from loraudit.models.numerics import has_fast_bfloat16
from loraudit.scoring.batches import Sequence
from loraudit.scoring.engine import ScoringOptions, _score_unit, _Unit
from loraudit.scoring.scorer import Scorer
from loraudit.statistics import auc
from loraudit.types import BoolArray, Record, TokenTable

LEAST_SPEARMAN = 0.999
LARGEST_AUC_CHANGE = 0.005
LEAST_SPEEDUP = 1.1
PROBE_RECORDS_PER_SIDE = 128


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """What the probe found.

    Attributes:
        precision: The one chosen.
        reason: In words.
        spearman: Rank correlation of the headline scores between bf16 and fp32; None where not probed.
        auc_change: |ΔAUC| of the headline attack on the probe; None where not probed.
        speedup: Time in fp32 over time in bf16, scoring only; None where not probed.
        n_records: Records in the probe.
    """

    precision: str
    reason: str
    spearman: float | None = None
    auc_change: float | None = None
    speedup: float | None = None
    n_records: int = 0

    def facts(self) -> dict[str, Any]:
        """For logs and results."""
        return asdict(self)


def choose_precision(
    plan: ModelPlan,
    records: Seq[Record],
    is_member: BoolArray,
    headline: AnyAttack,
    options: ScoringOptions,
    *,
    tokenizer: Any,
    rng: np.random.Generator,
) -> PrecisionChoice:
    """Try bf16 against fp32 on some records of either side.

    Args:
        plan: The models; all their stages are loaded in both precisions.
        records: Of the audit.
        is_member: [N].
        headline: The attack whose scores must not change.
        options: As for the audit; its precision is ignored.
        tokenizer: Of the audit.
        rng: Draws the probe.
    """
    kind = options.numerics.device
    if not has_fast_bfloat16(kind):
        return PrecisionChoice("fp32", f"this {kind} device has no bfloat16 matrix instructions")
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(side))[:PROBE_RECORDS_PER_SIDE] for side in (is_member, ~is_member)]
    )
    probe = [records[i] for i in chosen]
    sides = is_member[chosen]
    exact, slow = _probe(plan, probe, headline, replace(options, numerics=Numerics(kind, "fp32")), tokenizer)
    try:
        rounded, fast = _probe(plan, probe, headline, replace(options, numerics=Numerics(kind, "bf16")), tokenizer)
    except ModelError as error:
        return PrecisionChoice("fp32", f"bf16 was refused: {error}", n_records=len(probe))
    both = ~np.isnan(exact) & ~np.isnan(rounded)
    can_rank = both.sum() > 2 and np.ptp(exact[both]) > 0 and np.ptp(rounded[both]) > 0
    spearman = float(stats.spearmanr(exact[both], rounded[both])[0]) if can_rank else float("nan")
    change = abs(auc(exact[both & sides], exact[both & ~sides]) - auc(rounded[both & sides], rounded[both & ~sides]))
    speedup = slow / fast
    problems = [
        text
        for is_bad, text in (
            (not spearman >= LEAST_SPEARMAN, f"Spearman {spearman:.4f} is below {LEAST_SPEARMAN}"),
            (not change <= LARGEST_AUC_CHANGE, f"AUC moves by {change:.4f}, more than {LARGEST_AUC_CHANGE}"),
            (speedup < LEAST_SPEEDUP, f"it is only {speedup:.2f} times as fast"),
        )
        if is_bad
    ]
    return PrecisionChoice(
        "fp32" if problems else "bf16",
        "bf16 was refused: " + "; ".join(problems) if problems else "bf16 leaves the scores alone and is faster",
        spearman=spearman,
        auc_change=change,
        speedup=speedup,
        n_records=len(probe),
    )


def _probe(
    plan: ModelPlan, records: Seq[Record], headline: AnyAttack, options: ScoringOptions, tokenizer: Any
) -> tuple[Any, float]:
    """Headline scores [N] and seconds spent scoring."""
    encoded = encode(records, tokenizer, span=options.span, append_eos=options.append_eos)
    windows = [cut_windows(len(item.ids), max_length=options.max_length, stride=options.stride) for item in encoded]
    tables: dict[str, TokenTable] = {}
    seconds = 0.0
    for views, load in plan.stages:
        needed = tuple(view for view in views if view in headline.needs)
        if not needed:
            continue
        scorer = Scorer(load(options.numerics, options.devices[0]), batch_tokens=options.tokens_at_once)
        first = next(i for i, cuts in enumerate(windows) if cuts)
        window = windows[first][0]
        scorer.score([Sequence(encoded[first].ids[: window.end], 1)], needed)  # the first call is always slow
        began = time.perf_counter()
        unit = _Unit(list(range(len(records))), needed)
        tables.update(_score_unit(scorer, unit, encoded, windows, None))
        seconds += time.perf_counter() - began
    scores = score_attacks([headline], tables, record_facts(records, options.span))
    return scores[headline.name].scores, seconds
