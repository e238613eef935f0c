"""Shadow models of an audit: made like references, by the target's recipe, on records that the audit may use.

With a pool, every shadow is trained on a random half of it and has seen no audited record. Without one, shadows come in
pairs that share the non-members between them: a non-member is scored by the one of each pair that never saw it, a
member by either, drawn at random. Both sides are then scored by equally many shadows, trained on equally many
records, and scores of a target without leakage stay alike on both sides. On request pairs share all audited records
between them, as a target's own training would draw them: one of each pair has seen a record, the other has not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from loraudit.auditing.making import Workshop, make_reference
from loraudit.auditing.reference import (
    SCHEMA,
    WantedReference,
    Work,
    digest_of,
    disjoint_data,
    estimate_work,
    recipe_like_target,
    refuse_unsafe_base,
)
from loraudit.auditing.request import Sides, store_path
from loraudit.data import RecordSet, split_records
from loraudit.errors import ConfigError, DataError
from loraudit.execution import Progress, StopRequest
from loraudit.models import ModelPlan, plan_together
from loraudit.scoring import Evidence
from loraudit.spec import AuditSpec, ShadowSummary
from loraudit.types import BoolArray, IntArray, TokenTable

TrainedOn = Literal["pool", "nonmembers", "audited"]
_SEED_STEP = 10_007
"""Between the seeds of shadows, so that none begins from the random numbers of a target with an ordinary seed."""
_HALVES, _EITHER = 30, 31


@dataclass(frozen=True, slots=True, eq=False)
class Shadows:
    """What shadow models are to be made of.

    Attributes:
        wanted: Each as a reference of its own.
        seen: [K, N] which audited records each is trained on.
        pool: What they are trained on, whole.
        trained_on: "pool", "nonmembers" or "audited", both sides.
    """

    wanted: Sequence[WantedReference]
    seen: BoolArray
    pool: RecordSet
    trained_on: TrainedOn


def requested_shadows(spec: AuditSpec, plan: ModelPlan, sides: Sides) -> Shadows | None:
    """The shadows asked for; None where none are.

    Raises:
        ConfigError: No base is known.
        DataError: Records of the pool cannot be read, are audited or too few.
        ModelError: The recorded recipe of the target cannot be read, or the base is not safe to tune.
    """
    if not spec.shadow:
        return None
    if plan.base_source is None or plan.reference is None:
        raise ConfigError(
            f"Shadow models are tuned from the base, and no base of '{spec.model}' is known. Give it with --base."
        )
    refuse_unsafe_base(plan)
    trained_on, pool = _pool(spec, sides)
    recipe, source = recipe_like_target(spec, plan)
    audited = [record.id for record in sides.records]
    wanted: list[WantedReference] = []
    seen = np.zeros((spec.shadow, len(audited)), dtype=bool)
    for number, half in enumerate(_halves(pool, spec)):
        own = recipe.model_copy(update={"seed": spec.seed + _SEED_STEP * (number + 1)})
        question = {
            "reference_schema": SCHEMA,
            "kind": "shadow",
            "base": plan.reference.fingerprint,
            "made_from": {
                "tokenizer": plan.tokenizer_fingerprint,
                "records": digest_of(half.records),
                "append_eos": spec.append_eos,
            },
            "recipe": own.model_dump(mode="json"),
        }
        wanted.append(WantedReference("shadow", plan, own, source, half, 0, 0, 0, "fp32", question, store_path(spec)))
        own_ids = {record.id for record in half.records}
        seen[number] = [name in own_ids for name in audited]
    return Shadows(wanted, seen, pool, trained_on)


def _pool(spec: AuditSpec, sides: Sides) -> tuple[TrainedOn, RecordSet]:
    if spec.shadow_on == "audited":
        return "audited", replace(
            sides.members,
            records=tuple(sides.records),
            files=(*sides.members.files, *sides.nonmembers.files),
            n_read=sides.members.n_read + sides.nonmembers.n_read,
            n_bad=sides.members.n_bad + sides.nonmembers.n_bad,
            n_duplicates=sides.members.n_duplicates + sides.nonmembers.n_duplicates,
        )
    if spec.pool:
        return "pool", disjoint_data(spec, spec.pool, sides, flag="--pool")
    return "nonmembers", sides.nonmembers


def _halves(pool: RecordSet, spec: AuditSpec) -> list[RecordSet]:
    """What each shadow is trained on; two neighbours share the pool between them, document by document."""
    n_first = len(pool.records) // 2
    halves: list[RecordSet] = []
    for pair in range(-(-spec.shadow // 2)):
        seed = int(np.random.SeedSequence([spec.seed, _HALVES, pair]).generate_state(1)[0])
        sides = split_records(pool.records, [n_first, len(pool.records) - n_first], seed=seed)
        if min(map(len, sides)) == 0:
            raise DataError(
                f"{len(pool.records)} {'records of --pool' if spec.pool else 'audited records'} in too few documents "
                "cannot be shared between two shadows. Give more documents with --pool."
            )
        halves += [replace(pool, records=tuple(side)) for side in sides]
    return halves[: spec.shadow]


def shadow_tables(
    shadows: Shadows | None,
    spec: AuditSpec,
    gather: Callable[..., Evidence],
    *,
    progress: Progress,
    stop: StopRequest | None,
) -> dict[str, TokenTable]:
    """Evidence by view: `shadow/0` and so on of shadows that never saw the record, `shadow_in/0` of those that did.

    Shadows that were made before are used again. New ones are trained on one copy of the base in memory, and adapters
    are scored by swapping them on one copy.

    Args:
        shadows: To be made; None where none were asked for.
        spec: The request.
        gather: Gives the evidence of a plan's views on the audited records.
        progress: Told which is made and how far it is.
        stop: Asked between steps and batches.

    Raises:
        LorauditError: As `make_reference`.
    """
    if shadows is None:
        return {}
    workshop = Workshop()
    for number, wanted in enumerate(shadows.wanted):
        progress.say(f"Shadow {number + 1} of {len(shadows.wanted)}")
        make_reference(wanted, spec, progress=progress, stop=stop, workshop=workshop)
    made = {f"shadow {number + 1}": wanted.planned(spec) for number, wanted in enumerate(shadows.wanted)}
    evidence = gather(plan_together(made, shadows.wanted[0].plan.tokenizer_fingerprint))
    tables = [evidence.tables[name] for name in made]
    if shadows.trained_on == "pool":
        return {f"shadow/{number}": table for number, table in enumerate(tables)}
    rng = np.random.default_rng([spec.seed, _EITHER])
    found: dict[str, TokenTable] = {}
    for pair in range(len(tables) // 2):
        first, second = 2 * pair, 2 * pair + 1
        either = rng.integers(0, 2, shadows.seen.shape[1])
        which = np.where(shadows.seen[first], 1, np.where(shadows.seen[second], 0, either))
        both = (tables[first], tables[second])
        found[f"shadow/{pair}"] = chosen_rows(both, which)
        if shadows.trained_on == "audited":  # one of each pair has seen a record, whichever side it is on
            found[f"shadow_in/{pair}"] = chosen_rows(both, 1 - which)
    return found


def estimate_shadows(shadows: Shadows | None, spec: AuditSpec) -> Work | None:
    """What the shadows take that are not there yet; None where all are."""
    missing = [wanted for wanted in (shadows.wanted if shadows else ()) if wanted.kept(spec) is None]
    if not missing:
        return None
    works = [estimate_work(wanted, spec) for wanted in missing]
    n_tokens = sum(work.n_training_tokens for work in works)
    recipe = missing[0].recipe
    words = (
        f"train {len(missing)} shadow model{'s' * (len(missing) > 1)} ({recipe.method}, {recipe.epochs} "
        f"epoch{'s' * (recipe.epochs > 1)}): {n_tokens:,} tokens in all"
    )
    return Work(words, 0, 0, n_tokens, max(work.training_bytes for work in works))


def shadow_summary(shadows: Shadows | None, spec: AuditSpec) -> ShadowSummary | None:
    """What the result says of them, once they are made."""
    if shadows is None:
        return None
    n = len(shadows.wanted)
    first = shadows.wanted[0]
    return ShadowSummary(
        n_shadows=n,
        n_per_record=n if shadows.trained_on == "pool" else n // 2,
        trained_on=shadows.trained_on,
        n_records=[len(wanted.data.records) for wanted in shadows.wanted if wanted.data],
        n_in_common=len(shadows.pool.records),
        recipe=first.recipe.model_dump(mode="json"),
        recipe_source=first.recipe_source,
        fingerprints=[wanted.planned(spec).target.fingerprint for wanted in shadows.wanted],
        files=list(shadows.pool.files) if shadows.trained_on == "pool" else [],
    )


def chosen_rows(tables: tuple[TokenTable, TokenTable], which: IntArray) -> TokenTable:
    """Each record's row from the first table (0) or the second (1); both hold the same tokens."""
    first, second = tables
    of_token = np.repeat(which, first.n_tokens).astype(bool)
    return replace(
        first,
        columns={name: np.where(of_token, second.columns[name], column) for name, column in first.columns.items()},
        log_sum_exps={
            decoding: np.where(of_token, second.log_sum_exps[decoding], column)
            for decoding, column in first.log_sum_exps.items()
        },
        status=[tables[i].status[row] for row, i in enumerate(which)],
    )
