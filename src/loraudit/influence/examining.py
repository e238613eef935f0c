"""From kernels and measurements to the numbers of every method, and to one row per record and method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from loraudit.influence import comparing
from loraudit.influence.comparing import EXCESS, GAIN, OWN, SCORE, SUFFIX, SUFFIX_GAIN, Records, excess, set_against
from loraudit.influence.measured import final_point
from loraudit.influence.measuring import Measured, refusal, training_weights
from loraudit.influence.methods import Kernelled
from loraudit.influence.predicting import Fit, Flow
from loraudit.influence.preparation import Prepared
from loraudit.spec import (
    FIT_FLOWS,
    ExtractionOutcome,
    FitAgreement,
    FitFlow,
    FitPrediction,
    InfluenceMethod,
    InfluenceSpec,
    MethodExtraction,
    MethodGap,
)
from loraudit.statistics import Interval, mean_difference, mean_finding
from loraudit.types import BoolArray, Finding, FloatArray, IntArray

_RATE = Interval(0.0, 1.0)


class Examined(NamedTuple):
    """What a result states.

    Attributes:
        methods: Of the contrast, as far as they have a kernel.
        base_extraction: Of the members' suffixes under the base.
        columns: Of `influence.parquet`, by method.
    """

    methods: list[InfluenceMethod]
    base_extraction: dict[str, Finding]
    columns: dict[str, dict[str, FloatArray]]


class Examination:
    """Predictions of all methods beside what the contrast measured.

    Args:
        spec: The request.
        prepared: Contrast, records, methods.
        measured: What the base says.
    """

    def __init__(self, spec: InfluenceSpec, prepared: Prepared, measured: Measured) -> None:
        self.spec, self.prepared, self.measured = spec, prepared, measured
        probe, sides = prepared.probe, prepared.sides
        self.n = probe.n_records
        self.base = measured.values[: self.n]
        self.records = Records(
            probe.is_member,
            group_numbers([sides.records[int(i)].group for i in probe.chosen]),
            {
                comparing.BASE_LOSS: -self.base,
                comparing.LENGTH: probe.n_tokens.astype(np.float64),
                comparing.SELF: measured.full_self[: self.n],
            },
            spec.confidence,
        )
        self.groups = group_numbers([record.group for record in sides.records])
        self.weights = training_weights(prepared)
        self.columns: dict[str, dict[str, FloatArray]] = {}
        self._own: dict[str, dict[FitFlow, FloatArray]] = {}
        self._gains: dict[str, FloatArray] = {}

    def examined(self) -> Examined:
        """Every method, the first one as what the others are compared with."""
        methods = [self._method(one) for one in self.prepared.methods]
        return Examined(methods, self._base_extraction(), self.columns)

    def _method(self, one: Kernelled) -> InfluenceMethod:
        prepared = self.prepared
        arm = prepared.arms[one.name]
        gains = arm.values - prepared.sides.base
        self._gains[one.name] = gains
        chosen = gains[prepared.probe.chosen]
        refused = refusal(self.spec, one, self.measured)
        columns: dict[str, FloatArray] = {"measured_gain": chosen}
        columns |= {f"measured_{name}": values[prepared.probe.chosen] for name, values in arm.scores.items()}
        self.columns[one.name], self._own[one.name] = columns, {}
        flows: dict[FitFlow, Flow] = {} if refused else {flow: self._flow(flow, one) for flow in FIT_FLOWS}
        predictions = [self._prediction(one, flow, own, chosen) for flow, own in flows.items()]
        of_lora: dict[str, Any] = {}
        if one.method == "lora":
            kinds = {kind for kind in self.measured.kinds if one.adapts(kind)}
            of_lora = {"rank": one.rank, "alpha": one.alpha, "variance": one.variance, "kinds": sorted(kinds)}
        return InfluenceMethod(
            name=one.name,
            method=one.method,
            **of_lora,
            monte_carlo_error=self.measured.errors[one.name],
            epoch=arm.epoch,
            n_runs=len(arm.arm.runs),
            linearity=self.measured.linearity[one.name],
            refused=refused,
            gap=self._difference(gains),
            gain=mean_finding(
                chosen[~self.records.is_member],
                confidence=self.spec.confidence,
                groups=self.records.groups_of(~self.records.is_member),
                are_members=False,
            ),
            predictions=predictions,
            against=self._against(one),
            extraction=self._extraction(one, flows),
        )

    # --- at the matched loss -----------------------------------------------------------------------------

    def _flow(self, flow: FitFlow, one: Kernelled) -> Flow:
        return Flow(
            flow,
            self.measured.kernels[one.name],
            self.measured.values,
            self.prepared.probe,
            self.weights,
            self.prepared.contrast.n_members,
        )

    def _prediction(self, one: Kernelled, flow: FitFlow, made: Flow, gains: FloatArray) -> FitPrediction:
        prepared, records = self.prepared, self.records
        time = made.time_at(prepared.contrast.base_validation_loss - prepared.level)
        if time is None:
            return FitPrediction(flow=flow, time=None)
        fit = made.fit_at(time)
        is_member, members, others = records.is_member, prepared.probe.members, prepared.probe.nonmembers
        over = excess(fit, gains, is_member, records.baselines, (comparing.BASE_LOSS, comparing.LENGTH))
        self._own[one.name][flow] = fit.own
        self._keep(one, flow, fit, over)
        agreements = [
            set_against(records, members, fit.members, gains[members], names=(GAIN, GAIN), are_members=True),
            set_against(records, others, fit.nonmembers, gains[others], names=(GAIN, GAIN), are_members=False),
            set_against(records, members, fit.own, over, names=(OWN, EXCESS), are_members=True),
        ]
        for name, scores in prepared.arms[one.name].scores.items():
            measured = scores[prepared.probe.chosen][members]
            agreements.append(
                set_against(records, members, fit.own, measured, names=(OWN, SCORE + name), are_members=True)
            )
        return FitPrediction(
            flow=flow,
            time=time,
            own=mean_finding(fit.own, confidence=self.spec.confidence, groups=records.groups_of(members)),
            gap=mean_difference(
                fit.members,
                fit.nonmembers,
                confidence=self.spec.confidence,
                first_groups=records.groups_of(members),
                second_groups=records.groups_of(others),
            ),
            agreements=agreements,
        )

    def _keep(self, one: Kernelled, flow: FitFlow, fit: Fit, over: FloatArray) -> None:
        is_member, columns = self.records.is_member, self.columns[one.name]
        for name, of_members, of_others in (
            ("gain", fit.members, fit.nonmembers),
            ("own", fit.own, np.zeros(int((~is_member).sum()))),
        ):
            values = np.empty(self.n)
            values[is_member], values[~is_member] = of_members, of_others
            columns[f"predicted_{name}_{flow}"] = values
        columns[f"measured_excess_{flow}"] = np.full(self.n, np.nan)
        columns[f"measured_excess_{flow}"][is_member] = over

    def _difference(self, values: FloatArray) -> Finding:
        """Members minus non-members, over all records of the contrast."""
        is_member = self.prepared.sides.is_member
        groups = [None if self.groups is None else self.groups[side] for side in (is_member, ~is_member)]
        return mean_difference(
            values[is_member],
            values[~is_member],
            confidence=self.spec.confidence,
            first_groups=groups[0],
            second_groups=groups[1],
        )

    def _against(self, one: Kernelled) -> MethodGap | None:
        first = self.prepared.methods[0].name
        if one.name == first:
            return None
        own, reference = self._own[one.name], self._own[first]
        return MethodGap(
            other=first,
            predicted={
                flow: mean_finding(
                    reference[flow] - own[flow],
                    confidence=self.spec.confidence,
                    groups=self.records.groups_of(self.prepared.probe.members),
                )
                for flow in FIT_FLOWS
                if flow in own and flow in reference
            },
            measured=self._difference(self._gains[first] - self._gains[one.name]),
        )

    # --- suffixes at the end of training -----------------------------------------------------------------

    def _extraction(self, one: Kernelled, flows: Mapping[FitFlow, Flow]) -> MethodExtraction | None:
        prepared = self.prepared
        suffixes = prepared.suffixes
        if suffixes is None or one.name not in suffixes.tuned:
            return None
        arm = prepared.arms[one.name].arm
        run = arm.runs[0]
        validation = np.array([point.validation_loss for point in run.points])
        end = final_point(arm, run)
        gain = float(prepared.contrast.base_validation_loss - validation[end])
        log_p, is_member = suffixes.tuned[one.name], prepared.sides.is_member
        outcomes = [self._outcome(one, flow, made, gain, log_p) for flow, made in flows.items()]
        return MethodExtraction(
            validation_gain=gain,
            is_past_best=bool(validation.min() < validation[end] - 1e-9),
            log_p=self._side_mean(log_p, is_member, is_rate=False),
            share=self._side_mean(self._passes(log_p), is_member),
            held_out_log_p=self._side_mean(log_p, ~is_member, is_rate=False),
            held_out_share=self._side_mean(self._passes(log_p), ~is_member),
            predicted=outcomes,
        )

    def _outcome(self, one: Kernelled, flow: FitFlow, made: Flow, gain: float, log_p: FloatArray) -> ExtractionOutcome:
        probe, suffixes = self.prepared.probe, self.prepared.suffixes
        time = made.time_at(gain)
        if time is None or suffixes is None:
            return ExtractionOutcome(flow=flow, time=None, log_p=None, share=None, held_out_share=None)
        changes = made.fit_at(time).suffixes
        before = self.measured.values[self.n :]
        predicted = np.minimum(suffixes.suffix * (before + changes), 0.0)
        where = probe.suffix_of
        is_member = probe.is_member[where]
        found = log_p[probe.chosen[where]]
        base = suffixes.base[probe.chosen[where]]
        for name, values in (("predicted", predicted), ("measured", found)):
            column = np.full(self.n, np.nan)
            column[where] = values
            self.columns[one.name][f"{name}_suffix_log_p" + (f"_{flow}" if name == "predicted" else "")] = column
        own = Records(
            is_member,
            self.records.groups_of(where),
            {**{name: values[where] for name, values in self.records.baselines.items()}, "base_suffix": before},
            self.spec.confidence,
        )
        agreements: list[FitAgreement] = []
        for are_members in (True, False):
            side = np.flatnonzero(is_member == are_members)
            for names, theirs, ours in (
                ((SUFFIX_GAIN, SUFFIX_GAIN), changes, found - base),
                ((SUFFIX, SUFFIX), predicted, found),
            ):
                agreements.append(
                    set_against(own, side, theirs[side], ours[side], names=names, are_members=are_members)
                )
        groups = own.groups
        shares = [
            mean_finding(
                self._passes(predicted[side]),
                confidence=self.spec.confidence,
                groups=None if groups is None else groups[side],
                attainable=_RATE,
                are_members=are_members,
            )
            for are_members, side in ((True, is_member), (False, ~is_member))
        ]
        mean = mean_finding(
            predicted[is_member],
            confidence=self.spec.confidence,
            groups=None if groups is None else groups[is_member],
        )
        return ExtractionOutcome(
            flow=flow, time=time, log_p=mean, share=shares[0], held_out_share=shares[1], agreements=agreements
        )

    def _base_extraction(self) -> dict[str, Finding]:
        suffixes = self.prepared.suffixes
        if suffixes is None:
            return {}
        is_member = self.prepared.sides.is_member
        return {
            "log_p": self._side_mean(suffixes.base, is_member, is_rate=False),
            "share": self._side_mean(self._passes(suffixes.base), is_member),
        }

    def _passes(self, log_p: FloatArray) -> FloatArray:
        """1 where a suffix is extractable, 0 where not, NaN where undefined."""
        return np.where(np.isnan(log_p), np.nan, log_p >= math.log(self.spec.extractable))

    def _side_mean(self, values: FloatArray, side: BoolArray, *, is_rate: bool = True) -> Finding:
        return mean_finding(
            values[side],
            confidence=self.spec.confidence,
            groups=None if self.groups is None else self.groups[side],
            attainable=_RATE if is_rate else None,
            are_members=bool(self.prepared.sides.is_member[side].all()),
        )

    def table(self, ids: list[str]) -> pa.Table:
        """`influence.parquet`: one row per record and method; no text, no source.

        Args:
            ids: [n] shown ids of the probed records.
        """
        probe = self.prepared.probe
        facts = {
            "id": pa.array(ids, pa.string()),
            "is_member": pa.array(probe.is_member),
            "n_copies": pa.array(self.prepared.sides.n_copies[probe.chosen]),
            "n_tokens": pa.array(probe.n_tokens),
            "base_loss": pa.array(-self.base),
            "full_self_influence": pa.array(self.measured.full_self[: self.n]),
        }
        names = list(dict.fromkeys(name for columns in self.columns.values() for name in columns))
        parts = [
            pa.table(
                {
                    "method": pa.array([method] * self.n),
                    **facts,
                    "self_influence": pa.array(np.diag(self.measured.kernels[method])[: self.n].copy()),
                    **{name: pa.array(columns.get(name, np.full(self.n, np.nan))) for name in names},
                }
            )
            for method, columns in self.columns.items()
        ]
        return pa.concat_tables(parts)


def group_numbers(names: list[str | None]) -> IntArray | None:
    """Document of each record as a number; a record without a name stands alone; None where none has one."""
    if all(name is None for name in names):
        return None
    known: dict[str, int] = {}
    return np.array([known.setdefault(f"\0{i}" if name is None else name, len(known)) for i, name in enumerate(names)])
