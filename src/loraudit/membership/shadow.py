"""Attacks calibrated by shadow models: models of the target's recipe that have not seen the record.

Against the base, most of what an adapter gains is the domain's, shared by members and non-members. A shadow
learned the domain too, so that what the target gains over shadows is the record's own. Views `shadow/0` to
`shadow/K-1` hold K shadows, none of which was trained on the record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from loraudit.membership.attack import SHADOWS, SHADOWS_IN, Attack, ScoreFunction, attack, fitted_attack
from loraudit.membership.calibrated import reference_difference, reference_ratio
from loraudit.membership.error_zone import error_zone
from loraudit.membership.token_votes import paired_t, window_vote
from loraudit.types import FloatArray, TokenScores, Views

_NEEDS = ("target", SHADOWS)
_LIRA = "LiRA, Carlini et al. 2022, arXiv:2112.03570"
SHADOW_TWIN = "shadow_"
"""What stands before the name of an attack on target and reference, where the shadows' mean is the reference."""
OWN_VARIANCE_FROM = 64
"""Shadows from which on each record has a variance of its own, as Carlini et al. have it."""
RMIA_GAMMA = 1.0
RMIA_A = 1.0
"""Of RMIA's estimate p(x) = ((1 + a)·mean_out + (1 − a)) / 2. Published values of a lie below 1, and of γ at 2, for
image classifiers. Where a token has a probability of a hundredth, (1 − a) / 2 would drown the shadows; and doubling the
probability of every token of a record is more than training does (both ours)."""
_SURE = 1e-12
_NO_VARIANCE = 1e-12


def confidence(scores: TokenScores) -> FloatArray:
    """[N] φ = log p − log(1 − p) with p = exp(mean log-probability), which is about Gaussian over models."""
    mean = np.minimum(scores.log_prob.mean(axis=1, dtype=np.float64), -_SURE)
    return mean - np.log(-np.expm1(mean))


def signals(views: Views) -> tuple[FloatArray, FloatArray]:
    """φ of the target, [N], and of the shadows, [N, K]."""
    return confidence(views.target), _confidences(views.shadows)


def _confidences(shadows: Sequence[TokenScores]) -> FloatArray:
    """[N, K] φ of several models."""
    return np.stack([confidence(shadow) for shadow in shadows], axis=1)


# --- variances ----------------------------------------------------------------------------------------


class Prior(NamedTuple):
    """Inverse-gamma prior of a variance: as if `degrees` more observations had had the variance `variance`.

    Attributes:
        variance: s₀².
        degrees: d₀; inf where all variances are one.
    """

    variance: float
    degrees: float

    def posterior(self, variances: FloatArray, degrees: int) -> FloatArray:
        """Variances drawn towards the prior's, each seen with `degrees` degrees of freedom."""
        if math.isinf(self.degrees):
            return np.full_like(variances, self.variance)
        return (self.degrees * self.variance + degrees * variances) / (self.degrees + degrees)


def fit_prior(variances: Iterable[FloatArray], degrees: int) -> Prior:
    """The prior under which sample variances scatter as these do, by the moments of their logarithms.

    Args:
        variances: Sample variances, in parts.
        degrees: Of freedom of each; at least 1.

    References:
        Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1), section 6.2.
    """
    n, total, squares = 0, 0.0, 0.0
    for part in variances:
        logs = np.log(np.maximum(part, _NO_VARIANCE))
        n, total, squares = n + logs.size, total + float(logs.sum()), squares + float((logs**2).sum())
    if n == 0:
        return Prior(1.0, math.inf)
    half = degrees / 2
    mean = total / n - float(special.digamma(half)) + math.log(half)
    spread = (squares - total**2 / n) / max(1, n - 1) - float(special.polygamma(1, half))
    if spread <= 0:
        return Prior(math.exp(mean), math.inf)
    prior_half = _inverse_trigamma(spread)
    return Prior(math.exp(mean + float(special.digamma(prior_half)) - math.log(prior_half)), 2 * prior_half)


def _inverse_trigamma(value: float) -> float:
    """The x at which ψ'(x) is `value`, by Newton's steps on 1/ψ', which is nearly straight."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x


def _variances(out: FloatArray) -> FloatArray:
    """Sample variance over the last axis."""
    return np.asarray(out.var(axis=-1, ddof=1), dtype=np.float64)


def _mean_variance(parts: Iterable[FloatArray]) -> float:
    """Of [N, K] signals, within records, over shadows; 1 where there is one shadow."""
    n, total = 0, 0.0
    for out in parts:
        if out.shape[1] < 2:
            return 1.0
        n, total = n + len(out), total + float(_variances(out).sum())
    return max(total / n, _NO_VARIANCE) if n else 1.0


def _deviation(out: FloatArray, shared: float) -> FloatArray:
    """[N] standard deviation of each record's [N, K] signals; the shared one where there are few shadows."""
    if out.shape[1] < OWN_VARIANCE_FROM:
        return np.full(len(out), shared)
    return np.sqrt(np.maximum(_variances(out), _NO_VARIANCE))


# --- attacks ------------------------------------------------------------------------------------------


@fitted_attack(
    "lira_offline",
    needs=_NEEDS,
    source=f"{_LIRA}, offline; one variance for all records below {OWN_VARIANCE_FROM} shadows",
    summary="How far the target's confidence lies above the shadows', in their standard deviations.",
)
def lira_offline(population: Iterable[Views]) -> ScoreFunction:
    """[N] z = (φ − μ_out) / s_out. Not Φ(z), whose largest values are ties."""
    shared = math.sqrt(_mean_variance(_confidences(views.shadows) for views in population))

    def score(views: Views) -> FloatArray:
        target, out = signals(views)
        return (target - out.mean(axis=1)) / _deviation(out, shared)

    return score


@fitted_attack(
    "lira_online",
    needs=(*_NEEDS, SHADOWS_IN),
    source=f"{_LIRA}, online; two variances for all records below {OWN_VARIANCE_FROM} shadows",
    summary="How much likelier the target's confidence is among shadows that saw the record than among the others.",
)
def lira_online(population: Iterable[Views]) -> ScoreFunction:
    """[N] log N(φ; μ_in, s_in) − log N(φ; μ_out, s_out)."""
    shared_out = math.sqrt(_mean_variance(_confidences(views.shadows) for views in population))
    shared_in = math.sqrt(_mean_variance(_confidences(views.shadows_in) for views in population))

    def score(views: Views) -> FloatArray:
        target, out = signals(views)
        seen = _confidences(views.shadows_in)
        s_out, s_in = _deviation(out, shared_out), _deviation(seen, shared_in)
        z_out, z_in = (target - out.mean(axis=1)) / s_out, (target - seen.mean(axis=1)) / s_in
        return (z_out**2 - z_in**2) / 2 + np.log(s_out / s_in)

    return score


@fitted_attack(
    "bavaria",
    needs=_NEEDS,
    source="BaVarIA, arXiv:2603.11799: normal-inverse-gamma; its prior by the moments of Smyth 2004 (ours)",
    summary="The same with each record's variance drawn towards that of all: a Student-t statistic.",
)
def bavaria(population: Iterable[Views]) -> ScoreFunction:
    """[N] t = (φ − μ_out) / (s̃ · √(1 + 1/K)), all records with the same degrees of freedom."""
    parts = (_variances(signals(views)[1]) for views in population if len(views.shadows) > 1)
    prior = fit_prior(parts, max(1, n_shadows_of(population) - 1))

    def score(views: Views) -> FloatArray:
        target, out = signals(views)
        n = out.shape[1]
        variance = prior.posterior(_variances(out), n - 1) if n > 1 else np.full(len(out), prior.variance)
        return (target - out.mean(axis=1)) / np.sqrt(variance * (1 + 1 / n))

    return score


def n_shadows_of(population: Iterable[Views]) -> int:
    """How many shadows there are; 0 where there is no record."""
    return next((len(views.shadows) for views in population), 0)


@fitted_attack(
    "lira_tokens",
    needs=_NEEDS,
    source=f"{_LIRA}, offline, token by token; variances drawn towards that of all tokens (ours)",
    summary="Token by token how far the target lies above the shadows, averaged over the record.",
)
def lira_tokens(population: Iterable[Views]) -> ScoreFunction:
    """[N] mean over tokens of (log p − μ_out) / s̃."""
    degrees = max(1, n_shadows_of(population) - 1)
    parts = (_variances(_stacked(views)) for views in population if len(views.shadows) > 1)
    prior = fit_prior(parts, degrees)

    def score(views: Views) -> FloatArray:
        out = _stacked(views)
        n = out.shape[-1]
        variance = prior.posterior(_variances(out), n - 1) if n > 1 else np.ones(out.shape[:-1])
        gained = views.target.log_prob.astype(np.float64) - out.mean(axis=-1)
        return np.asarray((gained / np.sqrt(np.maximum(variance, _NO_VARIANCE))).mean(axis=1), dtype=np.float64)

    return score


def _stacked(views: Views) -> FloatArray:
    """[N, T, K] log-probabilities of the shadows."""
    return np.stack([shadow.log_prob.astype(np.float64) for shadow in views.shadows], axis=-1)


@fitted_attack(
    "rmia",
    needs=_NEEDS,
    source=f"RMIA, Zarifzadeh et al. 2024, arXiv:2312.03262; γ = {RMIA_GAMMA:g}, a = {RMIA_A:g}, z among the audited "
    "records, by ranks",
    summary="Share of other records whose likelihood ratio to the shadows the record's exceeds γ times.",
)
def rmia(population: Iterable[Views]) -> ScoreFunction:
    """[N] Pr_z[ratio(x) / ratio(z) ≥ γ] with ratio = p_T / p(x); ranks, so that memory grows with N + Z alone."""
    ordered = np.sort(np.concatenate([np.zeros(0), *(log_likelihood_ratio(views) for views in population)]))

    def score(views: Views) -> FloatArray:
        below = np.searchsorted(ordered, log_likelihood_ratio(views) - math.log(RMIA_GAMMA), side="right")
        return below / max(1, len(ordered))

    return score


def log_likelihood_ratio(views: Views, *, a: float = RMIA_A) -> FloatArray:
    """[N] log p_T(x) − log p(x), p = exp(mean log-probability), p(x) = ((1 + a)·mean_out + (1 − a)) / 2."""
    log_p = [scores.log_prob.mean(axis=1, dtype=np.float64) for scores in (views.target, *views.shadows)]
    mean_out = special.logsumexp(np.stack(log_p[1:], axis=1), axis=1) - math.log(len(log_p) - 1)
    with np.errstate(divide="ignore"):
        estimate = np.logaddexp(np.log1p(a) + mean_out, np.log(1 - a)) - math.log(2)
    return log_p[0] - estimate


# --- the shadows' mean as reference -------------------------------------------------------------------


def mean_of_shadows(views: Views) -> TokenScores:
    """A reference whose log-probabilities are the shadows' mean; what it says of the vocabulary is the first one's."""
    first = views.shadows[0]
    mean = _stacked(views).mean(axis=-1)
    return TokenScores(mean, first.is_top1, first.margin, first.mean_log_prob, first.var_log_prob, first.rank_bucket)


def _against_shadows(known: Attack) -> Attack:
    """An attack on target and reference, with the shadows' mean as the reference."""

    @attack(
        SHADOW_TWIN + known.name,
        needs=_NEEDS,
        source=f"{known.source}; reference: the mean of the shadows' log-probabilities",
        summary=f"`{known.name}` against the mean of the shadows.",
    )
    def score(views: Views) -> FloatArray:
        return known.score(Views({"target": views.target, "reference": mean_of_shadows(views)}, views.facts))

    return score


for _known in (reference_difference, reference_ratio, error_zone, window_vote, paired_t):
    _against_shadows(_known)
