"""The spine of `loraudit canaries score`: a manifest and a model become exposures and a lower bound on ε."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import math
import shlex
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from loraudit.auditing.summary import scoring_facts
from loraudit.canaries import Exposures, exposures, inclusion_problems, level_of, stated_epsilon
from loraudit.canaries.words import CONTROLS_STAND_OUT, controls_stand_out, heading_of, sentence_of
from loraudit.errors import EXIT_OK, EXIT_PARTIAL, LorauditError, StoreError, scrubbed
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.models import ModelPlan
from loraudit.planting.request import (
    Sought,
    requested_options,
    requested_plan,
    run_path,
    sought_secrets,
    store_path,
    tokenizer_of,
)
from loraudit.report import render_canaries_html, write_page
from loraudit.scoring import Evidence, ScoringOptions, gather_evidence
from loraudit.spec import CanaryManifest, CanaryResult, CanaryScoreSpec, ExposureLevel
from loraudit.statistics import Interval, benjamini_hochberg, finding, finite, holm, rank_correlation
from loraudit.store import EvidenceStore, RunFolder, library_versions
from loraudit.types import BoolArray, FloatArray, IntArray, TokenTable

_FEW_LOST = 0.01


class CanaryRun(NamedTuple):
    """A finished search for canaries.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: CanaryResult


def run_score(
    spec: CanaryScoreSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> CanaryRun:
    """Look for planted canaries in a model; the same request again resumes or repeats its result.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between batches.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the manifest, the models or the machine do not allow it.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    sought = sought_secrets(spec)
    folder = RunFolder(run_path(spec), spec)
    store = EvidenceStore(store_path(spec))
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            plan = requested_plan(spec, store)
            options = requested_options(spec, plan)
            evidence = gather_evidence(
                plan,
                sought.records,
                options,
                store,
                tokenizer=lambda: tokenizer_of(spec, plan),
                progress=progress,
                stop=stop,
            )
            folder.log("evidence", scored=evidence.n_scored, cached=evidence.n_cached, seconds=evidence.seconds)
            folder.reopen()
            seen = see(sought.manifest, evidence, spec)
            table = seen.table(sought.manifest)
            folder.write_table("scores.parquet", table)
            result = _result(
                spec,
                sought,
                plan,
                seen,
                warnings=[*plan.warnings, *_warnings(sought.manifest, seen, evidence)],
                loraudit=importlib.metadata.version("loraudit"),
                spec_hash=folder.hash,
                command=command or f"loraudit canaries score --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                numerics=_numerics(options),
                scoring=scoring_facts(evidence, options),
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
                versions=library_versions(),
                scores=hashlib.sha256((folder.path / "scores.parquet").read_bytes()).hexdigest(),
            )
            result = CanaryResult.model_validate_json(scrubbed(result.model_dump_json()))
            write_page(folder.path, render_canaries_html(result))
            folder.write_result(result)
            folder.log("finished", seconds=result.seconds, exit_code=exit_code(result))
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return CanaryRun(folder.path, result)


def exit_code(result: CanaryResult) -> int:
    """0, or 7 where more than 1 % of the canaries have no score. A refused ε is a finding, stated in words."""
    levels = [*result.levels, result.controls]
    n_undefined, n = sum(level.n_undefined for level in levels), sum(level.n for level in levels)
    return EXIT_PARTIAL if n_undefined > _FEW_LOST * (n + n_undefined) else EXIT_OK


# --- from evidence to numbers -------------------------------------------------------------------------


class Seen(NamedTuple):
    """What the model says about n canaries.

    Attributes:
        target: [n, 1 + K] log-probability of each secret by the target, the planted one first; nats, NaN = no score.
        reference: [n, 1 + K] the same by the base; None where none is known.
        found: Exposures by the headline score.
        of_target: Exposures by the target alone; None where that is the headline.
        n_tokens: [n] of the planted secret.
        is_windowed: [n] whether a text of the canary was longer than the model's context.
        q_values: [n] Benjamini-Hochberg over the planted canaries; NaN for controls.
        is_included: [n] whether it stands in the planted file.
        repeats: [n] copies there.
        fdr: At or below which a q-value is called exposed.
    """

    target: FloatArray
    reference: FloatArray | None
    found: Exposures
    of_target: Exposures | None
    n_tokens: IntArray
    is_windowed: BoolArray
    q_values: FloatArray
    is_included: BoolArray
    repeats: IntArray
    fdr: float

    @property
    def headline(self) -> FloatArray:
        """[n, 1 + K] what is ranked: the gain over the base, which takes out how easy a secret is to begin with."""
        return self.target if self.reference is None else self.target - self.reference

    def table(self, manifest: CanaryManifest) -> pa.Table:
        """`scores.parquet`: one row per canary, without any context or secret."""
        n = len(manifest.canaries)
        return pa.table(
            {
                "name": [canary.name for canary in manifest.canaries],
                "use": [canary.use for canary in manifest.canaries],
                "is_included": self.is_included,
                "repeats": self.repeats,
                "n_tokens": self.n_tokens,
                "target": self.target[:, 0],
                "reference": np.full(n, np.nan) if self.reference is None else self.reference[:, 0],
                "score": self.headline[:, 0],
                "rank": self.found.ranks,
                "exposure": self.found.bits,
                "p_value": self.found.p_values,
                "q_value": self.q_values,
                "exposure_of_target": (self.of_target or self.found).bits,
            }
        )


def see(manifest: CanaryManifest, evidence: Evidence, spec: CanaryScoreSpec) -> Seen:
    """Ranks and exposures from what the models said.

    Args:
        manifest: What was planted.
        evidence: On each canary's secret and its references, in that order.
        spec: The request.
    """
    shape = len(manifest.canaries), 1 + spec.references
    target = secret_log_probs(evidence.tables["target"]).reshape(shape)
    reference = None
    if "reference" in evidence.tables:
        reference = secret_log_probs(evidence.tables["reference"]).reshape(shape)
    found = exposures(target if reference is None else target - reference)
    is_included = np.array([canary.is_included for canary in manifest.canaries], dtype=bool)
    return Seen(
        target,
        reference,
        found,
        None if reference is None else exposures(target),
        evidence.tables["target"].audited().n_tokens.reshape(shape)[:, 0],
        evidence.tables["target"].n_windows.reshape(shape).max(axis=1) > 1,
        benjamini_hochberg(np.where(is_included, found.p_values, np.nan)),
        is_included,
        np.array([len(canary.places) for canary in manifest.canaries], dtype=np.int64),
        spec.fdr,
    )


def secret_log_probs(table: TokenTable) -> FloatArray:
    """[N] log-probability of each record's audited tokens together, nats; NaN where the record has no score."""
    audited = table.audited()
    is_ok = np.array([status == "ok" for status in table.status], dtype=bool)
    log_probs = audited.columns["log_prob"].astype(np.float64)
    log_probs[np.repeat(~is_ok, audited.n_tokens)] = 0.0  # what is not finite would spread over the running sum
    sums = np.concatenate([[0.0], np.cumsum(log_probs)])
    return np.where(is_ok, sums[audited.offsets[1:]] - sums[audited.offsets[:-1]], np.nan)


def _result(
    spec: CanaryScoreSpec, sought: Sought, plan: ModelPlan, seen: Seen, *, warnings: list[str], **facts: Any
) -> CanaryResult:
    manifest = sought.manifest
    rng = np.random.default_rng(spec.seed)
    numbers = sorted({int(number) for number in seen.repeats[seen.is_included]})
    levels = [_level(number, seen.is_included & (seen.repeats == number), seen, spec, rng) for number in numbers]
    controls = _level(0, ~seen.is_included, seen, spec, rng)
    corrected = holm(np.array([np.nan if level.p_value is None else level.p_value for level in levels]))
    levels = [level.model_copy(update={"p_holm": finite(p)}) for level, p in zip(levels, corrected, strict=True)]
    planted = seen.is_included
    trend = rank_correlation(
        seen.found.bits[planted], seen.repeats[planted].astype(np.float64), confidence=spec.confidence
    )
    is_coin = np.array([canary.use == "coin" for canary in manifest.canaries], dtype=bool)
    epsilon = stated_epsilon(
        manifest,
        seen.headline[is_coin, 0],
        shares=spec.guesses,
        delta=spec.delta,
        confidence=spec.confidence,
    )
    most_bits = math.log2(1 + spec.references)
    if controls_stand_out(controls):
        warnings = [CONTROLS_STAND_OUT, *warnings]
    return CanaryResult(
        spec=spec,
        heading=heading_of(levels, controls, spec.confidence),
        sentence=sentence_of(levels, controls, most_bits, epsilon),
        headline="target" if seen.reference is None else "difference",
        target=plan.target,
        reference=plan.reference,
        manifest=manifest.digest,
        n_secrets=manifest.n_secrets,
        most_bits=most_bits,
        levels=levels,
        controls=controls,
        trend=finding(
            trend.value,
            Interval(*trend.interval),
            "Spearman's ρ over planted canaries, Fisher's scale, allowing for ties",
            n_members=trend.n_records,
            n_nonmembers=0,
            confidence=spec.confidence,
        ),
        trend_p_value=finite(trend.p_value),
        epsilon=epsilon,
        warnings=warnings,
        **facts,
    )


def _level(
    repeats: int, where: BoolArray, seen: Seen, spec: CanaryScoreSpec, rng: np.random.Generator
) -> ExposureLevel:
    def part(found: Exposures) -> Exposures:
        return Exposures(*(values[where] for values in found))

    with np.errstate(invalid="ignore"):
        is_exposed = seen.q_values[where] <= seen.fdr
    return level_of(
        repeats,
        part(seen.found),
        None if seen.of_target is None else part(seen.of_target),
        is_exposed,
        n_references=spec.references,
        confidence=spec.confidence,
        n_resamples=spec.resamples,
        rng=rng,
    )


def _warnings(manifest: CanaryManifest, seen: Seen, evidence: Evidence) -> list[str]:
    warnings: list[str] = []
    if seen.reference is None:
        warnings.append(
            "No base is known, so secrets are ranked by the target alone, and how easy they were to begin with adds to "
            "chance. Give it with --base."
        )
    if any("digest" in problem for problem in inclusion_problems(manifest)):
        warnings.append("The manifest was changed after it was written; exposures rest on what it says now.")
    if seen.is_windowed.any():
        warnings.append(
            f"{int(seen.is_windowed.sum())} canaries have a text longer than the model's context of tokens, so their "
            "secrets are read in parts."
        )
    n_lost = int(np.isnan(seen.found.ranks).sum())
    if n_lost:
        warnings.append(f"{n_lost} of {len(seen.found.ranks)} canaries have no score: not finite, or out of memory.")
    if evidence.n_damaged_units:
        warnings.append(
            f"{evidence.n_damaged_units} damaged unit{'s' * (evidence.n_damaged_units > 1)} of stored evidence did not "
            "match the checksum and were scored again."
        )
    return warnings


def _numerics(options: ScoringOptions) -> dict[str, Any]:
    return {
        **options.numerics.conditions(),
        "devices": list(options.devices),
        "batching_noise_nats": options.numerics.batching_noise,
    }
