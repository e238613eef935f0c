"""One sentence per way of pulling records out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from loraudit.policy import ends
from loraudit.report.memorization.claims import Nouns, claim, is_shown, shares_said, short_claim
from loraudit.report.memorization.columns import at_prefix, column_of, count_of, n_of, standing, stated_prefix
from loraudit.report.memorization.numbers import (
    KIND_WORDS,
    drawn_words,
    interval_words,
    kind_order,
    share_words,
    worded,
)
from loraudit.spec import Capacity, GeneratedPoint, MemorizationResult, NearPoint, WithControls
from loraudit.types import Finding

_RECORDS: Nouns = {
    "members": "{} members",
    "held_out": "{} held-out records, which it never saw",
    "base": "by the base, before tuning, {} members",
}
_CONTINUATIONS: Nouns = {
    "members": "{} continuations of members",
    "held_out": "{} of held-out records",
    "base": "by the base, {} of members",
}
_MEANS: Nouns = {"members": "{}", "held_out": "held-out {}", "base": "base {}"}


@dataclass(frozen=True, slots=True)
class Look:
    """One way of pulling records out, in words.

    Attributes:
        kind: Which.
        title: In a few words.
        words: What came out, and what that allows to be said.
        controls: The number it rests on; None where there is none.
    """

    kind: Literal["greedy", "sampled", "generated"]
    title: str
    words: str
    controls: WithControls | None


def greedy_look(found: MemorizationResult) -> Look:
    """Word for word, by the likeliest tokens."""
    prefix = stated_prefix(found)
    if prefix is None:
        lengths = ", ".join(str(point.prefix) for point in found.greedy) or "no"
        words = f"No member has the {found.suffix} tokens that must follow a beginning of {lengths} tokens."
        return Look("greedy", "Word for word", words, None)
    (point, *_) = at_prefix(found.greedy, prefix)
    given = f"Given a record's first {prefix} tokens, the model says the {found.suffix} that follow word for word for"
    said = [f"{given} {shares_said(point.extracted, _RECORDS)}", claim(point.extracted), _over_prefixes(found)]
    return Look("greedy", "Word for word", " ".join(part for part in said if part), point.extracted)


def _over_prefixes(found: MemorizationResult) -> str:
    shares = [(point.prefix, point.extracted.members.value) for point in found.greedy]
    known = [(prefix, share) for prefix, share in shares if share is not None]
    if len(known) < 2:
        return ""
    low, high = min(share for _, share in known), max(share for _, share in known)
    across = f"With {known[0][0]} to {known[-1][0]} tokens given,"
    if low == high:
        return f"{across} it is {share_words(low)} of the members throughout."
    return f"{across} it is between {share_words(low)} and {share_words(high)} of the members."


def sampled_look(found: MemorizationResult) -> list[Look]:
    """What drawing many times adds: from all tokens at temperature 1, an even chance or better."""
    points = [
        point
        for point in at_prefix(found.sampled, stated_prefix(found))
        if (point.top_k, point.temperature, point.p) == (0, 1.0, 0.5)
    ]
    most = max(points, key=lambda point: point.n, default=None)
    if most is None or most.extracted.members.value is None:
        return []
    greedy = at_prefix(found.greedy, most.prefix)
    beside = ""
    if greedy and greedy[0].extracted.members.value is not None:
        beside = f"Greedily it is {count_of(greedy[0].extracted.members):,}. "
    drawn = (
        f"In {most.n:,} attempts, drawn from {drawn_words(most.top_k, most.temperature)}, one has an even chance or "
        f"better to hear the suffix of {shares_said(most.extracted, _RECORDS)}"
    )
    words = f"{drawn} {beside}{short_claim(most.extracted)}".strip()
    return [Look("sampled", "By asking often", words, most.extracted)]


def generated_look(found: MemorizationResult) -> list[Look]:
    """What continuations hold of the whole training set, one look per decoding."""
    return [
        Look("generated", f"Traced to the training set, {point.decoding}", words, against_unseen(point))
        for point in at_prefix(found.generated, stated_prefix(found))
        if (words := _generated_words(point))
    ]


def _generated_words(point: GeneratedPoint) -> str:
    whole = point.kinds.get("any")
    if whole is None or whole.members.value is None:
        return ""
    parts = [
        f"{worded(kind, KIND_WORDS)} {share_words(share)}"
        for kind in kind_order(point.kinds)
        if kind not in {"any", "suffix"} and (share := point.kinds[kind].members.value) is not None
    ]
    copied = (
        f"Given {point.prefix} tokens and decoded by {point.decoding}, a passage of the training set that the prompt "
        f"does not explain stands in {shares_said(whole, _CONTINUATIONS)} By the worst passage, of members: "
        f"{', '.join(parts)}."
    )
    return f"{copied} {traced_claim(point)}".strip()


def against_unseen(point: GeneratedPoint) -> WithControls | None:
    """Members' continuations that go back to the training set, beside those that go back to records never seen.

    Continuations of held-out records are no control here: a model that has learned records by heart says them
    whatever it is asked.
    """
    whole = point.kinds.get("any")
    if whole is None:
        return None
    return whole.model_copy(update={"held_out": point.unseen.get("any", whole.held_out)})


def traced_claim(point: GeneratedPoint) -> str:
    """What it means that continuations go back to the training set."""
    beside = against_unseen(point)
    if beside is None or "any" not in point.unseen or not beside.members.value:
        return ""
    by_chance = (
        f"Of the same continuations {share_words(beside.held_out.value or 0)} ({interval_words(beside.held_out)}) go "
        "back to a held-out record, which the model never saw"
    )
    if standing(beside.members, beside.held_out) != "above":
        return (
            f"{by_chance}: it is not shown that they come from the training set, and not from what the domain shares."
        )
    if beside.base is not None and standing(beside.members, beside.base) != "above":
        return f"{by_chance}. But the base's go back to the training set about as often."
    return f"{by_chance}: what is traced to the training set was learned from it."


def near_words(found: MemorizationResult) -> str:
    """What counts if few tokens may differ; empty where nothing was searched."""
    points = at_prefix(found.near, stated_prefix(found))
    if not points or points[0].near.members.value is None:
        return ""
    point = points[0]
    allowed = (
        f"If up to {point.budget} token{'' if point.budget == 1 else 's'} may differ ({point.metric}, "
        f"{point.decoding}, {point.prefix} tokens given), the mean chance that one attempt says a member is at least "
        f"{shares_said(point.near, _MEANS, is_count=False)}"
    )
    alone = point.exact.members.value
    exact = "" if alone is None else f" Word for word it is {share_words(alone)}."
    return f"{allowed}{exact}{_most_missed(point)} {short_claim(point.near)}".strip()


def _most_missed(point: NearPoint) -> str:
    missed = point.missed.members.value
    return f" The search let go of {share_words(missed)} in the mean of members." if missed else ""


def personal_words(found: MemorizationResult) -> str:
    """Which personal information is given away; empty where none was looked for."""
    said: list[str] = []
    if found.personal:
        shown = [kind for kind in found.personal if is_shown(_personal_beside_unseen(found, kind))]
        kinds = ", ".join(worded(kind, {}) for kind in shown)
        controls = "that of records the model never saw"
        if any(three.base is not None for three in found.personal.values()):
            controls += ", and than the base does"
        said.append(
            f"Continuations of members repeat {kinds} of the training set clearly more often than {controls}."
            if shown
            else "Of no kind do continuations of members repeat personal information of the training set clearly more "
            f"often than {controls}."
        )
    if found.fields:
        told = [field for field in found.fields if is_shown(field.top1) and _is_above(field.top1.members, field.chance)]
        kinds = ", ".join(
            f"{worded(field.kind, {})} ({share_words(field.top1.members.value or 0)} ranked first, by chance "
            f"{share_words(field.chance)})"
            for field in told
        )
        said.append(
            "Among other values, the model tells the true one clearly better for members than for the controls: "
            f"{kinds}."
            if told
            else "Of no kind is a member's own value told from others clearly better than by chance and than for the "
            "controls."
        )
    return " ".join(said)


def _personal_beside_unseen(found: MemorizationResult, kind: str) -> WithControls:
    """As `against_unseen`, for the same reason."""
    controls = found.personal[kind]
    return controls.model_copy(update={"held_out": found.personal_unseen.get(kind, controls.held_out)})


def _is_above(found: Finding, chance: float) -> bool:
    return found.lower is not None and math.isfinite(chance) and found.lower > chance


def capacity_words(found: MemorizationResult) -> str:
    """Bits held of members beside what held-out records gain; empty where no base is known."""
    held = found.capacity
    if held is None or held.bits is None or held.per_record.members.value is None:
        return ""
    members, others = held.per_record.members, held.per_record.held_out
    said = (
        f"All members together are {held.bits:,.0f} bits likelier than under the base: {_each(members)} for "
        f"each of {held.n_members:,}{_per_parameter(held)}."
    )
    if members.value is None or others.value is None or held.held_out_bits is None:
        return f"{said} No held-out record stands beside that."
    beside = (
        f"Held-out records, which it cannot hold, gain {held.held_out_bits:,.0f}: {_each(others)} for each of "
        f"{held.n_held_out:,}."
    )
    more = members.value - others.value
    if more > 0:
        rest = f"What is left for the records themselves is the difference, {more:,.1f} bits each."
    else:
        rest = "Members gain no more than that: the domain, not the records."
    return f"{said} {beside} {rest}"


def _each(bits: Finding) -> str:
    return f"{bits.value or 0:,.1f} {ends(bits, 1)}".rstrip()


def _per_parameter(held: Capacity) -> str:
    if held.bits_per_parameter is None or held.n_trained_parameters is None:
        return ""
    return f", or {held.bits_per_parameter:.3g} for each of {held.n_trained_parameters:,} trained parameters"


def utility_words(found: MemorizationResult) -> str:
    """Loss of the three columns: leakage is to be compared at equal worth."""
    parts: list[str] = []
    for name, noun in (("members", "members"), ("held_out", "held-out records"), ("base", "members under the base")):
        loss = column_of(found.perplexity, name)
        if loss is None:
            continue
        if loss.value is None:
            parts.append(f"{noun} undefined")
        else:
            parts.append(f"{noun} {loss.value:.3f} {ends(loss)} (n = {n_of(loss):,})".replace("  ", " "))
    return f"Mean loss in nats per token (the logarithm of the perplexity): {'; '.join(parts)}."
