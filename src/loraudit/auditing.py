"""The spine of `loraudit audit`: a request becomes a run folder with a result.

records → models → evidence → attacks → findings → result.json, scores.parquet, report.html
"""

from __future__ import annotations

import datetime
import html
import importlib.metadata
import platform
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loraudit.data import RecordSet, encode, load_sides, record_facts
from loraudit.errors import EXIT_OK, EXIT_PARTIAL, ConfigError, DataError, LorauditError
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.membership import ATTACKS, Attack, AttackScores, score_attacks
from loraudit.models import ModelPlan, Numerics, load_tokenizer, plan_models, resolve_devices
from loraudit.models.numerics import device_kind
from loraudit.models.plan import DEFAULT_CONTEXT
from loraudit.report import render_html, verdict, write_report
from loraudit.scoring import (
    Evidence,
    ScoringOptions,
    choose_precision,
    estimate_cost,
    gather_evidence,
    plan_units,
)
from loraudit.spec import (
    DEFAULT_FPRS,
    AttackResult,
    AuditResult,
    AuditSpec,
    MembershipResult,
    SideSummary,
    spec_hash,
)
from loraudit.statistics import measure, unresolved_rate
from loraudit.store import EvidenceStore, RunFolder, read_run
from loraudit.store.run_folder import Run
from loraudit.types import BoolArray, Finding, IntArray, Record

TOLERATED_UNSCORED = 0.01
_LIBRARIES = ("loraudit", "torch", "transformers", "peft", "numpy", "scipy", "safetensors", "tokenizers")


class _Sides(NamedTuple):
    members: RecordSet
    nonmembers: RecordSet

    @property
    def records(self) -> list[Record]:
        return [*self.members.records, *self.nonmembers.records]

    @property
    def is_member(self) -> BoolArray:
        return np.arange(len(self.records)) < len(self.members.records)

    @property
    def groups(self) -> IntArray | None:
        """Document of each record as a number; None where no record names one."""
        names = [record.group for record in self.records]
        if all(name is None for name in names):
            return None
        keys = [("alone", str(i)) if name is None else ("group", name) for i, name in enumerate(names)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([numbers[key] for key in keys])


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
    attacks = _chosen_attacks(spec)
    folder = RunFolder(run_path(spec), spec)
    store = EvidenceStore(store_path(spec))
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            sides = _load_data(spec)
            plan = _plan_models(spec, store)
            measured, unmeasured = _split_by_views(attacks, plan, spec)
            options, facts = _scoring_options(spec, plan, sides, measured[0], store, progress)
            evidence = gather_evidence(
                plan,
                sides.records,
                options,
                store,
                tokenizer=lambda: _tokenizer(spec, plan),
                views=sorted({view for attack in measured for view in attack.needs}),
                progress=progress,
                stop=stop,
            )
            folder.log("evidence", scored=evidence.n_scored, cached=evidence.n_cached, seconds=evidence.seconds)
            statuses = _statuses(evidence)
            if "ok" not in statuses:
                raise DataError(f"None of the {len(statuses)} records could be scored: {_counted(statuses)}.")
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
            _write_scores(folder, sides, evidence, statuses, scores)
            target_table = evidence.tables["target"].audited()
            result = AuditResult(
                loraudit=importlib.metadata.version("loraudit"),
                spec=spec,
                spec_hash=folder.hash,
                command=command or f"loraudit audit --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                target=plan.target,
                reference=plan.reference,
                members=_side_summary(sides.members, target_table, statuses, slice(0, len(sides.members.records))),
                nonmembers=_side_summary(
                    sides.nonmembers, target_table, statuses, slice(len(sides.members.records), None)
                ),
                numerics=facts,
                versions=_versions(),
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
                        *(_attack_result(attack, scores[attack.name], findings[attack.name]) for attack in measured),
                        *unmeasured,
                    ],
                ),
                warnings=[*plan.warnings, *_data_warnings(sides, statuses), *_broken_plugins()],
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


def run_path(spec: AuditSpec) -> Path:
    """The run folder: the one named, or `runs/audit-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"audit-{spec_hash(spec)[:12]}"


def store_path(spec: AuditSpec) -> Path:
    """The evidence store: the one named, or `.loraudit` beside the run folder."""
    return Path(spec.store) if spec.store else run_path(spec).parent / ".loraudit"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an audit would take.

    Attributes:
        n_members: Records.
        n_nonmembers: Records.
        n_tokens: Tokens to send through a model, all views together.
        n_units: Units of work still missing.
        n_cached: Records whose evidence is complete.
        memory_bytes: Peak of weights and activations, roughly.
        seconds: From the speed of a matrix product on this machine, roughly.
        stages: Models resident one after another.
    """

    n_members: int
    n_nonmembers: int
    n_tokens: int
    n_units: int
    n_cached: int
    memory_bytes: int
    seconds: float
    stages: list[str]


def estimate_audit(spec: AuditSpec) -> Estimate:
    """What the audit would take, without loading a model or writing a result.

    Raises:
        LorauditError: As `run_audit`, for everything that can be found out beforehand.
    """
    attacks = _chosen_attacks(spec)
    if run_path(spec).is_dir():
        RunFolder(run_path(spec), spec)
    store = EvidenceStore(store_path(spec)) if store_path(spec).is_dir() else None
    sides = _load_data(spec)
    plan = _plan_models(spec, store)
    measured, _ = _split_by_views(attacks, plan, spec)
    devices = resolve_devices(spec.device)
    kind = device_kind(devices)
    precision = spec.precision if spec.precision not in (None, "auto") else "fp32"
    max_length, stride = _window(spec, plan)
    options = ScoringOptions(
        devices,
        Numerics(kind, precision),
        max_length,
        stride,
        spec.span,
        append_eos=spec.append_eos,
        batch_tokens=spec.batch_tokens,
    )
    views = {view for attack in measured for view in attack.needs}
    prints = {"target": plan.target.fingerprint}
    if plan.reference:
        prints["reference"] = plan.reference.fingerprint
    conditions = [options.conditions(plan, prints[view]) for view in sorted(views)]
    n_cached = _n_cached(sides, store, conditions) if store else 0
    encoded = encode(sides.records, _tokenizer(spec, plan), span=spec.span, append_eos=spec.append_eos)
    lengths = [len(item.ids) for item in encoded]
    share_missing = 1 - n_cached / len(sides.records)
    n_units = len(plan_units(lengths, batch_tokens=options.tokens_at_once))
    n_tokens = int(sum(lengths) * len(views) * share_missing)
    cost = estimate_cost(plan, options, n_tokens)
    return Estimate(
        n_members=len(sides.members.records),
        n_nonmembers=len(sides.nonmembers.records),
        n_tokens=n_tokens,
        n_units=int(np.ceil(n_units * share_missing)) * len(plan.stages),
        n_cached=n_cached,
        memory_bytes=cost.memory_bytes,
        seconds=cost.seconds,
        stages=[" and ".join(stage_views) for stage_views, _ in plan.stages],
    )


def _n_cached(sides: _Sides, store: EvidenceStore, conditions: Sequence[dict[str, Any]]) -> int:
    folders = [store.folder(condition) for condition in conditions]
    for folder in folders:
        folder.refresh()
    return sum(all(record.id in folder for folder in folders) for record in sides.records)


# --- steps --------------------------------------------------------------------------------------------


def _chosen_attacks(spec: AuditSpec) -> list[Attack]:
    """Headline first. All that is wrong with the request's names and files is said at once."""
    problems: list[str] = []
    chosen: dict[str, Attack] = {}
    for name in (spec.headline, *(spec.attacks or tuple(ATTACKS))):
        try:
            chosen[name] = ATTACKS[name]
        except ConfigError as error:
            problems.append(str(error))
    problems.extend(
        f"File '{path}' does not exist. Expected records; check the path."
        for path in (*spec.members, *spec.nonmembers)
        if not Path(path).is_file()
    )
    if spec.max_length and spec.stride and spec.stride >= spec.max_length:
        problems.append(f"Stride {spec.stride} is out of range. Expected less than --max-length {spec.max_length}.")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return list(chosen.values())


def _load_data(spec: AuditSpec) -> _Sides:
    members, nonmembers = load_sides(
        spec.members,
        spec.nonmembers,
        spec,
        on_overlap=spec.on_overlap,
        max_records=spec.max_records,
        seed=spec.seed,
    )
    if spec.fpr != DEFAULT_FPRS:
        refused = [unresolved_rate(len(nonmembers.records), fpr) for fpr in spec.fpr]
        if any(refused):
            raise ConfigError("\n".join(reason for reason in refused if reason))
    return _Sides(members, nonmembers)


def _plan_models(spec: AuditSpec, store: EvidenceStore | None) -> ModelPlan:
    return plan_models(
        spec.model,
        base=spec.base,
        memory=store,
        offline=spec.offline,
        allow_pickle=spec.allow_pickle,
        allow_remote_code=spec.allow_remote_code,
        allow_other_base=spec.allow_other_base,
    )


def _tokenizer(spec: AuditSpec, plan: ModelPlan) -> Any:
    return load_tokenizer(plan.tokenizer_folder, allow_remote_code=spec.allow_remote_code)


def _split_by_views(
    attacks: Sequence[Attack], plan: ModelPlan, spec: AuditSpec
) -> tuple[list[Attack], list[AttackResult]]:
    views = {view for stage_views, _ in plan.stages for view in stage_views}
    measured = [attack for attack in attacks if set(attack.needs) <= views]
    unmeasured = [
        AttackResult(
            **_attack_facts(attack),
            status="not_measured",
            reason=f"needs {', '.join(sorted(set(attack.needs) - views))}; give the base model with --base",
        )
        for attack in attacks
        if attack not in measured
    ]
    if not measured or measured[0].name != spec.headline:
        raise ConfigError(
            f"The headline attack '{spec.headline}' needs a reference, and no base of '{spec.model}' is known. "
            "Give it with --base, or name an attack that looks at the target alone, such as "
            "--headline min_k_plus_plus."
        )
    return measured, unmeasured


def _window(spec: AuditSpec, plan: ModelPlan) -> tuple[int, int]:
    context = plan.context_length
    if spec.max_length and context and spec.max_length > context:
        raise ConfigError(
            f"Window length {spec.max_length} is longer than the model's context of {context} tokens. "
            f"Expected --max-length of at most {context}."
        )
    max_length = spec.max_length or min(context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    stride = spec.stride or max(1, max_length // 2)
    if stride >= max_length:
        raise ConfigError(f"Stride {stride} is out of range. Expected less than the window of {max_length} tokens.")
    return max_length, stride


def _scoring_options(
    spec: AuditSpec, plan: ModelPlan, sides: _Sides, headline: Attack, store: EvidenceStore, progress: Progress
) -> tuple[ScoringOptions, dict[str, Any]]:
    """How to score, and what the result says about it."""
    devices = resolve_devices(spec.device)
    kind = device_kind(devices)
    max_length, stride = _window(spec, plan)
    asked = spec.precision or ("auto" if kind == "cuda" else "fp32")

    def with_precision(precision: str) -> ScoringOptions:
        return ScoringOptions(
            devices,
            Numerics(kind, precision),
            max_length,
            stride,
            spec.span,
            append_eos=spec.append_eos,
            batch_tokens=spec.batch_tokens,
        )

    facts: dict[str, Any] = {"devices": devices, "asked": asked}
    if asked == "auto":
        question = {
            "question": "precision",
            "headline": headline.name,
            "reference": plan.reference.fingerprint if plan.reference else None,
            **with_precision("auto").conditions(plan, plan.target.fingerprint),
        }
        answer = store.recall(question)
        if answer is None:
            progress.say("Probing whether bf16 changes the scores")
            answer = choose_precision(
                plan,
                sides.records,
                sides.is_member,
                headline,
                with_precision("fp32"),
                tokenizer=_tokenizer(spec, plan),
                rng=np.random.default_rng(spec.seed),
            ).facts()
            store.remember(question, answer)
        measured = (
            f" (Spearman {answer['spearman']:.5f}, |ΔAUC| {answer['auc_change']:.4f}, {answer['speedup']:.2f}× as "
            f"fast, {answer['n_records']} records)"
            if answer["spearman"] is not None
            else ""
        )
        progress.say(f"Precision {answer['precision']}: {answer['reason']}{measured}")
        facts["probe"] = answer
        asked = str(answer["precision"])
    options = with_precision(asked)
    return options, {**options.numerics.conditions(), **facts}


def _statuses(evidence: Evidence) -> list[str]:
    """The first view that could not score a record says why."""
    by_view = [table.status for table in evidence.tables.values()]
    return [next((s for s in views if s != "ok"), "ok") for views in zip(*by_view, strict=True)]


def _counted(statuses: Sequence[str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses).most_common())


def _write_scores(
    folder: RunFolder,
    sides: _Sides,
    evidence: Evidence,
    statuses: Sequence[str],
    scores: dict[str, AttackScores],
) -> None:
    target = evidence.tables["target"].audited()
    folder.write_scores(
        sides.records,
        {
            "is_member": sides.is_member,
            "group": [record.group for record in sides.records],
            "n_tokens": target.n_tokens,
            "n_windows": target.n_windows,
            "status": list(statuses),
            **{name: found.scores for name, found in scores.items()},
        },
    )


def _side_summary(side: RecordSet, target: Any, statuses: Sequence[str], where: slice) -> SideSummary:
    named = {record.group for record in side.records if record.group is not None}
    alone = sum(record.group is None for record in side.records)
    return SideSummary(
        files=list(side.files),
        n_read=side.n_read,
        n_bad=side.n_bad,
        n_duplicates=side.n_duplicates,
        n_overlap=side.n_overlap,
        n_left_out=side.n_left_out,
        n_records=len(side.records),
        n_groups=len(named) + alone,
        n_tokens=int(target.n_tokens[where].sum()),
        n_windowed=int((target.n_windows[where] > 1).sum()),
        status=dict(Counter(statuses[where])),
    )


def _attack_facts(attack: Attack) -> dict[str, Any]:
    return {
        "name": attack.name,
        "summary": attack.summary,
        "source": attack.source,
        "needs": list(attack.needs),
        "cost": attack.cost,
    }


def _attack_result(attack: Attack, found: AttackScores, findings: dict[str, Finding]) -> AttackResult:
    return AttackResult(
        **_attack_facts(attack),
        status="error" if found.error else "ok",
        reason=found.error,
        seconds=round(found.seconds, 4),
        findings={} if found.error else findings,
    )


def _data_warnings(sides: _Sides, statuses: Sequence[str]) -> list[str]:
    warnings: list[str] = []
    for name, side in (("members", sides.members), ("non-members", sides.nonmembers)):
        if side.n_bad:
            warnings.append(f"{side.n_bad} unreadable rows of the {name} were skipped.")
        if side.n_duplicates:
            warnings.append(f"{side.n_duplicates} repeated records of the {name} were left out.")
    if sides.members.n_overlap:
        warnings.append(f"{sides.members.n_overlap} records stood on both sides and were left out of both.")
    lost = [status for status in statuses if status != "ok"]
    if lost:
        warnings.append(f"{len(lost)} records have no score: {_counted(lost)}.")
    groups = sides.groups
    if groups is not None:
        shared = np.intersect1d(groups[sides.is_member], groups[~sides.is_member]).size
        if shared:
            warnings.append(f"{shared} groups have records on both sides; intervals treat the sides as independent.")
    return warnings


def _broken_plugins() -> list[str]:
    return [f"The attack plug-in {origin} could not be loaded: {reason}" for origin, reason in ATTACKS.broken.items()]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
