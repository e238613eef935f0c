"""Methods at the same clean fit: curves over the dose, effective doses, and differences beyond own clean arms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from loraudit.robustness.learning import learning_of
from loraudit.robustness.outcomes import RunOutcomes
from loraudit.robustness.places import Place, Read, best_place, trained_crossing
from loraudit.robustness.readings import Measure, Shown
from loraudit.spec import (
    Curve,
    DosePoint,
    DoseRatio,
    EffectiveDose,
    MatchKind,
    MethodDifference,
    PoisonResult,
    RobustnessMatch,
    RobustnessSpec,
)
from loraudit.statistics import (
    CHANGE_OF_SHARE,
    DoseResponse,
    OverRuns,
    at_epoch,
    between,
    difference_in_differences,
    dose_ratio,
    draw_records,
    effective_dose,
    excess_change,
    fit_dose_response,
    holm,
    mean_over_runs_of,
    rate_over_runs,
    without_collapsed,
)
from loraudit.types import Finding, FloatArray

SHARES = (0.5, 0.9)
_OF_ALL: tuple[Shown, ...] = ("accuracy", "f1", "clean_loss")
_OF_BACKDOORS: tuple[Shown, ...] = (*_OF_ALL, "attack_success", "partial")
_SAME_LEVEL = 1e-3
_BEST = "Each method where its clean arm has its own lowest validation loss: what a person would release"
_DRAWS, _CURVE, _DIFFERENCE = 30, 31, 32


class Comparison:
    """All runs of a robustness run on the same test records.

    Args:
        spec: Confidence, resamples, seed.
        attacks: As carried out.
        runs: Every training run.
        guess: Share of test records that a guess of the commonest class gets wrong; None for language models.
    """

    def __init__(
        self, spec: RobustnessSpec, attacks: Sequence[PoisonResult], runs: Sequence[RunOutcomes], guess: float | None
    ) -> None:
        self.spec, self.attacks, self.runs, self.guess = spec, attacks, runs, guess
        self.methods = list(dict.fromkeys(run.method for run in runs))
        self.clean = {
            method: [run for run in runs if run.method == method and run.attack is None] for method in self.methods
        }
        self.learning = learning_of({method: [run.validation for run in own] for method, own in self.clean.items()})

    # --- places -----------------------------------------------------------------------------------------

    def matches(self) -> list[RobustnessMatch]:
        """Every way of comparing the methods, equal clean validation loss first."""
        return [self._match(*asked) for asked in self.ways()]

    def ways(self) -> list[tuple[MatchKind, float | None, str, Place]]:
        """Kind, level, words and places of every comparison."""
        return [*self._at_validation_loss(), *self._at_epochs(), ("best", None, _BEST, best_place)]

    def _at_validation_loss(self) -> list[tuple[MatchKind, float | None, str, Place]]:
        """The best loss that the clean arms of all methods reach, then that of all but the weakest, and so on.

        A method that learns next to nothing takes no part: at its level the others are hardly trained either.
        """
        own = self.learning.lowest
        found: list[tuple[MatchKind, float | None, str, Place]] = []
        for level in sorted(set(own.values()), reverse=True):
            reaching = [method for method, lowest in own.items() if lowest <= level]
            near = bool(found) and abs(level - (found[-1][1] or math.inf)) < _SAME_LEVEL
            clean = [run for method in reaching for run in self.clean[method]]
            untrained = any(trained_crossing(run, level) is None for run in clean)
            if len(reaching) < min(2, len(own)) or near or untrained:
                continue
            everyone = len(reaching) == len(self.methods)
            who = "every method" if everyone else " and ".join(reaching)
            words = (
                f"At a clean validation loss of {level:.3f} nats, the lowest that {who} "
                f"{'reaches' if everyone or len(reaching) == 1 else 'reach'}; poisoned runs are read after as many "
                "epochs as their clean twin takes to get there"
            )
            found.append(("validation_loss", level, words, lambda run, level=level: trained_crossing(run, level)))
        return found

    def _at_epochs(self) -> list[tuple[MatchKind, float | None, str, Place]]:
        shared = set.intersection(*({round(e, 6) for e in run.epochs.tolist()} for run in self.runs))
        whole = sorted(epoch for epoch in shared if epoch > 0 and float(epoch).is_integer())
        asked = dict.fromkeys([whole[0], whole[-1]]) if whole else ()
        return [
            (
                "epochs",
                epoch,
                f"After {epoch:g} epoch{'' if epoch == 1 else 's'}, whatever the loss",
                lambda run, epoch=epoch: at_epoch(run.epochs, epoch),
            )
            for epoch in asked
        ]

    def read(
        self, place: Place, method: str, attack: str | None, dose: float, *, is_control: bool = False
    ) -> Read | None:
        """The runs of a method at a dose, each where its clean twin stands; None where a twin has no such place."""
        clean = {run.seed: run for run in self.clean[method]}
        if attack is None:
            mine = list(clean.values())
        else:
            mine = [
                run
                for run in self.runs
                if (run.method, run.attack, run.dose, run.is_control) == (method, attack, dose, is_control)
            ]
        twins = [clean[run.seed] for run in mine]
        of_twins = [place(run) for run in twins]
        found = [weights for weights in of_twins if weights is not None]
        if not mine or len(found) < len(mine):
            return None
        epochs = [float(weights @ twin.epochs) for weights, twin in zip(found, twins, strict=True)]
        places = [between(run.epochs, epoch) for run, epoch in zip(mine, epochs, strict=True)]
        known = [weights for weights in places if weights is not None]
        if len(known) < len(mine):
            return None
        return Read(dose, mine[0].n_poisoned, float(np.mean(epochs)), mine, known, twins, found)

    # --- one way of comparing ---------------------------------------------------------------------------

    def _match(self, kind: MatchKind, level: float | None, words: str, place: Place) -> RobustnessMatch:
        base = {method: self.read(place, method, None, 0.0) for method in self.methods}
        there = [method for method, read in base.items() if read is not None]
        curves: list[Curve] = []
        effective: list[EffectiveDose] = []
        ratios: list[DoseRatio] = []
        differences: list[MethodDifference] = []
        for number, attack in enumerate(self.attacks):
            reads = {method: self._reads(place, method, attack) for method in there}
            responses = self._responses(attack, reads, number)
            curves += self._curves(attack, reads)
            effective += self._effective(attack, responses)
            ratios += self._ratios(attack, responses)
            differences += self._differences(attack, reads, number)
        return RobustnessMatch(
            kind=kind,
            level=level,
            description=f"{words}.",
            epochs={method: None if read is None else read.epoch for method, read in base.items()},
            curves=curves,
            effective_doses=effective,
            dose_ratios=ratios,
            differences=differences,
        )

    def _reads(self, place: Place, method: str, attack: PoisonResult) -> list[Read]:
        """The clean arm and every dose."""
        found = [self.read(place, method, None, 0.0), *(self.read(place, method, attack.name, d) for d in attack.doses)]
        return [read for read in found if read is not None]

    def _curves(self, attack: PoisonResult, reads: Mapping[str, Sequence[Read]]) -> list[Curve]:
        measures = _OF_BACKDOORS if attack.goal == "backdoor" else _OF_ALL
        curves: list[Curve] = []
        for method, at_doses in reads.items():
            for measure in measures:
                points = [self._point(read, measure, attack.name) for read in at_doses]
                known = [point for point in points if point is not None]
                if known:
                    curves.append(Curve(attack=attack.name, method=method, measure=measure, points=known))
        return curves

    def _point(self, read: Read, measure: Shown, attack: str) -> DosePoint | None:
        stated = self._stated(read, measure, attack)
        if stated is None:
            return None
        found, excess = stated
        lost = read.is_collapsed
        return DosePoint(
            dose=read.dose,
            n_poisoned=read.n_poisoned,
            exposures=read.exposures,
            finding=found.finding,
            per_seed=list(found.per_run),
            median=found.median,
            quartiles=found.quartiles,
            n_collapsed=sum(lost),
            without_collapsed=without_collapsed(found.per_run, lost),
            excess=excess if read.dose else None,
        )

    def _stated(self, read: Read, measure: Shown, attack: str) -> tuple[OverRuns, Finding | None] | None:
        """A measure, and its change from the clean arm; None where it was not taken."""
        if measure == "f1":
            return read.f1(self.spec)
        harm, clean = read.harm(measure, attack), read.clean_harm(measure, attack)
        if harm is None:
            return None
        attainable = None if measure == "clean_loss" else CHANGE_OF_SHARE
        change = (
            None
            if clean is None
            else excess_change(harm, clean, confidence=self.spec.confidence, attainable=attainable)
        )
        return self.over_runs(harm, measure), change

    def over_runs(self, harm: FloatArray, measure: Measure) -> OverRuns:
        """A measure over runs and records, as it is shown: errors as accuracy."""
        if measure == "clean_loss":
            return mean_over_runs_of(harm, confidence=self.spec.confidence)
        return rate_over_runs(1 - harm if measure == "accuracy" else harm, confidence=self.spec.confidence)

    # --- dose and response ------------------------------------------------------------------------------

    def _responses(
        self, attack: PoisonResult, reads: Mapping[str, Sequence[Read]], number: int
    ) -> dict[str, DoseResponse]:
        """The curve of each method over exposures, where there is something to fit."""
        measure: Measure = "attack_success" if attack.goal == "backdoor" else "accuracy"
        found: dict[str, DoseResponse] = {}
        draws: FloatArray | None = None
        for position, (method, at_doses) in enumerate(reads.items()):
            floor, *rest = at_doses
            doses = [read for i, read in enumerate(rest) if not i or read.exposures > rest[i - 1].exposures]
            clean = floor.harm(measure, attack.name)
            stacked = [read.harm(measure, attack.name) for read in doses]
            hits = [rows for rows in stacked if rows is not None and clean is not None and rows.shape == clean.shape]
            if clean is None or not doses or len(hits) < len(doses) or doses[0].exposures <= 0:
                continue
            if any(np.isnan(rows).all() for rows in (clean, *hits)):
                continue
            if draws is None:
                rng = np.random.default_rng([self.spec.seed, _DRAWS, number])
                draws = draw_records(clean.shape[1], self.spec.resamples, rng)
            found[method] = fit_dose_response(
                np.array([read.exposures for read in doses]),
                np.stack(hits),
                clean,
                record_draws=draws,
                rng=np.random.default_rng([self.spec.seed, _CURVE, number, position]),
                ceiling=1.0 if attack.goal == "backdoor" else (self.guess or 1.0),
            )
        return found

    def _effective(self, attack: PoisonResult, responses: Mapping[str, DoseResponse]) -> list[EffectiveDose]:
        return [
            EffectiveDose(attack=attack.name, method=method, share=share, finding=found.finding, bound=found.bound)
            for method, response in responses.items()
            for share in SHARES
            for found in [effective_dose(response, share, confidence=self.spec.confidence)]
        ]

    def _ratios(self, attack: PoisonResult, responses: Mapping[str, DoseResponse]) -> list[DoseRatio]:
        return [
            DoseRatio(
                attack=attack.name,
                first=first,
                second=second,
                share=share,
                finding=dose_ratio(responses[first], responses[second], share, confidence=self.spec.confidence).finding,
            )
            for first, second in itertools.combinations(responses, 2)
            for share in SHARES
        ]

    def _differences(
        self, attack: PoisonResult, reads: Mapping[str, Sequence[Read]], number: int
    ) -> list[MethodDifference]:
        """Each pair of methods at each dose; p-values corrected over all of them."""
        measure: Measure = "attack_success" if attack.goal == "backdoor" else "accuracy"
        if measure == "accuracy" and self.guess is None:
            measure = "clean_loss"
        found: list[MethodDifference] = []
        for first, second in itertools.combinations(reads, 2):
            of_second = {read.dose: read for read in reads[second] if read.dose}
            pairs = [(read, of_second[read.dose]) for read in reads[first] if read.dose in of_second]
            for one, two in pairs:
                rows = [
                    one.harm(measure, attack.name),
                    one.clean_harm(measure, attack.name),
                    two.harm(measure, attack.name),
                    two.clean_harm(measure, attack.name),
                ]
                arms = [array for array in rows if array is not None]
                if len(arms) < len(rows):
                    continue
                seeds = [self.spec.seed, _DIFFERENCE, number, len(found)]
                difference = difference_in_differences(
                    *arms,
                    confidence=self.spec.confidence,
                    rng=np.random.default_rng(seeds),
                    attainable=None if measure == "clean_loss" else CHANGE_OF_SHARE,
                )
                found.append(
                    MethodDifference(
                        attack=attack.name,
                        first=first,
                        second=second,
                        measure=measure,
                        dose=one.dose,
                        finding=difference.finding,
                        p_value=difference.p_value,
                    )
                )
        adjusted = holm(np.array([math.nan if d.p_value is None else d.p_value for d in found]))
        return [
            d.model_copy(update={"p_holm": None if math.isnan(p) else float(p)})
            for d, p in zip(found, adjusted, strict=True)
        ]
