"""The report as Markdown: whole, or as a section of a model card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraudit.errors import visible
from loraudit.policy import ends, percent, percent_interval, verdict_of
from loraudit.report.table import TableRow, attack_table
from loraudit.report.words import LIMIT_WORDS, NOT_SAID, NOT_VALID, STATUS_WORDS, incomplete
from loraudit.spec import AuditResult, VerdictResult
from loraudit.statistics import rate_metric


def render_markdown(result: AuditResult) -> str:
    """The whole report without figures."""
    verdict = verdict_of(result)
    titles, rows = attack_table(result)
    lines = [f"# Membership audit of {_code(result.target.name)}", "", *_verdict_lines(verdict, result)]
    lines += ["## Attacks", ""]
    lines += _table(["attack", *titles, "n", "undefined"], [_attack_cells(row, len(titles)) for row in rows])
    if result.membership.best is not None:
        best = result.membership.best
        lines += [
            "",
            (
                f"Best of {best.n_attacks}, corrected for the choice: {_code(best.name)}, AUC "
                f"{best.auc.value or 0:.3f} {ends(best.auc)}."
            ),
        ]
    lines += _validity_lines(result)
    lines += _record_lines(result)
    lines += ["## What was audited", "", *_facts_lines(result), ""]
    lines += ["## What this does not say", "", *(f"- {limit}" for limit in NOT_SAID)]
    lines += [f"- {warning}" for warning in map(_plain, result.warnings)]
    return "\n".join(lines) + "\n"


def _attack_cells(row: TableRow, n_cells: int) -> list[str]:
    name = _code(row.name) + (" (headline)" if row.is_headline else "")
    cells = [f"{cell.value} {cell.interval}".strip() for cell in row.cells]
    if row.remark is not None:
        cells = [_plain(row.remark), *[""] * (n_cells - 1)]
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
    lines += _table([f"{_code(headline.name)}", "value", f"{100 * result.spec.confidence:g} % interval"], found)
    lines += ["", *_facts_lines(result)]
    return "\n".join(lines) + "\n"


def _verdict_lines(verdict: VerdictResult, result: AuditResult) -> list[str]:
    lines = [f"**{verdict.heading}.** {_plain(verdict.sentence)}", ""]
    if verdict.validity:
        lines = [f"> **{NOT_VALID}.** {_plain(verdict.validity)}", "", *lines]
    lines += [_plain(verdict.threat_model), ""]
    if verdict.is_partial:
        lines += [f"**Partial:** {_plain('; '.join(incomplete(result)))}.", ""]
    if verdict.limits:
        rows = [[_code(limit.limit), LIMIT_WORDS[limit.status], _plain(limit.reason)] for limit in verdict.limits]
        lines += [*_table(["fails if", "outcome", "because"], rows), ""]
    return [*lines, f"Exit code: {verdict.exit_code}", ""]


def _validity_lines(result: AuditResult) -> list[str]:
    if result.validity is None:
        return [""]
    rows = [[_code(g.name), STATUS_WORDS[g.status], _plain(g.summary), _plain(g.reason)] for g in result.validity.gates]
    return ["", "## Validity", "", *_table(["gate", "outcome", "what is checked", "what came out"], rows), ""]


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
                _plain(s.name),
                f"{s.n_members:,} + {s.n_nonmembers:,}",
                f"{s.auc.value or 0:.3f} {ends(s.auc)}",
                f"{percent(s.tpr.value or 0)} {percent_interval(s.tpr)}",
            ]
            for s in records.subgroups
        ]
        rate = f"TPR at {100 * records.subgroups[0].fpr:g} % FPR"
        lines += [*_table(["by", "subgroup", "n", "AUC", rate], rows), ""]
    return lines


def _facts_lines(result: AuditResult) -> list[str]:
    sides = f"{result.members.n_records:,} members, {result.nonmembers.n_records:,} non-members"
    reference = result.reference
    hashes = result.provenance.weights if result.provenance else {"target": result.target.fingerprint}
    return [
        f"- Records: {sides}",
        *([f"- Reference: {_code(reference.name)} ({_plain(reference.kind)})"] if reference else []),
        *(f"- sha256 of {name}: `{digest}`" for name, digest in hashes.items()),
        f"- Measured with loraudit {result.loraudit} on {result.started}: {_code(result.command)}",
    ]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(titles) + " |",
        "|" + "---|" * len(titles),
        *("| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows),
    ]


def _plain(words: str) -> str:
    """Words of files and models so that they can be nothing but words in Markdown and in HTML."""
    shown = visible(words).replace("\n", " ")
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        shown = shown.replace(mark, entity)
    return "".join("\\" + c if c in "`*_[]\\" else c for c in shown)


def _code(words: str) -> str:
    """A name or command as code: backticks and bars of its own cannot end it."""
    shown = visible(words).replace("\n", " ").replace("`", "ˋ").replace("|", "∣")
    return f"`{shown}`"
