"""What a result says besides its findings: what became of records, attacks and plug-ins."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from loraudit.auditing.blindfold import BlindFacts
from loraudit.auditing.columns import BLIND, CONTROL, OVERLAP, USUAL_SHARE
from loraudit.auditing.copies.altered import WantedSlow
from loraudit.auditing.copies.facts import slow_warnings
from loraudit.auditing.examination import Examined
from loraudit.auditing.references.shadows import Shadows
from loraudit.auditing.references.wanted import WantedReference
from loraudit.auditing.request import Sides, attack_facts
from loraudit.capture import Gradients
from loraudit.data import RecordSet
from loraudit.errors import DataError, scrubbed
from loraudit.membership import ATTACKS, AnyAttack, AttackScores, without_noise
from loraudit.models import ModelPlan
from loraudit.models.fingerprint import chat_template_fingerprint
from loraudit.scoring import Evidence, ScoringOptions
from loraudit.spec import AttackResult, AuditResult, AuditSpec, MembershipResult, Provenance, SideSummary, SlowSummary
from loraudit.store import RunFolder, library_versions


def record_statuses(evidence: Evidence) -> list[str]:
    """The first view that could not score a record says why."""
    by_view = [table.status for table in evidence.tables.values()]
    return [next((s for s in views if s != "ok"), "ok") for views in zip(*by_view, strict=True)]


def counted(statuses: Sequence[str]) -> str:
    """Such as `3 no_tokens, 1 nonfinite`."""
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses).most_common())


def refuse_unscored_sides(sides: Sides, statuses: Sequence[str]) -> None:
    """A side without a single score is an error, never a pass.

    Raises:
        DataError: Members or non-members have none.
    """
    n_members = len(sides.members.records)
    for name, side in (("member", statuses[:n_members]), ("non-member", statuses[n_members:])):
        if "ok" not in side:
            raise DataError(
                f"None of the {len(side)} {name} records could be scored: {counted(side)}. Expected texts of at least "
                "two tokens and a model that gives finite numbers for them. Check the column (--text-field) and the "
                "model."
            )


def write_scores(
    folder: RunFolder,
    sides: Sides,
    evidence: Evidence,
    statuses: Sequence[str],
    scores: dict[str, AttackScores],
    blind: BlindFacts,
    further: Sequence[RecordSet] = (),
) -> pa.Table:
    """`scores.parquet` from records, evidence, attacks and what was measured without the target.

    The records in `further`, which are not audited, are named in `identity.parquet` alone.
    """
    target = evidence.tables["target"].audited()
    return folder.write_scores(
        sides.records,
        {
            "is_member": sides.is_member,
            "group": pa.array([record.group for record in sides.records], pa.string()),
            "n_tokens": target.n_tokens,
            "n_windows": target.n_windows,
            "status": list(statuses),
            "subgroup": pa.array([record.subgroup for record in sides.records], pa.string()),
            "n_copies": sides.n_copies,
            **{name: without_noise(found.scores) for name, found in scores.items()},
            **{BLIND + name: values for name, values in blind.blind.items()},
            **{CONTROL + name: values for name, values in blind.controls.items()},
            f"{OVERLAP}has_near_duplicate": blind.overlap.has_near_duplicate,
            f"{OVERLAP}ngram_share": pa.array(blind.overlap.ngram_share, from_pandas=True),
        },
        {USUAL_SHARE: repr(blind.overlap.usual_share).encode()},
        others=[record for one in further for record in one.records],
    )


def side_summary(side: RecordSet, target: Any, statuses: Sequence[str], where: slice) -> SideSummary:
    """What became of one side; `where` are its rows."""
    named = {record.group for record in side.records if record.group is not None}
    alone = sum(record.group is None for record in side.records)
    return SideSummary(
        files=list(side.files),
        n_read=side.n_read,
        n_bad=side.n_bad,
        n_duplicates=side.n_duplicates,
        n_overlap=side.n_overlap,
        n_left_out=side.n_left_out,
        n_set_aside=side.n_set_aside,
        n_records=len(side.records),
        n_groups=len(named) + alone,
        n_tokens=int(target.n_tokens[where].sum()),
        n_windowed=int((target.n_windows[where] > 1).sum()),
        status=dict(Counter(statuses[where])),
    )


def attack_results(
    attacks: Sequence[AnyAttack], scores: Mapping[str, AttackScores], examined: Examined
) -> list[AttackResult]:
    """Each attack's findings, or why it has none."""
    results: list[AttackResult] = []
    for attack in attacks:
        error, seconds = scores[attack.name].error, scores[attack.name].seconds
        p_value, p_holm = examined.p_values[attack.name]
        results.append(
            AttackResult(
                **attack_facts(attack),
                status="error" if error else "ok",
                reason=error,
                seconds=round(seconds, 4),
                findings={} if error else examined.findings[attack.name],
                p_value=p_value,
                p_holm=p_holm,
            )
        )
    return results


def whole_result(
    *,
    spec: AuditSpec,
    plan: ModelPlan,
    sides: Sides,
    statuses: Sequence[str],
    evidence: Evidence,
    attacks: Sequence[AttackResult],
    examined: Examined,
    slow: SlowSummary | None,
    **facts: Any,
) -> AuditResult:
    """Everything an audit found, before it is judged.

    Args:
        spec: The request.
        plan: The models.
        sides: The records.
        statuses: Of each record.
        evidence: What was scored.
        attacks: Results of the attacks asked for; plug-ins that could not be loaded are added, unless attacks
            were named.
        examined: What follows from the scores.
        slow: What the slow attacks looked at.
        **facts: The other fields of an `AuditResult`, as they are.
    """
    target = evidence.tables["target"].audited()
    n_members = len(sides.members.records)
    return AuditResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        target=plan.target,
        reference=plan.reference,
        members=side_summary(sides.members, target, statuses, slice(0, n_members)),
        nonmembers=side_summary(sides.nonmembers, target, statuses, slice(n_members, None)),
        versions=library_versions(),
        validity=examined.validity,
        membership=MembershipResult(
            headline=spec.headline,
            attacks=[*attacks, *([] if spec.attacks else broken_plugins())],
            best=examined.best,
            dataset_test=examined.dataset_test,
            records=examined.records,
            shadows=examined.shadows,
            fusion=examined.fusion,
        ),
        slow=slow,
        warnings=[*plan.warnings, *data_warnings(sides, statuses, evidence), *slow_warnings(slow, sides)],
        **facts,
    )


def data_warnings(sides: Sides, statuses: Sequence[str], evidence: Evidence) -> list[str]:
    """What the report must say about the records and their evidence."""
    warnings: list[str] = []
    for name, side in (("members", sides.members), ("non-members", sides.nonmembers)):
        if side.n_bad:
            warnings.append(f"{side.n_bad} unreadable rows of the {name} were skipped.")
        if side.n_duplicates:
            warnings.append(f"{side.n_duplicates} repeated records of the {name} were left out.")
    if sides.members.n_overlap:
        warnings.append(f"{sides.members.n_overlap} records stood on both sides and were left out of both.")
    damaged = evidence.n_damaged_units
    if damaged:
        warnings.append(
            f"{damaged} damaged unit{'s' * (damaged > 1)} of stored evidence did not match the checksum "
            "and were scored again."
        )
    lost = [status for status in statuses if status != "ok"]
    if lost:
        have = "record has" if len(lost) == 1 else "records have"
        warnings.append(f"{len(lost)} {have} no score: {counted(lost)}.")
    return warnings


def broken_plugins() -> list[AttackResult]:
    """Attacks of installed packages that could not be loaded, or whose name is taken."""
    return [
        AttackResult(
            name=origin,
            summary="An attack of an installed package.",
            source="",
            needs=[],
            cost="",
            status="error",
            reason=f"could not be loaded: {reason}",
        )
        for origin, reason in ATTACKS.broken.items()
    ]


def without_credentials(result: AuditResult) -> AuditResult:
    """The result as it may be written and shown: nothing in it that looks like a token or password."""
    return AuditResult.model_validate_json(scrubbed(result.model_dump_json()))


def scoring_facts(evidence: Evidence, options: ScoringOptions, gradients: Gradients | None = None) -> dict[str, Any]:
    """How the evidence came to be, and the gradients where they were asked for."""
    of_gradients: dict[str, Any] = {}
    if gradients is not None:
        of_gradients["gradients"] = {
            "records_measured": gradients.n_measured,
            "records_cached": gradients.n_cached,
            "damaged_units_redone": gradients.n_damaged_units,
            "out_of_memory_backoffs": gradients.n_backoffs,
            "seconds": round(gradients.seconds, 2),
            "modes": gradients.modes,
        }
    return {
        **of_gradients,
        "records_scored": evidence.n_scored,
        "records_cached": evidence.n_cached,
        "damaged_units_redone": evidence.n_damaged_units,
        "out_of_memory_backoffs": evidence.n_backoffs,
        "tokens": evidence.n_tokens,
        "seconds": round(evidence.seconds, 2),
        "modes": evidence.modes,
        "max_length": options.max_length,
        "stride": options.stride,
    }


def provenance(
    plan: ModelPlan,
    sides: Sides,
    folder: RunFolder,
    others: Sequence[WantedReference | Shadows | WantedSlow | None],
    further: Sequence[RecordSet] = (),
) -> Provenance:
    """Hashes of what went in and of what came out.

    Args:
        plan: The models.
        sides: The audited records.
        folder: Of the run.
        others: What else records were read for.
        further: Records that were trained on besides the members.
    """
    read = [other.halves.pool if isinstance(other, Shadows) else other.data for other in others if other]
    sets = [sides.members, sides.nonmembers, *(data for data in read if data), *further]
    measures = folder.path / "memorization.parquet"
    files = [file for records in sets for file in records.files]
    return Provenance(
        weights=plan.hashes,
        tokenizer=plan.tokenizer_fingerprint,
        chat_template=chat_template_fingerprint(plan.tokenizer_folder),
        data={str(file["path"]): str(file["sha256"]) for file in files},
        scores=hashlib.sha256((folder.path / "scores.parquet").read_bytes()).hexdigest(),
        memorization=hashlib.sha256(measures.read_bytes()).hexdigest() if measures.exists() else None,
    )
