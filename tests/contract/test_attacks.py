"""Laws that every registered attack keeps, the built-in ones and those of installed plug-ins."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from loraudit.membership import ATTACKS, GRADIENT, SHADOWS, SLOW_VIEWS, Attack, per_record, score_attacks
from loraudit.types import RecordFacts, TokenScores, TokenTable, Views

BUILT_IN = {
    "bavaria",
    "lira_offline",
    "lira_online",
    "lira_tokens",
    "rmia",
    "shadow_error_zone",
    "shadow_paired_t",
    "shadow_reference_difference",
    "shadow_reference_ratio",
    "shadow_window_vote",
    "calibrated_min_k",
    "calibrated_min_k_plus_plus",
    "calibrated_zlib",
    "error_zone",
    "error_zone_paper",
    "error_zone_reference_code",
    "gradient_norm",
    "hard_token",
    "loss",
    "neighbourhood",
    "recall",
    "spv_mia",
    "min_k",
    "min_k_plus_plus",
    "paired_t",
    "quantile_regression",
    "quantile_regression_text",
    "reference_difference",
    "reference_ratio",
    "sign",
    "window_vote",
    "zlib",
}
Floats = NDArray[np.float64]
Behaviour = Callable[[Views], object]

VIEW_NAME = re.compile(r"target|reference|gradient|(reference_)?prefixed|[a-z][a-z_]*/\d+")
N_TOKENS = 128
N_PER_SIDE = 400

every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
UNFITTED = {name: attack for name, attack in ATTACKS.items() if isinstance(attack, Attack)}
every_unfitted_attack = pytest.mark.parametrize("attack", UNFITTED.values(), ids=list(UNFITTED))


# ---------------------------------------------------------------------------------------------
# Synthetic evidence: per-token losses of a reference, and a target that gains `gain` nats on average
# ---------------------------------------------------------------------------------------------


def scores_of(log_prob: Floats, rng: np.random.Generator) -> TokenScores:
    """Evidence of one model around these log-probabilities of the records' tokens."""
    shape = log_prob.shape
    is_top1 = log_prob > np.log(0.3)
    rank = np.where(is_top1, 1, 1 + np.ceil(1 / np.exp(log_prob) / 4))
    return TokenScores(
        log_prob=log_prob.astype(np.float32),
        is_top1=is_top1,
        margin=rng.gamma(2.0, 0.5, shape).astype(np.float32),
        mean_log_prob=(-2.5 + 0.1 * rng.standard_normal(shape)).astype(np.float32),
        var_log_prob=rng.uniform(1.0, 2.0, shape).astype(np.float32),
        rank_bucket=np.minimum(np.floor(np.log2(rank)), 16).astype(np.uint8),
    )


def facts_of(gain: Floats, rng: np.random.Generator) -> RecordFacts:
    """Facts of one record per entry of `gain`, the more of which the smaller the gradient."""
    n_bytes = rng.integers(490, 511, len(gain))
    norms = np.exp(0.3 * rng.standard_normal(len(gain)) - gain)
    return RecordFacts(n_bytes=n_bytes, n_zlib_bytes=n_bytes // 2, gradient_norm=norms)


def evidence(needs: Sequence[str], gain: Floats, *, n_tokens: int, seed: int) -> Views:
    """Views of one record per entry of `gain`.

    Each token has a difficulty of its own that all models share; every model but the target
    sees it with independent noise. Shadows that were trained on the records gained on all of them.
    """
    rng = np.random.default_rng(seed)
    shape = (len(gain), n_tokens)
    log_prob = -3.5 + 0.8 * rng.standard_normal(shape)
    moved = gain[:, None] + 0.7 * rng.standard_normal(shape)
    views = {
        name: scores_of(
            np.minimum(log_prob + (moved if name == "target" else 0.1 * rng.standard_normal(shape)), -1e-3)
            if not name.startswith("shadow_in/")
            else np.minimum(log_prob + 0.8 + 0.1 * rng.standard_normal(shape), -1e-3),
            rng,
        )
        for name in sorted({"target", "reference", *needs} - {GRADIENT})
    }
    return Views(views, facts_of(gain, rng))


def ordinary(attack: Attack, *, n_records: int = 40, n_tokens: int = N_TOKENS, seed: int = 1) -> Views:
    gain = np.random.default_rng(seed).normal(0.2, 0.3, n_records)
    return evidence(attack.needs, gain, n_tokens=n_tokens, seed=seed)


def arrays_of(views: Views) -> list[NDArray[np.generic]]:
    """Every array that the views hold."""
    per_token = [
        getattr(scores, field.name)
        for scores in views.values()
        for field in dataclasses.fields(scores)
        if field.name != "log_sum_exps"
    ]
    return [*per_token, views.facts.n_bytes, views.facts.n_zlib_bytes, views.facts.gradient_norm]


def rows_of(views: Views, index: NDArray[np.integer]) -> Views:
    def cut(scores: TokenScores) -> TokenScores:
        arrays = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
        del arrays["log_sum_exps"]
        return TokenScores(**{name: array[index] for name, array in arrays.items()})

    return Views({name: cut(scores) for name, scores in views.items()}, views.facts.take(index))


def score(attack: Attack, views: Views) -> Floats:
    return np.asarray(attack.score(views), dtype=np.float64)


def auc(members: Floats, nonmembers: Floats) -> float:
    """Share of pairs in which the member scores higher, ties counting half."""
    ranks = rankdata(np.concatenate([members, nonmembers]))
    n_members, n_nonmembers = len(members), len(nonmembers)
    above = ranks[:n_members].sum() - n_members * (n_members + 1) / 2
    return float(above / (n_members * n_nonmembers))


def table_of(rows: Sequence[TokenScores], statuses: Sequence[str], is_audited: NDArray[np.bool_]) -> TokenTable:
    """A table of these single records, each of shape [1, T]."""
    names = [f.name for f in dataclasses.fields(TokenScores) if f.name != "log_sum_exps"]
    return TokenTable(
        columns={name: np.concatenate([getattr(row, name)[0] for row in rows]) for name in names},
        offsets=np.cumsum([0] + [row.log_prob.shape[1] for row in rows]),
        is_audited=is_audited,
        n_windows=np.ones(len(rows), dtype=np.int64),
        status=list(statuses),
    )


def ragged(
    needs: Sequence[str], lengths: Sequence[int], statuses: dict[str, Sequence[str]] | None = None
) -> tuple[dict[str, TokenTable], RecordFacts]:
    """Tables of records of these lengths; status "ok" where `statuses` does not name the view."""
    singles = [evidence(needs, np.array([0.2]), n_tokens=n, seed=i) for i, n in enumerate(lengths)]
    everything = np.ones(sum(lengths), dtype=bool)
    tables = {
        name: table_of(
            [views[name] for views in singles],
            (statuses or {}).get(name, ["ok"] * len(lengths)),
            everything,
        )
        for name in singles[0]
    }
    return tables, facts_of(np.zeros(len(lengths)), np.random.default_rng(0))


# ---------------------------------------------------------------------------------------------
# What an attack says of itself
# ---------------------------------------------------------------------------------------------


def test_built_in_attacks_are_exactly_those_of_the_methods_page() -> None:
    from_plug_ins = {point.name for point in importlib.metadata.entry_points(group=ATTACKS.entry_point_group)}
    assert sorted(set(ATTACKS) - from_plug_ins) == sorted(BUILT_IN)


@every_attack
def test_an_attack_is_registered_under_its_own_name(attack: Attack) -> None:
    assert ATTACKS[attack.name] is attack
    assert re.fullmatch(r"[a-z][a-z0-9_]*", attack.name)


@every_attack
def test_an_attack_states_its_source_summary_and_cost(attack: Attack) -> None:
    for words in (attack.source, attack.summary, attack.cost):
        assert words.strip() == words != ""
        assert "\n" not in words


@every_attack
def test_an_attack_names_the_views_it_needs(attack: Attack) -> None:
    assert attack.needs
    assert len(set(attack.needs)) == len(attack.needs)
    assert all(VIEW_NAME.fullmatch(name) for name in attack.needs)


@every_attack
def test_an_attack_reads_only_the_views_it_needs(attack: Attack) -> None:
    views = ordinary(attack)
    facts = views.facts if GRADIENT in attack.needs else views.facts.of_text()
    needed = Views({name: views[name] for name in attack.needs if name != GRADIENT}, facts)
    np.testing.assert_array_equal(score(attack, needed), score(attack, views))


# ---------------------------------------------------------------------------------------------
# A pure function of each record
# ---------------------------------------------------------------------------------------------


@every_attack
@pytest.mark.parametrize(("n_records", "n_tokens"), [(1, 1), (1, 7), (5, 1), (5, 2), (3, 50)])
def test_an_attack_gives_one_number_per_record(attack: Attack, n_records: int, n_tokens: int) -> None:
    scores = attack.score(ordinary(attack, n_records=n_records, n_tokens=n_tokens))
    assert np.asarray(scores).shape == (n_records,)
    assert np.can_cast(np.asarray(scores).dtype, np.float64, casting="same_kind")


@every_attack
def test_an_attack_gives_the_same_numbers_twice(attack: Attack) -> None:
    np.testing.assert_array_equal(score(attack, ordinary(attack)), score(attack, ordinary(attack)))


@every_attack
def test_an_attack_leaves_its_evidence_as_it_was(attack: Attack) -> None:
    views = ordinary(attack)
    before = [array.copy() for array in arrays_of(views)]
    for array in arrays_of(views):
        array.flags.writeable = False
    score(attack, views)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(views), before, strict=True))


@every_attack
def test_reordering_records_reorders_their_scores(attack: Attack) -> None:
    views = ordinary(attack)
    order = np.random.default_rng(2).permutation(len(views.facts.n_bytes))
    np.testing.assert_array_equal(score(attack, rows_of(views, order)), score(attack, views)[order])


@every_unfitted_attack
def test_a_records_score_does_not_depend_on_the_other_records(attack: Attack) -> None:
    views = ordinary(attack)
    one_by_one = np.asarray(per_record(lambda row: float(attack.score(row)[0]))(views))
    np.testing.assert_array_equal(one_by_one, score(attack, views))


# ---------------------------------------------------------------------------------------------
# Scores mean what they should
# ---------------------------------------------------------------------------------------------


@every_attack
def test_ordinary_evidence_is_never_undefined(attack: Attack) -> None:
    assert not np.isnan(score(attack, ordinary(attack, n_records=200))).any()


@every_attack
def test_memorised_records_score_above_unseen_ones(attack: Attack) -> None:
    gain = np.repeat([0.9, 0.0], N_PER_SIDE)
    scores = score(attack, evidence(attack.needs, gain, n_tokens=N_TOKENS, seed=4))
    assert auc(scores[:N_PER_SIDE], scores[N_PER_SIDE:]) > 0.9


@every_attack
def test_records_of_one_law_score_alike_on_both_sides(attack: Attack) -> None:
    gain = np.full(2 * N_PER_SIDE, 0.3)
    scores = score(attack, evidence(attack.needs, gain, n_tokens=N_TOKENS, seed=5))
    standard_error = np.sqrt((2 * N_PER_SIDE + 1) / (12 * N_PER_SIDE**2))
    assert abs(auc(scores[:N_PER_SIDE], scores[N_PER_SIDE:]) - 0.5) < 5 * standard_error


def test_views_hold_evidence_and_facts_but_no_label() -> None:
    assert {field.name for field in dataclasses.fields(Views)} == {"scores", "facts"}
    assert {field.name for field in dataclasses.fields(RecordFacts)} == {"n_bytes", "n_zlib_bytes", "gradient_norm"}
    tell_tale = re.compile(r"member|label|split|side|train|seen|truth", re.IGNORECASE)
    public = [name for noun in (Views, TokenScores, RecordFacts) for name in dir(noun) if name[0] != "_"]
    assert [name for name in public if tell_tale.search(name)] == []


# ---------------------------------------------------------------------------------------------
# Attacks over stored evidence
# ---------------------------------------------------------------------------------------------


@every_unfitted_attack
def test_stored_evidence_gives_each_record_the_score_of_its_views(attack: Attack) -> None:
    lengths = [3, 30, 3, 64, 30]
    tables, facts = ragged(attack.needs, lengths)
    result = score_attacks([attack], tables, facts)[attack.name]
    assert result.error is None
    for i, n_tokens in enumerate(lengths):
        row = np.array([i])
        views = Views({name: table.rectangle(row, n_tokens) for name, table in tables.items()}, facts.take(row))
        np.testing.assert_array_equal(score(attack, views), result.scores[[i]])


@every_attack
def test_records_without_an_audited_token_are_undefined(attack: Attack) -> None:
    tables, facts = ragged(attack.needs, [30, 12, 0, 30])
    is_audited = np.repeat([True, False, True], [30, 12, 30])
    masked = {name: dataclasses.replace(table, is_audited=is_audited) for name, table in tables.items()}
    result = score_attacks([attack], masked, facts)[attack.name]
    assert result.error is None
    assert np.isnan(result.scores).tolist() == [False, True, True, False]


@every_attack
@pytest.mark.parametrize("status", ["no_tokens", "nonfinite", "out_of_memory"])
@pytest.mark.parametrize("view", ["target", "reference"])
def test_records_that_could_not_be_scored_are_undefined(attack: Attack, status: str, view: str) -> None:
    tables, facts = ragged(attack.needs, [30, 30, 30], {view: ["ok", status, "ok"]})
    tables[view].columns["log_prob"][30:60] = np.nan
    result = score_attacks([attack], tables, facts)[attack.name]
    assert result.error is None
    assert np.isnan(result.scores).tolist() == [False, True, False]


def test_no_records_give_no_scores() -> None:
    tables, facts = ragged((), [5])
    none = slice(0, 0)
    empty = {
        name: dataclasses.replace(
            table,
            columns={column: values[none] for column, values in table.columns.items()},
            offsets=np.zeros(1, dtype=np.int64),
            is_audited=table.is_audited[none],
            n_windows=table.n_windows[none],
            status=[],
        )
        for name, table in tables.items()
    }
    results = score_attacks([ATTACKS["loss"]], empty, facts.take(none))
    assert results["loss"].scores.shape == (0,)
    assert results["loss"].error is None


def stray(name: str, score: Behaviour) -> Attack:
    """An attack that is not registered."""
    return Attack(name, score, ("target",), "these tests", "Misbehaves.", "1 F")


def _raise(_: Views) -> object:
    raise ZeroDivisionError("on purpose")


def _raise_on_long(views: Views) -> object:
    if views.target.log_prob.shape[1] > 10:
        raise MemoryError("too long")
    return views.target.log_prob.mean(axis=1)


MISBEHAVIOURS: dict[str, tuple[Behaviour, str]] = {
    "raises": (_raise, "ZeroDivisionError: on purpose"),
    "raises on some records only": (_raise_on_long, "MemoryError: too long"),
    "one number for all": (lambda views: 0.0, "shape ()"),
    "one number per token": (lambda views: views.target.log_prob, "shape"),
    "one number too many": (lambda views: np.zeros(len(views.target) + 1), "shape"),
    "words": (lambda views: ["member"] * len(views.target), "ValueError"),
    "nothing": (lambda views: None, "shape ()"),
}


@pytest.mark.parametrize(("misbehave", "told"), MISBEHAVIOURS.values(), ids=MISBEHAVIOURS)
def test_an_attack_that_fails_is_reported_and_the_others_finish(misbehave: Behaviour, told: str) -> None:
    tables, facts = ragged((SHADOWS, *SLOW_VIEWS), [5, 30, 5, 17])
    alone = score_attacks(list(ATTACKS.values()), tables, facts)
    first, *rest = ATTACKS.values()
    together = score_attacks([first, stray("stray", misbehave), *rest], tables, facts)

    assert list(together) == [first.name, "stray", *(attack.name for attack in rest)]
    assert told in (together["stray"].error or "")
    assert np.isnan(together["stray"].scores).all()
    assert together["stray"].scores.shape == (4,)
    for name, result in alone.items():
        assert together[name].error == result.error
        np.testing.assert_array_equal(together[name].scores, result.scores)


def test_every_result_tells_the_time_it_took() -> None:
    tables, facts = ragged((SHADOWS, *SLOW_VIEWS), [5, 30])
    results = score_attacks(list(ATTACKS.values()), tables, facts)
    assert all(result.seconds > 0 for result in results.values())


def test_views_over_different_tokens_are_refused() -> None:
    tables, facts = ragged((), [5, 30])
    others, _ = ragged((), [6, 29])
    with pytest.raises(ValueError, match="different tokens"):
        score_attacks([ATTACKS["loss"]], {"target": tables["target"], "reference": others["reference"]}, facts)
