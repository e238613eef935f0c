"""Evidence of altered copies, and attacks run on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loraudit.auditing.copies.altered import AlteredTokens, WantedSlow, altered_tokens, slow_options
from loraudit.auditing.copies.neighbours import draw_neighbours, kept_substitutions, neighbour_records
from loraudit.auditing.request import Sides, attack_facts
from loraudit.errors import ConfigError
from loraudit.execution import Progress, StopRequest
from loraudit.membership import PREFIXED, SLOW_VIEWS, AnyAttack, AttackScores, Folds, score_attacks
from loraudit.models import ModelPlan
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.scoring import Evidence, ScoringOptions
from loraudit.spec import AttackResult, AuditSpec
from loraudit.store import EvidenceStore
from loraudit.types import TOKEN_FIELDS, BoolArray, Record, RecordFacts, Status, TokenTable

_REFERENCE_ = "reference_"
_TOKENS_AT_ONCE = 8_000_000
"""Of copies whose evidence is gathered together: they are held in memory as Python numbers."""
Gather = Callable[..., Evidence]


def kept_apart(store: EvidenceStore) -> EvidenceStore:
    """Where evidence of altered copies is kept, which other audits should not have to read."""
    return store.apart("slow")


@dataclass
class SlowEvidence:
    """Evidence of altered copies.

    Attributes:
        tables: By view, over the audited records: what the target and the audit's reference said.
        untouched: By view, what a model said that has nothing of the target: `reference_…` alone.
        tokens: What was scored.
        n_tokens: Sent through a model, drawing included, padding not counted.
        seconds: By part.
        n_without_neighbours: Records in which nothing could be replaced.
    """

    tables: dict[str, TokenTable] = field(default_factory=dict[str, TokenTable])
    untouched: dict[str, TokenTable] = field(default_factory=dict[str, TokenTable])
    tokens: AlteredTokens | None = None
    n_tokens: dict[str, int] = field(default_factory=dict[str, int])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    n_without_neighbours: int = 0


def slow_evidence(
    wanted: WantedSlow | None,
    plan: ModelPlan,
    base_plan: ModelPlan,
    sides: Sides,
    spec: AuditSpec,
    options: ScoringOptions,
    store: EvidenceStore,
    gather: Gather,
    like: TokenTable,
    *,
    tokenizer: Callable[[], Any],
    progress: Progress,
    stop: StopRequest | None,
) -> SlowEvidence:
    """Evidence of the altered copies; what is kept is not made again.

    Args:
        wanted: What was asked for; None where nothing was.
        plan: Of the target and the audit's reference.
        base_plan: Of the target and its base, which draws the neighbours and takes the target's role in the controls.
        sides: The records.
        spec: The request.
        options: How the records themselves are scored.
        store: Of evidence; altered copies are kept apart in it.
        gather: Gives the evidence of a plan's views on the audited records.
        like: The target's evidence on the records, whose audited tokens every table has.
        tokenizer: Gives the tokenizer.
        progress: Told how far it is.
        stop: Asked between batches.

    Raises:
        LorauditError: As `gather_evidence`.
    """
    found = SlowEvidence()
    if wanted is None:
        return found
    records = sides.records
    tokens = found.tokens = altered_tokens(wanted, records, spec, options, tokenizer())
    apart = kept_apart(store)
    models: list[tuple[ModelPlan, dict[str, TokenTable], list[str]]] = [(plan, found.tables, [TARGET, REFERENCE])]
    if spec.reference == "distilled":
        models.append((base_plan, found.untouched, [REFERENCE]))

    def score(part: str, copies: Sequence[Record], has_copy: BoolArray, names: Sequence[str]) -> None:
        if not copies:
            return
        began = time.perf_counter()
        for model, tables, views in models:
            evidence = gather(model, views=views, records=copies, options=slow_options(options), store=apart)
            found.n_tokens[part] = found.n_tokens.get(part, 0) + evidence.n_tokens
            n_each = int(has_copy.sum())
            for view, table in evidence.tables.items():
                role = "" if view == TARGET else _REFERENCE_
                for number, name in enumerate(names):
                    own = table.rows(number * n_each, (number + 1) * n_each)
                    tables[role + name] = with_gaps(own, has_copy, like)
        found.seconds[part] = found.seconds.get(part, 0.0) + time.perf_counter() - began

    folder = kept_substitutions(wanted, base_plan, options, store)
    if folder is not None:
        began = time.perf_counter()
        found.n_tokens["drawing"] = draw_neighbours(
            folder, tokens, records, wanted, base_plan, options, progress=progress, stop=stop
        )
        found.seconds["drawing"] = time.perf_counter() - began
        n_at_once = max(1, _TOKENS_AT_ONCE // max(1, sum(len(item.ids) for item in tokens.encoded)))
        for first in range(0, wanted.n_neighbours, n_at_once):
            numbers = range(first, min(first + n_at_once, wanted.n_neighbours))
            copies, has_any = neighbour_records(folder, tokens, records, numbers)
            found.n_without_neighbours = int((~has_any).sum())
            score("neighbours", copies, has_any, [f"neighbour/{number}" for number in numbers])
    score("prefixed", tokens.prefixed(), tokens.fits, ["prefixed"])
    if spec.reference != "distilled":
        found.untouched = {name: table for name, table in found.tables.items() if name.startswith(_REFERENCE_)}
    return found


def with_gaps(table: TokenTable, is_there: BoolArray, like: TokenTable) -> TokenTable:
    """A table over all records from one over some of them; the others have the status `nonfinite` and NaN throughout.

    Args:
        table: Of those records that `is_there` marks.
        is_there: [N].
        like: Whose audited tokens the result has.

    Raises:
        ValueError: The records that are there have other numbers of audited tokens.
    """
    table, like = table.audited(), like.audited()
    if not np.array_equal(table.n_tokens, like.n_tokens[is_there]):
        raise ValueError("altered copies have other numbers of audited tokens than their records")
    of_token = np.repeat(is_there, like.n_tokens)
    columns = {
        name: np.full(len(of_token), np.nan if kind == np.float32 else 0, kind) for name, kind in TOKEN_FIELDS.items()
    }
    for name, column in columns.items():
        column[of_token] = table.columns[name]
    statuses: list[Status] = ["nonfinite"] * len(is_there)
    for row, status in zip(np.flatnonzero(is_there), table.status, strict=True):
        statuses[row] = status
    return TokenTable(columns, like.offsets, np.ones(len(of_token), dtype=bool), like.n_windows, statuses)


def measurable(
    attacks: Sequence[AnyAttack], others: Sequence[AttackResult], tokens: AlteredTokens | None, spec: AuditSpec
) -> tuple[list[AnyAttack], list[AttackResult]]:
    """The attacks that can be measured once lengths are known, and all others with the reason.

    Raises:
        ConfigError: The headline is among those that cannot.
    """
    unfit = tokens.unfit if tokens else None
    if unfit is None:
        return list(attacks), list(others)
    unmeasured = [
        AttackResult(**attack_facts(attack), status="not_measured", reason=unfit)
        for attack in attacks
        if PREFIXED in attack.needs
    ]
    if spec.headline in {result.name for result in unmeasured}:
        raise ConfigError(f"The headline attack '{spec.headline}' cannot be measured: {unfit}.")
    return [attack for attack in attacks if PREFIXED not in attack.needs], [*others, *unmeasured]


def score_apart(
    attacks: Sequence[AnyAttack],
    tables: Mapping[str, TokenTable],
    slow_tables: Mapping[str, TokenTable],
    facts: RecordFacts,
    *,
    folds: Folds | None = None,
    timeout: float,
) -> dict[str, AttackScores]:
    """As `score_attacks`; a copy that could not be scored leaves its record undefined for attacks on those copies."""
    found: dict[str, AttackScores] = {}
    for views in {SLOW_VIEWS.intersection(attack.needs): None for attack in attacks}:
        looking = [attack for attack in attacks if SLOW_VIEWS.intersection(attack.needs) == views]
        copies = {name: table for name, table in slow_tables.items() if _first_of(name) in views}
        found |= score_attacks(looking, {**tables, **copies}, facts, folds=folds, timeout=timeout)
    return {attack.name: found[attack.name] for attack in attacks}


def _first_of(view: str) -> str:
    """The name by which attacks ask for this view and all its like: `neighbour/0` for `neighbour/7`."""
    kind, is_numbered, _ = view.partition("/")
    return f"{kind}/0" if is_numbered else kind


def in_targets_role(untouched: Mapping[str, TokenTable]) -> dict[str, TokenTable]:
    """What the reference said about altered copies, also under the names of what the target said."""
    return {**untouched, **{name.removeprefix(_REFERENCE_): table for name, table in untouched.items()}}
