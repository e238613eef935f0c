"""Everything that models say for an audit: of the records, of altered copies, and by gradients."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from loraudit.auditing.copies.altered import WantedSlow
from loraudit.auditing.copies.slow import SlowEvidence, measurable, slow_evidence
from loraudit.auditing.preparation import requested_tokenizer, with_decodings
from loraudit.auditing.references.shadows import Shadows, shadow_tables
from loraudit.auditing.request import Sides, reads_gradients
from loraudit.auditing.summary import record_statuses
from loraudit.capture import Gradients, gather_gradients
from loraudit.data import record_facts
from loraudit.execution import Progress, StopRequest
from loraudit.membership import AnyAttack, needed_models
from loraudit.models import ModelPlan
from loraudit.scoring import Evidence, ScoringOptions, gather_evidence
from loraudit.spec import AttackResult, AuditSpec
from loraudit.store import EvidenceStore
from loraudit.types import RecordFacts


@dataclass(frozen=True, slots=True)
class Plans:
    """The models of an audit.

    Attributes:
        compared: The target and what it is compared with.
        base: The target and its base.
        shadows: Shadow models; None where none were asked for.
        altered: Altered copies of the records; None where none were asked for.
    """

    compared: ModelPlan
    base: ModelPlan
    shadows: Shadows | None
    altered: WantedSlow | None


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What models said.

    Attributes:
        evidence: Of target, reference and shadows.
        untouched: Of models that have not heard the target speak.
        slow: Of altered copies.
        gradients: Norms per record; None where nobody reads them.
        facts: Of the records.
        statuses: Of the records.
        measured: Attacks that can be run.
        unmeasured: The others, with the reason.
    """

    evidence: Evidence
    untouched: Evidence
    slow: SlowEvidence
    gradients: Gradients | None
    facts: RecordFacts
    statuses: list[str]
    measured: list[AnyAttack]
    unmeasured: list[AttackResult]


def gather_all(
    spec: AuditSpec,
    plans: Plans,
    sides: Sides,
    measured: Sequence[AnyAttack],
    unmeasured: Sequence[AttackResult],
    options: ScoringOptions,
    store: EvidenceStore,
    *,
    progress: Progress,
    stop: StopRequest | None,
) -> Gathered:
    """Read what the store has, and ask the models for the rest; shadow models are trained first.

    Args:
        spec: The request.
        plans: The models.
        sides: The records.
        measured: Attacks that the models' views allow.
        unmeasured: The others, with the reason.
        options: How to score.
        store: Of evidence.
        progress: Told how far it is.
        stop: Asked between batches and steps.

    Raises:
        LorauditError: As `gather_evidence`, `make_reference`, `slow_evidence` and `gather_gradients`.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    how: dict[str, Any] = {
        "records": sides.records,
        "options": options,
        "store": store,
        "tokenizer": lambda: requested_tokenizer(spec, plans.base),
        "progress": progress,
        "stop": stop,
    }
    gather = functools.partial(gather_evidence, **how)
    # Altered copies under the reference are the control of slow attacks, whichever were asked for.
    views = ["target", "reference"] if plans.altered else needed_models(measured)
    # What memorization takes besides comes from the same passes.
    own = with_decodings(options) if spec.memorization else options
    evidence = gather(plans.compared, views=views, options=own)
    # A distilled reference has heard the target speak: that it knows the members is no sign of unlike sides.
    untouched = gather(plans.base, views=["reference"], options=own) if spec.reference == "distilled" else evidence
    said = shadow_tables(plans.shadows, spec, gather, progress=progress, stop=stop)
    evidence.tables |= said
    untouched.tables |= said
    slow = slow_evidence(
        plans.altered,
        plans.compared,
        plans.base,
        sides,
        spec,
        options,
        store,
        gather,
        evidence.tables["target"],
        tokenizer=how["tokenizer"],
        progress=progress,
        stop=stop,
    )
    can, cannot = measurable(measured, unmeasured, slow.tokens, spec)
    gradients = gather_gradients(plans.base, **how) if reads_gradients(can) else None
    facts = record_facts(sides.records, spec.span)
    if gradients is not None:
        facts = replace(facts, gradient_norm=gradients.norms)
    return Gathered(evidence, untouched, slow, gradients, facts, record_statuses(evidence), can, cannot)
