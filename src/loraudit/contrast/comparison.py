"""From the scores of every checkpoint to the comparison of methods: curves, matched fit, exposure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.contrast.measuring import Scores
from loraudit.contrast.stating import AUC, Stated, Stating
from loraudit.spec import (
    ContrastSpec,
    ExposureRow,
    Match,
    MatchedArm,
    MatchedDifference,
    MatchKind,
    MeasuredPoint,
    SeededFinding,
)
from loraudit.statistics import (
    AucRows,
    RateRows,
    at_epoch,
    common_level,
    crossing,
    finite,
    holm,
    mean_over_runs,
)
from loraudit.types import BoolArray, FloatArray, IntArray

_SAME_LEVEL = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredRun:
    """One training run with everything measured along it; the first point is the untouched base.

    Attributes:
        arm: Name of the method.
        seed: Of the run.
        epochs: [K] passes done at each point.
        steps: [K].
        validation: [K] validation loss, nats.
        members: [K] mean loss of the members, nats, without dropout.
        nonmembers: [K] likewise.
        scores: K measured checkpoints.
    """

    arm: str
    seed: int
    epochs: FloatArray
    steps: IntArray
    validation: FloatArray
    members: FloatArray
    nonmembers: FloatArray
    scores: Sequence[Scores]


Place = Callable[[MeasuredRun], "FloatArray | None"]
"""Where along a run it is compared: weights over its points, or None where it has no such place."""


class Comparison:
    """All runs of a contrast on the same records.

    Args:
        spec: Headline, rates, confidence, resamples, seed.
        runs: Every training run.
        is_member: [N].
        groups: [N] document of each record, or None.
        copies: [N] exposures in an epoch; read at members only.
    """

    def __init__(
        self,
        spec: ContrastSpec,
        runs: Sequence[MeasuredRun],
        is_member: BoolArray,
        groups: IntArray | None,
        copies: IntArray,
    ) -> None:
        self.spec, self.runs, self.is_member, self.groups, self.copies = spec, runs, is_member, groups, copies
        self.stating = Stating(spec, is_member)
        self.first_rows = np.cumsum([0, *(len(run.epochs) for run in runs)])
        self.n_rows = int(self.first_rows[-1])
        self.arms = list(dict.fromkeys(run.arm for run in runs))
        self.auc_rows = self._auc_rows(spec.headline)
        self.rate_rows = self._rate_rows(spec.headline, range(self.n_rows))

    def _stacked(self, attack: str) -> FloatArray:
        """[M, N] an attack's scores, one row per point of every run."""
        return np.stack([scores.attacks[attack] for run in self.runs for scores in run.scores])

    def _auc_rows(self, attack: str) -> AucRows:
        return AucRows.of(self._stacked(attack), self.is_member, self.groups)

    def _rate_rows(self, attack: str, rows: Sequence[int]) -> RateRows:
        """The rates of some rows; the others count as undefined, which costs nothing."""
        stacked = self._stacked(attack)
        stacked[np.setdiff1d(np.arange(len(stacked)), rows)] = np.nan
        return RateRows.of(
            stacked,
            self.is_member,
            fprs=self.spec.fpr,
            n_resamples=self.spec.resamples,
            rng=np.random.default_rng([self.spec.seed, 20]),
            groups=self.groups,
        )

    # --- along training ---------------------------------------------------------------------------------

    def points(self, run: MeasuredRun) -> list[MeasuredPoint]:
        """The headline at every point of a run."""
        first = int(self.first_rows[[other is run for other in self.runs].index(True)])
        found: list[MeasuredPoint] = []
        for position in range(len(run.epochs)):
            weights = np.zeros(self.n_rows)
            weights[first + position] = 1.0
            found.append(
                MeasuredPoint(
                    step=int(run.steps[position]),
                    epoch=float(run.epochs[position]),
                    validation_loss=float(run.validation[position]),
                    member_loss=float(run.members[position]),
                    nonmember_loss=float(run.nonmembers[position]),
                    findings={
                        name: self.stating.finding(mixed, mixed.interval, "one training run")
                        for name, mixed in self.stating.mixed(self.auc_rows, self.rate_rows, weights).items()
                    },
                )
            )
        return found

    # --- at matched fit ---------------------------------------------------------------------------------

    def matches(self) -> list[Match]:
        """Every way of comparing the methods, equal validation loss first."""
        return [*self._at_validation_loss(), *self._at_training_loss(), *self._at_epochs(), self._at_best()]

    def _at_validation_loss(self) -> list[Match]:
        """The best loss that all methods reach, then those that all but the weakest reach, and so on."""
        fits = {arm: [run.validation for run in self.runs if run.arm == arm] for arm in self.arms}
        own = {arm: common_level(of) for arm, of in fits.items()}
        found: list[Match] = []
        for level in sorted({level for level in own.values() if level is not None}, reverse=True):
            reaching = [arm for arm, best in own.items() if best is not None and best <= level + _SAME_LEVEL]
            if len(reaching) < 2 or (found and abs(level - (found[-1].level or math.inf)) < _SAME_LEVEL):
                continue
            who = "every method reaches" if len(reaching) == len(self.arms) else f"{' and '.join(reaching)} reach"
            found.append(
                self._match(
                    "validation_loss",
                    level,
                    f"At a validation loss of {level:.3f} nats, the lowest that {who}; read off between checkpoints "
                    "where a run first gets there.",
                    lambda run, level=level: crossing(run.validation, level),
                    with_all_attacks=not found,
                )
            )
        return found

    def _at_training_loss(self) -> list[Match]:
        level = common_level([run.members for run in self.runs])
        if level is None:
            return []
        words = f"At a loss of {level:.3f} nats on the members themselves, the lowest that every method reaches."
        return [self._match("training_loss", level, words, lambda run: crossing(run.members, level))]

    def _at_epochs(self) -> list[Match]:
        shared = sorted(set.intersection(*({round(float(e), 6) for e in run.epochs} for run in self.runs)))
        whole = [epoch for epoch in shared if epoch > 0 and float(epoch).is_integer()]
        asked = [float(epoch) for epoch in self.spec.at_epochs] or middle_three(whole)
        return [
            self._match(
                "epochs",
                epoch,
                f"After {epoch:g} epoch{'' if epoch == 1 else 's'}, whatever the loss.",
                lambda run, epoch=epoch: at_epoch(run.epochs, epoch),
            )
            for epoch in asked
        ]

    def _at_best(self) -> Match:
        def best(run: MeasuredRun) -> FloatArray:
            weights = np.zeros(len(run.validation))
            weights[1 + int(np.argmin(run.validation[1:]))] = 1.0
            return weights

        words = "Each training run at its own lowest validation loss: what a person would release."
        return self._match("best", None, words, best)

    def _match(
        self, kind: MatchKind, level: float | None, words: str, place: Place, *, with_all_attacks: bool = False
    ) -> Match:
        places = [place(run) for run in self.runs]
        arms: list[MatchedArm] = []
        reached: dict[str, FloatArray] = {}
        others = [name for name in self.runs[0].scores[0].attacks if name != self.spec.headline]
        rows = sorted(
            int(first) + int(i)
            for first, weights in zip(self.first_rows, places, strict=False)
            if weights is not None
            for i in np.flatnonzero(weights)
        )
        tables = {self.spec.headline: (self.auc_rows, self.rate_rows)}
        if with_all_attacks:
            tables |= {name: (self._auc_rows(name), self._rate_rows(name, rows)) for name in others}
        for arm in self.arms:
            mine = [i for i, run in enumerate(self.runs) if run.arm == arm]
            there = [i for i in mine if places[i] is not None]
            if len(there) < len(mine):
                arms.append(
                    MatchedArm(
                        name=arm, is_reached=False, n_reached=len(there), epoch=None, validation_loss=None, attacks={}
                    )
                )
                continue
            of_runs = [weights for i in there if (weights := places[i]) is not None]
            weights = mean_over_runs(of_runs, [int(self.first_rows[i]) for i in there], self.n_rows)
            reached[arm] = weights
            arms.append(
                MatchedArm(
                    name=arm,
                    is_reached=True,
                    n_reached=len(there),
                    epoch=float(np.mean([w @ self.runs[i].epochs for w, i in zip(of_runs, there, strict=True)])),
                    validation_loss=float(
                        np.mean([w @ self.runs[i].validation for w, i in zip(of_runs, there, strict=True)])
                    ),
                    attacks={
                        name: self._over_seeds(aucs, rates, weights, self._single(there, places))
                        for name, (aucs, rates) in tables.items()
                    },
                )
            )
        return Match(
            kind=kind,
            level=level,
            description=words,
            arms=arms,
            differences=self._differences(reached, places),
        )

    def _single(self, runs: Sequence[int], places: Sequence[FloatArray | None]) -> list[FloatArray]:
        """[n_rows] weights of each run alone."""
        return [
            mean_over_runs([weights], [int(self.first_rows[i])], self.n_rows)
            for i in runs
            if (weights := places[i]) is not None
        ]

    def _over_seeds(
        self, aucs: AucRows, rates: RateRows, weights: FloatArray, single: Sequence[FloatArray]
    ) -> dict[str, SeededFinding]:
        return {
            name: SeededFinding(
                finding=stated.finding,
                per_seed=[finite(value) for value in stated.values[0]],
                seed_deviation=finite(stated.deviations[0]),
            )
            for name, stated in self.stating.stated(
                aucs,
                rates,
                weights,
                [single],
                one_run="records; one training run",
                several=f"records and {len(single)} training runs",
            ).items()
        }

    def _differences(
        self, reached: Mapping[str, FloatArray], places: Sequence[FloatArray | None]
    ) -> list[MatchedDifference]:
        found: list[tuple[str, str, dict[str, Stated]]] = []
        for first, second in itertools.combinations(reached, 2):
            runs = [[i for i, run in enumerate(self.runs) if run.arm == arm] for arm in (first, second)]
            stated = self.stating.stated(
                self.auc_rows,
                self.rate_rows,
                reached[first] - reached[second],
                [self._single(of, places) for of in runs],
                one_run="paired over records; one training run of a method",
                several="paired over records, with the spread of training runs",
            )
            found.append((first, second, stated))
        adjusted = holm(np.array([stated[AUC].p_value for _, _, stated in found])) if found else []
        return [
            MatchedDifference(
                first=first,
                second=second,
                metrics={name: each.finding for name, each in stated.items()},
                p_values={name: finite(each.p_value) for name, each in stated.items()},
                p_holm=finite(float(corrected)),
            )
            for (first, second, stated), corrected in zip(found, adjusted, strict=True)
        ]

    # --- exposure ---------------------------------------------------------------------------------------

    def exposure(self, matches: Sequence[Match]) -> list[ExposureRow]:
        """Members seen equally often, against all non-members: by copies at the end, or else by epochs.

        Args:
            matches: Those at equal epochs are read where all members have as many copies.
        """
        levels = np.unique(self.copies[self.is_member])
        if len(levels) == 1:
            copies = int(levels[0])
            return [
                ExposureRow(
                    arm=arm.name,
                    exposures=round(copies * (match.level or 0)),
                    copies=copies,
                    metrics=arm.attacks[self.spec.headline],
                )
                for match in matches
                for arm in match.arms
                if match.kind == "epochs" and arm.is_reached
            ]
        rows: list[ExposureRow] = []
        for copies in levels:
            taken = ~self.is_member | (self.copies == copies)
            groups = None if self.groups is None else self.groups[taken]
            ends = np.stack([run.scores[-1].attacks[self.spec.headline][taken] for run in self.runs])
            aucs = AucRows.of(ends, self.is_member[taken], groups)
            rates = RateRows.of(
                ends,
                self.is_member[taken],
                fprs=self.spec.fpr,
                n_resamples=self.spec.resamples,
                rng=np.random.default_rng([self.spec.seed, 21, int(copies)]),
                groups=groups,
            )
            for arm in self.arms:
                single = [np.eye(len(self.runs))[i] for i, run in enumerate(self.runs) if run.arm == arm]
                epochs = np.mean([run.epochs[-1] for run in self.runs if run.arm == arm])
                rows.append(
                    ExposureRow(
                        arm=arm,
                        exposures=round(float(copies * epochs)),
                        copies=int(copies),
                        metrics=self._over_seeds(aucs, rates, np.mean(single, axis=0), single),
                    )
                )
        return rows


def middle_three(epochs: Sequence[float]) -> list[float]:
    """The first, a middle one (by ratio) and the last.

    >>> middle_three([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    [1, 3, 10]
    """
    if len(epochs) <= 3:
        return list(epochs)
    middle = math.sqrt(epochs[0] * epochs[-1])
    return [epochs[0], min(epochs[1:-1], key=lambda epoch: abs(math.log(epoch / middle))), epochs[-1]]
