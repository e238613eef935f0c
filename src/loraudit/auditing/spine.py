"""An audit from top to bottom."""

from __future__ import annotations

import contextlib
import datetime
import html
import shlex
import time
from typing import Any

import pyarrow as pa

from loraudit.auditing.blindfold import look_without_target
from loraudit.auditing.columns import Columns
from loraudit.auditing.copies.altered import requested_slow
from loraudit.auditing.copies.facts import slow_summary
from loraudit.auditing.copies.slow import score_apart
from loraudit.auditing.examination import examine
from loraudit.auditing.gathering import Plans, gather_all
from loraudit.auditing.memorizing.sources import further_records, load_tools
from loraudit.auditing.memorizing.spine import memorize
from loraudit.auditing.preparation import probed, requested_models, requested_tokenizer, scoring_options, split_by_views
from loraudit.auditing.references.making import make_reference
from loraudit.auditing.references.shadows import requested_shadows, shadow_summary
from loraudit.auditing.references.wanted import requested_reference
from loraudit.auditing.request import (
    chosen_attacks,
    limits_of,
    load_data,
    power_statement,
    run_path,
    store_path,
)
from loraudit.auditing.summary import (
    attack_results,
    provenance,
    refuse_unscored_sides,
    scoring_facts,
    whole_result,
    without_credentials,
    write_scores,
)
from loraudit.auditing.tokens import write_text
from loraudit.data import audited_text, masked_snippet
from loraudit.errors import LorauditError, StoreError
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.policy import judge, verdict_of
from loraudit.report import render_html, write_page
from loraudit.spec import AuditResult, AuditSpec
from loraudit.store import EvidenceStore, RunFolder, read_run, user_secret
from loraudit.store.finished_runs import Run


class AuditRun(Run):
    """A finished audit: its folder, result and scores; shows its report in a notebook."""

    def __repr__(self) -> str:
        words = verdict_of(self.result)
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
    user_secret()  # an account that cannot keep one is found out now, not after hours of scoring
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            sides = load_data(spec)
            further = further_records(spec, sides)
            tools = load_tools(spec) if spec.memorization else None
            base_plan = requested_models(spec, store)
            wanted = requested_reference(spec, base_plan, sides)
            shadows = requested_shadows(spec, base_plan, sides)
            measured, unmeasured = split_by_views(attacks, base_plan, spec)
            altered = requested_slow(spec, sides, measured)
            power = power_statement(sides, spec)
            progress.say(power)
            plan = make_reference(wanted, spec, progress=progress, stop=stop) if wanted else base_plan
            options, numerics = scoring_options(spec, plan, sides, probed(measured), store, progress)
            found = gather_all(
                spec,
                Plans(plan, base_plan, shadows, altered),
                sides,
                measured,
                unmeasured,
                options,
                store,
                progress=progress,
                stop=stop,
            )
            measured, statuses, evidence = found.measured, found.statuses, found.evidence
            folder.log("evidence", scored=evidence.n_scored, cached=evidence.n_cached, seconds=evidence.seconds)
            refuse_unscored_sides(sides, statuses)
            progress.say(f"Running {len(measured)} attacks on {len(statuses):,} records")
            scores = score_apart(
                measured,
                evidence.tables,
                found.slow.tables,
                found.facts,
                folds=sides.folds(spec.seed),
                timeout=spec.attack_timeout,
            )
            progress.say("Checking what tells the sides apart without the target")
            blind = look_without_target(
                sides,
                found.facts,
                found.untouched,
                [attack for attack in measured if scores[attack.name].error is None],  # a hang is waited for once
                span=spec.span,
                seed=spec.seed,
                timeout=spec.attack_timeout,
                altered=found.slow.untouched,
            )
            folder.reopen()
            table = write_scores(folder, sides, evidence, statuses, scores, blind, further)
            progress.say(f"Examining the scores with {spec.resamples:,} resamples")
            examined = examine(
                Columns.of(table, [attack.name for attack in measured]),
                spec,
                lambda row: masked_snippet(audited_text(sides.records[row], spec.span)),
            )
            memorization = None
            if tools is not None:
                memorization = memorize(
                    spec,
                    base_plan,
                    sides,
                    options,
                    store,
                    folder,
                    table.column("id").to_pylist(),
                    further,
                    tools,
                    progress=progress,
                    stop=stop,
                )
            text = None
            if spec.include_text:
                text = write_text(folder, sides, evidence, table, requested_tokenizer(spec, plan), spec)
            unjudged = without_credentials(
                whole_result(
                    spec=spec,
                    spec_hash=folder.hash,
                    command=command or f"loraudit audit --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                    plan=plan,
                    sides=sides,
                    statuses=statuses,
                    evidence=evidence,
                    attacks=[*attack_results(measured, scores, examined), *found.unmeasured],
                    examined=examined,
                    numerics=numerics,
                    scoring=scoring_facts(evidence, options, found.gradients),
                    power=power,
                    shadows=shadow_summary(shadows, spec),
                    memorization=memorization,
                    slow=slow_summary(altered, found.slow, base_plan, sides),
                    provenance=provenance(plan, sides, folder, [wanted, shadows, altered], further),
                    started=started.isoformat(timespec="seconds"),
                    seconds=round(time.perf_counter() - began, 2),
                )
            )
            _publish(folder, unjudged.model_copy(update={"verdict": judge(unjudged, limits_of(spec))}), table, text)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return AuditRun(*read_run(folder.path))


def _publish(folder: RunFolder, result: AuditResult, table: pa.Table, text: Any) -> None:
    """The report is made before the result is written, whose presence says that the run is complete."""
    write_page(folder.path, render_html(Run(folder.path, result, table, text)))
    folder.write_result(result)
    folder.log("finished", seconds=result.seconds, exit_code=exit_code(result))


def exit_code(result: AuditResult) -> int:
    """What the verdict says: 0, 1 where a limit does not hold, 7 where a part is missing."""
    return verdict_of(result).exit_code
