"""Shadow models of an audit: made like references, by the target's recipe, on records that the audit may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loraudit.auditing.references.halves import Halves, requested_halves
from loraudit.auditing.references.making import Workshop, make_reference
from loraudit.auditing.references.wanted import (
    SCHEMA,
    WantedReference,
    Work,
    digest_of,
    estimate_work,
    recipe_like_target,
    refuse_unsafe_base,
)
from loraudit.auditing.request import Sides, store_path
from loraudit.errors import ConfigError
from loraudit.execution import Progress, StopRequest
from loraudit.models import ModelPlan, plan_together
from loraudit.scoring import Evidence
from loraudit.spec import AuditSpec, ShadowSummary
from loraudit.types import TokenTable


@dataclass(frozen=True, slots=True, eq=False)
class Shadows:
    """What shadow models are to be made of.

    Attributes:
        wanted: Each as a reference of its own.
        halves: What they are trained on.
    """

    wanted: Sequence[WantedReference]
    halves: Halves


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
    halves = requested_halves(spec, sides)
    recipe, source = recipe_like_target(spec, plan)
    wanted: list[WantedReference] = []
    for part, seed in zip(halves.parts, halves.seeds, strict=True):
        own = recipe.model_copy(update={"seed": seed})
        question = {
            "reference_schema": SCHEMA,
            "kind": "shadow",
            "base": plan.reference.fingerprint,
            "made_from": {
                "tokenizer": plan.tokenizer_fingerprint,
                "records": digest_of(part.records),
                "append_eos": spec.append_eos,
            },
            "recipe": own.model_dump(mode="json"),
        }
        wanted.append(WantedReference("shadow", plan, own, source, part, 0, 0, 0, "fp32", question, store_path(spec)))
    return Shadows(wanted, halves)


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
    workshop.release()  # before a copy is loaded to be scored
    made = {f"shadow {number + 1}": wanted.planned(spec) for number, wanted in enumerate(shadows.wanted)}
    evidence = gather(plan_together(made, shadows.wanted[0].plan.tokenizer_fingerprint))
    return shadows.halves.views([evidence.tables[name] for name in made], seed=spec.seed)


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
    first = shadows.wanted[0]
    return ShadowSummary(
        n_shadows=len(shadows.wanted),
        n_per_record=shadows.halves.n_per_record,
        trained_on=shadows.halves.trained_on,
        n_records=[len(wanted.data.records) for wanted in shadows.wanted if wanted.data],
        n_in_common=len(shadows.halves.pool.records),
        recipe=first.recipe.model_dump(mode="json"),
        recipe_source=first.recipe_source,
        fingerprints=[wanted.planned(spec).target.fingerprint for wanted in shadows.wanted],
        files=list(shadows.halves.pool.files) if shadows.halves.trained_on == "pool" else [],
    )
