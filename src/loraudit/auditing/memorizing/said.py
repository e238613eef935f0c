"""Figures about what models said: continuations, near-verbatim search, personal information."""

from __future__ import annotations

import functools

import numpy as np

from loraudit.auditing.memorizing.controls import Controls, Summarise, of_asked
from loraudit.auditing.memorizing.measures import (
    ANY,
    FIELD,
    LONGEST,
    NEAR,
    OWN_SUFFIX,
    PERSONAL,
    SAID,
    UNSEEN,
    Measures,
    column,
)
from loraudit.memorization.matches import SEVERITY
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.spec import FieldKind, GeneratedPoint, NearPoint, WithControls
from loraudit.types import BoolArray, Finding, FloatArray

KINDS = (*SEVERITY, ANY, OWN_SUFFIX)
SIMILARITIES = (
    "nearest_by_edits", "nearest_by_meaning", "edits_to_suffix", "rouge_l_to_suffix", "bleu_above_75",
)  # fmt: skip


def generated_points(controls: Controls) -> list[GeneratedPoint]:
    """One per prefix length and decoding."""
    return [
        GeneratedPoint(
            decoding=decoding,
            prefix=int(prefix),
            kinds={kind: _said(controls, controls.yes, kind, prefix, decoding) for kind in KINDS},
            unseen={
                kind: _said(controls, controls.yes, f"{UNSEEN}.{kind}", prefix, decoding).members
                for kind in (*SEVERITY, ANY)
            },
            similarity={name: _said(controls, controls.share, name, prefix, decoding) for name in SIMILARITIES},
            longest_copied=_longest(controls.measures, prefix, decoding),
        )
        for prefix, decoding in _asked(controls.measures, SAID)
    ]


def _asked(measures: Measures, kind: str) -> list[tuple[str, ...]]:
    """What follows the measure and the view in the names of columns of a kind, each once."""
    found = [tuple(name.split(":")[3:]) for name in measures.values if name.startswith(f"{kind}:")]
    return list(dict.fromkeys(found))


def _said(controls: Controls, summarise: Summarise, measure: str, prefix: str, decoding: str) -> WithControls:
    """Records that were not prompted are not counted as undefined."""
    prompted = controls.measures.values.get(column(SAID, LONGEST, TARGET, prefix, decoding))

    def of_prompted(given: FloatArray, where: BoolArray, are_members: bool) -> Finding:
        return summarise(given, where if prompted is None else where & ~np.isnan(prompted), are_members)

    return controls.of(
        of_prompted, lambda view: controls.measures.values.get(column(SAID, measure, view, prefix, decoding))
    )


def _longest(measures: Measures, prefix: str, decoding: str) -> dict[str, float | None]:
    """Characters of the longest copied passage, by column."""
    is_member = measures.is_member
    found: dict[str, float | None] = {}
    for side, view, where in (
        ("members", TARGET, is_member), ("held_out", TARGET, ~is_member), ("base", REFERENCE, is_member),
    ):  # fmt: skip
        values = measures.values.get(column(SAID, LONGEST, view, prefix, decoding))
        known = np.empty(0) if values is None else values[where & ~np.isnan(values)]
        found[side] = float(known.max()) if len(known) else None
    return found


def personal_shares(controls: Controls) -> dict[str, WithControls]:
    """By kind, the share of prompted records of which any continuation holds some."""
    marked = [name.split(":")[1] for name in controls.measures.values if name.startswith(f"{SAID}:{PERSONAL}.")]
    return {
        kind: controls.of(of_asked(controls.yes), functools.partial(_any_personal, controls.measures, kind))
        for kind in sorted({name.removeprefix(f"{PERSONAL}.") for name in marked})
    }


def personal_unseen(controls: Controls) -> dict[str, Finding]:
    """The same of the members' continuations against records never seen; nothing where that was not asked."""
    stem = f"{UNSEEN}.{PERSONAL}."
    marked = [name.split(":")[1] for name in controls.measures.values if name.startswith(f"{SAID}:{stem}")]
    return {
        kind: controls.of(
            of_asked(controls.yes), functools.partial(_any_personal, controls.measures, kind, stem=stem)
        ).members
        for kind in sorted({name.removeprefix(stem) for name in marked})
    }


def _any_personal(measures: Measures, kind: str, view: str, *, stem: str = f"{PERSONAL}.") -> FloatArray | None:
    prompted = [name for name in measures.values if name.startswith(f"{SAID}:{LONGEST}:{view}:")]
    if not prompted:
        return None
    found = np.full(len(measures.is_member), np.nan)
    for name in prompted:
        is_said = ~np.isnan(measures[name])
        found[is_said] = np.fmax(found[is_said], 0.0)
        marked = measures.values.get(name.replace(f":{LONGEST}:", f":{stem}{kind}:"))
        if marked is not None:
            found[is_said] = np.fmax(found[is_said], marked[is_said])
    return found


def near_points(controls: Controls) -> list[NearPoint]:
    """Probability of the suffix and of what is near it."""
    return [
        NearPoint.model_validate(
            {
                "prefix": prefix,
                "decoding": decoding,
                "metric": metric,
                "budget": budget,
                **{
                    part: _searched(controls, part, prefix, decoding, metric, budget)
                    for part in ("exact", "near", "missed")
                },
            }
        )
        for prefix, decoding, metric, budget in _asked(controls.measures, NEAR)
    ]


def _searched(controls: Controls, part: str, *how: str) -> WithControls:
    return controls.of(
        of_asked(controls.share), lambda view: controls.measures.values.get(column(NEAR, part, view, *how))
    )


def field_kinds(controls: Controls) -> list[FieldKind]:
    """Means over records of the mean over a record's fields: a record is what members and others are of."""
    measures = controls.measures
    kinds = [name.split(":")[1] for name in measures.values if name.startswith(f"{FIELD}:")]
    found: list[FieldKind] = []
    for kind in dict.fromkeys(kinds):
        n_candidates = measures[column(FIELD, kind, "candidates")]
        found.append(
            FieldKind(
                kind=kind,
                n_candidates=float(np.nanmean(n_candidates)),
                chance=float(np.nanmean(1 / n_candidates)),
                top1=_of_fields(controls, controls.share, kind, "top1"),
                bits=_of_fields(controls, controls.number, kind, "bits"),
            )
        )
    return found


def _of_fields(controls: Controls, summarise: Summarise, kind: str, part: str) -> WithControls:
    """Records without such a field are not asked; one whose values could not be scored counts as undefined."""
    is_asked = ~np.isnan(controls.measures[column(FIELD, kind, "candidates")])

    def of_compared(given: FloatArray, where: BoolArray, are_members: bool) -> Finding:
        return summarise(given, where & is_asked, are_members)

    return controls.of(of_compared, lambda view: controls.measures.values.get(column(FIELD, kind, part, view)))
