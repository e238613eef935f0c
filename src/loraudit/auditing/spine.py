"""An audit from top to bottom."""

from __future__ import annotations

import datetime
import html
import importlib.metadata
import shlex
import time

import numpy as np

from loraudit.auditing.preparation import (
    chosen_attacks,
    load_data,
    requested_models,
    requested_tokenizer,
    run_path,
    scoring_options,
    split_by_views,
    store_path,
)
from loraudit.auditing.summary import (
    attack_result,
    broken_plugins,
    counted,
    data_warnings,
    library_versions,
    record_statuses,
    side_summary,
    write_scores,
)
from loraudit.data import record_facts
from loraudit.errors import EXIT_OK, EXIT_PARTIAL, DataError, LorauditError
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.membership import score_attacks
from loraudit.report import render_html, verdict, write_report
from loraudit.scoring import gather_evidence
from loraudit.spec import AuditResult, AuditSpec, MembershipResult
from loraudit.statistics import measure
from loraudit.store import EvidenceStore, RunFolder, read_run
from loraudit.store.run_folder import Run

TOLERATED_UNSCORED = 0.01


class AuditRun(Run):
    """A finished audit: its folder, result and scores; shows its report in a notebook."""

    def __repr__(self) -> str:
        words = verdict(self.result)
        return f"<AuditRun {self.path}: {words.heading}. {words.sentence}>"

    def _repr_html_(self) -> str:
        page = html.escape(render_html(self), quote=True)
        return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:42rem;border:0"></iframe>'


def run_audit(
    spec: AuditSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> AuditRun:
    """Carry out an audit; the same request again resumes it or, with nothing to do, repeats its result.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between batches.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the data, the models or the machine do not allow it.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    attacks = chosen_attacks(spec)
    folder = RunFolder(run_path(spec), spec)
    store = EvidenceStore(store_path(spec))
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            sides = load_data(spec)
            plan = requested_models(spec, store)
            measured, unmeasured = split_by_views(attacks, plan, spec)
            options, facts = scoring_options(spec, plan, sides, measured[0], store, progress)
            evidence = gather_evidence(
                plan,
                sides.records,
                options,
                store,
                tokenizer=lambda: requested_tokenizer(spec, plan),
                views=sorted({view for attack in measured for view in attack.needs}),
                progress=progress,
                stop=stop,
            )
            folder.log("evidence", scored=evidence.n_scored, cached=evidence.n_cached, seconds=evidence.seconds)
            statuses = record_statuses(evidence)
            if "ok" not in statuses:
                raise DataError(f"None of the {len(statuses)} records could be scored: {counted(statuses)}.")
            progress.say(f"Running {len(measured)} attacks on {len(statuses):,} records")
            scores = score_attacks(measured, evidence.tables, record_facts(sides.records, spec.span))
            findings = measure(
                {name: found.scores for name, found in scores.items()},
                sides.is_member,
                fprs=spec.fpr,
                n_resamples=spec.resamples,
                confidence=spec.confidence,
                rng=np.random.default_rng(spec.seed),
                groups=sides.groups,
            )
            write_scores(folder, sides, evidence, statuses, scores)
            target_table = evidence.tables["target"].audited()
            result = AuditResult(
                loraudit=importlib.metadata.version("loraudit"),
                spec=spec,
                spec_hash=folder.hash,
                command=command or f"loraudit audit --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                target=plan.target,
                reference=plan.reference,
                members=side_summary(sides.members, target_table, statuses, slice(0, len(sides.members.records))),
                nonmembers=side_summary(
                    sides.nonmembers, target_table, statuses, slice(len(sides.members.records), None)
                ),
                numerics=facts,
                versions=library_versions(),
                scoring={
                    "records_scored": evidence.n_scored,
                    "records_cached": evidence.n_cached,
                    "damaged_units_redone": evidence.n_damaged_units,
                    "out_of_memory_backoffs": evidence.n_backoffs,
                    "tokens": evidence.n_tokens,
                    "seconds": round(evidence.seconds, 2),
                    "modes": evidence.modes,
                    "max_length": options.max_length,
                    "stride": options.stride,
                },
                membership=MembershipResult(
                    headline=spec.headline,
                    attacks=[
                        *(attack_result(attack, scores[attack.name], findings[attack.name]) for attack in measured),
                        *unmeasured,
                    ],
                ),
                warnings=[*plan.warnings, *data_warnings(sides, statuses), *broken_plugins()],
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            folder.write_result(result)
            write_report(folder.path)
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return AuditRun(*read_run(folder.path))


def exit_code(result: AuditResult) -> int:
    """0, or 7 where an attack failed or more than 1 % of the records could not be scored."""
    sides = result.members, result.nonmembers
    unscored = sum(n for side in sides for status, n in side.status.items() if status not in {"ok", "no_tokens"})
    has_failed = any(attack.status == "error" for attack in result.membership.attacks)
    is_partial = has_failed or unscored > TOLERATED_UNSCORED * sum(side.n_records for side in sides)
    return EXIT_PARTIAL if is_partial else EXIT_OK
