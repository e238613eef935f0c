"""The memorization measures from top to bottom."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from loraudit.auditing.memorizing.beginnings import Beginning, beginnings, is_long_enough
from loraudit.auditing.memorizing.examination import examine_memorization
from loraudit.auditing.memorizing.fields import field_measures, placed_fields
from loraudit.auditing.memorizing.leaked import leaked_records
from loraudit.auditing.memorizing.measures import NEAR, Measures, column, evidence_measures
from loraudit.auditing.memorizing.request import main_prefix
from loraudit.auditing.memorizing.sources import Tools, TrainingSet, index_sources
from loraudit.auditing.memorizing.speaking import Continuations, Speakers, drawn_order
from loraudit.auditing.memorizing.stating import NEAR_DECODING, how_measured, notes_of
from loraudit.auditing.memorizing.tracing import Decode, Traced, Tracer, decoder, said_measures
from loraudit.auditing.preparation import requested_tokenizer, with_decodings
from loraudit.auditing.request import Sides
from loraudit.data import Encoded, RecordSet, encode
from loraudit.execution import Progress, StopRequest
from loraudit.generation import greedy_agreement, near_verbatim_masses, parse_decoding
from loraudit.generation.constrained import BEAM_WIDTH, SEARCH_VERSION
from loraudit.memorization import hit_runs
from loraudit.memorization.near_verbatim import DistanceName
from loraudit.models import ModelPlan, Resident
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.scoring import ScoringOptions, gather_evidence
from loraudit.spec import Agreement, AuditSpec, MemorizationResult
from loraudit.store import EvidenceStore, RunFolder
from loraudit.types import BoolArray, FloatArray, TokenTable

_N_CHECKED = 32
_NEAR_DISTANCE: DistanceName = "levenshtein"
_CHECK = 63


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What models are asked about: the same for target and base."""

    encoded: Sequence[Encoded]
    order: dict[bool, list[int]]
    is_long: dict[int, BoolArray]


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """What models said, and what was measured while they were in memory."""

    said: list[Continuations]
    near: dict[str, FloatArray]
    agreement: Agreement | None


def memorize(
    spec: AuditSpec,
    plan: ModelPlan,
    sides: Sides,
    options: ScoringOptions,
    store: EvidenceStore,
    folder: RunFolder,
    ids: Sequence[str],
    further: Sequence[RecordSet],
    tools: Tools,
    *,
    progress: Progress,
    stop: StopRequest | None,
) -> MemorizationResult:
    """Measure, generate, trace and examine; `memorization.parquet` is written.

    Args:
        spec: The request.
        plan: The target and its base.
        sides: The records.
        options: How to score.
        store: Of evidence and of continuations.
        folder: Of the run.
        ids: [N] shown ids of the records.
        further: Records that were trained on besides the members.
        tools: What judges texts.
        progress: Told how far it is.
        stop: Asked between batches and before every token.

    Raises:
        LorauditError: Models, records or machine do not allow it.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    began = time.perf_counter()
    tokenizer = requested_tokenizer(spec, plan)
    gather = functools.partial(
        gather_evidence, plan, store=store, tokenizer=lambda: tokenizer, progress=progress, stop=stop
    )
    tables = gather(sides.records, options=with_decodings(options)).tables
    progress.say("Measuring what the evidence says can be extracted")
    values = evidence_measures(tables, prefixes=spec.prefix_tokens, suffix=spec.suffix_tokens, options=options)
    asked = _Asked(
        encode(sides.records, tokenizer, span=spec.span, append_eos=spec.append_eos),
        drawn_order(sides.is_member, spec.seed),
        {p: is_long_enough(tables[TARGET], p, spec.suffix_tokens, options.max_length) for p in spec.prefix_tokens},
    )
    speakers = Speakers(plan, options, store, tokenizer, seed=spec.seed, progress=progress, stop=stop)
    heard = _hear(spec, speakers, asked, tables[TARGET])
    values |= heard.near
    said = heard.said
    sources = index_sources(sides, ids, further, tools, folder.shown_ids) if said else None
    traced = _traced(sources, said, decoder(tokenizer), progress, stop) if sources else []
    for one in traced:
        values |= said_measures(one, len(sides.records))
    n_without_context = None
    if spec.candidates:
        progress.say("Comparing personal information in the records with other values of its kind")
        placed = placed_fields(sides, spec.span, spec.candidates, spec.seed, tools.find_personal)
        n_without_context = placed.n_without_context
        in_context = functools.partial(gather, options=replace(options, span="trained", append_eos=False))
        values |= field_measures(
            placed.fields, sides, spec.span, lambda records: in_context(records, store=store.apart("fields"))
        )
    measures = Measures.of(_written(folder, sides, ids, tables[TARGET].audited().n_tokens, values))
    return MemorizationResult(
        suffix=spec.suffix_tokens,
        agreement=heard.agreement,
        records=leaked_records(spec, sides, measures, traced, sources),
        detector=spec.detector,
        notes=notes_of(tools, traced),
        how=how_measured(spec, sides, said, sources) | {"personal_values_without_context": n_without_context},
        seconds=round(time.perf_counter() - began, 2),
        **examine_memorization(measures, spec, plan.n_tuned_parameters)._asdict(),
    )


def _hear(spec: AuditSpec, speakers: Speakers, asked: _Asked, table: TokenTable) -> _Heard:
    """All that target and base are asked to say; neither is in memory any longer afterwards."""
    heard = _Heard([], {}, None)
    for views, load in speakers.stages():
        for view in views:
            heard.said.extend(_continuations(spec, speakers, asked, view, load))
            heard.near.update(_near_measures(spec, speakers, asked, view, load))
            if view == TARGET:
                heard = replace(heard, agreement=_agreement(spec, speakers, asked, table, load))
    return heard


def _continuations(
    spec: AuditSpec, speakers: Speakers, asked: _Asked, view: str, load: Callable[[], Resident]
) -> list[Continuations]:
    """Of the first records of each side that are long enough; by the base, of members alone."""
    found: list[Continuations] = []
    for prefix in spec.prefix_tokens if spec.generations else ():
        rows = _rows(asked, view, prefix, spec.generations)
        given = beginnings(asked.encoded, rows, prefix, spec.suffix_tokens)
        if given:
            found += [
                speakers.say(load, view, given, parse_decoding(words, spec.suffix_tokens)) for words in spec.decodings
            ]
    return found


def _rows(asked: _Asked, view: str, prefix: int, n_records: int) -> list[int]:
    sides = (True,) if view == REFERENCE else (True, False)
    return [row for side in sides for row in [r for r in asked.order[side] if asked.is_long[prefix][r]][:n_records]]


def _near_measures(
    spec: AuditSpec, speakers: Speakers, asked: _Asked, view: str, load: Callable[[], Resident]
) -> dict[str, FloatArray]:
    members = asked.order[True]
    prefix = main_prefix(spec, [length for length, is_long in asked.is_long.items() if is_long[members].any()])
    rows = _rows(asked, view, prefix, spec.near_records)
    if not rows:
        return {}
    decoding = parse_decoding(NEAR_DECODING, spec.suffix_tokens)
    given = beginnings(asked.encoded, rows, prefix, spec.suffix_tokens)
    question = _question("near-verbatim search", speakers, view, given) | {
        "decoding": decoding.name,
        "budget": spec.near_edits,
        "distance": _NEAR_DISTANCE,
        "width": BEAM_WIDTH,
        "version": SEARCH_VERSION,
        "end_ids": list(speakers.end_ids),
    }
    answer = speakers.store.recall(question)
    if answer is None:
        masses = near_verbatim_masses(
            load(),
            [item.given.tolist() for item in given],
            [item.suffix.tolist() for item in given],
            (decoding.top_k, decoding.temperature),
            spec.near_edits,
            distance=_NEAR_DISTANCE,
            width=BEAM_WIDTH,
            end_ids=speakers.end_ids,
            view=view,
            progress=speakers.progress,
            stop=speakers.stop,
        )
        answer = {
            "exact": [mass.verbatim for mass in masses],
            "near": [mass.lower for mass in masses],
            "missed": [mass.pruned for mass in masses],
        }
        speakers.store.remember(question, answer)
    found: dict[str, FloatArray] = {}
    for part, values in answer.items():
        filled = np.full(len(asked.encoded), np.nan)
        filled[rows] = values
        found[column(NEAR, part, view, prefix, decoding.name, _NEAR_DISTANCE, spec.near_edits)] = filled
    return found


def _agreement(
    spec: AuditSpec,
    speakers: Speakers,
    asked: _Asked,
    table: TokenTable,
    load: Callable[[], Resident],
) -> Agreement | None:
    """Whether generation says what the evidence predicts, on some records; asked once per model and precision.

    None where no record is long enough to ask.
    """
    prefix = spec.prefix_tokens[0]
    usable = np.flatnonzero(asked.is_long[prefix])
    if not len(usable):
        return None
    rows = np.random.default_rng([spec.seed, _CHECK]).permutation(usable)[:_N_CHECKED]
    given = beginnings(asked.encoded, rows.tolist(), prefix, spec.suffix_tokens)
    question = _question("greedy agreement", speakers, TARGET, given)
    answer = speakers.store.recall(question)
    if answer is None:
        audited = table.audited()
        runs = hit_runs(audited)[audited.offsets[rows] + prefix]
        found = greedy_agreement(
            load(),
            [item.given.tolist() for item in given],
            [item.suffix.tolist() for item in given],
            n_hits=np.minimum(runs, spec.suffix_tokens).tolist(),
            progress=speakers.progress,
            stop=speakers.stop,
        )
        noise = 2 * speakers.options.numerics.batching_noise
        answer = Agreement(
            n_checked=found.n,
            n_agree=found.n_agree,
            n_close=sum(margin < noise for margin in found.smallest_margins),
            smallest_margin=max(found.smallest_margins, default=None),
        ).model_dump(mode="json")
        speakers.store.remember(question, answer)
    return Agreement.model_validate(answer)


def _question(about: str, speakers: Speakers, view: str, given: Sequence[Beginning]) -> dict[str, Any]:
    """What an answer about continuations is remembered under; the texts themselves are only in its hash."""
    texts = [[item.given.tolist(), item.suffix.tolist()] for item in given]
    return {
        "question": about,
        "model": speakers.plan.fingerprints[view],
        "numerics": speakers.options.numerics.conditions(),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
    }


def _traced(
    sources: TrainingSet, said: Sequence[Continuations], decode: Decode, progress: Progress, stop: StopRequest | None
) -> list[Traced]:
    tracer = Tracer(sources, decode, stop)
    progress.stage("Tracing", sum(len(one.said) for one in said), "continuations")
    traced: list[Traced] = []
    for one in said:
        traced.append(tracer.trace(one))
        progress.advance(len(one.said))
    return traced


def _written(
    folder: RunFolder, sides: Sides, ids: Sequence[str], n_tokens: Any, values: dict[str, FloatArray]
) -> pa.Table:
    table = pa.table(
        {
            "id": pa.array(list(ids), pa.string()),
            "is_member": sides.is_member,
            "group": pa.array([record.group for record in sides.records], pa.string()),
            "n_copies": sides.n_copies,
            "n_tokens": n_tokens,
            **{name: np.asarray(column, dtype=np.float64) for name, column in values.items()},
        }
    )
    folder.write_table("memorization.parquet", table)
    return table
