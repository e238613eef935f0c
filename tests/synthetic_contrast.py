"""A comparison of tuning methods that nobody ran, with curves as real ones have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from loraudit.spec import (
    ArmResult,
    ArmRun,
    ContrastResult,
    ContrastSpec,
    ExposureRow,
    Gate,
    Match,
    MatchedArm,
    MatchedDifference,
    MeasuredPoint,
    ModelSummary,
    SeededFinding,
    TriedRate,
    ValidityResult,
    spec_hash,
)
from loraudit.types import Finding

BASE_LOSS = 3.94
N_EPOCHS = 10
FPRS = (0.1, 0.01, 0.001)
RATES = {0.1: "tpr_at_fpr_10pct", 0.01: "tpr_at_fpr_1pct", 0.001: "tpr_at_fpr_0_1pct"}
ATTACKS = ("error_zone", "loss", "zlib", "min_k", "calibrated_loss", "window_vote")
N_PARAMETERS = 124_439_808
NORMAL = NormalDist()


@dataclass(frozen=True)
class Way:
    """One method: how far it can get, how fast, and how it goes on once it fits too well.

    Attributes:
        name: As asked for.
        n_trained: Parameters.
        gain: Nats of validation loss it can win.
        pace: Epochs for most of that.
        overfit: How fast validation loss rises again.
        memory: Nats of member loss per epoch beyond what generalises.
        rate: Its learning rate.
    """

    name: str
    n_trained: int
    gain: float
    pace: float
    overfit: float
    memory: float
    rate: float


WAYS = (
    Way("full", 124_439_808, 0.60, 1.1, 0.0120, 0.120, 5e-5),
    Way("head", 38_597_376, 0.37, 2.4, 0.0014, 0.024, 3e-4),
    Way("lora:4", 221_184, 0.43, 2.6, 0.0004, 0.013, 1e-3),
    Way("lora:16", 884_736, 0.50, 2.2, 0.0014, 0.030, 1e-3),
    Way("lora:64", 3_538_944, 0.55, 1.8, 0.0042, 0.062, 5e-4),
    Way("lora:rank=8,dora=true", 479_232, 0.46, 2.4, 0.0008, 0.020, 1e-3),
    Way("bitfit", 102_144, 0.22, 3.4, 0.0002, 0.006, 3e-3),
    Way("last_k:2", 14_175_744, 0.40, 1.5, 0.0050, 0.070, 1e-4),
)


def losses(way: Way, epoch: float) -> tuple[float, float]:
    """Validation loss and loss on the members."""
    learned = way.gain * (1 - math.exp(-epoch / way.pace))
    validation = BASE_LOSS - learned + way.overfit * max(0.0, epoch - 1.5) ** 1.7
    return validation, BASE_LOSS - learned - way.memory * epoch**1.15


def seen(way: Way, epoch: float, strength: float = 1.0) -> float:
    """How many standard deviations members stand above non-members."""
    validation, member = losses(way, epoch)
    return strength * 2.1 * (validation - member)


def finding(
    value: float | None, half: float, *, lowest: float = 0.0, note: str | None = None, n: tuple[int, int] = (1000, 1000)
) -> Finding:
    if value is None:
        return Finding(None, None, None, 0.95, "refused", *n, note=note)
    lower, upper = max(lowest, value - half), min(1.0, value + half)
    return Finding(value, lower, upper, 0.95, "as if measured", *n, note=note)


def values_at(separation: float, fprs: tuple[float, ...] = FPRS) -> dict[str, float]:
    found = {"auc": NORMAL.cdf(separation / math.sqrt(2))}
    for fpr in fprs:
        found[RATES[fpr]] = NORMAL.cdf(separation - NORMAL.inv_cdf(1 - fpr))
    return found


def half_width(value: float, n: int) -> float:
    return 1.96 * math.sqrt(max(value * (1 - value), 1e-4) / n) * 1.2


@dataclass
class Contrast:
    """What makes a result; `result()` is the result.

    Attributes:
        ways: The methods.
        n_seeds: Runs of each.
        n_nonmembers: Rates they cannot resolve are refused.
        repeats: Copies that were planted.
        per_epoch: Checkpoints.
    """

    ways: tuple[Way, ...] = WAYS[:5]
    n_seeds: int = 3
    n_nonmembers: int = 1000
    repeats: tuple[int, ...] = (1, 4, 16)
    per_epoch: int = 2
    n_epochs: int = N_EPOCHS

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.shifts = {way.name: self.rng.normal(0, 0.06, self.n_seeds) for way in self.ways}

    @property
    def n(self) -> tuple[int, int]:
        return 1000, self.n_nonmembers

    def measured(self, metric: str, value: float, n_runs: int = 1) -> Finding:
        fpr = next((fpr for fpr, name in RATES.items() if name == metric), None)
        if fpr is not None and fpr * self.n_nonmembers < 1:
            note = (
                f"Cannot state TPR at {100 * fpr:g} % FPR from {self.n_nonmembers} non-members: the smallest rate they "
                f"resolve is {100 / self.n_nonmembers:g} %."
            )
            return finding(None, 0, note=note, n=self.n)
        note = None
        if fpr is not None and fpr * self.n_nonmembers < 10:
            note = f"TPR at {100 * fpr:g} % FPR rests on {fpr * self.n_nonmembers:g} false alarms."
        return finding(value, half_width(value, 1000 // (2 if n_runs > 1 else 1)), note=note, n=self.n)

    def point(self, way: Way, seed: int, epoch: float) -> MeasuredPoint:
        jitter = float(self.shifts[way.name][seed])
        validation, member = losses(way, epoch)
        noise = 0.0 if epoch == 0 else 0.02 * float(np.sin(7 * epoch + 3 * seed))
        separation = 0.0 if epoch == 0 else seen(way, epoch, 1 + jitter) + noise
        found = {metric: self.measured(metric, value) for metric, value in values_at(separation).items()}
        return MeasuredPoint(
            step=round(epoch * 63),
            epoch=epoch,
            validation_loss=validation + 0.12 * jitter * (epoch > 0),
            member_loss=member,
            nonmember_loss=validation + 0.004,
            findings=found,
        )

    def arm(self, way: Way) -> ArmResult:
        epochs = [step / self.per_epoch for step in range(self.n_epochs * self.per_epoch + 1)]
        method, _, settings = way.name.partition(":")
        rank = {"rank": int(settings)} if settings.isdigit() and method == "lora" else {}
        tried = [TriedRate(learning_rate=way.rate * 10 ** (k / 2), validation_loss=3.7 + 0.04 * k * k) for k in (-2, 0)]
        return ArmResult(
            name=way.name,
            method=method,
            recipe={"method": method, "epochs": self.n_epochs, "batch_size": 16, "weight_decay": 0.0, **rank},
            learning_rate=way.rate,
            search=[*tried, TriedRate(learning_rate=way.rate * 10, validation_loss=None)],
            n_trained_parameters=way.n_trained,
            n_parameters=N_PARAMETERS,
            runs=[
                ArmRun(
                    seed=seed,
                    model=f"models/{way.name}-{seed}",
                    points=[self.point(way, seed, epoch) for epoch in epochs],
                    n_steps=63 * self.n_epochs,
                )
                for seed in range(self.n_seeds)
            ],
            audit=f"audits/{way.name}",
        )

    def seeded(self, metric: str, separation: float, name: str) -> SeededFinding:
        each = [values_at(separation * (1 + float(shift)))[metric] for shift in self.shifts[name]]
        mean = self.measured(metric, float(np.mean(each)), self.n_seeds)
        deviation = float(np.std(each, ddof=1)) if self.n_seeds > 1 else None
        return SeededFinding(finding=mean, per_seed=[*each], seed_deviation=deviation)

    def attacks_at(self, way: Way, epoch: float) -> dict[str, dict[str, SeededFinding]]:
        return {
            attack: {
                metric: self.seeded(metric, seen(way, epoch) / (1 + 0.35 * rank), way.name)
                for metric in ("auc", *RATES.values())
            }
            for rank, attack in enumerate(ATTACKS)
        }

    def matched(self, way: Way, epoch: float | None) -> MatchedArm:
        if epoch is None:
            return MatchedArm(
                name=way.name, is_reached=False, n_reached=0, epoch=None, validation_loss=None, attacks={}
            )
        return MatchedArm(
            name=way.name,
            is_reached=True,
            n_reached=self.n_seeds,
            epoch=epoch,
            validation_loss=losses(way, epoch)[0],
            attacks=self.attacks_at(way, epoch),
        )

    def match(self, kind: Any, level: float | None, description: str, epochs: dict[str, float | None]) -> Match:
        arms = [self.matched(way, epochs[way.name]) for way in self.ways]
        differences = []
        for first, second in combinations([arm for arm in arms if arm.is_reached], 2):
            metrics, p_values = {}, {}
            for metric in ("auc", *RATES.values()):
                ends = [arm.attacks["error_zone"][metric].finding for arm in (first, second)]
                if ends[0].value is None or ends[1].value is None:
                    metrics[metric] = finding(None, 0, note=ends[0].note, n=self.n)
                    p_values[metric] = None
                    continue
                gap = ends[0].value - ends[1].value
                error = 0.010 if metric == "auc" else 0.014
                metrics[metric] = finding(gap, 1.96 * error, lowest=-1.0, n=self.n)
                p_values[metric] = 2 * NORMAL.cdf(-abs(gap) / error) if self.n_seeds > 1 else None
            p_holm = None if p_values["auc"] is None else min(1.0, 10 * p_values["auc"])
            differences.append(
                MatchedDifference(
                    first=first.name, second=second.name, metrics=metrics, p_values=p_values, p_holm=p_holm
                )
            )
        return Match(kind=kind, level=level, description=description, arms=arms, differences=differences)

    def crossing(self, way: Way, level: float, which: int) -> float | None:
        """Epoch at which validation (0) or member loss (1) first falls to this level."""
        for step in range(self.n_epochs * 500 + 1):
            if losses(way, step / 500)[which] <= level + 1e-9:
                return step / 500
        return None

    def best_epoch(self, way: Way) -> float:
        return float(min(range(2, 2 * self.n_epochs + 1), key=lambda step: losses(way, step / 2)[0]) / 2)

    def matches(self) -> list[Match]:
        lowest = max(min(losses(way, step / 50)[0] for step in range(self.n_epochs * 50 + 1)) for way in self.ways)
        level = math.ceil(1000 * lowest + 1) / 1000
        at_level = {way.name: self.crossing(way, level, 0) for way in self.ways}
        training = 3.3
        at_training = {way.name: self.crossing(way, training, 1) for way in self.ways}
        found = [
            self.match("validation_loss", level, "The lowest validation loss that every method reaches.", at_level),
            self.match("training_loss", training, "The same mean loss on the members.", at_training),
        ]
        for epochs in sorted({1, min(5, self.n_epochs), self.n_epochs}):
            words = f"After {epochs} epoch{'' if epochs == 1 else 's'}."
            found.append(self.match("epochs", epochs, words, {way.name: float(epochs) for way in self.ways}))
        best = {way.name: self.best_epoch(way) for way in self.ways}
        return [*found, self.match("best", None, "Each method at its own lowest validation loss.", best)]

    def exposure(self) -> list[ExposureRow]:
        return [
            ExposureRow(
                arm=way.name,
                exposures=copies * self.n_epochs,
                copies=copies,
                metrics={
                    metric: self.seeded(metric, seen(way, self.n_epochs) * (0.75 + 0.33 * math.log2(copies)), way.name)
                    for metric in ("auc", *RATES.values())
                },
            )
            for way in self.ways
            for copies in self.repeats
        ]

    def result(self, **changes: Any) -> ContrastResult:
        spec = ContrastSpec(
            base="gpt2",
            data="records.jsonl",
            methods=tuple(way.name for way in self.ways),
            seeds=self.n_seeds,
            epochs=self.n_epochs,
            repeats=self.repeats,
            fpr=FPRS,
        )
        matches = self.matches()
        first = matches[0].arms[0].attacks["error_zone"]["auc"].finding
        values: dict[str, Any] = {
            "loraudit": "0.1.0",
            "spec": spec,
            "spec_hash": spec_hash(spec),
            "command": "loraudit contrast gpt2 --data records.jsonl --seeds 3 --epochs 10 --repeats 1,4,16",
            "base": ModelSummary(
                name="gpt2",
                kind="causal language model",
                fingerprint="f1" * 32,
                details={"architecture": "GPT2LMHeadModel", "n_layers": 12, "context": 1024},
            ),
            "n_members": 1000,
            "n_nonmembers": self.n_nonmembers,
            "n_validation": 500,
            "data": [{"path": "records.jsonl", "sha256": "ab" * 32, "rows": 2503}],
            "base_validation_loss": BASE_LOSS,
            "heading": "At the same fit, full tuning and LoRA give away about as much",
            "sentence": (
                f"At a validation loss of {matches[0].level:.3f} nats per token, full tuning has AUC {first.value:.3f} "
                f"(95 % interval {first.lower:.3f} to {first.upper:.3f}; 0.5 is guessing). Left to run "
                f"for {self.n_epochs} epochs, every method gives away more, and full tuning the most."
            ),
            "arms": [self.arm(way) for way in self.ways],
            "matches": matches,
            "exposure": self.exposure(),
            "validity": validity(),
            "numerics": {"precision": "fp32", "asked": "fp32", "devices": ["cuda: H100"]},
            "versions": {"python": "3.11", "numpy": "2.1", "torch": "2.6"},
            "scores": "cd" * 32,
            "warnings": [],
            "started": "2025-01-01T00:00:00+00:00",
            "seconds": 5230.4,
        }
        return ContrastResult(**(values | changes))


def validity(*, failed: bool = False) -> ValidityResult:
    outcome = ("failed", "AUC 0.612 [0.588, 0.635]") if failed else ("passed", "AUC 0.503 [0.478, 0.528]")
    return ValidityResult(
        gates=[
            Gate(
                name="bag_of_words",
                kind="blind",
                status=outcome[0],
                summary="Words alone tell the sides apart.",
                reason=outcome[1],
            ),
            Gate(
                name="length",
                kind="blind",
                status="passed",
                summary="Length alone tells the sides apart.",
                reason="AUC 0.497 [0.472, 0.522]",
            ),
        ],
        strongest_blind="bag_of_words",
    )
