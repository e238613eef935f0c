"""The HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loraudit.policy import verdict_of
from loraudit.report.cells import p_number
from loraudit.report.figures import histogram_figure, roc_figure
from loraudit.report.fusion import fusion_statement, fusion_tables
from loraudit.report.memorization import has_passage_text, memorization_part
from loraudit.report.table import attack_table
from loraudit.report.templating import facts, fill, words_of
from loraudit.report.tokens import shaded_records
from loraudit.report.words import (
    LIMIT_WORDS,
    NOT_VALID,
    STATUS_WORDS,
    incomplete,
    not_said,
    shadow_statement,
    slow_statement,
)
from loraudit.spec import AttackResult, AuditResult
from loraudit.store import read_run, write_atomically
from loraudit.store.finished_runs import Run

_N_COMPARED = 3


def write_report(folder: Path) -> Path:
    """Render `report.html` of a finished run from its result and scores.

    Raises:
        ConfigError: The folder holds no finished run.
        StoreError: A file of the run is damaged, or the page cannot be written.
    """
    return write_page(folder, render_html(read_run(folder)))


def write_page(folder: Path, page: str) -> Path:
    """Save a rendered page as `report.html`.

    Raises:
        StoreError: It cannot be written.
    """
    write_atomically(folder / "report.html", page.encode("utf-8", errors="replace"))
    return folder / "report.html"


def render_html(run: Run) -> str:
    """One self-contained page: no script, nothing fetched, record text only where it was asked for."""
    import markupsafe

    result = run.result
    titles, rows = attack_table(result)
    measured = [row.name for row in rows if row.remark is None]
    is_member = run.scores.column("is_member").to_numpy(zero_copy_only=False).astype(bool)
    scores = {name: run.column(name) for name in measured}
    headline = result.membership.headline
    others = [name for name in measured if name != headline]
    has_headline = headline in scores
    tokens = shaded_records(run)
    return fill(
        "audit.html",
        result=result,
        verdict=verdict_of(result),
        limit_words=LIMIT_WORDS,
        status_words=STATUS_WORDS,
        not_said=not_said(result),
        shadow_statement=shadow_statement(result),
        shadow_facts=_shadow_facts(result),
        fusion_statement=fusion_statement(result),
        fusion_tables=fusion_tables(result),
        slow_statement=slow_statement(result),
        slow_facts=_slow_facts(result),
        not_valid=NOT_VALID,
        incomplete="; ".join(incomplete(result)),
        p_cells={attack.name: _p_cell(attack) for attack in result.membership.attacks},
        tokens=tokens,
        holds_text=bool(tokens) or has_passage_text(result),
        memorization=memorization_part(result),
        titles=titles,
        rows=rows,
        headline=next((row for row in rows if row.is_headline), None),
        attacks={attack.name: attack for attack in result.membership.attacks},
        notes=_notes(result),
        roc=markupsafe.Markup(roc_figure(scores, is_member, headline, compared=others[:_N_COMPARED]))  # noqa: S704
        if has_headline
        else "",
        histogram=markupsafe.Markup(histogram_figure(headline, scores[headline], is_member))  # noqa: S704
        if has_headline
        else "",
        small_histograms=[
            markupsafe.Markup(histogram_figure(name, scores[name], is_member, small=True))  # noqa: S704
            for name in others
            if not np.isnan(scores[name]).all()
        ],
        models=[
            (role, model, facts(model.details))
            for role, model in (("Target", result.target), ("Reference", result.reference))
            if model is not None
        ],
        sides=[("Members", result.members), ("Non-members", result.nonmembers)],
        settings=_settings(result),
    )


def _p_cell(attack: AttackResult) -> str:
    """The corrected p-value; the headline's own, which needs no correction."""
    value = attack.p_value if attack.p_holm is None else attack.p_holm
    return "" if value is None else p_number(value)


def _shadow_facts(result: AuditResult) -> list[tuple[str, str]]:
    shadows = result.shadows
    if shadows is None:
        return []
    fewest, most = min(shadows.n_records), max(shadows.n_records)
    each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    from_what = {"pool": "the pool", "nonmembers": "the non-members", "audited": "both sides"}[shadows.trained_on]
    in_too = f", and {shadows.n_per_record} that were, for lira_online" if shadows.trained_on == "audited" else ""
    facts: list[tuple[str, Any]] = [
        ("models", shadows.n_shadows),
        ("scoring each record", f"{shadows.n_per_record}, none of which was trained on it{in_too}"),
        ("trained on", f"{each} of the {shadows.n_in_common:,} records of {from_what}, each"),
        ("recipe source", shadows.recipe_source),
        ("recipe", shadows.recipe),
        *(("file", f"{file['path']} (sha256 {file['sha256']})") for file in shadows.files),
    ]
    return [(name, words_of(value)) for name, value in facts]


def _slow_facts(result: AuditResult) -> list[tuple[str, str]]:
    slow = result.slow
    if slow is None:
        return []
    facts: list[tuple[str, Any]] = []
    if slow.n_neighbours:
        facts += [
            ("neighbours", f"{slow.n_neighbours} of each record"),
            ("replaced", f"{100 * slow.replaced_share:g} % of the audited tokens in each"),
            ("replacements", f"among the {slow.n_likeliest} likeliest others of {slow.drawn_by}"),
            ("fingerprint of that model", slow.drawn_by_fingerprint),
        ]
    if slow.n_shots:
        facts += [
            ("prefix", f"{slow.n_prefix_tokens} tokens of {slow.n_shots} records, {slow.prefix_from}"),
            ("set aside for it", f"{slow.n_set_aside} non-members"),
            ("too long for it", f"{slow.n_too_long} records"),
        ]
    facts += [
        (f"{part}, in this run", f"{slow.n_tokens.get(part, 0):,} tokens, {seconds:g} s")
        for part, seconds in slow.seconds.items()
    ]
    facts += [("file", f"{file['path']} (sha256 {file['sha256']})") for file in slow.files]
    return [(name, words_of(value)) for name, value in facts]


def _notes(result: AuditResult) -> list[str]:
    """What the table's numbers come with, each once."""
    notes = [
        finding.note for attack in result.membership.attacks for finding in attack.findings.values() if finding.note
    ]
    return list(dict.fromkeys(notes))


def _gradients(result: AuditResult) -> list[tuple[str, Any]]:
    found = result.scoring.get("gradients")
    return [("How differentiated", found["modes"] or "all gradient norms were cached")] if found else []


def _settings(result: AuditResult) -> list[tuple[str, str]]:
    spec, numerics = result.spec, result.numerics
    settings: list[tuple[str, Any]] = [
        ("Span audited", "what training predicts" if spec.span == "trained" else "every token"),
        ("Window", f"{result.scoring['max_length']} tokens, {result.scoring['stride']} new in each further one"),
        ("Precision", f"{numerics['precision']} (asked: {numerics['asked']}), vocabulary sums in float32"),
        ("Device", numerics["devices"]),
        ("How scored", result.scoring["modes"] or "all evidence was cached"),
        *_gradients(result),
        ("Resamples", f"{spec.resamples:,}, seed {spec.seed}"),
        ("Intervals", f"{100 * spec.confidence:g} %, two-sided"),
        ("Started", f"{result.started} (took {result.seconds:.0f} s)"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Spec hash", result.spec_hash),
        ("Command", result.command),
    ]
    return [(name, words_of(value)) for name, value in settings]
