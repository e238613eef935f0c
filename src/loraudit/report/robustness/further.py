"""What else was looked at, and how the models were made: persistence, detection, attacks and runs as tables."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.report.cells import Cell
from loraudit.report.robustness.cells import n_cell, plain_words, value_cell
from loraudit.report.robustness.tables import places_of
from loraudit.report.robustness.words import AFTER_WORDS, dose_words, poisoned_words
from loraudit.report.sheets import Sheet, SheetRow, number_cell
from loraudit.report.templating import words_of
from loraudit.spec import PoisonedRun, PoisonResult, RobustnessResult


def persistence_sheet(result: RobustnessResult) -> Sheet | None:
    """What is left of the backdoors; None where nothing was tried."""
    if not result.persistence:
        return None
    places = places_of(result)
    has_accuracy = any(found.accuracy_before is not None for found in result.persistence)
    has_notes = any(found.note for found in result.persistence)
    rows: list[SheetRow] = []
    for found in result.persistence:
        cells = [
            Cell(found.attack),
            Cell(AFTER_WORDS[found.after]),
            Cell(dose_words(found.dose)),
            value_cell("attack_success", found.success_before),
            value_cell("attack_success", found.success_after),
        ]
        if has_accuracy:
            cells += [value_cell("accuracy", found.accuracy_before), value_cell("accuracy", found.accuracy_after)]
        cells += [n_cell(found.success_after), *([Cell(found.note or "")] if has_notes else [])]
        rows.append(SheetRow(found.method, cells, arm=places.get(found.method)))
    columns = ["attack", "after", "dose", "success before", "success after"]
    columns += ["accuracy before", "accuracy after"] if has_accuracy else []
    columns += ["n", *(["note"] if has_notes else [])]
    words = {0, 1, len(columns) - 1} if has_notes else {0, 1}
    return Sheet("What is left of the backdoors", "method", columns, rows, frozenset(words))


def detection_sheet(result: RobustnessResult) -> Sheet | None:
    """How well the detectors find the poison, by number of poisons; None where none was tried."""
    if not result.detection:
        return None
    rows = [
        SheetRow(
            found.detector,
            [
                Cell(found.finds),
                Cell(found.attack),
                Cell(found.method),
                Cell(f"{found.n_poisoned:,}"),
                value_cell("auroc", found.auroc),
                value_cell("attack_success", found.tpr_at_fpr_1pct),
                n_cell(found.auroc),
                Cell(f"{found.seconds:.1f}"),
                Cell(found.note or ""),
            ],
        )
        for found in result.detection
    ]
    columns = ["finds", "attack", "method", "poisoned", "AUROC", "TPR at 1 % FPR", "n", "seconds", "note"]
    return Sheet("Detectors, by number of poisons", "detector", columns, rows, frozenset({0, 1, 2, 8}))


def attacks_sheet(attacks: Sequence[PoisonResult]) -> Sheet:
    """The attacks as they were, or would be, carried out."""
    has_controls = any(attack.control_poisoned is not None for attack in attacks)
    rows: list[SheetRow] = []
    for attack in attacks:
        control = Cell("none" if attack.control_poisoned is None else f"{attack.control_poisoned:,}")
        cells = [
            Cell("backdoor" if attack.goal == "backdoor" else "hurts everywhere"),
            Cell(", ".join(_doses(attack))),
            *([control] if has_controls else []),
            Cell(f"{attack.n_eligible:,}"),
            Cell("none" if attack.n_triggered is None else f"{attack.n_triggered:,}"),
            Cell(words_of(attack.settings.model_dump(exclude_defaults=True, exclude={"poison"}))),
            Cell(" ".join(attack.warnings)),
        ]
        rows.append(SheetRow(attack.name, cells))
    columns = ["goal", "records poisoned (dose)", *(["in the positive control"] if has_controls else [])]
    columns += ["can be poisoned", "triggered test records", "settings", "warnings"]
    return Sheet("Attacks", "attack", columns, rows, frozenset({0, 1, len(columns) - 2, len(columns) - 1}))


def _doses(attack: PoisonResult) -> list[str]:
    return [poisoned_words(n, dose) for dose, n in zip(attack.doses, attack.n_poisoned, strict=True)]


def runs_sheet(result: RobustnessResult) -> Sheet:
    """Every training run with where it ended."""
    places = places_of(result)
    rows = [SheetRow(run.method, _run_cells(run), arm=places.get(run.method)) for run in result.runs]
    columns = ["attack", "poisoned", "seed", "steps", "final validation loss", "final clean loss", "final accuracy"]
    columns += ["final attack success", "ended", "folder"]
    return Sheet("Training runs", "method", columns, rows, frozenset({0, 8, 9}))


def _run_cells(run: PoisonedRun) -> list[Cell]:
    name = "clean" if run.attack is None else f"{run.attack}, control" if run.is_control else run.attack
    last = run.points[-1] if run.points else None
    ends = [Cell("unknown")] * 4
    if last is not None:
        success = last.attack_success.get(run.attack or "")
        ends = [
            number_cell(last.validation_loss, 3),
            number_cell(last.clean_loss, 3),
            value_cell("accuracy", last.accuracy),
            value_cell("attack_success", success) if run.attack is not None else Cell(_floors(run)),
        ]
    counts = [Cell(f"{run.n_poisoned:,}"), Cell(str(run.seed)), Cell(f"{run.n_steps:,}")]
    return [Cell(name), *counts, *ends, Cell("COLLAPSED" if run.collapsed else "as planned"), Cell(run.model or "")]


def _floors(run: PoisonedRun) -> str:
    """Of a clean run, its success under every attack."""
    found = run.points[-1].attack_success
    return ", ".join(f"{plain_words('attack_success', one.value)} ({name})" for name, one in found.items())
