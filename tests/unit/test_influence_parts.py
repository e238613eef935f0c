"""Flows of single records against known answers, methods without a kernel, and what members gained beyond others."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from loraudit.data import Encoded
from loraudit.influence.comparing import BASE_LOSS, LENGTH, Records, excess, set_against
from loraudit.influence.methods import Kernelled, kernelled
from loraudit.influence.predicting import Fit, Flow, Flows, mean_fit, own_draw_error
from loraudit.influence.probes import Probe, make_probe
from loraudit.influence.words import best_baseline
from loraudit.report.influence import beats_baselines, is_above_zero, outcome
from loraudit.spec import ArmResult, FitAgreement, Recipe
from loraudit.types import Finding

KINDS = ("model.layers.*.self_attn.q_proj", "model.layers.*.self_attn.v_proj", "model.layers.*.mlp.up_proj")


def probe_of(n_members, n_others, n_suffixes=0):
    """A probe of records of one window each, the first ones with a suffix."""
    n = n_members + n_others
    return Probe(
        np.arange(n),
        np.arange(n) < n_members,
        [np.arange(3)] * (n + n_suffixes),
        [np.array([False, True, True])] * (n + n_suffixes),
        np.eye(n + n_suffixes),
        np.full(n, 2),
        np.arange(n_suffixes),
    )


def flow_of(kind, kernel, values, probe, weights=None, n_trained=None):
    m = len(probe.members)
    return Flow(kind, kernel, values, probe, np.ones(m) if weights is None else weights, n_trained or m)


def random_kernel(n, seed=0, width=12):
    features = np.random.default_rng(seed).standard_normal((n, width)) + 1.0
    return features @ features.T


# --- flows ----------------------------------------------------------------------------------------------


def test_records_that_share_nothing_own_everything_they_gain():
    """K diagonal: each member decays towards 0 alone, 1 − e^{−λt/m} of its way, and no other record gains."""
    kernel, values = np.diag([2.0, 1.0, 0.0]), np.array([-3.0, -5.0, -4.0])
    probe = probe_of(2, 1)
    fit = flow_of("squared", kernel, values, probe).fit_at(2.0)
    speed = 1.5  # mean of the members' diagonal
    expected = [3 * (1 - math.exp(-2 / speed)), 5 * (1 - math.exp(-1 / speed))]
    assert fit.members == pytest.approx(expected)
    assert fit.own == pytest.approx(expected)
    assert fit.without == pytest.approx([0, 0], abs=1e-12)
    assert fit.nonmembers == pytest.approx([0])
    assert flow_of("squared", kernel, values, probe).time_at(0.1) is None


def test_the_first_order_flow_is_the_kernel_times_time():
    kernel, values = random_kernel(6), -np.arange(1.0, 7.0)
    probe, weights = probe_of(4, 2), np.array([0.5, 1.0, 1.5, 1.0])
    made = flow_of("log", kernel, values, probe, weights)
    speed = np.diag(kernel)[:4].mean()
    fit = made.fit_at(3.0)
    assert fit.members == pytest.approx(3 / 4 * kernel[:4, :4] @ weights / speed)
    assert fit.own == pytest.approx(3 / 4 * np.diag(kernel)[:4] * weights / speed)
    assert fit.nonmembers == pytest.approx(3 / 4 * kernel[4:, :4] @ weights / speed)


def test_the_saturating_flow_begins_as_the_first_order_one_with_the_residual_as_its_weight():
    kernel, values, probe = random_kernel(7), np.full(7, -4.0), probe_of(5, 2)
    short = 1e-4
    squared, log = (flow_of(kind, kernel, values, probe).fit_at(short) for kind in ("squared", "log"))
    assert squared.members == pytest.approx(4 * log.members, rel=1e-2)
    assert squared.own == pytest.approx(4 * log.own, rel=1e-2)
    late = flow_of("squared", kernel, values, probe).fit_at(1e9)
    assert late.members == pytest.approx(np.full(5, 4.0), rel=1e-6)


@pytest.mark.parametrize("kind", ["squared", "log"])
def test_a_subset_of_equal_records_stands_for_all_of_them(kind):
    """N records that are alike: what 4 of them say of own part and gain is what all 40 say."""
    alike = np.full((44, 44), 0.5) + 0.5 * np.eye(44)
    values = np.full(44, -4.0)
    whole = flow_of(kind, alike, values, probe_of(40, 4)).fit_at(3.0)
    few = [*range(4), *range(40, 44)]
    part = flow_of(kind, alike[np.ix_(few, few)], values[few], probe_of(4, 4), n_trained=40).fit_at(3.0)
    tolerance = {"log": 1e-9, "squared": 0.25}[kind]  # four records saturate a little sooner than forty
    assert part.own[0] == pytest.approx(whole.own[0], rel=tolerance)
    naive = flow_of(kind, alike[np.ix_(few, few)], values[few], probe_of(4, 4)).fit_at(3.0)
    assert naive.own[0] > 5 * whole.own[0]


def test_time_is_where_non_members_have_gained_so_much_token_by_token():
    kernel, values = random_kernel(8, seed=2), np.full(8, -4.0)
    probe = probe_of(5, 3)
    probe.n_tokens[5:] = [1, 2, 7]
    for kind in ("squared", "log"):
        made = flow_of(kind, kernel, values, probe)
        time = made.time_at(0.7)
        assert time is not None
        assert np.average(made.fit_at(time).nonmembers, weights=[1, 2, 7]) == pytest.approx(0.7)
    assert made.time_at(0.0) is None


def test_a_suffix_follows_its_own_record():
    """A suffix whose gradient is half its record's gains half, with the record's own share in it."""
    n, probe = 5, probe_of(3, 2, n_suffixes=5)
    kernel = random_kernel(n)
    both = np.concatenate([np.eye(n), 0.5 * np.eye(n)])
    values = np.full(2 * n, -4.0)
    for kind in ("squared", "log"):
        fit = flow_of(kind, both @ kernel @ both.T, values, probe, n_trained=30).fit_at(2.0)
        assert fit.suffixes[:3] == pytest.approx(0.5 * fit.members)
        assert fit.suffixes[3:] == pytest.approx(0.5 * fit.nonmembers)


def test_lora_has_the_own_part_of_full_tuning_at_the_same_fit_on_average_over_a():
    """E K_lora is a multiple of K_full, and a multiple only turns the clock."""
    kernel, values, probe = random_kernel(9, seed=5), np.full(9, -4.0), probe_of(6, 3)
    owns = []
    for scale in (1.0, 17.0):
        made = flow_of("squared", scale * kernel, values, probe)
        owns.append(made.fit_at(made.time_at(0.5)).own)
    np.testing.assert_allclose(*owns, rtol=1e-8)


# --- draws of A -----------------------------------------------------------------------------------------


def kernels_of_draws(n_draws, rank, seed=0):
    """[draws, 14, 14] of LoRA on one map beside a part that all records share: inputs [14, 40] times rows of A."""
    inputs = np.random.default_rng(99).standard_normal((14, 40))  # the same records for every seed
    rows = np.random.default_rng(seed).standard_normal((n_draws, rank, 40)) / math.sqrt(40 * rank)
    turned = np.einsum("iw,drw->dir", inputs, rows)
    return 1 + turned @ turned.transpose(0, 2, 1)


def predicted_own(kernels):
    """Members' mean own part where the flow is near its end, mean over draws."""
    values = -np.random.default_rng(1).permutation(np.linspace(3, 5, 14))
    return mean_fit(Flows("squared", kernels, values, probe_of(9, 5), np.ones(9), 9).fits_at(3.0)).own.mean()


def mean_and_error(numbers):
    """Over independent numbers."""
    return np.mean(numbers), np.std(numbers, ddof=1) / math.sqrt(len(numbers))


@pytest.mark.parametrize("flow", ["squared", "log"])
def test_what_is_predicted_of_a_record_is_the_mean_of_what_every_draw_says(flow):
    kernels, values = kernels_of_draws(5, 2), -np.linspace(3, 5, 14)
    weights = np.linspace(0.5, 1.5, 9)
    probe = probe_of(9, 5)
    fits = Flows(flow, kernels, values, probe, weights, 30).fits_at(0.4)
    by_hand = []
    for kernel in kernels:
        made = Flow(flow, kernel, values, probe, weights, 30)
        by_hand.append(made.fit_at(made.time_at(0.4)))
    assert len({one.time for one in fits}) == 5  # every draw has a time of its own
    found = mean_fit(fits)
    for name in ("time", "members", "without", "nonmembers", "own"):
        expected = np.mean([getattr(one, name) for one in by_hand], axis=0)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-10)
    assert np.average(found.nonmembers, weights=probe.n_tokens[9:]) == pytest.approx(0.4)
    expected = np.std([one.own.mean() for one in by_hand], ddof=1) / math.sqrt(5)
    assert own_draw_error(fits) == pytest.approx(expected)


def test_a_method_without_draws_is_a_single_flow_without_an_error():
    kernel, values, probe = random_kernel(9, seed=5), np.full(9, -4.0), probe_of(6, 3)
    fits = Flows("squared", kernel[None], values, probe, np.ones(6), 6).fits_at(0.5)
    made = flow_of("squared", kernel, values, probe)
    single = made.fit_at(made.time_at(0.5))
    np.testing.assert_array_equal(mean_fit(fits).members, single.members)
    assert mean_fit(fits).time == single.time
    assert own_draw_error(fits) is None


@pytest.mark.parametrize("n_draws", [4, 16])
def test_the_number_of_draws_does_not_move_a_prediction(n_draws):
    """Rank 1: D draws say what single draws say. Their mean kernel says what single draws of rank D say, here more."""
    sets = [kernels_of_draws(n_draws, 1, seed=seed) for seed in range(30)]
    single, single_error = mean_and_error([predicted_own(one[None]) for one in kernels_of_draws(150, 1, seed=100)])
    found, error = mean_and_error([predicted_own(kernels) for kernels in sets])
    assert abs(found - single) < 3 * math.hypot(error, single_error)
    of_mean, mean_error = mean_and_error([predicted_own(kernels.mean(axis=0)[None]) for kernels in sets])
    assert of_mean - found > 5 * math.hypot(error, mean_error)
    higher, higher_error = mean_and_error([predicted_own(one[None]) for one in kernels_of_draws(60, n_draws, seed=101)])
    assert abs(of_mean - higher) < 3 * math.hypot(mean_error, higher_error)


def test_a_draw_that_never_gets_there_leaves_the_method_unpredicted():
    reaching, stuck = random_kernel(6), np.diag(np.ones(6))
    made = Flows("squared", np.stack([reaching, stuck]), np.full(6, -4.0), probe_of(4, 2), np.ones(4), 4)
    assert made.draws[0].time_at(0.5) is not None
    assert made.fits_at(0.5) is None


# --- what is measured of members beyond others ----------------------------------------------------------


def test_the_excess_is_what_non_members_of_the_same_make_did_not_gain():
    rng = np.random.default_rng(0)
    is_member = np.arange(400) < 200
    loss, length = rng.normal(4, 1, 400), rng.integers(50, 100, 400).astype(float)
    shared = rng.normal(0.5, 0.1, 400)
    own = np.where(is_member, rng.uniform(0, 0.2, 400), 0.0)
    gains = 0.3 * loss - 0.002 * length + 2 * shared + own
    fit = Fit(1.0, shared[is_member] + 0.1, shared[is_member], shared[~is_member], np.empty(0))
    found = excess(fit, gains, is_member, {BASE_LOSS: loss, LENGTH: length}, (BASE_LOSS, LENGTH))
    np.testing.assert_allclose(found, own[is_member], atol=1e-9)
    few = np.array([*range(10), *range(200, 204)])
    small = Fit(1.0, fit.members[:10], fit.without[:10], fit.nonmembers[:4], np.empty(0))
    kept = {BASE_LOSS: loss[few], LENGTH: length[few]}
    assert np.isnan(excess(small, gains[few], is_member[few], kept, (BASE_LOSS, LENGTH))).all()


def test_a_correlation_stands_beside_those_of_the_baselines():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    records = Records(np.arange(120) < 60, None, {BASE_LOSS: rng.normal(size=120)}, 0.95)
    found = set_against(
        records, np.arange(60), truth + 0.1 * rng.normal(size=60), truth, names=("own", "excess"), are_members=True
    )
    assert found.spearman.value > 0.9
    assert found.spearman.lower > 0.8
    assert abs(found.baselines[BASE_LOSS].value) < 0.4
    assert (found.spearman.n_members, found.spearman.n_nonmembers) == (60, 0)


@pytest.mark.parametrize(
    ("predicted", "ends", "words"),
    [
        (0.02, (0.01, 0.03), "the prediction is within the measured interval"),
        (0.02, (-0.01, 0.03), "not told apart: the measured interval holds both the prediction and 0"),
        (0.00, (0.01, 0.03), "the prediction is outside the measured interval"),
        (0.02, (None, None), "the measurement has no interval"),
    ],
)
def test_it_is_said_whether_prediction_and_measurement_agree(predicted, ends, words):
    one = Finding(predicted, None, None, 0.95, "t", 10, 10)
    other = Finding(0.0, *ends, 0.95, "t", 10, 10)
    assert outcome(one, other) == words


# --- methods --------------------------------------------------------------------------------------------


def arm(**settings):
    recipe = Recipe.model_validate({"method": "lora", **settings})
    return ArmResult(
        name="arm",
        method=recipe.method,
        recipe=recipe.model_dump(mode="json"),
        learning_rate=1e-3,
        search=[],
        n_trained_parameters=1,
        n_parameters=2,
        runs=[],
    )


def test_a_plain_lora_has_the_kernel_of_its_settings():
    found = kernelled(arm(rank=8, alpha=4, init_variance=0.1, rslora=True, targets=["q_proj", "mlp.up_proj"]), KINDS)
    assert found == Kernelled("arm", "lora", 8, 0.1, 4.0, "alpha/sqrt(r)", "uniform", ("q_proj", "mlp.up_proj"))
    assert found.kinds(KINDS) == [KINDS[2], KINDS[0]]
    assert not found.adapts("model.layers.*.k_q_proj")
    plain = kernelled(arm(init="gaussian"), KINDS)
    assert (plain.family, plain.variance, plain.alpha) == ("gaussian", 1 / 3, 32)
    assert plain.kinds(KINDS) == sorted(KINDS)
    assert kernelled(arm(method="head"), KINDS) == Kernelled("arm", "head")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "last_k"}, "no kernel of the method last_k"),
        ({"method": "full", "dp_epsilon": 8}, "differential privacy clips every record"),
        ({"method": "full", "label_smoothing": 0.1}, "not trained on the log-probability of every token"),
        ({"method": "full", "token_drop": 0.1}, "not trained on the log-probability of every token"),
        ({"dora": True}, "DoRA trains magnitudes apart"),
        ({"init": "pissa"}, "starts by pissa does not start at the base"),
        ({"spread": 0.1}, "penalty on strong directions"),
        ({"targets": ["q_proj", "lm_head"]}, "its target lm_head is no kind of linear map outside the head"),
    ],
)
def test_a_method_without_a_kernel_is_named_with_its_reason(settings, words):
    assert words in kernelled(arm(**settings), KINDS)


# --- windows --------------------------------------------------------------------------------------------


def test_a_record_of_several_windows_is_the_mean_over_its_tokens():
    encoded = [Encoded(np.arange(14, dtype=np.int32), np.ones(14, dtype=bool)) for _ in range(2)]
    encoded[1].is_audited[:5] = False
    probe = make_probe(
        encoded,
        np.array([0, 1]),
        np.array([True, False]),
        window=6,
        suffixes=(2, 4),
        has_suffix=np.array([True, False]),
    )
    assert probe.n_tokens.tolist() == [13, 9]
    assert probe.shares.sum(axis=1) == pytest.approx(np.ones(3))
    for output, n in ((0, 13), (1, 9), (2, 4)):
        windows = probe.windows_of(np.array([output]))
        counted = [probe.rows[i][probe.masks[i]] for i in windows]
        assert probe.shares[output, windows] * n == pytest.approx([len(own) for own in counted])
        tokens = np.concatenate(counted).tolist()
        assert tokens == {0: [*range(1, 14)], 1: [*range(5, 14)], 2: [3, 4, 5, 6]}[output]
    assert probe.suffix_of.tolist() == [0]


@pytest.mark.parametrize(("baseline", "beats"), [(0.2, True), (-0.6, False), (None, True)])
def test_a_baseline_counts_whichever_way_it_ranks(baseline, beats):
    found = FitAgreement(
        predicted="own",
        measured="excess",
        side="members",
        spearman=Finding(0.7, 0.5, 0.8, 0.95, "rank", 20, 0),
        baselines={BASE_LOSS: Finding(baseline, None, None, 0.95, "rank", 20, 0)},
    )
    assert beats_baselines(found) == beats
    assert is_above_zero(found.spearman)


def test_the_sentence_names_the_baseline_that_does_best():
    def rho(value):
        return Finding(value, None, None, 0.95, "rank", 20, 0)

    found = SimpleNamespace(baselines={BASE_LOSS: rho(0.7), LENGTH: rho(None), "full_self_influence": rho(0.2)})
    assert best_baseline(found) == "the best baseline, base loss alone, 0.70"
    found.baselines["full_self_influence"] = rho(0.9)
    assert best_baseline(found) == "the best baseline, full K(x, x) alone, 0.90"
    found.baselines = {}
    assert best_baseline(found) == "no baseline is defined"
