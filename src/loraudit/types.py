"""The nouns that every room shares: records and what models said about them.

Shapes are written [N, T]: N records that have T audited tokens each. Log-probabilities are
natural logarithms (nats).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.integer]

Status = Literal["ok", "no_tokens", "nonfinite", "out_of_memory"]
Decoding = tuple[int, float]
"""(k, temperature): sampling from the k most likely tokens at this temperature; k = 0 means all."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the ids of one tokenizer.

    Attributes:
        ids: [L].
        is_audited: [L] tokens whose prediction counts.
    """

    ids: tuple[int, ...]
    is_audited: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One training or held-out example, as its file states it.

    Exactly one of four forms is filled: `text`; `prompt` with `completion`; `messages`; or `tokens`, which no file
    holds: what a model wrote is never decoded and tokenised again.

    Attributes:
        id: Hex sha256 of the content. Never shown or exported as it is: it would let anyone
            who holds a candidate text look it up.
        source: File it was read from, as named by the user.
        line: 1-based line (row for tables) in that file.
        group: Document the record belongs to, for clustered intervals; None means a document of its own.
        own_id: The user's id of it, where a column names one.
        subgroup: Value to compare exposure by, where a column is named for that.
        label: Class of the text, where a column is named for that; part of the content.
    """

    id: str
    source: str
    line: int
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] | None = None
    group: str | None = None
    own_id: str | None = None
    subgroup: str | None = None
    label: str | None = None
    tokens: Tokens | None = None


def record_id(
    *,
    text: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    messages: Sequence[Message] | None = None,
    label: str | None = None,
    tokens: Tokens | None = None,
) -> str:
    """Hex sha256 of a record's content, the same for the same content in any file format."""
    content: dict[str, Any]
    if text is not None:
        content = {"text": text}
    elif messages is not None:
        content = {"messages": [[message.role, message.content] for message in messages]}
    elif tokens is not None:
        content = {"ids": tokens.ids, "is_audited": tokens.is_audited}
    else:
        content = {"prompt": prompt, "completion": completion}
    if label is not None:
        content["label"] = label
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """What one model said about N records of T predicted tokens each, in one forward pass.

    Reductions over the vocabulary were made in float32 whatever the precision of the weights.

    Attributes:
        log_prob: [N, T] log-probability of the token that stands in the record.
        is_top1: [N, T] whether that token was the model's most likely one.
        margin: [N, T] log-probability of the most likely token minus that of the second.
        mean_log_prob: [N, T] μ = Σ_v p_v log p_v, the probability-weighted mean (minus the entropy).
        var_log_prob: [N, T] σ² = Σ_v p_v log² p_v − μ², not below 0.
        rank_bucket: [N, T] ⌊log2 rank⌋ of the record's token, rank 1 = most likely, so
            0 is rank 1, 1 is ranks 2-3, 2 is ranks 4-7 and so on.
        log_sum_exps: for each requested decoding (k, temperature), [N, T]
            log Σ exp(log p_v / temperature) over the k most likely tokens (all for k = 0); +inf where the record's
            token is not among those k: its probability under that decoding is 0. The log-probability of the token
            under the decoding is log_prob / temperature − log_sum_exp.
    """

    log_prob: FloatArray
    is_top1: BoolArray
    margin: FloatArray
    mean_log_prob: FloatArray
    var_log_prob: FloatArray
    rank_bucket: IntArray
    log_sum_exps: Mapping[Decoding, FloatArray] = field(default_factory=dict[Decoding, FloatArray])

    def __len__(self) -> int:
        return self.log_prob.shape[0]

    @property
    def entropy(self) -> FloatArray:
        """[N, T] entropy of the prediction, nats."""
        return -self.mean_log_prob


TOKEN_FIELDS: Mapping[str, type[np.generic]] = {
    "log_prob": np.float32,
    "is_top1": np.bool_,
    "margin": np.float32,
    "mean_log_prob": np.float32,
    "var_log_prob": np.float32,
    "rank_bucket": np.uint8,
}
"""The per-token arrays of `TokenScores` and the type each is stored in."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordFacts:
    """One number each about N records: of their text, and where asked for what the target's gradient is like there.

    Attributes:
        n_bytes: [N] UTF-8 bytes of the audited text.
        n_zlib_bytes: [N] bytes of that text after zlib compression at its default level.
        gradient_norm: [N] Euclidean norm of the gradient of the record's mean loss (nats per audited token) in the
            parameters that tuning trained; NaN where undefined. None where it was not measured.
    """

    n_bytes: IntArray
    n_zlib_bytes: IntArray
    gradient_norm: FloatArray | None = None

    def take(self, index: IntArray | slice) -> RecordFacts:
        """The facts of some of the records."""
        norms = None if self.gradient_norm is None else self.gradient_norm[index]
        return RecordFacts(self.n_bytes[index], self.n_zlib_bytes[index], norms)

    def of_text(self) -> RecordFacts:
        """What is known without any model."""
        return RecordFacts(self.n_bytes, self.n_zlib_bytes)


@dataclass(frozen=True, slots=True, eq=False)
class Views(Mapping[str, TokenScores]):
    """N records of equally many audited tokens, each seen by several models.

    Names are `target`, `reference` and, for other attacks, `shadow/3`, `shadow_in/3`, `neighbour/7`, `prefixed` and so
    on.
    Views carry no membership label, so an attack cannot use one.
    """

    scores: Mapping[str, TokenScores]
    facts: RecordFacts

    def __getitem__(self, name: str) -> TokenScores:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def target(self) -> TokenScores:
        """What the audited model said."""
        return self.scores["target"]

    @property
    def reference(self) -> TokenScores:
        """What the reference said about the same tokens."""
        return self.scores["reference"]

    @property
    def shadows(self) -> list[TokenScores]:
        """What shadow models said, which have not seen the records; by number."""
        return self._numbered("shadow/")

    @property
    def shadows_in(self) -> list[TokenScores]:
        """What shadow models said that were trained on the record; by number."""
        return self._numbered("shadow_in/")

    @property
    def neighbours(self) -> list[TokenScores]:
        """What the audited model said about altered copies of the records; by number."""
        return self._numbered("neighbour/")

    @property
    def reference_neighbours(self) -> list[TokenScores]:
        """What the reference said about the same copies."""
        return self._numbered("reference_neighbour/")

    def _numbered(self, prefix: str) -> list[TokenScores]:
        names = [name for name in self.scores if name.startswith(prefix)]
        return [self.scores[name] for name in sorted(names, key=lambda name: int(name.split("/")[1]))]

    @property
    def log_ratio(self) -> FloatArray:
        """[N, T] δ = log p_target − log p_reference, float64."""
        return self.target.log_prob.astype(np.float64) - self.reference.log_prob


@dataclass(frozen=True, slots=True, eq=False)
class TokenTable:
    """What one model said about many records of any length: flat columns cut by offsets.

    Attributes:
        columns: [total tokens] each, one per name in `TOKEN_FIELDS`.
        log_sum_exps: [total tokens] per requested decoding, as of `TokenScores`.
        offsets: [N + 1] record i owns tokens offsets[i] to offsets[i + 1].
        is_audited: [total tokens] which of them count.
        n_windows: [N] forward windows each record was cut into.
        status: [N] whether the record could be scored.
    """

    columns: Mapping[str, NDArray[Any]]
    offsets: IntArray
    is_audited: BoolArray
    n_windows: IntArray
    status: Sequence[Status]
    log_sum_exps: Mapping[Decoding, FloatArray] = field(default_factory=dict[Decoding, FloatArray])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> IntArray:
        """[N] tokens of each record."""
        return np.diff(self.offsets)

    def audited(self) -> TokenTable:
        """The same records with only the audited tokens left."""
        mask = self.is_audited
        if mask.all():
            return self
        n_kept_before = np.concatenate([[0], np.cumsum(mask)])
        return replace(
            self,
            columns={name: column[mask] for name, column in self.columns.items()},
            log_sum_exps={decoding: column[mask] for decoding, column in self.log_sum_exps.items()},
            offsets=n_kept_before[self.offsets],
            is_audited=mask[mask],
        )

    def rows(self, start: int, end: int) -> TokenTable:
        """The records from `start` to before `end`."""
        first, last = int(self.offsets[start]), int(self.offsets[end])
        return TokenTable(
            columns={name: column[first:last] for name, column in self.columns.items()},
            offsets=self.offsets[start : end + 1] - first,
            is_audited=self.is_audited[first:last],
            n_windows=self.n_windows[start:end],
            status=self.status[start:end],
            log_sum_exps={decoding: column[first:last] for decoding, column in self.log_sum_exps.items()},
        )

    def rectangle(self, index: IntArray, n_tokens: int) -> TokenScores:
        """The records `index`, each of exactly `n_tokens` tokens, as [len(index), n_tokens] arrays."""
        where = self.offsets[index][:, None] + np.arange(n_tokens)
        return TokenScores(
            **{name: column[where] for name, column in self.columns.items()},
            log_sum_exps={decoding: column[where] for decoding, column in self.log_sum_exps.items()},
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured number with what it takes to believe it.

    Attributes:
        value: None where it is undefined or refused; `note` then says why.
        lower: Lower end of the two-sided interval at `confidence`; of 0 found in N the upper end is one-sided, and
            `method` says so.
        upper: Upper end.
        confidence: Such as 0.95.
        method: How the interval was made.
        n_members: Members the number rests on.
        n_nonmembers: Non-members it rests on.
        n_undefined_members: Members the attack gave no score.
        n_undefined_nonmembers: Non-members the attack gave no score.
        seconds: Time it took.
        n_false_positives: For a rate at a threshold, non-members over that threshold.
        note: A warning or the reason for a refusal, in words.
    """

    value: float | None
    lower: float | None
    upper: float | None
    confidence: float
    method: str
    n_members: int
    n_nonmembers: int
    n_undefined_members: int = 0
    n_undefined_nonmembers: int = 0
    seconds: float = 0.0
    n_false_positives: int | None = None
    note: str | None = None
