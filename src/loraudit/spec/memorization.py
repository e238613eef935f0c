"""What a model was found to have memorised, as `result.json` holds it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from loraudit.spec.form import Strict
from loraudit.types import Finding


class WithControls(Strict):
    """One number three times: nothing is said of members alone."""

    members: Finding
    held_out: Finding = Field(description="Of the non-members: what the model says of records it never saw.")
    base: Finding | None = Field(default=None, description="Of the members, under the model before tuning.")


class Strength(Strict):
    """The mean over records of a measure in [0, 1]."""

    name: Literal["exact_memorization", "extraction_strength"]
    summary: str
    mean: WithControls


class GreedyPoint(Strict):
    """Records whose next tokens the model says word for word, greedily, when it is given their beginning."""

    prefix: int = Field(description="Audited tokens given.")
    extracted: WithControls = Field(description="Share of the records that are long enough.")
    n_close: int = Field(
        description="Members in whose suffix a top-2 margin is so small that another batch could turn it."
    )


class SampledPoint(Strict):
    """Records extractable within n attempts with probability p: (n, p)-discoverable extraction."""

    prefix: int
    top_k: int = Field(description="Tokens drawn from; 0 = all.")
    temperature: float
    n: int = Field(description="Attempts.")
    p: float
    extracted: WithControls


class CopiesRow(Strict):
    """Members that stand equally often in the training set."""

    copies: str
    n_members: int
    prefix: int
    greedy: Finding = Field(description="Share extracted greedily at `prefix`.")
    sampled: Finding = Field(description="Mean probability of the suffix in one attempt from all tokens at T = 1.")
    strength: Finding = Field(description="Mean extraction strength.")


class Agreement(Strict):
    """Whether the model says, token by token, what its evidence says it would say."""

    n_checked: int
    n_agree: int
    n_close: int = Field(description="Of those that disagree, how many have a top-2 margin within batching noise.")
    smallest_margin: float | None = Field(
        description="Smallest top-2 margin, in nats, up to where the two part; of the records that disagree the "
        "largest, None where none does."
    )


class GeneratedPoint(Strict):
    """Continuations of record beginnings, traced back to the training set."""

    decoding: str
    prefix: int
    kinds: dict[str, WithControls] = Field(
        description="Share of continuations whose worst match is of that kind; `any` is their sum; `suffix` the share "
        "that is the record's own suffix, token by token."
    )
    unseen: dict[str, Finding] = Field(
        default_factory=dict,
        description="Share of the members' continuations whose worst match among the non-members, which the model "
        "never saw, is of that kind: what two texts of this domain share by chance.",
    )
    similarity: dict[str, WithControls] = Field(description="Mean likeness to the training set, by measure.")
    longest_copied: dict[str, float | None] = Field(
        description="Longest exactly copied passage in characters, by column."
    )


class NearPoint(Strict):
    """Probability of the suffix or of anything within few edits of it, by constrained search: a lower bound."""

    prefix: int
    decoding: str
    budget: int = Field(description="Tokens that may differ.")
    metric: Literal["levenshtein", "hamming"]
    exact: WithControls = Field(description="Mean probability of the suffix itself.")
    near: WithControls = Field(description="Mean probability within the budget, at least.")
    missed: WithControls = Field(
        description="Mean probability that the search let go: the truth is at most near + missed."
    )


class FieldKind(Strict):
    """Personal information of one kind: how well the model tells a record's own value from others."""

    kind: str
    n_candidates: float = Field(description="Mean number of values compared, the true one among them.")
    top1: WithControls = Field(description="Share ranked first; chance is one over the candidates.")
    chance: float
    bits: WithControls = Field(description="Mean exposure, log2 candidates − log2 rank.")


class Passage(Strict):
    """A passage of a continuation and where it comes from."""

    kind: str
    decoding: str = Field(description="Of the continuation.")
    prefix: int = Field(description="Tokens that were given for it.")
    source: str = Field(description="Shown id of the training record, also of one that is not audited.")
    n_sources: int = Field(description="Training records that hold it.")
    n_characters: int
    score: float
    personal: list[str] = Field(description="Kinds of personal information in it.")
    here: str | None = Field(default=None, description="Its text; None unless text was asked for.")
    there: str | None = Field(default=None, description="The text of the source.")


class LeakedRecord(Strict):
    """A member that can be pulled out, without its text unless it was asked for."""

    id: str
    n_copies: int
    n_tokens: int
    strength: float | None
    greedy: list[int] = Field(description="Prefix lengths at which the suffix is said greedily.")
    attempts: float | None = Field(
        description="Attempts for one chance in two, all tokens at T = 1, at the prefix length that stands for all; "
        "None where infinite or undefined."
    )
    attempts_defined: bool = Field(
        default=True,
        description="Whether the record is long enough for that prefix; if so, no number of attempts suffices where "
        "`attempts` is None.",
    )
    bits: float | None = Field(description="Log2 of how much likelier its suffix is than under the base.")
    passage: Passage | None = Field(description="The worst match of its continuations.")
    snippet: str = Field(description="Its beginning with every word and number masked.")


class Capacity(Strict):
    """How much of the members the tuned parameters hold, in bits."""

    bits: float | None = Field(
        description="Σ over members of max(0, log2 p_target − log2 p_base) over audited tokens; None where no member "
        "could be scored."
    )
    held_out_bits: float | None = Field(
        description="The same of the non-members, which no parameter can hold as records."
    )
    per_record: WithControls = Field(description="Mean of the same over records; the base has none.")
    n_members: int
    n_held_out: int
    n_trained_parameters: int | None
    bits_per_parameter: float | None


class MemorizationResult(Strict):
    """What can be pulled out of the model, always beside what can be pulled out of none."""

    suffix: int = Field(description="Tokens that count as the record's continuation.")
    strengths: list[Strength]
    greedy: list[GreedyPoint]
    sampled: list[SampledPoint]
    curve: list[SampledPoint] = Field(
        description="The same at p = 0.5 over many numbers of attempts, at one prefix length."
    )
    copies: list[CopiesRow] = Field(description="By copies in the training set; empty where all stand once.")
    agreement: Agreement | None
    generated: list[GeneratedPoint]
    near: list[NearPoint]
    fields: list[FieldKind]
    personal: dict[str, WithControls] = Field(
        description="Share of prompted records of which any continuation holds personal information that stands in the "
        "training set and not in its prompt, by kind."
    )
    personal_unseen: dict[str, Finding] = Field(
        default_factory=dict,
        description="Share of the members of which any continuation holds some that stands in the non-members, which "
        "the model never saw, and not in the prompt, by the same kinds: what two sets of this domain share.",
    )
    records: list[LeakedRecord]
    capacity: Capacity | None
    perplexity: WithControls = Field(description="Mean loss in nats per audited token: what the model is worth.")
    detector: str
    notes: list[str] = Field(
        default_factory=list, description="What the detector leaves open, in sentences; [] where nothing was traced."
    )
    how: dict[str, Any] = Field(description="Records prompted, passages, models and settings.")
    seconds: float
