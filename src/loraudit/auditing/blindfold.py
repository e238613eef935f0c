"""What can be said of the records without the target, for the validity gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from loraudit.auditing.copies.slow import in_targets_role, score_apart
from loraudit.auditing.request import Sides
from loraudit.data import audited_text
from loraudit.membership import AnyAttack
from loraudit.scoring import Evidence
from loraudit.types import FloatArray, RecordFacts, TokenTable
from loraudit.validity import Overlap, Words, blind_scores, measure_overlap
from loraudit.validity.gates import CONTROL, REFERENCE_ONLY


class BlindFacts(NamedTuple):
    """Scores and overlap that no target has touched.

    Attributes:
        blind: [N] per blind classifier, attacks on the reference alone among them.
        controls: [N] per attack that compares, with the reference in the target's role.
        overlap: What the sides share.
    """

    blind: dict[str, FloatArray]
    controls: dict[str, FloatArray]
    overlap: Overlap


def look_without_target(
    sides: Sides,
    facts: RecordFacts,
    evidence: Evidence,
    attacks: Sequence[AnyAttack],
    *,
    span: str,
    seed: int,
    timeout: float,
    altered: Mapping[str, TokenTable] | None = None,
) -> BlindFacts:
    """Blind classifiers, controls and overlap of both sides.

    Args:
        sides: The records.
        facts: Of those records.
        evidence: What the reference and shadows said, where there are any.
        attacks: Those that were run.
        span: "trained" or "all".
        seed: Of folds and halves.
        timeout: Seconds per attack.
        altered: What the reference said of altered copies, by the name of the view, for slow attacks.
    """
    words = Words.of([audited_text(record, span) for record in sides.records])
    blind = blind_scores(words, facts, sides.is_member, groups=sides.groups, rng=np.random.default_rng([seed, 0]))
    controls: dict[str, FloatArray] = {}
    reference = evidence.tables.get("reference")
    if reference is not None:
        tables = {**evidence.tables, "target": reference}
        # Attacks on gradients have no such twin: what was tuned is nothing that the reference has.
        altered = in_targets_role(altered or {})
        known = [attack for attack in attacks if set(attack.needs) <= {*tables, *altered}]
        found = score_apart(known, tables, altered, facts.of_text(), folds=sides.folds(seed), timeout=timeout)
        for attack in known:
            if found[attack.name].error is not None:
                continue
            if set(attack.needs) != {"target"}:
                controls[CONTROL + attack.name] = found[attack.name].scores
            else:
                blind[REFERENCE_ONLY + attack.name] = found[attack.name].scores
    return BlindFacts(blind, controls, measure_overlap(words, sides.is_member, rng=np.random.default_rng([seed, 1])))
