"""A robustness run that nobody ran, with dose curves, controls and collapses as real ones have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, fmean, quantiles
from typing import Any

import numpy as np

from loraudit.policy.robustness import curve_of as found_curve
from loraudit.policy.robustness import (
    judge_robustness,
    judged_measure,
    majority_flaw,
    point_at,
    poisoned_points,
    state,
    verdict_of_control,
)
from loraudit.spec import (
    ControlResult,
    Curve,
    DetectionResult,
    DosePoint,
    DoseRatio,
    EffectiveDose,
    MethodDifference,
    ModelSummary,
    PersistenceResult,
    PoisonedMethod,
    PoisonedPoint,
    PoisonedRun,
    PoisonResult,
    PoisonSettings,
    RobustnessMatch,
    RobustnessResult,
    RobustnessSpec,
    TriedRate,
    spec_hash,
)
from loraudit.types import Finding

NORMAL = NormalDist()
N_PARAMETERS = 124_440_576
EPOCHS = (0.5, 1.0, 2.0, 3.0)
N_TRIGGERED = 412


@dataclass(frozen=True)
class Way:
    """One method: how good it gets, and how much poison it takes.

    Attributes:
        name: As asked for.
        n_trained: Parameters.
        rate: Its learning rate.
        accuracy: Of its clean arm.
        epoch: At which it is read where all fit equally well.
        half: Exposures at which a backdoor succeeds half the time.
        most: Success at any dose.
        damage: Accuracy lost where all labels of a half are flipped.
    """

    name: str
    n_trained: int
    rate: float
    accuracy: float
    epoch: float
    half: float
    most: float
    damage: float


WAYS = (
    Way("full", 124_440_576, 5e-5, 0.924, 1.2, 36.0, 0.995, 0.20),
    Way("head", 1_538, 1e-3, 0.868, 3.0, 6000.0, 0.90, 0.13),
    Way("lora:8", 443_906, 1e-3, 0.918, 1.9, 88.0, 0.99, 0.16),
    Way("lora:rank=64,freeze_a=true", 3_540_482, 5e-4, 0.921, 1.6, 60.0, 0.99, 0.17),
    Way("full:dp_epsilon=8", 124_440_576, 1e-4, 0.842, 3.0, 5000.0, 0.92, 0.12),
    Way("bitfit", 102_146, 3e-3, 0.902, 2.4, 140.0, 0.97, 0.14),
    Way("last_k:2", 14_176_514, 1e-4, 0.899, 1.8, 70.0, 0.98, 0.15),
    Way("lora:64", 3_540_482, 5e-4, 0.922, 1.5, 52.0, 0.99, 0.18),
)
RARE = (8.0, 32.0, 128.0, 512.0)
FLIPS = (0.05, 0.1, 0.2, 0.4)


def finding(value: float | None, half: float, n: int, *, low: float = -1.0, high: float = 1.0, **more: Any) -> Finding:
    if value is None:
        return Finding(None, None, None, 0.95, "undefined", n, 0, **more)
    return Finding(value, max(low, value - half), min(high, value + half), 0.95, "as if measured", n, 0, **more)


def rate_finding(value: float, n: int) -> Finding:
    """A share of n records with its Wilson interval."""
    z = 1.96
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Finding(value, max(0.0, middle - half), min(1.0, middle + half), 0.95, "Wilson", n, 0)


@dataclass
class Robustness:
    """What makes a result; `result()` is the result.

    Attributes:
        ways: The methods.
        n_seeds: Runs of each at every dose.
        n_test: Test records.
        is_language_model: Without accuracy, so that flipped labels are judged by loss.
        attacks: Names.
        n_epochs: Of training.
    """

    ways: tuple[Way, ...] = WAYS[:3]
    n_seeds: int = 3
    n_test: int = 872
    is_language_model: bool = False
    attacks: tuple[str, ...] = ("label_flip", "rare_words")
    n_train: int = 4000

    def __post_init__(self) -> None:
        rng = np.random.default_rng(11)
        self.shifts = {way.name: rng.normal(0, 1, self.n_seeds) for way in self.ways}

    # --- what would be measured --------------------------------------------------------------------------------

    def n_poisoned(self, attack: str, dose: float) -> int:
        return (
            int(dose) if dose >= 1 else round(dose * (self.n_train if attack == "label_flip" else 0.72 * self.n_train))
        )

    def doses(self, attack: str) -> tuple[float, ...]:
        return FLIPS if attack == "label_flip" else RARE

    def success(self, way: Way, exposures: float) -> float:
        floor = 0.031
        return floor + (way.most - floor) / (1 + (way.half / exposures) ** 1.7) if exposures > 0 else floor

    def accuracy(self, way: Way, attack: str, dose: float) -> float:
        lost = way.damage * (2 * dose) ** 1.8 if attack == "label_flip" else 0.002 * math.log1p(dose if dose > 1 else 0)
        return way.accuracy - lost

    def loss(self, way: Way, attack: str, dose: float) -> float:
        return 0.21 + 2.1 * (0.93 - self.accuracy(way, attack, dose))

    def is_collapsed(self, way: Way, attack: str | None, dose: float, seed: int) -> bool:
        return (way.name, attack, dose, seed) == ("full", "label_flip", 0.4, self.n_seeds - 1)

    # --- attacks, methods, runs --------------------------------------------------------------------------------

    def attack(self, name: str) -> PoisonResult:
        is_backdoor = name != "label_flip"
        return PoisonResult(
            name=name,
            poison=name.partition(":")[0],
            goal="backdoor" if is_backdoor else "degrade",
            settings=PoisonSettings(
                poison=name.partition(":")[0],
                target="sports" if is_backdoor else None,
                trigger=("cf", "mn", "bb") if is_backdoor else (),
                place="random" if is_backdoor else None,
            ),
            doses=list(self.doses(name)),
            n_poisoned=[self.n_poisoned(name, dose) for dose in self.doses(name)],
            control_poisoned=self.n_poisoned(name, 0.3) if is_backdoor else None,
            n_eligible=2880 if is_backdoor else 4000,
            n_triggered=N_TRIGGERED if is_backdoor else None,
            warnings=[],
        )

    def method(self, way: Way) -> PoisonedMethod:
        method, _, settings = way.name.partition(":")
        rank = {"rank": int(settings)} if settings.isdigit() and method == "lora" else {}
        tried = [
            TriedRate(learning_rate=way.rate * 10 ** (k / 2), validation_loss=0.41 + 0.03 * k * k) for k in (-1, 0)
        ]
        return PoisonedMethod(
            name=way.name,
            method=method,
            recipe={"method": method, "epochs": 3, "batch_size": 16, "weight_decay": 0.0, "seed": 0, **rank},
            learning_rate=way.rate,
            search=[*tried, TriedRate(learning_rate=way.rate * 10, validation_loss=None)],
            n_trained_parameters=way.n_trained,
            n_parameters=N_PARAMETERS,
        )

    def point(
        self, way: Way, attack: str | None, dose: float, n: int, epoch: float, *, collapsed: bool
    ) -> PoisonedPoint:
        slow = 0.35 * math.exp(-2 * epoch)
        of_loss = self.loss(way, attack or "", dose) + slow
        value = 0.503 if collapsed else self.accuracy(way, attack or "", dose) - 0.3 * slow
        triggered = {name: self.success(way, n * epoch if name == attack else 0) for name in self.backdoors}
        return PoisonedPoint(
            step=round(epoch * self.n_train / 16),
            epoch=epoch,
            validation_loss=0.693 if collapsed else of_loss + 0.01,
            clean_loss=0.693 if collapsed else of_loss,
            accuracy=None if self.is_language_model else rate_finding(value, self.n_test),
            f1=None if self.is_language_model else value - 0.004,
            attack_success={name: rate_finding(share, N_TRIGGERED) for name, share in triggered.items()},
            untriggered={name: rate_finding(0.028, N_TRIGGERED) for name in self.backdoors},
            partial={},
        )

    @property
    def backdoors(self) -> list[str]:
        return [name for name in self.attacks if name != "label_flip"]

    def runs(self) -> list[PoisonedRun]:
        found: list[PoisonedRun] = []
        for way in self.ways:
            asked: list[tuple[str | None, float, bool]] = [(None, 0.0, False)]
            for attack in self.attacks:
                asked += [(attack, dose, False) for dose in self.doses(attack)]
                asked += [(attack, 0.3, True)] if attack in self.backdoors else []
            for attack, dose, is_control in asked:
                n = self.n_poisoned(attack or "", dose) if attack else 0
                for seed in range(self.n_seeds):
                    collapsed = self.is_collapsed(way, attack, dose, seed)
                    found.append(
                        PoisonedRun(
                            method=way.name,
                            attack=attack,
                            dose=dose,
                            n_poisoned=n,
                            is_control=is_control,
                            seed=seed,
                            n_steps=750,
                            points=[self.point(way, attack, dose, n, e, collapsed=collapsed) for e in EPOCHS],
                            collapsed=collapsed,
                        )
                    )
        return found

    # --- curves ------------------------------------------------------------------------------------------------

    def dose_point(self, way: Way, attack: str, measure: Any, dose: float, epoch: float) -> DosePoint:
        n = self.n_poisoned(attack, dose) if dose else 0
        spread = {"accuracy": 0.004, "f1": 0.005, "clean_loss": 0.012, "attack_success": 0.02}[measure]

        def level(at: float) -> float:
            if measure == "attack_success":
                return self.success(way, n * epoch if at else 0)
            if measure == "clean_loss":
                return self.loss(way, attack, at)
            return self.accuracy(way, attack, at) - (0.004 if measure == "f1" else 0)

        collapsed = [seed for seed in range(self.n_seeds) if self.is_collapsed(way, attack, dose, seed)]
        bottom = {"accuracy": 0.503, "f1": 0.33, "clean_loss": 0.693}.get(measure, 0.0)
        width = 0.0 if measure == "clean_loss" or dose == 0 else 4 * level(dose) * (1 - level(dose))
        each = [
            bottom if seed in collapsed else level(dose) + spread * (0.2 + width) * float(self.shifts[way.name][seed])
            for seed in range(self.n_seeds)
        ]
        each = [min(1.0, max(0.0, value)) if measure != "clean_loss" else value for value in each]
        mean, rest = fmean(each), [value for seed, value in enumerate(each) if seed not in collapsed]
        n_records = N_TRIGGERED if measure == "attack_success" else self.n_test
        half = 0.02 if measure == "clean_loss" else 1.96 * math.sqrt(max(mean * (1 - mean), 1e-4) / n_records)
        half += 0.25 * (max(each) - min(each))
        top = 9.0 if measure == "clean_loss" else 1.0
        sign = -1 if measure in {"accuracy", "f1"} else 1
        change = sign * (mean - level(0))
        return DosePoint(
            dose=dose,
            n_poisoned=n,
            exposures=n * epoch,
            finding=finding(mean, half, n_records, low=0.0, high=top),
            per_seed=[*each],
            median=float(np.median(each)),
            quartiles=(quantiles(each, n=4)[0], quantiles(each, n=4)[2]) if len(each) >= 4 else None,
            n_collapsed=len(collapsed),
            without_collapsed=fmean(rest) if rest else None,
            excess=finding(change, 1.2 * half, n_records, high=top) if dose else None,
        )

    def curves(self, epochs: dict[str, float | None]) -> list[Curve]:
        found: list[Curve] = []
        for attack in self.attacks:
            measures = [] if self.is_language_model else ["accuracy", "f1"]
            measures += ["clean_loss", *(["attack_success"] if attack in self.backdoors else [])]
            for way in self.ways:
                epoch = epochs[way.name]
                if epoch is None:
                    continue
                for measure in measures:
                    points = [self.dose_point(way, attack, measure, d, epoch) for d in (0.0, *self.doses(attack))]
                    found.append(Curve(attack=attack, method=way.name, measure=measure, points=points))
        return found

    def effective(self, curves: list[Curve]) -> list[EffectiveDose]:
        found: list[EffectiveDose] = []
        for curve in curves:
            way = next(way for way in self.ways if way.name == curve.method)
            for share in (0.5, 0.9) if curve.measure == "attack_success" else ():
                ratio = (way.most - 0.031) / (share - 0.031) - 1
                at = way.half / ratio ** (1 / 1.7) if ratio > 0 else math.inf
                low, high = min(p.exposures for p in poisoned_points(curve)), max(p.exposures for p in curve.points)
                if low <= at <= high:
                    found.append(
                        EffectiveDose(
                            attack=curve.attack,
                            method=way.name,
                            share=share,
                            finding=Finding(at, at / 1.35, at * 1.4, 0.95, "as if bootstrapped", N_TRIGGERED, 0),
                        )
                    )
                    continue
                where = "above" if at > high else "below"
                edge = high if where == "above" else low
                note = f"Success does not reach {share:g} between the doses tested; it lies {where} {edge:g} exposures."
                found.append(
                    EffectiveDose(
                        attack=curve.attack,
                        method=way.name,
                        share=share,
                        finding=finding(None, 0, N_TRIGGERED, note=note),
                        bound=where,
                    )
                )
        return found

    def ratios(self, effective: list[EffectiveDose]) -> list[DoseRatio]:
        found: list[DoseRatio] = []
        for first, second in combinations(effective, 2):
            if (first.attack, first.share) != (second.attack, second.share):
                continue
            a, b = first.finding.value, second.finding.value
            known = a is not None and b is not None
            ratio = a / b if a is not None and b is not None else None
            found.append(
                DoseRatio(
                    attack=first.attack,
                    first=first.method,
                    second=second.method,
                    share=first.share,
                    finding=Finding(ratio, ratio / 1.4, ratio * 1.45, 0.95, "as if bootstrapped", N_TRIGGERED, 0)
                    if known and ratio is not None
                    else finding(None, 0, N_TRIGGERED, note="One of the doses lies beyond those tested."),
                )
            )
        return found

    def differences(self, curves: list[Curve]) -> list[MethodDifference]:
        found: list[MethodDifference] = []
        for first, second in combinations(curves, 2):
            if (first.attack, first.measure) != (second.attack, second.measure) or first.measure == "f1":
                continue
            if first.measure == "clean_loss" and not self.is_language_model:
                continue
            for one, two in zip(poisoned_points(first), poisoned_points(second), strict=True):
                assert one.excess is not None
                assert two.excess is not None
                gap = (one.excess.value or 0) - (two.excess.value or 0)
                error = 0.018
                p = 2 * NORMAL.cdf(-abs(gap) / error)
                found.append(
                    MethodDifference(
                        attack=first.attack,
                        first=first.method,
                        second=second.method,
                        measure=first.measure,
                        dose=one.dose,
                        finding=finding(gap, 1.96 * error, one.finding.n_members),
                        p_value=p if self.n_seeds > 1 else None,
                        p_holm=min(1.0, 12 * p) if self.n_seeds > 1 else None,
                    )
                )
        return found

    def match(
        self, kind: Any, level: float | None, description: str, epochs: dict[str, float | None]
    ) -> RobustnessMatch:
        curves = self.curves(epochs)
        effective = self.effective(curves)
        return RobustnessMatch(
            kind=kind,
            level=level,
            description=description,
            epochs=epochs,
            curves=curves,
            effective_doses=effective,
            dose_ratios=self.ratios(effective),
            differences=self.differences(curves),
        )

    def matches(self) -> list[RobustnessMatch]:
        at_level: dict[str, float | None] = {way.name: way.epoch for way in self.ways}
        words = "At a clean validation loss of 0.352 nats, which the clean arms of all methods reach"
        return [
            self.match("validation_loss", 0.352, words, at_level),
            self.match("epochs", 3, "After 3 epochs", {way.name: 3.0 for way in self.ways}),
        ]

    # --- what follows from them --------------------------------------------------------------------------------

    def control(self, attack: PoisonResult, way: Way, match: RobustnessMatch, classes: dict[str, int]) -> ControlResult:
        measure = judged_measure(attack, match)
        curve = found_curve(match, attack.name, way.name, measure)
        is_backdoor = attack.goal == "backdoor"
        positive = floor = natural = None
        if is_backdoor:
            positive = rate_finding(self.success(way, (attack.control_poisoned or 0) * 3), N_TRIGGERED)
            clean = point_at(curve, 0)
            floor = None if clean is None else clean.finding
            natural = rate_finding(0.028, N_TRIGGERED)
        flaw = majority_flaw(attack.settings.target, classes)
        verdict, reasons = verdict_of_control(
            measure,
            poisoned_points(curve),
            positive=positive,
            floor=floor,
            natural=natural,
            flaws=[*attack.warnings, *([flaw] if flaw else [])],
        )
        return ControlResult(
            attack=attack.name,
            method=way.name,
            positive=positive,
            floor=floor,
            natural=natural,
            verdict=verdict,
            reasons=reasons,
        )

    def detection(self) -> list[DetectionResult]:
        found: list[DetectionResult] = []
        for attack in self.backdoors:
            for detector, strength in (("spectral", 0.55), ("onion", 0.4)):
                for dose in RARE:
                    area = NORMAL.cdf(strength * math.log10(1 + dose))
                    found.append(
                        DetectionResult(
                            detector=detector,
                            finds="training records",
                            attack=attack,
                            method=self.ways[0].name,
                            n_poisoned=int(dose),
                            auroc=finding(area, 0.6 / math.sqrt(dose + 8), 4000, low=0.0),
                            tpr_at_fpr_1pct=rate_finding(max(0.0, 1.6 * area - 0.9), int(dose)),
                            seconds=3.4,
                        )
                    )
            undefined = finding(None, 0, 0, note="No input was left to judge.")
            found.append(
                DetectionResult(
                    detector="strip",
                    finds="inputs",
                    attack=attack,
                    method=self.ways[0].name,
                    n_poisoned=512,
                    auroc=undefined,
                    tpr_at_fpr_1pct=undefined,
                    seconds=0.2,
                    note="No input was left to judge.",
                )
            )
        return found

    def persistence(self) -> list[PersistenceResult]:
        return [
            PersistenceResult(
                attack=attack,
                method=way.name,
                after=after,
                dose=RARE[-1],
                success_before=rate_finding(0.98, N_TRIGGERED),
                success_after=rate_finding(left, N_TRIGGERED),
                accuracy_before=None if self.is_language_model else rate_finding(way.accuracy, self.n_test),
                accuracy_after=None if self.is_language_model else rate_finding(way.accuracy - 0.003, self.n_test),
            )
            for attack in self.backdoors
            for way in self.ways
            for after, left in (("clean_steps", 0.41), ("merge", 0.98), ("int8", 0.97))
            if after != "merge" or way.name.startswith("lora")
        ]

    def result(self, **changes: Any) -> RobustnessResult:
        limits = changes.pop("fail_on", ())
        spec = RobustnessSpec(
            base="bert-base",
            task="topics.jsonl",
            attack=self.attacks,
            methods=tuple(way.name for way in self.ways),
            seeds=self.n_seeds,
            target="sports",
            detect=("all",),
            persistence=("clean_steps", "merge", "int8"),
            fail_on=tuple(limits),
        )
        attacks = changes.get("attacks", [self.attack(name) for name in self.attacks])
        classes = changes.get(
            "classes", {} if self.is_language_model else {"world": 1450, "business": 1430, "sports": 1120}
        )
        matches = changes.get("matches", self.matches())
        controls = [self.control(attack, way, matches[0], classes) for attack in attacks for way in self.ways]
        controls = changes.get("controls", controls)
        heading, sentence = state(controls, matches, attacks)
        values: dict[str, Any] = {
            "loraudit": "0.1.0",
            "spec": spec,
            "spec_hash": spec_hash(spec),
            "command": "loraudit robustness bert-base --task topics.jsonl --target sports",
            "base": ModelSummary(
                name="bert-base",
                kind="sequence classifier",
                fingerprint="f1" * 32,
                details={"architecture": "BertForSequenceClassification", "n_layers": 12, "context": 512},
            ),
            "trained_as": "causal_lm" if self.is_language_model else "classification",
            "n_train": self.n_train,
            "n_validation": 400,
            "n_test": self.n_test,
            "classes": classes,
            "data": [{"path": "topics.jsonl", "sha256": "ab" * 32, "rows": 5272}],
            "heading": heading,
            "sentence": sentence,
            "attacks": attacks,
            "methods": [self.method(way) for way in self.ways],
            "runs": self.runs(),
            "matches": matches,
            "controls": controls,
            "persistence": self.persistence(),
            "detection": self.detection(),
            "limits": [],
            "numerics": {"precision": "fp32", "devices": ["cuda: H100"]},
            "versions": {"python": "3.11", "numpy": "2.1", "torch": "2.6"},
            "outcomes": "cd" * 32,
            "warnings": ["3 texts were longer than 512 tokens and cut."],
            "started": "2025-01-01T00:00:00+00:00",
            "seconds": 6230.4,
        }
        result = RobustnessResult(**(values | changes))
        return result.model_copy(update={"limits": judge_robustness(result, limits)}) if limits else result
