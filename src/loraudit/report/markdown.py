"""The report as Markdown: whole, or as a section of a model card."""

from __future__ import annotations

from loraudit.policy import ends, percent, percent_interval, verdict_of
from loraudit.report.fusion import fusion_statement
from loraudit.report.marking import as_code, as_words, markdown_table
from loraudit.report.memorization import memorization_card_lines, memorization_lines
from loraudit.report.table import TableRow, attack_table
from loraudit.report.words import (
    LIMIT_WORDS,
    NOT_VALID,
    STATUS_WORDS,
    incomplete,
    not_said,
    shadow_statement,
    slow_statement,
)
from loraudit.spec import AuditResult, ValidityResult, VerdictResult
from loraudit.statistics import rate_metric


def render_markdown(result: AuditResult) -> str:
    """The whole report without figures."""
    verdict = verdict_of(result)
    titles, rows = attack_table(result)
    lines = [f"# Membership audit of {as_code(result.target.name)}", "", *_verdict_lines(verdict, result)]
    lines += ["## Attacks", ""]
    lines += markdown_table(["attack", *titles, "n", "undefined"], [_attack_cells(row, len(titles)) for row in rows])
    if result.membership.best is not None:
        best = result.membership.best
        lines += [
            "",
            (
                f"Best of {best.n_attacks}, corrected for the choice: {as_code(best.name)}, AUC "
                f"{best.auc.value or 0:.3f} {ends(best.auc)}."
            ),
        ]
    for statement in (shadow_statement(result), slow_statement(result), fusion_statement(result)):
        lines += ["", as_words(statement)] if statement else []
    lines += validity_lines(result.validity) if result.validity else [""]
    lines += _record_lines(result)
    lines += memorization_lines(result)
    lines += ["## What was audited", "", *_facts_lines(result), ""]
    lines += ["## What this does not say", "", *(f"- {limit}" for limit in not_said(result))]
    lines += [f"- {warning}" for warning in map(as_words, result.warnings)]
    return "\n".join(lines) + "\n"


def _attack_cells(row: TableRow, n_cells: int) -> list[str]:
    name = as_code(row.name) + (" (headline)" if row.is_headline else "")
    cells = [f"{cell.value} {cell.interval}".strip() for cell in row.cells]
    if row.remark is not None:
        cells = [as_words(row.remark), *[""] * (n_cells - 1)]
    return [name, *cells, row.n, str(row.n_undefined)]


def render_model_card(result: AuditResult) -> str:
    """A section for a model card: what leaks, how it was measured, and how to repeat it."""
    verdict = verdict_of(result)
    headline = result.membership.attack(result.membership.headline)
    found: list[list[str]] = []
    area = headline.findings.get("auc")
    if area is not None and area.value is not None:
        found.append(["AUC (0.5 is guessing)", f"{area.value:.3f}", ends(area)])
    for fpr in result.spec.fpr:
        rate = headline.findings.get(rate_metric(fpr))
        if rate is not None:
            value = "refused: too few non-members" if rate.value is None else percent(rate.value)
            interval = "" if rate.value is None else percent_interval(rate)
            found.append([f"members found at {100 * fpr:g} % false alarms", value, interval])
    lines = ["## Privacy: membership audit", "", *_verdict_lines(verdict, result)]
    lines += markdown_table(
        [f"{as_code(headline.name)}", "value", f"{100 * result.spec.confidence:g} % interval"], found
    )
    lines += ["", *memorization_card_lines(result), *_facts_lines(result)]
    return "\n".join(lines) + "\n"


def _verdict_lines(verdict: VerdictResult, result: AuditResult) -> list[str]:
    lines = [f"**{verdict.heading}.** {as_words(verdict.sentence)}", ""]
    if verdict.validity:
        lines = [f"> **{NOT_VALID}.** {as_words(verdict.validity)}", "", *lines]
    lines += [as_words(verdict.threat_model), ""]
    if verdict.is_partial:
        lines += [f"**Partial:** {as_words('; '.join(incomplete(result)))}.", ""]
    if verdict.limits:
        rows = [[as_code(limit.limit), LIMIT_WORDS[limit.status], as_words(limit.reason)] for limit in verdict.limits]
        lines += [*markdown_table(["fails if", "outcome", "because"], rows), ""]
    return [*lines, f"Exit code: {verdict.exit_code}", ""]


def validity_lines(validity: ValidityResult) -> list[str]:
    """The gates as a section."""
    rows = [[as_code(g.name), STATUS_WORDS[g.status], as_words(g.summary), as_words(g.reason)] for g in validity.gates]
    return ["", "## Validity", "", *markdown_table(["gate", "outcome", "what is checked", "what came out"], rows), ""]


def _record_lines(result: AuditResult) -> list[str]:
    records = result.membership.records
    if records is None:
        return []
    lines = [
        "## Single records",
        "",
        f"{records.n_exposed:,} members are called exposed at a false-discovery rate of {100 * records.fdr:g} %.",
        "",
    ]
    if records.subgroups:
        rows = [
            [
                s.by,
                as_words(s.name),
                f"{s.n_members:,} + {s.n_nonmembers:,}",
                f"{s.auc.value or 0:.3f} {ends(s.auc)}",
                f"{percent(s.tpr.value or 0)} {percent_interval(s.tpr)}",
            ]
            for s in records.subgroups
        ]
        rate = f"TPR at {100 * records.subgroups[0].fpr:g} % FPR"
        lines += [*markdown_table(["by", "subgroup", "n", "AUC", rate], rows), ""]
    return lines


def _facts_lines(result: AuditResult) -> list[str]:
    sides = f"{result.members.n_records:,} members, {result.nonmembers.n_records:,} non-members"
    reference = result.reference
    hashes = result.provenance.weights if result.provenance else {"target": result.target.fingerprint}
    return [
        f"- Records: {sides}",
        *([f"- Reference: {as_code(reference.name)} ({as_words(reference.kind)})"] if reference else []),
        *(f"- sha256 of {name}: `{digest}`" for name, digest in hashes.items()),
        f"- Measured with loraudit {result.loraudit} on {result.started}: {as_code(result.command)}",
    ]
