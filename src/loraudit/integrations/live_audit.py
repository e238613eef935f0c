"""An audit whose target keeps changing: what stays the same is prepared once, then each state is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.auditing.blindfold import BlindFacts, look_without_target
from loraudit.auditing.columns import Columns
from loraudit.auditing.examination import examine
from loraudit.auditing.request import Sides
from loraudit.auditing.summary import attack_results, record_statuses, refuse_unscored_sides
from loraudit.data import Encoded, encode, record_facts
from loraudit.errors import ConfigError
from loraudit.integrations.request import Request
from loraudit.membership import AttackScores, score_attacks, without_noise
from loraudit.models import Numerics, Resident
from loraudit.models.live import context_of, precision_of
from loraudit.models.numerics import device_kind
from loraudit.models.plan import DEFAULT_CONTEXT, REFERENCE, TARGET
from loraudit.scoring import Evidence, ScoringOptions, score_resident
from loraudit.spec import AuditSpec, MembershipResult, ValidityResult
from loraudit.types import FloatArray, RecordFacts, TokenTable


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Records as this model's tokens, and how they are scored.

    Attributes:
        request: What is asked.
        sides: The records.
        encoded: As token ids.
        options: How they are scored.
        facts: What is known of them without a model.
    """

    request: Request
    sides: Sides
    encoded: list[Encoded]
    options: ScoringOptions
    facts: RecordFacts

    def score(self, resident: Resident, view: str) -> TokenTable:
        """What a model says of all records."""
        return score_resident(resident, self.encoded, self.options, view)

    def probe(self, resident: Resident) -> None:
        """Find out on the first record whether the model can be scored at all.

        Raises:
            ModelError: It cannot.
        """
        score_resident(resident, self.encoded[:1], self.options, TARGET)

    def key(self) -> str:
        """Hex sha256 of the records, their tokens and the windows they are read in."""
        total = hashlib.sha256(f"{self.options.max_length} {self.options.stride}".encode())
        for record, item in zip(self.sides.records, self.encoded, strict=True):
            total.update(f"\n{record.id} {len(item.ids)} ".encode())
            total.update(np.asarray(item.ids, dtype=np.int64).tobytes())
            total.update(np.asarray(item.is_audited, dtype=np.bool_).tobytes())
        return total.hexdigest()


def prepare(request: Request, tokenizer: Any, module: Any) -> Prepared:
    """Read the records and turn them into the model's tokens.

    Raises:
        DataError: Records cannot be used, or stand on both sides.
        ConfigError: What is asked does not fit these records or this model.
    """
    sides, spec = request.load(), request.spec
    encoded = encode(sides.records, tokenizer, span=spec.span, append_eos=spec.append_eos)
    device = str(module.get_input_embeddings().weight.device)
    max_length = _window(spec, context_of(module))
    options = ScoringOptions(
        [device],
        Numerics(device_kind([device]), precision_of(module)),
        max_length,
        max(1, max_length // 2),
        spec.span,
        append_eos=spec.append_eos,
    )
    return Prepared(request, sides, encoded, options, record_facts(sides.records, spec.span))


def _window(spec: AuditSpec, context: int | None) -> int:
    if spec.max_length and context and spec.max_length > context:
        raise ConfigError(
            f"Window length {spec.max_length} is longer than the model's context of {context} tokens. "
            f"Expected max_length of at most {context}."
        )
    return spec.max_length or min(context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one state of the model gives away; limits can be checked against it.

    Attributes:
        membership: As in the result of an audit, without the ids of single records.
        validity: The gates.
        memorization: Never measured during training.
    """

    membership: MembershipResult
    validity: ValidityResult | None
    memorization: None = None


class LiveAudit:
    """Judges evidence of the model in training, with the figures that an ordinary audit would state.

    Args:
        prepared: The records.
        reference: What the reference says of them.

    Raises:
        DataError: A side has no record that can be scored.
        ConfigError: The headline attack fails on these records, or a limit speaks of what they cannot measure.
    """

    def __init__(self, prepared: Prepared, reference: TokenTable) -> None:
        self.prepared, self.reference = prepared, reference
        request, spec = prepared.request, prepared.request.spec
        refuse_unscored_sides(prepared.sides, list(reference.status))
        self._blind: BlindFacts = look_without_target(
            prepared.sides,
            prepared.facts,
            Evidence({REFERENCE: reference}),
            request.attacks,
            span=spec.span,
            seed=spec.seed,
            timeout=spec.attack_timeout,
        )
        self.rehearsal = self._rehearse()

    def judge(self, target: TokenTable) -> Found:
        """What the model gives away that said this of the records.

        Raises:
            DataError: It could score none of a side.
        """
        request = self.prepared.request
        views = {TARGET: target, REFERENCE: self.reference}
        refuse_unscored_sides(self.prepared.sides, record_statuses(Evidence(views)))
        scores = score_attacks(
            request.attacks,
            views,
            self.prepared.facts,
            folds=self.prepared.sides.folds(request.spec.seed),
            timeout=request.spec.attack_timeout,
        )
        return self._found(scores, target)

    def _rehearse(self) -> Found:
        """All the figures, of scores that mean nothing: what cannot be measured is known before the training."""
        request = self.prepared.request
        headline = request.attacks[0]
        views = {TARGET: self.reference, REFERENCE: self.reference}
        tried = score_attacks([headline], views, self.prepared.facts, timeout=request.spec.attack_timeout)
        error = tried[headline.name].error
        if error:
            raise ConfigError(
                f"The headline attack '{headline.name}' fails on these records: {error}. "
                "Name another with headline, such as min_k_plus_plus."
            )
        rng = np.random.default_rng(request.spec.seed)
        is_scored = np.array([status == "ok" for status in self.reference.status])
        noise = {
            attack.name: AttackScores(np.where(is_scored, rng.standard_normal(len(is_scored)), np.nan), 0.0)
            for attack in request.attacks
        }
        found = self._found(noise, self.reference)
        outcomes = [limit.check(found) for limit in request.limits]
        unmeasured = [outcome for outcome in outcomes if outcome.status == "not_measured"]
        if unmeasured:
            raise ConfigError(
                "\n".join(
                    f"Limit '{outcome.limit}' cannot stop the training: {outcome.reason.partition('; what is')[0]}. "
                    "Expected a limit on what these records and attacks measure."
                    for outcome in unmeasured
                )
            )
        return found

    def _found(self, scores: Mapping[str, AttackScores], target: TokenTable) -> Found:
        request, sides, overlap = self.prepared.request, self.prepared.sides, self._blind.overlap
        subgroups = [record.subgroup for record in sides.records]
        rounded: dict[str, FloatArray] = {name: without_noise(given.scores) for name, given in scores.items()}
        columns = Columns(
            ids=[str(row) for row in range(len(subgroups))],  # they stay in this process
            is_member=sides.is_member,
            groups=sides.groups,
            subgroups=None if all(value is None for value in subgroups) else subgroups,  # type: ignore[arg-type]
            n_tokens=target.audited().n_tokens,
            n_copies=sides.n_copies,
            scores=rounded,
            blind=self._blind.blind,
            controls=self._blind.controls,
            has_near_duplicate=np.asarray(overlap.has_near_duplicate, dtype=bool),
            ngram_share=np.asarray(overlap.ngram_share, dtype=np.float64),
            usual_share=overlap.usual_share,
        )
        examined = examine(columns, request.spec, lambda _row: "", with_fusion=False)  # training waits for it
        membership = MembershipResult(
            headline=request.spec.headline,
            attacks=attack_results(request.attacks, scores, examined),
            best=examined.best,
            dataset_test=examined.dataset_test,
            records=examined.records,
        )
        return Found(membership, examined.validity)
