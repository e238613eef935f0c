"""Suffixes after training: what is predicted of them beside what the audits of the contrast measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from loraudit.influence.comparing import SUFFIX, SUFFIX_GAIN, Records, set_against
from loraudit.influence.measured import MeasuredSuffixes, final_point
from loraudit.influence.measuring import Measured
from loraudit.influence.predicting import Fit, Flows
from loraudit.influence.preparation import Prepared
from loraudit.spec import ExtractionOutcome, FitAgreement, FitFlow, InfluenceSpec, MethodExtraction
from loraudit.statistics import Interval, mean_finding
from loraudit.types import BoolArray, Finding, FloatArray, IntArray

_RATE = Interval(0.0, 1.0)


class Suffixes:
    """Suffixes of the records, at the end of each method's first training run.

    Args:
        spec: The request.
        prepared: Contrast, records, methods.
        measured: What the base says.
        records: Those that are probed.
        groups: [N] document of each record of the contrast, or None.
    """

    def __init__(
        self, spec: InfluenceSpec, prepared: Prepared, measured: Measured, records: Records, groups: IntArray | None
    ) -> None:
        self.spec, self.prepared = spec, prepared
        self.groups = groups
        probe = prepared.probe
        self.where = probe.suffix_of
        self.before = measured.values[probe.n_records :]
        own = {name: values[self.where] for name, values in records.baselines.items()}
        self.records = Records(
            probe.is_member[self.where],
            records.groups_of(self.where),
            {**own, "base_suffix": self.before},
            spec.confidence,
        )

    def of_base(self) -> dict[str, Finding]:
        """Mean log p and share of the members' suffixes before any training; nothing where none was measured."""
        suffixes = self.prepared.suffixes
        if suffixes is None:
            return {}
        is_member = self.prepared.sides.is_member
        return {
            "log_p": self._side_mean(suffixes.base, is_member, is_rate=False),
            "share": self._side_mean(self._passes(suffixes.base), is_member),
        }

    def extraction(
        self, name: str, flows: Mapping[FitFlow, Flows], columns: dict[str, FloatArray]
    ) -> MethodExtraction | None:
        """One method; None where its suffixes were not measured.

        Args:
            name: Of the method.
            flows: Of its kernels.
            columns: Of `influence.parquet`: those of suffixes are added.
        """
        prepared, suffixes = self.prepared, self.prepared.suffixes
        if suffixes is None or name not in suffixes.tuned:
            return None
        arm = prepared.arms[name].arm
        run = arm.runs[0]
        validation = np.array([point.validation_loss for point in run.points])
        end = final_point(arm, run)
        gain = float(prepared.contrast.base_validation_loss - validation[end])
        log_p, is_member = suffixes.tuned[name], prepared.sides.is_member
        predicted: list[ExtractionOutcome] = []
        for flow, made in flows.items():
            fits = made.fits_at(gain)
            if fits is None:
                none = ExtractionOutcome(flow=flow, time=None, log_p=None, share=None, held_out_share=None)
                predicted.append(none)
                continue
            predicted.append(self._outcome(flow, fits, suffixes, log_p, columns))
        return MethodExtraction(
            validation_gain=gain,
            is_past_best=bool(validation.min() < validation[end] - 1e-9),
            log_p=self._side_mean(log_p, is_member, is_rate=False),
            share=self._side_mean(self._passes(log_p), is_member),
            held_out_log_p=self._side_mean(log_p, ~is_member, is_rate=False),
            held_out_share=self._side_mean(self._passes(log_p), ~is_member),
            predicted=predicted,
        )

    def _outcome(
        self,
        flow: FitFlow,
        fits: Sequence[Fit],
        suffixes: MeasuredSuffixes,
        log_p: FloatArray,
        columns: dict[str, FloatArray],
    ) -> ExtractionOutcome:
        probe = self.prepared.probe
        changes = np.stack([one.suffixes for one in fits])  # [draws, suffixes]
        # Each draw has its log p and passes or does not; a record's are the means of that.
        of_draws = np.minimum(suffixes.suffix * (self.before + changes), 0.0)
        gained, predicted, passes = (part.mean(axis=0) for part in (changes, of_draws, self._passes(of_draws)))
        found, base = (values[probe.chosen[self.where]] for values in (log_p, suffixes.base))
        for name, values in ((f"predicted_suffix_log_p_{flow}", predicted), ("measured_suffix_log_p", found)):
            columns[name] = np.full(probe.n_records, np.nan)
            columns[name][self.where] = values
        agreements: list[FitAgreement] = []
        for are_members in (True, False):
            side = np.flatnonzero(self.records.is_member == are_members)
            for name, theirs, ours in ((SUFFIX_GAIN, gained, found - base), (SUFFIX, predicted, found)):
                agreements.append(
                    set_against(
                        self.records, side, theirs[side], ours[side], names=(name, name), are_members=are_members
                    )
                )
        return ExtractionOutcome(
            flow=flow,
            time=float(np.mean([one.time for one in fits])),
            log_p=self._probed_mean(predicted, are_members=True),
            share=self._probed_mean(passes, are_members=True, attainable=_RATE),
            held_out_share=self._probed_mean(passes, are_members=False, attainable=_RATE),
            agreements=agreements,
        )

    def _passes(self, log_p: FloatArray) -> FloatArray:
        """1 where a suffix is extractable, 0 where not, NaN where undefined."""
        return np.where(np.isnan(log_p), np.nan, log_p >= math.log(self.spec.extractable))

    def _probed_mean(self, values: FloatArray, *, are_members: bool, attainable: Interval | None = None) -> Finding:
        """Over the probed suffixes of one side."""
        side = self.records.is_member == are_members
        return mean_finding(
            values[side],
            confidence=self.spec.confidence,
            groups=self.records.groups_of(side),
            attainable=attainable,
            are_members=are_members,
        )

    def _side_mean(self, values: FloatArray, side: BoolArray, *, is_rate: bool = True) -> Finding:
        """Over all records of the contrast on one side."""
        return mean_finding(
            values[side],
            confidence=self.spec.confidence,
            groups=None if self.groups is None else self.groups[side],
            attainable=_RATE if is_rate else None,
            are_members=bool(self.prepared.sides.is_member[side].all()),
        )
