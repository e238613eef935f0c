"""A study that nobody ran: four grids with finished, failed and absent cells, as real ones have them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from itertools import product
from typing import Any

from loraudit.spec import (
    BesidePublished,
    CellResult,
    Grid,
    PublishedFigure,
    Regression,
    StudyFinding,
    StudyResult,
    StudySpec,
    spec_hash,
)
from loraudit.study.published import beside_published
from loraudit.types import Finding

METHODS = ("full", "lora:4", "lora:64")
EPOCHS = (1, 3, 10)
SEEDS = (0, 1)
FLAW = (
    "1 validity gate failed, so members and non-members differ by more than training (bag_of_words: AUC 0.612 [0.588, "
    "0.635]). No number of this cell may be quoted as leakage until that is mended."
)
ERROR = "Records 'small.jsonl' are too few. Expected at least 20 a side. Give more records."
LEAKS = {"full": 0.30, "lora:4": 0.05, "lora:64": 0.16}


def number(value: float | None, half: float, *, n: tuple[int, int] = (1000, 1000), low: float = 0.0) -> Finding:
    """A figure that lies in [low, 1] with a symmetric interval; None is refused."""
    if value is None:
        return Finding(None, None, None, 0.95, "refused", *n, note="Cannot state TPR at 1 % FPR from 60 non-members.")
    return Finding(value, max(low, value - half), min(1.0, value + half), 0.95, "as if measured", *n)


@dataclass
class Study:
    """What makes a result; `result()` is the result.

    Attributes:
        methods: Labels of the first grid's first axis.
        epochs: Of its second.
        seeds: Of its third.
        words: Put into every name that a person or a file could choose.
        against: Compared with an earlier run.
    """

    methods: tuple[str, ...] = METHODS
    epochs: tuple[int, ...] = EPOCHS
    seeds: tuple[int, ...] = SEEDS
    words: str = ""
    against: str | None = "runs/before"

    # --- the cells ---------------------------------------------------------------------------------------------

    def cell(self, grid: str, kind: Any, labels: dict[str, Any], **changes: Any) -> CellResult:
        shown = {f"{axis}{self.words}": f"{label}{self.words}" for axis, label in labels.items()}
        digest = hashlib.sha256(f"{grid} {sorted(labels.items())}".encode()).hexdigest()[:12]
        values: dict[str, Any] = {
            "id": digest,
            "grid": f"{grid}{self.words}",
            "kind": kind,
            "labels": shown,
            "folder": f"cells/{kind}-{digest}",
            "status": "ok",
            "sentence": f"What the {kind} of {labels} found{self.words}.",
            "seconds": 12.5,
            "loraudit": "0.1.0",
        }
        return CellResult(**(values | changes))

    def empty(self, status: str) -> dict[str, Any]:
        error = f"{ERROR}{self.words}" if status == "failed" else None
        return {"status": status, "error": error, "sentence": None, "seconds": None, "loraudit": None}

    def cells(self) -> list[CellResult]:
        made: list[CellResult] = []
        places = list(product(self.methods, self.epochs, self.seeds))
        for position, (method, epochs, seed) in enumerate(places):
            empty = {len(places) - 1: "absent", len(places) - 2: "absent", 3: "failed"} if len(places) > 6 else {}
            status = empty.get(position, "ok")
            changes = {} if status == "ok" else self.empty(status)
            if position == 1:
                changes = {"flaw": f"{FLAW}{self.words}", "warnings": [f"3 texts were cut{self.words}."]}
            labels = {"tuning": method, "epochs": epochs, "seed": seed}
            made.append(self.cell("leakage", "audit", labels, **changes))
        made += [self.cell("fit", "contrast", {"base": base}) for base in ("small", "large")]
        made += [self.cell("poison", "robustness", {"records": n}) for n in (500, 2000, 16000)]
        return [*made, self.cell("forecast", "forecast", {})]

    # --- their figures -----------------------------------------------------------------------------------------

    def of_audit(self, cell: CellResult) -> list[tuple[str, Finding, bool]]:
        method, epochs, seed = (label.removesuffix(self.words) for label in cell.labels.values())
        gain = LEAKS.get(method, 0.1) * (1 - math.exp(-int(epochs) / 4)) + 0.006 * int(seed)
        area, rate = 0.5 + gain, 0.01 + 1.4 * gain**2
        attack = f"error_zone{self.words}"
        return [
            (f"membership/{attack}/auc", number(area, 0.02), True),
            (f"membership/{attack}/tpr_at_fpr_1pct", number(None if seed == "1" else rate, 0.012), True),
            (f"membership/loss{self.words}/auc", number(0.5 + gain / 2, 0.02), False),
            ("memorization/greedy/prefix=50/members", number(gain / 3, 0.015, n=(900, 0)), True),
            ("memorization/greedy/prefix=50/held_out", number(0.0, 0.004, n=(0, 900)), True),
        ]

    def of_contrast(self, cell: CellResult) -> list[tuple[str, Finding, bool]]:
        more = 0.02 * (list(self.bases).index(cell.id))
        found: list[tuple[str, Finding, bool]] = []
        for method in self.methods:
            for metric, value in (("auc", 0.55 + LEAKS.get(method, 0.1) / 2 + more), ("tpr_at_fpr_1pct", 0.03 + more)):
                name = f"validation_loss/{method}{self.words}/error_zone/{metric}"
                found.append((name, number(value, 0.018), True))
        return [*found, ("validation_loss/full/loss/auc", number(0.52, 0.02), False)]

    @property
    def bases(self) -> list[str]:
        return [cell.id for cell in self.cells() if cell.kind == "contrast"]

    def of_robustness(self, cell: CellResult) -> list[tuple[str, Finding, bool]]:
        n = int(next(iter(cell.labels.values())).removesuffix(self.words))
        found: list[tuple[str, Finding, bool]] = []
        for method, factor in ((f"full{self.words}", 1.0), (f"lora:8{self.words}", 2.4)):
            where = f"validation_loss/{method}"
            excess = number(0.97 - 0.1 * factor - 40 / n, 0.05, n=(412, 0), low=-1.0)
            at = None if n > 10_000 and factor > 1 else factor * (20 + n / 60)
            dose = Finding(at, at and at / 1.4, at and at * 1.5, 0.95, "as if bootstrapped", 412, 0)
            if at is None:
                dose = Finding(None, 180.0, None, 0.95, "profile", 412, 0, note="It lies above 512 exposures.")
            found += [
                (f"{where}/attack_success/rare_words/dose=512/excess", excess, True),
                (f"{where}/attack_success/rare_words/dose=8", number(0.11, 0.03, n=(412, 0)), False),
                (f"{where}/ED50/rare_words", dose, True),
                (f"{where}/accuracy/label_flip/dose=0.4/excess", number(0.05 * factor, 0.03, low=-1), True),
            ]
        return found

    def of_forecast(self, _: CellResult) -> list[tuple[str, Finding, bool]]:
        return [
            (f"predicted/{method}{self.words}/rare_words/dose=64/{measure}", number(value, 0.05, n=(96, 0)), True)
            for method, strength in LEAKS.items()
            for measure, value in (("attack_success", 0.1 + 2 * strength), ("accuracy", 0.88 - strength / 10))
        ]

    def findings(self) -> list[StudyFinding]:
        makers = {
            "audit": self.of_audit,
            "contrast": self.of_contrast,
            "robustness": self.of_robustness,
            "forecast": self.of_forecast,
        }
        return [
            StudyFinding(cell=cell.id, name=name, finding=finding, is_headline=is_headline)
            for cell in self.cells()
            if cell.status == "ok"
            for name, finding, is_headline in makers[cell.kind](cell)
        ]

    # --- what stands beside them -------------------------------------------------------------------------------

    def published_figures(self) -> tuple[PublishedFigure, ...]:
        grid, tuning, attack = f"leakage{self.words}", f"tuning{self.words}", f"error_zone{self.words}"
        place = {tuning: f"full{self.words}", f"epochs{self.words}": f"10{self.words}"}
        source = f"Somebody 2024, table 2, row 3{self.words}"
        return (
            PublishedFigure(
                grid=grid, cell=place, finding=f"membership/{attack}/auc", value=0.781, source=source,
                note=f"GPT-2 medium there{self.words}.",
            ),
            PublishedFigure(
                grid=grid,
                cell={tuning: f"lora:4{self.words}", f"seed{self.words}": f"0{self.words}"},
                finding=f"membership/{attack}/tpr_at_fpr_1pct",
                value=0.002,
                source=source,
            ),
            PublishedFigure(grid=grid, cell=place, finding="membership/another/auc", value=0.6, source="Else 2023"),
            PublishedFigure(
                grid=grid, cell={tuning: "bitfit"}, finding=f"membership/{attack}/auc", value=0.5, source="Else 2023"
            ),
        )  # fmt: skip

    def regressions(self, findings: list[StudyFinding]) -> list[Regression]:
        if self.against is None:
            return []
        first = next(one for one in findings if one.finding.value is not None and one.is_headline)
        second = [one for one in findings if one.is_headline and one.finding.value is not None][5]
        third = next(one for one in findings if not one.is_headline)
        failed = next(cell.id for cell in self.cells() if cell.status == "failed")
        versions = (f"0.0.9{self.words}", "0.1.0")
        return [
            Regression(
                cell=first.cell, name=first.name, before=number(0.512, 0.02), after=first.finding, kind="moved",
                versions=versions,
            ),
            Regression(
                cell=second.cell, name=second.name, before=number(0.012, 0.004), after=second.finding, kind="apart",
                versions=versions, matched_by="labels",
            ),
            Regression(
                cell=third.cell, name=third.name, before=number(0.5, 0.02), after=third.finding, kind="moved",
                versions=versions,
            ),
            Regression(
                cell=failed, name="membership/error_zone/auc", before=number(0.63, 0.02), after=None, kind="gone",
                versions=versions,
            ),
        ]  # fmt: skip

    def spec(self) -> StudySpec:
        order = dict.fromkeys((cell.grid, cell.kind) for cell in self.cells())
        return StudySpec(
            name=f"tiny grid{self.words}",
            description=f"Which tuning method leaks least, and whether that depends on epochs{self.words}.",
            grids=tuple(Grid(name=grid, run=kind) for grid, kind in order),
            published=self.published_figures(),
            against=self.against,
        )

    def published(
        self, spec: StudySpec, cells: list[CellResult], findings: list[StudyFinding]
    ) -> list[BesidePublished]:
        return beside_published(spec, cells, findings)

    def result(self, **changes: Any) -> StudyResult:
        spec, cells, findings = self.spec(), self.cells(), self.findings()
        values: dict[str, Any] = {
            "loraudit": "0.1.0",
            "spec": spec,
            "spec_hash": spec_hash(spec),
            "command": f"loraudit study tiny.toml --engine ray{self.words}",
            "started": "2025-01-01T00:00:00+00:00",
            "seconds": 5230.4,
            "heading": f"LoRA of rank 4 leaks least at every number of epochs{self.words}",
            "sentence": f"At 10 epochs full tuning has AUC 0.775 [0.755, 0.795]{self.words}.",
            "cells": cells,
            "headlines": [one for one in findings if one.is_headline],
            "n_findings": len(findings),
            "published": self.published(spec, cells, findings),
            "regressions": self.regressions(findings),
            "carried_out": {"engine": "ray", "workers": 4, "nodes": 2, "ray": "2.60.0"},
            "n_units_repeated": 1,
            "versions": {"python": "3.11", "numpy": "2.1"},
            "warnings": [f"1 cell was carried out twice because a worker died{self.words}."],
        }
        return StudyResult(**(values | changes))
