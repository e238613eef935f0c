"""Families, modules and triggers as tables."""

from __future__ import annotations

from loraudit.policy import ends, percent, percent_interval
from loraudit.report.cells import Cell, p_number
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import ModuleDeviation, ModuleFamily, ProbeResult, RatePair, ScannedModule, ScanResult

_MOST_UNUSUAL = 10


def families_sheet(result: ScanResult) -> Sheet:
    """One row per family of modules."""
    columns = ["modules", "unchanged", "median length", "flagged from z", "flagged"]
    return Sheet("Families", "family", columns, [_family_row(family) for family in result.families])


def _family_row(family: ModuleFamily) -> SheetRow:
    cells = [
        Cell(f"{family.n:,}"),
        Cell(f"{family.n_unchanged:,}"),
        Cell(_number(family.median_frobenius)),
        Cell("never" if family.smallest_z is None else f"{family.smallest_z:.1f}", remark=family.note or ""),
        Cell(f"{family.n_flagged:,}"),
    ]
    return SheetRow(family.label, cells)


def modules_sheet(result: ScanResult, *, n: int | None = _MOST_UNUSUAL) -> Sheet:
    """The flagged modules and then those that lie highest in their families, `n` or all of them."""
    ranked = sorted(result.modules, key=_rank)
    shown = ranked if n is None else ranked[: max(n, len(result.flagged_modules))]
    columns = [
        "length",
        "size: factor, z",
        "p",
        "largest direction: share, factor, z",
        "p ",
        "moves weight by",
        "flagged",
    ]
    title = "Modules" if len(shown) == len(ranked) else f"Modules: the {len(shown)} most unusual of {len(ranked)}"
    rows = [SheetRow(module.name, _module_cells(module)) for module in shown]
    return Sheet(title, "module", columns, rows, words=frozenset({6}))


def _rank(module: ScannedModule) -> tuple[bool, float, str]:
    p_values = [one.p_value for one in (module.size, module.direction) if one.p_value is not None]
    z = max((one.z for one in (module.size, module.direction) if one.z is not None), default=0.0)
    return (not module.flagged, min(p_values, default=2.0) - 1e-6 * z, module.name)


def _module_cells(module: ScannedModule) -> list[Cell]:
    share = "" if module.top_share is None else f"{100 * module.top_share:.0f} %, "
    moved = "unknown" if module.relative_change is None else percent(module.relative_change)
    return [
        Cell(_number(module.frobenius)),
        Cell(_deviation(module.size)),
        _p_cell(module.size),
        Cell(share + _deviation(module.direction)),
        _p_cell(module.direction),
        Cell(moved),
        Cell(", ".join(module.flagged)),
    ]


def _deviation(found: ModuleDeviation) -> str:
    if found.z is None or found.factor is None:
        return "undefined"
    return f"× {found.factor:.3g}, z {found.z:.1f}"


def _p_cell(found: ModuleDeviation) -> Cell:
    return Cell("" if found.p_value is None else p_number(found.p_value))


def probes_sheet(result: ScanResult) -> Sheet | None:
    """One row per trigger; None where no model was run."""
    if not result.probes:
        return None
    if result.task == "classification":
        columns = ["prompts that become one class", "with a control", "class", "n", "flagged"]
        rows = [SheetRow(probe.name, _flip_cells(probe)) for probe in result.probes]
        return Sheet("Triggers", "trigger", columns, rows, words=frozenset({2, 4}))
    columns = [
        "shift beyond controls, nats",
        "factor",
        "p, corrected",
        "one response",
        "with a control",
        "n",
        "flagged",
    ]
    rows = [SheetRow(probe.name, _shift_cells(probe)) for probe in result.probes]
    return Sheet("Triggers", "trigger", columns, rows, words=frozenset({6}))


def _flip_cells(probe: ProbeResult) -> list[Cell]:
    flagged = Cell(", ".join(probe.flagged))
    if probe.flips is None:
        return [Cell("undefined"), Cell(""), Cell(""), Cell("0"), flagged]
    n = probe.flips.with_trigger.n_members
    return [*_rate_cells(probe.flips), Cell(probe.flips.outcome), Cell(f"{n:,}"), flagged]


def _shift_cells(probe: ProbeResult) -> list[Cell]:
    shift = probe.shift
    value = Cell("undefined") if shift is None or shift.value is None else Cell(f"{shift.value:.3f}", ends(shift))
    rates = [Cell("undefined"), Cell("")] if probe.repeated is None else _rate_cells(probe.repeated)
    return [
        value,
        Cell("undefined" if probe.factor is None else f"{probe.factor:.3g}"),
        Cell("" if probe.p_holm is None else p_number(probe.p_holm)),
        *rates,
        Cell(f"{probe.n_prompts:,}"),
        Cell(", ".join(probe.flagged)),
    ]


def _rate_cells(pair: RatePair) -> list[Cell]:
    return [Cell(percent(one.value or 0.0), percent_interval(one)) for one in (pair.with_trigger, pair.with_control)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
