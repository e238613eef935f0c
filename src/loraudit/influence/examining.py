"""From kernels and measurements to the numbers of every method, and to one row per record and method."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from loraudit.influence import comparing
from loraudit.influence.comparing import EXCESS, GAIN, OWN, SCORE, Records, excess, set_against
from loraudit.influence.extracting import Suffixes
from loraudit.influence.measuring import Measured, refusal, training_weights
from loraudit.influence.methods import Kernelled
from loraudit.influence.predicting import Fit, Flows, mean_fit, own_draw_error
from loraudit.influence.preparation import Prepared
from loraudit.spec import FIT_FLOWS, FitFlow, FitPrediction, InfluenceMethod, InfluenceSpec, MethodGap
from loraudit.statistics import mean_difference, mean_finding
from loraudit.types import Finding, FloatArray, IntArray


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
        self.suffixes = Suffixes(spec, prepared, measured, self.records, self.groups)
        self.weights = training_weights(prepared)
        self.columns: dict[str, dict[str, FloatArray]] = {}
        self._own: dict[str, dict[FitFlow, FloatArray]] = {}
        self._gains: dict[str, FloatArray] = {}

    def examined(self) -> Examined:
        """Every method, the first one as what the others are compared with."""
        methods = [self._method(one) for one in self.prepared.methods]
        return Examined(methods, self.suffixes.of_base(), self.columns)

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
        flows: dict[FitFlow, Flows] = {} if refused else {flow: self._flows(flow, one) for flow in FIT_FLOWS}
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
            extraction=self.suffixes.extraction(one.name, flows, columns),
        )

    # --- at the matched loss -----------------------------------------------------------------------------

    def _flows(self, flow: FitFlow, one: Kernelled) -> Flows:
        return Flows(
            flow,
            self.measured.kernels[one.name],
            self.measured.values,
            self.prepared.probe,
            self.weights,
            self.prepared.contrast.n_members,
        )

    def _prediction(self, one: Kernelled, flow: FitFlow, made: Flows, gains: FloatArray) -> FitPrediction:
        prepared, records = self.prepared, self.records
        fits = made.fits_at(prepared.contrast.base_validation_loss - prepared.level)
        if fits is None:
            return FitPrediction(flow=flow, time=None)
        fit = mean_fit(fits)
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
            time=fit.time,
            own=mean_finding(fit.own, confidence=self.spec.confidence, groups=records.groups_of(members)),
            own_draw_error=own_draw_error(fits),
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
                    "self_influence": pa.array(np.diag(self.measured.kernels[method].mean(axis=0))[: self.n].copy()),
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
