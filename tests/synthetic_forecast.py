"""A forecast that nobody computed: a grid of methods with kernels, dose curves and refusals as real ones have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from loraudit.policy import judge_forecast
from loraudit.spec import (
    ForecastMethod,
    ForecastResult,
    ForecastSpec,
    KernelShape,
    LinearityCheck,
    LoraTheory,
    MeasuredComparison,
    ModelSummary,
    PoisonResult,
    PoisonSettings,
    PredictedCurve,
    PredictedPoint,
    TwinsResult,
    spec_hash,
)
from loraudit.types import Finding
from synthetic_robustness import rate_finding

FLIPS = (0.05, 0.1, 0.2, 0.3)
RARE = (8.0, 32.0, 64.0)
N_TRAIN, N_TEST, N_TRIGGERED = 128, 200, 96
REFUSED = "Its one-step error is 0.71 at a tenth of the largest stable step, above --max-linear-error 0.5."
BASELINES = ("H1′", "H2′", "rσ²", "ασ")


def cosine_finding(value: float | None, n: int) -> Finding:
    if value is None:
        return Finding(None, None, None, 0.95, "jackknife over records", n, 0)
    return Finding(value, max(-1.0, value - 0.04), min(1.0, value + 0.04), 0.95, "jackknife over records", n, 0)


@dataclass
class Forecast:
    """What makes a result; `result()` is the result.

    Attributes:
        ranks: Of LoRA.
        variances: c of A.
        alphas: Of LoRA.
        targets: Maps that LoRA adapts.
        others: Methods without a rank.
        refused: Names of methods that are not linear.
        unreached: Names of methods that never get to the shared clean loss.
        attacks: Names.
        is_language_model: Without accuracy.
        is_compared: Set against a robustness run.
    """

    ranks: tuple[int, ...] = (1, 4, 8, 64)
    variances: tuple[float, ...] = (1 / 3,)
    alphas: tuple[float, ...] = (16.0,)
    targets: tuple[Any, ...] = ("all",)
    others: tuple[Any, ...] = ("full", "head", "bitfit")
    refused: tuple[str, ...] = ("bitfit",)
    unreached: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ("label_flip", "rare_words")
    is_language_model: bool = False
    is_compared: bool = False

    # --- the grid ----------------------------------------------------------------------------------------------

    def name(self, rank: int, variance: float, alpha: float, targets: str) -> str:
        more = [f"c={variance:.3g}"] if len(self.variances) > 1 else []
        more += [f"alpha={alpha:g}"] if len(self.alphas) > 1 else []
        more += [f"targets={targets}"] if len(self.targets) > 1 else []
        return ",".join([f"lora:{rank}", *more])

    def methods(self) -> list[ForecastMethod]:
        made = [self.method(name, name, None, None, None, None) for name in self.others]
        for targets, alpha, variance, rank in product(self.targets, self.alphas, self.variances, self.ranks):
            made.append(self.method(self.name(rank, variance, alpha, targets), "lora", rank, variance, alpha, targets))
        return made

    def method(self, name: str, kind: Any, rank: Any, variance: Any, alpha: Any, targets: Any) -> ForecastMethod:
        is_refused = name in self.refused
        error = 0.71 if is_refused else 0.04 if kind == "head" else 0.12
        return ForecastMethod(
            name=name,
            method=kind,
            rank=rank,
            variance=variance,
            alpha=alpha,
            targets=targets,
            n_trained_parameters={"full": 124_440_576, "head": 1_538, "bitfit": 102_146}.get(
                kind, 55_296 * (rank or 1)
            ),
            shape=self.shape(kind, rank, variance, alpha),
            theory=None if rank is None else self.theory(rank, variance, alpha),
            twins=[self.twins(attack, self.strength(kind, rank, variance)) for attack in self.attacks],
            linearity=[
                LinearityCheck(step=0.1, relative_error=error, n=24),
                LinearityCheck(step=1.0, relative_error=None if kind == "head" else 2.1 * error, n=24),
            ],
            refused=REFUSED if is_refused else None,
        )

    def strength(self, kind: str, rank: int | None, variance: float | None) -> float:
        """How much of a poison the method takes up, in [0, 1]: what differs between methods."""
        if rank is None:
            return {"full": 0.9, "head": 0.25, "bitfit": 0.6}[kind]
        return 0.35 + 0.5 * rank / (rank + 9) + 0.04 * math.tanh(math.log(3 * (variance or 1 / 3)))

    def shape(self, kind: str, rank: Any, variance: Any, alpha: Any) -> KernelShape:
        effective = 40.0 if rank is None else 40 * rank / (rank + 1.5)
        if kind == "head":
            effective = 9.0
        trace = {"full": 812.0, "head": 31.0, "bitfit": 4.2}.get(kind)
        trace = trace if trace is not None else 812 * (alpha / rank) ** 2 * rank * variance / 300
        shares = np.arange(1, N_TRAIN + 1) ** (-60.0 / effective)
        values = trace * N_TRAIN * shares / shares.sum()
        return KernelShape(
            trace=trace,
            monte_carlo_error=None if rank is None else 0.4 / math.sqrt(rank),
            effective_rank=effective,
            participation=effective * 0.6,
            entropies={"0": math.log(N_TRAIN), "0.5": math.log(effective) + 0.2, "1": math.log(effective)}
            | {"2": math.log(effective * 0.6), "inf": None if kind == "head" else math.log(effective * 0.4)},
            log_det=effective * 0.69,
            top_share={1: float(shares[0] / shares.sum()), 10: float(shares[:10].sum() / shares.sum()), 50: None},
            eigenvalues=[float(value) for value in values[:64]],
            agreement_with_full=None if kind == "full" else cosine_finding(0.99 - 0.3 / (rank or 2), N_TRAIN),
            alignment=cosine_finding(0.31, N_TRAIN),
        )

    def theory(self, rank: int, variance: float, alpha: float) -> LoraTheory:
        return LoraTheory(
            h1_published=math.log(variance * rank),
            h2_published=math.log(rank * (rank + 2) * variance**2),
            h2_corrected=math.log(rank * (rank + 770) * variance**2),
            participation=rank * 768 / (768 + rank - 0.2),
            speed_sgd=alpha**2 * variance / 768 / rank,
            speed_adam=alpha * math.sqrt(variance / 768),
        )

    def twins(self, attack: str, strength: float) -> TwinsResult:
        is_flip = attack == "label_flip"  # the text is the same: a kernel that does not know labels cannot tell
        n = 38 if is_flip else 36
        proxy = 12.0 if is_flip else 9.0 * strength
        return TwinsResult(
            attack=attack,
            proxy=Finding(proxy, 0.9 * proxy, 1.1 * proxy, 0.95, "Student's t over twins", n, 0),
            cosine=cosine_finding(1.0 if is_flip else 1 - 0.3 * strength, n),
            poison_alignment=cosine_finding(0.11 if is_flip else None, n),
            n=n,
        )

    # --- what is predicted -------------------------------------------------------------------------------------

    def attack(self, name: str) -> PoisonResult:
        is_backdoor = name != "label_flip"
        doses = RARE if is_backdoor else FLIPS
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
            doses=list(doses),
            n_poisoned=[self.n_poisoned(dose) for dose in doses],
            n_eligible=92 if is_backdoor else N_TRAIN,
            n_triggered=N_TRIGGERED if is_backdoor else None,
            warnings=[],
        )

    def n_poisoned(self, dose: float) -> int:
        return int(dose) if dose >= 1 else round(dose * N_TRAIN)

    def point(self, attack: str, method: ForecastMethod, dose: float) -> PredictedPoint:
        strength, n = self.strength(method.method, method.rank, method.variance), self.n_poisoned(dose)
        if method.name in self.unreached:
            return PredictedPoint(dose=dose, n_poisoned=n, time=None, accuracy=None, attack_success=None, per_start=[])
        lost = strength * (2 * dose) ** 1.8 * 0.3 if attack == "label_flip" else 0.0004 * n
        success = 0.04 + 0.95 * strength / (1 + (14 / n) ** 1.7) if n else 0.04
        accuracy = rate_finding(0.88 - lost, N_TEST)
        hit = rate_finding(success, N_TRIGGERED) if attack != "label_flip" else None
        centre = accuracy.value if hit is None else hit.value
        return PredictedPoint(
            dose=dose,
            n_poisoned=n,
            time=3.7,
            accuracy=None if self.is_language_model else accuracy,
            attack_success=hit,
            per_start=[(centre or 0) - 0.01, None, (centre or 0) + 0.01],
        )

    def curves(self, methods: list[ForecastMethod]) -> list[PredictedCurve]:
        return [
            PredictedCurve(
                attack=attack,
                method=method.name,
                points=[self.point(attack, method, d) for d in (0.0, *(FLIPS if attack == "label_flip" else RARE))],
            )
            for attack in self.attacks
            for method in methods
            if method.refused is None
        ]

    def comparison(self, curves: list[PredictedCurve]) -> MeasuredComparison:
        rng = np.random.default_rng(5)
        cells = [
            {
                "method": curve.method,
                "attack": curve.attack,
                "dose": point.dose,
                "predicted": point.accuracy.value,
                "measured": float(np.clip(point.accuracy.value + rng.normal(0, 0.02), 0, 1)),
            }
            for curve in curves
            for point in curve.points
            if point.dose and point.accuracy is not None and point.accuracy.value is not None
        ]
        rank_based = "Spearman's ρ"
        return MeasuredComparison(
            run="runs/measured",
            measure="accuracy",
            spearman=Finding(0.91, 0.78, 0.96, 0.95, rank_based, len(cells), 0),
            cells=cells,
            baselines={
                name: Finding(value, value - 0.4, min(1.0, value + 0.3), 0.95, rank_based, 28, 0)
                for name, value in zip(BASELINES, (0.31, 0.35, 0.28, -0.05), strict=True)
            },
        )

    def result(self, **changes: Any) -> ForecastResult:
        limits = changes.pop("fail_on", ())
        spec = ForecastSpec(
            base="bert-base",
            task="topics.jsonl",
            attack=self.attacks,
            methods=tuple(dict.fromkeys([*self.others, "lora"])),
            ranks=self.ranks,
            variances=self.variances,
            alphas=self.alphas,
            targets=self.targets,
            target="sports",
            fail_on=tuple(limits),
            measured="runs/measured" if self.is_compared else None,
        )
        methods = self.methods()
        curves = self.curves(methods)
        values: dict[str, Any] = {
            "loraudit": "0.1.0",
            "spec": spec,
            "spec_hash": spec_hash(spec),
            "command": "loraudit forecast bert-base --task topics.jsonl --target sports",
            "base": ModelSummary(
                name="bert-base",
                kind="sequence classifier",
                fingerprint="f1" * 32,
                details={"architecture": "BertForSequenceClassification", "n_layers": 12, "context": 512},
            ),
            "trained_as": "causal_lm" if self.is_language_model else "classification",
            "functional": "The logits of the classifier's head.",
            "n_train": N_TRAIN,
            "n_test": N_TEST,
            "classes": {} if self.is_language_model else {"world": 92, "sports": 36},
            "data": [{"path": "topics.jsonl", "sha256": "ab" * 32, "rows": 5272}],
            "heading": "rare_words is predicted to open a backdoor in every method but head",
            "sentence": "With 64 poisoned records of 128 its success is 71.5 % [61.8, 79.6] % on lora:64, at the most.",
            "attacks": [self.attack(name) for name in self.attacks],
            "methods": methods,
            "clean_loss": 0.412,
            "base_loss": 0.703,
            "curves": curves,
            "comparisons": [self.comparison(curves)] if self.is_compared else [],
            "limits": [],
            "numerics": {"precision": "fp32", "devices": ["cpu"]},
            "versions": {"python": "3.11", "numpy": "2.1", "torch": "2.6"},
            "n_passes": 984,
            "warnings": ["3 texts were longer than 512 tokens and cut."],
            "started": "2025-01-01T00:00:00+00:00",
            "seconds": 41.7,
        }
        result = ForecastResult(**(values | changes))
        return result.model_copy(update={"limits": judge_forecast(result, limits)}) if limits else result
