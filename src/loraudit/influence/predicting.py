"""What gradient flow on the members would do to every record, from the kernels of one method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize

from loraudit.influence.probes import Probe
from loraudit.spec import FitFlow
from loraudit.theory import Decomposition, changes_with_share, decompose, learned
from loraudit.types import FloatArray, IntArray

_TIMES = np.geomspace(1e-4, 1e6, 201)
"""In units of 1 / the mean diagonal of the kernel, for a loss that is a mean over the members."""


class Fit(NamedTuple):
    """Every record at one time of a flow, in nats per token.

    Attributes:
        time: In units of 1 / the mean diagonal of the kernel.
        members: [M] f after minus f before.
        without: [M] the same, had the member not been trained on.
        nonmembers: [V] likewise of records that were not.
        suffixes: [outputs − n] of the suffixes, in the probe's order.
    """

    time: float
    members: FloatArray
    without: FloatArray
    nonmembers: FloatArray
    suffixes: FloatArray

    @property
    def own(self) -> FloatArray:
        """[M] f with the record minus f without it: what is the record's own doing."""
        return self.members - self.without


class Flows:
    """One method's training, followed once for every draw of A that it may begin with.

    A run has one draw. The mean kernel of D draws at rank r has the law of one draw at rank D·r, up to a number, so a
    flow under it would be that of another method: every draw is followed with a kernel and a time of its own.

    Args:
        flow: Which.
        kernels: [draws, outputs, outputs]; a single one of a method without draws.
        values: [outputs] f at the base.
        probe: What the outputs are.
        weights: [M] what each member counts in the loss, 1 on average.
        n_trained: N.
    """

    def __init__(
        self, flow: FitFlow, kernels: FloatArray, values: FloatArray, probe: Probe, weights: FloatArray, n_trained: int
    ) -> None:
        self.draws = [Flow(flow, kernel, values, probe, weights, n_trained) for kernel in kernels]

    def fits_at(self, gain: float) -> list[Fit] | None:
        """Every record when non-members have gained so much, by draw; None where under one they never do.

        Args:
            gain: Nats per token.
        """
        fits: list[Fit] = []
        for made in self.draws:
            time = made.time_at(gain)
            if time is None:
                return None
            fits.append(made.fit_at(time))
        return fits


def mean_fit(fits: Sequence[Fit]) -> Fit:
    """Of every number the mean over draws: what is predicted of a record before A is drawn."""
    time = float(np.mean([one.time for one in fits]))
    return Fit(time, *(np.mean(parts, axis=0) for parts in zip(*(one[1:] for one in fits), strict=True)))


def own_draw_error(fits: Sequence[Fit]) -> float | None:
    """Standard error over draws of the members' mean own part; None where a single kernel shows no spread."""
    means = np.array([one.own.mean() for one in fits])
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else None


class Flow:
    """Gradient flow from one kernel at the base.

    The squared flow goes down ½ Σ w f² / Σ w and ends where every member has f = 0, which is probability 1. The log
    flow goes down −Σ w f / Σ w, the loss that training takes; f is linear in time there and never ends. m members
    stand for all N: others count (N − 1) / (m − 1) each, the record that is looked at counts once
    (`changes_with_share`).

    Args:
        flow: Which.
        kernel: [outputs, outputs].
        values: [outputs] f at the base.
        probe: What the outputs are.
        weights: [M] what each member counts in the loss, 1 on average.
        n_trained: N.
    """

    def __init__(
        self, flow: FitFlow, kernel: FloatArray, values: FloatArray, probe: Probe, weights: FloatArray, n_trained: int
    ) -> None:
        members = probe.members
        self.flow, self.probe = flow, probe
        self.root = np.sqrt(weights)
        speed = float(np.diag(kernel)[members].mean())
        self.cross = kernel[:, members] / speed * self.root  # [outputs, M], columns as the weighted loss has them
        self.gram: Decomposition = decompose(self.cross[members] * self.root[:, None])
        self.residual = self.root * (-values[members] if flow == "squared" else 1.0)
        m = len(members)
        self.rate = 1 / m
        self.rate_of_others = (n_trained - 1) / (n_trained * (m - 1))
        self.share = (m - 1) / (n_trained - 1)

    def time_at(self, gain: float) -> float | None:
        """When non-members have gained so much, tokens weighing alike; None where they never do.

        Args:
            gain: Nats per token.
        """
        nonmembers = self.probe.nonmembers
        weights = self.probe.n_tokens[nonmembers] / self.probe.n_tokens[nonmembers].sum()

        def missing(time: float) -> float:
            return float(weights @ self._gains(nonmembers, time)) - gain

        if gain <= 0:
            return None
        before = 0.0
        for time in _TIMES:
            if missing(time) >= 0:
                return float(optimize.brentq(missing, before, time, rtol=1e-10))
            before = float(time)
        return None

    def fit_at(self, time: float) -> Fit:
        """Every record at one time."""
        probe, n = self.probe, self.probe.n_records
        of_member = probe.is_member[probe.suffix_of]
        suffixes = np.full(len(probe.suffix_of), math.nan)
        suffixes[~of_member] = self._gains(n + np.flatnonzero(~of_member), time)
        # A member's suffix rests on the member, so it gets the row of its own record.
        places = np.searchsorted(probe.members, probe.suffix_of[of_member])
        cross = np.zeros((len(probe.members), len(probe.members)))
        cross[places] = self.cross[n + np.flatnonzero(of_member)]
        suffixes[of_member] = self._own_gains(cross, time, self.share)[places]
        own = self.cross[probe.members]
        return Fit(
            time,
            self._own_gains(own, time, self.share),
            self._own_gains(own, time, 0.0),
            self._gains(probe.nonmembers, time),
            suffixes,
        )

    def _gains(self, outputs: IntArray, time: float) -> FloatArray:
        """Of outputs of records that are not trained on."""
        cross = self.cross[outputs]
        if self.flow == "log":
            return time * self.rate * (cross @ self.residual)
        factors = learned(self.gram.values, np.array([time]), rate=self.rate)[0]
        return (cross @ self.gram.vectors) @ (factors * (self.gram.vectors.T @ self.residual))

    def _own_gains(self, cross: FloatArray, time: float, share: float) -> FloatArray:
        """[M] of one output of each member, which itself counts a share of what others count."""
        if self.flow == "log":
            whole, own = cross @ self.residual, np.diag(cross) * self.residual
            return time * self.rate_of_others * (whole - (1 - share) * own)
        return changes_with_share(
            self.gram,
            cross,
            self.residual,
            times=np.array([time]),
            learning_rate=self.rate_of_others,
            share=share,
        )[0]
