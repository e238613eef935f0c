"""`loraudit compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loraudit.spec import ComparedNumber, ComparisonResult


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Run folder of a finished audit.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another, over the same records.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two runs on the records they share: paired tests of AUC and true-positive rates.

    Records are matched by content, so the runs may have other targets, orders and extra records.
    """
    from loraudit.review.compare import compare_runs

    found = compare_runs(first, second)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _show(found)


def _show(found: ComparisonResult) -> None:
    from rich.table import Table

    from loraudit.cli.console import console_for_tables
    from loraudit.errors import visible

    typer.echo(visible(found.sentence))
    typer.echo(f"A: {visible(found.first.path)} ({visible(found.first.target)}). ", nl=False)
    typer.echo(f"B: {visible(found.second.path)} ({visible(found.second.target)}).")
    typer.echo(
        f"{found.n_members:,} members and {found.n_nonmembers:,} non-members in both; {found.first.n_alone:,} records "
        f"only in A, {found.second.n_alone:,} only in B, {found.n_changed_side:,} on different sides.\n"
    )
    rates = list(dict.fromkeys(name for attack in found.attacks for name in attack.rates))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("attack", "AUC A", "AUC B", "A minus B", "p, corrected"):
        table.add_column(title, no_wrap=True)
    for name in rates:
        table.add_column(f"{_title(name)}, A minus B")
        table.add_column("found only in A / B (p)")
    for attack in found.attacks:
        p_value = attack.auc.p_value if attack.is_headline else attack.p_holm
        cells = [
            visible(attack.name) + (" *" if attack.is_headline else ""),
            _plain(attack.auc.first),
            _plain(attack.auc.second),
            _difference(attack.auc),
            "" if p_value is None else f"{p_value:.2g}",
        ]
        for name in rates:
            rate = attack.rates.get(name)
            p_found = "" if rate is None or rate.p_mcnemar is None else f"{rate.p_mcnemar:.2g}"
            cells += [
                "" if rate is None else _difference(rate),
                "" if rate is None else f"{rate.found_in_first_only} / {rate.found_in_second_only} ({p_found})",
            ]
        table.add_row(*cells)
    console_for_tables().print(table)
    typer.echo(f"* headline of A. Brackets: {100 * found.confidence:g} % intervals of the difference.")


def _title(metric: str) -> str:
    """`tpr_at_fpr_0_1pct` as "TPR at 0.1 % FPR"."""
    return f"TPR at {metric.removeprefix('tpr_at_fpr_').removesuffix('pct').replace('_', '.')} % FPR"


def _plain(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _difference(number: ComparedNumber) -> str:
    gap = number.difference
    if gap.value is None:
        return "undefined"
    return f"{gap.value:+.3f}" + ("" if gap.lower is None else f" [{gap.lower:+.3f}, {gap.upper:+.3f}]")
