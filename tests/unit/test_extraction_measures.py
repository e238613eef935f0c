"""Extraction from evidence: vectors worked by hand, probabilities at both ends of the scale, shares with intervals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from loraudit.errors import ConfigError
from loraudit.memorization import (
    attempts_needed,
    bits_above_base,
    exact_memorization,
    extraction_strength,
    greedy_extraction,
    hit_runs,
    minimal_prefix,
    probability_within,
    share_of,
    suffix_log_prob,
)
from loraudit.statistics import clopper_pearson, independent_records
from loraudit.types import TokenTable

INF, NAN = math.inf, math.nan


def table_of(hits, *, log_probs=None, margins=None, log_sum_exps=None, status=None) -> TokenTable:
    """Records as rows of 0 and 1; flat columns in the same order."""
    flat = [hit for row in hits for hit in row]
    return TokenTable(
        columns={
            "log_prob": np.array([-1.0] * len(flat) if log_probs is None else log_probs, dtype=np.float32),
            "is_top1": np.array(flat, dtype=bool),
            "margin": np.array([9.0] * len(flat) if margins is None else margins, dtype=np.float32),
        },
        offsets=np.cumsum([0, *map(len, hits)]),
        is_audited=np.ones(len(flat), dtype=bool),
        n_windows=np.ones(len(hits), dtype=np.int32),
        status=status or ["ok" if row else "no_tokens" for row in hits],
        log_sum_exps={d: np.array(column, dtype=np.float32) for d, column in (log_sum_exps or {}).items()},
    )


# --- runs of hits -------------------------------------------------------------------------------------


ROWS = [[1, 1, 0, 1, 1], [1, 1, 1], [1, 1, 0], [], [0], [1]]


def test_five_kinds_of_record_worked_by_hand():
    table = table_of(ROWS)
    assert exact_memorization(table).tolist() == pytest.approx([0.8, 1, 2 / 3, NAN, 0, 1], nan_ok=True)
    assert minimal_prefix(table).tolist() == pytest.approx([3, 0, 3, NAN, 1, 0], nan_ok=True)
    assert extraction_strength(table).tolist() == pytest.approx([0.4, 1, 0, NAN, 0, 1], nan_ok=True)
    assert hit_runs(table).tolist() == [2, 1, 0, 2, 1, 3, 2, 1, 2, 1, 0, 0, 1]


def test_a_run_ends_with_its_record():
    assert hit_runs(table_of([[1, 1], [1]])).tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("prefix", "suffix", "expected"),
    [
        (0, 2, [1, 1, 1, NAN, NAN, NAN]),
        (0, 3, [0, 1, 0, NAN, NAN, NAN]),
        (3, 2, [1, NAN, NAN, NAN, NAN, NAN]),
        (2, 1, [0, 1, 0, NAN, NAN, NAN]),
        (0, 1, [1, 1, 1, NAN, 0, 1]),
        (5, 1, [NAN] * 6),
    ],
)
def test_greedy_extraction_of_every_length(prefix, suffix, expected):
    found = greedy_extraction(table_of(ROWS), prefix=prefix, suffix=suffix, margin_below=0.5)
    assert found.is_extracted.tolist() == pytest.approx(expected, nan_ok=True)
    assert not found.has_small_margin.any()


def test_small_margins_are_flagged_inside_the_suffix_alone():
    margins = [0.1, 9, 9, 9, 0.1, 9, 9, 9, 0.5]
    table = table_of([[1, 1, 1], [1, 1, 1], [1, 1, 1]], margins=margins)
    found = greedy_extraction(table, prefix=1, suffix=2, margin_below=0.5)
    assert found.has_small_margin.tolist() == [False, True, False]


def test_a_record_that_could_not_be_scored_is_undefined_and_not_a_miss():
    table = table_of([[1, 1], [0, 0], [0, 1]], status=["ok", "out_of_memory", "nonfinite"])
    found = greedy_extraction(table, prefix=0, suffix=1, margin_below=99.0)
    for values in (exact_memorization(table), minimal_prefix(table), extraction_strength(table), found.is_extracted):
        assert np.isnan(values).tolist() == [False, True, True]
    assert found.has_small_margin.tolist() == [True, False, False]


def test_no_records_give_no_numbers():
    table = table_of([])
    for values in (
        exact_memorization(table),
        minimal_prefix(table),
        extraction_strength(table),
        hit_runs(table),
        suffix_log_prob(table, (0, 1.0)),
        bits_above_base(table, table),
        *greedy_extraction(table, prefix=0, suffix=1, margin_below=1.0),
    ):
        assert values.shape == (0,)


def test_lengths_out_of_range_are_refused():
    table = table_of(ROWS)
    with pytest.raises(ConfigError, match=r"Prefix of -1 tokens is out of range\. Expected 0 or more\."):
        greedy_extraction(table, prefix=-1, suffix=1, margin_below=0.1)
    with pytest.raises(ConfigError, match=r"Suffix of 0 tokens is out of range\. Expected 1 or more\."):
        suffix_log_prob(table, (0, 1.0), suffix=0)


# --- probabilities ------------------------------------------------------------------------------------


def test_the_probability_of_a_suffix_worked_by_hand():
    """Two tokens of ½ and ¼ given one; at temperature ½ probabilities are squared: ¼/(¼+¼), and 1/16 over 3/8."""
    half, quarter = math.log(0.5), math.log(0.25)
    table = table_of(
        [[0, 1, 0], [1, 1, 1]],
        log_probs=[-7, half, quarter, 0, 0, 0],
        log_sum_exps={(0, 0.5): [1, half, math.log(3 / 8), 0, 0, 0], (2, 1.0): [1, 0, INF, 0, 0, 0]},
    )
    assert np.exp(suffix_log_prob(table, (0, 1.0), prefix=1, suffix=2)) == pytest.approx([1 / 8, 1])
    assert np.exp(suffix_log_prob(table, (0, 0.5), prefix=1, suffix=2)) == pytest.approx([1 / 2 * 1 / 6, 1])
    assert suffix_log_prob(table, (2, 1.0), prefix=1, suffix=2).tolist() == [-INF, 0]
    assert suffix_log_prob(table, (2, 1.0), prefix=1, suffix=1) == pytest.approx([half, 0])


def test_rounding_never_makes_a_token_more_than_certain():
    table = table_of([[1]], log_probs=[-0.25], log_sum_exps={(1, 1.0): [-0.2500001]})
    assert suffix_log_prob(table, (1, 1.0)).tolist() == [0]


def test_one_impossible_record_leaves_the_others_as_they_are():
    table = table_of([[1], [1], [1]], log_probs=[-1, -1, -1], log_sum_exps={(1, 1.0): [-1, INF, -1]})
    assert suffix_log_prob(table, (1, 1.0)).tolist() == [0, -INF, 0]


def test_a_decoding_that_was_not_kept_is_named_with_those_that_were():
    table = table_of(ROWS, log_sum_exps={(40, 0.7): [0] * 13})
    message = (
        r"Decoding top-k 40 at temperature 1 is not in the evidence\. Expected one of: top-k all at temperature 1; "
        r"top-k 40 at temperature 0\.7\. Score the records with it among the decodings\."
    )
    with pytest.raises(ConfigError, match=message):
        suffix_log_prob(table, (40, 1.0))


def test_attempts_worked_by_hand():
    """½ per attempt: 1, 2, 3, 4 attempts reach .5, .75, .875, .9375; ⌈ln .1 / ln .999⌉ = 2302."""
    half = math.log(0.5)
    assert [float(attempts_needed(half, 1 - 2.0**-n)) for n in range(1, 31)] == list(range(1, 31))  # not a hair more
    assert float(attempts_needed(half, 0.9)) == 4
    assert float(attempts_needed(math.log(0.001), 0.9)) == 2302
    assert attempts_needed([0.0, -INF, NAN], 0.9).tolist() == pytest.approx([1, INF, NAN], nan_ok=True)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_attempts_are_right_from_certain_to_one_in_1e304(p):
    """For tiny p_z, n · p_z → −ln(1 − p)."""
    for log_p_z in (-30.0, -39.9, -40.1, -300.0, -700.0):
        found = float(attempts_needed(log_p_z, p))
        assert math.log(found) + log_p_z == pytest.approx(math.log(-math.log1p(-p)), abs=1e-10)
    assert float(attempts_needed(-800.0, p)) == INF  # over 1e347
    for log_p_z in (0.0, -1e-300, -1e-17):
        assert float(attempts_needed(log_p_z, p)) == 1
    assert float(attempts_needed(-1e-17, 1 - 1e-16)) == 1


def test_attempts_are_the_fewest_whose_exact_probability_suffices():
    for one_in in (2, 3, 7, 100, 1001):
        for p in (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)):
            n = 1
            while 1 - (1 - Fraction(1, one_in)) ** n < p:
                n += 1
            assert float(attempts_needed(-math.log(one_in), float(p))) == n


@pytest.mark.parametrize("p", [0, 1, -0.1, NAN])
def test_a_probability_that_is_none_is_refused(p):
    with pytest.raises(ConfigError, match=r"Probability .* of extraction is out of range"):
        attempts_needed(-1.0, p)


def test_a_log_probability_above_zero_is_refused():
    with pytest.raises(ValueError, match=r"Log-probability 0\.5 is above 0"):
        attempts_needed([NAN, 0.5], 0.5)


def test_the_probability_within_n_attempts_is_exact_at_both_ends():
    assert probability_within([0.0, -INF, NAN], 5).tolist() == pytest.approx([1, 0, NAN], nan_ok=True)
    assert float(probability_within(math.log(0.3), 7)) == pytest.approx(float(1 - Fraction(7, 10) ** 7), rel=1e-14)
    assert float(probability_within(-700.0, 1)) == pytest.approx(math.exp(-700), rel=1e-12)
    assert float(probability_within(-800.0, 1e100)) == pytest.approx(math.exp(math.log(1e100) - 800), rel=1e-11)
    assert float(probability_within(-40.0, math.exp(40))) == pytest.approx(1 - math.exp(-1), rel=1e-12)
    for log_p in (-39.999999, -40.000001, -0.6931, -0.6932):
        assert float(probability_within(log_p, 1)) == pytest.approx(math.exp(log_p), rel=1e-13)


def test_so_many_attempts_suffice_and_one_fewer_does_not():
    log_p_z = -np.linspace(0.01, 25, 400)
    for p in (0.1, 0.5, 0.99):
        n = attempts_needed(log_p_z, p)
        assert (probability_within(log_p_z, n) >= p * (1 - 1e-11)).all()
        several = n > 1
        assert (probability_within(log_p_z[several], n[several] - 1) < p).all()


def test_less_than_one_attempt_is_refused():
    with pytest.raises(ConfigError, match=r"Number of attempts 0 is out of range\. Expected 1 or more\."):
        probability_within(-1.0, [1, 0])


def test_bits_above_base_worked_by_hand():
    """Three bits more over the record, of which the first token gives four; a record the base knows better gives 0."""
    ln2 = math.log(2)
    target = table_of([[1, 1], [1]], log_probs=[-ln2, -3 * ln2, -5 * ln2])
    base = table_of([[1, 1], [1]], log_probs=[-5 * ln2, -2 * ln2, -ln2])
    assert bits_above_base(target, base) == pytest.approx([3, 0])
    assert bits_above_base(target, base, prefix=0, suffix=1) == pytest.approx([4, 0])
    assert bits_above_base(target, base, prefix=1).tolist() == pytest.approx([0, NAN], nan_ok=True)


def test_tables_of_other_records_are_refused():
    with pytest.raises(ValueError, match="Tables of 2 and 1 records do not hold the same tokens"):
        bits_above_base(table_of([[1], [1]]), table_of([[1, 1]]))


# --- shares -------------------------------------------------------------------------------------------


def test_a_share_has_its_exact_interval_and_counts_what_is_undefined():
    found = share_of(np.array([1, 0, NAN, 1, 0, 0.0]), confidence=0.95)
    lower, upper = clopper_pearson(2, 5)
    assert (found.value, found.n_members, found.n_undefined_members) == (0.4, 5, 1)
    assert (found.lower, found.upper) == pytest.approx((lower, upper))
    assert (found.n_nonmembers, found.n_undefined_nonmembers, found.method) == (0, 0, "Clopper-Pearson")
    other = share_of(np.array([1, 0, NAN]), confidence=0.9, are_members=False)
    assert (other.n_members, other.n_nonmembers, other.n_undefined_nonmembers) == (0, 2, 1)
    assert (other.confidence, other.n_undefined_members) == (0.9, 0)


@pytest.mark.parametrize("n", [1, 59, 20_000])
def test_none_of_n_has_the_one_sided_upper_bound(n):
    found = share_of(np.zeros(n), confidence=0.95)
    assert (found.value, found.lower) == (0, 0)
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-12)
    assert found.method == f"exact one-sided upper bound for 0 of {n}"


def test_all_of_n_is_not_certainty():
    found = share_of(np.ones(20), confidence=0.95)
    assert (found.value, found.upper) == (1, 1)
    assert found.lower == pytest.approx(0.025 ** (1 / 20))


def test_records_of_one_document_count_once_where_they_go_together():
    """Ten documents of ten records each: extracted as wholes they are worth ten."""
    groups = np.repeat(np.arange(10), 10)
    together = (groups < 4).astype(float)
    found = share_of(together, confidence=0.95, groups=groups)
    assert found.value == 0.4
    assert (found.lower, found.upper) == pytest.approx(clopper_pearson(4, 10), rel=1e-9)
    assert found.method == "Clopper-Pearson, as of 10 independent records"
    assert found.n_members == 100
    none = share_of(np.zeros(100), confidence=0.95, groups=groups)
    assert none.upper == pytest.approx(1 - 0.05 ** (1 / 10))
    apart = np.tile([1, 0], 50).astype(float)
    free = share_of(apart, confidence=0.95, groups=groups)
    assert independent_records(apart == 1, groups) == 10  # no variance between documents: nothing to estimate it by
    assert (free.lower, free.upper) == pytest.approx(clopper_pearson(5, 10))


def test_groups_of_undefined_records_do_not_count():
    found = share_of(np.array([0, 0, NAN]), confidence=0.95, groups=np.array([0, 1, 2]))
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / 2))


def test_no_defined_record_gives_no_share():
    found = share_of(np.array([NAN, NAN]), confidence=0.95)
    assert (found.value, found.lower, found.upper, found.n_members, found.n_undefined_members) == (None,) * 3 + (0, 2)
    assert found.note == "No record is defined: none was scored that has as many tokens as asked for."


def test_outcomes_that_are_shares_themselves_are_refused():
    with pytest.raises(ValueError, match=r"Outcomes hold other values than 0, 1 and NaN"):
        share_of(np.array([0.5]), confidence=0.95)
